//! Hears of blocked packets, over nfnetlink_log.

use std::io;
use std::task::{Context, Poll};

use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_NETFILTER};

use super::nflog_message::{self as message, Packet};

/// Bytes: the kernel gathers packets up to its own buffer of this size (NFULNL_NLBUFSIZ_DEFAULT
/// is a page), and drops what does not fit the socket's queue.
const DATAGRAM: usize = 16 * 1024;
const QUEUE: u32 = 64 * 1024;
/// Datagrams that are read in one turn of the caller's loop.
const PER_TURN: usize = 4;

/// The stream of blocked packets: some of them, as the rules limit their rate.
pub struct Blocked {
    socket: TokioSocket,
}

/// Must be called inside a tokio runtime.
///
/// # Errors
/// Words for a person: no nfnetlink_log in the kernel, or another program hears our group.
pub fn listen() -> Result<Blocked, String> {
    bound().map(|socket| Blocked { socket }).map_err(|error| {
        let group = super::base::LOG_GROUP;
        match error.raw_os_error() {
            // nfulnl_recv_config says EPERM to whoever did not bind the group.
            Some(libc::EBUSY | libc::EPERM) => format!("another program listens to log group {group}"),
            _ => format!("listening to log group {group}: {error} (is nfnetlink_log in the kernel?)"),
        }
    })
}

fn bound() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    let inner = socket.socket_mut();
    inner.set_rx_buf_sz(QUEUE)?;
    inner.bind_auto()?;
    inner.connect(&SocketAddr::new(0, 0))?;
    inner.send(&message::bind(), 0)?;
    // The kernel has answered both requests when send(2) returns.
    let mut answered = 0;
    while answered < 2 {
        let mut buffer = Vec::with_capacity(DATAGRAM);
        inner.recv(&mut buffer, 0)?;
        for code in message::read(&buffer).answers {
            answered += 1;
            if code != 0 {
                return Err(io::Error::from_raw_os_error(code));
            }
        }
    }
    Ok(socket)
}

impl Blocked {
    /// The next ones, as many as came at once, but bounded. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the socket is broken.
    pub async fn next(&mut self) -> io::Result<Vec<Packet>> {
        std::future::poll_fn(|context| drain(&mut self.socket, context)).await
    }
}

fn drain(socket: &mut TokioSocket, context: &mut Context<'_>) -> Poll<io::Result<Vec<Packet>>> {
    let mut packets = Vec::new();
    for _ in 0..PER_TURN {
        let mut buffer = Vec::with_capacity(DATAGRAM);
        match socket.poll_recv(context, &mut buffer) {
            Poll::Ready(Ok(())) => packets.extend(message::read(&buffer).packets),
            // Some were lost: there are enough of them, then.
            Poll::Ready(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending if packets.is_empty() => return Poll::Pending,
            Poll::Pending => break,
        }
    }
    Poll::Ready(Ok(packets))
}
