//! Random walks with failing effects, over a small model of the router. What the model refuses
//! would be a leak or a lock-out on a real one.

use std::sync::Arc;

use proptest::prelude::*;

use crate::config::Settings;
use crate::policy::{Facts, Stance, WanDevice};

use super::{Effect, Event, Machine, Stored, settings};
use crate::machine::{Timer, View};

/// What the effects have made of the router so far.
#[derive(Debug, Default)]
struct Router {
    policy: Option<Stance>,
    barrier: bool,
    device: bool,
    peer: Option<String>,
    stale_flows: bool,
    /// Failures to delete flows, one after the other.
    flows_failed: u32,
    armed: bool,
    stored: Stored,
    retry: bool,
    attempt: bool,
    save: bool,
    probing: bool,
}

impl Router {
    fn closed(&self) -> bool {
        !matches!(self.policy, None | Some(Stance::Open))
    }

    fn apply(&mut self, effect: &Effect, settings: &Settings) {
        match effect {
            Effect::Enforce(Stance::Open) => {
                assert!(!self.device && !self.barrier, "opened too early: {self:?}");
                assert!(!self.stale_flows || self.flows_failed > 3, "opened over old flows: {self:?}");
                self.policy = Some(Stance::Open);
            }
            Effect::Enforce(stance) => self.policy = Some(stance.clone()),
            Effect::RaiseBarrier => self.barrier = true,
            Effect::LowerBarrier => {
                assert!(!self.device, "barrier lowered over a tunnel: {self:?}");
                self.barrier = false;
            }
            Effect::CreateTunnel { listen_port } => {
                assert!(self.barrier, "device before barrier: {self:?}");
                assert_eq!(self.port(), Some(*listen_port), "device on a port that is not allowed");
                self.device = true;
            }
            Effect::SetPeer(name) => {
                assert!(self.device, "peer without device: {self:?}");
                let relay = settings.relays.iter().find(|relay| relay.name == *name).expect("known relay");
                assert!(self.allows(relay.endpoint), "peer that the policy does not allow: {self:?}");
                if self.peer.as_deref() != Some(name.as_str()) {
                    self.stale_flows = true;
                }
                self.peer = Some(name.to_string());
            }
            Effect::ClearPeer => self.peer = None,
            Effect::DestroyTunnel => {
                assert!(self.policy.is_none() || self.closed() || !self.device, "torn down in the open");
                self.stale_flows |= self.device;
                (self.device, self.peer) = (false, None);
            }
            Effect::DeleteFlows { tunnel } => {
                self.stale_flows &= !tunnel;
                self.flows_failed = 0;
            }
            Effect::StartProbe => {
                assert!(self.peer.is_some(), "probe without a peer");
                self.probing = true;
            }
            Effect::StopProbe => self.probing = false,
            Effect::SetTimer { timer: Timer::Retry, .. } => self.retry = true,
            Effect::SetTimer { timer: Timer::Attempt, .. } => self.attempt = true,
            Effect::SetTimer { timer: Timer::Save, .. } => self.save = true,
            Effect::CancelTimer(Timer::Save) => self.save = false,
            Effect::CancelTimer(Timer::Retry) => self.retry = false,
            Effect::CancelTimer(Timer::Attempt) => self.attempt = false,
            Effect::Store(stored) => self.stored = stored.clone(),
            Effect::Arm => self.armed = true,
            Effect::Disarm => {
                assert_eq!(self.policy, Some(Stance::Open), "marker removed before the open policy");
                self.armed = false;
            }
            Effect::ReportDown => assert!(!self.device && !self.stale_flows),
        }
    }

    fn port(&self) -> Option<u16> {
        match &self.policy {
            Some(Stance::Connecting { listen_port, .. } | Stance::Connected { listen_port, .. }) => {
                Some(*listen_port)
            }
            _ => None,
        }
    }

    fn allows(&self, endpoint: std::net::SocketAddr) -> bool {
        match &self.policy {
            Some(Stance::Connecting { relays, .. }) => relays.contains(&endpoint),
            Some(Stance::Connected { relay, .. }) => *relay == endpoint,
            _ => false,
        }
    }

    /// After a list ran to its end.
    fn check(&self, view: &View, failing: bool) {
        let due = (view.wanted.connect || view.lockdown) && !view.paused;
        if (view.wanted.connect || view.wanted.latched) && view.paused && !failing {
            assert!(self.armed && self.stored == view.wanted, "a reboot would stay open: {view:?} {self:?}");
        }
        if due && !failing {
            assert!(self.closed() && self.barrier, "open though {view:?}: {self:?}");
            assert!(self.armed && self.stored == view.wanted, "a reboot would forget: {view:?} {self:?}");
        }
        match view.state {
            "connected" => assert!(matches!(self.policy, Some(Stance::Connected { .. }))),
            "connecting" => {
                assert!(matches!(self.policy, Some(Stance::Connecting { .. })));
                assert!(self.attempt && self.probing, "would wait for ever: {self:?}");
            }
            "error" => {
                let waits = view.cause.as_ref().is_some_and(|cause| !cause.may_pass());
                assert!(self.retry || waits, "would wait for ever: {view:?}");
            }
            _ => {}
        }
        if !failing {
            assert!(view.holds, "says that the promise is broken: {view:?}");
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let facts = prop::bool::ANY.prop_map(|wan| {
        let device = WanDevice { name: "wan".parse().unwrap(), prefixes: Vec::new(), lease_server: None };
        Event::Facts(Facts { wan: wan.then_some(device).into_iter().collect(), ..Facts::default() })
    });
    let wish = prop_oneof![Just(None), Just(Some("one")), Just(Some("nl")), Just(Some("nowhere"))];
    let config = (0_usize..3, prop::bool::ANY, prop::bool::ANY).prop_map(|(skip, lockdown, broken)| {
        let relays = settings().relays.into_iter().skip(skip).collect();
        let good = Settings { relays, lockdown, ..settings() };
        let settings = if broken { Settings::fallback(good.lan) } else { good };
        Event::Settings {
            settings: Arc::new(settings),
            broken: broken.then(|| "bad".to_owned()).into_iter().collect(),
        }
    });
    prop_oneof![
        3 => wish.prop_map(|wish| Event::Connect(wish.map(|wish| wish.parse().unwrap()))),
        2 => Just(Event::Disconnect),
        1 => Just(Event::Reconnect),
        1 => prop::bool::ANY.prop_map(Event::Lockdown),
        1 => Just(Event::Disarm),
        1 => Just(Event::Pause),
        1 => Just(Event::Resume),
        1 => config,
        1 => facts,
        2 => prop::bool::ANY.prop_map(Event::Online),
        4 => Just(Event::Verified),
        2 => Just(Event::Silent),
        1 => Just(Event::TunnelGone),
        1 => Just(Event::RulesChanged),
        2 => Just(Event::TimerFired(Timer::Attempt)),
        2 => Just(Event::TimerFired(Timer::Retry)),
        1 => Just(Event::TimerFired(Timer::Save)),
    ]
}

/// Runs a list as the daemon does. `fail` counts down to the effect that fails.
fn execute(
    mut machine: Machine,
    effects: Vec<Effect>,
    router: &mut Router,
    settings: &Settings,
    fail: &mut Option<usize>,
) -> Machine {
    let mut list = effects.into_iter();
    while let Some(effect) = list.next() {
        if matches!(fail, Some(0))
            && !matches!(effect, Effect::SetTimer { .. } | Effect::CancelTimer(_) | Effect::ReportDown)
        {
            *fail = None;
            router.flows_failed += u32::from(matches!(effect, Effect::DeleteFlows { .. }));
            let rest = list.collect();
            let (next, effects) =
                machine.step(Event::Failed { effect: Box::new(effect), error: "injected".into(), rest });
            return execute(next, effects, router, settings, fail);
        }
        if let Some(left) = fail {
            *left = left.saturating_sub(1);
        }
        router.apply(&effect, settings);
        if effect == Effect::ReportDown {
            let (next, effects) = machine.step(Event::TunnelDown);
            machine = execute(next, effects, router, settings, fail);
        }
    }
    machine
}

fn walk(steps: Vec<(Event, Option<usize>)>, first: Settings, stored: Option<Stored>) {
    let mut current = Arc::new(first);
    let mut router = Router::default();
    let (machine, effects) = Machine::start(Event::Start {
        stored,
        settings: Arc::clone(&current),
        broken: Vec::new(),
        facts: Facts::default(),
        online: true,
        seed: 3,
    });
    let mut machine = execute(machine, effects, &mut router, &current, &mut None);
    router.check(&machine.view(), false);
    let mut failed_before = false;
    let mut word = !router.closed();
    for (event, mut fail) in steps {
        if let Event::Settings { settings, .. } = &event {
            current = Arc::clone(settings);
        }
        match &event {
            Event::TimerFired(Timer::Retry) if !router.retry => continue,
            Event::TimerFired(Timer::Attempt) if !router.attempt => continue,
            // The daemon drops the reports of a probe that was stopped.
            Event::Verified | Event::Silent if !router.probing => continue,
            Event::TimerFired(Timer::Save) if !router.save => continue,
            Event::TimerFired(Timer::Save) => router.save = false,
            Event::TimerFired(Timer::Retry) => router.retry = false,
            Event::TimerFired(Timer::Attempt) => router.attempt = false,
            Event::TunnelGone => {
                router.stale_flows |= router.device;
                (router.device, router.peer) = (false, None);
            }
            _ => {}
        }
        let closed = router.closed();
        if event == Event::RulesChanged && closed && fail.is_none() {
            // Somebody deleted the table. (Where an effect fails, he only altered it.)
            router.policy = None;
        }
        // "Blocking ends only by a person's word."
        match &event {
            Event::Disconnect | Event::Disarm | Event::Pause | Event::Lockdown(false) => word = true,
            Event::Connect(_) | Event::Lockdown(true) => word = false,
            // What was wanted before the pause holds again.
            Event::Resume if machine.view().paused => {
                let Stored { connect, latched, .. } = machine.view().wanted;
                word = !connect && !latched;
            }
            _ => {}
        }
        let injected = fail;
        let (next, effects) = machine.step(event);
        machine = execute(next, effects, &mut router, &current, &mut fail);
        // Only a failure that struck excuses anything, until the next list that runs clean.
        failed_before =
            (injected.is_some() && fail.is_none()) || (failed_before && (router.retry || router.save));
        router.check(&machine.view(), failed_before);
        assert!(!closed || router.closed() || word, "opened without a person's word: {:?}", machine.view());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_opens_by_accident(
        steps in prop::collection::vec((event(), prop::option::weighted(0.15, 0_usize..10)), 1..40),
        lockdown in prop::bool::ANY,
        auto_connect in prop::bool::ANY,
        wanted in prop::option::of(prop::bool::ANY),
    ) {
        let first = Settings { lockdown, auto_connect, ..settings() };
        walk(steps, first, wanted.map(|connect| Stored { connect, ..Stored::default() }));
    }
}
