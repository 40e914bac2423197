//! No tunnel can be had. Blocked, with the cause shown, and left by itself when it may have passed.

use crate::policy::Stance;

use super::context::Context;
use super::disconnected::Disconnected;
use super::disconnecting::Disconnecting;
use super::effect::{Effect, Timer};
use super::event::Event;
use super::{Cause, Next, State};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blocked {
    cause: Cause,
    /// Pauses so far, for the backoff.
    tries: u32,
}

impl Blocked {
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    pub fn enter(context: &mut Context, cause: Cause) -> Next {
        Self::enter_again(context, cause, 0)
    }

    /// Tightening: policy, barrier, then the tunnel falls silent, then its flows go. The device
    /// stays for the next try.
    pub fn enter_again(context: &mut Context, cause: Cause, tries: u32) -> Next {
        let mut effects = vec![
            Effect::CancelTimer(Timer::Attempt),
            Effect::Enforce(Stance::Blocked { api: true }),
            Effect::RaiseBarrier,
            Effect::StopProbe,
            Effect::ClearPeer,
            Effect::DeleteFlows { tunnel: true },
            Effect::Arm,
            context.store(),
        ];
        effects.push(Self::retry(&cause, tries));
        (State::Error(Self { cause, tries }), effects)
    }

    fn retry(cause: &Cause, tries: u32) -> Effect {
        if cause.may_pass() {
            Effect::SetTimer { timer: Timer::Retry, after: Cause::backoff(tries) }
        } else {
            Effect::CancelTimer(Timer::Retry)
        }
    }

    /// The cause behind a failed effect; a taken port is not tried twice.
    pub fn cause_of(context: &mut Context, effect: &Effect, error: String) -> Cause {
        match effect {
            Effect::Enforce(_) => Cause::Firewall(error),
            Effect::RaiseBarrier | Effect::LowerBarrier => Cause::Routing(error),
            Effect::DeleteFlows { .. } => Cause::Flows(error),
            Effect::CreateTunnel { .. } => {
                context.next_port();
                Cause::Device(error)
            }
            _ => Cause::Device(error),
        }
    }

    pub fn on(self, context: &mut Context, event: Event) -> Next {
        match event {
            Event::Connect(_) | Event::Reconnect | Event::Settings { .. } => context.try_connect(None),
            Event::TimerFired(Timer::Retry) => context.try_connect_again(None, self.tries + 1),
            Event::Online(true) if self.cause.may_pass() => context.try_connect(None),
            Event::Online(false) if self.cause.may_pass() => Self::enter(context, Cause::Offline),
            Event::Disconnect if context.lockdown() => Disconnected::lock(context),
            Event::Disconnect | Event::Disarm | Event::Pause => Disconnecting::enter(context),
            Event::Facts(_) => (
                State::Error(self),
                vec![Effect::Enforce(Stance::Blocked { api: true }), Effect::RaiseBarrier],
            ),
            Event::Failed { effect, error, rest } => self.failed(context, &effect, error, rest),
            _ => (State::Error(self), Vec::new()),
        }
    }

    /// Even blocking failed somewhere: the layers that are left are still put up, and all of it
    /// is tried again.
    fn failed(self, context: &mut Context, effect: &Effect, error: String, rest: Vec<Effect>) -> Next {
        context.warn(format!("{}: {error}", effect.what()));
        let cause = match effect {
            Effect::Enforce(_) | Effect::RaiseBarrier => Self::cause_of(context, effect, error),
            _ => self.cause,
        };
        let mut effects = rest;
        effects
            .retain(|effect| !matches!(effect, Effect::SetTimer { .. } | Effect::CancelTimer(Timer::Retry)));
        effects.push(Effect::SetTimer { timer: Timer::Retry, after: Cause::backoff(self.tries) });
        (State::Error(Self { cause, tries: self.tries }), effects)
    }
}
