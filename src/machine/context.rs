//! What the machine knows besides its state.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Lan, Relay, RelayName, Settings};
use crate::policy::{Facts, Stance, TunnelStance};
use crate::tunnel::DEVICE;

use super::connecting::Connecting;
use super::disconnected::Disconnected;
use super::effect::{Effect, Timer};
use super::error::Blocked;
use super::event::{Event, LockdownWord, Stored};
use super::{Cause, Next, relays};

/// Pause before a file is written again.
const SAVE_AGAIN: Duration = Duration::from_secs(60);

/// Something that did not stop the machine but that the owner must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Context {
    pub settings: Arc<Settings>,
    /// What is wrong with the configuration; empty when `settings` is what the files say.
    pub broken: Vec<String>,
    pub facts: Facts,
    pub stored: Stored,
    pub online: bool,
    /// A person has opened the router for a while: nothing is due.
    pub paused: bool,
    pub warnings: Vec<Warning>,
    /// The stance that the kernel holds, and the one before it, should the last one have failed.
    in_force: Option<Stance>,
    before: Option<Stance>,
    /// What the state folder holds, as far as is known.
    saved: Option<Stored>,
    kept: Option<Warning>,
    port: u16,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            settings: Arc::new(Settings::fallback(Lan::default())),
            broken: Vec::new(),
            facts: Facts::default(),
            stored: Stored::default(),
            online: true,
            paused: false,
            warnings: Vec::new(),
            in_force: None,
            before: None,
            saved: None,
            kept: None,
            port: 0,
        }
    }
}

impl Context {
    /// Contract section 1: the wanted state is re-entered at every start.
    pub fn begin(&mut self, event: Event) -> Next {
        let Event::Start { stored, settings, broken, facts, online, seed } = event else {
            // A machine that was never started has no wish to open anything.
            return Blocked::enter(self, Cause::Config(vec!["not started".to_owned()]));
        };
        let first = stored.is_none();
        self.stored = stored.unwrap_or_default();
        self.settings = settings;
        self.broken = broken;
        self.facts = facts;
        self.online = online;
        self.port = port_from(seed);
        if first && self.settings.auto_connect {
            self.stored.connect = true;
        }
        self.latch();
        let (state, mut effects) = if self.stored.connect && !self.paused {
            self.try_connect(None)
        } else {
            Disconnected::enter(self)
        };
        self.expect(&mut effects);
        (state, effects)
    }

    /// Takes in what an event says of the world. Err: the event is dealt with, these effects
    /// go on.
    pub fn learn(&mut self, event: Event) -> Result<Event, Vec<Effect>> {
        match &event {
            Event::Settings { settings, broken } => {
                self.settings = Arc::clone(settings);
                self.broken.clone_from(broken);
                self.latch();
            }
            Event::Facts(facts) if *facts == self.facts => return Err(Vec::new()),
            Event::Facts(facts) => self.facts = facts.clone(),
            Event::Online(online) if *online == self.online => return Err(Vec::new()),
            Event::Online(online) => self.online = *online,
            Event::Connect(relay) => {
                self.paused = false;
                self.stored.connect = true;
                self.stored.relay.clone_from(relay);
            }
            Event::Disconnect => {
                self.paused = false;
                self.stored.connect = false;
                self.stored.latched = self.lockdown_asked();
            }
            Event::TimerFired(Timer::Save) => return Err(self.save()),
            Event::RulesChanged => return Err(self.put_again()),
            Event::Disarm => {
                self.paused = false;
                self.stored.connect = false;
                self.set_lockdown(false);
            }
            Event::Lockdown(on) => {
                self.paused &= !on;
                self.set_lockdown(*on);
            }
            Event::Pause => self.paused = true,
            Event::Resume => self.paused = false,
            Event::Failed { effect, error, rest } => return self.failed(effect, error, rest).map(|()| event),
            _ => {}
        }
        Ok(event)
    }

    /// A file that cannot be written stops nothing: it is said, and the rest goes on.
    fn failed(&mut self, effect: &Effect, error: &str, rest: &[Effect]) -> Result<(), Vec<Effect>> {
        // Whether it failed itself or was not reached: that policy is not in force.
        if effect.enforces() || rest.iter().any(Effect::enforces) {
            self.in_force = self.before.clone();
        }
        let warning = match effect {
            Effect::Store(_) => format!("the wanted state could not be stored: {error}"),
            Effect::Arm => format!("not blocked after a reboot until the daemon runs: {error}"),
            Effect::Disarm => format!("blocked again after a reboot: {error}"),
            _ => return Ok(()),
        };
        self.saved = None;
        let mut effects = rest.to_vec();
        effects.push(Effect::SetTimer { timer: Timer::Save, after: SAVE_AGAIN });
        self.expect(&mut effects);
        self.warn(warning);
        Err(effects)
    }

    fn save(&mut self) -> Vec<Effect> {
        let mut effects = vec![self.store()];
        // The marker goes only after the open policy stands.
        if self.closes() || self.is_open() {
            effects.push(self.marker());
        }
        self.expect(&mut effects);
        effects
    }

    /// The policy in force once more, in whatever state; then the flows that were made while it
    /// was not. An open router has none; where one is due but could not be put, it is tried again.
    fn put_again(&mut self) -> Vec<Effect> {
        let stance = match &self.in_force {
            None | Some(Stance::Open) if self.due() => Stance::Blocked { api: true },
            None | Some(Stance::Open) => return Vec::new(),
            Some(stance) => stance.clone(),
        };
        // Should that fail, it is not known what is in force.
        self.before = None;
        self.in_force = Some(stance.clone());
        vec![Effect::Enforce(stance), Effect::DeleteFlows { tunnel: false }]
    }

    pub fn warn(&mut self, text: String) {
        let warning = Warning(text);
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
        // Bounded: the newest count.
        if self.warnings.len() > 16 {
            self.warnings.remove(0);
        }
    }

    /// A warning that outlives the policy change of this very step.
    pub fn after_opening(&mut self, text: String) {
        self.kept = Some(Warning(text));
    }

    /// Remembers what `effects` will put in force ([`Event::Failed`] takes it back), and sees to
    /// it that no change of the wanted state goes unwritten.
    pub fn expect(&mut self, effects: &mut Vec<Effect>) {
        // Each policy comes with a fresh list of what went wrong on the way to it.
        if effects.iter().any(Effect::enforces) {
            self.warnings.clear();
            self.warnings.extend(self.kept.take());
        }
        let stores = effects.iter().any(|effect| matches!(effect, Effect::Store(_)));
        let started = self.saved.is_some() || stores;
        if started && !stores && self.saved.as_ref() != Some(&self.stored) {
            effects.push(self.store());
        }
        for effect in effects.iter() {
            match effect {
                Effect::Enforce(stance) => self.before = self.in_force.replace(stance.clone()),
                Effect::Store(stored) => self.saved = Some(stored.clone()),
                _ => {}
            }
        }
    }

    /// What is wanted keeps the router closed, now or after a pause.
    fn closes(&self) -> bool {
        self.stored.connect || self.locked()
    }

    /// A policy is due: nothing may be open.
    fn due(&self) -> bool {
        self.closes() && !self.paused
    }

    /// The marker as the wanted state has it: a reboot ends a pause. It comes before a wanted state
    /// that closes, and goes after one that opens: at no instant would a reboot be open for long.
    pub fn marker(&self) -> Effect {
        if self.closes() { Effect::Arm } else { Effect::Disarm }
    }

    /// Whether a blocking policy stands wherever one is due.
    pub fn holds(&self) -> bool {
        !self.due() || !matches!(self.in_force, None | Some(Stance::Open))
    }

    pub fn is_open(&self) -> bool {
        self.in_force == Some(Stance::Open)
    }

    /// "Always require VPN", as it holds now.
    pub fn lockdown(&self) -> bool {
        self.locked() && !self.paused
    }

    fn locked(&self) -> bool {
        self.stored.latched || self.lockdown_asked()
    }

    /// The option in the configuration, unless a person's later word overrides it. A broken
    /// configuration says nothing.
    fn lockdown_asked(&self) -> bool {
        let good = self.broken.is_empty();
        match self.stored.lockdown {
            Some(word) if !good || word.option_then == self.settings.lockdown => word.on,
            _ if good => self.settings.lockdown,
            _ => self.stored.latched,
        }
    }

    fn latch(&mut self) {
        self.stored.latched |= self.lockdown_asked();
    }

    fn set_lockdown(&mut self, on: bool) {
        // A broken configuration's option is not known: the last word's guess stands.
        let option_then = match self.stored.lockdown {
            Some(word) if !self.broken.is_empty() => word.option_then,
            _ => self.settings.lockdown,
        };
        self.stored.lockdown = Some(LockdownWord { on, option_then });
        self.stored.latched = on;
    }

    pub fn store(&self) -> Effect {
        Effect::Store(self.stored.clone())
    }

    pub fn listen_port(&self) -> u16 {
        self.port
    }

    /// A tunnel's policy again, over devices or addresses that changed.
    pub fn over_new_facts(&self, stance: Stance) -> Vec<Effect> {
        vec![
            Effect::Enforce(stance),
            Effect::RaiseBarrier,
            // The path may have another MTU now.
            Effect::CreateTunnel { listen_port: self.listen_port() },
            Effect::DeleteFlows { tunnel: false },
        ]
    }

    /// Another port, when the last was taken.
    pub fn next_port(&mut self) {
        self.port = port_from(u32::from(self.port).wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15));
    }

    pub fn tunnel(&self) -> Option<TunnelStance> {
        let tunnel = self.settings.tunnel.as_ref()?;
        let device = DEVICE.parse().ok()?;
        Some(TunnelStance { device, addresses: tunnel.addresses.clone() })
    }

    /// The next relay after `last`, or why there is none.
    pub fn next_relay(&self, last: Option<&RelayName>) -> Result<Relay, Cause> {
        let wish = self.stored.relay.as_ref();
        let fitting = relays::fitting(&self.settings, wish);
        relays::after(&fitting, last).cloned().ok_or_else(|| Cause::NoRelay(wish.map(ToString::to_string)))
    }

    /// Whether `relay` is what a person asked for.
    pub fn fits_wish(&self, relay: &RelayName) -> bool {
        let fitting = relays::fitting(&self.settings, self.stored.relay.as_ref());
        fitting.iter().any(|fits| fits.name == *relay)
    }

    /// Attempts before the machine gives up for a while.
    pub fn attempts(&self) -> usize {
        relays::fitting(&self.settings, self.stored.relay.as_ref()).len() * relays::ROUNDS
    }

    /// What stands in the way of a tunnel before anything is tried.
    fn obstacle(&self) -> Option<Cause> {
        if !self.broken.is_empty() {
            return Some(Cause::Config(self.broken.clone()));
        }
        if self.settings.tunnel.is_none() {
            return Some(Cause::NoTunnel);
        }
        if !self.online {
            return Some(Cause::Offline);
        }
        None
    }

    /// From any state towards a tunnel, starting after relay `last`.
    pub fn try_connect(&mut self, last: Option<&RelayName>) -> Next {
        self.try_connect_again(last, 0)
    }

    /// As [`Self::try_connect`]; `tries` counts the pauses so far, for the backoff.
    pub fn try_connect_again(&mut self, last: Option<&RelayName>, tries: u32) -> Next {
        if let Some(cause) = self.obstacle() {
            return Blocked::enter_again(self, cause, tries);
        }
        match self.next_relay(last) {
            Ok(relay) => Connecting::enter(self, &relay, tries),
            Err(cause) => Blocked::enter_again(self, cause, tries),
        }
    }
}

/// A port of the range that no service registers (RFC 6335, section 6: 49152 to 65535).
fn port_from(seed: u32) -> u16 {
    // Below 2^14, so the cast loses nothing.
    49152 + ((seed ^ (seed >> 16)) & 0x3fff) as u16
}
