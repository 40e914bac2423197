//! The whole table, as a golden file, and what must hold over every sequence of events.

mod table;
mod walk;

use std::sync::Arc;

use crate::config::{IfName, Lan, LanDevice, Relay, Settings, TunnelSettings, WireguardKey};
use crate::policy::Facts;

use super::{Effect, Event, Machine, Stored};

fn relay(name: &str, last: u8, country: &str) -> Relay {
    Relay {
        name: name.parse().unwrap(),
        endpoint: ([203, 0, 113, last], 51820).into(),
        public_key: WireguardKey::new([last; 32]),
        preshared_key: None,
        allowed_ips: Vec::new(),
        country: country.to_owned(),
        city: String::new(),
    }
}

fn settings() -> Settings {
    let device: IfName = "br-lan".parse().unwrap();
    let lan = Lan {
        devices: vec![LanDevice {
            name: device,
            prefixes: vec!["192.168.1.0/24".parse().unwrap()],
            forward: true,
        }],
        routes: Vec::new(),
    };
    Settings {
        tunnel: Some(TunnelSettings {
            private_key: WireguardKey::new([1; 32]),
            addresses: vec!["10.64.0.2/32".parse().unwrap()],
            dns: vec!["10.64.0.1".parse().unwrap()],
            mtu: None,
            probe: Vec::new(),
        }),
        relays: vec![relay("one", 1, "se"), relay("two", 2, "se"), relay("three", 3, "nl")],
        ..Settings::fallback(lan)
    }
}

fn start(settings: Settings, stored: Option<Stored>) -> (Machine, Vec<Effect>) {
    Machine::start(Event::Start {
        stored,
        settings: Arc::new(settings),
        broken: Vec::new(),
        facts: Facts::default(),
        online: true,
        seed: 7,
    })
}

/// Feeds `events`; [`Effect::ReportDown`] comes back at once, as from the daemon.
fn run(machine: Machine, events: impl IntoIterator<Item = Event>) -> Machine {
    events.into_iter().fold(machine, |machine, event| feed(machine, event).0)
}

fn feed(machine: Machine, event: Event) -> (Machine, Vec<Effect>) {
    let (machine, effects) = machine.step(event);
    settle(machine, effects)
}

fn settle(machine: Machine, mut effects: Vec<Effect>) -> (Machine, Vec<Effect>) {
    if effects.contains(&Effect::ReportDown) {
        let (machine, more) = machine.step(Event::TunnelDown);
        effects.extend(more);
        return (machine, effects);
    }
    (machine, effects)
}

#[test]
fn flows_that_cannot_be_deleted_delay_a_persons_word_but_do_not_defeat_it() {
    let (machine, effects) = start(settings(), None);
    let mut machine = run(settle(machine, effects).0, [Event::Connect(None), Event::Verified]);
    let mut opened = Vec::new();
    let mut event = Event::Disconnect;
    for pause in [2, 4, 8, 0] {
        machine = machine.step(event).0;
        let failed = Event::Failed {
            effect: Box::new(Effect::DeleteFlows { tunnel: true }),
            error: "injected".into(),
            rest: vec![Effect::ReportDown],
        };
        let (next, effects) = machine.step(failed);
        machine = next;
        let waits = effects.iter().find_map(|effect| match effect {
            Effect::SetTimer { after, .. } => Some(after.as_secs()),
            _ => None,
        });
        assert_eq!(waits, (pause > 0).then_some(pause));
        opened.push(effects.contains(&Effect::Enforce(crate::policy::Stance::Open)));
        event = Event::TimerFired(super::Timer::Retry);
    }
    assert_eq!(opened, [false, false, false, true]);
    let view = machine.view();
    assert_eq!(view.state, "disconnected");
    assert!(view.warnings[0].0.contains("deleting old flows: injected"), "{view:?}");
}

#[test]
fn a_city_may_be_written_with_a_hyphen() {
    let mut york = relay("ny1", 9, "us");
    york.city = "New York".into();
    assert!(super::lies_in(&york, "new-york") && super::lies_in(&york, "New York"));
    assert!(!super::lies_in(&york, "new") && !super::lies_in(&york, ""));
}
