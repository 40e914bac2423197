//! What the machine wants done: values of one type, run in order by `daemon`.

use std::time::Duration;

use crate::config::RelayName;
use crate::policy::Stance;

use super::event::Stored;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// One atomic transaction; on failure the former policy stays.
    Enforce(Stance),
    /// The routing barrier of contract section 3: reconciled to settings and facts.
    RaiseBarrier,
    LowerBarrier,
    /// Deletes the conntrack entries that do not fit the stance in force; with `tunnel`, those
    /// through the tunnel as well.
    DeleteFlows {
        tunnel: bool,
    },
    /// Creates the device if it is not there, and sets key, port, mark, addresses, MTU; no peer.
    CreateTunnel {
        listen_port: u16,
    },
    /// Replaces the peer in place: one call.
    SetPeer(RelayName),
    /// The device stays, silent.
    ClearPeer,
    DestroyTunnel,
    /// Comes back as [`super::Event::TunnelDown`]: everything before it in the list succeeded.
    ReportDown,
    /// Probes inside the tunnel until stopped (a running probe is replaced): [`super::Event::Verified`] on the first answer,
    /// [`super::Event::Silent`] when it then goes dead.
    StartProbe,
    StopProbe,
    SetTimer {
        timer: Timer,
        after: Duration,
    },
    CancelTimer(Timer),
    Store(Stored),
    /// The marker file of contract section 1.
    Arm,
    Disarm,
}

impl Effect {
    #[must_use]
    pub fn enforces(&self) -> bool {
        matches!(self, Self::Enforce(_))
    }

    /// What it tries, for people.
    #[must_use]
    pub fn what(&self) -> &'static str {
        match self {
            Self::Enforce(_) => "installing the firewall policy",
            Self::RaiseBarrier => "raising the routing barrier",
            Self::LowerBarrier => "lowering the routing barrier",
            Self::DeleteFlows { .. } => "deleting old flows",
            Self::CreateTunnel { .. } => "setting the tunnel device up",
            Self::SetPeer(_) => "setting the relay",
            Self::ClearPeer => "removing the relay",
            Self::DestroyTunnel => "removing the tunnel device",
            Self::ReportDown => "reporting the tunnel down",
            Self::StartProbe => "starting the probe",
            Self::StopProbe => "stopping the probe",
            Self::SetTimer { .. } | Self::CancelTimer(_) => "setting a timer",
            Self::Store(_) => "storing the wanted state",
            Self::Arm => "setting the armed marker",
            Self::Disarm => "removing the armed marker",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// This attempt at a relay has lasted long enough.
    Attempt,
    /// Out of an error that may have passed.
    Retry,
    /// To write again what could not be written.
    Save,
}
