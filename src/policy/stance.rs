//! What the state machine asks the firewall to hold: a state and what it is about.

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::config::IfName;

/// One value for each policy that can be in force (contract, sections 1 and 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stance {
    /// No policy at all: as if vpnd were not there.
    Open,
    /// Error, disconnected under lockdown, and whatever else must block. `api`: contract 3.2.
    Blocked {
        api: bool,
    },
    /// The boot policy: blocked, without the API, before anything is known of the kernel.
    Boot,
    /// `relays`: one, or the old and the next during a switch; never empty. `tunnel` is None
    /// until the device exists. `dns`: true in a switch from connected (contract 3.5).
    Connecting {
        relays: Vec<SocketAddr>,
        listen_port: u16,
        tunnel: Option<TunnelStance>,
        dns: bool,
    },
    Connected {
        relay: SocketAddr,
        listen_port: u16,
        tunnel: TunnelStance,
    },
}

impl Stance {
    /// The tunnel that it knows of.
    #[must_use]
    pub fn tunnel(&self) -> Option<&TunnelStance> {
        match self {
            Self::Connecting { tunnel, .. } => tunnel.as_ref(),
            Self::Connected { tunnel, .. } => Some(tunnel),
            Self::Open | Self::Blocked { .. } | Self::Boot => None,
        }
    }
}

/// What the rules must know of the tunnel device. Resolvers and forwards come from Settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelStance {
    pub device: IfName,
    /// With prefix length, host bits kept.
    pub addresses: Vec<IpNet>,
}
