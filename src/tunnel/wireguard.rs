//! Asks the kernel for its WireGuard device and changes it, over generic netlink (linux/genetlink.h).

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;

use super::DEVICE;
use super::wireguard_message::{self as message, Device, GENERIC_HEADER, Update};
use crate::netlink::Socket;
use crate::netlink::attribute::{attributes, string};

/// Somebody may change the device while it is reported.
const TRIES: u32 = 8;
/// `CTRL_CMD_GETFAMILY`, as `struct genlmsghdr`.
const GET_FAMILY: [u8; GENERIC_HEADER] = [libc::CTRL_CMD_GETFAMILY as u8, 1, 0, 0];

/// The device as it is.
///
/// # Errors
/// The kernel's number: ENODEV without the device, EOPNOTSUPP where it is of another kind, ENOENT in a kernel without
/// WireGuard.
pub(super) fn get() -> io::Result<Device> {
    let (socket, family) = open()?;
    for _ in 0..TRIES {
        let mut device = Device::default();
        if socket.ask(family, libc::NLM_F_DUMP, &message::get(DEVICE), &mut |_, body| device.take(body))? {
            return Ok(device);
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}

/// Changes the device, which has to be there.
///
/// # Errors
/// As [`get`].
pub(super) fn set(update: &Update<'_>) -> io::Result<()> {
    let (socket, family) = open()?;
    socket.ask(family, 0, &message::set(DEVICE, update), &mut |_, _| ()).map(drop)
}

/// A socket, and the type that WireGuard's messages have in this kernel; asking for it loads the module.
fn open() -> io::Result<(Socket, u16)> {
    let socket = Socket::open(NETLINK_GENERIC)?;
    let mut question = GET_FAMILY.to_vec();
    string(&mut question, libc::CTRL_ATTR_FAMILY_NAME as u16, "wireguard");
    let mut family = None;
    socket.ask(libc::GENL_ID_CTRL as u16, 0, &question, &mut |_, body| {
        family = family.or_else(|| number(body))
    })?;
    let family = family.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    Ok((socket, family))
}

fn number(body: &[u8]) -> Option<u16> {
    let mut attributes = attributes(body.get(GENERIC_HEADER..)?);
    let (_, value) = attributes.find(|(kind, _)| *kind == libc::CTRL_ATTR_FAMILY_ID as u16)?;
    value.try_into().ok().map(u16::from_ne_bytes)
}
