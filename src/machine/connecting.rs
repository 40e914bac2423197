//! A tunnel is being built: the relay may be reached, and nothing may leave meanwhile but
//! through the tunnel.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{Relay, RelayName};
use crate::policy::Stance;

use super::context::Context;
use super::disconnected::Disconnected;
use super::disconnecting::Disconnecting;
use super::effect::{Effect, Timer};
use super::error::Blocked;
use super::event::Event;
use super::{Cause, Connected, Next, State};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Connecting {
    relay: Relay,
    /// The relay in use before, allowed until this one is verified.
    former: Option<SocketAddr>,
    /// In a switch from connected DNS goes on as it was (contract 3.5).
    switching: bool,
    /// Relays tried before this one since the tunnel was last up.
    attempt: usize,
    /// Pauses in the error state since then.
    tries: u32,
}

/// Time for a relay to answer a probe: 4 s, doubled with each round, 15 s at the most (the
/// desktop app's figures).
fn patience(round: usize) -> Duration {
    Duration::from_secs(match round {
        0 => 4,
        1 => 8,
        _ => 15,
    })
}

impl Connecting {
    pub fn relay(&self) -> &RelayName {
        &self.relay.name
    }

    /// From a state without a tunnel: policy and barrier first, then the device, and the old
    /// flows go before anything is sent through it.
    pub fn enter(context: &mut Context, relay: &Relay, tries: u32) -> Next {
        let state = Self { relay: relay.clone(), former: None, switching: false, attempt: 0, tries };
        state.build(context)
    }

    /// From connected: both relays allowed, then the peer replaced in place. Device, addresses,
    /// routes and rules stay.
    pub fn switch(context: &mut Context, relay: &Relay, former: SocketAddr) -> Next {
        let state =
            Self { relay: relay.clone(), former: Some(former), switching: true, attempt: 0, tries: 0 };
        state.replace_peer(context)
    }

    fn replace_peer(self, context: &mut Context) -> Next {
        let Some(stance) = self.stance(context) else {
            return Blocked::enter(context, Cause::NoTunnel);
        };
        let mut effects = vec![Effect::Enforce(stance)];
        if self.former == Some(self.relay.endpoint) {
            // The session with it is dead; a peer that is set again as it was would keep it.
            effects.push(Effect::ClearPeer);
        }
        effects.extend([
            Effect::SetPeer(self.relay.name.clone()),
            Effect::DeleteFlows { tunnel: true },
            Effect::StartProbe,
            self.timer(context),
        ]);
        (State::Connecting(self), effects)
    }

    fn build(self, context: &mut Context) -> Next {
        let Some(stance) = self.stance(context) else {
            return Blocked::enter(context, Cause::NoTunnel);
        };
        let effects = vec![
            Effect::CancelTimer(Timer::Retry),
            Effect::Enforce(stance),
            Effect::RaiseBarrier,
            Effect::Arm,
            context.store(),
            Effect::DeleteFlows { tunnel: true },
            Effect::CreateTunnel { listen_port: context.listen_port() },
            // Once more: only now can the tunnel's table hold a route over the device.
            Effect::RaiseBarrier,
            Effect::SetPeer(self.relay.name.clone()),
            Effect::StartProbe,
            self.timer(context),
        ];
        (State::Connecting(self), effects)
    }

    fn timer(&self, context: &Context) -> Effect {
        let relays = (context.attempts() / super::relays::ROUNDS).max(1);
        Effect::SetTimer { timer: Timer::Attempt, after: patience(self.attempt / relays) }
    }

    fn stance(&self, context: &Context) -> Option<Stance> {
        let mut relays = vec![self.relay.endpoint];
        relays.extend(self.former.filter(|former| *former != self.relay.endpoint));
        Some(Stance::Connecting {
            relays,
            listen_port: context.listen_port(),
            tunnel: Some(context.tunnel()?),
            dns: self.switching,
        })
    }

    pub fn on(self, context: &mut Context, event: Event) -> Next {
        match event {
            Event::Verified => Connected::enter(context, self.relay),
            Event::TimerFired(Timer::Attempt) | Event::Silent => self.next(context),
            Event::Connect(_) if context.fits_wish(&self.relay.name) => (State::Connecting(self), Vec::new()),
            Event::Connect(_) | Event::Reconnect => self.other_wish(context),
            Event::Disconnect if context.lockdown() => Disconnected::lock(context),
            Event::Disconnect | Event::Disarm | Event::Pause => Disconnecting::enter(context),
            Event::Online(false) => Blocked::enter(context, Cause::Offline),
            Event::Settings { .. } | Event::TunnelGone => context.try_connect(None),
            Event::Facts(_) => self.refresh(context),
            Event::Failed { effect, error, rest } => self.failed(context, &effect, error, rest),
            _ => (State::Connecting(self), Vec::new()),
        }
    }

    /// This relay did not answer in time: the next, or a pause when all had their chance.
    fn next(self, context: &mut Context) -> Next {
        if self.attempt + 1 >= context.attempts() {
            return Blocked::enter_again(context, Cause::NoAnswer, self.tries);
        }
        match context.next_relay(Some(&self.relay.name)) {
            Err(cause) => Blocked::enter(context, cause),
            Ok(relay) => Self { relay, former: Some(self.relay.endpoint), attempt: self.attempt + 1, ..self }
                .replace_peer(context),
        }
    }

    /// A person asks for another relay, or for a fresh try.
    fn other_wish(self, context: &mut Context) -> Next {
        match context.next_relay(Some(&self.relay.name)) {
            Err(cause) => Blocked::enter(context, cause),
            Ok(relay) => {
                Self { relay, former: Some(self.relay.endpoint), attempt: 0, ..self }.replace_peer(context)
            }
        }
    }

    /// Devices or addresses changed: the same policy over the new facts.
    fn refresh(self, context: &mut Context) -> Next {
        let Some(stance) = self.stance(context) else {
            return Blocked::enter(context, Cause::NoTunnel);
        };
        let effects = context.over_new_facts(stance);
        (State::Connecting(self), effects)
    }

    fn failed(self, context: &mut Context, effect: &Effect, error: String, rest: Vec<Effect>) -> Next {
        match effect {
            // The blocking policy stands already: old flows are stopped by it, their entries only
            // linger. Said, and tried again with the next transition.
            Effect::DeleteFlows { .. } => {
                context.warn(format!("{}: {error}", effect.what()));
                (State::Connecting(self), rest)
            }
            _ => {
                let cause = Blocked::cause_of(context, effect, error);
                Blocked::enter_again(context, cause, self.tries)
            }
        }
    }
}
