//! A probe sent inside the tunnel was answered.

use std::sync::Arc;

use crate::config::{Relay, RelayName, Settings};
use crate::policy::Stance;

use super::connecting::Connecting;
use super::context::Context;
use super::disconnected::Disconnected;
use super::disconnecting::Disconnecting;
use super::effect::{Effect, Timer};
use super::error::Blocked;
use super::event::Event;
use super::{Cause, Next, State};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Connected {
    relay: Relay,
    /// What the tunnel was built from: a new configuration may leave it as it is.
    built: Arc<Settings>,
}

impl Connected {
    pub fn relay(&self) -> &RelayName {
        &self.relay.name
    }

    /// From connecting: the API and a former relay are no longer reachable outside.
    pub fn enter(context: &mut Context, relay: Relay) -> Next {
        let state = Self { relay, built: Arc::clone(&context.settings) };
        let Some(stance) = state.stance(context) else {
            return Blocked::enter(context, Cause::NoTunnel);
        };
        let effects = vec![
            Effect::CancelTimer(Timer::Attempt),
            Effect::Enforce(stance),
            Effect::DeleteFlows { tunnel: false },
        ];
        (State::Connected(state), effects)
    }

    fn stance(&self, context: &Context) -> Option<Stance> {
        Some(Stance::Connected {
            relay: self.relay.endpoint,
            listen_port: context.listen_port(),
            tunnel: context.tunnel()?,
        })
    }

    pub fn on(self, context: &mut Context, event: Event) -> Next {
        match event {
            Event::Silent => self.switch(context),
            Event::Connect(_) if context.fits_wish(&self.relay.name) => (State::Connected(self), Vec::new()),
            Event::Connect(_) | Event::Reconnect => self.switch(context),
            Event::Disconnect if context.lockdown() => Disconnected::lock(context),
            Event::Disconnect | Event::Disarm | Event::Pause => Disconnecting::enter(context),
            Event::Online(false) => Blocked::enter(context, Cause::Offline),
            Event::TunnelGone => context.try_connect(None),
            Event::Settings { .. } if self.still_fits(context) => self.refresh(context),
            // Other keys, addresses or marks: built anew under the tight policy.
            Event::Settings { .. } => context.try_connect(None),
            Event::Facts(_) => self.refresh(context),
            Event::Failed { effect, error, rest } => self.failed(context, &effect, error, rest),
            _ => (State::Connected(self), Vec::new()),
        }
    }

    fn still_fits(&self, context: &Context) -> bool {
        let new = &context.settings;
        context.broken.is_empty()
            && new.tunnel == self.built.tunnel
            && new.mark == self.built.mark
            && new.relays.contains(&self.relay)
    }

    /// To the next relay that fits, or the same where it is the only one. The policy of the
    /// switch comes first: nothing may leave meanwhile.
    fn switch(self, context: &mut Context) -> Next {
        match context.next_relay(Some(&self.relay.name)) {
            Err(cause) => Blocked::enter(context, cause),
            Ok(relay) => Connecting::switch(context, &relay, self.relay.endpoint),
        }
    }

    fn refresh(self, context: &mut Context) -> Next {
        let Some(stance) = self.stance(context) else {
            return Blocked::enter(context, Cause::NoTunnel);
        };
        let effects = context.over_new_facts(stance);
        (State::Connected(self), effects)
    }

    fn failed(self, context: &mut Context, effect: &Effect, error: String, rest: Vec<Effect>) -> Next {
        match effect {
            Effect::DeleteFlows { .. } => {
                context.warn(format!("{}: {error}", effect.what()));
                (State::Connected(self), rest)
            }
            _ => {
                let cause = Blocked::cause_of(context, effect, error);
                Blocked::enter(context, cause)
            }
        }
    }
}
