//! The JSON endpoint on a unix socket, and its client.
//!
//! A request passes `gate` (who may connect, how many, how long), `head` (HTTP, and how large) and
//! `desk` (JSON to [`Call`], and a deadline for the daemon's reply); `response` frames what comes
//! back. There is one request to a connection, and one thread for all of them.
//!
//! Nothing of what a client sent is logged or shown to anybody but that client.

pub mod client;
mod desk;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gate;
mod head;
pub mod lock;
mod paths;
mod peer;
mod response;
mod server;
mod socket;
mod types;

pub use error::Error;
pub use peer::peer_pid;
pub use server::{REPLY_LIMIT, Server, serve, serve_within};
pub use socket::socket_path;
pub use types::{
    Applied, Apply, BlockedList, BlockedStatus, Call, DeviceStatus, IncidentStatus, PAUSE_MAX, PolicyStatus,
    Refusal, RefusalKind, RelayStatus, Reply, Request, Status, TrialStatus, TunnelState, WantedStatus,
};
