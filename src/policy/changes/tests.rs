//! Golden sentences for every setting, added, removed and changed: tests/golden/changes.txt.

use super::*;
use crate::config::{Mark, WireguardKey};
use crate::policy::{Facts, samples};

type Change = fn(&mut Settings);

fn service(text: &str) -> WanService {
    let mut words = text.split(' ');
    let proto = if words.next() == Some("tcp") { PortProto::Tcp } else { PortProto::Udp };
    let port = words.next().unwrap().parse().unwrap();
    WanService { proto, port, source: words.next().map(|source| source.parse().unwrap()) }
}

/// A name, what makes the old of the full home, and what makes the new of the old. Each is also
/// said the other way round.
const CASES: &[(&str, Change, Change)] = &[
    ("enabled", |_| {}, |s| s.enabled = false),
    ("auto_connect", |_| {}, |s| s.auto_connect = true),
    ("lockdown", |_| {}, |s| s.lockdown = true),
    ("a LAN device", |_| {}, |s| _ = s.lan.devices.remove(0)),
    (
        "a LAN device, where nothing is listed",
        |s| s.allow_wan_private.clear(),
        |s| _ = s.lan.devices.remove(0),
    ),
    ("a LAN device that is not forwarded for", |_| {}, |s| _ = s.lan.devices.remove(2)),
    ("a LAN device's forwarding", |_| {}, |s| s.lan.devices[2].forward = true),
    (
        "a LAN device's prefix",
        |_| {},
        |s| s.lan.devices[0].prefixes = vec!["192.168.4.0/24".parse().unwrap()],
    ),
    ("a LAN route", |_| {}, |s| s.lan.routes.clear()),
    ("a LAN route's gateway", |_| {}, |s| s.lan.routes[0].gateway = "192.168.1.10".parse().unwrap()),
    ("a WAN device's name", |_| {}, |s| s.wan_names.push("wwan0".parse().unwrap())),
    ("a WAN device with PPPoE", |_| {}, |s| s.wan_pppoe.push("eth1".parse().unwrap())),
    ("allow_wan_private", |_| {}, |s| s.allow_wan_private.push("10.7.0.0/16".parse().unwrap())),
    ("allow_wan_private, wider", |_| {}, |s| s.allow_wan_private[0] = "192.168.100.0/23".parse().unwrap()),
    ("allow_wan_private, one LAN device", |s| s.lan.devices.truncate(1), |s| s.allow_wan_private.clear()),
    ("allow_wan_private, no LAN device", |s| s.lan.devices.clear(), |s| s.allow_wan_private.clear()),
    ("allow_wan_multicast", |_| {}, |s| s.allow_wan_multicast.push("239.1.0.0/16".parse().unwrap())),
    ("allow_wan_service", |_| {}, |s| s.allow_wan_service.push(service("tcp 443 203.0.113.0/24"))),
    ("allow_wan_service, unknown port", |_| {}, |s| s.allow_wan_service.push(service("udp 7000"))),
    (
        "allow_wan_service, another source",
        |_| {},
        |s| s.allow_wan_service[0] = service("tcp 22 198.51.100.0/24"),
    ),
    ("allow_wan_service, from anywhere", |_| {}, |s| s.allow_wan_service[0] = service("tcp 22")),
    ("allow_wan_service, once more but wider", |_| {}, |s| s.allow_wan_service.push(service("tcp 22"))),
    (
        "allow_wan_service, a part of it once more",
        |_| {},
        |s| s.allow_wan_service.push(service("tcp 22 203.0.113.66/32")),
    ),
    ("allow_tunnel_forward", |_| {}, |s| _ = s.allow_tunnel_forward.remove(0)),
    (
        "allow_tunnel_forward, another host",
        |_| {},
        |s| s.allow_tunnel_forward[0].to = "192.168.1.6:80".parse().unwrap(),
    ),
    ("resolver", |_| {}, |s| _ = s.resolvers.remove(0)),
    ("resolver, all", |_| {}, |s| s.resolvers.clear()),
    ("redirect_dns", |_| {}, |s| s.redirect_dns = true),
    ("mark", |_| {}, |s| s.mark = Mark::DEFAULT),
    ("api_endpoint", |_| {}, |s| _ = s.api.remove(0)),
    ("tunnel", |_| {}, |s| s.tunnel = None),
    ("tunnel: private_key", |_| {}, |s| s.tunnel.as_mut().unwrap().private_key = WireguardKey::new([1; 32])),
    ("tunnel: address", |_| {}, |s| _ = s.tunnel.as_mut().unwrap().addresses.remove(1)),
    ("tunnel: dns", |_| {}, |s| s.tunnel.as_mut().unwrap().dns.push("10.64.0.2".parse().unwrap())),
    ("tunnel: mtu", |_| {}, |s| s.tunnel.as_mut().unwrap().mtu = Some(1380)),
    ("tunnel: probe", |_| {}, |s| s.tunnel.as_mut().unwrap().probe.push("10.64.0.3".parse().unwrap())),
    ("relay", |_| {}, |s| _ = s.relays.remove(0)),
    ("relay: order", |_| {}, |s| s.relays.swap(0, 1)),
    ("relay: endpoint", |_| {}, |s| s.relays[0].endpoint = "203.0.113.2:443".parse().unwrap()),
    ("relay: public_key", |_| {}, |s| s.relays[0].public_key = WireguardKey::new([3; 32])),
    ("relay: preshared_key", |_| {}, |s| s.relays[0].preshared_key = Some(WireguardKey::new([3; 32]))),
    (
        "relay: preshared_key, another",
        |s| s.relays[0].preshared_key = Some(WireguardKey::new([4; 32])),
        |s| s.relays[0].preshared_key = Some(WireguardKey::new([5; 32])),
    ),
    ("relay: allowed_ip", |_| {}, |s| s.relays[0].allowed_ips.truncate(1)),
    ("relay: country", |_| {}, |s| s.relays[0].country = "Sweden".to_owned()),
    ("relay: city", |_| {}, |s| s.relays[0].city = "Malmö".to_owned()),
    (
        "many prefixes",
        |_| {},
        |s| {
            s.allow_wan_private
                .extend((0..40).map(|n| format!("10.{}.0.0/16", 2 * n).parse::<IpNet>().unwrap()));
        },
    ),
    (
        "many services",
        |_| {},
        |s| {
            s.allow_wan_service.extend((1..=40).map(|n| service(&format!("tcp {}", 9000 + n))));
        },
    ),
    (
        "many relays",
        |_| {},
        |s| {
            for n in 0..40 {
                let mut relay = s.relays[0].clone();
                relay.name = format!("n{n}").parse().unwrap();
                s.relays.push(relay);
            }
        },
    ),
    (
        "many LAN devices",
        |_| {},
        |s| {
            for n in 0..40 {
                let mut device = s.lan.devices[0].clone();
                device.name = format!("vlan{n}").parse().unwrap();
                s.lan.devices.push(device);
            }
            s.allow_wan_private.push("10.7.0.0/16".parse().unwrap());
        },
    ),
];

#[test]
fn every_setting_has_its_sentences() {
    let mut all = String::new();
    for (name, before, change) in CASES {
        let mut old = samples::full();
        before(&mut old);
        let mut new = old.clone();
        change(&mut new);
        assert_ne!(old, new, "{name}");
        assert_eq!(changes(&old, &old), Vec::<String>::new(), "{name}: nothing changes");
        let (there, back) = (changes(&old, &new), changes(&new, &old));
        // What is open already does not change when it is listed once more.
        let silent = name.ends_with("a part of it once more");
        assert_eq!((there.is_empty(), back.is_empty()), (silent, silent), "{name}");
        all += &format!("{name}\n");
        for (sign, sentences) in [('>', there), ('<', back)] {
            assert!(sentences.len() < 20, "{name}: {} sentences", sentences.len());
            for sentence in sentences {
                assert!(sentence.len() < 300, "{sentence}");
                all += &format!("  {sign} {sentence}\n");
            }
        }
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/changes.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &all).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(all, wanted, "{} differs; UPDATE_GOLDEN=1 writes it", path.display());
}

/// Whatever is different between two settings of the samples is said.
#[test]
fn from_any_home_to_any_other_something_is_said() {
    let homes = [samples::plain(), samples::full(), samples::nothing()];
    for old in &homes {
        for new in &homes {
            assert_eq!(changes(old, new).is_empty(), old == new);
        }
    }
}

fn asker(address: &str, device: Option<&str>, port: Option<u16>) -> Asker {
    Asker { address: address.parse().unwrap(), device: device.map(|d| d.parse().unwrap()), port }
}

#[test]
fn who_could_be_cut_off_has_to_confirm() {
    let facts = samples::full_facts();
    let old = samples::full();
    let ask = |change: Change, asker: Option<Asker>| {
        let mut new = old.clone();
        change(&mut new);
        risks(&old, &new, &facts, asker.as_ref()).join("; ")
    };
    let resolver: Change = |s| s.resolvers.clear();
    let lan: Change = |s| _ = s.lan.devices.remove(0);
    let ssh: Change = |s| _ = s.allow_wan_service.remove(0);
    let tv = || Some(asker("192.168.1.20", None, Some(22)));
    let wan = || Some(asker("203.0.113.70", None, Some(22)));
    assert_eq!(ask(|_| {}, wan()), "", "nothing changes");
    // From the LAN: its list only.
    assert_eq!(ask(resolver, tv()), "");
    assert_eq!(ask(ssh, tv()), "");
    for change in [lan, |s: &mut Settings| s.lan.routes.clear(), |s| s.lan.devices[1].prefixes.clear()] {
        for from in [tv(), None] {
            assert!(ask(change, from).starts_with("the LAN list or its addresses change"));
        }
    }
    // From the WAN: whatever changes.
    assert_eq!(ask(resolver, wan()), "you ask from 203.0.113.70, which is on no LAN network");
    assert_eq!(
        ask(ssh, wan()),
        "you ask from 203.0.113.70, which is on no LAN network; \
         your own session (203.0.113.70 to tcp 22) would not be let in any more"
    );
    let narrower: Change = |s| s.allow_wan_service[0] = service("tcp 22 203.0.113.64/30");
    assert!(ask(narrower, wan()).contains("your own session"));
    let elsewhere: Change = |s| _ = s.allow_wan_service.remove(1);
    assert!(!ask(elsewhere, wan()).contains("your own session"), "another service");
    // Not known: a console, or a web page.
    assert_eq!(ask(resolver, None), "");
    assert!(ask(ssh, None).contains("where you ask from is not known"));
}

#[test]
fn what_counts_as_lan() {
    let (old, facts) = (samples::full(), samples::full_facts());
    let mut new = old.clone();
    new.resolvers.clear();
    for (address, device, lan) in [
        ("192.168.1.20", None, true),
        ("::ffff:192.168.1.20", None, true),
        ("192.168.3.9", None, true), // by the kernel's word only
        ("10.9.1.1", None, true),    // behind a lan_route
        ("fd00:1::20", None, true),
        ("fe80::1", Some("br-lan"), true),
        ("fe80::1", Some("eth1"), false),
        ("fe80::1", None, false),
        ("169.254.7.7", None, false),
        ("192.168.100.9", None, false), // listed, but behind the WAN
        ("10.64.0.9", None, false),
        ("127.0.0.1", None, false), // through somebody's own tunnel, perhaps
        ("2001:db8:203::9", None, false),
    ] {
        let found = risks(&old, &new, &facts, Some(&asker(address, device, Some(22))));
        assert_eq!(found.is_empty(), lan, "{address} {device:?}: {found:?}");
    }
    let none = risks(&old, &new, &Facts::default(), Some(&asker("192.168.3.9", None, None)));
    assert!(!none.is_empty(), "control: without the kernel's word it is not known");
}
