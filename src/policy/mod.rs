//! What may leave in which state, in the contract's words. Pure.
//!
//! [`Row`] enumerates the contract's rows; a [`Stance`] is what the state machine wants held;
//! [`Facts`] is what the kernel says of the devices; [`compose`] makes a [`Policy`] of the three:
//! clauses, each with its row and the [`Way`] on which it is looked at.
//!
//! `blocked.rs`, `connecting.rs`, `connected.rs` say what each state adds to what `compose.rs`
//! allows in every one; `rows/` holds one file per group of rows.

mod blocked;
mod changes;
mod clause;
mod compose;
mod connected;
mod connecting;
mod difference;
mod draft;
mod facts;
pub mod flows;
mod nets;
pub mod reason;
mod row;
mod rows;
#[cfg(test)]
pub(crate) mod samples;
pub mod sentence;
mod stance;
mod state;
mod stop;
#[cfg(test)]
mod tests;
mod way;
mod zones;

pub use changes::{Asker, changes, risks};
pub use clause::{Action, Clause, Family, Match, Proto, Quoted};
pub use compose::{Policy, compose};
pub use difference::{Difference, difference};
pub use facts::{Facts, WanDevice};
pub use row::Row;
pub use stance::{Stance, TunnelStance};
pub use state::PolicyState;
pub use stop::{Entrances, Stop, is_due as stop_is_due, stop};
pub use way::Way;
pub use zones::{LanZone, TUNNEL_GROUP, Zones};
