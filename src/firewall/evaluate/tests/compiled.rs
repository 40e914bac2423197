//! What the compiler emits, and what it does not.

use super::*;

/// What it does not know is an error: no rule is skipped, no value taken for something else.
#[test]
fn nothing_is_guessed() {
    let conversion = |statements: Vec<Stmt>| {
        let rules = [rule("base", statements, String::new())];
        Evaluator::of_objects(&[], &[filter(NfHook::Forward, -10)], &rules).err()
    };
    let unknown: Vec<Stmt> = vec![
        Statement::Log(None),
        base::told(Row::Dns).remove(0),
        Statement::Masquerade(Some(NAT { addr: None, family: None, port: None, flags: None })),
        goto("elsewhere"),
        is(expr::meta(MetaKey::Skuid), number(0)),
        is(expr::ct("zone"), number(0)),
        is(expr::field("ip", "ttl"), number(1)),
        is(expr::transport_bits(4, 8), number(1)),
        is(expr::meta(MetaKey::Iifname), word("eth*")),
        is(expr::meta(MetaKey::L4proto), word("sctp")),
        is(expr::meta(MetaKey::L4proto), number(256)),
        is(expr::field("ip", "daddr"), word("fe80::1")),
        is(expr::concat(vec![expr::meta(MetaKey::Iifname), expr::field("ip", "saddr")]), word("@nowhere")),
        has(expr::meta(MetaKey::L4proto), number(6)),
        set_to(expr::meta(MetaKey::L4proto), number(6)),
        is(
            expr::meta(MetaKey::L4proto),
            Expr::Named(NamedExpression::Set(vec![SetItem::Mapping(number(1), number(2))])),
        ),
    ];
    for statement in unknown {
        let said = conversion(vec![statement.clone(), accept()]);
        assert!(said.is_some(), "{statement:?}");
        assert!(said.unwrap().to_string().starts_with("evaluating rules: "));
    }
    assert_eq!(conversion(vec![accept()]), None);
    // A rule that tells of packets is known, and nothing else that holds a limit.
    let told = || base::told(Row::Dns);
    assert_eq!(conversion(told()), None);
    for also in [accept(), goto("base"), Statement::Notrack] {
        assert!(conversion(told().into_iter().chain([also.clone()]).collect()).is_some(), "{also:?}");
    }
}

/// Settings with each listed thing there or not, marks whole and partial.
fn variants() -> Vec<Settings> {
    let clear: [fn(&mut Settings); 8] = [
        |s| s.allow_wan_private.clear(),
        |s| s.allow_wan_multicast.clear(),
        |s| s.allow_wan_service.clear(),
        |s| s.allow_tunnel_forward.clear(),
        |s| s.resolvers.clear(),
        |s| s.mark = Mark::DEFAULT,
        |s| s.api.clear(),
        |s| s.lan.devices.truncate(1),
    ];
    let variant = |chosen: u32| {
        let mut settings = samples::full();
        let chosen = (0..).zip(clear).filter(|(bit, _)| chosen >> bit & 1 == 1);
        chosen.for_each(|(_, clear)| clear(&mut settings));
        settings
    };
    (0..256).step_by(17).map(variant).chain([samples::plain(), samples::nothing()]).collect()
}

/// Fails when compile() learns to emit what the evaluator does not know.
#[test]
fn every_ruleset_of_the_compiler_is_known() {
    let mut policies: Vec<Policy> = Vec::new();
    for settings in variants() {
        let stances = samples::cases().into_iter().map(|case| case.stance);
        policies.extend(stances.filter_map(|stance| compose(&stance, &settings, &samples::full_facts())));
    }
    assert!(policies.len() > 150);
    let mut statements = std::collections::BTreeSet::new();
    for policy in &policies {
        let ruleset = compile(policy);
        let known = Evaluator::new(&ruleset);
        assert_eq!(known.as_ref().err(), None, "{policy:?}");
        for (at, rule) in (0..).zip(ruleset.rules()) {
            assert!(ruleset.row(at).is_some(), "{rule:?}");
            let kinds = rule.expr.iter().map(|statement| serde_json::to_value(statement).unwrap());
            statements.extend(kinds.map(|kind| match kind {
                serde_json::Value::Object(map) => map.keys().next().cloned().unwrap_or_default(),
                other => other.to_string(),
            }));
        }
    }
    // All kinds of statements were among them.
    let mut kinds: Vec<&str> = statements.iter().map(|kind| kind.trim_matches('"')).collect();
    kinds.sort_unstable();
    let wanted = [
        "accept",
        "counter",
        "dnat",
        "drop",
        "goto",
        "jump",
        "limit",
        "log",
        "mangle",
        "masquerade",
        "match",
        "notrack",
        "reject",
        "set",
        "vmap",
    ];
    assert_eq!(kinds, wanted);
}

/// A packet of the story: a LAN host asks a foreign resolver, and the tunnel's own is allowed.
#[test]
fn a_journey_through_a_compiled_ruleset() {
    let case = samples::cases().into_iter().find(|case| case.name == "connected-full").unwrap();
    let ruleset = compile(&compose(&case.stance, &case.settings, &case.facts).unwrap());
    let evaluator = Evaluator::new(&ruleset).unwrap();
    let devices = Devices { iif: devices().iif, oif: Some("vpnd0".parse().unwrap()) };
    let world = World {
        source: RouteType::Unicast,
        own_address: Some("10.64.10.20".parse().unwrap()),
        ..World::default()
    };
    for (to, wanted, comment) in [
        ("9.9.9.9", Verdict::Reject(Refusal::Prohibited), "0.0 refused to the LAN"),
        ("10.64.0.7", Verdict::Accept, "3.5 the in-tunnel resolver is asked"),
    ] {
        let mut packet = Packet { destination: to.parse().unwrap(), ..udp() };
        let said = evaluator.journey(Path::Forward, &mut packet, &devices, &mut Flow::new(), &world).unwrap();
        assert_eq!(said.verdict, wanted);
        let rule = said.decisive().unwrap().rule.unwrap();
        assert_eq!(ruleset.rules()[rule as usize].comment.as_deref(), Some(comment));
    }
}
