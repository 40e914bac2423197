//! The one spelling: what is the same to it and what is not.

use serde_json::{Value, json};

use crate::firewall::normal::Normal;

fn of(rule: Value) -> Normal {
    let rule =
        json!({ "rule": { "family": "inet", "table": "vpnd", "chain": "c", "handle": 7, "expr": [rule] } });
    let chain = json!({ "chain": { "name": "c", "handle": 3, "prio": -10 } });
    Normal::of_objects([chain, rule])
}

fn matched(left: Value, right: Value) -> Value {
    json!({ "match": { "op": "==", "left": left, "right": right } })
}

#[test]
fn other_words_for_the_same() {
    let l4proto = json!({ "meta": { "key": "l4proto" } });
    let icmpv6 = |field: &str| json!({ "payload": { "protocol": "icmpv6", "field": field } });
    let daddr = json!({ "payload": { "protocol": "ip6", "field": "daddr" } });
    let flags = json!({ "payload": { "protocol": "tcp", "field": "flags" } });
    let mark = json!({ "meta": { "key": "mark" } });
    let pairs = [
        (
            matched(l4proto.clone(), json!({ "set": ["tcp", "udp"] })),
            matched(l4proto, json!({ "set": [17, 6] })),
        ),
        (matched(icmpv6("code"), json!("no-route")), matched(icmpv6("code"), json!(0))),
        (matched(icmpv6("type"), json!("nd-neighbor-solicit")), matched(icmpv6("type"), json!(135))),
        (matched(daddr.clone(), json!("fe80:0::1")), matched(daddr.clone(), json!("fe80::1"))),
        (
            matched(daddr.clone(), json!({ "prefix": { "addr": "fe80::1", "len": 128 } })),
            matched(daddr, json!({ "set": ["fe80::1"] })),
        ),
        (
            matched(json!({ "&": [flags, ["syn", "rst"]] }), json!("syn")),
            matched(json!({ "&": [flags, { "|": ["rst", "syn"] }] }), json!("syn")),
        ),
        (
            json!({ "mangle": { "key": mark, "value": { "|": [{ "&": [mark, 0xff00] }, 3] } } }),
            json!({ "mangle": { "key": mark, "value": { "^": [{ "&": [mark, 0xff03] }, 3] } } }),
        ),
        (json!({ "counter": null }), json!({ "counter": { "packets": 5, "bytes": 9 } })),
    ];
    for (one, other) in pairs {
        assert_eq!(of(one.clone()).difference(&of(other.clone())), None, "{one} {other}");
        assert_eq!(of(one).hash(), of(other).hash());
    }
}

#[test]
fn what_means_something_else_is_told_apart() {
    let daddr = json!({ "payload": { "protocol": "ip", "field": "daddr" } });
    let mark = json!({ "meta": { "key": "mark" } });
    let pairs = [
        (json!({ "accept": null }), json!({ "drop": null })),
        (matched(daddr.clone(), json!("10.0.0.1")), matched(daddr.clone(), json!("10.0.0.2"))),
        (
            matched(daddr.clone(), json!("10.0.0.0")),
            matched(daddr.clone(), json!({ "prefix": { "addr": "10.0.0.0", "len": 8 } })),
        ),
        (
            matched(daddr.clone(), json!("10.0.0.1")),
            json!({ "match": { "op": "!=", "left": daddr, "right": "10.0.0.1" } }),
        ),
        (
            json!({ "mangle": { "key": mark, "value": { "|": [{ "&": [mark, 0xff00] }, 3] } } }),
            json!({ "mangle": { "key": mark, "value": { "|": [{ "&": [mark, 0xff00] }, 1] } } }),
        ),
        (matched(mark.clone(), json!(1)), matched(json!({ "ct": { "key": "mark" } }), json!(1))),
    ];
    for (one, other) in pairs {
        assert!(of(one.clone()).difference(&of(other.clone())).is_some(), "{one} {other}");
        assert_ne!(of(one).hash(), of(other).hash());
    }
}

#[test]
fn order_of_rules_is_meaning_and_a_dormant_table_is_a_difference() {
    let rule = |verdict: &str| json!({ "rule": { "chain": "c", "expr": [{ verdict: null }] } });
    let one = Normal::of_objects([rule("accept"), rule("drop")]);
    let other = Normal::of_objects([rule("drop"), rule("accept")]);
    assert!(one.difference(&other).is_some());
    let dormant = json!({ "table": { "family": "inet", "name": "vpnd", "flags": ["dormant"] } });
    let asleep = Normal::of_objects([dormant, rule("accept"), rule("drop")]);
    assert!(asleep.difference(&one).is_some());
    assert_ne!(asleep.hash(), one.hash());
}
