//! nfnetlink_log's packets: whatever a blocked host sends is copied into them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vpnd::firewall::nflog_message::read;
use vpnd_fuzz::bounded;

fuzz_target!(|data: &[u8]| {
    let heard = bounded(data.len(), 16, 4096, || read(data));
    // Headers, hook, prefix, and the shortest IP header.
    assert!(heard.packets.len() * 60 <= data.len(), "{} packets", heard.packets.len());
    for packet in heard.packets {
        assert_eq!(packet.source.is_ipv4(), packet.destination.is_ipv4(), "{packet:?}");
        assert!(
            packet.port.is_none() || [1, 6, 17, 33, 58, 132, 136].contains(&packet.protocol),
            "{packet:?}"
        );
    }
});
