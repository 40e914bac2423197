//! The device `vpnd0`: created once, adopted when a former daemon left it.

use std::io;

use super::wireguard_message::Update;
use super::{DEVICE, Error, MIN_MTU_V6, addresses, wireguard};
use crate::config::{Mark, TunnelSettings};
use crate::rtnetlink::{self, Connection, LinkMessage};

/// What the kernel calls this kind of device.
const KIND: &str = "wireguard";

/// What the device must be.
#[derive(Debug, Clone, Copy)]
pub struct Spec<'a> {
    pub settings: &'a TunnelSettings,
    /// On the tunnel's outer packets (contract 3.1).
    pub mark: Mark,
    /// UDP port of the tunnel's socket.
    pub listen_port: u16,
    /// Bytes, from [`super::mtu_for`] or the configuration; with IPv6 inside taken as at least
    /// 1280. A smaller one that [`set_mtu`] set before is overwritten.
    pub mtu: u32,
}

/// Creates the device if it is not there and gives it key, port, mark, MTU and addresses; no peer.
///
/// Idempotent. A device that a former daemon left is adopted: what is right stays untouched, so
/// that a running tunnel goes on. When the private key changes the peer goes in the same call,
/// so that no relay ever sees both keys.
///
/// # Errors
/// [`Error::NoWireguard`], [`Error::Foreign`], [`Error::PortTaken`] and what else the kernel says.
/// The device may then be left half made, without a new peer; calling again mends it.
pub async fn create(spec: &Spec<'_>) -> Result<(), Error> {
    let netlink = open()?;
    let link = find_or_add(&netlink).await?;
    configure(spec)?;
    // The MTU comes before the addresses: below 1280 the kernel takes no IPv6 address.
    let index = link.index;
    let has_v6 = spec.settings.addresses.iter().any(|net| net.addr().is_ipv6());
    let mtu = if has_v6 { spec.mtu.max(MIN_MTU_V6) } else { spec.mtu };
    if link.mtu != Some(mtu) {
        let set = netlink.change(&LinkMessage::set_mtu(index, mtu), 0).await;
        set.map_err(|e| Error::netlink("setting the MTU of", e))?;
    }
    addresses::reconcile(&netlink, index, &spec.settings.addresses).await?;
    if !link.is_up() {
        // Only now does the kernel open the UDP socket.
        let set = netlink.change(&LinkMessage::set_up(index), 0).await;
        set.map_err(|e| Error::socket("bringing up", spec.listen_port, e.into_io()))?;
    }
    Ok(())
}

/// Whether one of these addresses is missing on the device, which is there. What cannot be told is
/// not missing.
pub async fn stripped(addresses: &[ipnet::IpNet]) -> bool {
    let Ok(netlink) = open() else { return false };
    let Ok(Some(link)) = find(&netlink).await else { return false };
    let Ok(present) = addresses::list(&netlink, link.index).await else { return false };
    addresses.iter().any(|wanted| !present.iter().any(|(net, _)| net == wanted))
}

/// Deletes the device. Fine when it is absent, or when something else has its name.
///
/// # Errors
/// What the kernel says.
pub async fn destroy() -> Result<(), Error> {
    let netlink = open()?;
    let Some(link) = find(&netlink).await? else { return Ok(()) };
    if !is_wireguard(&link) {
        return Ok(());
    }
    let deleted = netlink.change(&LinkMessage::delete(link.index), 0).await;
    match deleted.map_err(|e| Error::netlink("deleting", e)) {
        Err(Error::Gone { .. }) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Changes the device's MTU (bytes) and returns the one that it has now: with an IPv6 address
/// inside never less than 1280, as the kernel would take that address away.
///
/// # Errors
/// [`Error::Gone`] and what else the kernel says.
pub async fn set_mtu(mtu: u32) -> Result<u32, Error> {
    const ACTION: &str = "setting the MTU of";
    let netlink = open()?;
    let Some(link) = find(&netlink).await?.filter(is_wireguard) else {
        return Err(Error::Gone { action: ACTION });
    };
    let index = link.index;
    let present = addresses::list(&netlink, index).await?;
    let mtu = if present.iter().any(|(net, _)| net.addr().is_ipv6()) { mtu.max(MIN_MTU_V6) } else { mtu };
    let set = netlink.change(&LinkMessage::set_mtu(index, mtu), 0).await;
    set.map_err(|e| Error::netlink(ACTION, e))?;
    Ok(mtu)
}

/// Key, port and mark, as far as they differ.
fn configure(spec: &Spec<'_>) -> Result<(), Error> {
    const ACTION: &str = "setting key, port and mark of";
    let device = wireguard::get().map_err(|e| Error::kernel(ACTION, e))?;
    let key = &spec.settings.private_key;
    let other_key = device.private_key.map(|key| clamped(key.bytes())) != Some(clamped(key.bytes()));
    let update = Update {
        replace_peers: other_key,
        private_key: other_key.then_some(key),
        listen_port: Some(spec.listen_port).filter(|port| device.listen_port != Some(*port)),
        mark: Some(spec.mark.value()).filter(|mark| device.mark != *mark),
        peers: Vec::new(),
    };
    if !other_key && update.listen_port.is_none() && update.mark.is_none() {
        return Ok(());
    }
    wireguard::set(&update).map_err(|e| Error::socket(ACTION, spec.listen_port, e))
}

/// As the kernel keeps the key that it is given (RFC 7748, section 5). Comparing the public ones would do, and
/// take 15 KB of arithmetic.
fn clamped(key: &[u8; 32]) -> [u8; 32] {
    let mut bytes = *key;
    bytes[0] &= 0b1111_1000;
    bytes[31] = bytes[31] & 0b0111_1111 | 0b0100_0000;
    bytes
}

async fn find_or_add(netlink: &Connection) -> Result<LinkMessage, Error> {
    const ACTION: &str = "creating";
    if find(netlink).await?.is_none() {
        let request = LinkMessage::add(DEVICE, KIND);
        let added = netlink.change(&request, libc::NLM_F_CREATE | libc::NLM_F_EXCL).await;
        match added.map_err(rtnetlink::Error::into_io) {
            // EEXIST: it came up meanwhile; looked at below.
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Err(Error::NoWireguard),
            Err(e) => return Err(Error::kernel(ACTION, e)),
            Ok(()) => {}
        }
    }
    match find(netlink).await? {
        Some(link) if is_wireguard(&link) => Ok(link),
        Some(link) if link.kind.is_empty() => Err(Error::Foreign { kind: "physical".to_owned() }),
        Some(link) => Err(Error::Foreign { kind: link.kind }),
        None => Err(Error::Gone { action: ACTION }),
    }
}

/// A netlink connection of its own for one task.
fn open() -> Result<Connection, Error> {
    Connection::open().map_err(|e| Error::kernel("opening a netlink socket for", e))
}

async fn find(netlink: &Connection) -> Result<Option<LinkMessage>, Error> {
    let link = netlink.ask(&LinkMessage::named(DEVICE), LinkMessage::read).await;
    match link.map_err(rtnetlink::Error::into_io) {
        Ok(link) => Ok(link),
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(e) => Err(Error::kernel("looking for", e)),
    }
}

fn is_wireguard(link: &LinkMessage) -> bool {
    link.kind == KIND
}

/// The device's MTU in bytes, without a runtime.
pub(super) fn mtu_now() -> io::Result<u32> {
    let answer = ask(libc::SIOCGIFMTU as _)?;
    // SAFETY: the kernel has filled in ifr_mtu, an int (netdevice(7)).
    Ok(u32::try_from(unsafe { answer.ifr_ifru.ifru_mtu }).unwrap_or(0))
}

/// Whether somebody set the device down.
pub(super) fn up_now() -> io::Result<bool> {
    let answer = ask(libc::SIOCGIFFLAGS as _)?;
    // SAFETY: the kernel has filled in ifr_flags, a short (netdevice(7)).
    let flags = unsafe { answer.ifr_ifru.ifru_flags };
    Ok(libc::c_int::from(flags) & libc::IFF_UP != 0)
}

/// Asks the kernel one thing about the device (netdevice(7)).
fn ask(what: libc::Ioctl) -> io::Result<libc::ifreq> {
    use std::os::fd::AsRawFd;
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
    // SAFETY: ifreq is plain data (a name and a union of integers and pointers); zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // DEVICE is 5 bytes, the field 16 and zeroed, so the name ends in a zero.
    for (to, from) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: the descriptor is open, and both questions read and write one ifreq, which outlives
    // the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use wireguard_control::Key;

    use super::*;

    /// RFC 7748, section 6.1: the private key as it is given, and the bits that its decoding sets.
    #[test]
    fn a_key_and_what_the_kernel_makes_of_it_are_one() {
        let given = [0xff; 32];
        let kept = clamped(&given);
        assert_eq!((kept[0], kept[1], kept[31]), (0xf8, 0xff, 0x7f));
        assert_eq!(clamped(&kept), kept);
        assert_eq!(Key(given).get_public().0, Key(kept).get_public().0);
        assert_ne!(clamped(&[7; 32]), clamped(&[15; 32]));
    }
}
