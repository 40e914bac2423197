//! Tells when devices, addresses, routes, rules or IPv4 settings changed; not what: whoever hears it looks anew.

use std::io;
use std::task::{Context, Poll};

use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};

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
/// `RTNLGRP_IPV4_NETCONF` of linux/rtnetlink.h: somebody wrote `rp_filter` (`sysctl`).
const GROUP_IPV4_NETCONF: u32 = 24;
/// Bytes of one event that are looked at; the rest of a longer one is thrown away unread.
const EVENT: usize = 4096;

/// The stream of changes. Starts with what changes after [`watch`] returned.
pub struct Changes {
    socket: TokioSocket,
}

/// Must be called inside a tokio runtime.
///
/// # Errors
/// [`Error::Open`] when the process may not have such a socket.
pub fn watch() -> Result<Changes, Error> {
    let open = || {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
        socket.socket_mut().add_membership(GROUP_IPV6_RULE)?;
        socket.socket_mut().add_membership(GROUP_IPV4_NETCONF)?;
        Ok(socket)
    };
    let socket = open().map_err(|source| Error::Open { what: "changes of devices and routes", source })?;
    Ok(Changes { socket })
}

impl Changes {
    /// Returns when there was at least one change since the last call; however many came at once
    /// count as one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Watch`] when the socket is broken; the caller opens a new one and looks anew.
    pub async fn next(&mut self) -> Result<(), Error> {
        std::future::poll_fn(|context| drain(&mut self.socket, context)).await.map_err(Error::Watch)
    }
}

/// Reads all that is queued; pending when nothing was.
fn drain(socket: &mut TokioSocket, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut any = false;
    loop {
        let mut buffer = Vec::with_capacity(EVENT);
        match socket.poll_recv(context, &mut buffer) {
            Poll::Ready(Ok(())) => any = true,
            // The queue overflowed: events were lost, which is a change.
            Poll::Ready(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending if any => return Poll::Ready(Ok(())),
            Poll::Pending => return Poll::Pending,
        }
    }
}
