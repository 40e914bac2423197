//! Tells when devices, addresses, routes or rules changed; not what: whoever hears it looks anew.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::unix::AsyncFd;

use super::Error;

/// RTMGRP_* of linux/rtnetlink.h. Rules of IPv6 have no such bit and are joined by number.
const GROUPS: u32 = rtnetlink::constants::RTMGRP_LINK
    | rtnetlink::constants::RTMGRP_IPV4_IFADDR
    | rtnetlink::constants::RTMGRP_IPV4_ROUTE
    | rtnetlink::constants::RTMGRP_IPV4_RULE
    | rtnetlink::constants::RTMGRP_IPV6_IFADDR
    | rtnetlink::constants::RTMGRP_IPV6_ROUTE;
/// `RTNLGRP_IPV6_RULE` of linux/rtnetlink.h.
const GROUP_IPV6_RULE: u32 = 19;
/// Bytes of one event that are looked at; the rest of a longer one is thrown away unread.
const EVENT: usize = 4096;

/// The stream of changes. Starts with what changes after [`watch`] returned.
#[derive(Debug)]
pub struct Changes {
    socket: AsyncFd<Socket>,
}

/// Must be called inside a tokio runtime.
///
/// # Errors
/// [`Error::Open`] when the process may not have such a socket.
pub fn watch() -> Result<Changes, Error> {
    let open = || {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        socket.add_membership(GROUP_IPV6_RULE)?;
        AsyncFd::new(socket)
    };
    let socket = open().map_err(|source| Error::Open {
        what: "changes of devices and routes",
        source,
    })?;
    Ok(Changes { socket })
}

impl Changes {
    /// Returns when there was at least one change since the last call; however many came at once
    /// count as one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Watch`] when the socket is broken; the caller opens a new one and looks anew.
    pub async fn next(&mut self) -> Result<(), Error> {
        loop {
            let mut ready = self.socket.readable().await.map_err(Error::Watch)?;
            let drained = ready.try_io(|socket| drain(socket.get_ref()));
            match drained {
                Ok(Ok(())) => {
                    ready.clear_ready();
                    return Ok(());
                }
                Ok(Err(error)) => return Err(Error::Watch(error)),
                Err(_would_block) => {}
            }
        }
    }
}

/// Reads all that is queued. WouldBlock when nothing was.
fn drain(socket: &Socket) -> io::Result<()> {
    let mut any = false;
    loop {
        let mut buffer = Vec::with_capacity(EVENT);
        match socket.recv(&mut buffer, 0) {
            Ok(_) => any = true,
            // The queue overflowed: events were lost, which is a change.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && any => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
