//! Packets made for a rule: such that all its matches hold, or all but one, by a neighbouring value.
//! What comes of them is said by the evaluator; a packet that misses its aim does no harm.

use std::net::IpAddr;

use fastrand::Rng;
use ipnet::IpNet;
use serde_json::Value;
use vpnd::firewall::Ruleset;
use vpnd::firewall::evaluate::Step;

use super::place::DEVICES;
use super::pool::{End, Open, host, later, plain};
use super::shot::{ACK, Origin, SYN, Shot, TCP};

/// A rule's chain and statements, as nft's JSON has them.
pub struct Target {
    chain: String,
    statements: Vec<Value>,
}

#[must_use]
pub fn targets(ruleset: &Ruleset) -> Vec<Target> {
    let rules = ruleset.rules().iter();
    rules
        .map(|rule| Target {
            chain: rule.chain.clone().into_owned(),
            statements: rule.expr.iter().map(|s| serde_json::to_value(s).unwrap_or_default()).collect(),
        })
        .collect()
}

const LAN: [&str; 3] = ["br-lan", "br-guest", "eth7"];
const FORWARDING: [&str; 2] = ["br-lan", "br-guest"];
const WAN: [&str; 2] = ["wan", "usb0"];

/// From where to where packets go that come into this chain.
fn way(chain: &str, random: &mut Rng) -> (End, End) {
    let mut one = |names: &[&'static str]| End::Device(names[random.usize(..names.len())]);
    let (lan, forwarding, wan) = (one(&LAN), one(&FORWARDING), one(&WAN));
    let (other, tunnel, group) = (one(&FORWARDING), End::Device("vpnd0"), one(&["vpnd0", "vpnd1"]));
    let any = one(&DEVICES.each_ref().map(|device| device.name));
    let choose = |options: &[(End, End)], random: &mut Rng| options[random.usize(..options.len())];
    match chain.trim_end_matches("_dns") {
        "arriving_from_lan" => choose(&[(lan, End::Router), (lan, tunnel), (lan, wan)], random),
        "prerouting" => choose(&[(lan, tunnel), (lan, wan)], random),
        "arriving_from_wan" => choose(&[(wan, End::Router), (wan, lan)], random),
        "lan_to_router" => (lan, End::Router),
        "tunnel_to_router" | "dstnat" => (tunnel, End::Router),
        "wan_to_router" => (wan, End::Router),
        "router_to_lan" => (End::Router, lan),
        "router_to_tunnel" => (End::Router, tunnel),
        "router_to_wan" | "output_raw" | "output_mark" => (End::Router, wan),
        "output" | "refuse_router" => {
            choose(&[(End::Router, any), (End::Router, wan), (End::Router, group)], random)
        }
        "foreign_source" | "postrouting_late" => choose(
            &[
                (End::Router, wan),
                (End::Router, tunnel),
                (forwarding, wan),
                (tunnel, lan),
                (forwarding, other),
            ],
            random,
        ),
        "lan_to_lan" => (forwarding, other),
        "lan_to_tunnel" | "srcnat" => choose(&[(forwarding, tunnel), (End::Router, tunnel)], random),
        "tunnel_to_lan" => (tunnel, forwarding),
        "lan_to_wan" => (forwarding, wan),
        "wan_to_lan" => (wan, forwarding),
        "leaving_by_tunnel" => choose(&[(forwarding, tunnel), (End::Router, tunnel)], random),
        "forwarded_syn" => choose(&[(forwarding, tunnel), (tunnel, forwarding)], random),
        "refuse_lan" => choose(&[(lan, wan), (lan, group), (lan, lan)], random),
        "refuse_silently" => {
            choose(&[(wan, lan), (group, lan), (group, End::Router), (wan, End::Router)], random)
        }
        "input" => (any, End::Router),
        _ => choose(&[(any, any), (any, End::Router), (any, lan)], random),
    }
}

/// Any packet.
pub fn anything(open: &[Open], random: &mut Rng) -> Shot {
    let chains = ["input", "output", "forward", "wan_to_router", "lan_to_tunnel", "router_to_wan"];
    if random.u8(..4) == 0 {
        let open = &open[random.usize(..open.len())];
        return later(if random.bool() { &open.original } else { &open.reply });
    }
    let (from, to) = way(chains[random.usize(..chains.len())], random);
    plain(from, to, random.bool(), random)
}

impl Target {
    /// The places of the matches among the statements.
    #[must_use]
    pub fn matches(&self) -> Vec<usize> {
        (0..self.statements.len()).filter(|at| self.statements[*at].get("match").is_some()).collect()
    }

    /// Those of which a neighbouring value can be made.
    #[must_use]
    pub fn operands(&self) -> Vec<usize> {
        let made = |at: &usize| {
            let left = &self.statements[*at]["match"]["left"];
            left.get("fib").is_none() && left.get("concat").is_none()
        };
        self.matches().into_iter().filter(made).collect()
    }

    #[must_use]
    pub fn leads_to(&self, chain: &str) -> bool {
        self.statements.iter().any(|s| s.to_string().contains(&format!("\"target\":\"{chain}\"")))
    }

    #[must_use]
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// Whether a packet that came as far in this rule passed its second counter (`counted`).
    #[must_use]
    pub fn counts_match(&self, step: Step) -> bool {
        let counter = self.statements.iter().position(|statement| statement.get("counter").is_some());
        let counter = counter.unwrap_or(self.statements.len().saturating_sub(1));
        step.failed.is_none_or(|failed| usize::from(failed) >= counter)
    }

    /// Whether it matches only so many in a second.
    #[must_use]
    pub fn is_rated(&self) -> bool {
        self.statements.iter().any(|statement| statement.get("limit").is_some())
    }

    /// Whether this rule decides about every packet, so that the other one, behind it, sees none.
    #[must_use]
    pub fn ends_all(&self, other: &Self) -> bool {
        let ends = |s: &Value| ["accept", "drop", "goto", "reject"].iter().any(|word| s.get(word).is_some());
        self.chain == other.chain && self.matches().is_empty() && self.statements.iter().any(ends)
    }

    /// A packet that the rule should match, but for the statement `but`.
    pub fn packet(&self, but: Option<usize>, open: &[Open], mark: u32, random: &mut Rng) -> Shot {
        let (from, to) = way(&self.chain, random);
        let v4 = self.family().unwrap_or_else(|| random.bool());
        let flow = self.connection(but, (from, to), open, mark, random);
        let mut shot = flow.clone().unwrap_or_else(|| plain(from, to, v4, random));
        if flow.is_none() && self.chain == "prerouting" && random.bool() {
            let nowhere = if shot.v4() { "198.18.99.9" } else { "2001:db8:99::9" };
            shot.destination = nowhere.parse().unwrap_or(shot.destination);
        }
        for at in self.matches() {
            let found = &self.statements[at]["match"];
            // A connection's packets are what they are.
            if flow.is_none() || is_loose(&found["left"]) {
                apply(&mut shot, found, Some(at) == but, random);
            }
        }
        self.adjust(&mut shot, but, random);
        // WAN hosts that the router is to have heard of.
        if flow.is_none() && self.statements.iter().any(|s| s.to_string().contains("spoke")) {
            let device = WAN[random.usize(..2)];
            let known = host(device, shot.v4(), &mut Rng::with_seed(random.u64(..8)));
            match &mut shot.origin {
                Origin::Device(arrives) => (*arrives, shot.source) = (device, known),
                Origin::Router { device: bound, .. } => (*bound, shot.destination) = (Some(device), known),
            }
        }
        shot
    }

    /// What the rules before this one ask for.
    fn adjust(&self, shot: &mut Shot, but: Option<usize>, random: &mut Rng) {
        let asks =
            |field: &str| self.statements.iter().any(|s| s["match"]["left"].to_string().contains(field));
        let is_link_local = |a: IpAddr| matches!(a, IpAddr::V6(a) if a.segments()[0] & 0xffc0 == 0xfe80);
        if let (Origin::Device(device), true) = (&shot.origin, is_link_local(shot.destination)) {
            let n = DEVICES.iter().position(|known| known.name == *device).unwrap_or(0) + 1;
            shot.destination = format!("fe80::ff:fe00:80{n}").parse().unwrap_or(shot.destination);
        }
        if self.chain == "router_to_lan" && !asks("daddr") && !asks("\"ct\"") && random.bool() {
            shot.destination = host("vpnd0", shot.v4(), random);
        }
        if self.chain == "leaving_by_tunnel" && but.is_some() {
            // All that conntrack can follow is masqueraded; an error about nothing that it knows is not.
            shot.protocol = if shot.v4() { 1 } else { 58 };
            shot.transport = vec![if shot.v4() { 3 } else { 1 }, 0, 0, 0, 0, 0, 0, 0];
        }
        if self.chain == "foreign_source" && shot.protocol == 58 && but.is_none_or(|but| but < 2) {
            shot.hops = if [131, 132, 143].contains(&shot.transport[0]) { 1 } else { 255 };
        }
    }

    /// Are source and destination what the rule asks for, where it does?
    fn addresses_fit(&self, shot: &Shot, but: Option<usize>) -> bool {
        self.matches().into_iter().filter(|at| Some(*at) != but).all(|at| {
            let found = &self.statements[at]["match"];
            let address = match found["left"]["payload"]["field"].as_str() {
                Some("saddr") => shot.source,
                Some("daddr") => shot.destination,
                _ => return true,
            };
            let values = found["right"]["set"].as_array().cloned().unwrap_or(vec![found["right"].clone()]);
            let within = values.iter().filter_map(net).any(|net| net.contains(&address));
            within == (found["op"] != "!=")
        })
    }

    /// Some(true): IPv4 only.
    fn family(&self) -> Option<bool> {
        let text = self.statements.iter().map(Value::to_string).collect::<String>();
        let has = |part: &str| text.contains(part);
        if has("\"ip6\"")
            || has("\"icmpv6\",\"field\"")
            || has("\"field\":\"type\",\"protocol\":\"icmpv6\"")
            || has("\"ipv6\"")
        {
            return Some(false);
        }
        let v6 = has("\"protocol\":\"icmpv6\"");
        let v4 = has("\"protocol\":\"ip\"") || has("\"protocol\":\"icmp\"") || has("\"ipv4\"") || has("igmp");
        if v6 { Some(false) } else { v4.then_some(true) }
    }

    /// Where the rule asks for conntrack's word: a packet of an open connection of which it is so.
    fn connection(
        &self,
        but: Option<usize>,
        way: (End, End),
        open: &[Open],
        mark: u32,
        random: &mut Rng,
    ) -> Option<Shot> {
        let wanted = |key: &str, value: &str| {
            self.matches().into_iter().find(|at| {
                let found = &self.statements[*at]["match"];
                found["left"].to_string().contains(&format!("\"{key}\""))
                    && found["right"].to_string().contains(value)
            })
        };
        let (state, reply) = (wanted("state", "established"), wanted("direction", "reply"));
        let (related, dnat, marked) =
            (wanted("state", "related"), wanted("status", "dnat"), wanted("mark", ""));
        let marked = marked.filter(|at| self.statements[*at]["match"]["left"].to_string().contains("\"ct\""));
        if [state, reply, related, dnat, marked].iter().all(Option::is_none)
            || (but.is_some() && [state, related].contains(&but))
        {
            return None;
        }
        let missing = |at: Option<usize>| but.is_some() && at == but;
        let ports = wanted("sport", "");
        let port = |at: usize| self.statements[at]["match"]["right"].as_u64();
        let fits = |flow: &&Open| {
            let back = related.is_some() || (reply.is_some() && !missing(reply));
            let ends = if back { (flow.to, flow.from) } else { (flow.from, flow.to) };
            let port_of = |at: usize| u64::from(flow.reply.port(0)) == port(at).unwrap_or(0);
            ends == way
                && (dnat.is_none() || flow.dnat != missing(dnat))
                && (marked.is_none() || (flow.mark == mark) != missing(marked))
                && ports.is_none_or(|at| port_of(at) != missing(Some(at)))
        };
        let back = reply.is_some() && !missing(reply);
        let packet = |flow: &Open| match (related, back) {
            (Some(_), _) => flow.original.error(flow.reply.origin.clone(), flow.original.destination),
            (None, true) => later(&flow.reply),
            (None, false) => later(&flow.original),
        };
        let fitting: Vec<Shot> =
            open.iter().filter(fits).map(packet).filter(|shot| self.addresses_fit(shot, but)).collect();
        fitting.get(random.usize(..fitting.len().max(1))).cloned()
    }
}

/// What can be changed of a connection's packet without making it another's.
fn is_loose(left: &Value) -> bool {
    let text = left.to_string();
    text.contains("oifname") || text.contains("hoplimit") || (text.contains("meta") && text.contains("mark"))
}

/// Makes the match hold, or (`near`) fail by a neighbouring value.
fn apply(shot: &mut Shot, found: &Value, near: bool, random: &mut Rng) {
    let (left, right) = (&found["left"], &found["right"]);
    let inside = (found["op"] == "!=") == near;
    let values: Vec<&Value> = match right["set"].as_array() {
        Some(values) => values.iter().collect(),
        None => vec![right],
    };
    let value = values[random.usize(..values.len())];
    let (left, mask) = match left["&"].as_array() {
        Some(parts) => (&parts[0], parts[1].as_u64()),
        None => (left, None),
    };
    if let Some(key) = left["meta"]["key"].as_str() {
        return meta(shot, key, &values, (value, mask), inside, random);
    }
    let Some(payload) = left.get("payload") else { return };
    if let (Some(offset), Some(bits)) = (payload["offset"].as_u64(), payload["len"].as_u64()) {
        return raw(shot, offset / 8, bits / 8, value, inside);
    }
    let (protocol, field) =
        (payload["protocol"].as_str().unwrap_or(""), payload["field"].as_str().unwrap_or(""));
    let number = value.as_u64();
    let next = |n: u64, random: &mut Rng| {
        if inside {
            n
        } else if random.bool() {
            n + 1
        } else {
            n.wrapping_sub(1)
        }
    };
    match (protocol, field) {
        (_, "saddr") => shot.source = addressed(shot.source, value, (inside, near), random),
        (_, "daddr") => shot.destination = addressed(shot.destination, value, (inside, near), random),
        (_, "hoplimit") => shot.hops = next(number.unwrap_or(64), random) as u8,
        ("icmp" | "icmpv6", "type") => {
            let protocol = if protocol == "icmp" { 1 } else { 58 };
            if shot.protocol != protocol {
                shot.become_protocol(protocol);
                shot.transport.fill(0);
            }
            shot.transport[0] = next(number.or_else(|| icmp_type(value)).unwrap_or(0), random) as u8;
            shot.transport[1] = 0;
        }
        ("icmpv6", "code") => shot.transport[1] = next(number.unwrap_or(0), random) as u8,
        ("tcp", "flags") => {
            shot.become_protocol(TCP);
            shot.transport[13] = if inside { SYN } else { [ACK, SYN | 4, 4][random.usize(..3)] };
        }
        (_, "sport" | "dport") => {
            match protocol {
                "tcp" => shot.become_protocol(TCP),
                "udp" => shot.become_protocol(17),
                _ => {}
            }
            let at = if field == "sport" { 0 } else { 2 };
            shot.set_port(at, next(number.unwrap_or(0), random) as u16);
        }
        _ => {}
    }
}

fn icmp_type(value: &Value) -> Option<u64> {
    Some(match value.as_str()? {
        "destination-unreachable" => 1,
        "packet-too-big" => 2,
        _ => return None,
    })
}

fn meta(
    shot: &mut Shot,
    key: &str,
    values: &[&Value],
    (value, mask): (&Value, Option<u64>),
    inside: bool,
    random: &mut Rng,
) {
    let number = value.as_u64().unwrap_or(0);
    match key {
        "iifname" | "oifname" => {
            let named = |device: &&super::place::Device| {
                values.iter().any(|v| v.as_str() == Some(device.name)) == inside
            };
            let fitting: Vec<_> = DEVICES.iter().filter(named).collect();
            let Some(device) = fitting.get(random.usize(..fitting.len().max(1))) else { return };
            match &mut shot.origin {
                Origin::Device(arrives) if key == "iifname" => *arrives = device.name,
                Origin::Router { device: bound, .. } if key == "oifname" => *bound = Some(device.name),
                _ if key == "oifname" => shot.destination = host(device.name, shot.v4(), random),
                _ => {}
            }
        }
        "l4proto" => {
            let wanted = value.as_u64().unwrap_or(17) as u8;
            shot.become_protocol(if inside { wanted } else { [132, 17, 6, 1, 58, 2][random.usize(..6)] });
        }
        "mark" => {
            if let Origin::Router { mark, .. } = &mut shot.origin {
                let mask = mask.unwrap_or(0xffff_ffff) as u32;
                let bit = mask & mask.wrapping_neg();
                // Few of them: there is a socket for each.
                let other = [0, u32::MAX][random.usize(..2)] & !mask;
                *mark = other | if inside { number as u32 } else { number as u32 ^ bit };
            }
        }
        _ => {}
    }
}

/// Bytes of the transport header.
fn raw(shot: &mut Shot, at: u64, length: u64, value: &Value, inside: bool) {
    let number = match value.as_str() {
        Some(text) => u128::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0),
        None => value.as_u64().unwrap_or(0).into(),
    };
    let (at, length) = (at as usize, length as usize);
    if shot.transport.len() < 64 {
        shot.transport.resize(64, 0);
    }
    let bytes = number.to_be_bytes();
    shot.transport[at..at + length].copy_from_slice(&bytes[16 - length..]);
    if !inside {
        // The least bit that a mask can hold: IPv6's version is the upper half of a byte.
        shot.transport[at + length - 1] ^= if length == 1 && number == 0x60 { 0x10 } else { 1 };
    }
}

fn net(value: &Value) -> Option<IpNet> {
    match value.get("prefix") {
        Some(prefix) => {
            let (addr, len) = (prefix["addr"].as_str()?, prefix["len"].as_u64()?);
            format!("{addr}/{len}").parse().ok()
        }
        None => value.as_str()?.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

/// An address within, or the one just beside.
fn addressed(now: IpAddr, value: &Value, (inside, near): (bool, bool), random: &mut Rng) -> IpAddr {
    let Some(net) = net(value).filter(|net| net.addr().is_ipv4() == now.is_ipv4()) else { return now };
    if (inside || !near) && net.contains(&now) == inside {
        return now;
    }
    // The groups that the router listens to.
    let groups = ["239.35.1.1", "ff3e::1"].iter().filter_map(|text| text.parse().ok());
    let group = groups.filter(|group: &IpAddr| inside && net.contains(group)).find(|_| random.bool());
    if let Some(group) = group {
        return group;
    }
    let number = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => u128::from(addr.to_bits()),
        IpAddr::V6(addr) => addr.to_bits(),
    };
    let (first, last) = (number(net.network()), number(net.broadcast()));
    let wanted = match (inside, random.bool()) {
        (true, _) => first + u128::from(random.u32(..)) % (last - first).saturating_add(1).max(1),
        (false, true) => first.wrapping_sub(1),
        (false, false) => last.wrapping_add(1),
    };
    match now {
        IpAddr::V4(_) => IpAddr::V4((wanted as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(wanted.into()),
    }
}
