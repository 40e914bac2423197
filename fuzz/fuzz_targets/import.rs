//! wg-quick's `.conf` files from anybody, and what is written of them into a UCI file (the input's
//! second part): it reads back, with every relay, and nothing that was there is lost.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vpnd::config::import::{self, PeerEndpoint};
use vpnd::config::uci;
use vpnd_fuzz::{bounded, two};

fuzz_target!(|data: &[u8]| {
    let (conf, existing) = two(data);
    let read = bounded(data.len(), 600, 16384, || import::parse("a provider's file.conf", conf));
    let Ok(mut imported) = read else { return };
    assert!(!imported.addresses.is_empty() && !imported.peers.is_empty());
    let mut names: Vec<String> = imported.peers.iter().map(|peer| peer.name.to_string()).collect();
    names.sort();
    let wanted = names.len();
    names.dedup();
    assert_eq!(names.len(), wanted, "two relays of one name");
    for peer in &mut imported.peers {
        if let PeerEndpoint::Name { host, port } = &peer.endpoint {
            assert!(!host.is_empty() && *port != 0);
            peer.endpoint = PeerEndpoint::Address(([192, 0, 2, 1], *port).into());
        }
    }
    let written = bounded(data.len(), 2000, 65536, || import::write(&imported, existing));
    let Ok(written) = written else { return };
    let before = uci::parse(existing).expect("it was written into");
    let after = uci::parse(&written.text).expect("what was written reads back");
    let count =
        |package: &uci::Package, kind: &str| package.sections.iter().filter(|s| s.kind == kind).count();
    assert_eq!(count(&after, "tunnel"), 1);
    assert!(count(&after, "relay") >= wanted);
    let others = |package: &uci::Package| {
        let sections =
            package.sections.iter().filter(|s| !["tunnel", "relay", "vpnd"].contains(&s.kind.as_str()));
        sections.map(|s| (s.kind.clone(), values(s))).collect::<Vec<_>>()
    };
    assert_eq!(others(&before), others(&after));
});

fn values(section: &uci::Section) -> Vec<(String, Vec<Vec<u8>>)> {
    let bytes = |value: &uci::Value| match value {
        uci::Value::Text(item) => vec![item.bytes.clone()],
        uci::Value::List(items) => items.iter().map(|item| item.bytes.clone()).collect(),
    };
    section.options.iter().map(|entry| (entry.name.clone(), bytes(&entry.value))).collect()
}
