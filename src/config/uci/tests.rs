//! That the tree agrees with libuci is the work of tests/uci-oracle; here are the cases a reader
//! of the code wants to see, and the limits that libuci does not have.

use proptest::prelude::*;

use super::{Fault, MAX_BYTES, Reason, Value, parse};

fn shown(text: &str) -> String {
    match parse(text.as_bytes()) {
        Err(Fault { line, reason }) => format!("{line}: {reason:?}"),
        Ok(package) => package
            .sections
            .iter()
            .map(|section| {
                let options = section.options.iter().map(|entry| match &entry.value {
                    Value::Text(item) => {
                        format!(" {}={:?}", entry.name, String::from_utf8_lossy(&item.bytes))
                    }
                    Value::List(items) => format!(
                        " {}=[{}]",
                        entry.name,
                        items
                            .iter()
                            .map(|item| format!("{:?}", String::from_utf8_lossy(&item.bytes)))
                            .collect::<Vec<_>>()
                            .join(",")
                    ),
                });
                format!("{}.{}{}", section.kind, section.name, options.collect::<String>())
            })
            .collect::<Vec<_>>()
            .join(" | "),
    }
}

#[test]
fn reads_what_uci_commit_writes() {
    assert_eq!(shown("\nconfig a 'b'\n\toption c 'it'\\''s'\n"), "a.b c=\"it's\"");
    assert_eq!(shown("config a 'b'\n\toption c 'one\ntwo'\n"), "a.b c=\"one\\ntwo\"");
    assert_eq!(shown("package x\nconfig a 'b'\n"), "a.b");
    assert_eq!(shown("config a b\nlist c '1'\nlist c '2'\n"), "a.b c=[\"1\",\"2\"]");
}

#[test]
fn names_anonymous_sections_like_libuci() {
    // `uci show` on OpenWrt names the first `config system` cfg01e48a.
    assert_eq!(shown("config system\n"), "system.cfg01e48a");
}

#[test]
fn follows_libuci_in_odd_corners() {
    assert_eq!(shown("c a b\no c d\nl e f\n"), "a.b c=\"d\" e=[\"f\"]");
    assert_eq!(shown("config a b # comment\noption c d#e\n"), "a.b c=\"d\"");
    assert_eq!(shown("config a 'b';option c 'd'\n"), "a.b c=\"d\"");
    assert_eq!(shown("config a b;option c 'd'\n"), "a.b");
    assert_eq!(shown("config a b\noption c 1\noption d 2\noption c 3\n"), "a.b d=\"2\" c=\"3\"");
    assert_eq!(shown("config a b\noption c 1\noption c ''\n"), "a.b c=\"1\"");
    assert_eq!(shown("config a b\noption c 1\nlist c 2\n"), "a.b c=[\"1\",\"2\"]");
    assert_eq!(shown("config a b\noption c x\\\ny\n"), "a.b c=\"xy\"");
    assert_eq!(shown("config a b\noption c \"x\\\"y\"\n"), "a.b c=\"x\\\"y\"");
}

#[test]
fn refuses_with_the_line() {
    assert_eq!(shown("\n\noption a b\n"), "3: BeforeFirstSection");
    assert_eq!(shown("config a b\nconfig c b\n"), "2: OtherKind");
    assert_eq!(shown("config a b c\n"), "1: TooManyArguments");
    assert_eq!(shown("config a b-c\n"), "1: BadName");
    assert_eq!(shown("config\n"), "1: UnknownCommand");
    assert_eq!(shown("config a\n option b 'x\n y\n"), "2: OpenQuote");
    assert_eq!(shown("config a\n option b 'x\0y'\n"), "2: ZeroByte");
    assert_eq!(shown("config a\nfoo\n"), "2: UnknownCommand");
}

#[test]
fn keeps_line_numbers_of_values() {
    let package = parse(b"config a\n\n option b 'x\ny'\n list c \\\n'z'\n").unwrap();
    let options = &package.sections[0].options;
    assert!(matches!(&options[0].value, Value::Text(item) if item.line == 3));
    assert!(matches!(&options[1].value, Value::List(items) if items[0].line == 5));
}

#[test]
fn limits_size_and_count() {
    let long = vec![b'\n'; MAX_BYTES + 1];
    assert_eq!(parse(&long).unwrap_err().reason, Reason::TooLarge);
    assert_eq!(parse(&b"c a\n".repeat(8192)).unwrap().sections.len(), 8192);
    assert_eq!(parse(&b"c a\n".repeat(8193)).unwrap_err().reason, Reason::TooMany);
    let mut lists = b"c a\n".to_vec();
    lists.extend(b"l b c\n".repeat(65537));
    assert_eq!(parse(&lists).unwrap_err(), Fault { line: 65538, reason: Reason::TooMany });
}

#[test]
fn takes_no_quadratic_time() {
    // 60,000 different options, then each once more: well under a second even unoptimised; the
    // straightforward search needs minutes.
    let mut text = String::from("config a\n");
    for round in 0..1 {
        for option in 0..60_000 {
            text.push_str(&format!("o x{option} {round}\n"));
        }
    }
    let started = std::time::Instant::now();
    assert_eq!(parse(text.as_bytes()).unwrap().sections[0].options.len(), 60_000);
    assert!(started.elapsed().as_secs() < 10);
}

proptest! {
    #[test]
    fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&data);
    }

    #[test]
    fn never_panics_on_nearly_uci(
        words in proptest::collection::vec(
            prop_oneof![
                Just("config "), Just("option "), Just("list "), Just("package "), Just("c"),
                Just("\n"), Just("\r\n"), Just("'"), Just("\""), Just("\\"), Just(";"), Just("#"),
                Just("a"), Just("name "), Just(" "), Just("\t"), Just("\u{fc}"), Just("\0"),
            ],
            0..60,
        )
    ) {
        let _ = parse(words.concat().as_bytes());
    }
}
