//! A house of network namespaces: clients on two LAN devices, a router, an ISP. No firewall.
//!
//! Needs root and iproute2. The host's own namespace is never touched.
// Each test binary uses a part of it, and a helper of tests may panic as a test may.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use vpnd::config::{IfName, Lan, LanDevice, Settings};
use vpnd::firewall::{Nft, compile};
use vpnd::policy::{Stance, TunnelStance, compose};
use vpnd::routing::Router;
use vpnd::sorted::Map;

static COUNT: AtomicU32 = AtomicU32::new(0);

pub const INTERNET: &str = "198.51.100.1";
pub const INTERNET6: &str = "2001:db8:100::1";
/// What hostile DHCP options may put into `main`.
pub const OPTION_121: [&str; 4] = ["0.0.0.0/1", "128.0.0.0/1", "198.51.100.0/24", "198.51.100.1/32"];
pub const OPTION_121_V6: [&str; 4] = ["::/1", "8000::/1", "2001:db8:100::/64", "2001:db8:100::1/128"];

pub struct House {
    id: String,
}

impl House {
    pub fn build() -> Self {
        // SAFETY: geteuid has no preconditions.
        assert_eq!(unsafe { libc::geteuid() }, 0, "this test builds network namespaces: run it as root");
        let id = format!("vpr{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let house = Self { id };
        for place in ["cli", "cli2", "rtr", "isp"] {
            run(&format!("ip netns add {}", house.name(place)));
            house.sh(place, "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0; ip link set lo up");
        }
        let n = |place| house.name(place);
        run(&format!("ip link add eth0 netns {} type veth peer name lan0 netns {}", n("cli"), n("rtr")));
        run(&format!("ip link add eth0 netns {} type veth peer name lan1 netns {}", n("cli2"), n("rtr")));
        run(&format!("ip link add eth0 netns {} type veth peer name wan0 netns {}", n("isp"), n("rtr")));
        house.sh("cli", "ip addr add 192.168.1.2/24 dev eth0; ip -6 addr add fd00:1::2/64 dev eth0 nodad; ip link set eth0 up; ip route add default via 192.168.1.1; ip -6 route add default via fd00:1::1");
        house.sh("cli2", "ip addr add 192.168.2.2/24 dev eth0; ip -6 addr add fd00:2::2/64 dev eth0 nodad; ip link set eth0 up; ip route add default via 192.168.2.1; ip -6 route add default via fd00:2::1; ip addr add 192.168.9.1/24 dev lo");
        house.sh("rtr", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1;
            ip link set lan0 up; ip link set lan1 up; ip link set wan0 up;
            ip addr add 192.168.1.1/24 dev lan0; ip -6 addr add fd00:1::1/64 dev lan0 nodad;
            ip addr add 192.168.2.1/24 dev lan1; ip -6 addr add fd00:2::1/64 dev lan1 nodad;
            ip addr add 203.0.113.2/24 dev wan0; ip -6 addr add 2001:db8:203::2/64 dev wan0 nodad;
            ip route add default via 203.0.113.1 dev wan0; ip -6 route add default via 2001:db8:203::1 dev wan0");
        house.sh(
            "isp",
            "sysctl -qw net.ipv4.conf.all.proxy_arp=1; ip link set eth0 up;
            ip addr add 203.0.113.1/24 dev eth0; ip -6 addr add 2001:db8:203::1/64 dev eth0 nodad;
            ip addr add 198.51.100.1/32 dev lo; ip -6 addr add 2001:db8:100::1/128 dev lo nodad;
            ip route add 192.168.0.0/16 via 203.0.113.2; ip -6 route add fd00::/16 via 2001:db8:203::2",
        );
        // Neighbours are learnt before anything is measured.
        for (place, to) in [("cli", INTERNET), ("cli", INTERNET6), ("cli2", INTERNET), ("cli2", INTERNET6)] {
            assert!(house.pings(place, to), "the house is not connected: {place} to {to}");
        }
        house
    }

    pub fn name(&self, place: &str) -> String {
        format!("{}-{place}", self.id)
    }

    /// Runs shell words in a place; panics when they fail.
    pub fn sh(&self, place: &str, words: &str) -> String {
        run(&format!("ip netns exec {} sh -ec '{words}'", self.name(place)))
    }

    pub fn try_sh(&self, place: &str, words: &str) -> bool {
        let exec = format!("ip netns exec {} sh -ec '{words}'", self.name(place));
        Command::new("sh").args(["-c", &exec]).output().unwrap().status.success()
    }

    /// Whether an ICMP echo is answered. `to` may name its device: `fe80::1%eth0`.
    pub fn pings(&self, place: &str, to: &str) -> bool {
        (0..3).any(|_| self.ping(place, to, Duration::from_millis(600)))
    }

    pub fn ping(&self, place: &str, to: &str, patience: Duration) -> bool {
        let (address, device) = to.split_once('%').unwrap_or((to, ""));
        let address: IpAddr = address.parse().unwrap();
        let device = device.to_owned();
        self.inside(place, move || ping(address, &device, patience))
    }

    /// Runs `work` on a thread of a place.
    pub fn inside<T: Send + 'static>(&self, place: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
        let file = File::open(format!("/run/netns/{}", self.name(place))).unwrap();
        std::thread::spawn(move || {
            // SAFETY: the descriptor is open for the length of the call.
            assert_eq!(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            work()
        })
        .join()
        .unwrap()
    }

    /// The same, with a runtime.
    pub fn run<T: Send + 'static, F: std::future::Future<Output = T>>(
        &self,
        place: &str,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> T {
        self.inside(place, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move { work().await })
        })
    }

    /// A wire in the place of the tunnel, as silent as that: `vpnd0`, and `tun0` at the ISP's host with the
    /// in-tunnel resolver's address. Without neighbour discovery a frame is for the sender's own address.
    pub fn lay_tunnel(&self) {
        self.sh("rtr", &format!("ip link add vpnd0 type veth peer name tun0 netns {}", self.name("isp")));
        self.sh("rtr", "ip link set vpnd0 address 02:00:00:00:76:51 arp off up; ip addr add 10.64.0.9/32 dev vpnd0; ip -6 addr add fc00:bbbb::9/128 dev vpnd0 nodad");
        self.sh(
            "isp",
            "ip link set tun0 address 02:00:00:00:76:51 arp off up; ip addr add 10.64.0.1/32 dev tun0; ip route add 10.64.0.9/32 dev tun0;
            ip -6 addr add 2001:db8:100::1/128 dev tun0 nodad; ip -6 route add fc00:bbbb::9/128 dev tun0",
        );
    }

    /// Puts barrier and rules of a state in force.
    pub fn enforce(&self, stance: &Stance, settings: &Settings) {
        let (settings, stance) = (settings.clone(), stance.clone());
        self.run("rtr", move || async move {
            let router = Router::open().unwrap();
            let facts = router.facts(&settings, &name("vpnd0"), &Map::new()).await.unwrap();
            let tunnel = match &stance {
                Stance::Connected { tunnel, .. } => Some(tunnel),
                _ => None,
            };
            router.raise(&settings, &facts, tunnel).await.unwrap();
            let policy = compose(&stance, &settings, &facts).unwrap();
            Nft::new("nft".into()).apply(&compile(&policy)).unwrap();
        });
    }

    /// Captures at the ISP's end while `work` runs, and a little longer.
    pub fn capture(&self, work: impl FnOnce()) -> Vec<Vec<u8>> {
        self.capture_by("eth0", work)
    }

    /// The same on every device of the ISP, those that come later too.
    pub fn capture_all(&self, work: impl FnOnce()) -> Vec<Vec<u8>> {
        self.capture_by("", work)
    }

    fn capture_by(&self, device: &'static str, work: impl FnOnce()) -> Vec<Vec<u8>> {
        let (stop, capture) = self.inside("isp", move || Capture::start(device));
        work();
        std::thread::sleep(Duration::from_millis(150));
        stop.store(true, Ordering::Relaxed);
        capture.join().unwrap()
    }

    /// Everything the router's rules and routes say.
    pub fn tables(&self) -> String {
        let all = "ip rule; ip -6 rule; ip -o route show table all; ip -6 -o route show table all";
        let mut lines: Vec<String> = self.sh("rtr", all).lines().map(str::to_owned).collect();
        lines.sort();
        lines.join("\n")
    }

    pub fn hostile_routes(&self) {
        for prefix in OPTION_121 {
            self.sh("rtr", &format!("ip route add {prefix} via 203.0.113.1 dev wan0"));
        }
        for prefix in OPTION_121_V6 {
            self.sh("rtr", &format!("ip -6 route add {prefix} via 2001:db8:203::1 dev wan0"));
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for place in ["cli", "cli2", "rtr", "isp"] {
            let _ = Command::new("ip").args(["netns", "del", &self.name(place)]).output();
        }
    }
}

fn run(words: &str) -> String {
    let output = Command::new("sh").args(["-c", words]).output().unwrap();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

/// The house as configuration says it.
pub fn settings() -> Settings {
    let device = |device: &str, nets: [&str; 2]| LanDevice {
        name: name(device),
        prefixes: nets.iter().map(|text| net(text)).collect(),
        forward: true,
    };
    Settings::fallback(Lan {
        devices: vec![
            device("lan0", ["192.168.1.0/24", "fd00:1::/64"]),
            device("lan1", ["192.168.2.0/24", "fd00:2::/64"]),
        ],
        routes: Vec::new(),
    })
}

/// Over the wire of [`House::lay_tunnel`].
pub fn connected(addresses: &[&str]) -> Stance {
    Stance::Connected {
        relay: "192.0.2.1:51820".parse().unwrap(),
        listen_port: 40000,
        tunnel: TunnelStance {
            device: name("vpnd0"),
            addresses: addresses.iter().map(|text| net(text)).collect(),
        },
    }
}

struct Capture;

impl Capture {
    /// "": by every device but loopback, as no name has the index 0.
    fn start(device: &str) -> (Arc<AtomicBool>, JoinHandle<Vec<Vec<u8>>>) {
        let all = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
        // SAFETY: plain socket creation; the result is checked and owned.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(all));
            assert!(fd >= 0);
            OwnedFd::from_raw_fd(fd)
        };
        let index = std::ffi::CString::new(device).unwrap();
        // SAFETY: a valid C string; an all-zero sockaddr_ll is valid.
        unsafe {
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = all;
            address.sll_ifindex = libc::if_nametoindex(index.as_ptr()) as i32;
            let length = size_of_val(&address) as u32;
            assert_eq!(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length), 0);
            let large: libc::c_int = 16 << 20;
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const large).cast(),
                4,
            );
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || Self::collect(&socket, &stopped));
        (stop, thread)
    }

    fn collect(socket: &OwnedFd, stop: &AtomicBool) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = [0u8; 2048];
        loop {
            // SAFETY: buffer and address outlive the call and have the lengths that are given.
            let (length, kind, loopback) = unsafe {
                let mut from: libc::sockaddr_ll = std::mem::zeroed();
                let mut size = size_of_val(&from) as u32;
                let length = libc::recvfrom(
                    socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_DONTWAIT,
                    (&raw mut from).cast(),
                    &raw mut size,
                );
                (length, from.sll_pkttype, from.sll_hatype == libc::ARPHRD_LOOPBACK)
            };
            match usize::try_from(length) {
                // 4: PACKET_OUTGOING, the ISP's own frames.
                Ok(length) if kind != 4 && !loopback => frames.push(buffer[..length].to_vec()),
                Ok(_) => {}
                Err(_) if stop.load(Ordering::Relaxed) => break,
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        // SAFETY: tpacket_stats is two unsigned ints.
        let dropped = unsafe {
            let mut stats = [0u32; 2];
            let mut size = 8u32;
            let result = libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                stats.as_mut_ptr().cast(),
                &raw mut size,
            );
            assert_eq!(result, 0);
            stats[1]
        };
        assert_eq!(dropped, 0, "the capture lost frames");
        frames
    }
}

/// Frames that are neither ARP nor neighbour discovery nor multicast listener discovery.
pub fn leaks(frames: &[Vec<u8>]) -> usize {
    frames.iter().filter(|frame| !is_housekeeping(frame)).count()
}

pub fn is_housekeeping(frame: &[u8]) -> bool {
    let kind = u16::from_be_bytes([frame[12], frame[13]]);
    match kind {
        0x0806 => true,
        0x86dd => {
            // MLD reports carry a hop-by-hop header.
            let (next, at) = if frame[20] == 0 { (frame[54], 62) } else { (frame[20], 54) };
            next == 58 && matches!(frame[at], 130..=137 | 143)
        }
        _ => false,
    }
}

/// Transport ports of UDP and TCP frames without IP options, with the destination address.
pub fn udp_to(frame: &[u8]) -> Option<SocketAddr> {
    let (address, at): (IpAddr, usize) = match u16::from_be_bytes([frame[12], frame[13]]) {
        0x0800 => (<[u8; 4]>::try_from(&frame[30..34]).unwrap().into(), 34),
        0x86dd => (<[u8; 16]>::try_from(&frame[38..54]).unwrap().into(), 54),
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_be_bytes([frame[at + 2], frame[at + 3]])))
}

pub const FRAMES: usize = 20;

/// Options of a probe's socket.
#[derive(Clone, Default)]
pub struct From {
    pub address: Option<IpAddr>,
    pub port: u16,
    pub device: Option<&'static str>,
    pub mark: Option<u32>,
}

/// Sends datagrams; returns how many the kernel took.
pub fn send_udp(to: SocketAddr, from: &From) -> usize {
    let any: IpAddr = if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    if let Some(device) = from.device {
        socket.bind_device(Some(device.as_bytes())).unwrap();
    }
    if let Some(mark) = from.mark {
        socket.set_mark(mark).unwrap();
    }
    socket.bind(&SocketAddr::new(from.address.unwrap_or(any), from.port).into()).unwrap();
    let socket = UdpSocket::from(socket);
    (0..FRAMES).filter(|_| socket.send_to(b"probe", to).is_ok()).count()
}

pub fn connect_tcp(to: SocketAddr) {
    for _ in 0..3 {
        let _ = TcpStream::connect_timeout(&to, Duration::from_millis(100));
    }
}

/// Sends whole frames.
pub fn transmit(device: &str, frames: &[Vec<u8>]) {
    let index = std::ffi::CString::new(device).unwrap();
    // SAFETY: a valid C string; an all-zero sockaddr_ll is valid; the frames outlive the calls.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        assert!(fd >= 0);
        let socket = OwnedFd::from_raw_fd(fd);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = libc::if_nametoindex(index.as_ptr()) as i32;
        let size = size_of_val(&address) as u32;
        for frame in frames {
            let (bytes, length) = (frame.as_ptr().cast(), frame.len());
            let sent = libc::sendto(socket.as_raw_fd(), bytes, length, 0, (&raw const address).cast(), size);
            assert_eq!(sent, length as isize, "{}", std::io::Error::last_os_error());
        }
    }
}

/// One echo request from a raw socket.
fn ping(to: IpAddr, device: &str, patience: Duration) -> bool {
    use socket2::{Domain, Protocol, Socket, Type};
    let (domain, protocol, request, reply) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8u8, 0u8),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
    if !device.is_empty() {
        socket.bind_device(Some(device.as_bytes())).unwrap();
    }
    // The kernel fills in ICMPv6's checksum, not ICMP's.
    let mut echo = [request, 0, 0, 0, 0x56, 0x50, 0, 1];
    if to.is_ipv4() {
        let sum = !(u16::from_be_bytes([request, 0]) + 0x5650 + 1);
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    if socket.connect(&SocketAddr::new(to, 0).into()).is_err() || socket.send(&echo).is_err() {
        return false;
    }
    let end = std::time::Instant::now() + patience;
    let mut buffer = [std::mem::MaybeUninit::uninit(); 1500];
    loop {
        let left = end.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return false;
        }
        socket.set_read_timeout(Some(left)).unwrap();
        let Ok(length) = socket.recv(&mut buffer) else { return false };
        let at = if to.is_ipv4() { 20 } else { 0 };
        // SAFETY: recv wrote the first `length` bytes.
        if length > at && unsafe { buffer[at].assume_init() } == reply {
            return true;
        }
    }
}
