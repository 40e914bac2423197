//! WireGuard's device and peers on the wire (linux/wireguard.h; drivers/net/wireguard/netlink.c), as far as vpnd sets
//! and reads them. All in the machine's byte order but ports and addresses. Pure.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use crate::config::WireguardKey;
use crate::netlink::attribute::{address, attributes, ip, native, ne32, nested, put, string};
use crate::rtnetlink::{INET, INET6};

/// `struct genlmsghdr` (linux/genetlink.h): command, version, two bytes of nothing.
pub(super) const GENERIC_HEADER: usize = 4;
const GET_DEVICE: [u8; GENERIC_HEADER] = [0, 1, 0, 0];
const SET_DEVICE: [u8; GENERIC_HEADER] = [1, 1, 0, 0];

/// `enum wgdevice_attribute`.
const IFNAME: u16 = 2;
const PRIVATE_KEY: u16 = 3;
const DEVICE_FLAGS: u16 = 5;
const LISTEN_PORT: u16 = 6;
const FWMARK: u16 = 7;
const PEERS: u16 = 8;
/// `WGDEVICE_F_REPLACE_PEERS`.
const REPLACE_PEERS: u32 = 1;
/// `enum wgpeer_attribute`.
const PUBLIC_KEY: u16 = 1;
const PRESHARED_KEY: u16 = 2;
const PEER_FLAGS: u16 = 3;
const ENDPOINT: u16 = 4;
const LAST_HANDSHAKE_TIME: u16 = 6;
const RX_BYTES: u16 = 7;
const TX_BYTES: u16 = 8;
const ALLOWED_IPS: u16 = 9;
/// `WGPEER_F_REMOVE_ME` and `WGPEER_F_REPLACE_ALLOWEDIPS`.
const REMOVE_ME: u32 = 1;
const REPLACE_ALLOWED_IPS: u32 = 2;
/// `enum wgallowedip_attribute`.
const FAMILY: u16 = 1;
const ADDRESS: u16 = 2;
const CIDR_MASK: u16 = 3;

/// The device as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Device {
    pub private_key: Option<WireguardKey>,
    pub listen_port: Option<u16>,
    /// 0: none.
    pub mark: u32,
    pub peers: Vec<Peer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub public_key: WireguardKey,
    pub preshared_key: Option<WireguardKey>,
    pub endpoint: Option<SocketAddr>,
    pub allowed_ips: Vec<IpNet>,
    pub last_handshake: Option<SystemTime>,
    /// Bytes.
    pub rx: u64,
    pub tx: u64,
}

/// What is to change of the device; the kernel does it in this order (wg_set_device).
#[derive(Default)]
pub(super) struct Update<'a> {
    pub mark: Option<u32>,
    pub listen_port: Option<u16>,
    pub replace_peers: bool,
    pub private_key: Option<&'a WireguardKey>,
    pub peers: Vec<PeerUpdate<'a>>,
}

pub(super) enum PeerUpdate<'a> {
    /// Made where it is not there, without what it allowed before.
    Set {
        public_key: &'a WireguardKey,
        preshared_key: Option<&'a WireguardKey>,
        endpoint: SocketAddr,
        allowed_ips: &'a [IpNet],
    },
    /// More that it allows.
    Allow {
        public_key: &'a WireguardKey,
        allowed_ips: &'a [IpNet],
    },
    Remove {
        public_key: &'a WireguardKey,
    },
}

/// Asks for the device (with `NLM_F_DUMP`).
pub(super) fn get(name: &str) -> Vec<u8> {
    let mut body = GET_DEVICE.to_vec();
    string(&mut body, IFNAME, name);
    body
}

/// Changes the device.
pub(super) fn set(name: &str, update: &Update<'_>) -> Vec<u8> {
    let mut body = SET_DEVICE.to_vec();
    string(&mut body, IFNAME, name);
    if update.replace_peers {
        native(&mut body, DEVICE_FLAGS, REPLACE_PEERS);
    }
    if let Some(key) = update.private_key {
        put(&mut body, PRIVATE_KEY, key.bytes());
    }
    if let Some(port) = update.listen_port {
        put(&mut body, LISTEN_PORT, &port.to_ne_bytes());
    }
    if let Some(mark) = update.mark {
        native(&mut body, FWMARK, mark);
    }
    if !update.peers.is_empty() {
        nested(&mut body, PEERS, |peers| {
            for peer in &update.peers {
                nested(peers, 0, |bytes| peer.put(bytes));
            }
        });
    }
    body
}

impl PeerUpdate<'_> {
    fn put(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Set { public_key, preshared_key, endpoint, allowed_ips } => {
                put(bytes, PUBLIC_KEY, public_key.bytes());
                native(bytes, PEER_FLAGS, REPLACE_ALLOWED_IPS);
                put(bytes, ENDPOINT, &socket_address(*endpoint));
                if let Some(key) = preshared_key {
                    put(bytes, PRESHARED_KEY, key.bytes());
                }
                put_allowed_ips(bytes, allowed_ips);
            }
            Self::Allow { public_key, allowed_ips } => {
                put(bytes, PUBLIC_KEY, public_key.bytes());
                put_allowed_ips(bytes, allowed_ips);
            }
            Self::Remove { public_key } => {
                put(bytes, PUBLIC_KEY, public_key.bytes());
                native(bytes, PEER_FLAGS, REMOVE_ME);
            }
        }
    }
}

fn put_allowed_ips(bytes: &mut Vec<u8>, nets: &[IpNet]) {
    nested(bytes, ALLOWED_IPS, |list| {
        for net in nets {
            nested(list, 0, |entry| {
                let family = if net.addr().is_ipv4() { INET } else { INET6 };
                put(entry, FAMILY, &u16::from(family).to_ne_bytes());
                address(entry, ADDRESS, net.addr());
                put(entry, CIDR_MASK, &[net.prefix_len()]);
            });
        }
    });
}

/// `struct sockaddr_in` or `sockaddr_in6`, without flow and scope.
fn socket_address(at: SocketAddr) -> Vec<u8> {
    let family = if at.is_ipv4() { INET } else { INET6 };
    let mut bytes = u16::from(family).to_ne_bytes().to_vec();
    bytes.extend(at.port().to_be_bytes());
    match at.ip() {
        IpAddr::V4(ip) => {
            bytes.extend(ip.octets());
            bytes.extend([0; 8]);
        }
        IpAddr::V6(ip) => {
            bytes.extend([0; 4]);
            bytes.extend(ip.octets());
            bytes.extend([0; 4]);
        }
    }
    bytes
}

fn read_socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let ip = match bytes.len() {
        16 if family == u16::from(INET) => ip(bytes.get(4..8)?)?,
        28 if family == u16::from(INET6) => ip(bytes.get(8..24)?)?,
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

impl Device {
    /// Takes in one message of the answer. The first says what the device is; what has no room in one goes on in the
    /// next, be it in the middle of what a peer allows: then that peer comes again, with the rest.
    pub(super) fn take(&mut self, body: &[u8]) {
        for (kind, value) in attributes(body.get(GENERIC_HEADER..).unwrap_or_default()) {
            match kind {
                PRIVATE_KEY => self.private_key = key(value),
                LISTEN_PORT => self.listen_port = value.try_into().ok().map(u16::from_ne_bytes),
                FWMARK => self.mark = ne32(value).unwrap_or(0),
                PEERS => {
                    attributes(value).filter_map(|(_, peer)| Peer::read(peer)).for_each(|peer| self.add(peer))
                }
                _ => {}
            }
        }
    }

    fn add(&mut self, peer: Peer) {
        match self.peers.last_mut() {
            Some(last) if last.public_key == peer.public_key => last.allowed_ips.extend(peer.allowed_ips),
            _ => self.peers.push(peer),
        }
    }
}

impl Peer {
    pub(super) fn new(public_key: WireguardKey) -> Self {
        Self {
            public_key,
            preshared_key: None,
            endpoint: None,
            allowed_ips: Vec::new(),
            last_handshake: None,
            rx: 0,
            tx: 0,
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (_, public_key) = attributes(bytes).find(|(kind, _)| *kind == PUBLIC_KEY)?;
        let mut peer = Self::new(key(public_key)?);
        for (kind, value) in attributes(bytes) {
            match kind {
                // The kernel reports a key of zeros where there is none.
                PRESHARED_KEY => peer.preshared_key = key(value).filter(|key| *key.bytes() != [0; 32]),
                ENDPOINT => peer.endpoint = read_socket_address(value),
                LAST_HANDSHAKE_TIME => peer.last_handshake = time(value),
                RX_BYTES => peer.rx = ne64(value).unwrap_or(0),
                TX_BYTES => peer.tx = ne64(value).unwrap_or(0),
                ALLOWED_IPS => {
                    peer.allowed_ips.extend(attributes(value).filter_map(|(_, entry)| allowed_ip(entry)))
                }
                _ => {}
            }
        }
        Some(peer)
    }
}

fn key(bytes: &[u8]) -> Option<WireguardKey> {
    bytes.try_into().ok().map(WireguardKey::new)
}

fn ne64(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_ne_bytes)
}

/// `struct __kernel_timespec`, 64 bits twice on every processor; zeros: never.
fn time(bytes: &[u8]) -> Option<SystemTime> {
    let (seconds, nanoseconds) = bytes.split_at_checked(8)?;
    let nanoseconds = u32::try_from(ne64(nanoseconds)?).ok().filter(|n| *n < 1_000_000_000)?;
    let since = Duration::new(ne64(seconds)?, nanoseconds);
    SystemTime::UNIX_EPOCH.checked_add(since).filter(|_| !since.is_zero())
}

fn allowed_ip(bytes: &[u8]) -> Option<IpNet> {
    let (mut address, mut length) = (None, None);
    for (kind, value) in attributes(bytes) {
        match kind {
            ADDRESS => address = ip(value),
            CIDR_MASK => length = value.first().copied(),
            _ => {}
        }
    }
    IpNet::new(address?, length?).ok()
}

#[cfg(test)]
mod tests;
