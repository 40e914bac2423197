//! `home cost`: what vpnd's rules cost a forwarded packet, beside the same router that only
//! masquerades: in rules that it passes, and in throughput.
//!
//! ```text
//!  client ── lan0 router vpnd0 ── far        (one such row for each set of rules)
//! ```
//!
//! Both ends are packet sockets on veth pairs, so that hardly anything but the router's work is
//! measured. vpnd0 is a veth: WireGuard's cryptography would hide the rules' cost.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use vpnd::config::{Lan, LanDevice, Settings};
use vpnd::firewall::{self, Ruleset};
use vpnd::policy::{self, Facts, Stance, TunnelStance, WanDevice};

use crate::cost_figures::{Pairs, print_table};
use crate::counted;
use crate::ns::Netns;
use crate::packets::{Body, Kind, Marker, Packet, ethernet};
use crate::suite::Test;
use crate::trace;
use crate::volley::Volley;

/// Rounds of all rulesets, each in an order of its own.
const ROUNDS: usize = 60;
/// Packets of one measurement, in each direction.
const PACKETS: usize = 8_192;
/// Of counting one packet's rules.
const TRIES: usize = 4;
/// Connections that they belong to.
const FLOWS: u16 = 64;
/// What the router may say itself meanwhile (MLD reports, neighbour discovery).
const STRAYS: u64 = 32;
/// An established forwarded packet passes at most as many of vpnd's rules: those that matched it.
const MOST_RULES: usize = 8;
/// And is held against at most as many.
const MOST_HELD: usize = 10;

const MAC_CLIENT: [u8; 6] = [2, 0, 0, 0, 9, 1];
const MAC_LAN: [u8; 6] = [2, 0, 0, 0, 9, 2];
const MAC_TUNNEL: [u8; 6] = [2, 0, 0, 0, 9, 3];
const MAC_FAR: [u8; 6] = [2, 0, 0, 0, 9, 4];
const CLIENT: [&str; 2] = ["192.168.1.20", "fd00:1::20"];
const FAR: [&str; 2] = ["198.51.100.1", "2001:db8:100::1"];
const TUNNEL: [&str; 2] = ["10.64.10.2", "fd64::10:2"];

/// What every such router does anyway.
const MASQUERADE: &str = "table inet nat {
    chain out {
        type nat hook postrouting priority srcnat
        oifname vpnd0 masquerade
    }
}
";

/// What stands on a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// Drops at once what comes from the LAN and from the tunnel: the cost of sending alone.
    Nothing,
    Masquerade,
    /// The same, once more: how far two equal routers seem apart.
    MasqueradeAgain,
    /// And vpnd's base chains, without a rule: what any filter at these hooks costs.
    Hooks,
    /// And vpnd's rules of a plain home.
    Vpnd,
    /// With 5,000 prefixes listed behind the WAN, and 50 LAN networks.
    VpndLarge,
}

impl Rules {
    const ALL: [Self; 6] =
        [Self::Nothing, Self::Masquerade, Self::MasqueradeAgain, Self::Hooks, Self::Vpnd, Self::VpndLarge];

    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Nothing => "dropped on arrival",
            Self::Masquerade => "masquerade only",
            Self::MasqueradeAgain => "masquerade only, once more",
            Self::Hooks => "empty chains at vpnd's hooks",
            Self::Vpnd => "vpnd, connected",
            Self::VpndLarge => "vpnd, 5,000 listed prefixes, 50 LANs",
        }
    }

    /// None: no rules of vpnd's.
    fn ruleset(self) -> Result<Option<Ruleset>> {
        let (lans, listed) = match self {
            Self::Vpnd => (1, 0),
            Self::VpndLarge => (50, 5000),
            _ => return Ok(None),
        };
        Ok(Some(firewall::compile(&connected(lans, listed)?)))
    }
}

/// The connected policy of a home with `lans` LAN networks and `listed` prefixes behind the WAN,
/// no two of which could be written as one.
///
/// # Errors
/// When a name or address is none.
pub fn connected(lans: u8, listed: u32) -> Result<policy::Policy> {
    let lan = |n: u8| -> Result<LanDevice> {
        let prefixes =
            vec![format!("192.168.{}.0/24", n + 1).parse()?, format!("fd00:{:x}::/64", n + 1).parse()?];
        let name = format!("lan{n}").parse().map_err(|e| anyhow::anyhow!("lan{n}: {e}"))?;
        Ok(LanDevice { name, prefixes, forward: true })
    };
    let devices = (0..lans).map(lan).collect::<Result<Vec<_>>>()?;
    let mut settings = Settings::fallback(Lan { devices, routes: Vec::new() });
    let prefix = |n: u32| format!("100.{}.{}.0/24", 64 + n / 128, n % 128 * 2).parse();
    settings.allow_wan_private = (0..listed).map(prefix).collect::<Result<_, _>>()?;
    let relay: SocketAddr = "192.0.2.11:51820".parse()?;
    let name = |text: &str| text.parse().map_err(|e| anyhow::anyhow!("{text}: {e}"));
    let addresses = vec![format!("{}/32", TUNNEL[0]).parse()?, format!("{}/128", TUNNEL[1]).parse()?];
    let stance = Stance::Connected {
        relay,
        listen_port: 51820,
        tunnel: TunnelStance { device: name("vpnd0")?, addresses },
    };
    let wan = WanDevice {
        name: name("wan")?,
        prefixes: vec!["203.0.113.0/24".parse()?, "2001:db8:203::/64".parse()?],
        lease_server: Some("203.0.113.1".parse()?),
    };
    let facts = Facts { wan: vec![wan], ..Facts::default() };
    policy::compose(&stance, &settings, &facts).context("no policy")
}

/// A router between two wires.
pub struct Row {
    pub client: Netns,
    pub router: Netns,
    pub far: Netns,
}

impl Row {
    /// # Errors
    /// When the kernel or `ip` refuses something.
    pub fn build() -> Result<Self> {
        let row =
            Self { client: Netns::new("client")?, router: Netns::new("router")?, far: Netns::new("far")? };
        let mac = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        let router = &row.router;
        for path in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            router.sysctl(path, "1")?;
        }
        // The ends have no addresses: nothing but the packets of the test is on the wires.
        for end in [&row.client, &row.far] {
            end.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        }
        router.ip(&format!(
            "link add lan0 address {lan} type veth peer name eth0 address {client_mac} netns {client}
             link add vpnd0 address {tunnel} type veth peer name eth0 address {far_mac} netns {far}
             addr add 192.168.1.1/24 dev lan0
             addr add fd00:1::1/64 dev lan0 nodad
             addr add {}/32 dev vpnd0
             addr add {}/128 dev vpnd0 nodad
             link set lan0 up
             link set vpnd0 up
             neigh replace {} lladdr {client_mac} dev lan0
             neigh replace {} lladdr {client_mac} dev lan0
             neigh replace 10.64.0.1 lladdr {far_mac} dev vpnd0
             neigh replace fd64::1 lladdr {far_mac} dev vpnd0",
            TUNNEL[0],
            TUNNEL[1],
            CLIENT[0],
            CLIENT[1],
            lan = mac(MAC_LAN),
            tunnel = mac(MAC_TUNNEL),
            client_mac = mac(MAC_CLIENT),
            far_mac = mac(MAC_FAR),
            client = row.client.path(),
            far = row.far.path(),
        ))?;
        row.client.ip("link set eth0 up")?;
        row.far.ip("link set eth0 up")?;
        router.ip("route add default via 10.64.0.1 dev vpnd0 onlink
             route add default via fd64::1 dev vpnd0 onlink")?;
        Ok(row)
    }

    /// # Errors
    /// When nft refuses the rules.
    pub fn load(&self, rules: Rules) -> Result<()> {
        if rules == Rules::Nothing {
            let chain = |device: &str| {
                format!("chain {device} {{ type filter hook ingress device {device} priority 0; drop\n}}")
            };
            return self.router.nft(&format!(
                "table netdev nothing {{\n{}\n{}\n}}\n",
                chain("lan0"),
                chain("vpnd0")
            ));
        }
        self.router.nft(MASQUERADE)?;
        if rules == Rules::Hooks {
            self.router.nft(&hooks(&firewall::compile(&connected(1, 0)?))?)?;
        } else if let Some(ruleset) = rules.ruleset()? {
            self.router.pipe("nft", &["-j", "-f", "-"], &ruleset.to_json()?)?;
        }
        Ok(())
    }

    /// The packets of one family in both directions, as frames.
    fn volleys(&self, family: usize) -> Result<[Volley; 2]> {
        let address = |text: &str| -> Result<IpAddr> { Ok(text.parse()?) };
        let (client, far, tunnel) =
            (address(CLIENT[family])?, address(FAR[family])?, address(TUNNEL[family])?);
        let kind = [0x0800, 0x86dd][family];
        let frames = |from: IpAddr, to: IpAddr, macs: [[u8; 6]; 2], inward: bool| -> Vec<Vec<u8>> {
            (0..FLOWS)
                .map(|n| {
                    let (local, remote) = (20_000 + n, 30_000);
                    let (from_port, to_port) = if inward { (remote, local) } else { (local, remote) };
                    let marker = Marker { kind: Kind::LanFlood, id: u32::from(n), seq: 0 };
                    let packet = Packet::new(from, to, Body::Udp { from: from_port, to: to_port });
                    ethernet(macs[0], macs[1], kind, &packet.bytes(marker))
                })
                .collect()
        };
        let out = frames(client, far, [MAC_LAN, MAC_CLIENT], false);
        let back = frames(far, tunnel, [MAC_TUNNEL, MAC_FAR], true);
        Ok([Volley::new(&self.client, "eth0", out)?, Volley::new(&self.far, "eth0", back)?])
    }

    /// Packets that came out of the router, at the client's end and at the far one.
    fn arrived(&self) -> Result<u64> {
        Ok(received(&self.client)? + received(&self.far)?)
    }
}

/// The ruleset's base chains, without a rule and with nothing dropped.
fn hooks(ruleset: &Ruleset) -> Result<String> {
    let mut text = String::from("table inet hooks {\n");
    for chain in ruleset.chains() {
        let (Some(kind), Some(hook), Some(priority)) = (chain._type, chain.hook, chain.prio) else {
            continue;
        };
        let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, hook) = (word(serde_json::to_value(kind)?), word(serde_json::to_value(hook)?));
        writeln!(
            text,
            "chain {} {{ type {kind} hook {hook} priority {priority}; policy accept; }}",
            chain.name
        )?;
    }
    text.push('}');
    Ok(text)
}

/// Packets that `eth0` of a namespace received.
fn received(ns: &Netns) -> Result<u64> {
    let text = ns.enter(|| Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("no eth0")?;
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).context("no count of packets")
}

/// A row with its rules, and packets of flows that are established.
struct Lane {
    rules: Rules,
    row: Row,
    volleys: Vec<Volley>,
}

impl Lane {
    fn build(rules: Rules) -> Result<Self> {
        let row = Row::build()?;
        row.load(rules)?;
        let mut volleys = Vec::new();
        for family in 0..2 {
            volleys.extend(row.volleys(family)?);
        }
        let mut lane = Self { rules, row, volleys };
        // There and back, twice: after that, every flow has seen its answer.
        for _ in 0..2 {
            for volley in &mut lane.volleys {
                volley.send(FLOWS.into())?;
            }
        }
        Ok(lane)
    }

    /// Nanoseconds a packet, over all four volleys.
    fn measure(&mut self) -> Result<f64> {
        let before = self.row.arrived()?;
        let (mut took, mut sent) = (0.0, 0);
        for volley in &mut self.volleys {
            took += volley.send(PACKETS)?;
            sent += PACKETS;
        }
        let arrived = self.row.arrived()? - before;
        let wanted = if self.rules == Rules::Nothing { 0 } else { sent as u64 };
        if !(wanted..wanted + STRAYS).contains(&arrived) {
            bail!("{}: {arrived} of {sent} packets came out of the router", self.rules.words());
        }
        Ok(took / sent as f64)
    }
}

/// Measures and prints, and counts rules; true unless they are too many.
///
/// # Errors
/// When the kernel, `ip` or `nft` refuses something, or packets were lost.
pub fn run(seed: u64) -> Result<bool> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut lanes = Rules::ALL.into_iter().map(Lane::build).collect::<Result<Vec<_>>>()?;
    let mut pairs = Pairs::new(lanes.len());
    crate::volley::stay_here()?;
    // The first round warms caches and is not counted.
    for round in 0..=ROUNDS {
        let mut order: Vec<usize> = (0..lanes.len()).collect();
        random.shuffle(&mut order);
        let mut took = vec![0.0; lanes.len()];
        for at in order {
            took[at] = lanes[at].measure()?;
        }
        if round > 0 {
            pairs.add(&took);
        }
    }
    println!(
        "{ROUNDS} rounds of {} packets each, IPv4 and IPv6, both ways, {FLOWS} established flows.\n",
        4 * PACKETS
    );
    print_table(&pairs, &Rules::ALL.map(Rules::words));
    println!();
    Ok(crate::suite::run(tests()))
}

/// How many rules a packet passes.
#[must_use]
pub fn tests() -> Vec<Test> {
    [Rules::Vpnd, Rules::VpndLarge]
        .map(|rules| {
            Test::new(format!("rules that an established packet passes: {}", rules.words()), move || {
                passed(rules)
            })
        })
        .into()
}

/// Counts for each direction and family the rules that nft's trace names, and those that the
/// packet was held against: a trace leaves out the rules that did not match.
fn passed(rules: Rules) -> Result<String> {
    let mut lane = Lane::build(rules)?;
    let ruleset = rules.ruleset()?.context("no rules of vpnd's")?;
    lane.row.router.pipe("nft", &["-j", "-f", "-"], &counted::to_json(&ruleset)?)?;
    let Lane { row, volleys, .. } = &mut lane;
    let mut said = Vec::new();
    for (volley, what) in volleys.iter().zip(DIRECTIONS) {
        let traced = trace::rules_passed(&row.router, || volley.one())?.len();
        let held = held_against(&row.router, &ruleset, volley)?;
        if traced == 0 || held.len() < traced {
            bail!("{what}: {traced} rules traced and {} counted: the packet was not seen", held.len());
        }
        if traced > MOST_RULES || held.len() > MOST_HELD {
            bail!(
                "{what}: {traced} rules matched (at most {MOST_RULES}) of {} (at most {MOST_HELD}): {}",
                held.len(),
                held.join("; ")
            );
        }
        said.push(format!("{what} {traced} of {}", held.len()));
    }
    Ok(said.join(", "))
}

/// The comments of the rules that one packet is held against. The router may say something itself
/// meanwhile (neighbour discovery), which only adds to them: the least of some tries counts.
fn held_against(router: &Netns, ruleset: &Ruleset, volley: &Volley) -> Result<Vec<String>> {
    let mut least: Option<Vec<String>> = None;
    let mut before = counted::read(router, ruleset)?;
    for _ in 0..TRIES {
        volley.one()?;
        let after = counted::read(router, ruleset)?;
        let rules = before.iter().zip(&after).zip(ruleset.rules());
        let held: Vec<String> = rules
            .filter(|((before, after), _)| before.looked_at != after.looked_at)
            .map(|(_, rule)| rule.comment.as_deref().unwrap_or_default().to_owned())
            .collect();
        if held.len() <= MOST_HELD && !held.is_empty() {
            return Ok(held);
        }
        if least.as_ref().is_none_or(|least| held.len() < least.len()) {
            least = Some(held);
        }
        before = after;
    }
    least.context("no try")
}

const DIRECTIONS: [&str; 4] =
    ["LAN to tunnel, IPv4", "tunnel to LAN, IPv4", "LAN to tunnel, IPv6", "tunnel to LAN, IPv6"];
