//! Against the crate's own way, which is serde's.

use std::collections::HashSet;

use nftables::expr::{
    BinaryOperation, CT, CTDir, Elem, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression,
    Payload, PayloadBase, PayloadRaw, RT, RTFamily, RTKey, SetItem, TcpOption, Verdict,
};
use nftables::schema::{Chain, Rule, Set, SetFlag, SetType, SetTypeValue};
use nftables::stmt::{
    Accept, AnonymousCounter, Counter, Limit, Log, Match, NAT, NATFamily, Operator, Reject, RejectType,
    SetOp, Statement,
};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook, RejectCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Unwritten, Written, expression, statement};
use crate::config::Mark;
use crate::firewall::base;
use crate::firewall::expr::{self, Expr, Stmt};
use crate::firewall::statement::statements;
use crate::firewall::{Error, Nft, Ruleset, compile, compile_stop};
use crate::policy::{
    Action, Clause, Entrances, Family, Match as Matched, PolicyState, Row, Way, compose, samples, stop,
};

/// What the crate writes, but the one statement without arguments, which nft refuses as a bare word,
/// and in order the flags, whose order differs from run to run.
fn reference(value: &impl Serialize) -> Value {
    spelled_for_nft(serde_json::to_value(value).unwrap())
}

fn spelled_for_nft(value: Value) -> Value {
    match value {
        Value::String(word) if word == "notrack" => json!({ "notrack": null }),
        Value::Array(list) => list.into_iter().map(spelled_for_nft).collect(),
        Value::Object(map) => {
            map.into_iter().map(in_order).map(|(key, value)| (key, spelled_for_nft(value))).collect()
        }
        other => other,
    }
}

fn in_order((key, mut value): (String, Value)) -> (String, Value) {
    if let (true, Some(flags)) = (key == "flags", value.as_array_mut()) {
        flags.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
    }
    (key, value)
}

/// An object of this kind is written as the crate does; in bytes, too.
fn same(kind: &str, written: Written, body: &impl Serialize) {
    let (written, wanted) = (written.unwrap(), json!({ kind: reference(body) }));
    assert_eq!(written, wanted);
    assert_eq!(written.to_string(), wanted.to_string());
}

fn all_the_same(sets: &[Set<'_>], chains: &[Chain<'_>], rules: &[Rule<'_>]) {
    sets.iter().for_each(|set| same("set", super::set(set), set));
    chains.iter().for_each(|chain| same("chain", super::chain(chain), chain));
    rules.iter().for_each(|rule| same("rule", super::rule(rule), rule));
}

#[test]
fn every_sample_is_written_as_the_crate_does() {
    let mut rules = 0;
    for case in samples::cases() {
        let ruleset = compile(&compose(&case.stance, &case.settings, &case.facts).unwrap());
        all_the_same(ruleset.sets(), ruleset.chains(), ruleset.rules());
        rules += ruleset.rules().len();
        // The whole batch, with the table's own three commands.
        let table = || json!({ "table": { "family": "inet", "name": "vpnd" } });
        let mut commands = vec![json!({"add": table()}), json!({"delete": table()}), json!({"add": table()})];
        commands.extend(ruleset.sets().iter().map(|set| json!({"add": {"set": reference(set)}})));
        commands.extend(ruleset.chains().iter().map(|chain| json!({"add": {"chain": reference(chain)}})));
        commands.extend(ruleset.rules().iter().map(|rule| json!({"add": {"rule": reference(rule)}})));
        let wanted = json!({ "nftables": commands }).to_string();
        assert!(ruleset.to_json().unwrap() == wanted, "{}", case.name);
    }
    assert!(rules > 300, "only {rules} rules");
}

#[test]
fn a_stop_is_written_as_the_crate_does() {
    let policy = compose(&crate::policy::Stance::Boot, &samples::full(), &samples::full_facts()).unwrap();
    assert_eq!(policy.state(), PolicyState::Boot);
    let devices = ["lan1", "away0"].map(|name| name.parse().unwrap()).to_vec();
    let own = vec!["198.51.100.7".parse().unwrap(), "2001:db8:203::7".parse().unwrap()];
    let stop = stop(&policy, &samples::full(), &Entrances { devices, own }).unwrap();
    let (chains, rules) = compile_stop(&stop);
    all_the_same(&[], &chains, &rules);
    assert!(chains.len() > 2 && rules.len() > 3);
}

/// Every action and every match of a policy, whether a sample has it or not.
#[test]
fn every_clause_is_written_as_the_crate_does() {
    let (whole, part) = (Mark::new(7, u32::MAX).unwrap(), Mark::new(0x300, 0xff00).unwrap());
    let mut actions = vec![Action::Allow, Action::Drop, Action::Refuse, Action::Untrack, Action::ClampMss];
    actions.push(Action::Masquerade);
    for mark in [whole, part] {
        actions.extend([Action::MarkAndUntrack(mark), Action::SetMark(mark), Action::AllowAndMarkFlow(mark)]);
    }
    actions.extend(Family::BOTH.map(Action::Remember));
    actions.extend(["10.0.0.1:53", "[fd00::1]:53"].map(|to| Action::SendTo(to.parse().unwrap())));
    let nets: Vec<ipnet::IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "192.0.2.1/32".parse().unwrap()];
    let matches = vec![
        Matched::Family(Family::V6),
        Matched::To(nets.clone()),
        Matched::NotTo(nets[..1].to_vec()),
        Matched::Marked(whole),
        Matched::FlowMarked(part),
        Matched::Reply,
        Matched::Established,
        Matched::Related,
        Matched::Translated,
        Matched::Icmpv6Code0,
        Matched::HopLimit(255),
        Matched::Icmp(&[0, 8]),
        Matched::SpokeFirst(Family::V4),
    ];
    for action in actions {
        let clause =
            Clause { row: Row::Default, what: "", way: Way::LanToWan, matches: matches.clone(), action };
        for stmt in statements(&clause) {
            assert_eq!(statement::written(&stmt).unwrap(), reference(&stmt));
        }
    }
}

#[test]
fn words_are_the_crates() {
    use super::words;
    let hooks = [NfHook::Ingress, NfHook::Prerouting, NfHook::Forward, NfHook::Input, NfHook::Output];
    for hook in hooks.into_iter().chain([NfHook::Postrouting, NfHook::Egress]) {
        assert_eq!(words::hook(hook), reference(&hook));
    }
    for kind in [NfChainType::Filter, NfChainType::Route, NfChainType::NAT] {
        assert_eq!(words::chain_type(kind), reference(&kind));
    }
    for policy in [NfChainPolicy::Accept, NfChainPolicy::Drop] {
        assert_eq!(words::policy(policy), reference(&policy));
    }
    for key in [RTKey::ClassId, RTKey::NextHop, RTKey::MTU] {
        assert_eq!(words::route_key(key), reference(&key));
    }
    for result in [FibResult::Oif, FibResult::Oifname, FibResult::Type] {
        assert_eq!(words::fib_result(result), reference(&result));
    }
    for key in [MetaKey::Nfproto, MetaKey::L4proto, MetaKey::Iifname, MetaKey::Oifname, MetaKey::Mark] {
        assert_eq!(words::meta_key(key).unwrap(), reference(&key));
    }
    for operator in [Operator::EQ, Operator::NEQ, Operator::IN] {
        assert_eq!(words::operator(operator).unwrap(), reference(&operator));
    }
    for kind in [SetType::Ipv4Addr, SetType::Ipv6Addr, SetType::Ifname] {
        assert_eq!(words::set_type(kind).unwrap(), reference(&kind));
    }
    assert_eq!(words::reject_code(RejectCode::AdminProhibited).unwrap(), "admin-prohibited");
    let flags = [FibFlag::Saddr, FibFlag::Daddr, FibFlag::Mark, FibFlag::Iif, FibFlag::Oif];
    for flag in flags {
        assert_eq!(json!(words::fib_flags(&HashSet::from([flag]))), json!([reference(&flag)]));
    }
    assert_eq!(words::fib_flags(&HashSet::from(flags)), ["daddr", "iif", "mark", "oif", "saddr"]);
    for flag in [SetFlag::Constant, SetFlag::Interval, SetFlag::Timeout, SetFlag::Dynamic] {
        assert_eq!(json!(words::set_flags(&HashSet::from([flag]))), json!([reference(&flag)]));
    }
}

fn unknown_statements() -> Vec<Stmt> {
    let nat = || NAT {
        addr: Some(expr::word("10.0.0.1")),
        family: Some(NATFamily::IP),
        port: Some(Expr::Number(53)),
        flags: Some(HashSet::new()),
    };
    let limit = || Limit {
        rate: 10,
        rate_unit: None,
        per: Some("second".into()),
        burst: Some(20),
        burst_unit: None,
        inv: None,
    };
    let log = || Log { prefix: Some("vpnd".into()), ..Log::new(Some(1)) };
    vec![
        Statement::Accept(Some(Accept {})),
        Statement::Continue(None),
        Statement::Return(None),
        Statement::Redirect(None),
        Statement::SNAT(None),
        Statement::DNAT(None),
        Statement::DNAT(Some(nat())),
        Statement::DNAT(Some(NAT { port: None, flags: None, ..nat() })),
        Statement::Masquerade(Some(nat())),
        Statement::Counter(Counter::Named("one".into())),
        Statement::Counter(Counter::Anonymous(None)),
        Statement::Counter(Counter::Anonymous(Some(AnonymousCounter { packets: Some(1), bytes: None }))),
        Statement::Reject(None),
        Statement::Reject(Some(Reject::new(Some(RejectType::ICMP), Some(RejectCode::AdminProhibited)))),
        Statement::Reject(Some(Reject::new(Some(RejectType::ICMPX), Some(RejectCode::NoRoute)))),
        Statement::Reject(Some(Reject::new(Some(RejectType::ICMPX), None))),
        Statement::Limit(Limit { inv: Some(true), ..limit() }),
        Statement::Limit(Limit { burst_unit: Some("bytes".into()), ..limit() }),
        Statement::Limit(Limit { rate_unit: Some("bytes".into()), ..limit() }),
        Statement::Log(None),
        Statement::Log(Some(Log { snaplen: Some(64), ..log() })),
        Statement::Log(Some(Log { flags: Some(HashSet::new()), ..log() })),
        Statement::Match(Match { left: expr::ct("mark"), right: Expr::Number(1), op: Operator::LT }),
        Statement::Set(nftables::stmt::Set {
            op: SetOp::Add,
            elem: expr::ct("mark"),
            set: "@spoke_ipv4".into(),
        }),
        Statement::CTHelper("ftp".into()),
    ]
}

fn unknown_expressions() -> Vec<Expr> {
    let named = Expression::Named;
    let payload = |base| Payload::PayloadRaw(PayloadRaw { base, offset: 0, len: 8 });
    vec![
        Expr::Verdict(Verdict::Accept),
        Expr::BinaryOperation(Box::new(BinaryOperation::XOR(expr::ct("mark"), Expr::Number(1)))),
        named(NamedExpression::Meta(Meta { key: MetaKey::Skuid })),
        named(NamedExpression::RT(RT { key: RTKey::MTU, family: Some(RTFamily::IP) })),
        named(NamedExpression::CT(CT { key: "mark".into(), family: None, dir: Some(CTDir::Reply) })),
        named(NamedExpression::Payload(payload(PayloadBase::NH))),
        named(NamedExpression::TcpOption(TcpOption { name: "maxseg".into(), field: None })),
        named(NamedExpression::Elem(Elem::default())),
        named(NamedExpression::Set(vec![SetItem::Mapping(Expr::Number(1), Expr::Number(2))])),
    ]
}

/// Never left out: not where it stands by itself, not deep in others, and the whole object fails.
#[test]
fn what_is_not_known_is_an_error() {
    let in_rule = |stmt: Stmt| {
        let goto = Statement::Goto(nftables::stmt::JumpTarget { target: "x".into() });
        super::rule(&base::rule("forward", vec![goto, stmt], "0.0 a rule".to_owned()))
    };
    assert!(in_rule(Statement::Drop(None)).is_ok(), "control");
    for stmt in unknown_statements() {
        assert!(statement::written(&stmt).is_err(), "{stmt:?}");
        assert!(in_rule(stmt.clone()).is_err(), "{stmt:?}");
        let map = base::verdicts(expr::meta(MetaKey::Iifname), vec![(expr::word("lo"), stmt.clone())]);
        assert!(in_rule(map.unwrap()).is_err(), "{stmt:?}");
    }
    for unknown in unknown_expressions() {
        assert!(expression::written(&unknown).is_err(), "{unknown:?}");
        let (one, other) = (|| unknown.clone(), || Expr::Number(1));
        let around = [
            expr::concat(vec![other(), one()]),
            expr::one_of(vec![other(), one()]),
            Expr::List(vec![other(), one()]),
            expr::and(other(), one()),
            expr::and(one(), other()),
            expr::or(vec![other(), one()]),
        ];
        for unknown in around {
            assert!(expression::written(&unknown).is_err(), "{unknown:?}");
        }
        assert!(in_rule(expr::is(one(), other())).is_err() && in_rule(expr::is(other(), one())).is_err());
    }
    let (rule, chain) = (base::rule("c", Vec::new(), String::new()), base::regular_chain("c"));
    let set = base::spoke_set(Family::V4).declaration();
    assert!(
        super::rule(&rule).is_ok() && super::chain(&chain).is_ok() && super::set(&set).is_ok(),
        "control"
    );
    assert!(super::rule(&Rule { handle: Some(1), ..rule.clone() }).is_err());
    assert!(super::rule(&Rule { family: NfFamily::IP, ..rule.clone() }).is_err());
    assert!(super::rule(&Rule { comment: None, ..rule }).is_err());
    assert!(super::chain(&Chain { newname: Some("d".into()), ..chain.clone() }).is_err());
    assert!(super::chain(&Chain { family: NfFamily::IP6, ..chain }).is_err());
    assert!(super::set(&Set { comment: Some("of mine".into()), ..set.clone() }).is_err());
    assert!(super::set(&Set { set_type: SetTypeValue::Single(SetType::Ifname), ..set.clone() }).is_err());
    let types = SetTypeValue::Concatenated(vec![SetType::Ifname, SetType::Mark].into());
    assert_eq!(super::set(&Set { set_type: types, ..set }), Err(Unwritten("a set's type like this")));
    let fib = Fib { result: FibResult::Type, flags: HashSet::new() };
    assert!(expression::written(&Expr::Named(NamedExpression::Fib(fib))).is_ok());
}

/// No process is started: this one could not be.
#[test]
fn what_is_not_known_ends_an_apply() {
    let rule = base::rule("blocked", vec![Statement::Continue(None)], "0.0 goes on".to_owned());
    let chains = vec![base::regular_chain("blocked")];
    let ruleset = Ruleset::new(PolicyState::Blocked, Vec::new(), chains, vec![rule]);
    let why = Unwritten("a statement like this");
    assert_eq!((ruleset.to_json(), ruleset.hash()), (Err(why), Err(why)));
    assert!(ruleset.to_string().contains("<a statement like this> comment"));
    let error = Nft::new("/nonexistent/nft".into()).apply(&ruleset).unwrap_err();
    assert!(matches!(error, Error::Unwritten(_)), "{error}");
}
