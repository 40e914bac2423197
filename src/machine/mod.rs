//! The tunnel state machine: pure, (state, event) -> (state, effects). One file per state.
//!
//! It has no clock, no socket and no randomness of its own: timers are effects that come back as
//! events, and what must be chosen at random is derived from the seed in [`Event::Start`].
//!
//! The order inside a list of effects is the contract's (section 1). Tightening: policy, barrier,
//! action, flows. Opening: tunnel down, flows, barrier, policy, and the marker last.

mod cause;
mod connected;
mod connecting;
mod context;
mod disconnected;
mod disconnecting;
mod effect;
mod error;
mod event;
mod point;
mod relays;
#[cfg(test)]
mod tests;

use crate::config::RelayName;

pub use cause::Cause;
pub use context::Warning;
pub use effect::{Effect, Timer};
pub use event::{Event, LockdownWord, Stored};
pub use point::{KILL_POINTS, kill_point};
pub use relays::lies_in;

use connected::Connected;
use connecting::Connecting;
use context::Context;
use disconnected::Disconnected;
use disconnecting::Disconnecting;
use error::Blocked;

/// What a state's handler returns: the state that follows and what must be done on the way.
type Next = (State, Vec<Effect>);

/// The five states of contract section 1.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Disconnected(Disconnected),
    Connecting(Connecting),
    Connected(Connected),
    Disconnecting(Disconnecting),
    Error(Blocked),
}

/// The machine: what it knows and the state it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    context: Context,
    state: State,
}

/// What `status` shows of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub state: &'static str,
    pub cause: Option<Cause>,
    pub relay: Option<RelayName>,
    pub wanted: Stored,
    pub lockdown: bool,
    /// False only when no blocking policy could be put in force though one is due: the one
    /// state in which the promise is broken.
    pub holds: bool,
    /// Open for a while, whatever is wanted.
    pub paused: bool,
    pub warnings: Vec<Warning>,
}

impl Machine {
    /// The first step: [`Event::Start`]'s fields decide the first state.
    #[must_use]
    pub fn start(event: Event) -> (Self, Vec<Effect>) {
        Self::begin(event, false)
    }

    /// As [`Machine::start`], in the middle of a pause ([`Event::Pause`]).
    #[must_use]
    pub fn start_paused(event: Event) -> (Self, Vec<Effect>) {
        Self::begin(event, true)
    }

    fn begin(event: Event, paused: bool) -> (Self, Vec<Effect>) {
        let mut context = Context::default();
        context.paused = paused;
        let (state, effects) = context.begin(event);
        (Self { context, state }, effects)
    }

    /// One event; the effects are to be run in order.
    #[must_use]
    pub fn step(mut self, event: Event) -> (Self, Vec<Effect>) {
        let event = match self.context.learn(event) {
            Ok(event) => event,
            Err(rest) => return (self, rest),
        };
        let context = &mut self.context;
        let (state, mut effects) = match self.state {
            State::Disconnected(state) => state.on(context, event),
            State::Connecting(state) => state.on(context, event),
            State::Connected(state) => state.on(context, event),
            State::Disconnecting(state) => state.on(context, event),
            State::Error(state) => state.on(context, event),
        };
        self.context.expect(&mut effects);
        (Self { context: self.context, state }, effects)
    }

    #[must_use]
    pub fn view(&self) -> View {
        let (state, cause, relay) = match &self.state {
            State::Disconnected(_) => ("disconnected", None, None),
            State::Connecting(state) => ("connecting", None, Some(state.relay().clone())),
            State::Connected(state) => ("connected", None, Some(state.relay().clone())),
            State::Disconnecting(state) => ("disconnecting", state.cause().cloned(), None),
            State::Error(state) => ("error", Some(state.cause().clone()), None),
        };
        View {
            state,
            cause,
            relay,
            wanted: self.context.stored.clone(),
            lockdown: self.context.lockdown(),
            holds: self.context.holds(),
            paused: self.context.paused,
            warnings: self.context.warnings.clone(),
        }
    }
}
