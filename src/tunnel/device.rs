//! The device `vpnd0`: created once, adopted when a former daemon left it.

use std::io;

use futures::TryStreamExt;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{Handle, LinkUnspec, LinkWireguard};
use wireguard_control::{Backend, Device, DeviceUpdate, Key};

use super::error::to_io;
use super::peer::interface;
use super::{DEVICE, Error, MIN_MTU_V6, addresses};
use crate::config::{Mark, TunnelSettings};

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
    let handle = open()?;
    let link = find_or_add(&handle).await?;
    configure(spec)?;
    // The MTU comes before the addresses: below 1280 the kernel takes no IPv6 address.
    let index = link.header.index;
    let has_v6 = spec.settings.addresses.iter().any(|net| net.addr().is_ipv6());
    let mtu = if has_v6 { spec.mtu.max(MIN_MTU_V6) } else { spec.mtu };
    if mtu_of(&link) != Some(mtu) {
        let message = LinkUnspec::new_with_index(index).mtu(mtu).build();
        let set = handle.link().set(message).execute().await;
        set.map_err(|e| Error::netlink("setting the MTU of", e))?;
    }
    addresses::reconcile(&handle, index, &spec.settings.addresses).await?;
    if !link.header.flags.contains(LinkFlags::Up) {
        // Only now does the kernel open the UDP socket.
        let message = LinkUnspec::new_with_index(index).up().build();
        let set = handle.link().set(message).execute().await;
        set.map_err(|e| Error::socket("bringing up", spec.listen_port, to_io(e)))?;
    }
    Ok(())
}

/// Whether one of these addresses is missing on the device, which is there. What cannot be told is
/// not missing.
pub async fn stripped(addresses: &[ipnet::IpNet]) -> bool {
    let Ok(handle) = open() else { return false };
    let Ok(Some(link)) = find(&handle).await else { return false };
    let Ok(present) = addresses::list(&handle, link.header.index).await else { return false };
    addresses.iter().any(|wanted| !present.iter().any(|(net, _)| net == wanted))
}

/// Deletes the device. Fine when it is absent, or when something else has its name.
///
/// # Errors
/// What the kernel says.
pub async fn destroy() -> Result<(), Error> {
    let handle = open()?;
    let Some(link) = find(&handle).await? else { return Ok(()) };
    if !is_wireguard(&link) {
        return Ok(());
    }
    let deleted = handle.link().del(link.header.index).execute().await;
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
    let handle = open()?;
    let Some(link) = find(&handle).await?.filter(is_wireguard) else {
        return Err(Error::Gone { action: ACTION });
    };
    let index = link.header.index;
    let present = addresses::list(&handle, index).await?;
    let mtu = if present.iter().any(|(net, _)| net.addr().is_ipv6()) { mtu.max(MIN_MTU_V6) } else { mtu };
    let message = LinkUnspec::new_with_index(index).mtu(mtu).build();
    handle.link().set(message).execute().await.map_err(|e| Error::netlink(ACTION, e))?;
    Ok(mtu)
}

/// Key, port and mark, as far as they differ.
fn configure(spec: &Spec<'_>) -> Result<(), Error> {
    const ACTION: &str = "setting key, port and mark of";
    let device = Device::get(&interface(), Backend::Kernel).map_err(|e| Error::kernel(ACTION, e))?;
    let mut update = DeviceUpdate::new();
    let mut differs = false;
    let key = Key(*spec.settings.private_key.bytes());
    if device.private_key.map(clamped) != Some(clamped(Key(key.0))) {
        update = update.set_private_key(key).replace_peers();
        differs = true;
    }
    if device.listen_port != Some(spec.listen_port) {
        update = update.set_listen_port(spec.listen_port);
        differs = true;
    }
    if device.fwmark.unwrap_or(0) != spec.mark.value() {
        update = update.set_fwmark(spec.mark.value());
        differs = true;
    }
    if !differs {
        return Ok(());
    }
    let applied = update.apply(&interface(), Backend::Kernel);
    applied.map_err(|e| Error::socket(ACTION, spec.listen_port, e))
}

/// As the kernel keeps the key that it is given (RFC 7748, section 5). Comparing the public ones would do, and
/// take 15 KB of arithmetic.
fn clamped(Key(mut bytes): Key) -> [u8; 32] {
    bytes[0] &= 0b1111_1000;
    bytes[31] = bytes[31] & 0b0111_1111 | 0b0100_0000;
    bytes
}

async fn find_or_add(handle: &Handle) -> Result<LinkMessage, Error> {
    const ACTION: &str = "creating";
    if find(handle).await?.is_none() {
        let added = handle.link().add(LinkWireguard::new(DEVICE).build()).execute().await;
        match added.map_err(to_io) {
            // EEXIST: it came up meanwhile; looked at below.
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Err(Error::NoWireguard),
            Err(e) => return Err(Error::kernel(ACTION, e)),
            Ok(()) => {}
        }
    }
    match find(handle).await? {
        Some(link) if is_wireguard(&link) => Ok(link),
        Some(link) => Err(Error::Foreign { kind: kind_of(&link) }),
        None => Err(Error::Gone { action: ACTION }),
    }
}

/// A netlink connection of its own for one task; it ends when the handle is dropped.
fn open() -> Result<Handle, Error> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|e| Error::kernel("opening a netlink socket for", e))?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn find(handle: &Handle) -> Result<Option<LinkMessage>, Error> {
    let mut links = handle.link().get().match_name(DEVICE.to_owned()).execute();
    match links.try_next().await.map_err(to_io) {
        Ok(link) => Ok(link),
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(e) => Err(Error::kernel("looking for", e)),
    }
}

fn info_kind(link: &LinkMessage) -> Option<&InfoKind> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind),
            _ => None,
        }),
        _ => None,
    })
}

fn is_wireguard(link: &LinkMessage) -> bool {
    info_kind(link) == Some(&InfoKind::Wireguard)
}

fn kind_of(link: &LinkMessage) -> String {
    info_kind(link).map_or_else(|| "physical".to_owned(), ToString::to_string)
}

fn mtu_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
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
    use super::*;

    /// RFC 7748, section 6.1: the private key as it is given, and the bits that its decoding sets.
    #[test]
    fn a_key_and_what_the_kernel_makes_of_it_are_one() {
        let given = Key([0xff; 32]);
        let kept = clamped(Key(given.0));
        assert_eq!((kept[0], kept[1], kept[31]), (0xf8, 0xff, 0x7f));
        assert_eq!(clamped(Key(kept)), kept);
        assert_eq!(Key(given.0).get_public().0, Key(kept).get_public().0);
        assert_ne!(clamped(Key([7; 32])), clamped(Key([15; 32])));
    }
}
