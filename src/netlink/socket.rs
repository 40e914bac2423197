//! A socket that asks the kernel, and nobody else, one thing after the other.
//!
//! It blocks, and yet waits for nothing: the kernel works on a request while send(2) runs, and on the rest of a dump
//! while recv(2) does (`netlink_sendmsg` and `netlink_recvmsg` in net/netlink/af_netlink.c). What may take time is a
//! lock inside these calls, in which a socket that does not block would wait as well.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use netlink_sys::SocketAddr;

use super::message::{self, messages};

/// This only keeps a lost answer from hanging the caller.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Bytes: a dump comes in datagrams of at most 32 KiB (netlink_dump in net/netlink/af_netlink.c).
const DATAGRAM: usize = 64 * 1024;
const OVERRUN: u16 = libc::NLMSG_OVERRUN as u16;
const NOOP: u16 = libc::NLMSG_NOOP as u16;

#[derive(Debug)]
pub(crate) struct Socket {
    inner: netlink_sys::Socket,
    port: u32,
    sequence: AtomicU32,
}

impl Socket {
    /// `protocol`: `NETLINK_*`.
    pub fn open(protocol: isize) -> io::Result<Self> {
        let mut inner = netlink_sys::Socket::new(protocol)?;
        let port = inner.bind_auto()?.port_number();
        // From here on only the kernel may send to it (netlink_getsockbyportid).
        inner.connect(&SocketAddr::new(0, 0))?;
        socket2::SockRef::from(&inner).set_read_timeout(Some(TIME_LIMIT))?;
        Ok(Self { inner, port, sequence: AtomicU32::new(0) })
    }

    /// Who the kernel says made the changes that are asked for here.
    pub fn port(&self) -> u32 {
        self.port
    }

    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.inner.send(bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(|_| ()),
            }
        }
    }

    /// The next datagram, in place of what `buffer` held.
    ///
    /// # Errors
    /// `TimedOut`, without a number of the kernel's, after [`TIME_LIMIT`].
    pub fn datagram(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        buffer.reserve(DATAGRAM);
        loop {
            match self.inner.recv(buffer, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(silent()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends one request and gives type and content of each message of the answer to `each`, up to the kernel's yes or
    /// no. `flags` (`NLM_F_*`): beside REQUEST and ACK. False: the answer is no consistent whole.
    ///
    /// # Errors
    /// The kernel's number where it refuses; else as [`Socket::datagram`].
    pub fn ask(
        &self,
        kind: u16,
        flags: i32,
        body: &[u8],
        each: &mut dyn FnMut(u16, &[u8]),
    ) -> io::Result<bool> {
        let sequence = self.sequence.fetch_add(1, Relaxed).wrapping_add(1);
        let mut bytes = Vec::new();
        message::put(&mut bytes, kind, libc::NLM_F_ACK | flags, sequence, body);
        self.send(&bytes)?;
        let end = Instant::now() + TIME_LIMIT;
        let mut whole = true;
        loop {
            match self.datagram(&mut bytes) {
                Ok(()) => {}
                // Something was lost, but nothing of the dump itself: its end is still to come.
                Err(error) if is_dump(flags) && error.raw_os_error() == Some(libc::ENOBUFS) => whole = false,
                Err(error) => return Err(error),
            }
            whole &= bytes.len() < DATAGRAM;
            // Others answer a request that was given up.
            for message in messages(&bytes).filter(|message| message.sequence == sequence) {
                whole &= i32::from(message.flags) & libc::NLM_F_DUMP_INTR == 0;
                match (message.end(), message.kind) {
                    (Some(0), _) => return Ok(whole),
                    (Some(errno), _) => return Err(io::Error::from_raw_os_error(errno)),
                    (None, OVERRUN) => whole = false,
                    (None, NOOP) => {}
                    (None, kind) => each(kind, message.body),
                }
            }
            if Instant::now() > end {
                return Err(silent());
            }
        }
    }
}

fn is_dump(flags: i32) -> bool {
    flags & libc::NLM_F_DUMP == libc::NLM_F_DUMP
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer from the kernel")
}

#[cfg(test)]
mod tests {
    use netlink_sys::protocols::NETLINK_ROUTE;

    use super::*;

    /// What needs no privilege: the loopback device, which every network namespace has.
    #[test]
    fn a_dump_ends_and_a_refusal_has_its_number() {
        let socket = Socket::open(NETLINK_ROUTE).unwrap();
        assert_ne!(socket.port(), 0);
        for _ in 0..3 {
            let mut kinds = Vec::new();
            let whole =
                socket.ask(libc::RTM_GETLINK, libc::NLM_F_DUMP, &[0; 16], &mut |kind, _| kinds.push(kind));
            assert!(whole.unwrap_or(true));
            assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == libc::RTM_NEWLINK));
        }
        let mut absent = vec![0; 16];
        // An index that is the same in either byte order: qemu-user passes it on as it is.
        absent[4..8].fill(0x7f);
        let refused = socket.ask(libc::RTM_GETLINK, 0, &absent, &mut |_, _| ());
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
