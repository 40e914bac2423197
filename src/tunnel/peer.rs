//! The device's one peer, and its counters.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use wireguard_control::{
    AllowedIp, Backend, Device, DeviceUpdate, InterfaceName, Key, PeerConfigBuilder, PeerInfo,
};

use super::{DEVICE, Error, device};
use crate::config::{Relay, WireguardKey};

/// Allowed IPs in one netlink message. Each takes up to 40 bytes and the library's message holds
/// 8 KiB; what is more follows in further messages.
const ALLOWED_IPS_PER_CALL: usize = 128;

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

pub(super) fn interface() -> InterfaceName {
    // The parser refuses only an empty or long name and odd characters.
    #[allow(clippy::expect_used)]
    DEVICE.parse().expect("DEVICE is a valid interface name")
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
    // Asked first because the library would create a missing device, without key and mark.
    let device = get(ACTION)?;
    let wanted = allowed_ips(&relay.allowed_ips);
    if let [peer] = &device.peers[..] {
        if is_same(peer, relay, &wanted) && has_session(peer, SystemTime::now()) {
            return Ok(());
        }
    }
    let key = Key(*relay.public_key.bytes());
    let mut chunks = wanted.chunks(ALLOWED_IPS_PER_CALL);
    let mut peer = PeerConfigBuilder::new(&key)
        .set_endpoint(relay.endpoint)
        .replace_allowed_ips()
        .add_allowed_ips(chunks.next().unwrap_or_default());
    if let Some(psk) = &relay.preshared_key {
        peer = peer.set_preshared_key(Key(*psk.bytes()));
    }
    apply(ACTION, exchange(&device, &key, peer))?;
    for chunk in chunks {
        let more = PeerConfigBuilder::new(&key).add_allowed_ips(chunk);
        apply(ACTION, DeviceUpdate::new().add_peer(more))?;
    }
    if get(ACTION)?.peers.iter().any(|peer| peer.config.public_key == key) {
        Ok(())
    } else {
        Err(Error::PeerRefused { relay: relay.name.to_string() })
    }
}

/// `peer` in, all others out, in one message. The kernel goes through it in order, and taking a
/// peer away takes it some milliseconds (an RCU grace period): the new one comes first and takes
/// the allowed IPs over, so that packets meanwhile already start its handshake. A peer of the
/// same key is made anew, as its session with another endpoint or key would stay.
fn exchange(device: &Device, key: &Key, peer: PeerConfigBuilder) -> DeviceUpdate {
    if device.peers.iter().any(|old| old.config.public_key == *key) {
        return DeviceUpdate::new().replace_peers().add_peer(peer);
    }
    let update = DeviceUpdate::new().add_peer(peer);
    device.peers.iter().fold(update, |update, old| update.remove_peer_by_key(&old.config.public_key))
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
        Ok(_) => apply(ACTION, DeviceUpdate::new().replace_peers()),
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
        rx: peer.map_or(0, |p| p.stats.rx_bytes),
        tx: peer.map_or(0, |p| p.stats.tx_bytes),
        last_handshake: peer.and_then(|p| p.stats.last_handshake_time),
        endpoint: peer.and_then(|p| p.config.endpoint),
        public_key: peer.map(|p| WireguardKey::new(p.config.public_key.0)),
        listen_port: device.listen_port,
        mark: device.fwmark.unwrap_or(0),
        mtu,
        up,
    }))
}

fn get(action: &'static str) -> Result<Device, Error> {
    Device::get(&interface(), Backend::Kernel).map_err(|e| match e.raw_os_error() {
        // Not WireGuard's device, or a kernel that knows no WireGuard at all: not ours either.
        Some(libc::EOPNOTSUPP | libc::ENOENT) => Error::Gone { action },
        _ => Error::kernel(action, e),
    })
}

fn apply(action: &'static str, update: DeviceUpdate) -> Result<(), Error> {
    update.apply(&interface(), Backend::Kernel).map_err(|e| Error::kernel(action, e))
}

/// Empty means everything, both families.
fn allowed_ips(nets: &[IpNet]) -> Vec<AllowedIp> {
    let everything = [IpNet::V4(ipnet::Ipv4Net::default()), IpNet::V6(ipnet::Ipv6Net::default())];
    let nets = if nets.is_empty() { &everything[..] } else { nets };
    nets.iter().map(|net| AllowedIp { address: net.network(), cidr: net.prefix_len() }).collect()
}

fn is_same(peer: &PeerInfo, relay: &Relay, wanted: &[AllowedIp]) -> bool {
    let config = &peer.config;
    // The kernel reports a key of zeros where there is none.
    let psk = config.preshared_key.as_ref().filter(|key| **key != Key::zero());
    config.public_key.0 == *relay.public_key.bytes()
        && psk.map(|key| key.0) == relay.preshared_key.as_ref().map(|key| *key.bytes())
        && config.endpoint == Some(relay.endpoint)
        && config.allowed_ips.len() == wanted.len()
        && wanted.iter().all(|ip| config.allowed_ips.contains(ip))
}

/// A clock that jumped makes this wrong in either direction: at worst one handshake too many.
fn has_session(peer: &PeerInfo, now: SystemTime) -> bool {
    let age = peer.stats.last_handshake_time.and_then(|then| now.duration_since(then).ok());
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

    fn peer() -> PeerInfo {
        let mut peer = PeerInfo::from_public_key(Key([1; 32]));
        peer.config.endpoint = Some(relay().endpoint);
        peer.config.preshared_key = Some(Key::zero());
        peer.config.allowed_ips = allowed_ips(&[]);
        peer
    }

    fn same(peer: &PeerInfo, relay: &Relay) -> bool {
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
            peer.stats.last_handshake_time = Some(now - Duration::from_secs(age));
            assert_eq!(has_session(&peer, now), want, "{age}");
        }
        peer.stats.last_handshake_time = Some(now + Duration::from_secs(1));
        assert!(!has_session(&peer, now), "from the future");
    }

    #[test]
    fn allowed_ips_are_networks() {
        let nets = ["10.1.2.3/8".parse().unwrap()];
        assert_eq!(allowed_ips(&nets), ["10.0.0.0/8".parse().unwrap()]);
    }
}
