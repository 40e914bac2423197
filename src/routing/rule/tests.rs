use proptest::prelude::*;

use super::*;

fn whole() -> Rule {
    Rule {
        from_router: true,
        mark: Some((0x6d6f_6c65, 0xffff_ffff)),
        to: Some("10.0.0.0/8".parse().unwrap()),
        out: Some("wan0".to_owned()),
        protocol: Some(17),
        source_port: Some(68),
        destination_port: Some(67),
        suppress_length: Some(0),
        suppress_group: Some(7),
        ..Rule::new(Family::V4, 120, Action::Lookup(7651))
    }
}

#[test]
fn a_rule_is_read_as_it_is_written() {
    for rule in [whole(), Rule::new(Family::V6, 199, Action::Unreachable)] {
        let body = rule.request(libc::RTM_NEWRULE).body;
        assert_eq!((priority_of(&body), Rule::read(&body)), (rule.priority, Some(rule)));
    }
}

#[test]
fn what_no_rule_of_ours_says_makes_it_anothers() {
    let body = whole().request(libc::RTM_NEWRULE).body;
    // A tunnel's id, a realm, users; a range of ports; a device; a value that cannot be read.
    let said: [(u16, &[u8]); 7] = [
        (12, &[0; 8]),
        (11, &[0; 4]),
        (20, &[0; 8]),
        (FRA_SPORT_RANGE, &[1, 1, 1, 2]),
        (FRA_IIFNAME, b"eth0\0"),
        (FRA_TABLE, &[1]),
        (FRA_SPORT_MASK, &[0xff, 0]),
    ];
    for (kind, value) in said {
        let mut body = body.clone();
        put(&mut body, kind, value);
        assert_eq!(Rule::read(&body), None, "{kind}");
    }
    // Source, tos, another action, "not".
    for (at, value) in [(2, 8), (3, 4), (7, 6), (if cfg!(target_endian = "little") { 8 } else { 11 }, 2)] {
        let mut body = body.clone();
        body[at] = value;
        assert_eq!(Rule::read(&body), None, "{at}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = (Rule::read(&bytes), priority_of(&bytes));
    }
}

/// A router's rules as a kernel lists them (x86_64): `local`, a few of ours, `main`, and IPv6's.
#[cfg(target_endian = "little")]
#[test]
fn a_kernels_rules_are_read() {
    let dump = include_bytes!("../../../fuzz/seeds/rtnetlink/rules");
    let rules: Vec<String> = crate::netlink::messages(dump)
        .map(|message| match Rule::read(message.body) {
            Some(rule) => rule.to_string(),
            None => format!("another's, of priority {}", priority_of(message.body)),
        })
        .collect();
    let wanted = [
        "IPv4 rule 0: lookup 255",
        "IPv4 rule 100: fwmark 0x6d6f6c65/0xffffffff lookup 254",
        "IPv4 rule 101: to 192.0.2.0/24 iif lo lookup 7651",
        "IPv4 rule 102: oif wan ipproto 17 sport 68 dport 67 lookup 254 suppress_prefixlength 0",
        "IPv4 rule 32766: lookup 254",
        "IPv4 rule 32767: lookup 253",
        "IPv6 rule 0: lookup 255",
        "IPv6 rule 103: unreachable",
        "IPv6 rule 32766: lookup 254",
    ];
    assert_eq!(rules, wanted);
}
