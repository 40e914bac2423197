//! Every rule dropped, put after its neighbour, or altered in one operand.

use std::net::IpAddr;

use nftables::expr::{
    BinaryOperation, CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, SetItem,
};
use nftables::schema::Rule;
use nftables::stmt::{JumpTarget, Mangle, Match, Operator, Reject, RejectType, Statement, VerdictMap};
use nftables::types::RejectCode;

use crate::mutate::MATCHES;
use crate::rules::{ASIDE, Stmt};

type Expr = Expression<'static>;

pub enum Change {
    Replaced(Box<Rule<'static>>),
    /// With the next rule of its chain.
    Swapped(u32),
}

pub struct Mutant {
    pub rule: u32,
    pub what: String,
    /// The statement that is altered, or all of the rule.
    pub place: u8,
    pub change: Change,
}

pub fn mutants(rules: &[Rule<'static>]) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for (at, rule) in (0..).zip(rules) {
        let mut add = |place, what: String, change| mutants.push(Mutant { rule: at, what, place, change });
        let aside = Rule { chain: ASIDE.into(), ..rule.clone() };
        add(MATCHES, "dropped".to_owned(), Change::Replaced(Box::new(aside)));
        let later = rules.iter().enumerate().skip(at as usize + 1);
        if let Some((next, _)) = later.into_iter().find(|(_, other)| other.chain == rule.chain) {
            add(MATCHES, "put after the next".to_owned(), Change::Swapped(next as u32));
        }
        for (place, statement) in rule.expr.iter().enumerate() {
            for (what, other) in altered(statement) {
                let mut expr = rule.expr.to_vec();
                match other {
                    Some(other) => expr[place] = other,
                    None => drop(expr.remove(place)),
                }
                let other = Rule { expr: expr.into(), ..rule.clone() };
                add(place as u8, what, Change::Replaced(Box::new(other)));
            }
        }
    }
    mutants
}

type Altered = Vec<(String, Option<Stmt>)>;

/// None: the statement is left out.
fn altered(statement: &Stmt) -> Altered {
    match statement {
        Statement::Match(found) => matches(found),
        Statement::VerdictMap(map) => entries(map),
        Statement::Mangle(mangle) => {
            let mut list = vec![("not set".to_owned(), None)];
            list.extend(values(&mangle.value).into_iter().map(|value| {
                (
                    said(&mangle.value, &value),
                    Some(Statement::Mangle(Mangle { key: mangle.key.clone(), value })),
                )
            }));
            list
        }
        Statement::DNAT(Some(nat)) => {
            let mut list = vec![("not translated".to_owned(), None)];
            for (of, to) in
                nat.addr.iter().flat_map(|addr| values(addr).into_iter().map(move |to| (addr, to)))
            {
                let mut other = nat.clone();
                other.addr = Some(to.clone());
                list.push((said(of, &to), Some(Statement::DNAT(Some(other)))));
            }
            for (of, to) in
                nat.port.iter().flat_map(|port| values(port).into_iter().map(move |to| (port, to)))
            {
                let mut other = nat.clone();
                other.port = Some(to.clone());
                list.push((said(of, &to), Some(Statement::DNAT(Some(other)))));
            }
            list
        }
        Statement::Notrack => vec![("tracked".to_owned(), None)],
        Statement::Masquerade(_) => vec![("not masqueraded".to_owned(), None)],
        Statement::Set(_) => vec![("not remembered".to_owned(), None)],
        Statement::Counter(_) => Vec::new(),
        verdict => verdicts(verdict)
            .into_iter()
            .map(|other| (format!("{} -> {}", short(verdict), short(&other)), Some(other)))
            .collect(),
    }
}

fn goto(target: &'static str) -> Stmt {
    Statement::Goto(JumpTarget { target: target.into() })
}

fn verdicts(verdict: &Stmt) -> Vec<Stmt> {
    let (accept, drop) = (Statement::Accept(None), Statement::Drop(None));
    let reset = Statement::Reject(Some(Reject::new(Some(RejectType::TCPReset), None)));
    let prohibited =
        Statement::Reject(Some(Reject::new(Some(RejectType::ICMPX), Some(RejectCode::AdminProhibited))));
    match verdict {
        Statement::Accept(_) => vec![drop, goto("refuse_silently")],
        Statement::Drop(_) => vec![accept],
        Statement::Goto(to) => {
            let mut list = vec![accept];
            list.extend(
                ["refuse_lan", "refuse_silently"].into_iter().filter(|name| *name != to.target).map(goto),
            );
            list
        }
        Statement::Jump(to) => vec![accept, Statement::Goto(to.clone()), drop],
        Statement::Reject(reject) => {
            let was_reset = reject.as_ref().is_some_and(|reject| reject._type == Some(RejectType::TCPReset));
            vec![if was_reset { prohibited } else { reset }, drop, accept]
        }
        _ => Vec::new(),
    }
}

fn entries(map: &VerdictMap<'static>) -> Altered {
    let Expression::Named(NamedExpression::Set(items)) = &map.data else { return Vec::new() };
    let with = |items: Vec<SetItem<'static>>| {
        let data = Expression::Named(NamedExpression::Set(items));
        Some(Statement::VerdictMap(VerdictMap { key: map.key.clone(), data }))
    };
    let mut list = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let SetItem::MappingStatement(key, verdict) = item else { continue };
        let mut without = items.clone();
        without.remove(at);
        list.push((format!("without {}", text(key)), with(without)));
        for other in verdicts(verdict) {
            let mut changed = items.clone();
            changed[at] = SetItem::MappingStatement(key.clone(), other.clone());
            list.push((format!("{}: {} -> {}", text(key), short(verdict), short(&other)), with(changed)));
        }
        for other in devices(key) {
            let mut changed = items.clone();
            changed[at] = SetItem::MappingStatement(other.clone(), verdict.clone());
            list.push((said(key, &other), with(changed)));
        }
    }
    list
}

/// Another device in one place of a key.
fn devices(key: &Expr) -> Vec<Expr> {
    match key {
        Expression::String(_) => vec![Expr::String("eth9".into())],
        Expression::Named(NamedExpression::Concat(parts)) => (0..parts.len())
            .map(|at| {
                let mut parts = parts.clone();
                parts[at] = Expr::String("eth9".into());
                Expression::Named(NamedExpression::Concat(parts))
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn matches(found: &Match<'static>) -> Altered {
    let with = |left: Expr, op: Operator, right: Expr| Some(Statement::Match(Match { left, right, op }));
    let (left, right) = (&found.left, &found.right);
    // A dynamic set is looked up in one way only.
    let is_set = matches!(left, Expression::Named(NamedExpression::Concat(_)));
    let mut list = Vec::new();
    if !is_set {
        let op = if found.op == Operator::NEQ { Operator::EQ } else { Operator::NEQ };
        list.push((format!("{} the other way round", text(left)), with(left.clone(), op, right.clone())));
    }
    for other in keys(left) {
        list.push((said(left, &other), with(other, found.op, right.clone())));
    }
    for other in values(right) {
        list.push((format!("{}: {}", text(left), said(right, &other)), with(left.clone(), found.op, other)));
    }
    list
}

fn keys(left: &Expr) -> Vec<Expr> {
    let meta = |key| vec![Expression::Named(NamedExpression::Meta(Meta { key }))];
    let ct = |key: &'static str| {
        vec![Expression::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir: None }))]
    };
    match left {
        Expression::BinaryOperation(operation) => match operation.as_ref() {
            BinaryOperation::AND(key, mask) => {
                let and = |key: &Expr, mask: &Expr| {
                    Expression::BinaryOperation(Box::new(BinaryOperation::AND(key.clone(), mask.clone())))
                };
                let masks = values(mask);
                keys(key)
                    .iter()
                    .map(|key| and(key, mask))
                    .chain(masks.iter().map(|mask| and(key, mask)))
                    .collect()
            }
            _ => Vec::new(),
        },
        Expression::Named(NamedExpression::Meta(found)) => match found.key {
            MetaKey::Iifname => meta(MetaKey::Oifname),
            MetaKey::Oifname => meta(MetaKey::Iifname),
            MetaKey::Mark => ct("mark"),
            _ => Vec::new(),
        },
        Expression::Named(NamedExpression::CT(found)) if found.key == "mark" => meta(MetaKey::Mark),
        Expression::Named(NamedExpression::Payload(Payload::PayloadField(header))) => {
            let named = |protocol: &str, field: &str| {
                let (protocol, field) = (protocol.to_owned().into(), field.to_owned().into());
                Expression::Named(NamedExpression::Payload(Payload::PayloadField(PayloadField {
                    protocol,
                    field,
                })))
            };
            let (protocol, field) = (header.protocol.as_ref(), header.field.as_ref());
            let other = match field {
                "saddr" => "daddr",
                "daddr" => "saddr",
                "sport" => "dport",
                "dport" => "sport",
                "type" => "code",
                "code" => "type",
                _ => return Vec::new(),
            };
            let mut list = vec![named(protocol, other)];
            list.extend(match protocol {
                "tcp" => Some(named("udp", field)),
                "udp" => Some(named("tcp", field)),
                _ => None,
            });
            list
        }
        _ => Vec::new(),
    }
}

/// Each constant of a value in its neighbours.
pub fn values(value: &Expr) -> Vec<Expr> {
    match value {
        Expression::Number(number) => numbers(*number).into_iter().map(Expr::Number).collect(),
        Expression::Boolean(exists) => vec![Expr::Boolean(!exists)],
        Expression::String(word) => words(word).into_iter().map(|word| Expr::String(word.into())).collect(),
        Expression::Named(NamedExpression::Prefix(prefix)) => [prefix.len + 1, prefix.len.wrapping_sub(1)]
            .into_iter()
            .filter(|len| *len <= if text(&prefix.addr).contains(':') { 128 } else { 32 })
            .map(|len| Expression::Named(NamedExpression::Prefix(Prefix { addr: prefix.addr.clone(), len })))
            .collect(),
        Expression::Named(NamedExpression::Set(items)) => {
            let set = |items| Expression::Named(NamedExpression::Set(items));
            let mut list = Vec::new();
            for (at, item) in items.iter().enumerate() {
                let mut without = items.clone();
                without.remove(at);
                list.push(set(without));
                let SetItem::Element(value) = item else { continue };
                for other in values(value) {
                    let mut changed = items.clone();
                    changed[at] = SetItem::Element(other);
                    list.push(set(changed));
                }
            }
            list
        }
        Expression::List(parts) => (0..parts.len())
            .map(|at| {
                let mut parts = parts.clone();
                parts.remove(at);
                Expression::List(parts)
            })
            .collect(),
        Expression::BinaryOperation(operation) => match operation.as_ref() {
            BinaryOperation::OR(parts) => (0..parts.len())
                .flat_map(|at| values(&parts[at]).into_iter().map(move |other| (at, other)))
                .map(|(at, other)| {
                    let mut parts = parts.clone();
                    parts[at] = other;
                    Expression::BinaryOperation(Box::new(BinaryOperation::OR(parts)))
                })
                .collect(),
            BinaryOperation::AND(key, mask) => values(mask)
                .into_iter()
                .map(|mask| Expression::BinaryOperation(Box::new(BinaryOperation::AND(key.clone(), mask))))
                .collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The next ones; of a wide number (a mark) also with one bit wrong.
fn numbers(number: u32) -> Vec<u32> {
    if number <= 0xffff {
        let most = if number > 0xff { 0xffff } else { 0xff };
        return [number.checked_sub(1), Some(number + 1)]
            .into_iter()
            .flatten()
            .filter(|n| *n <= most)
            .collect();
    }
    let lowest = number & number.wrapping_neg();
    let highest = 1 << (31 - number.leading_zeros());
    [number ^ lowest, number ^ highest].into_iter().filter(|other| *other != 0).collect()
}

fn words(word: &str) -> Vec<String> {
    if let Some(digits) = word.strip_prefix("0x") {
        let number = u128::from_str_radix(digits, 16).unwrap_or_default();
        return vec![format!("0x{:032x}", number ^ 1)];
    }
    if let Ok(ip) = word.parse::<IpAddr>() {
        return vec![match ip {
            IpAddr::V4(ip) => std::net::Ipv4Addr::from_bits(ip.to_bits() ^ 1).to_string(),
            IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits() ^ 1).to_string(),
        }];
    }
    let others: &[&str] = match word {
        "established" => &["related", "new"],
        "related" => &["established"],
        "new" => &["established", "untracked"],
        "reply" => &["original"],
        "ipv4" => &["ipv6"],
        "ipv6" => &["ipv4"],
        "local" => &["unicast"],
        "broadcast" | "multicast" | "anycast" => &["unspec"],
        "syn" => &["rst", "ack"],
        "dnat" => &[],
        _ if word.starts_with('@') => &[],
        // A device.
        "eth1" => &["eth9"],
        _ => &["eth9", "eth1"],
    };
    others.iter().map(|&other| other.to_owned()).collect()
}

/// In JSON's words: enough to find the place.
fn text(expr: &Expr) -> String {
    match expr {
        Expression::String(text) => text.to_string(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

fn short(statement: &Stmt) -> String {
    match statement {
        Statement::Accept(_) => "accept".to_owned(),
        Statement::Drop(_) => "drop".to_owned(),
        Statement::Goto(to) => format!("goto {}", to.target),
        Statement::Jump(to) => format!("jump {}", to.target),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

fn said(of: &Expr, to: &Expr) -> String {
    format!("{} -> {}", text(of), text(to))
}
