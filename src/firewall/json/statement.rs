//! Statements as nft's JSON.

use nftables::stmt::{
    AnonymousCounter, Counter, JumpTarget, Limit, Log, Mangle, Match, NAT, NATFamily, Reject, RejectType,
    Set, SetOp, Statement, VerdictMap,
};
use serde_json::Value;

use super::expression::written as expression;
use super::{Fields, Unwritten, Written, named, words};

pub(super) fn written(statement: &Statement<'_>) -> Written {
    let value = match statement {
        Statement::Accept(None) => named("accept", Value::Null),
        Statement::Drop(None) => named("drop", Value::Null),
        // The crate would write the bare word, which nft refuses.
        Statement::Notrack => named("notrack", Value::Null),
        Statement::Masquerade(None) => named("masquerade", Value::Null),
        Statement::Jump(to) => target("jump", to),
        Statement::Goto(to) => target("goto", to),
        Statement::Counter(Counter::Anonymous(Some(AnonymousCounter { packets: None, bytes: None }))) => {
            Fields::default().number("packets", 0).number("bytes", 0).of("counter")
        }
        Statement::Match(Match { left, right, op }) => {
            let operator = words::operator(*op)?;
            both(("left", expression(left)?), ("right", expression(right)?)).text("op", operator).of("match")
        }
        Statement::Mangle(Mangle { key, value }) => {
            both(("key", expression(key)?), ("value", expression(value)?)).of("mangle")
        }
        Statement::VerdictMap(VerdictMap { key, data }) => {
            both(("key", expression(key)?), ("data", expression(data)?)).of("vmap")
        }
        Statement::DNAT(Some(NAT {
            addr: Some(addr),
            family: Some(family),
            port: Some(port),
            flags: None,
        })) => {
            let family = match family {
                NATFamily::IP => "ip",
                NATFamily::IP6 => "ip6",
            };
            both(("addr", expression(addr)?), ("port", expression(port)?)).text("family", family).of("dnat")
        }
        Statement::Reject(Some(Reject { _type: Some(RejectType::TCPReset), expr: None })) => {
            Fields::default().text("type", "tcp reset").of("reject")
        }
        Statement::Reject(Some(Reject { _type: Some(RejectType::ICMPX), expr: Some(code) })) => {
            Fields::default().text("type", "icmpx").text("expr", words::reject_code(*code)?).of("reject")
        }
        Statement::Set(Set { op: SetOp::Update, elem, set }) => {
            Fields::default().text("op", "update").with("elem", expression(elem)?).text("set", set).of("set")
        }
        Statement::Limit(Limit {
            rate,
            rate_unit: None,
            per: Some(per),
            burst: Some(burst),
            burst_unit: None,
            inv: None,
        }) => Fields::default().number("rate", *rate).text("per", per).number("burst", *burst).of("limit"),
        Statement::Log(Some(Log {
            prefix: Some(prefix),
            group: Some(group),
            snaplen: None,
            queue_threshold: None,
            level: None,
            flags: None,
        })) => Fields::default().text("prefix", prefix).number("group", *group).of("log"),
        _ => return Err(Unwritten("a statement like this")),
    };
    Ok(value)
}

fn both(one: (&str, Value), other: (&str, Value)) -> Fields {
    Fields::default().with(one.0, one.1).with(other.0, other.1)
}

fn target(kind: &str, to: &JumpTarget<'_>) -> Value {
    Fields::default().text("target", &to.target).of(kind)
}
