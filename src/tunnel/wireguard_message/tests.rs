use proptest::prelude::*;

use super::*;

fn key_of(byte: u8) -> WireguardKey {
    WireguardKey::new([byte; 32])
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

/// What is asked for, as the kernel would report it: the attributes have the same names both ways.
fn taken(bodies: &[Vec<u8>]) -> Device {
    let mut device = Device::default();
    bodies.iter().for_each(|body| device.take(body));
    device
}

#[test]
fn a_device_is_read_as_it_is_written() {
    let (private, public, shared) = (key_of(1), key_of(2), key_of(3));
    for endpoint in ["198.51.100.1:51820", "[2001:db8::7]:443"] {
        let endpoint: SocketAddr = endpoint.parse().unwrap();
        let allowed_ips = nets(&["0.0.0.0/0", "::/0", "10.0.0.0/8"]);
        let update = Update {
            private_key: Some(&private),
            listen_port: Some(0x1234),
            mark: Some(0x6d6f_6c65),
            peers: vec![PeerUpdate::Set {
                public_key: &public,
                preshared_key: Some(&shared),
                endpoint,
                allowed_ips: &allowed_ips,
            }],
            ..Update::default()
        };
        let peer = Peer {
            preshared_key: Some(key_of(3)),
            endpoint: Some(endpoint),
            allowed_ips: allowed_ips.clone(),
            ..Peer::new(key_of(2))
        };
        let device = Device {
            private_key: Some(key_of(1)),
            listen_port: Some(0x1234),
            mark: 0x6d6f_6c65,
            peers: vec![peer],
        };
        assert_eq!(taken(&[set("vpnd0", &update)]), device);
    }
}

/// The first bytes as linux/wireguard.h has them, on a processor of either byte order.
#[test]
fn an_update_is_what_the_kernel_reads() {
    let update = Update { replace_peers: true, listen_port: Some(51820), ..Update::default() };
    let short = |length: u16, kind: u16| [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    let mut wanted = vec![1, 1, 0, 0];
    wanted.extend([short(10, 2), b"vpnd0\0\0\0".to_vec()].concat());
    wanted.extend([short(8, 5), 1_u32.to_ne_bytes().to_vec()].concat());
    wanted.extend([short(6, 6), 51820_u16.to_ne_bytes().to_vec(), vec![0; 2]].concat());
    assert_eq!(set("vpnd0", &update), wanted);
    assert_eq!(get("vpnd0")[..4], [0, 1, 0, 0]);
}

#[test]
fn the_new_peer_comes_before_the_old_one_goes() {
    let (new, old) = (key_of(1), key_of(2));
    let peers = vec![
        PeerUpdate::Allow { public_key: &new, allowed_ips: &[] },
        PeerUpdate::Remove { public_key: &old },
    ];
    let body = set("vpnd0", &Update { peers, ..Update::default() });
    let (_, list) = attributes(&body[GENERIC_HEADER..]).find(|(kind, _)| *kind == PEERS).unwrap();
    let said: Vec<(u8, Option<u32>)> = attributes(list)
        .map(|(_, peer)| {
            let value = |wanted| attributes(peer).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
            (value(PUBLIC_KEY).unwrap()[0], value(PEER_FLAGS).and_then(ne32))
        })
        .collect();
    assert_eq!(said, [(1, None), (2, Some(REMOVE_ME))]);
}

/// The second message has only peers, and goes on in the middle of one (wg_get_device_dump).
#[test]
fn a_peer_that_is_split_over_messages_is_one() {
    let (first, second) = (key_of(1), key_of(2));
    let lists = [nets(&["10.0.0.0/8"]), nets(&["10.1.0.0/16", "fd00::/8"]), nets(&["0.0.0.0/0"])];
    let peers = |list: &[(&WireguardKey, usize)]| {
        let peers =
            list.iter().map(|(key, at)| PeerUpdate::Allow { public_key: key, allowed_ips: &lists[*at] });
        set("vpnd0", &Update { peers: peers.collect(), ..Update::default() })
    };
    let mut head = set("vpnd0", &Update { mark: Some(7), listen_port: Some(9), ..Update::default() });
    head.extend_from_slice(&peers(&[(&first, 0)])[GENERIC_HEADER..]);
    let device = taken(&[head, peers(&[(&first, 1), (&second, 2)])]);
    assert_eq!((device.mark, device.listen_port), (7, Some(9)));
    let found: Vec<_> = device.peers.into_iter().map(|peer| (peer.public_key, peer.allowed_ips)).collect();
    assert_eq!(found, [(first, lists[..2].concat()), (second, lists[2].clone())]);
}

#[test]
fn counters_and_times_are_of_64_bits_and_zeros_are_nothing() {
    let report = |shared: u8, seconds: u64, nanoseconds: u64| {
        let mut peer = Vec::new();
        put(&mut peer, PUBLIC_KEY, &[1; 32]);
        put(&mut peer, PRESHARED_KEY, &[shared; 32]);
        put(&mut peer, LAST_HANDSHAKE_TIME, &[seconds.to_ne_bytes(), nanoseconds.to_ne_bytes()].concat());
        // The kernel aligns 64 bits with an attribute of nothing.
        put(&mut peer, 0, &[]);
        put(&mut peer, RX_BYTES, &(1_u64 << 40).to_ne_bytes());
        put(&mut peer, TX_BYTES, &7_u64.to_ne_bytes());
        Peer::read(&peer).unwrap()
    };
    let peer = report(0, 0, 0);
    assert_eq!((peer.rx, peer.tx, peer.preshared_key, peer.last_handshake), (1 << 40, 7, None, None));
    let peer = report(9, 1_700_000_000, 5);
    let at = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5);
    assert_eq!((peer.preshared_key, peer.last_handshake), (Some(key_of(9)), Some(at)));
    // A clock before 1970, or nonsense: no time that could be told.
    assert_eq!(report(0, u64::MAX, 0).last_handshake, None);
    assert_eq!(report(0, 1, u64::MAX).last_handshake, None);
}

#[test]
fn no_key_is_shown() {
    let mut peer = Peer::new(key_of(77));
    peer.preshared_key = Some(key_of(78));
    let device = Device { private_key: Some(key_of(79)), peers: vec![peer], ..Device::default() };
    let shown = format!("{device:?}");
    assert!(!["77", "78", "79"].iter().any(|byte| shown.contains(byte)), "{shown}");
}

proptest! {
    #[test]
    fn no_bytes_panic(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..256), 0..4)) {
        let _ = taken(&bodies);
    }
    #[test]
    fn no_damage_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let (public, allowed_ips) = (key_of(2), nets(&["10.0.0.0/8", "fd00::/8"]));
        let endpoint = "198.51.100.1:51820".parse().unwrap();
        let peer = PeerUpdate::Set { public_key: &public, preshared_key: Some(&public), endpoint, allowed_ips: &allowed_ips };
        let update = Update { private_key: Some(&public), mark: Some(1), peers: vec![peer], ..Update::default() };
        let mut body = set("vpnd0", &update);
        let at = at.index(body.len());
        body[at] = byte;
        let _ = taken(&[body[..cut.index(body.len())].to_vec(), body.clone()]);
    }
}
