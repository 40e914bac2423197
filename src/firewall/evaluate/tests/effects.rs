//! What rules do.

use std::net::IpAddr;

use super::*;

#[test]
fn goto_does_not_come_back_and_jump_does() {
    let chains = || vec![filter(NfHook::Forward, -10), regular_chain("aside")];
    let run = |first: Stmt, aside: Vec<Stmt>| {
        let rules = vec![
            rule("base", vec![first], String::new()),
            rule("aside", aside, String::new()),
            rule("base", vec![accept()], String::new()),
        ];
        let evaluator = evaluator(chains(), rules);
        evaluator.hook(Hook::Forward, &mut udp(), &devices(), &mut Flow::new(), &World::default()).unwrap()
    };
    let counter = || vec![statement::counter()];
    let back = run(jump("aside"), counter());
    assert_eq!((back.verdict, back.rule), (Verdict::Accept, Some(2)));
    assert_eq!(back.steps.iter().map(|step| step.rule).collect::<Vec<_>>(), [0, 1, 2]);
    let gone = run(goto("aside"), counter());
    assert_eq!((gone.verdict, gone.rule, gone.chain.as_str()), (Verdict::Drop, None, "base"));
    assert_eq!(run(jump("aside"), vec![Statement::Return(None)]).verdict, Verdict::Accept);
    let dropped = run(jump("aside"), vec![Statement::Drop(None)]);
    assert_eq!((dropped.verdict, dropped.rule, dropped.chain.as_str()), (Verdict::Drop, Some(1), "aside"));
}

#[test]
fn chains_in_a_circle_are_an_error() {
    let rules = vec![
        rule("base", vec![goto("aside")], String::new()),
        rule("aside", vec![goto("base")], String::new()),
    ];
    let circle = evaluator(vec![filter(NfHook::Forward, -10), regular_chain("aside")], rules);
    let said = circle.hook(Hook::Forward, &mut udp(), &devices(), &mut Flow::new(), &World::default());
    assert_eq!(said, Err(Unknown::Circle));
}

#[test]
fn verdict_maps_by_one_key_and_by_two() {
    let key = || expr::concat(vec![expr::meta(MetaKey::Iifname), expr::meta(MetaKey::Oifname)]);
    let pair = |from, to| expr::concat(vec![word(from), word(to)]);
    let entries = vec![(pair("eth1", "br-lan"), Statement::Drop(None)), (pair("br-lan", "eth1"), accept())];
    let pairs = base::verdicts(key(), entries).unwrap();
    let one = base::verdicts(expr::meta(MetaKey::Iifname), vec![(word("lo"), accept())]).unwrap();
    for (map, wanted) in [(pairs, Verdict::Accept), (one, Verdict::Drop)] {
        let evaluator =
            evaluator(vec![filter(NfHook::Forward, -10)], vec![rule("base", vec![map], String::new())]);
        assert_eq!(verdict(&evaluator, &udp(), &Flow::new(), &World::default()), wanted);
    }
}

#[test]
fn an_accept_ends_one_base_chain_and_a_drop_all() {
    let early = base_chain("early", NfChainType::Filter, NfHook::Forward, -150, NfChainPolicy::Accept);
    let late = filter(NfHook::Forward, -10);
    let run = |first: Stmt, second: Stmt| {
        let rules =
            vec![rule("base", vec![second], String::new()), rule("early", vec![first], String::new())];
        let evaluator = evaluator(vec![late.clone(), early.clone()], rules);
        let said = evaluator
            .hook(Hook::Forward, &mut udp(), &devices(), &mut Flow::new(), &World::default())
            .unwrap();
        (said.verdict, said.rule)
    };
    assert_eq!(run(accept(), base::reset()), (Verdict::Reject(Refusal::Reset), Some(0)));
    assert_eq!(run(accept(), base::prohibited()), (Verdict::Reject(Refusal::Prohibited), Some(0)));
    assert_eq!(run(Statement::Drop(None), accept()), (Verdict::Drop, Some(1)));
    assert_eq!(run(accept(), accept()), (Verdict::Accept, Some(0)));
}

/// Chains at raw, mangle and filter: untracking, marking, what is left to see of it.
#[test]
fn marks_and_untracking() {
    let chains = vec![
        base_chain("raw", NfChainType::Filter, NfHook::Output, -300, NfChainPolicy::Accept),
        filter(NfHook::Output, -10),
    ];
    let kept = expr::and(expr::meta(MetaKey::Mark), number(0xff41_ffff));
    let partly = set_to(expr::meta(MetaKey::Mark), expr::or(vec![kept, number(0x41_0000)]));
    let rules = vec![
        rule("raw", vec![partly, Statement::Notrack, accept()], String::new()),
        rule("base", vec![has(expr::ct("state"), word("untracked")), accept()], String::new()),
    ];
    let mut packet = Packet { mark: 0x1287_3456, ..udp() };
    let mut flow = Flow::new();
    let said = evaluator(chains, rules)
        .hook(Hook::Output, &mut packet, &devices(), &mut flow, &World::default())
        .unwrap();
    assert_eq!((said.verdict, packet.mark), (Verdict::Accept, 0x1241_3456));
    assert!(said.changes.untracked && said.changes.mark && flow.state == FlowState::Untracked);

    let whole = matcher(vec![set_to(expr::ct("mark"), number(5))]);
    for (mut flow, mark) in [(Flow::new(), 5), (Flow::later(FlowState::Untracked, false), 0)] {
        whole.hook(Hook::Forward, &mut udp(), &devices(), &mut flow, &World::default()).unwrap();
        assert_eq!(flow.mark, mark);
    }
    // After conntrack there is nothing to untrack any more.
    let late = matcher(vec![Statement::Notrack]);
    let mut flow = Flow::new();
    late.hook(Hook::Forward, &mut udp(), &devices(), &mut flow, &World::default()).unwrap();
    assert_eq!(flow, Flow::new());
}

#[test]
fn segment_sizes() {
    let mtu = Expression::Named(NamedExpression::RT(RT { key: RTKey::MTU, family: None }));
    let clamp = matcher(vec![set_to(expr::tcp_mss(), mtu)]);
    let said =
        clamp.hook(Hook::Forward, &mut tcp(2), &devices(), &mut Flow::new(), &World::default()).unwrap();
    assert!(said.changes.segment_size && said.verdict == Verdict::Accept);
}

#[test]
fn destinations_are_translated_once_a_flow() {
    let chain = base_chain("nat", NfChainType::NAT, NfHook::Prerouting, -110, NfChainPolicy::Accept);
    let to = NAT {
        addr: Some(Expr::String("192.168.1.5".into())),
        family: Some(NATFamily::IP),
        port: Some(number(8080)),
        flags: None,
    };
    let nat = evaluator(vec![chain], vec![rule("nat", vec![Statement::DNAT(Some(to))], String::new())]);
    for (packet, mut flow, done) in [
        (udp(), Flow::new(), true),
        (udp6(), Flow::new(), false),
        (udp(), Flow::later(FlowState::Established, false), false),
        (udp(), Flow { first: true, ..Flow::later(FlowState::Untracked, false) }, false),
    ] {
        let mut packet = packet;
        let said = nat.hook(Hook::Prerouting, &mut packet, &devices(), &mut flow, &World::default()).unwrap();
        assert_eq!((said.changes.dnat, flow.dnat), (done, done));
        assert_eq!(packet.destination == "192.168.1.5".parse::<IpAddr>().unwrap(), done);
        assert_eq!(packet.transport[2..4] == [0x1f, 0x90], done);
    }
}

#[test]
fn sources_are_translated_before_the_late_chain_looks() {
    let nat = base_chain("nat", NfChainType::NAT, NfHook::Postrouting, 90, NfChainPolicy::Accept);
    let late = base_chain("late", NfChainType::Filter, NfHook::Postrouting, 300, NfChainPolicy::Accept);
    let foreign = is_not(expr::source_type_on_output_device(), word("local"));
    let rules = vec![
        rule("late", vec![foreign, Statement::Drop(None)], String::new()),
        rule("nat", vec![Statement::Masquerade(None)], String::new()),
    ];
    let nat = evaluator(vec![late, nat], rules);
    let own: Option<IpAddr> = Some("10.64.0.2".parse().unwrap());
    let world = World { source: RouteType::Unicast, own_address: own, ..World::default() };
    let said = |mut flow: Flow, world: &World| {
        let mut packet = udp();
        let said = nat.hook(Hook::Postrouting, &mut packet, &devices(), &mut flow, world).unwrap();
        (said.verdict, Some(packet.source) == own)
    };
    let later = Flow::later(FlowState::Established, false);
    assert_eq!(said(Flow::new(), &world), (Verdict::Accept, true));
    assert_eq!(said(Flow { masqueraded: true, ..later }, &world), (Verdict::Accept, true));
    assert_eq!(said(later, &world), (Verdict::Drop, false));
    assert_eq!(said(Flow::later(FlowState::Untracked, false), &world), (Verdict::Drop, false));
    let reply = Flow { dnat: true, reply: true, ..later };
    assert_eq!(said(reply, &world), (Verdict::Accept, true));
    assert_eq!(said(Flow::new(), &World { own_address: None, ..world.clone() }).0, Verdict::Drop);
}

/// Found by the differential test: the bits that are kept are read first, and without a conntrack
/// entry that read fails and ends the rule (nft_ct_get_eval).
#[test]
fn a_connection_mark_is_changed_in_part_only_where_there_is_one() {
    let value = expr::or(vec![expr::and(expr::ct("mark"), number(0xff00_ffff)), number(0x0040_0000)]);
    let part = matcher(vec![set_to(expr::ct("mark"), value)]);
    let whole = matcher(vec![set_to(expr::ct("mark"), number(7))]);
    for (state, wanted) in [(FlowState::New, Verdict::Accept), (FlowState::Invalid, Verdict::Drop)] {
        let flow = Flow::later(state, false);
        assert_eq!(verdict(&part, &udp(), &flow, &World::default()), wanted, "{state:?}");
        assert_eq!(verdict(&whole, &udp(), &flow, &World::default()), Verdict::Accept, "{state:?}");
    }
}
