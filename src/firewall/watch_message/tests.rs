use proptest::prelude::*;

use super::*;
use crate::netlink::attribute::put;

const OURS: u32 = 4711;
const THEIRS: u32 = 815;

fn message_of(kind: u16, port: u32, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + GENERIC_HEADER + attributes.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend((SUBSYSTEM | kind).to_ne_bytes());
    bytes.extend([0; 6]);
    bytes.extend(port.to_ne_bytes());
    bytes.extend([family, 0, 0, 1]);
    bytes.extend(attributes);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn change(kind: u16, port: u32, family: u8, table: &str) -> Vec<u8> {
    let mut attributes = Vec::new();
    put(&mut attributes, TABLE_NAME, format!("{table}\0").as_bytes());
    put(&mut attributes, 2, b"chain\0");
    message_of(kind, port, family, &attributes)
}

fn end(port: u32, pid: u32, name: &[u8]) -> Vec<u8> {
    let mut attributes = Vec::new();
    put(&mut attributes, 1, &7_u32.to_be_bytes());
    put(&mut attributes, GEN_PROC_PID, &pid.to_be_bytes());
    put(&mut attributes, GEN_PROC_NAME, name);
    message_of(NEW_GEN, port, 0, &attributes)
}

fn hear(reader: &mut Reader, datagrams: &[Vec<u8>]) -> Heard {
    let mut heard = Heard::default();
    for datagram in datagrams {
        reader.read(datagram, |port| port == OURS, &mut heard);
    }
    heard
}

#[test]
fn a_transaction_is_told_once_by_the_worst_of_it_and_by_its_process() {
    let mut reader = Reader::default();
    let flush = [
        change(DEL_RULE, THEIRS, 1, "vpnd"),
        change(DEL_CHAIN, THEIRS, 1, "vpnd"),
        change(DEL_TABLE, THEIRS, 1, "vpnd"),
        change(DEL_TABLE, THEIRS, 1, "fw4"),
    ];
    let heard = hear(&mut reader, &flush);
    assert_eq!(heard, Heard::default(), "not closed yet");
    let heard = hear(&mut reader, &[end(THEIRS, 815, b"nft\0")]);
    let told =
        Change { what: "table inet vpnd was deleted".into(), pid: Some(815), process: Some("nft".into()) };
    assert_eq!(heard, Heard { changes: vec![told], touched: true, ..Heard::default() });
    // All in one datagram, and twice.
    let mut datagram = flush.concat();
    datagram.extend(end(THEIRS, 816, b"sh\x1b[2J\xff\0"));
    let heard = hear(&mut reader, &[datagram.repeat(2)]);
    assert_eq!(heard.changes.len(), 2);
    assert_eq!(heard.changes[0].process.as_deref(), Some("sh?[2J?"));
}

#[test]
fn each_kind_of_change_has_its_words() {
    for (kind, family, table, words) in [
        (NEW_TABLE, 1, "vpnd", "table inet vpnd was created or switched off or on"),
        (DEL_CHAIN, 1, "vpnd", "a chain of table inet vpnd was deleted"),
        (NEW_CHAIN, 1, "vpnd", "a chain of table inet vpnd was added or altered"),
        (DEL_RULE, 1, "vpnd", "a rule of table inet vpnd was deleted"),
        (NEW_RULE, 1, "vpnd", "a rule was put into table inet vpnd"),
        (12, 1, "vpnd", "a set of table inet vpnd was altered"),
        (DEL_TABLE, 1, "vpnd_guard", "table inet vpnd_guard was deleted"),
        (DEL_TABLE, 5, "vpnd_egress", "table netdev vpnd_egress was deleted"),
    ] {
        let heard = hear(&mut Reader::default(), &[change(kind, 1, family, table), end(1, 1, b"x")]);
        assert_eq!(heard.changes[0].what, words);
    }
}

#[test]
fn what_is_not_about_our_tables_is_nothing() {
    for (family, table) in [(2, "vpnd"), (1, "vpnd2"), (1, "vpn"), (1, ""), (1, "fw4"), (5, "vpnd")] {
        let heard = hear(&mut Reader::default(), &[change(DEL_TABLE, 1, family, table), end(1, 1, b"x")]);
        assert_eq!(heard, Heard::default(), "{family} {table}");
    }
    // Asking (GETRULE), and another subsystem's number of the same kind.
    let mut other = change(DEL_TABLE, 1, 1, "vpnd");
    other[5] = 1;
    let asked = [change(7, 1, 1, "vpnd"), other, end(1, 1, b"x")];
    assert_eq!(hear(&mut Reader::default(), &asked), Heard::default());
}

#[test]
fn ours_are_not_foreign_and_mend_what_was_before() {
    let mut reader = Reader::default();
    let theirs = [change(DEL_TABLE, THEIRS, 1, "vpnd"), end(THEIRS, 815, b"nft")].concat();
    let ours = [change(NEW_TABLE, OURS, 1, "vpnd"), end(OURS, OURS, b"nft")].concat();
    assert_eq!(hear(&mut reader, std::slice::from_ref(&ours)), Heard::default());
    let heard = hear(&mut reader, &[theirs.clone(), ours.clone()]);
    assert!(!heard.touched && heard.changes.len() == 1, "told, but mended by ours: {heard:?}");
    let heard = hear(&mut reader, &[ours.clone(), theirs]);
    assert!(heard.touched, "{heard:?}");
    // Still so at the next time, and until ours.
    assert!(hear(&mut reader, &[Vec::new()]).touched);
    // Another table of ours does not mend this one.
    let guard = [change(NEW_TABLE, OURS, 1, "vpnd_guard"), end(OURS, 1, b"vpnd")].concat();
    assert!(hear(&mut reader, &[guard]).touched);
    assert!(!hear(&mut reader, &[ours]).touched);
}

#[test]
fn what_the_daemon_does_over_a_socket_of_its_own_is_not_foreign() {
    let by = |pid| [change(NEW_TABLE, THEIRS, 1, "vpnd_guard"), end(THEIRS, pid, b"vpnd")].concat();
    assert_eq!(hear(&mut Reader::new(42), &[by(42)]), Heard::default());
    assert!(hear(&mut Reader::new(42), &[by(43)]).touched);
    assert!(hear(&mut Reader::default(), &[by(42)]).touched);
}

#[test]
fn a_storm_is_counted_and_a_loss_is_told() {
    let mut reader = Reader::default();
    let storm = [change(DEL_TABLE, THEIRS, 1, "vpnd"), end(THEIRS, 815, b"nft")].concat().repeat(1000);
    let mut heard = hear(&mut reader, &[storm]);
    assert_eq!((heard.changes.len(), heard.more), (MOST, 1000 - MOST as u32));
    assert!(!heard.lost);
    reader.lost(&mut heard);
    assert!(heard.lost);
    reader.forget();
    assert!(!hear(&mut reader, &[Vec::new()]).touched);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = hear(&mut Reader::default(), &[bytes.clone(), message_of(NEW_GEN, 1, 1, &bytes)]);
        let _ = hear(&mut Reader::default(), &[message_of(DEL_RULE, 1, 1, &bytes), end(1, 1, &bytes)]);
    }
    #[test]
    fn no_damage_panics(at in 0usize..300, byte in any::<u8>()) {
        let mut bytes = [change(DEL_RULE, 9, 1, "vpnd"), end(9, 9, b"nft")].concat();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = hear(&mut Reader::default(), &[bytes]);
    }
}
