//! Raw sockets on the router: packets of the router itself out, and what its input let in.

use std::mem::size_of;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};

use crate::ns::Netns;
use crate::packets::Marker;
use crate::wire::{index_of, set};

/// How a socket of the router is bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    /// SO_BINDTODEVICE.
    pub device: Option<String>,
    /// SO_MARK.
    pub mark: Option<u32>,
}

/// A raw socket that sends IP packets with their own header, through the router's output hooks.
pub struct Socket {
    fd: OwnedFd,
    scope: u32,
}

impl Socket {
    /// In the calling thread's namespace.
    ///
    /// # Errors
    /// When it cannot be made or bound.
    pub fn open(v4: bool, binding: &Binding) -> Result<Self> {
        let fd = socket(if v4 { libc::AF_INET } else { libc::AF_INET6 }, libc::IPPROTO_RAW)?;
        set(&fd, libc::SOL_SOCKET, libc::SO_BROADCAST, &1i32)?;
        if let Some(mark) = binding.mark {
            set(&fd, libc::SOL_SOCKET, libc::SO_MARK, &mark)?;
        }
        let mut scope = 0;
        if let Some(device) = &binding.device {
            let mut name = [0u8; libc::IFNAMSIZ];
            name.get_mut(..device.len())
                .context("a device name too long")?
                .copy_from_slice(device.as_bytes());
            set(&fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &name)?;
            scope = index_of(device)?.unsigned_abs();
        }
        Ok(Self { fd, scope })
    }

    /// # Errors
    /// The kernel's answer: EPERM by the firewall, ENETUNREACH by routing.
    pub fn send(&self, packet: &[u8], to: IpAddr) -> std::io::Result<()> {
        send_to(&self.fd, packet, to, self.scope)
    }
}

/// Sends one packet of the router. A refusal by the kernel is the answer, not an error.
///
/// # Errors
/// When no socket can be made.
pub fn send(ns: &Netns, packet: &[u8], to: IpAddr, binding: &Binding) -> Result<std::io::Result<()>> {
    ns.enter(|| Ok(Socket::open(to.is_ipv4(), binding)?.send(packet, to)))
}

fn send_to(fd: &OwnedFd, packet: &[u8], to: IpAddr, scope: u32) -> std::io::Result<()> {
    let send = |address: *const libc::sockaddr, length: usize| {
        // SAFETY: pointers and lengths of live values of this function.
        let sent = unsafe {
            libc::sendto(fd.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0, address, length as u32)
        };
        if sent < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    match to {
        IpAddr::V4(to) => {
            // SAFETY: plain data.
            let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            address.sin_family = libc::AF_INET as u16;
            address.sin_addr.s_addr = u32::from_ne_bytes(to.octets());
            send(std::ptr::from_ref(&address).cast(), size_of::<libc::sockaddr_in>())
        }
        IpAddr::V6(to) => {
            // SAFETY: plain data.
            let mut address: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            address.sin6_family = libc::AF_INET6 as u16;
            address.sin6_addr.s6_addr = to.octets();
            address.sin6_scope_id = scope;
            send(std::ptr::from_ref(&address).cast(), size_of::<libc::sockaddr_in6>())
        }
    }
}

fn socket(family: i32, proto: i32) -> Result<OwnedFd> {
    // SAFETY: plain call; the descriptor is owned at once.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, proto) };
    if fd < 0 {
        bail!("a raw socket for protocol {proto}: {}", std::io::Error::last_os_error());
    }
    // SAFETY: just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Everything of ours that got past the router's input hooks.
pub struct Input {
    /// Services of the router, so that it does not call their ports closed.
    _services: (std::net::TcpListener, std::net::UdpSocket),
    seen: Arc<Mutex<Vec<Marker>>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Input {
    /// # Errors
    /// Without root.
    pub fn watch(ns: &Netns) -> Result<Self> {
        let sockets = ns.enter(|| {
            let v4 = [1, 2, 6, 17, 41, 47, 50, 132].map(|p| (libc::AF_INET, p));
            let v6 = [6, 17, 47, 50, 58, 132].map(|p| (libc::AF_INET6, p));
            let sockets = v4
                .into_iter()
                .chain(v6)
                .map(|(family, proto)| socket(family, proto))
                .collect::<Result<Vec<_>>>()?;
            // A raw socket gets multicast only of groups that somebody joined.
            let wan = index_of("wan")?;
            for group in [[239, 1, 2, 3], [239, 2, 2, 3]] {
                let request = libc::ip_mreqn {
                    imr_multiaddr: libc::in_addr { s_addr: u32::from_ne_bytes(group) },
                    imr_address: libc::in_addr { s_addr: 0 },
                    imr_ifindex: wan,
                };
                set(&sockets[3], libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &request)?;
            }
            let services =
                (std::net::TcpListener::bind("[::]:2222")?, std::net::UdpSocket::bind("[::]:2223")?);
            Ok((sockets, services))
        })?;
        let (sockets, services) = sockets;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let reader = {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            std::thread::spawn(move || read_all(&sockets, &seen, &stop))
        };
        Ok(Self { _services: services, seen, stop, reader: Some(reader) })
    }

    #[must_use]
    pub fn saw(&self, marker: Marker) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).contains(&marker)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read_all(sockets: &[OwnedFd], seen: &Mutex<Vec<Marker>>, stop: &AtomicBool) {
    let mut polls: Vec<libc::pollfd> = sockets
        .iter()
        .map(|s| libc::pollfd { fd: s.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    let mut buffer = vec![0u8; 70_000];
    while !stop.load(Ordering::SeqCst) {
        // SAFETY: the array lives through the call and its length is given.
        unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, 50) };
        for poll in &polls {
            if poll.revents & libc::POLLIN == 0 {
                continue;
            }
            // SAFETY: as above.
            let got =
                unsafe { libc::recv(poll.fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
            let bytes = usize::try_from(got).ok().and_then(|n| buffer.get(..n));
            if let Some(marker) = bytes.and_then(Marker::find) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(marker);
            }
        }
    }
}

/// Forgets every connection that the namespace tracks (what `conntrack -F` does).
///
/// # Errors
/// When the kernel refuses.
pub fn forget_flows(ns: &Netns) -> Result<()> {
    ns.enter(|| {
        // SAFETY: plain call.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_NETFILTER)
        };
        if fd < 0 {
            bail!("a netfilter socket: {}", std::io::Error::last_os_error());
        }
        // SAFETY: just made.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // nlmsghdr: length 20, ctnetlink (1) message IPCTNL_MSG_CT_DELETE (2), request + ack;
        // nfgenmsg: any family.
        let mut message = Vec::new();
        message.extend(20u32.to_ne_bytes());
        message.extend((1u16 << 8 | 2).to_ne_bytes());
        message.extend(((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
        message.extend([0; 12]);
        let mut answer = [0u8; 64];
        // SAFETY: buffers and lengths of live values.
        let got = unsafe {
            libc::send(fd.as_raw_fd(), message.as_ptr().cast(), message.len(), 0);
            libc::recv(fd.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
        };
        let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        if got < 20 || error != 0 {
            bail!("deleting all flows: answer of {got} bytes, error {error}");
        }
        Ok(())
    })
}
