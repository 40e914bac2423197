//! What may leave in which state, in the contract's words. Pure.
//!
//! [`Row`] enumerates the contract's rows; a [`Stance`] is what the state machine wants held;
//! [`Facts`] is what the kernel says of the devices.

mod facts;
mod row;
mod stance;
mod state;

pub use facts::{Facts, WanDevice};
pub use row::Row;
pub use stance::{Stance, TunnelStance};
pub use state::PolicyState;
