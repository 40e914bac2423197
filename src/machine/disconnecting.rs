//! The tunnel is being torn down so that the router can be opened. What was in force stays.

use super::context::Context;
use super::disconnected::Disconnected;
use super::effect::{Effect, Timer};
use super::event::Event;
use super::{Cause, Next, State};

/// Tries at deleting old flows before the router is opened all the same, 14 s after the first.
const PATIENCE: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disconnecting {
    tries: u32,
    cause: Option<Cause>,
}

impl Disconnecting {
    /// Only on the way to the open policy; every other way down tightens first and is done by
    /// the state it leads to.
    pub fn enter(_context: &Context) -> Next {
        Self { tries: 0, cause: None }.tear_down()
    }

    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    fn tear_down(self) -> Next {
        // The flows go after the device: a packet on its way through it would make a new one.
        let effects = vec![
            Effect::CancelTimer(Timer::Attempt),
            Effect::CancelTimer(Timer::Retry),
            Effect::StopProbe,
            Effect::DestroyTunnel,
            Effect::DeleteFlows { tunnel: true },
            Effect::ReportDown,
        ];
        (State::Disconnecting(self), effects)
    }

    pub fn on(self, context: &mut Context, event: Event) -> Next {
        match event {
            Event::TunnelDown if context.lockdown() => Disconnected::lock(context),
            Event::TunnelDown => Disconnected::open(context),
            Event::Connect(_) => context.try_connect(None),
            Event::Resume | Event::Lockdown(true) if context.stored.connect => context.try_connect(None),
            Event::TimerFired(Timer::Retry) => self.tear_down(),
            Event::Failed { effect, error, .. } => self.failed(context, &effect, error),
            _ => (State::Disconnecting(self), Vec::new()),
        }
    }

    /// Still closed under the old policy; tried again after a pause. Only where a person's word
    /// stands against old flows that cannot be deleted at all does the word win, and it is said:
    /// the device they went through is gone.
    fn failed(self, context: &mut Context, effect: &Effect, error: String) -> Next {
        let cause = match effect {
            Effect::DeleteFlows { .. } if self.tries >= PATIENCE && !context.lockdown() => {
                let (state, effects) = Disconnected::open(context);
                context.after_opening(format!("{}: {error}: they may go on outside", effect.what()));
                return (state, effects);
            }
            Effect::DeleteFlows { .. } => Cause::Flows(error),
            _ => Cause::Device(error),
        };
        let after = Cause::backoff(self.tries);
        let state = Self { tries: self.tries + 1, cause: Some(cause) };
        (State::Disconnecting(state), vec![Effect::SetTimer { timer: Timer::Retry, after }])
    }
}
