//! Settings, facts and stances for tests: each state in a plain and in a full home.

use super::{Facts, Stance, TunnelStance, WanDevice};
use crate::config::{
    Lan, LanDevice, LanRoute, Mark, PortProto, Relay, Settings, TunnelForward, TunnelSettings, WanService,
    WireguardKey,
};
use crate::sorted::Map;

pub struct Case {
    /// STATE-CASE, as the golden files are named.
    pub name: &'static str,
    pub stance: Stance,
    pub settings: Settings,
    pub facts: Facts,
}

fn parse<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

fn all<T: std::str::FromStr>(texts: &[&str]) -> Vec<T>
where
    T::Err: std::fmt::Debug,
{
    texts.iter().map(|text| parse(text)).collect()
}

pub const PORT: u16 = 51820;

pub fn tunnel() -> TunnelStance {
    TunnelStance {
        device: parse("vpnd0"),
        addresses: all(&["10.64.10.20/32", "fc00:bbbb:bbbb:bb01::1:a14/128"]),
    }
}

fn relay(name: &str, endpoint: &str) -> Relay {
    Relay {
        name: parse(name),
        endpoint: parse(endpoint),
        public_key: WireguardKey::new([7; 32]),
        preshared_key: None,
        allowed_ips: all(&["0.0.0.0/0", "::/0"]),
        country: String::new(),
        city: String::new(),
    }
}

fn lan_device(name: &str, prefixes: &[&str], forward: bool) -> LanDevice {
    LanDevice { name: parse(name), prefixes: all(prefixes), forward }
}

/// One LAN, one relay, nothing listed.
pub fn plain() -> Settings {
    let lan = Lan {
        devices: vec![lan_device("br-lan", &["192.168.1.0/24", "fd00:1::/64"], true)],
        routes: Vec::new(),
    };
    Settings {
        tunnel: Some(TunnelSettings {
            private_key: WireguardKey::new([9; 32]),
            addresses: tunnel().addresses,
            dns: all(&["10.64.0.1"]),
            mtu: None,
            probe: Vec::new(),
        }),
        relays: vec![relay("one", "203.0.113.1:51820")],
        ..Settings::fallback(lan)
    }
}

pub fn plain_facts() -> Facts {
    Facts {
        lan_prefixes: Map::from([(parse("br-lan"), all(&["192.168.1.0/24"]))]),
        wan: vec![WanDevice {
            name: parse("eth1"),
            prefixes: all(&["198.51.100.0/24", "2001:db8:203::/64"]),
            lease_server: Some(parse("198.51.100.1")),
        }],
    }
}

/// Everything that can be listed, a partial mark mask, and a device with a gateway on it.
pub fn full() -> Settings {
    let mut settings = plain();
    settings.lan = Lan {
        devices: vec![
            lan_device("br-guest", &["192.168.2.0/24"], true),
            lan_device("br-lan", &["192.168.1.0/24", "fd00:1::/64"], true),
            lan_device("eth7", &["192.168.7.0/24"], false),
        ],
        routes: vec![LanRoute {
            prefix: parse("10.9.0.0/16"),
            gateway: parse("192.168.1.9"),
            device: parse("br-lan"),
        }],
    };
    settings.allow_wan_private = all(&["192.168.100.0/24", "fd00:dead::/48"]);
    settings.allow_wan_multicast = all(&["239.35.0.0/16", "ff3e::/32"]);
    settings.allow_wan_service = vec![
        WanService { proto: PortProto::Tcp, port: 22, source: Some(parse("203.0.113.64/26")) },
        WanService { proto: PortProto::Udp, port: 1194, source: None },
    ];
    settings.allow_tunnel_forward = vec![
        TunnelForward { proto: PortProto::Tcp, port: 8080, to: parse("192.168.1.5:80") },
        TunnelForward { proto: PortProto::Udp, port: 9999, to: parse("[fd00:1::5]:9999") },
    ];
    settings.resolvers = all(&["10.64.0.7", "192.168.1.53", "127.0.0.1"]);
    settings.mark = Mark::new(0x0041_0000, 0x00ff_0000).unwrap();
    settings.api = all(&["192.0.2.10:443", "[2001:db8:a::10]:443"]);
    settings.relays.push(relay("two", "[2001:db8:5::2]:53"));
    settings.relays.push(relay("behind", "192.168.100.9:51820"));
    settings
}

pub fn full_facts() -> Facts {
    let mut facts = plain_facts();
    facts.lan_prefixes.insert(parse("br-guest"), all(&["192.168.2.0/24", "192.168.3.0/24"]));
    facts
}

/// Neither a config nor a kept list.
pub fn nothing() -> Settings {
    Settings::fallback(Lan::default())
}

pub fn connecting(relays: &[&str], tunnel: Option<TunnelStance>, dns: bool) -> Stance {
    Stance::Connecting { relays: all(relays), listen_port: PORT, tunnel, dns }
}

pub fn connected(relay: &str) -> Stance {
    Stance::Connected { relay: parse(relay), listen_port: PORT, tunnel: tunnel() }
}

pub fn cases() -> Vec<Case> {
    let both = ["203.0.113.1:51820", "[2001:db8:5::2]:53"];
    let case = |name, stance, settings, facts| Case { name, stance, settings, facts };
    vec![
        case("boot-plain", Stance::Boot, plain(), plain_facts()),
        case("boot-full", Stance::Boot, full(), full_facts()),
        case("boot-nothing", Stance::Boot, nothing(), Facts::default()),
        case("blocked-plain", Stance::Blocked { api: false }, plain(), plain_facts()),
        case("blocked-full", Stance::Blocked { api: true }, full(), full_facts()),
        case("blocked-nothing", Stance::Blocked { api: true }, nothing(), plain_facts()),
        case("connecting-plain", connecting(&both[..1], None, false), plain(), plain_facts()),
        case("connecting-device", connecting(&both[..1], Some(tunnel()), false), plain(), plain_facts()),
        case("connecting-full", connecting(&both, Some(tunnel()), true), full(), full_facts()),
        case("connected-plain", connected(both[0]), plain(), plain_facts()),
        case("connected-full", connected(both[1]), full(), full_facts()),
    ]
}
