//! Which homes and states are proved: every setting there or not, and their combinations.

use std::fmt::Debug;
use std::str::FromStr;

use vpnd::config::{
    Lan, LanDevice, LanRoute, Mark, PortProto, Relay, Settings, TunnelForward, TunnelSettings, WanService,
    WireguardKey,
};
use vpnd::policy::{Facts, Stance, TunnelStance, WanDevice};

/// What may be set, each by itself.
pub const OPTIONS: [&str; 12] = [
    "lan_route",
    "allow_wan_private",
    "allow_wan_multicast",
    "allow_wan_service",
    "allow_tunnel_forward",
    "resolvers",
    "own mark",
    "api",
    "second LAN",
    "unfit LAN",
    "lease",
    "IPv6 relay",
];

pub const STANCES: [&str; 7] = [
    "boot",
    "blocked",
    "blocked with api",
    "connecting",
    "connecting with device",
    "connecting in a switch",
    "connected",
];

pub const TUNNELS: [&str; 3] = ["both families", "IPv4 only", "IPv6 only"];

/// One setting combination in one state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Choice {
    /// A bit for each of [`OPTIONS`].
    pub options: u16,
    pub stance: usize,
    pub tunnel: usize,
    /// Neither a config nor a kept list.
    pub emergency: bool,
}

impl Choice {
    pub fn has(self, option: usize) -> bool {
        self.options >> option & 1 == 1
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", STANCES[self.stance])?;
        if self.emergency {
            return write!(f, ", no config and no kept list");
        }
        write!(f, ", tunnel of {}", TUNNELS[self.tunnel])?;
        for (at, name) in OPTIONS.iter().enumerate() {
            if self.has(at) {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}

pub struct Case {
    pub settings: Settings,
    pub facts: Facts,
    pub stance: Stance,
}

fn parse<T: FromStr>(text: &str) -> T
where
    T::Err: Debug,
{
    text.parse().expect("a literal of this file")
}

fn all<T: FromStr>(texts: &[&str]) -> Vec<T>
where
    T::Err: Debug,
{
    texts.iter().map(|text| parse(text)).collect()
}

pub const LISTEN_PORT: u16 = 51820;
const RELAY_V4: &str = "203.0.113.1:51820";
const RELAY_V6: &str = "[2001:db8:5::2]:53";

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

fn lan(choice: Choice) -> Lan {
    let device =
        |name, prefixes: &[&str], forward| LanDevice { name: parse(name), prefixes: all(prefixes), forward };
    let mut devices = vec![device("br-lan", &["192.168.1.0/24", "fd00:1::/64"], true)];
    if choice.has(8) {
        devices.insert(0, device("br-guest", &["192.168.2.0/24"], true));
    }
    if choice.has(9) {
        devices.push(device("eth7", &["192.168.7.0/24"], false));
    }
    let route =
        LanRoute { prefix: parse("10.9.0.0/16"), gateway: parse("192.168.1.9"), device: parse("br-lan") };
    Lan { devices, routes: if choice.has(0) { vec![route] } else { Vec::new() } }
}

fn tunnel(choice: Choice) -> TunnelStance {
    let addresses: &[&str] = match choice.tunnel {
        0 => &["10.64.10.20/32", "fc00:bbbb:bbbb:bb01::1:a14/128"],
        1 => &["10.64.10.20/32"],
        _ => &["fc00:bbbb:bbbb:bb01::1:a14/128"],
    };
    // In a switch, the other device of the group.
    let device = if choice.stance == 5 { "vpnd1" } else { "vpnd0" };
    TunnelStance { device: parse(device), addresses: all(addresses) }
}

fn settings(choice: Choice) -> Settings {
    if choice.emergency {
        return Settings::fallback(Lan::default());
    }
    let mut settings = Settings::fallback(lan(choice));
    let dns: &[&str] = if choice.tunnel == 2 { &["fc00:bbbb::1"] } else { &["10.64.0.1"] };
    settings.tunnel = Some(TunnelSettings {
        private_key: WireguardKey::new([9; 32]),
        addresses: tunnel(choice).addresses,
        dns: all(dns),
        mtu: None,
        probe: Vec::new(),
    });
    settings.relays = vec![relay("one", RELAY_V4), relay("two", RELAY_V6)];
    if choice.has(1) {
        settings.allow_wan_private = all(&["192.168.100.0/24", "fd00:dead::/48"]);
        settings.relays.push(relay("behind", "192.168.100.9:51820"));
    }
    if choice.has(2) {
        settings.allow_wan_multicast = all(&["239.35.0.0/16", "ff3e::/32"]);
    }
    if choice.has(3) {
        settings.allow_wan_service = vec![
            WanService { proto: PortProto::Tcp, port: 22, source: Some(parse("203.0.113.64/26")) },
            WanService { proto: PortProto::Udp, port: 1194, source: None },
        ];
    }
    if choice.has(4) {
        settings.allow_tunnel_forward = vec![
            TunnelForward { proto: PortProto::Tcp, port: 8080, to: parse("192.168.1.5:80") },
            TunnelForward { proto: PortProto::Udp, port: 9999, to: parse("[fd00:1::5]:9999") },
        ];
    }
    if choice.has(5) {
        settings.resolvers = all(&["10.64.0.7", "2001:db8:d::7", "192.168.1.53", "127.0.0.1"]);
    }
    if choice.has(6) {
        settings.mark = Mark::new(0x0041_0000, 0x00ff_0000).expect("a mark inside its mask");
    }
    if choice.has(7) {
        settings.api = all(&["192.0.2.10:443", "[2001:db8:a::10]:443"]);
    }
    settings
}

fn facts(choice: Choice) -> Facts {
    let mut facts = Facts::default();
    facts.lan_prefixes.insert(parse("br-lan"), all(&["192.168.1.0/24"]));
    if choice.has(8) {
        facts.lan_prefixes.insert(parse("br-guest"), all(&["192.168.2.0/24", "192.168.30.0/24"]));
    }
    if choice.emergency {
        facts.lan_prefixes = vpnd::sorted::Map::new();
    }
    facts.wan = vec![WanDevice {
        name: parse("eth1"),
        prefixes: all(&["198.51.100.0/24", "2001:db8:203::/64"]),
        lease_server: choice.has(10).then(|| parse("198.51.100.1")),
    }];
    facts
}

fn stance(choice: Choice) -> Stance {
    let (first, other) = if choice.has(11) { (RELAY_V6, RELAY_V4) } else { (RELAY_V4, RELAY_V6) };
    let connecting = |relays: &[&str], tunnel, dns| Stance::Connecting {
        relays: all(relays),
        listen_port: LISTEN_PORT,
        tunnel,
        dns,
    };
    match choice.stance {
        0 => Stance::Boot,
        1 => Stance::Blocked { api: false },
        2 => Stance::Blocked { api: true },
        3 => connecting(&[first], None, false),
        4 => connecting(&[first], Some(tunnel(choice)), false),
        5 => connecting(&[first, other], Some(tunnel(choice)), true),
        _ => Stance::Connected { relay: parse(first), listen_port: LISTEN_PORT, tunnel: tunnel(choice) },
    }
}

pub fn case(choice: Choice) -> Case {
    Case { settings: settings(choice), facts: facts(choice), stance: stance(choice) }
}

/// Everything there, nothing there.
pub const ALL_OPTIONS: u16 = (1 << OPTIONS.len()) - 1;

pub fn every_choice() -> Vec<Choice> {
    let mut choices = emergencies();
    for stance in 0..STANCES.len() {
        for tunnel in 0..TUNNELS.len() {
            for options in 0..=ALL_OPTIONS {
                choices.push(Choice { options, stance, tunnel, emergency: false });
            }
        }
    }
    choices
}

pub fn emergencies() -> Vec<Choice> {
    (0..3).map(|stance| Choice { options: 0, stance, tunnel: 0, emergency: true }).collect()
}

/// Combinations in which every two options meet with each of their values, every option with
/// every stance and every tunnel, and every stance with every tunnel: greedily, by chance.
pub fn pairwise(random: &mut fastrand::Rng) -> Vec<Choice> {
    let width = OPTIONS.len() + 2;
    let sizes: Vec<usize> = OPTIONS.iter().map(|_| 2).chain([STANCES.len(), TUNNELS.len()]).collect();
    let mut open = std::collections::BTreeSet::new();
    for a in 0..width {
        for b in a + 1..width {
            for x in 0..sizes[a] {
                for y in 0..sizes[b] {
                    open.insert((a, x, b, y));
                }
            }
        }
    }
    let pairs = |row: &[usize]| {
        let row = row.to_vec();
        (0..width).flat_map(move |a| {
            let row = row.clone();
            (a + 1..width).map(move |b| (a, row[a], b, row[b])).collect::<Vec<_>>()
        })
    };
    let mut choices = emergencies();
    // Nothing and everything are always among them.
    for (options, stance) in [(0, 1), (0, 4), (ALL_OPTIONS, 6)] {
        choices.push(Choice { options, stance, tunnel: 0, emergency: false });
    }
    while let Some(first) = open.iter().next().copied() {
        let mut best: (usize, Vec<usize>) = (0, Vec::new());
        for _ in 0..60 {
            let mut row: Vec<usize> = sizes.iter().map(|size| random.usize(..*size)).collect();
            row[first.0] = first.1;
            row[first.2] = first.3;
            let gain = pairs(&row).filter(|pair| open.contains(pair)).count();
            if gain > best.0 {
                best = (gain, row);
            }
        }
        for pair in pairs(&best.1) {
            open.remove(&pair);
        }
        let options = (0..OPTIONS.len()).fold(0, |bits, at| bits | (best.1[at] as u16) << at);
        choices.push(Choice {
            options,
            stance: best.1[width - 2],
            tunnel: best.1[width - 1],
            emergency: false,
        });
    }
    choices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_values_is_met() {
        for seed in 0..5 {
            let choices = pairwise(&mut fastrand::Rng::with_seed(seed));
            assert!(choices.len() < 60, "{}", choices.len());
            let usual: Vec<&Choice> = choices.iter().filter(|choice| !choice.emergency).collect();
            for a in 0..OPTIONS.len() {
                for b in 0..a {
                    for values in [(false, false), (false, true), (true, false), (true, true)] {
                        assert!(usual.iter().any(|choice| (choice.has(a), choice.has(b)) == values));
                    }
                }
                for stance in 0..STANCES.len() {
                    for set in [false, true] {
                        assert!(usual.iter().any(|choice| choice.has(a) == set && choice.stance == stance));
                    }
                }
            }
        }
    }
}
