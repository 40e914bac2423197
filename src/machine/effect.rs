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
    /// Probes inside the tunnel until stopped: [`super::Event::Verified`] on the first answer,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// This attempt at a relay has lasted long enough.
    Attempt,
    /// Out of an error that may have passed.
    Retry,
}
