use proptest::prelude::*;

use super::*;

fn message_of(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    message::put(&mut bytes, kind, 0, 0, body);
    bytes
}

fn logged(prefix: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = vec![2, 0, 0x1d, 0xe3];
    put(&mut body, PACKET_HDR, &[8, 0, 2, 0]);
    put(&mut body, IFINDEX_INDEV, &[0, 0, 0, 7]);
    put(&mut body, IFINDEX_OUTDEV, &[0, 0, 1, 2]);
    put(&mut body, HWADDR, &[0, 6, 0, 0, 2, 0, 0, 0, 0, 9, 0, 0]);
    put(&mut body, PREFIX, prefix);
    put(&mut body, PAYLOAD, payload);
    message_of(MSG_PACKET, &body)
}

fn udp_v4() -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 168, 1, 20, 8, 8, 8, 8];
    packet.extend([0x30, 0x39, 0, 53, 0, 8, 0, 0]);
    packet
}

fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
    packet.extend("fd00:1::20".parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet.extend(rest);
    packet
}

fn one(payload: &[u8]) -> Option<Packet> {
    let mut heard = read(&logged(b"vpnd 3.5\0", payload));
    assert!(heard.packets.len() <= 1);
    heard.packets.pop()
}

#[test]
fn a_packet_is_read_in_network_byte_order() {
    let wanted = Packet {
        row: Row::Dns,
        hook: Hook::Forward,
        input: Some(7),
        output: Some(0x102),
        mac: Some([2, 0, 0, 0, 0, 9]),
        source: [192, 168, 1, 20].into(),
        destination: [8, 8, 8, 8].into(),
        protocol: 17,
        port: Some(53),
    };
    assert_eq!(one(&udp_v4()), Some(wanted.clone()));
    // Several in one datagram, with what ends it.
    let mut datagram = logged(b"vpnd 3.5\0", &udp_v4());
    datagram.extend(logged(b"vpnd 3.5\0", &udp_v4()));
    datagram.extend(message_of(libc::NLMSG_DONE as u16, &[0; 4]));
    assert_eq!(read(&datagram).packets, [wanted.clone(), wanted]);
}

#[test]
fn the_port_is_behind_extension_headers_and_in_first_fragments() {
    let tcp = [0x30, 0x39, 0x01, 0xbb];
    let ports = |packet: &[u8]| one(packet).map(|packet| (packet.protocol, packet.port));
    assert_eq!(ports(&v6(6, &tcp)), Some((6, Some(443))));
    let mut options = vec![6, 0, 1, 4, 0, 0, 0, 0];
    options.extend(tcp);
    assert_eq!(ports(&v6(60, &options)), Some((6, Some(443))));
    let mut fragment = vec![6, 0, 0, 1, 0, 0, 0, 9];
    fragment.extend(tcp);
    assert_eq!(ports(&v6(44, &fragment)), Some((6, Some(443))));
    fragment[3] = 8;
    assert_eq!(ports(&v6(44, &fragment)), Some((6, None)), "a later fragment has no ports");
    assert_eq!(ports(&v6(58, &[128, 0])), Some((58, Some(128))));
    assert_eq!(ports(&v6(50, &tcp)), Some((50, None)));
    let mut later = udp_v4();
    later[7] = 1;
    assert_eq!(ports(&later), Some((17, None)));
    later[7] = 0;
    later[0] = 0x46;
    assert_eq!(ports(&later), Some((17, Some(0))), "behind IP options");
}

#[test]
fn what_is_not_ours_is_left_out() {
    for prefix in [&b"vpnd 9.9\0"[..], b"drop wan in: \0", b"vpnd\0", b"lazy 3.5\0", b"", b"\xff\xfe"] {
        assert_eq!(read(&logged(prefix, &udp_v4())), Heard::default());
    }
    for payload in [&[][..], &[0x50; 40], &[0x45; 19]] {
        assert_eq!(read(&logged(b"vpnd 3.5\0", payload)), Heard::default());
    }
}

#[test]
fn answers_are_told_from_packets() {
    let refused = message_of(libc::NLMSG_ERROR as u16, &(-libc::EBUSY).to_ne_bytes());
    assert_eq!(read(&refused).answers, [libc::EBUSY]);
    assert_eq!(read(&message_of(libc::NLMSG_ERROR as u16, &[0; 4])).answers, [0]);
}

#[test]
fn a_datagram_cut_off_anywhere_is_read_without_panic() {
    let whole = logged(b"vpnd 3.5\0", &udp_v4());
    for length in 0..whole.len() {
        assert_eq!(read(&whole[..length]).packets, [], "{length} bytes");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = read(&bytes);
        let _ = read(&logged(b"vpnd 0.0\0", &bytes));
        let _ = read(&logged(b"vpnd 0.0\0", &v6(0, &bytes)));
    }
    #[test]
    fn no_damage_panics(at in 0usize..200, byte in any::<u8>()) {
        let mut bytes = logged(b"vpnd 3.5\0", &udp_v4());
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = read(&bytes);
    }
}
