//! The device's one peer, and its counters.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use super::wireguard_message::{Device, Peer, PeerUpdate, Update};
use super::{Error, device, wireguard};
use crate::config::{Relay, WireguardKey};

/// Allowed IPs in one netlink message, each up to 40 bytes; what is more follows in further messages. (An attribute's
/// length has 16 bits.)
const ALLOWED_IPS_PER_CALL: usize = 128;
/// Former peers that are taken away one by one, 48 bytes each, in the message that brings the new one.
const OLD_PEERS: usize = 512;

/// A session older than this is refused by both ends (WireGuard's REJECT_AFTER_TIME).
const SESSION: Duration = Duration::from_secs(180);

/// The device as the kernel reports it. Counters are those of the peer, in bytes on the wire
/// without IP and UDP headers, handshakes and keepalives included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    pub rx: u64,
    pub tx: u64,
    /// By the wall clock: for people, not for decisions.
    pub last_handshake: Option<SystemTime>,
    /// The relay's address; differs from the configured one if the relay moved.
    pub endpoint: Option<SocketAddr>,
    /// The relay's.
    pub public_key: Option<WireguardKey>,
    pub listen_port: Option<u16>,
    /// Of the outer packets; 0: none.
    pub mark: u32,
    /// Bytes.
    pub mtu: u32,
    /// False: somebody set the device down. Nothing of the tunnel's health.
    pub up: bool,
}

/// Makes `relay` the device's only peer, in one netlink call: device, addresses, routes and rules
/// stay, and the next packet starts the handshake with the new relay.
///
/// A peer that is exactly this one and has a session (the daemon was restarted) is left alone,
/// so that traffic goes on; call [`clear_peer`] first to force a new handshake.
///
/// No persistent keepalive is set: the LAN's traffic keeps a NAT's mapping alive, on a quiet line
/// the probe sends every 2 minutes ([`super::Liveness`]), and any packet makes a new mapping,
/// which the relay follows. A line that has nothing to say stays silent.
///
/// # Errors
/// [`Error::Gone`] without the device (it is not created here), [`Error::PeerRefused`], and what
/// else the kernel says. There may then be no peer at all: the kernel takes the former one away
/// before it looks at the next.
pub fn set_peer(relay: &Relay) -> Result<(), Error> {
    const ACTION: &str = "setting the peer of";
    let device = get(ACTION)?;
    let wanted = allowed_ips(&relay.allowed_ips);
    if let [peer] = &device.peers[..] {
        if is_same(peer, relay, &wanted) && has_session(peer, SystemTime::now()) {
            return Ok(());
        }
    }
    let public_key = &relay.public_key;
    let mut chunks = wanted.chunks(ALLOWED_IPS_PER_CALL);
    let peer = PeerUpdate::Set {
        public_key,
        preshared_key: relay.preshared_key.as_ref(),
        endpoint: relay.endpoint,
        allowed_ips: chunks.next().unwrap_or_default(),
    };
    apply(ACTION, &exchange(&device, public_key, peer))?;
    for allowed_ips in chunks {
        let more = vec![PeerUpdate::Allow { public_key, allowed_ips }];
        apply(ACTION, &Update { peers: more, ..Update::default() })?;
    }
    if get(ACTION)?.peers.iter().any(|peer| peer.public_key == *public_key) {
        Ok(())
    } else {
        Err(Error::PeerRefused { relay: relay.name.to_string() })
    }
}

/// `peer` in, all others out, in one message. The kernel goes through it in order, and taking a
/// peer away takes it some milliseconds (an RCU grace period): the new one comes first and takes
/// the allowed IPs over, so that packets meanwhile already start its handshake. A peer of the
/// same key is made anew, as its session with another endpoint or key would stay.
fn exchange<'a>(device: &'a Device, key: &WireguardKey, peer: PeerUpdate<'a>) -> Update<'a> {
    let old = &device.peers;
    if old.len() > OLD_PEERS || old.iter().any(|old| old.public_key == *key) {
        return Update { replace_peers: true, peers: vec![peer], ..Update::default() };
    }
    let gone = old.iter().map(|old| PeerUpdate::Remove { public_key: &old.public_key });
    Update { peers: [peer].into_iter().chain(gone).collect(), ..Update::default() }
}

/// Takes the peer away: the device stays and is silent. Fine when the device is absent.
///
/// # Errors
/// What the kernel says.
pub fn clear_peer() -> Result<(), Error> {
    const ACTION: &str = "removing the peer of";
    match get(ACTION) {
        Err(Error::Gone { .. }) => Ok(()),
        Err(error) => Err(error),
        Ok(device) if device.peers.is_empty() => Ok(()),
        Ok(_) => apply(ACTION, &Update { replace_peers: true, ..Update::default() }),
    }
}

/// None: there is no device of ours.
///
/// # Errors
/// What the kernel says.
pub fn stats() -> Result<Option<Stats>, Error> {
    let device = match get("reading the counters of") {
        Ok(device) => device,
        Err(Error::Gone { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    // It may go between two questions.
    let (Ok(mtu), Ok(up)) = (device::mtu_now(), device::up_now()) else { return Ok(None) };
    let peer = device.peers.first();
    Ok(Some(Stats {
        rx: peer.map_or(0, |p| p.rx),
        tx: peer.map_or(0, |p| p.tx),
        last_handshake: peer.and_then(|p| p.last_handshake),
        endpoint: peer.and_then(|p| p.endpoint),
        public_key: peer.map(|p| p.public_key.clone()),
        listen_port: device.listen_port,
        mark: device.mark,
        mtu,
        up,
    }))
}

fn get(action: &'static str) -> Result<Device, Error> {
    wireguard::get().map_err(|e| match e.raw_os_error() {
        // Not WireGuard's device, or a kernel that knows no WireGuard at all: not ours either.
        Some(libc::EOPNOTSUPP | libc::ENOENT) => Error::Gone { action },
        _ => Error::kernel(action, e),
    })
}

fn apply(action: &'static str, update: &Update<'_>) -> Result<(), Error> {
    wireguard::set(update).map_err(|e| Error::kernel(action, e))
}

/// Empty means everything, both families.
fn allowed_ips(nets: &[IpNet]) -> Vec<IpNet> {
    let everything = [IpNet::V4(ipnet::Ipv4Net::default()), IpNet::V6(ipnet::Ipv6Net::default())];
    let nets = if nets.is_empty() { &everything[..] } else { nets };
    nets.iter().map(IpNet::trunc).collect()
}

fn is_same(peer: &Peer, relay: &Relay, wanted: &[IpNet]) -> bool {
    peer.public_key == relay.public_key
        && peer.preshared_key == relay.preshared_key
        && peer.endpoint == Some(relay.endpoint)
        && peer.allowed_ips.len() == wanted.len()
        && wanted.iter().all(|ip| peer.allowed_ips.contains(ip))
}

/// A clock that jumped makes this wrong in either direction: at worst one handshake too many.
fn has_session(peer: &Peer, now: SystemTime) -> bool {
    let age = peer.last_handshake.and_then(|then| now.duration_since(then).ok());
    age.is_some_and(|age| age < SESSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay() -> Relay {
        Relay {
            name: "se-got-001".parse().unwrap(),
            endpoint: "198.51.100.1:51820".parse().unwrap(),
            public_key: WireguardKey::new([1; 32]),
            preshared_key: None,
            allowed_ips: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
            country: String::new(),
            city: String::new(),
        }
    }

    fn peer() -> Peer {
        Peer {
            endpoint: Some(relay().endpoint),
            allowed_ips: allowed_ips(&[]),
            ..Peer::new(WireguardKey::new([1; 32]))
        }
    }

    fn same(peer: &Peer, relay: &Relay) -> bool {
        is_same(peer, relay, &allowed_ips(&relay.allowed_ips))
    }

    #[test]
    fn only_the_very_same_peer_is_adopted() {
        assert!(same(&peer(), &relay()));
        let other = |change: fn(&mut Relay)| {
            let mut relay = relay();
            change(&mut relay);
            same(&peer(), &relay)
        };
        assert!(other(|r| r.allowed_ips.clear()), "an empty list means everything");
        assert!(!other(|r| r.public_key = WireguardKey::new([2; 32])));
        assert!(!other(|r| r.endpoint.set_port(1)));
        assert!(!other(|r| r.preshared_key = Some(WireguardKey::new([3; 32]))));
        assert!(!other(|r| r.allowed_ips.truncate(1)));
    }

    #[test]
    fn a_session_ends_after_three_minutes() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut peer = peer();
        assert!(!has_session(&peer, now));
        for (age, want) in [(0, true), (179, true), (180, false)] {
            peer.last_handshake = Some(now - Duration::from_secs(age));
            assert_eq!(has_session(&peer, now), want, "{age}");
        }
        peer.last_handshake = Some(now + Duration::from_secs(1));
        assert!(!has_session(&peer, now), "from the future");
    }

    #[test]
    fn allowed_ips_are_networks() {
        let nets = ["10.1.2.3/8".parse().unwrap()];
        assert_eq!(allowed_ips(&nets), ["10.0.0.0/8".parse().unwrap()]);
    }

    #[test]
    fn one_message_brings_the_new_peer_and_takes_the_others_away() {
        let keys: Vec<WireguardKey> = (0..3).map(|byte| WireguardKey::new([byte; 32])).collect();
        let device = |peers: usize| Device {
            peers: keys.iter().cycle().take(peers).cloned().map(Peer::new).collect(),
            ..Device::default()
        };
        let (two, many) = (device(2), device(OLD_PEERS + 1));
        let set = |key| PeerUpdate::Allow { public_key: key, allowed_ips: &[] };
        let update = exchange(&two, &keys[2], set(&keys[2]));
        let kinds: Vec<bool> =
            update.peers.iter().map(|peer| matches!(peer, PeerUpdate::Remove { .. })).collect();
        assert!(!update.replace_peers);
        assert_eq!(kinds, [false, true, true]);
        for (device, key) in [(&two, &keys[1]), (&many, &WireguardKey::new([9; 32]))] {
            let update = exchange(device, key, set(key));
            assert!(update.replace_peers && update.peers.len() == 1);
        }
    }
}
