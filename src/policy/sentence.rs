//! A policy in sentences for people: what `vpnd generations` keeps and `vpnd diff` compares.

use std::fmt::Write;

use ipnet::IpNet;

use crate::config::IfName;

use super::clause::{Action, Clause, Family, Match, Proto};
use super::compose::Policy;
use super::row::Row;

/// What a sentence is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Passes,
    /// Stopped although another sentence would let it pass.
    Stops,
    /// Neither: how it is done.
    Holds,
}

/// One sentence on one way; `items` are the prefixes or devices at its end, where it names any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    pub row: Row,
    pub kind: Kind,
    pub what: String,
    /// From where to where; empty where that is not the point.
    pub way: String,
    pub details: String,
    /// With a space between two: of thousands, one text is far smaller.
    pub items: String,
}

impl Sentence {
    fn holds(row: Row, what: &str, items: String) -> Self {
        let (way, details) = (String::new(), String::new());
        Self { row, kind: Kind::Holds, what: what.to_owned(), way, details, items }
    }

    /// Whether the two differ in their items at the most.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.row == other.row
            && self.kind == other.kind
            && self.what == other.what
            && self.way == other.way
            && self.details == other.details
    }

    /// In words, but for the items.
    #[must_use]
    pub fn words(&self) -> String {
        let mut out = self.what.clone();
        if !self.way.is_empty() {
            out = format!("{out} ({})", self.way);
        }
        if !self.details.is_empty() {
            out = format!("{out}: {}", self.details);
        }
        out
    }
}

/// From so many bytes on, a list that stands in several sentences is written once.
const SHARED: usize = 64;

/// A policy's sentences: none that says what another says, in the policy's own order.
#[must_use]
pub fn sentences(policy: &Policy) -> Vec<Sentence> {
    let mut out = zones(policy);
    for clause in policy.clauses() {
        let sentence = of_clause(clause);
        match out.iter_mut().find(|known| known.says_the_same(&sentence)) {
            Some(known) => {
                known.items.push(' ');
                known.items.push_str(&sentence.items);
            }
            None => out.push(sentence),
        }
    }
    out
}

/// Sentences that differ in their way alone, as one that names all of the ways.
#[must_use]
pub fn over_all_ways(sentences: Vec<Sentence>) -> Vec<Sentence> {
    let mut out: Vec<Sentence> = Vec::new();
    for sentence in sentences {
        let twin = out.iter_mut().find(|known| {
            known.row == sentence.row
                && known.kind == sentence.kind
                && known.what == sentence.what
                && known.details == sentence.details
                && known.items == sentence.items
        });
        match twin {
            Some(known) => known.way = format!("{}, {}", known.way, sentence.way),
            None => out.push(sentence),
        }
    }
    out
}

fn zones(policy: &Policy) -> Vec<Sentence> {
    let zones = policy.zones();
    let named = |devices: Vec<IfName>| spaced(&devices, IfName::to_string);
    let unfit = zones.lan.iter().filter(|zone| !zone.forward).map(|zone| zone.device.clone()).collect();
    let families = spaced(policy.unrouted(), |family| word(*family).to_owned());
    [
        Sentence::holds(Row::LanSide, "LAN devices:", named(zones.lan_devices())),
        Sentence::holds(Row::LanSide, "LAN devices that nothing is forwarded for:", named(unfit)),
        Sentence::holds(
            Row::IntoTunnel,
            "the tunnel's device:",
            named(zones.tunnel.iter().cloned().collect()),
        ),
        Sentence::holds(Row::Default, "refused to the LAN at once, as no tunnel carries it:", families),
    ]
    .into_iter()
    .filter(|sentence| !sentence.items.is_empty())
    .collect()
}

fn of_clause(clause: &Clause) -> Sentence {
    let kind = match clause.action {
        Action::Allow | Action::AllowAndMarkFlow(_) => Kind::Passes,
        Action::Drop | Action::Refuse => Kind::Stops,
        _ => Kind::Holds,
    };
    // The list that the sentence ends with: destinations before sources.
    let list = clause.matches.iter().find(|m| matches!(m, Match::To(_)));
    let list = list.or_else(|| clause.matches.iter().find(|m| matches!(m, Match::From(_))));
    let rest = clause.matches.iter().filter(|m| list.is_none_or(|list| !std::ptr::eq(*m, list)));
    let mut details: Vec<String> = rest.map(condition).collect();
    match &clause.action {
        Action::SendTo(to) => details.push(format!("handed on to {to}")),
        Action::Remember(family) => details.push(word(*family).to_owned()),
        Action::SetMark(mark) | Action::AllowAndMarkFlow(mark) | Action::MarkAndUntrack(mark) => {
            details.push(format!("mark 0x{:x} is set", mark.value()));
        }
        _ => {}
    }
    let items = match list {
        Some(Match::To(nets)) => {
            details.push("to".to_owned());
            spaced(nets, net)
        }
        Some(Match::From(nets)) => {
            details.push("from".to_owned());
            spaced(nets, net)
        }
        _ => String::new(),
    };
    let (what, way) = (clause.what.to_owned(), clause.way.words().to_owned());
    Sentence { row: clause.row, kind, what, way, details: details.join(", "), items }
}

fn word(family: Family) -> &'static str {
    if family == Family::V4 { "IPv4" } else { "IPv6" }
}

/// A host without its prefix length.
fn net(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

fn spaced<T>(all: &[T], text: impl Fn(&T) -> String) -> String {
    let mut out = String::new();
    for one in all {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&text(one));
    }
    out
}

fn listed<T>(before: &str, all: &[T], text: impl Fn(&T) -> String) -> String {
    let all: Vec<String> = all.iter().map(text).collect();
    format!("{before} {}", all.join(" or "))
}

fn condition(found: &Match) -> String {
    let port = |proto: &Proto, side: &str, port: &u16| match proto {
        // Said by a match of its own.
        Proto::TcpOrUdp => format!("{side} port {port}"),
        other => format!("{} {side} port {port}", protocol(*other)),
    };
    match found {
        Match::Family(family) => word(*family).to_owned(),
        Match::In(devices) => listed("arriving by", devices, IfName::to_string),
        Match::Out(devices) => listed("leaving by", devices, IfName::to_string),
        Match::From(nets) => listed("from", nets, net),
        Match::To(nets) => listed("to", nets, net),
        Match::NotTo(nets) => listed("not to", nets, net),
        Match::Proto(proto) => protocol(*proto).to_owned(),
        Match::SourcePort(proto, number) => port(proto, "from", number),
        Match::DestPort(proto, number) => port(proto, "to", number),
        Match::Icmp(types) => listed("ICMP type", types, u8::to_string),
        Match::Icmpv6(types) => listed("ICMPv6 type", types, u8::to_string),
        Match::Icmpv6Code0 => "code 0".to_owned(),
        Match::HopLimit(limit) => format!("hop limit {limit}"),
        Match::Marked(mark) => format!("marked 0x{:x}", mark.value()),
        Match::FlowMarked(mark) => format!("of a flow marked 0x{:x}", mark.value()),
        Match::Reply => "answers only".to_owned(),
        Match::Established => "of a known flow".to_owned(),
        Match::Related => "about a known flow".to_owned(),
        Match::Translated => "handed on by a port forward".to_owned(),
        Match::Quotes(quoted) => {
            let proto = protocol(quoted.proto.into());
            let from = quoted.source_port.map_or(String::new(), |port| format!(" from port {port}"));
            format!("about {proto}{from} to {}", quoted.to)
        }
        Match::SpokeFirst(family) => format!("{} to who spoke first on that device", word(*family)),
    }
}

fn protocol(proto: Proto) -> &'static str {
    match proto {
        Proto::Tcp => "TCP",
        Proto::Udp => "UDP",
        Proto::TcpOrUdp => "TCP or UDP",
        Proto::Igmp => "IGMP",
        Proto::AnyIcmp => "ICMP",
    }
}

/// One line each: row, kind, what, way, details, items; a list that an earlier line has is named by that line.
#[must_use]
pub fn write(sentences: &[Sentence]) -> String {
    let mut out = String::new();
    for (at, sentence) in sentences.iter().enumerate() {
        let kind = match sentence.kind {
            Kind::Passes => '+',
            Kind::Stops => '-',
            Kind::Holds => '=',
        };
        let _ = write!(out, "{}\t{kind}\t", sentence.row.number());
        let _ = write!(out, "{}\t{}\t{}\t", sentence.what, sentence.way, sentence.details);
        let shared = (sentence.items.len() >= SHARED)
            .then(|| sentences.iter().take(at).position(|before| before.items == sentence.items))
            .flatten();
        match shared {
            Some(line) => {
                let _ = write!(out, "={line}");
            }
            None => out.push_str(&sentence.items),
        }
        out.push('\n');
    }
    out
}

/// The other way round. None: it is damaged.
#[must_use]
pub fn read(text: &str) -> Option<Vec<Sentence>> {
    let mut out: Vec<Sentence> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (number, kind) = (fields.next()?, fields.next()?);
        let mut text = || fields.next().map(str::to_owned);
        let (what, way, details) = (text()?, text()?, text()?);
        let items = fields.next()?;
        let row = Row::of_number(number)?;
        let kind = match kind {
            "+" => Kind::Passes,
            "-" => Kind::Stops,
            "=" => Kind::Holds,
            _ => return None,
        };
        let items = match items.strip_prefix('=') {
            Some(line) => out.get(line.parse::<usize>().ok()?)?.items.clone(),
            None => items.to_owned(),
        };
        out.push(Sentence { row, kind, what, way, details, items });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mark;
    use crate::policy::clause::Quoted;
    use crate::policy::{Way, compose, samples};

    fn all() -> Vec<(&'static str, Vec<Sentence>)> {
        let of = |case: samples::Case| {
            (case.name, sentences(&compose(&case.stance, &case.settings, &case.facts).unwrap()))
        };
        samples::cases().into_iter().map(of).collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (name, sentences) in all() {
            assert!(sentences.len() > 10, "{name}");
            assert_eq!(read(&write(&sentences)).as_ref(), Some(&sentences), "{name}");
        }
        assert_eq!(read(""), Some(Vec::new()));
        for damaged in [
            "2.8",
            "9.9\t+\tx\ty\tz\t",
            "2.8\t?\tx\ty\tz\t",
            "2.8\t+\tx\ty\tz",
            "2.8\t+\tx\ty\tz\t=0",
            "2.8\t+\tx\ty\tz\t=x",
        ] {
            assert_eq!(read(damaged), None, "{damaged}");
        }
    }

    fn said(clause: &Clause) -> String {
        let sentence = of_clause(clause);
        format!("{:?} {} {}", sentence.kind, sentence.words(), sentence.items)
    }

    /// The same condition with another operand.
    fn other(found: &Match) -> Match {
        let mark = |mark: &Mark| Mark::new(mark.value() ^ 0x0003_0000, u32::MAX).unwrap();
        let family = |family: &Family| if *family == Family::V4 { Family::V6 } else { Family::V4 };
        let nets = |nets: &[IpNet]| [nets, &["192.0.2.0/25".parse().unwrap()]].concat();
        let proto = |proto: &Proto| if *proto == Proto::Tcp { Proto::Udp } else { Proto::Tcp };
        match found {
            Match::Family(f) => Match::Family(family(f)),
            Match::In(_) => Match::In(vec!["eth9".parse().unwrap()]),
            Match::Out(_) => Match::Out(vec!["eth9".parse().unwrap()]),
            Match::From(list) => Match::From(nets(list)),
            Match::To(list) => Match::To(nets(list)),
            Match::NotTo(list) => Match::NotTo(nets(list)),
            Match::Proto(p) => Match::Proto(proto(p)),
            Match::SourcePort(p, port) => Match::SourcePort(*p, port + 1),
            Match::DestPort(p, port) => Match::DestPort(*p, port + 1),
            Match::Icmp(_) => Match::Icmp(&[77]),
            Match::Icmpv6(_) => Match::Icmpv6(&[77]),
            Match::HopLimit(limit) => Match::HopLimit(limit - 1),
            Match::Marked(m) => Match::Marked(mark(m)),
            Match::FlowMarked(m) => Match::FlowMarked(mark(m)),
            Match::Quotes(quoted) => Match::Quotes(Quoted { source_port: Some(1), ..*quoted }),
            Match::SpokeFirst(f) => Match::SpokeFirst(family(f)),
            // Without an operand: another condition.
            Match::Reply => Match::Established,
            Match::Icmpv6Code0 | Match::Established | Match::Related | Match::Translated => Match::Reply,
        }
    }

    /// Nothing that tells clauses apart may get lost: equal sentences are equal policies.
    #[test]
    fn a_clause_that_changes_in_any_operand_changes_its_sentence() {
        let mut matches = 0;
        for case in samples::cases() {
            let policy = compose(&case.stance, &case.settings, &case.facts).unwrap();
            let mut seen: Vec<(&Clause, String)> = Vec::new();
            for clause in policy.clauses() {
                let words = said(clause);
                let twin = seen.iter().find(|(other, known)| *known == words && *other != clause);
                assert!(twin.is_none(), "{}: {words}: {twin:?}", case.name);
                for at in 0..clause.matches.len() {
                    let mut changed = clause.clone();
                    changed.matches[at] = other(&clause.matches[at]);
                    assert_ne!(said(&changed), words, "{:?}", clause.matches[at]);
                    changed = clause.clone();
                    changed.matches.remove(at);
                    assert_ne!(said(&changed), words, "without {:?}", clause.matches[at]);
                    matches += 1;
                }
                let moved = clause.way == Way::LanToWan;
                let way = if moved { Way::WanToLan } else { Way::LanToWan };
                assert_ne!(said(&Clause { way, ..clause.clone() }), words);
                seen.push((clause, words));
            }
        }
        assert!(matches > 1000, "{matches}");
    }

    #[test]
    fn a_long_list_is_written_once() {
        let mut settings = samples::plain();
        settings.allow_wan_private = (0..5000_u32)
            .map(|n| IpNet::new((0x0a00_0000 + n * 512).to_be_bytes().into(), 24).unwrap())
            .collect();
        let stance = crate::policy::Stance::Blocked { api: true };
        let policy = compose(&stance, &settings, &samples::plain_facts()).unwrap();
        let sentences = sentences(&policy);
        let lists = sentences.iter().filter(|sentence| sentence.items.split(' ').count() == 5000).count();
        assert!(lists >= 3, "{lists}");
        let written = write(&sentences);
        assert!(written.len() < 5000 * 14 + 10_000, "{}", written.len());
        assert_eq!(read(&written), Some(sentences));
    }
}
