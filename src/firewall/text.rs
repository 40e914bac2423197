//! A ruleset as a person would write it: for reading, and loadable with `nft -f`.
//!
//! It knows the expressions that the compiler uses. Another one would be written as JSON in angle
//! brackets, which nft refuses; the tests load the text of every state.

use std::fmt::{self, Formatter};

use nftables::expr::{BinaryOperation, Expression, MetaKey, NamedExpression, Payload, PayloadBase, SetItem};
use nftables::schema::{Chain, Rule, Set, SetTypeValue};
use nftables::stmt::{Limit, Log, Match, NAT, NATFamily, Operator, RejectType, SetOp, Statement};
use serde::Serialize;

use super::names::{self, Names};
use super::ruleset::{Ruleset, TABLE};
use crate::sorted;

pub fn write(f: &mut Formatter<'_>, ruleset: &Ruleset) -> fmt::Result {
    writeln!(f, "# What may leave while {}. What no rule accepts is blocked.", ruleset.state())?;
    writeln!(f, "# The number in a comment is a row of docs/contract.md.\n")?;
    writeln!(f, "table inet {TABLE}\ndelete table inet {TABLE}\n\ntable inet {TABLE} {{")?;
    for item in ruleset.sets() {
        set(f, item)?;
    }
    for (at, item) in ruleset.chains().iter().enumerate() {
        if at > 0 {
            writeln!(f)?;
        }
        chain(f, item, ruleset.rules().iter().filter(|rule| rule.chain == item.name))?;
    }
    writeln!(f, "}}")
}

fn set(f: &mut Formatter<'_>, set: &Set<'_>) -> fmt::Result {
    writeln!(f, "\tset {} {{", set.name)?;
    let types = match &set.set_type {
        SetTypeValue::Single(one) => word(one),
        SetTypeValue::Concatenated(parts) => list(parts.iter().map(word), " . "),
    };
    writeln!(f, "\t\ttype {types}")?;
    if let Some(size) = set.size {
        writeln!(f, "\t\tsize {size}")?;
    }
    if let Some(flags) = &set.flags {
        let mut flags: Vec<String> = flags.iter().map(word).collect();
        sorted::sort_by(&mut flags, Ord::cmp);
        writeln!(f, "\t\tflags {}", flags.join(","))?;
    }
    if let Some(seconds) = set.timeout {
        writeln!(f, "\t\ttimeout {seconds}s")?;
    }
    writeln!(f, "\t}}\n")
}

fn chain<'a>(
    f: &mut Formatter<'_>,
    chain: &Chain<'_>,
    rules: impl Iterator<Item = &'a Rule<'static>>,
) -> fmt::Result {
    writeln!(f, "\tchain {} {{", chain.name)?;
    if let (Some(kind), Some(hook)) = (&chain._type, &chain.hook) {
        let priority = chain.prio.unwrap_or_default();
        let policy = chain.policy.as_ref().map(word).unwrap_or_default();
        let (kind, hook) = (word(kind), word(hook));
        writeln!(f, "\t\ttype {kind} hook {hook} priority {priority}; policy {policy};")?;
    }
    for rule in rules {
        let statements = list(rule.expr.iter().map(statement), " ");
        let comment = rule.comment.as_deref().unwrap_or_default();
        writeln!(f, "\t\t{statements} comment \"{comment}\"")?;
    }
    writeln!(f, "\t}}")
}

fn list(parts: impl Iterator<Item = String>, between: &str) -> String {
    parts.collect::<Vec<_>>().join(between)
}

/// A unit-like value by its JSON name, which is nft's.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        other => format!("<{}>", other.unwrap_or_default()),
    }
}

/// By way of serde_json's tree, as everywhere here: each way of serialising the crate's types is some
/// 35 KB on mipsel.
fn unknown(value: &impl Serialize) -> String {
    format!("<{}>", serde_json::to_value(value).unwrap_or_default())
}

/// One statement, as nft writes it.
pub fn statement(statement: &Statement<'_>) -> String {
    match statement {
        Statement::Accept(_) => "accept".to_owned(),
        Statement::Drop(_) => "drop".to_owned(),
        Statement::Goto(to) => format!("goto {}", to.target),
        Statement::Jump(to) => format!("jump {}", to.target),
        Statement::Notrack => "notrack".to_owned(),
        Statement::Counter(_) => "counter".to_owned(),
        Statement::Masquerade(None) => "masquerade".to_owned(),
        Statement::Match(found) => matched(found),
        Statement::Mangle(mangle) => {
            format!("{} set {}", expression(&mangle.key), expression(&mangle.value))
        }
        Statement::DNAT(Some(nat)) => dnat(nat),
        Statement::Reject(Some(reject)) => match (&reject._type, &reject.expr) {
            (Some(RejectType::TCPReset), _) => "reject with tcp reset".to_owned(),
            (Some(kind), Some(code)) => format!("reject with {} {}", word(kind), word(code)),
            _ => unknown(statement),
        },
        Statement::Set(set) => {
            let op = if set.op == SetOp::Add { "add" } else { "update" };
            format!("{op} {} {{ {} }}", set.set, expression(&set.elem))
        }
        Statement::Limit(Limit { rate, per: Some(per), burst: Some(burst), .. }) => {
            format!("limit rate {rate}/{per} burst {burst} packets")
        }
        Statement::Log(Some(Log { prefix: Some(prefix), group: Some(group), .. })) => {
            format!("log prefix \"{prefix}\" group {group}")
        }
        Statement::VerdictMap(map) => {
            format!("{} vmap {}", expression(&map.key), expression(&map.data))
        }
        other => unknown(other),
    }
}

fn dnat(nat: &NAT<'_>) -> String {
    let addr = nat.addr.as_ref().map(expression).unwrap_or_default();
    let port = nat.port.as_ref().map(expression).unwrap_or_default();
    match nat.family {
        Some(NATFamily::IP6) => format!("dnat ip6 to [{addr}]:{port}"),
        _ => format!("dnat ip to {addr}:{port}"),
    }
}

fn matched(found: &Match<'_>) -> String {
    let left = expression(&found.left);
    let right = right(&found.left, &found.right);
    match found.op {
        Operator::NEQ => format!("{left} != {right}"),
        Operator::EQ if matches!(found.left, Expression::BinaryOperation(_)) => {
            format!("{left} == {right}")
        }
        _ => format!("{left} {right}"),
    }
}

/// Numbers that have names, by what they are compared with; device names in quotes.
fn right(left: &Expression<'_>, right: &Expression<'_>) -> String {
    match (left, right) {
        (_, Expression::Named(NamedExpression::Set(items))) => {
            let items = items.iter().map(|item| match item {
                SetItem::Element(value) => self::right(left, value),
                other => unknown(other),
            });
            format!("{{ {} }}", list(items, ", "))
        }
        (_, Expression::Number(number)) => match known(left) {
            Some(names) => names::name(names, *number).map_or(number.to_string(), str::to_owned),
            None if in_hex(left) => format!("0x{number:x}"),
            None => number.to_string(),
        },
        (Expression::Named(NamedExpression::Meta(meta)), Expression::String(name))
            if matches!(meta.key, MetaKey::Iifname | MetaKey::Oifname) =>
        {
            format!("\"{name}\"")
        }
        _ => expression(right),
    }
}

fn known(left: &Expression<'_>) -> Option<Names> {
    match left {
        Expression::Named(NamedExpression::Meta(meta)) if meta.key == MetaKey::L4proto => {
            Some(names::PROTOCOLS)
        }
        Expression::Named(NamedExpression::Payload(Payload::PayloadField(field))) => {
            match (field.protocol.as_ref(), field.field.as_ref()) {
                ("icmp", "type") => Some(names::ICMP_TYPES),
                ("icmpv6", "type") => Some(names::ICMPV6_TYPES),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Marks and raw bytes.
fn in_hex(left: &Expression<'_>) -> bool {
    match left {
        Expression::Named(NamedExpression::Meta(meta)) => meta.key == MetaKey::Mark,
        Expression::Named(NamedExpression::CT(ct)) => ct.key == "mark",
        Expression::Named(NamedExpression::Payload(Payload::PayloadRaw(_))) => true,
        Expression::BinaryOperation(_) => true,
        _ => false,
    }
}

/// One expression, as nft writes it.
pub fn expression(expr: &Expression<'_>) -> String {
    match expr {
        Expression::String(text) => text.clone().into_owned(),
        Expression::Boolean(exists) => if *exists { "exists" } else { "missing" }.to_owned(),
        Expression::Number(number) if *number > 0xffff => format!("0x{number:x}"),
        Expression::Number(number) => number.to_string(),
        Expression::List(parts) => format!("({})", list(parts.iter().map(expression), " | ")),
        Expression::BinaryOperation(operation) => match operation.as_ref() {
            BinaryOperation::AND(value, mask) => {
                let mask = match mask {
                    Expression::Number(number) => format!("0x{number:x}"),
                    other => expression(other),
                };
                format!("{} & {mask}", expression(value))
            }
            BinaryOperation::OR(parts) => list(parts.iter().map(expression), " | "),
            other => unknown(other),
        },
        Expression::Named(named) => named_expression(named),
        other => unknown(other),
    }
}

fn named_expression(named: &NamedExpression<'_>) -> String {
    match named {
        NamedExpression::Meta(meta) => match meta.key {
            MetaKey::Iifname | MetaKey::Oifname => word(&meta.key),
            _ => format!("meta {}", word(&meta.key)),
        },
        NamedExpression::CT(ct) => format!("ct {}", ct.key),
        NamedExpression::RT(rt) => format!("rt {}", word(&rt.key)),
        NamedExpression::Payload(Payload::PayloadField(field)) => {
            format!("{} {}", field.protocol, field.field)
        }
        NamedExpression::Payload(Payload::PayloadRaw(raw)) => {
            let base = if raw.base == PayloadBase::TH { "th" } else { "nh" };
            format!("@{base},{},{}", raw.offset, raw.len)
        }
        NamedExpression::TcpOption(option) => {
            format!("tcp option {} {}", option.name, option.field.as_deref().unwrap_or_default())
        }
        NamedExpression::Fib(fib) => {
            let mut flags: Vec<String> = fib.flags.iter().map(word).collect();
            let is_other = |flag: &str| flag != "saddr" && flag != "daddr";
            sorted::sort_by(&mut flags, |a, b| is_other(a).cmp(&is_other(b)));
            format!("fib {} {}", flags.join(" . "), word(&fib.result))
        }
        NamedExpression::Prefix(prefix) => format!("{}/{}", expression(&prefix.addr), prefix.len),
        NamedExpression::Concat(parts) => list(parts.iter().map(expression), " . "),
        NamedExpression::Set(items) => verdict_map(items),
        other => unknown(other),
    }
}

/// One entry a line; keys are device names.
fn verdict_map(items: &[SetItem<'_>]) -> String {
    let entries = items.iter().map(|item| match item {
        SetItem::MappingStatement(key, verdict) => {
            format!("\n\t\t\t{} : {}", quoted(key), statement(verdict))
        }
        other => unknown(other),
    });
    format!("{{{}\n\t\t}}", list(entries, ","))
}

fn quoted(key: &Expression<'_>) -> String {
    match key {
        Expression::String(name) => format!("\"{name}\""),
        Expression::Named(NamedExpression::Concat(parts)) => list(parts.iter().map(quoted), " . "),
        other => expression(other),
    }
}
