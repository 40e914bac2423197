//! The JSON endpoint on a unix socket, and its client.
//!
//! A request passes three rooms, each with a bound of its own: `gate` (who may connect, how many,
//! how long, how large), tiny_http (HTTP), `desk` (JSON to [`Call`], and a deadline for the
//! daemon's reply). The gate is there because tiny_http gives every connection a thread without a
//! read limit: fifty half requests would be fifty threads for ever.
//!
//! Nothing of what a client sent is logged or shown to anybody but that client.

pub mod client;
mod desk;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gate;
mod head;
pub mod lock;
mod paths;
mod peer;
mod server;
mod socket;
mod types;

pub use peer::peer_pid;
pub use server::{Error, REPLY_LIMIT, Server, serve, serve_within};
pub use types::{
    Applied, Apply, BlockedList, BlockedStatus, Call, DeviceStatus, IncidentStatus, PAUSE_MAX, PolicyStatus,
    Refusal, RefusalKind, RelayStatus, Reply, Request, Status, TrialStatus, TunnelState, WantedStatus,
};

use std::path::{Path, PathBuf};

/// The endpoint's socket in a run dir.
#[must_use]
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("vpnd.sock")
}
