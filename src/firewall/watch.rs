//! Hears of changed rules, over nf_tables' notifications.

use std::io;
use std::os::fd::AsRawFd;

use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::watch_message::{Heard, Reader};

/// `NFNLGRP_NFTABLES` of linux/netfilter/nfnetlink.h.
const GROUP: u32 = 7;
/// Bytes: the kernel fills datagrams up to NLMSG_GOODSIZE, at most 8 KiB; a single message that
/// is larger is alone in its own.
const DATAGRAM: usize = 16 * 1024;
/// Bytes that may wait, as the kernel counts them: vpnd's own transactions fit. It takes none of
/// it while nothing waits.
const QUEUE: libc::c_int = 1024 * 1024;
/// Datagrams that are read in one turn of the caller's loop.
const AT_ONCE: usize = 512;

pub struct Watch {
    socket: AsyncFd<Socket>,
    reader: Reader,
}

/// Must be called inside a tokio runtime.
///
/// # Errors
/// Words for a person.
pub fn watch() -> Result<Watch, String> {
    let open = || {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.set_non_blocking(true)?;
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the descriptor is open, and the value lives and has the size that is said. Where
        // it is refused the queue is shorter, and what overflows is told.
        unsafe {
            let queue = QUEUE;
            let value = (&raw const queue).cast();
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value, size);
        }
        socket.bind_auto()?;
        socket.add_membership(GROUP)?;
        // SAFETY: the socket owns its descriptor and keeps it until it is dropped.
        unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(io::Error::from)
    };
    let opened = open().map_err(|error: io::Error| format!("listening to changes of the rules: {error}"));
    Ok(Watch { socket: opened?, reader: Reader::new(std::process::id()) })
}

impl Watch {
    /// Returns when there is something to hear. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the runtime is going down.
    pub async fn ready(&self) -> io::Result<()> {
        self.socket.readable().await.map(drop)
    }

    /// All that came since the last time; never waits. `own`: the processes of vpnd's own `nft`.
    ///
    /// # Errors
    /// When the socket is broken; the caller opens a new one and compares.
    pub fn hear(&mut self, own: &[u32]) -> io::Result<Heard> {
        let mut heard = Heard::default();
        self.reader.read(&[], |_| false, &mut heard);
        for _ in 0..AT_ONCE {
            let mut buffer = Vec::with_capacity(DATAGRAM);
            match self.socket.get_ref().recv(&mut buffer, 0) {
                // Cut off, or as good as.
                Ok(length) if length >= DATAGRAM => self.reader.lost(&mut heard),
                Ok(_) => self.reader.read(&buffer, |port| own.contains(&port), &mut heard),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_again();
                    return Ok(heard);
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.reader.lost(&mut heard),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // More than anybody sends in good faith: looking at the kernel is quicker than reading on.
        self.reader.lost(&mut heard);
        Ok(heard)
    }

    /// From here on only what comes now counts.
    pub fn forget(&mut self) {
        self.reader.forget();
    }

    /// The queue was empty: only the next message makes [`Watch::ready`] ready.
    fn wait_again(&self) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if let std::task::Poll::Ready(Ok(mut guard)) = self.socket.poll_read_ready(&mut context) {
            guard.clear_ready();
        }
    }
}
