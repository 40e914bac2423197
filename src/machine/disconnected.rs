//! No tunnel is wanted: open, or blocked under lockdown.

use crate::policy::Stance;

use super::context::Context;
use super::disconnecting::Disconnecting;
use super::effect::{Effect, Timer};
use super::event::Event;
use super::{Next, State};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disconnected {
    /// Tries at putting the blocking policy in force that failed one after the other.
    tries: u32,
}

impl Disconnected {
    /// At a start: what a former life may have left is cleared away under its own policy.
    pub fn enter(context: &Context) -> Next {
        if context.lockdown() { Self::lock(context) } else { Disconnecting::enter(context) }
    }

    /// The tunnel is gone and nothing holds the router closed any more: the open policy comes
    /// last, the marker after it.
    pub fn open(context: &Context) -> Next {
        let effects =
            vec![Effect::LowerBarrier, Effect::Enforce(Stance::Open), context.store(), context.marker()];
        (State::Disconnected(Self { tries: 0 }), effects)
    }

    /// Blocked without a tunnel: policy first.
    pub fn lock(context: &Context) -> Next {
        let effects = vec![
            Effect::Enforce(Stance::Blocked { api: true }),
            Effect::RaiseBarrier,
            Effect::CancelTimer(Timer::Attempt),
            Effect::CancelTimer(Timer::Retry),
            Effect::StopProbe,
            Effect::DestroyTunnel,
            Effect::DeleteFlows { tunnel: true },
            Effect::Arm,
            context.store(),
        ];
        (State::Disconnected(Self { tries: 0 }), effects)
    }

    pub fn on(self, context: &mut Context, event: Event) -> Next {
        match event {
            Event::Connect(_) => context.try_connect(None),
            // A pause is over.
            Event::Resume | Event::Lockdown(true) if context.stored.connect => context.try_connect(None),
            Event::Disarm | Event::Pause | Event::Lockdown(false) | Event::Settings { .. }
                if !context.lockdown() =>
            {
                if context.is_open() {
                    // What is wanted after a pause may be another thing now.
                    (State::Disconnected(self), vec![context.store(), context.marker()])
                } else {
                    Disconnecting::enter(context)
                }
            }
            Event::Lockdown(true) | Event::Settings { .. } => Self::lock(context),
            Event::Resume | Event::Disconnect if context.lockdown() && context.is_open() => {
                Self::lock(context)
            }
            Event::Disconnect if context.lockdown() => self.stay(),
            Event::Disconnect => Disconnecting::enter(context),
            Event::Facts(_) if context.lockdown() => (
                State::Disconnected(self),
                vec![Effect::Enforce(Stance::Blocked { api: true }), Effect::RaiseBarrier],
            ),
            Event::TimerFired(Timer::Retry) => Self { tries: self.tries + 1 }.again(context),
            Event::Failed { effect, error, rest } => self.failed(context, &effect, &error, rest),
            _ => self.stay(),
        }
    }

    fn stay(self) -> Next {
        (State::Disconnected(self), Vec::new())
    }

    fn again(self, context: &Context) -> Next {
        let (_, effects) = if context.lockdown() { Self::lock(context) } else { Self::open(context) };
        (State::Disconnected(self), effects)
    }

    /// What still can be done is done; then all of it is tried again after a pause.
    fn failed(self, context: &mut Context, effect: &Effect, error: &str, rest: Vec<Effect>) -> Next {
        context.warn(format!("{}: {error}", effect.what()));
        let retry = Effect::SetTimer { timer: Timer::Retry, after: super::Cause::backoff(self.tries) };
        let mut effects = if context.lockdown() { rest } else { Vec::new() };
        effects.push(retry);
        (State::Disconnected(self), effects)
    }
}
