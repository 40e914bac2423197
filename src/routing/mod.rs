//! The routing barrier: rules and tables over rtnetlink, and what the kernel says of devices.
//!
//! The barrier is contract section 3, "Routing is a barrier of its own": with every nftables table
//! gone, router and LAN reach LAN networks, then the tunnel, then nothing. `plan` says which rules
//! and routes that means (pure), `barrier` brings the kernel to exactly those, `facts` reads
//! devices and addresses, `watch` tells when any of it changed, `sysctl` sets what rules cannot.
//!
//! | file | holds |
//! |---|---|
//! | `plan.rs` | the wanted rules and routes, each with its reason |
//! | `rule.rs`, `route.rs` | one ip rule, one route, to and from rtnetlink |
//! | `barrier.rs` | raise, lower: reconciliation |
//! | `standing.rs` | which rules and routes there are |
//! | `facts.rs` | devices, prefixes, the path to a relay |
//! | `group.rs` | LAN devices into an interface group, and whether that tells them apart |
//! | `offload.rs` | ends the offloading of flows without touching them |
//! | `toward.rs` | which way the plan sends a packet |
//! | `watch.rs`, `settings_watch.rs` | that something changed |
//! | `mended.rs` | what was not as it should be |
//! | `uplinks.rs` | which devices the egress hook can be bound to |
//! | `netlink.rs` | one request or dump, with a time limit |

mod barrier;
mod error;
mod facts;
#[cfg(fuzzing)]
pub mod fuzzing;
mod group;
mod mended;
mod netlink;
mod offload;
mod plan;
mod route;
mod rule;
mod settings_watch;
mod snapshot;
mod standing;
pub mod sysctl;
mod toward;
mod uplinks;
mod watch;

pub use barrier::Router;
pub use error::Error;
pub use facts::Path;
pub use group::grouped_devices;
pub use mended::{Mended, Part};
pub use plan::{GROUP_LAN, PRIORITIES, TABLE_LAN, TABLE_TUNNEL};
pub use toward::{Toward, toward};
pub use uplinks::Uplink;
pub use watch::{Burst, Changes, watch};
