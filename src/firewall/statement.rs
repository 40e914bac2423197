//! One clause -> one rule's statements.

use std::net::{IpAddr, SocketAddr};

use nftables::expr::{MetaKey, NamedExpression, RT, RTKey};
use nftables::stmt::{AnonymousCounter, Counter, JumpTarget, Mangle, NAT, NATFamily, Set, SetOp, Statement};

use crate::config::{Mark, PortProto};
use crate::policy::{Action, Clause, Family, Match, Proto, Quoted, Row};

use super::base;
use super::expr::{self, Expr, Stmt, has, is, is_not};

/// Numbers, not names: no /etc/protocols is needed to read them.
const TCP: u32 = 6;
const UDP: u32 = 17;
const ICMP: u32 = 1;
const IGMP: u32 = 2;
const ICMPV6: u32 = 58;

/// Matches, a counter, the action.
pub fn statements(clause: &Clause) -> Vec<Stmt> {
    let mut list: Vec<Stmt> = clause.matches.iter().flat_map(matched).collect();
    list.push(counter());
    list.extend(done(clause));
    list
}

pub fn counter() -> Stmt {
    Statement::Counter(Counter::Anonymous(Some(AnonymousCounter::default())))
}

pub fn goto(chain: &'static str) -> Stmt {
    Statement::Goto(JumpTarget { target: chain.into() })
}

pub fn protocol(number: u32) -> Stmt {
    is(expr::meta(MetaKey::L4proto), Expr::Number(number))
}

/// Is TCP: for resets.
pub fn tcp() -> Stmt {
    protocol(TCP)
}

fn matched(condition: &Match) -> Vec<Stmt> {
    match condition {
        Match::Family(family) => vec![expr::of_family(*family)],
        Match::In(devices) => vec![is(expr::meta(MetaKey::Iifname), expr::devices(devices))],
        Match::Out(devices) => vec![is(expr::meta(MetaKey::Oifname), expr::devices(devices))],
        Match::From(nets) => vec![is(address(nets, "saddr"), expr::nets(nets))],
        Match::To(nets) => vec![is(address(nets, "daddr"), expr::nets(nets))],
        Match::NotTo(nets) => vec![is_not(address(nets, "daddr"), expr::nets(nets))],
        Match::Proto(proto) => vec![transport(*proto)],
        Match::SourcePort(proto, port) => vec![port_is(*proto, "sport", *port)],
        Match::DestPort(proto, port) => vec![port_is(*proto, "dport", *port)],
        Match::Icmp(types) => vec![is(expr::field("icmp", "type"), numbers(types))],
        Match::Icmpv6(types) => vec![is(expr::field("icmpv6", "type"), numbers(types))],
        Match::Icmpv6Code0 => vec![is(expr::field("icmpv6", "code"), Expr::Number(0))],
        Match::HopLimit(limit) => {
            vec![is(expr::field("ip6", "hoplimit"), Expr::Number(u32::from(*limit)))]
        }
        Match::Marked(mark) => vec![mark_is(expr::meta(MetaKey::Mark), *mark)],
        Match::FlowMarked(mark) => vec![mark_is(expr::ct("mark"), *mark)],
        Match::Reply => vec![is(expr::ct("direction"), expr::word("reply"))],
        Match::Established => vec![has(expr::ct("state"), expr::word("established"))],
        Match::Related => vec![has(expr::ct("state"), expr::word("related"))],
        Match::Translated => vec![has(expr::ct("status"), expr::word("dnat"))],
        Match::Quotes(quoted) => quotes(quoted),
        Match::SpokeFirst(family) => {
            let set = base::spoke_set(*family);
            vec![is(speaker(*family, MetaKey::Oifname, "daddr"), expr::word(set.reference))]
        }
    }
}

fn done(clause: &Clause) -> Vec<Stmt> {
    match &clause.action {
        Action::Allow => vec![Statement::Accept(None)],
        Action::Drop if clause.row == Row::Source => vec![goto(base::BLOCKED_SOURCE)],
        Action::Drop => vec![Statement::Drop(None)],
        Action::Refuse => vec![goto(base::refusal(clause.way, clause.row))],
        Action::Untrack => vec![Statement::Notrack, Statement::Accept(None)],
        Action::MarkAndUntrack(mark) => {
            vec![set_mark(|| expr::meta(MetaKey::Mark), *mark), Statement::Notrack, Statement::Accept(None)]
        }
        Action::SetMark(mark) => vec![set_mark(|| expr::meta(MetaKey::Mark), *mark)],
        Action::AllowAndMarkFlow(mark) => {
            vec![set_mark(|| expr::ct("mark"), *mark), Statement::Accept(None)]
        }
        Action::Remember(family) => vec![Statement::Set(Set {
            op: SetOp::Update,
            elem: speaker(*family, MetaKey::Iifname, "saddr"),
            set: base::spoke_set(*family).reference.into(),
        })],
        Action::ClampMss => vec![Statement::Mangle(Mangle {
            key: expr::tcp_mss(),
            value: Expr::Named(NamedExpression::RT(RT { key: RTKey::MTU, family: None })),
        })],
        Action::SendTo(to) => vec![Statement::DNAT(Some(NAT {
            addr: Some(Expr::String(to.ip().to_string().into())),
            family: Some(if to.is_ipv4() { NATFamily::IP } else { NATFamily::IP6 }),
            port: Some(Expr::Number(u32::from(to.port()))),
            flags: None,
        }))],
        Action::Masquerade => vec![Statement::Masquerade(None)],
    }
}

fn header(family: Family) -> &'static str {
    if family == Family::V4 { "ip" } else { "ip6" }
}

fn address(nets: &[ipnet::IpNet], field: &'static str) -> Expr {
    let family = nets.first().map_or(Family::V4, |net| Family::of(net.addr()));
    expr::field(header(family), field)
}

fn speaker(family: Family, device: MetaKey, field: &'static str) -> Expr {
    expr::concat(vec![expr::meta(device), expr::field(header(family), field)])
}

fn transport(proto: Proto) -> Stmt {
    let several = |numbers: [u32; 2]| {
        let numbers = numbers.into_iter().map(Expr::Number).collect();
        is(expr::meta(MetaKey::L4proto), expr::one_of(numbers))
    };
    match proto {
        Proto::Tcp => protocol(TCP),
        Proto::Udp => protocol(UDP),
        Proto::Igmp => protocol(IGMP),
        Proto::TcpOrUdp => several([TCP, UDP]),
        Proto::AnyIcmp => several([ICMP, ICMPV6]),
    }
}

fn port_is(proto: Proto, field: &'static str, port: u16) -> Stmt {
    let protocol = match proto {
        Proto::Tcp => "tcp",
        Proto::Udp => "udp",
        // The clause says the protocol in a match of its own.
        Proto::TcpOrUdp | Proto::Igmp | Proto::AnyIcmp => "th",
    };
    is(expr::field(protocol, field), Expr::Number(u32::from(port)))
}

fn numbers(types: &[u8]) -> Expr {
    expr::one_of(types.iter().map(|t| Expr::Number(u32::from(*t))).collect())
}

/// The bits of the mask only: other software has the rest.
fn mark_is(key: Expr, mark: Mark) -> Stmt {
    let value = Expr::Number(mark.value());
    if mark.mask() == u32::MAX {
        return is(key, value);
    }
    is(expr::and(key, Expr::Number(mark.mask())), value)
}

/// Leaves the bits outside the mask as they are. Spelled as the kernel lists it: bits that are set
/// afterwards are not cleared first.
fn set_mark(key: fn() -> Expr, mark: Mark) -> Stmt {
    let value = Expr::Number(mark.value());
    if mark.mask() == u32::MAX {
        return Statement::Mangle(Mangle { key: key(), value });
    }
    let kept = expr::and(key(), Expr::Number(!mark.mask() | mark.value()));
    Statement::Mangle(Mangle { key: key(), value: expr::or(vec![kept, value]) })
}

/// The quoted packet starts 8 bytes into an ICMP error. An IPv4 header with options or an IPv6
/// packet with extension headers is none that we sent.
fn quotes(quoted: &Quoted) -> Vec<Stmt> {
    let at = |byte: u32, bits: u32| expr::transport_bits((8 + byte) * 8, bits);
    let protocol = match quoted.proto {
        PortProto::Tcp => TCP,
        PortProto::Udp => UDP,
    };
    let ip = quoted.to.ip();
    // Offsets of protocol, destination and ports, in bytes.
    let (version, protocol_at, to_at, ports_at) = match ip {
        IpAddr::V4(_) => (is(at(0, 8), Expr::Number(0x45)), 9, 16, 20),
        IpAddr::V6(_) => (is(expr::and(at(0, 8), Expr::Number(0xf0)), Expr::Number(0x60)), 6, 24, 40),
    };
    let to = match ip {
        IpAddr::V4(addr) => is(at(to_at, 32), Expr::Number(addr.to_bits())),
        // JSON numbers end at 32 bits in the crate and at 63 in nft; both take text.
        IpAddr::V6(addr) => is(at(to_at, 128), Expr::String(format!("0x{:032x}", addr.to_bits()).into())),
    };
    vec![version, is(at(protocol_at, 8), Expr::Number(protocol)), to, ports(quoted, ports_at, &at)]
}

fn ports(quoted: &Quoted, byte: u32, at: &dyn Fn(u32, u32) -> Expr) -> Stmt {
    let to = u32::from(SocketAddr::port(&quoted.to));
    match quoted.source_port {
        // One load, as nft lists it.
        Some(from) => is(at(byte, 32), Expr::Number(u32::from(from) << 16 | to)),
        None => is(at(byte + 2, 16), Expr::Number(to)),
    }
}
