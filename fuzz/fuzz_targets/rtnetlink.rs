//! rtnetlink's answers: devices and addresses as facts, rules and routes as ours.
//!
//! Two ways of looking at the same input. First as a datagram: any bytes at all may come, and nothing of them may
//! panic, hang or take more memory than they do. Then as changes to a real kernel's messages, which get further into
//! the readers: values, attributes' lengths and types, what is nested in them, and pieces left out or put in twice.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vpnd::config::{IfName, Lan, LanDevice, Settings};
use vpnd::routing::fuzzing::{facts, messages, said_twice};
use vpnd_fuzz::bounded;

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let name = "br-lan".parse().expect("a device's name");
    let device = LanDevice { name, prefixes: Vec::new(), forward: true };
    Settings::fallback(Lan { devices: vec![device], routes: Vec::new() })
});

/// A real kernel's messages, each less its padding.
static ANSWERS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let dumps: [&[u8]; 3] = [
        include_bytes!("../seeds/rtnetlink/links-and-addresses"),
        include_bytes!("../seeds/rtnetlink/routes"),
        include_bytes!("../seeds/rtnetlink/rules"),
    ];
    let mut answers = Vec::new();
    for mut dump in dumps {
        while let Some(length) = dump.first_chunk().map(|four| u32::from_ne_bytes(*four) as usize) {
            answers.push(dump.get(..length).expect("a seed holds whole messages").to_vec());
            dump = dump.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    assert!(answers.len() > 8 && answers.iter().all(|answer| answer.len() > HEADER));
    answers
});

/// Each five bytes of the input: which answer, where in it, what is done there, and a value for it.
fn changed(data: &[u8]) -> Vec<u8> {
    let mut picked: Vec<(usize, Vec<u8>)> = Vec::new();
    for five in data.chunks_exact(5) {
        let which = usize::from(five[0]) % ANSWERS.len();
        let at = picked.iter().position(|(other, _)| *other == which).unwrap_or_else(|| {
            picked.push((which, ANSWERS[which].clone()));
            picked.len() - 1
        });
        change(&mut picked[at].1, usize::from(u16::from_le_bytes([five[1], five[2]])), five[3], five[4]);
    }
    picked.into_iter().flat_map(|(_, bytes)| whole(bytes)).collect()
}

fn change(bytes: &mut Vec<u8>, place: usize, what: u8, value: u8) {
    if bytes.len() <= HEADER {
        return;
    }
    let place = HEADER + place % (bytes.len() - HEADER);
    let word = place.next_multiple_of(4).min(bytes.len());
    let end = (word + usize::from(value)).min(bytes.len());
    match what % 5 {
        // A value, a length, a type.
        0 | 1 => bytes[place] = value,
        2 => drop(bytes.drain(word..end)),
        3 if bytes.len() < 2048 => {
            let piece = bytes[word..end].to_vec();
            bytes.splice(word..word, piece);
        }
        _ => bytes.truncate(place),
    }
}

/// With the length that it has now: a message that says another ends the datagram.
fn whole(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("some kilobytes");
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn look(data: &[u8]) {
    let tunnel: IfName = "vpnd0".parse().expect("a device's name");
    let settings = &*SETTINGS;
    let messages = bounded(data.len(), 400, 4096, || messages(data));
    let facts = bounded(data.len(), 400, 4096, || facts(&messages, settings, &tunnel));
    for device in &facts.wan {
        assert!(device.name != tunnel && device.name.as_str() != "br-lan");
        assert!(device.prefixes.iter().all(|prefix| prefix.prefix_len() != 0));
    }
    for (first, again) in said_twice(&messages) {
        assert_eq!(Some(&first), again.as_ref());
    }
}

fuzz_target!(|data: &[u8]| {
    look(data);
    look(&changed(data));
});
