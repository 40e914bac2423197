//! A ruleset as a person would write it: for reading, and loadable with `nft -f`.
//!
//! It knows the expressions that the compiler uses. For another one there would be a word in angle
//! brackets, which nft refuses; the tests load the text of every state.

use std::fmt::{self, Formatter};

use nftables::expr::{BinaryOperation, Expression, MetaKey, NamedExpression, Payload, PayloadBase, SetItem};
use nftables::schema::{Chain, Rule, Set, SetType, SetTypeValue};
use nftables::stmt::{Limit, Log, Match, NAT, NATFamily, Operator, RejectType, SetOp, Statement};

use super::json::{Unwritten, words};
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
        SetTypeValue::Single(one) => set_type(one),
        SetTypeValue::Concatenated(parts) => list(parts.iter().map(set_type), " . "),
    };
    writeln!(f, "\t\ttype {types}")?;
    if let Some(size) = set.size {
        writeln!(f, "\t\tsize {size}")?;
    }
    if let Some(flags) = &set.flags {
        writeln!(f, "\t\tflags {}", words::set_flags(flags).join(","))?;
    }
    if let Some(seconds) = set.timeout {
        writeln!(f, "\t\ttimeout {seconds}s")?;
    }
    writeln!(f, "\t}}\n")
}

fn set_type(kind: &SetType) -> String {
    known_word(words::set_type(*kind))
}

fn chain<'a>(
    f: &mut Formatter<'_>,
    chain: &Chain<'_>,
    rules: impl Iterator<Item = &'a Rule<'static>>,
) -> fmt::Result {
    writeln!(f, "\tchain {} {{", chain.name)?;
    if let (Some(kind), Some(hook)) = (&chain._type, &chain.hook) {
        let priority = chain.prio.unwrap_or_default();
        let policy = chain.policy.map(words::policy).unwrap_or_default();
        let (kind, hook) = (words::chain_type(*kind), words::hook(*hook));
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

fn known_word(word: Result<&'static str, Unwritten>) -> String {
    word.map_or_else(unknown, str::to_owned)
}

fn unknown(Unwritten(what): Unwritten) -> String {
    format!("<{what}>")
}

const STATEMENT: Unwritten = Unwritten("a statement like this");
const EXPRESSION: Unwritten = Unwritten("an expression like this");

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
            (Some(RejectType::ICMPX), Some(code)) => {
                format!("reject with icmpx {}", known_word(words::reject_code(*code)))
            }
            _ => unknown(STATEMENT),
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
        _ => unknown(STATEMENT),
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
                _ => unknown(EXPRESSION),
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
            _ => unknown(EXPRESSION),
        },
        Expression::Named(named) => named_expression(named),
        _ => unknown(EXPRESSION),
    }
}

fn named_expression(named: &NamedExpression<'_>) -> String {
    match named {
        NamedExpression::Meta(meta) => match meta.key {
            MetaKey::Iifname | MetaKey::Oifname => known_word(words::meta_key(meta.key)),
            _ => format!("meta {}", known_word(words::meta_key(meta.key))),
        },
        NamedExpression::CT(ct) => format!("ct {}", ct.key),
        NamedExpression::RT(rt) => format!("rt {}", words::route_key(rt.key)),
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
            let mut flags = words::fib_flags(&fib.flags);
            let is_other = |flag: &str| flag != "saddr" && flag != "daddr";
            sorted::sort_by(&mut flags, |a, b| is_other(a).cmp(&is_other(b)));
            format!("fib {} {}", flags.join(" . "), words::fib_result(fib.result))
        }
        NamedExpression::Prefix(prefix) => format!("{}/{}", expression(&prefix.addr), prefix.len),
        NamedExpression::Concat(parts) => list(parts.iter().map(expression), " . "),
        NamedExpression::Set(items) => verdict_map(items),
        _ => unknown(EXPRESSION),
    }
}

/// One entry a line; keys are device names.
fn verdict_map(items: &[SetItem<'_>]) -> String {
    let entries = items.iter().map(|item| match item {
        SetItem::MappingStatement(key, verdict) => {
            format!("\n\t\t\t{} : {}", quoted(key), statement(verdict))
        }
        _ => unknown(EXPRESSION),
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
