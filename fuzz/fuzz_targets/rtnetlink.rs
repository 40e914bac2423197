//! rtnetlink's answers: devices and addresses as facts, rules and routes as ours.

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

fuzz_target!(|data: &[u8]| {
    let tunnel: IfName = "vpnd0".parse().expect("a device's name");
    let settings = &*SETTINGS;
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
