//! nf_tables' notifications: names in them are whatever other programs call their tables and
//! themselves.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vpnd::firewall::watch_message::{Heard, Reader};
use vpnd_fuzz::bounded;

fuzz_target!(|data: &[u8]| {
    let (mut reader, mut heard) = (Reader::default(), Heard::default());
    // The port of "vpnd's own" is the one of the first byte.
    let own = u32::from(data.first().copied().unwrap_or(0));
    bounded(data.len(), 1, 8192, || {
        for datagram in data.get(1..).unwrap_or_default().chunks(512) {
            reader.read(datagram, |port| port == own, &mut heard);
        }
    });
    // Headers and a name of a table at the least.
    let told = heard.changes.len() + heard.more as usize;
    assert!(told * 28 <= data.len(), "{told} changes");
    assert!(heard.changes.len() <= 8);
    for change in heard.changes {
        let name = change.process.unwrap_or_default();
        assert!(name.len() <= 15 && name.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{name:?}");
    }
});
