//! rtnetlink's answers: devices and addresses as facts, rules and routes as ours.
//!
//! The answers are a real kernel's, with any values. Their lengths and nesting are left as they are:
//! netlink-packet-route 0.21, which takes them apart, panics where an attribute is shorter than any
//! that the kernel makes (a realm of one byte, a bridge's timer of three), and no one else can send them.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vpnd::config::{IfName, Lan, LanDevice, Settings};
use vpnd::routing::fuzzing::{facts, messages, said_twice};
use vpnd_fuzz::bounded;

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let name = "br-lan".parse().expect("a device's name");
    let device = LanDevice { name, prefixes: Vec::new(), forward: true };
    Settings::fallback(Lan { devices: vec![device], routes: Vec::new() })
});

/// One message and the places in it whose bytes may have any value.
struct Answer {
    bytes: Vec<u8>,
    free: Vec<usize>,
}

static ANSWERS: LazyLock<Vec<Answer>> = LazyLock::new(|| {
    let dumps: [&[u8]; 3] = [
        include_bytes!("../seeds/rtnetlink/links-and-addresses"),
        include_bytes!("../seeds/rtnetlink/routes"),
        include_bytes!("../seeds/rtnetlink/rules"),
    ];
    let mut answers = Vec::new();
    for mut dump in dumps {
        while let Some(length) = number(dump, 0).filter(|length| *length >= 16) {
            let bytes = dump.get(..length).expect("a seed holds whole messages").to_vec();
            let free = free(&bytes);
            answers.push(Answer { bytes, free });
            dump = dump.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    assert!(answers.len() > 8 && answers.iter().all(|answer| !answer.free.is_empty()));
    answers
});

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_ne_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])))
}

/// The fixed part but for the family, and the attributes that hold a plain value
/// (linux/rtnetlink.h, if_link.h, if_addr.h, fib_rules.h).
fn free(message: &[u8]) -> Vec<usize> {
    let (fixed, plain): (usize, &[usize]) = match number(message, 4) {
        Some(16) => (16, &[3, 4, 5, 10, 13, 16, 17, 27]),
        Some(20) => (8, &[1, 2, 3, 4, 6, 8, 9]),
        Some(24) => (12, &[1, 4, 5, 6, 7, 15, 20]),
        Some(32) => (12, &[1, 2, 3, 4, 6, 10, 13, 14, 15, 16, 17, 21]),
        other => panic!("a seed of kind {other:?}"),
    };
    let mut free: Vec<usize> = (17..16 + fixed).collect();
    let mut at = 16 + fixed;
    while let (Some(length), Some(kind)) = (number(message, at), number(message, at + 2)) {
        if plain.contains(&(kind & 0x3fff)) {
            free.extend(at + 4..(at + length).min(message.len()));
        }
        at += length.max(4).next_multiple_of(4);
    }
    free
}

/// Each four bytes of the input: which answer, which of its free places, and the value there.
fn answers(data: &[u8]) -> Vec<u8> {
    let mut picked: Vec<(usize, Vec<u8>)> = Vec::new();
    for four in data.chunks_exact(4) {
        let which = usize::from(four[0]) % ANSWERS.len();
        let answer = &ANSWERS[which];
        if !picked.iter().any(|(other, _)| *other == which) {
            picked.push((which, answer.bytes.clone()));
        }
        let place = usize::from(u16::from_le_bytes([four[1], four[2]]));
        // None: as the kernel said it.
        if let Some(place) = answer.free.get(place % (answer.free.len() + 1)) {
            if let Some((_, bytes)) = picked.iter_mut().find(|(other, _)| *other == which) {
                bytes[*place] = four[3];
            }
        }
    }
    let padded = picked.into_iter().map(|(_, mut bytes)| {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    });
    padded.flatten().collect()
}

fuzz_target!(|data: &[u8]| {
    let tunnel: IfName = "vpnd0".parse().expect("a device's name");
    let settings = &*SETTINGS;
    let data = &answers(data)[..];
    let messages = bounded(data.len(), 400, 4096, || messages(data));
    let facts = bounded(data.len(), 100, 4096, || facts(&messages, settings, &tunnel));
    for device in &facts.wan {
        assert!(device.name != tunnel && device.name.as_str() != "br-lan");
        assert!(device.prefixes.iter().all(|prefix| prefix.prefix_len() != 0));
    }
    for (first, again) in said_twice(&messages) {
        assert_eq!(Some(&first), again.as_ref());
    }
});
