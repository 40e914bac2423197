//! wg-quick's `.conf` files, of any provider -> typed values -> sections of `/etc/config/vpnd`.
//!
//! Format: wg(8) and wg-quick(8): `[Interface]` and `[Peer]`, `Key = value`, keys and section names
//! in any case, `#` starts a comment. No command in an imported file (`PostUp` and its like) is
//! ever run. Names of endpoints come back unresolved ([`PeerEndpoint::Name`]): only the caller knows
//! whether the router is open.

mod conf;
mod naming;
mod write;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::names::{RelayName, WireguardKey};
use super::problem::Problem;

pub use conf::{MAX_BYTES, parse};
pub use write::{WriteError, Written, write};

/// What a file says, as far as vpnd takes it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub private_key: WireguardKey,
    /// With prefix length, host bits kept; never empty.
    pub addresses: Vec<IpNet>,
    pub dns: Vec<IpAddr>,
    /// Bytes.
    pub mtu: Option<u16>,
    /// Never empty; names are unique within the file.
    pub peers: Vec<Peer>,
    /// What was left out, and why.
    pub warnings: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// From a one-word comment at the `[Peer]` line, else from the file's name.
    pub name: RelayName,
    pub endpoint: PeerEndpoint,
    pub public_key: WireguardKey,
    pub preshared_key: Option<WireguardKey>,
    /// As written; empty means everything.
    pub allowed_ips: Vec<IpNet>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEndpoint {
    Address(SocketAddr),
    /// To be resolved by the caller, and replaced by an [`PeerEndpoint::Address`].
    Name {
        host: String,
        port: u16,
    },
}

#[cfg(test)]
mod tests;
