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
