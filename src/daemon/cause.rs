//! What led to a new ruleset, for people. Pure.

use crate::machine::{Event, Timer, View};
use crate::policy::Facts;

/// Words for `event`, which met the machine as `before` shows it. None: part of what the event
/// before it began.
pub(super) fn words(event: &Event, before: &View, facts: &Facts) -> Option<String> {
    let relay = || before.relay.as_ref().map_or("the relay".to_owned(), |name| format!("relay {name}"));
    Some(match event {
        Event::Start { .. } => "the daemon started".to_owned(),
        Event::Settings { .. } => "the configuration was read again".to_owned(),
        Event::Facts(new) => changed(facts, new),
        Event::Online(true) => "a relay has a route again".to_owned(),
        Event::Online(false) => "offline: no route to any relay".to_owned(),
        Event::Connect(None) => "connect asked".to_owned(),
        Event::Connect(Some(wish)) => format!("connect to {wish} asked"),
        Event::Disconnect => "disconnect asked".to_owned(),
        Event::Reconnect => "reconnect asked".to_owned(),
        Event::Lockdown(true) => "lockdown on asked".to_owned(),
        Event::Lockdown(false) => "lockdown off asked".to_owned(),
        Event::Disarm => "disarm asked".to_owned(),
        Event::Pause => "disarm for a while asked".to_owned(),
        Event::Resume => "the time of 'disarm --for' is over".to_owned(),
        Event::Verified => format!("{} verified", relay()),
        Event::Silent => format!("{} is silent", relay()),
        Event::TunnelGone => "the tunnel device was gone".to_owned(),
        Event::RulesChanged => "the rules were changed by somebody else".to_owned(),
        Event::TimerFired(Timer::Attempt) => format!("{} did not answer in time", relay()),
        Event::TimerFired(Timer::Retry | Timer::Save) => "tried again after a pause".to_owned(),
        Event::TunnelDown => return None,
        Event::Failed { effect, .. } => format!("{} failed", effect.what()),
    })
}

/// What is different of the devices; at most three things are named.
fn changed(old: &Facts, new: &Facts) -> String {
    let mut out = Vec::new();
    for device in &new.wan {
        match old.wan.iter().find(|known| known.name == device.name) {
            None => out.push(format!("WAN {} appeared", device.name)),
            Some(known) if known.prefixes != device.prefixes => {
                out.push(format!("WAN {} has other addresses", device.name));
            }
            Some(known) if known.lease_server != device.lease_server => {
                out.push(format!("WAN {} has another lease", device.name));
            }
            Some(_) => {}
        }
    }
    for device in old.wan.iter().filter(|old| !new.wan.iter().any(|known| known.name == old.name)) {
        out.push(format!("WAN {} went away", device.name));
    }
    let names = old.lan_prefixes.keys().chain(new.lan_prefixes.keys());
    for name in crate::sorted::each_once(names) {
        if old.lan_prefixes.get(name) != new.lan_prefixes.get(name) {
            out.push(format!("LAN {name} has other addresses"));
        }
    }
    match out.len() {
        0 => "the devices were looked at again".to_owned(),
        1..=3 => out.join(", "),
        more => format!("{} and {} more changes", out.get(..3).unwrap_or_default().join(", "), more - 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Effect, Stored};
    use crate::policy::samples;

    fn view(relay: Option<&str>) -> View {
        View {
            state: "connecting",
            cause: None,
            relay: relay.map(|name| name.parse().unwrap()),
            wanted: Stored::default(),
            lockdown: false,
            holds: true,
            paused: false,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn each_event_has_its_words() {
        let none = Facts::default();
        let failed = Event::Failed { effect: Box::new(Effect::Arm), error: "x".into(), rest: Vec::new() };
        for (event, said) in [
            (Event::Connect(None), Some("connect asked")),
            (Event::Connect(Some("se".parse().unwrap())), Some("connect to se asked")),
            (Event::Verified, Some("relay se1 verified")),
            (Event::TimerFired(Timer::Attempt), Some("relay se1 did not answer in time")),
            (Event::TunnelDown, None),
            (failed, Some("setting the armed marker failed")),
        ] {
            assert_eq!(words(&event, &view(Some("se1")), &none).as_deref(), said, "{event:?}");
        }
        assert_eq!(words(&Event::Silent, &view(None), &none).unwrap(), "the relay is silent");
    }

    #[test]
    fn devices_are_named() {
        let old = samples::full_facts();
        let say = |change: &dyn Fn(&mut Facts)| {
            let mut new = old.clone();
            change(&mut new);
            words(&Event::Facts(new), &view(None), &old).unwrap()
        };
        assert_eq!(
            say(&|new| new.wan[0].name = "usb0".parse().unwrap()),
            "WAN usb0 appeared, WAN eth1 went away"
        );
        assert_eq!(say(&|new| new.wan[0].lease_server = None), "WAN eth1 has another lease");
        assert_eq!(say(&|new| new.wan[0].prefixes.clear()), "WAN eth1 has other addresses");
        assert_eq!(
            say(&|new| assert!(
                new.lan_prefixes.remove(&"br-guest".parse::<crate::config::IfName>().unwrap())
            )),
            "LAN br-guest has other addresses"
        );
        assert_eq!(
            say(&|new| {
                let again = new.wan[0].clone();
                new.wan = (0..5)
                    .map(|n| crate::policy::WanDevice {
                        name: format!("w{n}").parse().unwrap(),
                        ..again.clone()
                    })
                    .collect();
            }),
            "WAN w0 appeared, WAN w1 appeared, WAN w2 appeared and 3 more changes"
        );
    }
}
