//! A clause of the policy as rules of the guard and of the egress hook. Pure.
//!
//! Both look at packets when all is done to them: what source NAT may have changed is not asked
//! for again. Lists become several rules, as sets are not worth their messages here.

use ipnet::IpNet;

use crate::config::{IfName, Mark};
use crate::policy::{Action, Clause, Family, Match, Proto};

use super::table::{Expr, Key, Rule, Verdict};

/// `enum nft_meta_keys`.
const META_PROTOCOL: u32 = 1;
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
/// `enum nft_ct_keys`.
const CT_DIRECTION: u32 = 1;
const CT_MARK: u32 = 3;

/// What kind of table the rules are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Postrouting: there is conntrack, and the device that a packet came in by.
    Postrouting,
    /// The egress hook: there is neither (nft_ct has no netdev family).
    Egress,
}

/// One way in which a list of matches can hold.
pub(super) type Expressions = Vec<Expr>;

pub fn accepts(mut exprs: Vec<Expr>, comment: &str) -> Rule {
    exprs.push(Expr::End(Verdict::Accept));
    Rule { exprs, comment: comment.to_owned() }
}

/// Drops are counted.
pub fn drops(mut exprs: Vec<Expr>, comment: &str) -> Rule {
    exprs.extend([Expr::Counter, Expr::End(Verdict::Drop)]);
    Rule { exprs, comment: comment.to_owned() }
}

pub fn leads_to(mut exprs: Vec<Expr>, chain: &'static str, comment: &str) -> Rule {
    exprs.push(Expr::End(Verdict::Goto(chain)));
    Rule { exprs, comment: comment.to_owned() }
}

pub fn leaves_by(device: &IfName) -> Vec<Expr> {
    meta(META_OIFNAME, whole(device))
}

/// At postrouting the kernel tells the device that a forwarded packet came in by (Linux 5.7). What it
/// tells of the router's own is not always nothing: neighbour discovery has the one it leaves by.
pub fn arrives_by(device: &IfName) -> Vec<Expr> {
    meta(META_IIFNAME, whole(device))
}

/// The whole name, with its end.
fn whole(device: &IfName) -> Vec<u8> {
    let mut name = device.as_str().as_bytes().to_vec();
    name.resize(libc::IF_NAMESIZE, 0);
    name
}

/// By the packet's mark.
pub fn marked(mark: Mark) -> Vec<Expr> {
    masked(Key::Meta(META_MARK), mark)
}

pub fn of_type(ether_type: u16) -> Vec<Expr> {
    meta(META_PROTOCOL, ether_type.to_be_bytes().to_vec())
}

/// Bytes of the header behind the Ethernet header.
pub fn has(at: u32, value: &[u8]) -> Vec<Expr> {
    vec![Expr::Load(Key::Network { at, length: value.len() as u32 }), Expr::Is(value.to_vec())]
}

fn meta(key: u32, value: Vec<u8>) -> Vec<Expr> {
    vec![Expr::Load(Key::Meta(key)), Expr::Is(value)]
}

/// Marks are the machine's own numbers.
fn masked(key: Key, mark: Mark) -> Vec<Expr> {
    let mut exprs = vec![Expr::Load(key)];
    if mark.mask() != u32::MAX {
        exprs.push(Expr::Mask(mark.mask().to_ne_bytes().to_vec()));
    }
    exprs.push(Expr::Is(mark.value().to_ne_bytes().to_vec()));
    exprs
}

/// The rules of a clause that allows or refuses.
pub fn rules(clause: &Clause, place: Place) -> Vec<Rule> {
    let allows = clause.action == Action::Allow;
    // A service answers from whatever port it was asked on, before any translation.
    let service = clause.matches.iter().any(|condition| matches!(condition, Match::FlowMarked(_)));
    let mut ways: Vec<Expressions> = vec![family(clause, place).unwrap_or_default()];
    for condition in &clause.matches {
        if service && !matches!(condition, Match::FlowMarked(_) | Match::Reply) {
            continue;
        }
        match said(condition, place) {
            Some(more) => {
                let both = |way: &Expressions| {
                    more.iter().map(|further| [way.as_slice(), further].concat()).collect::<Vec<_>>()
                };
                ways = ways.iter().flat_map(both).collect();
            }
            // What cannot be asked for here must not make an exception too narrow, nor a refusal
            // too wide.
            None if allows => {}
            None => return Vec::new(),
        }
    }
    let comment = format!("{} {}", clause.row.number(), clause.what);
    let finish = if allows { accepts } else { drops };
    ways.into_iter().map(|exprs| finish(exprs, &comment)).collect()
}

/// Which family its matches are about, ahead of whatever looks into the header.
fn family(clause: &Clause, place: Place) -> Option<Expressions> {
    let of = |condition: &Match| match condition {
        Match::Family(family) => Some(*family),
        Match::From(nets) | Match::To(nets) | Match::NotTo(nets) => {
            nets.first().map(|net| Family::of(net.addr()))
        }
        Match::Icmpv6(_) | Match::HopLimit(_) => Some(Family::V6),
        _ => None,
    };
    let family = clause.matches.iter().find_map(of)?;
    Some(match (place, family) {
        (Place::Egress, Family::V4) => of_type(libc::ETH_P_IP as u16),
        (Place::Egress, Family::V6) => of_type(libc::ETH_P_IPV6 as u16),
        (Place::Postrouting, Family::V4) => meta(META_NFPROTO, vec![libc::NFPROTO_IPV4 as u8]),
        (Place::Postrouting, Family::V6) => meta(META_NFPROTO, vec![libc::NFPROTO_IPV6 as u8]),
    })
}

/// The ways in which a condition holds; None: cannot be said here.
pub(super) fn said(condition: &Match, place: Place) -> Option<Vec<Expressions>> {
    let tracked = place == Place::Postrouting;
    Some(match condition {
        // Asked for first.
        Match::Family(_) => vec![Vec::new()],
        Match::Out(devices) => devices.iter().map(leaves_by).collect(),
        Match::From(nets) => nets.iter().map(|net| prefix(net, true, Expr::Is)).collect(),
        Match::To(nets) => nets.iter().map(|net| prefix(net, false, Expr::Is)).collect(),
        Match::NotTo(nets) => vec![nets.iter().flat_map(|net| prefix(net, false, Expr::IsNot)).collect()],
        Match::Proto(proto) => transport(*proto),
        Match::SourcePort(proto, port) => at_port(*proto, 0, *port),
        Match::DestPort(proto, port) => at_port(*proto, 2, *port),
        Match::Icmpv6(types) => {
            types.iter().map(|kind| [protocol(58), header(0, vec![*kind])].concat()).collect()
        }
        Match::Icmpv6Code0 => vec![header(1, vec![0])],
        Match::HopLimit(limit) => vec![has(7, &[*limit])],
        Match::Marked(mark) => vec![marked(*mark)],
        Match::FlowMarked(mark) if tracked => vec![masked(Key::Ct(CT_MARK), *mark)],
        // The answers' own mark is restored from the flow's (row 2.9).
        Match::FlowMarked(mark) => vec![marked(*mark)],
        Match::Reply if tracked => vec![vec![Expr::Load(Key::Ct(CT_DIRECTION)), Expr::Is(vec![1])]],
        Match::Reply
        | Match::In(_)
        | Match::Icmp(_)
        | Match::Established
        | Match::Related
        | Match::Translated
        | Match::Quotes(_)
        | Match::SpokeFirst(_) => return None,
    })
}

/// RFC 791 and RFC 8200: where the addresses are.
fn prefix(net: &IpNet, source: bool, compare: fn(Vec<u8>) -> Expr) -> Expressions {
    let (at, bytes) = match net {
        IpNet::V4(net) => (if source { 12 } else { 16 }, net.network().octets().to_vec()),
        IpNet::V6(net) => (if source { 8 } else { 24 }, net.network().octets().to_vec()),
    };
    let mut exprs = vec![Expr::Load(Key::Network { at, length: bytes.len() as u32 })];
    if net.prefix_len() < net.max_prefix_len() {
        exprs.push(Expr::Mask(match net {
            IpNet::V4(net) => net.netmask().octets().to_vec(),
            IpNet::V6(net) => net.netmask().octets().to_vec(),
        }));
    }
    exprs.push(compare(bytes));
    exprs
}

fn protocol(number: u8) -> Expressions {
    meta(META_L4PROTO, vec![number])
}

fn transport(proto: Proto) -> Vec<Expressions> {
    match proto {
        Proto::Tcp => vec![protocol(6)],
        Proto::Udp => vec![protocol(17)],
        Proto::TcpOrUdp => vec![protocol(6), protocol(17)],
        Proto::Igmp => vec![protocol(2)],
        Proto::AnyIcmp => vec![protocol(1), protocol(58)],
    }
}

fn at_port(proto: Proto, at: u32, port: u16) -> Vec<Expressions> {
    let port = header(at, port.to_be_bytes().to_vec());
    match proto {
        // The clause says the protocol in a match of its own.
        Proto::TcpOrUdp => vec![port],
        _ => transport(proto).into_iter().map(|protocol| [protocol, port.clone()].concat()).collect(),
    }
}

/// Bytes of the transport header.
fn header(at: u32, value: Vec<u8>) -> Expressions {
    vec![Expr::Load(Key::Transport { at, length: value.len() as u32 }), Expr::Is(value)]
}
