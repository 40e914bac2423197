//! Answers of a real kernel (the seeds of `fuzz/`, made on x86_64), whole and damaged.

use super::*;
use crate::netlink::messages;

const LINKS: &[u8] = include_bytes!("../../fuzz/seeds/rtnetlink/links-and-addresses");
const ROUTES: &[u8] = include_bytes!("../../fuzz/seeds/rtnetlink/routes");

fn links(bytes: &[u8]) -> Vec<LinkMessage> {
    messages(bytes).filter_map(|message| LinkMessage::read(message.kind, message.body)).collect()
}

fn addresses(bytes: &[u8]) -> Vec<AddressMessage> {
    messages(bytes).filter_map(|message| AddressMessage::read(message.kind, message.body)).collect()
}

fn routes(bytes: &[u8]) -> Vec<RouteMessage> {
    messages(bytes).filter_map(|message| RouteMessage::read(message.kind, message.body)).collect()
}

#[cfg(target_endian = "little")]
#[test]
fn a_kernels_devices_addresses_and_routes_are_read() {
    let links: Vec<_> = links(LINKS)
        .into_iter()
        .map(|link| format!("{} {} {} {:?} {}", link.index, link.name, link.kind, link.mtu, link.is_up()))
        .collect();
    let wanted = [
        "1 lo  Some(65536) true",
        "2 br-lan bridge Some(1500) true",
        "3 cpe veth Some(1500) true",
        "4 wan veth Some(1500) true",
    ];
    assert_eq!(links, wanted);
    let addresses: Vec<_> = addresses(LINKS)
        .into_iter()
        .map(|a| format!("{} {:?} {:?}/{}", a.index, a.local, a.address, a.prefix_length))
        .collect();
    let wanted = [
        "1 Some(127.0.0.1) Some(127.0.0.1)/8",
        "2 Some(192.168.1.1) Some(192.168.1.1)/24",
        "3 Some(10.0.0.1) Some(10.0.0.2)/32",
        "4 Some(203.0.113.2) Some(203.0.113.2)/24",
        "1 None Some(::1)/128",
        "2 None Some(fd00:1::1)/64",
        "2 None Some(fe80::486:9eff:fe59:175d)/64",
        "3 None Some(fe80::c83f:13ff:fe64:2f1a)/64",
        "4 None Some(fe80::34a7:bff:fe74:1ab)/64",
    ];
    assert_eq!(addresses, wanted);
    let said = |r: RouteMessage| {
        let to =
            r.destination.map_or_else(|| "default".to_owned(), |to| format!("{to}/{}", r.destination_length));
        format!("{} {to} {:?} {:?} {} {}", r.table, r.gateway, r.device, r.metric, r.kind)
    };
    let (local, others): (Vec<_>, Vec<_>) = routes(ROUTES).into_iter().partition(|route| route.table == 255);
    assert!(local.len() == 8 && local.iter().chain(&others).all(|route| !route.more && route.hops.is_none()));
    let others: Vec<_> = others.into_iter().map(said).collect();
    let wanted = [
        "7651 198.51.100.0/24 Some(203.0.113.1) Some(4) 7 1",
        "7652 default None None 4278198272 7",
        "254 default Some(203.0.113.1) Some(4) 0 1",
        "254 10.0.0.2/32 None Some(3) 0 1",
        "254 192.168.1.0/24 None Some(2) 0 1",
        "254 203.0.113.0/24 None Some(4) 0 1",
    ];
    assert_eq!(others, wanted);
}

/// However a message is damaged, those behind it are read.
#[test]
fn no_damage_panics_or_hides_another_message() {
    for dump in [LINKS, ROUTES] {
        let all = |bytes: &[u8]| (links(bytes).len(), addresses(bytes).len(), routes(bytes).len());
        let whole = all(dump);
        for at in 0..dump.len() {
            let _ = all(&dump[..at]);
            for value in [0, 1, 3, 0x7f, 0x80, 0xff] {
                let mut bytes = dump.to_vec();
                bytes[at] = value;
                let found = all(&bytes);
                let mut starts = messages(dump)
                    .map(|message| message.body.as_ptr() as usize - dump.as_ptr() as usize - 16);
                let in_header = starts.any(|start| (start..start + 16).contains(&at));
                assert!(in_header || found == whole, "{value} at {at}");
            }
        }
    }
}
