//! The tunnel state machine: pure, (state, event) -> (state, effects). One file per state.
//!
//! It has no clock, no socket and no randomness of its own: timers are effects that come back as
//! events, and everything that must be chosen at random is handed in with [`Event::Start`].

mod effect;
mod event;

pub use effect::{Effect, Timer};
pub use event::{Event, Stored};
