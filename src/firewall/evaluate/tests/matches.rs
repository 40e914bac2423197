//! What rules look at.

use super::*;

#[test]
fn devices_are_compared_by_whole_names() {
    assert!(passes(meta(MetaKey::Iifname, word("br-lan")), &udp()));
    assert!(!passes(meta(MetaKey::Iifname, word("br-la")), &udp()));
    assert!(!passes(meta(MetaKey::Iifname, word("br-lan2")), &udp()));
    assert!(passes(meta(MetaKey::Oifname, word("eth1")), &udp()));
    let several = || expr::one_of(vec![word("lo"), word("eth1")]);
    assert!(passes(meta(MetaKey::Oifname, several()), &udp()));
    assert!(!passes(vec![is_not(expr::meta(MetaKey::Oifname), several())], &udp()));
    // The hook has no such device: its name is empty.
    let chain = filter(NfHook::Output, -10);
    let rules =
        vec![rule("base", [meta(MetaKey::Iifname, word("br-lan")), vec![accept()]].concat(), String::new())];
    let output = evaluator(vec![chain], rules);
    let said =
        output.hook(Hook::Output, &mut udp(), &devices(), &mut Flow::new(), &World::default()).unwrap();
    assert_eq!(said.verdict, Verdict::Drop);
}

#[test]
fn family_protocol_and_mark() {
    assert!(passes(vec![expr::of_family(Family::V4)], &udp()));
    assert!(!passes(vec![expr::of_family(Family::V6)], &udp()));
    assert!(passes(vec![expr::of_family(Family::V6)], &udp6()));
    assert!(passes(meta(MetaKey::L4proto, expr::one_of(vec![number(6), number(17)])), &udp()));
    assert!(!passes(meta(MetaKey::L4proto, number(6)), &udp()));
    let marked = |mark| Packet { mark, ..udp() };
    let bits = || vec![is(expr::and(expr::meta(MetaKey::Mark), number(0xff_0000)), number(0x41_0000))];
    assert!(passes(bits(), &marked(0x1241_3456)));
    assert!(!passes(bits(), &marked(0x1240_3456)));
    assert!(!passes(meta(MetaKey::Mark, number(0x41_0000)), &marked(0x1241_3456)));
}

#[test]
fn addresses_prefixes_and_sets_of_one_family() {
    let nets =
        |texts: &[&str]| expr::nets(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>());
    let to = |texts: &[&str]| vec![is(expr::field("ip", "daddr"), nets(texts))];
    assert!(passes(to(&["1.1.1.1/32"]), &udp()));
    assert!(passes(to(&["1.1.1.0/31"]), &udp()));
    assert!(!passes(to(&["1.1.1.2/31"]), &udp()));
    assert!(passes(to(&["10.0.0.0/8", "1.1.0.0/16"]), &udp()));
    let not_to = || vec![is_not(expr::field("ip", "daddr"), nets(&["10.0.0.0/8"]))];
    assert!(passes(not_to(), &udp()));
    // nft demands the family first, also for "not".
    assert!(!passes(not_to(), &udp6()));
    assert!(passes(vec![is(expr::field("ip6", "saddr"), nets(&["fe80::/10"]))], &udp6()));
    assert!(!passes(vec![is(expr::field("ip6", "saddr"), nets(&["fec0::/10"]))], &udp6()));
    assert!(passes(vec![is(expr::field("ip6", "hoplimit"), number(64))], &udp6()));
    assert!(!passes(vec![is_not(expr::field("ip6", "hoplimit"), number(255))], &udp()));
}

#[test]
fn ports_and_types_imply_their_protocol() {
    let port = |protocol, field, port: u32| vec![is(expr::field(protocol, field), number(port))];
    assert!(passes(port("udp", "dport", 53), &udp()));
    assert!(passes(port("udp", "sport", 0x1234), &udp()));
    assert!(passes(port("th", "dport", 53), &udp()));
    assert!(!passes(port("tcp", "dport", 53), &udp()));
    assert!(passes(port("tcp", "dport", 443), &tcp(2)));
    // Another protocol's header has bytes there, too.
    assert!(passes(port("th", "dport", 53), &Packet { protocol: 132, ..udp() }));
    // A fragment that is not the first has none.
    assert!(!passes(port("th", "dport", 53), &Packet { transport: Vec::new(), ..udp() }));
    let echo = |from, to, protocol| packet(from, to, protocol, &[134, 0, 0, 0]);
    let kind = |protocol| vec![is(expr::field(protocol, "type"), number(134))];
    assert!(passes(kind("icmpv6"), &echo("fe80::1", "ff02::1", 58)));
    assert!(!passes(kind("icmpv6"), &echo("10.0.0.1", "10.0.0.2", 58)));
    assert!(passes(kind("icmp"), &echo("10.0.0.1", "10.0.0.2", 1)));
    assert!(!passes(kind("icmp"), &echo("fe80::1", "ff02::1", 1)));
    let code = vec![is(expr::field("icmpv6", "code"), number(0))];
    assert!(passes(code, &echo("fe80::1", "ff02::1", 58)));
}

#[test]
fn tcp_flags() {
    let flags = Expr::List(vec![word("syn"), word("rst")]);
    let opens = || vec![is(expr::and(expr::field("tcp", "flags"), flags.clone()), word("syn"))];
    assert!(passes(opens(), &tcp(0x02)));
    assert!(passes(opens(), &tcp(0x12)));
    assert!(!passes(opens(), &tcp(0x06)));
    assert!(!passes(opens(), &tcp(0x10)));
}

#[test]
fn raw_bits_of_the_transport_header() {
    let raw = |offset, len, value| vec![is(expr::transport_bits(offset, len), value)];
    assert!(passes(raw(8, 8, number(0x34)), &udp()));
    assert!(passes(raw(0, 32, number(0x1234_0035)), &udp()));
    assert!(!passes(raw(0, 32, number(0x1234_0036)), &udp()));
    assert!(!passes(raw(48, 32, number(0)), &udp()), "beyond the packet");
    let nibble = vec![is(expr::and(expr::transport_bits(8, 8), number(0xf0)), number(0x30))];
    assert!(passes(nibble, &udp()));
    let mut long = udp();
    long.transport = (0..16).collect();
    let text = Expr::String("0x000102030405060708090a0b0c0d0e0f".into());
    assert!(passes(raw(0, 128, text), &long));
}

#[test]
fn what_conntrack_says() {
    let says = |statement: Stmt, flow: &Flow| {
        verdict(&matcher(vec![statement]), &udp(), flow, &World::default()) == Verdict::Accept
    };
    let state = |name| has(expr::ct("state"), word(name));
    let established = Flow::later(FlowState::Established, true);
    assert!(says(state("established"), &established));
    assert!(!says(state("related"), &established));
    assert!(says(state("new"), &Flow::new()));
    assert!(!says(state("new"), &Flow::later(FlowState::Untracked, false)));
    let reply = || is(expr::ct("direction"), word("reply"));
    assert!(says(reply(), &established));
    assert!(!says(reply(), &Flow::new()));
    // Without an entry there is no direction, mark or status.
    assert!(!says(reply(), &Flow { reply: true, ..Flow::later(FlowState::Untracked, true) }));
    assert!(!says(is(expr::ct("mark"), number(0)), &Flow::later(FlowState::Invalid, false)));
    assert!(says(is(expr::ct("mark"), number(7)), &Flow { mark: 7, ..established }));
    let translated = || has(expr::ct("status"), word("dnat"));
    assert!(says(translated(), &Flow { dnat: true, ..Flow::new() }));
    assert!(!says(translated(), &Flow::new()));
}

#[test]
fn before_conntrack_nothing_is_known_of_the_flow() {
    let reply = vec![is(expr::ct("direction"), word("reply")), accept()];
    for (priority, wanted) in [(-300, Verdict::Drop), (-150, Verdict::Accept)] {
        let chain = filter(NfHook::Output, priority);
        let output = evaluator(vec![chain], vec![rule("base", reply.clone(), String::new())]);
        let mut flow = Flow::later(FlowState::Established, true);
        let said = output.hook(Hook::Output, &mut udp(), &devices(), &mut flow, &World::default());
        assert_eq!(said.unwrap().verdict, wanted, "{priority}");
    }
}

#[test]
fn what_the_kernel_is_asked() {
    let says = |statement: Stmt, world: &World| {
        verdict(&matcher(vec![statement]), &udp(), &Flow::new(), world) == Verdict::Accept
    };
    let world = World { destination: RouteType::Multicast, routed: false, ..World::default() };
    let kinds = || expr::one_of(vec![word("local"), word("multicast")]);
    assert!(says(is(expr::destination_type(), kinds()), &world));
    assert!(!says(is_not(expr::destination_type(), kinds()), &world));
    assert!(says(is(expr::device_of_route(), Expr::Boolean(false)), &world));
    assert!(!says(is(expr::device_of_route(), Expr::Boolean(false)), &World::default()));
    let foreign = || is_not(expr::source_type_on_output_device(), word("local"));
    assert!(!says(foreign(), &World::default()));
    assert!(says(foreign(), &World { source: RouteType::Unicast, ..World::default() }));
}

#[test]
fn who_spoke_first() {
    let key = || expr::concat(vec![expr::meta(MetaKey::Oifname), expr::field("ip", "daddr")]);
    let known = matcher(vec![is(key(), word("@spoke_ipv4"))]);
    let world = |device: &str, addr: &str| World {
        spoke: vec![(device.parse().unwrap(), addr.parse().unwrap())],
        ..World::default()
    };
    let said = |packet: &Packet, world: &World| verdict(&known, packet, &Flow::new(), world);
    assert_eq!(said(&udp(), &world("eth1", "1.1.1.1")), Verdict::Accept);
    assert_eq!(said(&udp(), &world("eth2", "1.1.1.1")), Verdict::Drop);
    assert_eq!(said(&udp(), &world("eth1", "1.1.1.2")), Verdict::Drop);
    assert_eq!(said(&udp(), &World::default()), Verdict::Drop);
    assert_eq!(said(&udp6(), &world("eth1", "::101:101")), Verdict::Drop);
    let remember = Statement::Set(Set {
        op: SetOp::Update,
        elem: expr::concat(vec![expr::meta(MetaKey::Iifname), expr::field("ip6", "saddr")]),
        set: "@spoke_ipv6".into(),
    });
    let update =
        evaluator(vec![filter(NfHook::Input, -10)], vec![rule("base", vec![remember], String::new())]);
    for (packet, remembered) in [(udp6(), true), (udp(), false)] {
        let said = update
            .hook(Hook::Input, &mut packet.clone(), &devices(), &mut Flow::new(), &World::default())
            .unwrap();
        assert_eq!(said.changes.remembered, remembered);
    }
}
