//! What an expression reads, and what a value means beside it.

use std::net::IpAddr;

use nftables::expr::{
    CT, Expression, Fib, FibFlag, FibResult, MetaKey, NamedExpression, Payload, PayloadBase, PayloadField,
    PayloadRaw,
};

use super::Unknown;
use super::program::{Key, Range, name};
use crate::firewall::text;
use crate::policy::Family;

type Expr = Expression<'static>;

/// None: not known.
pub fn key(expr: &Expr) -> Option<Key> {
    let Expression::Named(named) = expr else { return None };
    match named {
        NamedExpression::Meta(meta) => Some(match meta.key {
            MetaKey::Iifname => Key::InName,
            MetaKey::Oifname => Key::OutName,
            MetaKey::Nfproto => Key::Nfproto,
            MetaKey::L4proto => Key::Protocol,
            MetaKey::Mark => Key::Mark,
            _ => return None,
        }),
        NamedExpression::CT(CT { key, family: None, dir: None }) => Some(match key.as_ref() {
            "state" => Key::CtState,
            "direction" => Key::CtDirection,
            "mark" => Key::CtMark,
            "status" => Key::CtStatus,
            _ => return None,
        }),
        NamedExpression::Payload(Payload::PayloadField(header)) => field(header),
        NamedExpression::Payload(Payload::PayloadRaw(raw)) => bits(raw),
        NamedExpression::Fib(found) => fib(found),
        _ => None,
    }
}

fn field(header: &PayloadField<'_>) -> Option<Key> {
    let bits = |protocol: u8, at: u16, len: u8| {
        let family = match protocol {
            1 => Some(Family::V4),
            58 => Some(Family::V6),
            _ => None,
        };
        Some(Key::Bits { family, protocol: Some(protocol), at, len })
    };
    let port = |protocol: Option<u8>, at: u16| Some(Key::Bits { family: None, protocol, at, len: 16 });
    match (header.protocol.as_ref(), header.field.as_ref()) {
        ("ip", "saddr") => Some(Key::Source(Family::V4)),
        ("ip", "daddr") => Some(Key::Destination(Family::V4)),
        ("ip6", "saddr") => Some(Key::Source(Family::V6)),
        ("ip6", "daddr") => Some(Key::Destination(Family::V6)),
        ("ip6", "hoplimit") => Some(Key::HopLimit),
        ("tcp", "sport") => port(Some(6), 0),
        ("tcp", "dport") => port(Some(6), 16),
        ("udp", "sport") => port(Some(17), 0),
        ("udp", "dport") => port(Some(17), 16),
        ("th", "sport") => port(None, 0),
        ("th", "dport") => port(None, 16),
        ("tcp", "flags") => bits(6, 104, 8),
        ("icmp", "type") => bits(1, 0, 8),
        ("icmp", "code") => bits(1, 8, 8),
        ("icmpv6", "type") => bits(58, 0, 8),
        ("icmpv6", "code") => bits(58, 8, 8),
        _ => None,
    }
}

/// Whole bytes of the transport header.
fn bits(raw: &PayloadRaw) -> Option<Key> {
    let at = u16::try_from(raw.offset).ok()?;
    let len = u8::try_from(raw.len).ok()?;
    let known = raw.base == PayloadBase::TH && at % 8 == 0 && len % 8 == 0 && (8..=128).contains(&len);
    known.then_some(Key::Bits { family: None, protocol: None, at, len })
}

fn fib(fib: &Fib) -> Option<Key> {
    let asked = |wanted: &[FibFlag]| {
        fib.flags.len() == wanted.len() && wanted.iter().all(|flag| fib.flags.contains(flag))
    };
    match fib.result {
        FibResult::Type if asked(&[FibFlag::Daddr]) => Some(Key::DestinationType),
        FibResult::Oif if asked(&[FibFlag::Daddr]) => Some(Key::HasRoute),
        FibResult::Type if asked(&[FibFlag::Saddr, FibFlag::Oif]) => Some(Key::SourceType),
        _ => None,
    }
}

pub fn is_segment_size(expr: &Expr) -> bool {
    matches!(expr, Expression::Named(NamedExpression::TcpOption(option))
        if option.name == "maxseg" && option.field.as_deref() == Some("size"))
}

/// nft's words for numbers (its src/ct.c, src/fib.c, src/proto.c).
fn words(key: Key) -> &'static [(&'static str, u8)] {
    match key {
        Key::Nfproto => &[("ipv4", 2), ("ipv6", 10)],
        Key::CtState => &[("invalid", 1), ("established", 2), ("related", 4), ("new", 8), ("untracked", 64)],
        Key::CtDirection => &[("original", 0), ("reply", 1)],
        Key::CtStatus => &[("dnat", 0x20)],
        Key::DestinationType | Key::SourceType => &[
            ("unspec", 0),
            ("unicast", 1),
            ("local", 2),
            ("broadcast", 3),
            ("anycast", 4),
            ("multicast", 5),
            ("blackhole", 6),
            ("unreachable", 7),
            ("prohibit", 8),
        ],
        Key::Bits { protocol: Some(6), at: 104, .. } => {
            &[("fin", 1), ("syn", 2), ("rst", 4), ("psh", 8), ("ack", 16), ("urg", 32)]
        }
        _ => &[],
    }
}

/// One value, not a prefix.
pub fn one(key: Key, expr: &Expr) -> Result<u128, Unknown> {
    let (from, to) = range(key, expr)?;
    if from == to { Ok(from) } else { Err(unknown(key, expr)) }
}

/// The values that an expression beside this key stands for.
pub fn range(key: Key, expr: &Expr) -> Result<Range, Unknown> {
    let found = match expr {
        Expression::Named(NamedExpression::Prefix(prefix)) => {
            value(key, &prefix.addr).and_then(|addr| prefixed(addr, key.bits(), prefix.len))
        }
        other => value(key, other).map(|value| (value, value)),
    };
    // What is wider than the key would never match: nft refuses it.
    let fits = |range: &Range| range.1.checked_shr(key.bits()).unwrap_or(0) == 0;
    found.filter(fits).ok_or_else(|| unknown(key, expr))
}

fn prefixed(addr: u128, bits: u32, len: u32) -> Option<Range> {
    let free = bits.checked_sub(len)?;
    let low = u128::MAX.checked_shr(128 - free).unwrap_or(0);
    Some((addr & !low, addr | low))
}

fn value(key: Key, expr: &Expr) -> Option<u128> {
    match (key, expr) {
        (Key::InName | Key::OutName, Expression::String(text)) => {
            // A star at the end would be nft's wildcard.
            ((1..=15).contains(&text.len()) && !text.contains('*')).then(|| name(text))
        }
        (Key::Source(family) | Key::Destination(family), Expression::String(text)) => {
            match (family, text.parse().ok()?) {
                (Family::V4, IpAddr::V4(addr)) => Some(addr.to_bits().into()),
                (Family::V6, IpAddr::V6(addr)) => Some(addr.to_bits()),
                _ => None,
            }
        }
        (Key::InName | Key::OutName | Key::Source(_) | Key::Destination(_), _) => None,
        (Key::HasRoute, Expression::Boolean(exists)) => Some((*exists).into()),
        (Key::HasRoute, _) => None,
        (_, Expression::Number(number)) => Some((*number).into()),
        (_, Expression::String(text)) => match text.strip_prefix("0x") {
            Some(digits) => u128::from_str_radix(digits, 16).ok(),
            None => words(key).iter().find(|(word, _)| *word == text).map(|(_, number)| (*number).into()),
        },
        (_, Expression::List(parts)) => parts.iter().try_fold(0, |bits, part| Some(bits | value(key, part)?)),
        _ => None,
    }
}

fn unknown(key: Key, expr: &Expr) -> Unknown {
    Unknown::Value(format!("a value of {} bits", key.bits()), text::expression(expr))
}
