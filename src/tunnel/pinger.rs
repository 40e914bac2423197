//! Echo requests out of the tunnel device and their answers, over raw sockets bound to it.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use super::DEVICE;
use super::echo::{self, COOKIE, Ids};

/// Requests that may still be answered; the oldest is forgotten. Enough for a whole ladder of
/// sizes, three times ([`super::find_mtu`]).
const OUTSTANDING: usize = 256;
/// A full send queue must not hold the caller up.
const SEND_LIMIT: Duration = Duration::from_millis(50);
/// Larger than any packet that the device carries.
const BUFFER: usize = 2048;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub from: IpAddr,
    /// Of the request, bytes with the IP header.
    pub size: usize,
    pub rtt: Duration,
}

struct Sent {
    sequence: u16,
    to: IpAddr,
    size: usize,
    at: Instant,
}

/// Sockets close, and nothing is left, when it is dropped.
pub(super) struct Pinger {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    id: u16,
    cookie: [u8; COOKIE],
    next: u16,
    sent: VecDeque<Sent>,
}

impl Pinger {
    pub(super) fn new() -> Self {
        let mut cookie = [0; COOKIE];
        cookie[..8].copy_from_slice(&random());
        cookie[8..].copy_from_slice(&random());
        let id = u16::from_be_bytes([random()[0], random()[1]]);
        Self { v4: None, v6: None, id, cookie, next: 0, sent: VecDeque::new() }
    }

    /// Sends one request of `size` bytes with the IP header. A request that cannot be sent is a
    /// request that is not answered, so there is no error: the caller's clock decides.
    pub(super) async fn send(&mut self, to: IpAddr, size: usize) {
        let size = size.max(echo::least_size(to));
        let ids = Ids { id: self.id, sequence: self.next, cookie: self.cookie };
        self.next = self.next.wrapping_add(1);
        let packet = echo::request(to, &ids, size);
        let slot = if to.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        if slot.is_none() {
            *slot = open(to.is_ipv4()).ok();
        }
        let Some(socket) = slot else { return };
        if self.sent.len() == OUTSTANDING {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent { sequence: ids.sequence, to, size, at: Instant::now() });
        if let Ok(Err(error)) = timeout(SEND_LIMIT, socket.send_to(&packet, (to, 0))).await {
            // The device was deleted, and may have come back as another one.
            if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) {
                *slot = None;
            }
        }
    }

    /// Waits for the next right answer: identifier, sequence, cookie and source fit, and it came
    /// by the tunnel device. May be dropped at any time without loss.
    pub(super) async fn answer(&mut self) -> Answer {
        let (mut buffer4, mut buffer6) = ([0; BUFFER], [0; BUFFER]);
        loop {
            let (got, v4) = tokio::select! {
                got = receive(self.v4.as_ref(), &mut buffer4) => (got, true),
                got = receive(self.v6.as_ref(), &mut buffer6) => (got, false),
            };
            match got {
                Ok((length, from)) => {
                    let buffer = if v4 { &buffer4 } else { &buffer6 };
                    if let Some(answer) = self.check(from.ip(), &buffer[..length]) {
                        return answer;
                    }
                }
                // Opened anew with the next request.
                Err(_) if v4 => self.v4 = None,
                Err(_) => self.v6 = None,
            }
        }
    }

    fn check(&mut self, from: IpAddr, packet: &[u8]) -> Option<Answer> {
        let ids = echo::parse_reply(from, packet)?;
        if ids.id != self.id || ids.cookie != self.cookie {
            return None;
        }
        let fits = |sent: &Sent| sent.sequence == ids.sequence && sent.to == from;
        let sent = self.sent.remove(self.sent.iter().position(fits)?)?;
        Some(Answer { from, size: sent.size, rtt: sent.at.elapsed() })
    }
}

async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.recv_from(buffer).await,
        None => std::future::pending().await,
    }
}

/// A raw ICMP socket in the clothes of a UDP socket: the calls (sendto, recvfrom) are the same.
fn open(v4: bool) -> io::Result<UdpSocket> {
    let (domain, protocol) =
        if v4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    // SO_BINDTODEVICE: requests leave by the tunnel whatever the routing tables say, and a reply
    // that came by another device is never delivered here (raw(7), ip(7)).
    socket.bind_device(Some(DEVICE.as_bytes()))?;
    dont_fragment(&socket, v4)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// Inside the tunnel nothing is fragmented, and a smaller path MTU that somebody announced does
/// not shrink a probe (IP_PMTUDISC_PROBE, ip(7)): its size is what is tested.
fn dont_fragment(socket: &Socket, v4: bool) -> io::Result<()> {
    let (level, name, value) = if v4 {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)
    };
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the descriptor is open for the whole call, and `value` is an int that the kernel
    // reads `length` bytes of.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// 64 bits that nobody outside this process can guess: SipHash under the keys that the standard
/// library draws from the system for its hash maps, which never blocks, also early at boot.
fn random() -> [u8; 8] {
    RandomState::new().hash_one(()).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(pinger: &Pinger, sequence: u16, change: fn(&mut Ids)) -> Vec<u8> {
        let mut ids = Ids { id: pinger.id, sequence, cookie: pinger.cookie };
        change(&mut ids);
        let mut packet = echo::request("::1".parse().unwrap(), &ids, 64);
        packet[0] = 129;
        packet
    }

    #[tokio::test(flavor = "current_thread")]
    async fn only_the_asked_host_with_our_numbers_answers() {
        let (asked, other): (IpAddr, IpAddr) = ("fd64::1".parse().unwrap(), "fd64::2".parse().unwrap());
        let mut pinger = Pinger::new();
        pinger.sent.push_back(Sent { sequence: 7, to: asked, size: 64, at: Instant::now() });
        let wrong: [fn(&mut Ids); 3] = [|i| i.id ^= 1, |i| i.sequence ^= 1, |i| i.cookie[15] ^= 1];
        for change in wrong {
            let packet = reply(&pinger, 7, change);
            assert_eq!(pinger.check(asked, &packet), None);
        }
        let right = reply(&pinger, 7, |_| ());
        assert_eq!(pinger.check(other, &right), None, "source");
        assert_eq!(pinger.check(asked, &right).map(|a| (a.from, a.size)), Some((asked, 64)));
        assert_eq!(pinger.check(asked, &right), None, "a second time");
    }

    #[test]
    fn no_two_pingers_share_their_numbers() {
        assert_ne!(Pinger::new().cookie, Pinger::new().cookie);
    }
}
