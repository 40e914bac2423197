use super::*;
use crate::control::{
    BlockedList, IncidentStatus, PolicyStatus, RelayStatus, Status, TunnelState, WantedStatus,
};
use crate::policy::PolicyState;
use crate::policy::reason::Zone;
use crate::state::{Boot, Generation};

#[derive(Debug, PartialEq)]
struct Inner {
    what: String,
    on: bool,
}
#[derive(Debug, PartialEq)]
struct Outer {
    small: u8,
    large: u64,
    maybe: Option<u16>,
    count: u32,
    inner: Option<Inner>,
    list: Vec<Inner>,
    by_name: sorted::Map<Ipv4Addr, u32>,
}
#[derive(Debug, PartialEq)]
struct Strict {
    zone: Zone,
    address: Option<IpAddr>,
}
from_json!(struct Inner { what, on });
from_json!(struct Outer {
    small, large, maybe, count or default, inner, list or default, by_name or default
});
from_json!(strict struct Strict { zone, address });

fn outer(text: &str) -> Result<Outer, String> {
    from_bytes(text.as_bytes())
}

#[test]
fn every_kind_is_read_and_what_is_unknown_ignored() {
    let text = r#" {"small":255,"large":18446744073709551615,"maybe":65535,"count":4294967295,
        "inner":{"what":"\u00e9\n\ud83d\ude00","on":true,"new":[{}]},"list":[{"on":false,"what":""}],
        "by_name":{"192.0.2.1":7},"new":{"a":[1,2.5,null]}} "#;
    let inner = Inner { what: "é\n😀".into(), on: true };
    let expected = Outer {
        small: 255,
        large: u64::MAX,
        maybe: Some(65535),
        count: u32::MAX,
        inner: Some(inner),
        list: vec![Inner { what: String::new(), on: false }],
        by_name: [([192, 0, 2, 1].into(), 7)].into(),
    };
    assert_eq!(outer(text), Ok(expected));
}

#[test]
fn what_may_be_missing() {
    let least = || Outer {
        small: 0,
        large: 0,
        maybe: None,
        count: 0,
        inner: None,
        list: Vec::new(),
        by_name: sorted::Map::new(),
    };
    assert_eq!(outer(r#"{"small":0,"large":0}"#), Ok(least()));
    assert_eq!(outer(r#"{"small":0,"large":0,"maybe":null,"inner":null}"#), Ok(least()));
}

#[test]
fn errors_name_the_place() {
    for (more, expected) in [
        (r#""small":256"#, "small: is no whole number from 0 to 255"),
        (r#""small":-1"#, "small: is no whole number from 0 to 255"),
        (r#""small":1.0"#, "small: is no whole number from 0 to 255"),
        (r#""small":"1""#, "small: is no whole number from 0 to 255"),
        (r#""small":null"#, "small: is no whole number from 0 to 255"),
        (r#""large":1"#, "small: is missing"),
        (r#""small":1"#, "large: is missing"),
        (
            r#""small":1,"large":18446744073709551616"#,
            "large: is no whole number from 0 to 18446744073709551615",
        ),
        (r#""small":1,"large":1,"maybe":70000"#, "maybe: is no whole number from 0 to 65535"),
        (r#""small":1,"large":1,"count":null"#, "count: is no whole number from 0 to 4294967295"),
        (r#""small":1,"large":1,"inner":[]"#, "inner: is no object"),
        (r#""small":1,"large":1,"inner":{}"#, "inner.what: is missing"),
        (r#""small":1,"large":1,"inner":{"what":["a"],"on":true}"#, "inner.what: is no text"),
        (r#""small":1,"large":1,"inner":{"what":"","on":1}"#, "inner.on: is neither true nor false"),
        (r#""small":1,"large":1,"list":{}"#, "list: is no list"),
        (r#""small":1,"large":1,"list":null"#, "list: is no list"),
        (r#""small":1,"large":1,"list":[{"what":"","on":true},{"what":""}]"#, "list[1].on: is missing"),
        (r#""small":1,"large":1,"list":[7]"#, "list[0]: is no object"),
        (r#""small":1,"large":1,"by_name":{"a":1}"#, "by_name.a: invalid IPv4 address syntax"),
        (
            r#""small":1,"large":1,"by_name":{"192.0.2.1":true}"#,
            "by_name.192.0.2.1: is no whole number from 0 to 4294967295",
        ),
    ] {
        assert_eq!(outer(&format!("{{{more}}}")), Err(expected.to_owned()), "{more}");
    }
}

#[test]
fn what_is_no_json_object_is_refused() {
    for text in ["", " ", "[]", "7", "null", "\"a\"", "{", "{}{}", "{} x", "{\"a\":\"\u{1}\"}", "{\"a\":01}"]
    {
        assert!(outer(text).is_err_and(|error| error.contains(" at line 1 column ")), "{text}");
    }
    assert!(from_bytes::<Outer>(b"{\"a\":\"\xff\"}").is_err(), "no UTF-8");
    let twice = outer(r#"{"small":1,"large":1,"small":2}"#).unwrap_err();
    assert!(twice.starts_with("small: is there twice at line 1"), "{twice}");
}

#[test]
fn depth_ends_before_the_stack_does() {
    for open in ["[", "{\"a\":"] {
        let text = format!("{{\"a\":{}", open.repeat(100_000));
        assert!(outer(&text).unwrap_err().starts_with("recursion limit exceeded"));
    }
}

#[test]
fn a_strict_one_takes_no_other_field() {
    let read = |text: &str| from_bytes::<Strict>(text.as_bytes());
    assert_eq!(read(r#"{"zone":"lan"}"#), Ok(Strict { zone: Zone::Lan, address: None }));
    let wrong = |text, expected: &str| assert_eq!(read(text), Err(expected.to_owned()));
    wrong(r#"{"zone":"lan","force":true}"#, "force: is not known here; what is: [zone, address]");
    wrong(r#"{"zone":"LAN"}"#, "zone: is none of: router, lan, tunnel, wan, nowhere");
    wrong(r#"{"zone":{"lan":null}}"#, "zone: is no text");
    wrong(r#"{"zone":"wan","address":"localhost"}"#, "address: invalid IP address syntax");
}

/// What serde writes is read, and is the same; with every field missing that may be.
fn there_and_back<T: FromJson + serde::Serialize + PartialEq + fmt::Debug>(value: &T) -> Value {
    let text = serde_json::to_vec(value).unwrap();
    assert_eq!(from_bytes::<T>(&text).as_ref(), Ok(value));
    let tree: Value = serde_json::from_slice(&text).unwrap();
    let mut sparse = tree.clone();
    sparse.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    assert_eq!(from_bytes::<T>(sparse.to_string().as_bytes()).as_ref(), Ok(value));
    tree
}

#[test]
fn a_status_survives_the_way_there() {
    for name in ["status-connected.json", "status-dead.json"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let seen: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let golden = &seen["daemon"]["status"];
        if golden.is_null() {
            continue;
        }
        let mut status: Status = from_bytes(golden.to_string().as_bytes()).unwrap();
        assert_eq!(&there_and_back(&status), golden, "{name}");
        let incident = IncidentStatus {
            uptime_s: 1,
            clock: 2,
            what: "table".into(),
            process: Some("nft".into()),
            pid: None,
            count: 3,
            mended_ms: Some(4),
            error: None,
        };
        status.incidents = vec![incident.clone(), IncidentStatus { pid: Some(5), ..incident }];
        status.wanted = Some(WantedStatus { connect: true, relay: Some("se-got-001".parse().unwrap()) });
        status.open_for_s = Some(u64::MAX);
        status.policy = None::<PolicyStatus>;
        there_and_back(&status);
        for state in ["disconnected", "connecting", "connected", "disconnecting", "error"] {
            let least = format!(r#"{{"state":"{state}","lockdown":true,"armed":false}}"#);
            let status: Status = from_bytes(least.as_bytes()).unwrap();
            assert_eq!(status.state.to_string(), state);
            there_and_back(&status);
        }
        status.state = TunnelState::Error;
        status.relay = Some(RelayStatus {
            name: "a".parse().unwrap(),
            endpoint: "[2001:db8::1]:1".parse().unwrap(),
            country: String::new(),
            city: String::new(),
        });
        let mut tree = there_and_back(&status);
        tree["relay"]["endpoint"] = "nowhere".into();
        let error = from_bytes::<Status>(tree.to_string().as_bytes()).unwrap_err();
        assert_eq!(error, "relay.endpoint: invalid socket address syntax");
    }
}

#[test]
fn every_word_is_read_as_it_is_written() {
    let read = |text: String| from_bytes::<BlockedList>(text.as_bytes()).unwrap();
    for from in [Zone::Router, Zone::Lan, Zone::Tunnel, Zone::Wan, Zone::Nowhere] {
        for state in PolicyState::ALL {
            let list = read(format!(
                r#"{{"blocked":[{{"from":{},"to":"wan","source":"::1","destination":"192.0.2.1","protocol":6,
                "state":{},"row":"2.8","why":"","remedy":"","count":1,"first_s":0,"last_s":0}}]}}"#,
                serde_json::to_string(&from).unwrap(),
                serde_json::to_string(state).unwrap(),
            ));
            assert_eq!((list.blocked[0].from, list.blocked[0].state), (from, *state));
            there_and_back(&list);
        }
    }
}

#[test]
fn stored_files_are_read_as_they_were() {
    let lan = r#"{"devices":[{"name":"br-lan","prefixes":["192.168.1.0/24","fd00::/64"],"forward":true}],
        "routes":[{"prefix":"10.0.0.0/8","gateway":"192.168.1.9","device":"br-lan"}]}"#;
    there_and_back(&from_bytes::<crate::config::Lan>(lan.as_bytes()).unwrap());
    let stored = r#"{"connect":true,"relay":"a","lockdown":{"on":true,"option_then":false}}"#;
    let stored: crate::machine::Stored = from_bytes(stored.as_bytes()).unwrap();
    assert!(!stored.latched, "a file of before there was that field");
    there_and_back(&stored);
    there_and_back(&crate::state::TrialNote::of(&stored));
    there_and_back(&Boot {
        blocked_ms: 1,
        sent: [("eth1".to_owned(), 2)].into(),
        none_ms: Some(3),
        first_ms: None,
    });
    let generation = r#"{"number":1,"state":"boot","hash":"","cause":"","when":2,"uptime":3}"#;
    let mut generation: Generation = from_bytes(generation.as_bytes()).unwrap();
    assert!(there_and_back(&generation).get("dropped").is_none());
    generation.dropped = Some(9);
    there_and_back(&generation);
}
