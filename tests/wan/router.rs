//! The real daemon in the house's router, a flood from LAN and router, and what left meanwhile.

use std::cell::RefCell;
use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::netns::{House, INTERNET, INTERNET6, is_housekeeping, udp_to};

pub const LAN: &str = "config interface 'lan'\n\toption device 'lan0'\n\toption proto 'static'\n\
    \toption ipaddr '192.168.1.1'\n\toption netmask '255.255.255.0'\n";
const FIREWALL: &str = "config zone\n\toption name 'lan'\n\tlist network 'lan'\n\toption input 'ACCEPT'\n";
const VPND: &str = "config vpnd 'main'\n\toption enabled '1'\n\tlist lan_device 'lan0'\n\tlist lan_device 'lan1'\n\n\
    config tunnel\n\toption private_key 'yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk='\n\
    \tlist address '10.64.0.2/32'\n\tlist address 'fc00:bbbb::2/128'\n\tlist dns '10.64.0.1'\n\n\
    config relay 'one'\n\toption endpoint 'RELAY'\n\
    \toption public_key 'xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg='\n";

pub struct Router {
    pub house: House,
    pub dir: PathBuf,
    daemon: RefCell<Option<Child>>,
}

impl Router {
    /// `wan`: the uplinks' sections of `/etc/config/network`.
    pub fn new(wan: &str) -> Self {
        Self::with_relay(wan, &format!("{INTERNET}:51820"))
    }

    pub fn with_relay(wan: &str, relay: &str) -> Self {
        let house = House::build();
        let dir = std::env::temp_dir().join(house.name("dir"));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("config")).unwrap();
        let (network, vpnd) = (format!("{LAN}{wan}"), VPND.replace("RELAY", relay));
        for (file, text) in [("network", network.as_str()), ("firewall", FIREWALL), ("vpnd", vpnd.as_str())] {
            std::fs::write(dir.join("config").join(file), text).unwrap();
        }
        // The ISP is silent: its refusals, and the router's answers to them, would be noise.
        house.sh("isp", "nft \"table inet quiet { chain c { type filter hook input priority 0; udp dport 9000-9999 drop; }; }\"");
        Self { house, dir, daemon: RefCell::default() }
    }

    /// vpnd with its folders, as shell words.
    pub fn words(&self, verb: &str) -> String {
        let dir = self.dir.display();
        format!(
            "{} {verb} --config-dir={dir}/config --state-dir={dir}/state --run-dir={dir}/run",
            env!("CARGO_BIN_EXE_vpnd")
        )
    }

    pub fn rtr(&self, words: &str) -> String {
        self.house.sh("rtr", words)
    }

    /// A program in a namespace; what it says goes into the log NAME.
    pub fn spawn(&self, place: &str, name: &str, words: &str) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join(name)).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.house.name(place), "sh", "-ec", &format!("exec {words}")]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    pub fn start(&self) {
        *self.daemon.borrow_mut() = Some(self.spawn("rtr", "log", &self.words("daemon")));
        self.until("the daemon answers", |r| !r.status()["daemon"]["status"].is_null());
    }

    /// SIGKILL: the shell and `ip netns exec` were replaced by the daemon.
    pub fn kill(&self) {
        end(self.daemon.borrow_mut().take());
    }

    /// A daemon that blocks, under lockdown.
    pub fn blocked(&self) {
        self.start();
        self.rtr(&self.words("lockdown on"));
        self.until("it blocks", |r| {
            r.status()["state"] == "blocked" && r.status()["layers"]["guard"] != Value::Null
        });
    }

    pub fn status(&self) -> Value {
        let line = format!("{} || true", self.words("status --json"));
        serde_json::from_str(&self.rtr(&line)).unwrap()
    }

    /// The devices that the egress hook is bound to, once rules, barrier and guard stand.
    pub fn held(&self) -> Vec<String> {
        let layers = &self.status()["layers"];
        if layers["rules"] != true || layers["barrier"] != true || layers["guard"]["owned"] != true {
            return Vec::new();
        }
        let devices = layers["egress"]["devices"].as_array().into_iter().flatten();
        devices.filter_map(|device| device.as_str().map(str::to_owned)).collect()
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        self.within(Duration::from_secs(30), what, holds);
    }

    #[track_caller]
    pub fn within(&self, limit: Duration, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + limit;
        while !holds(self) {
            assert!(Instant::now() < end, "in vain until {what}: {:#}\n{}", self.status(), self.log("log"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the WAN is `devices`, and control frames pass on each: `number` tells them apart.
    #[track_caller]
    pub fn holds(&self, devices: &[&'static str], number: u8) {
        self.until(&format!("the WAN is {devices:?}"), |r| r.held() == devices);
        for device in devices {
            for _ in 0..3 {
                assert!(self.transmit(device, &control(number)), "control {number} by {device}");
                std::thread::sleep(Duration::from_millis(20));
            }
            // What the hook does not let out, a packet socket cannot send.
            assert!(!self.transmit(device, &lldp()), "a raw frame left by {device}");
        }
    }

    /// A whole frame by a packet socket, as its own type says; whether the kernel took it.
    pub fn transmit(&self, device: &'static str, frame: &[u8]) -> bool {
        let frame = frame.to_vec();
        self.house.inside("rtr", move || transmit(device, &frame))
    }

    /// Everything on the ISP's wires while `work` runs, and LAN and router send whatever they can;
    /// `wan`: the devices that the router's sockets bind themselves to as well.
    pub fn under_flood(&self, wan: &'static [&'static str], work: impl FnOnce()) -> Vec<Vec<u8>> {
        let flood = Flood::start(&self.house, wan);
        let frames = self.house.capture_all(|| {
            work();
            // Until all have sent something since.
            flood.goes_on();
        });
        drop(flood);
        frames
    }

    /// The control of every flood: while the router is open it leaves, from LAN and router.
    pub fn leaves_while_open(&self, wan: &'static [&'static str], families: &[IpAddr]) {
        let frames = self.under_flood(wan, || std::thread::sleep(Duration::from_millis(200)));
        for port in [FROM_LAN, FROM_ROUTER, FROM_BOUND] {
            for to in families {
                let wanted = SocketAddr::new(*to, port);
                assert!(
                    frames.iter().any(|frame| udp_to(frame) == Some(wanted)),
                    "control: nothing to {wanted}"
                );
            }
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// SIGKILL.
pub fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Ports that the floods go to.
const FROM_LAN: u16 = 9001;
const FROM_ROUTER: u16 = 9002;
const FROM_BOUND: u16 = 9003;

struct Flood {
    stop: Arc<AtomicBool>,
    threads: Vec<(Arc<AtomicUsize>, JoinHandle<()>)>,
}

impl Flood {
    fn start(house: &House, wan: &'static [&'static str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let mut kinds = vec![("cli", FROM_LAN, None), ("rtr", FROM_ROUTER, None)];
        kinds.extend(wan.iter().map(|device| ("rtr", FROM_BOUND, Some(*device))));
        for (place, port, device) in kinds {
            let (stop, sent) = (stop.clone(), Arc::new(AtomicUsize::new(0)));
            let counter = sent.clone();
            let thread = house.inside(place, move || {
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        for to in [INTERNET, INTERNET6] {
                            let _ = send(SocketAddr::new(to.parse().unwrap(), port), device);
                        }
                        sent.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(2));
                    }
                })
            });
            threads.push((counter, thread));
        }
        Self { stop, threads }
    }

    fn goes_on(&self) {
        for (sent, _) in &self.threads {
            let from = sent.load(Ordering::Relaxed);
            while sent.load(Ordering::Relaxed) < from + 20 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for (_, thread) in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A socket anew each time: devices come and go.
fn send(to: SocketAddr, device: Option<&str>) -> std::io::Result<usize> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::DGRAM, None)?;
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    UdpSocket::from(socket).send_to(b"flood", to)
}

fn transmit(device: &str, frame: &[u8]) -> bool {
    let name = CString::new(device).unwrap();
    // SAFETY: plain calls with buffers that outlive them; the descriptor is owned.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        assert!(fd >= 0);
        let socket = OwnedFd::from_raw_fd(fd);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = u16::from_ne_bytes([frame[12], frame[13]]);
        address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
        let size = size_of_val(&address) as u32;
        let sent = libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            size,
        );
        sent == frame.len() as isize
    }
}

const OURS: [u8; 6] = [2, 0, 0, 0, 0x77, 0x77];

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&[0xff; 6], &OURS, &kind.to_be_bytes()[..], payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// A frame of row 2.3, which may leave in every state: a lease is asked for.
pub fn control(number: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend([[0; 4], [255; 4]].concat());
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend([0, 68, 0, 67, 0, 16, 0, 0]);
    packet.extend([0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, number]);
    ethernet(0x0800, &packet)
}

fn lldp() -> Vec<u8> {
    ethernet(0x88cc, &[2, 7, 4, 0, 0, 0, 0, 0, 0])
}

/// Who has the gateway, asked by `sender`.
pub fn arp(sender: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend(OURS);
    packet.extend(sender.octets());
    packet.extend([0, 0, 0, 0, 0, 0, 203, 0, 113, 1]);
    ethernet(0x0806, &packet)
}

/// The control frames of these numbers were all captured.
#[track_caller]
pub fn assert_controls(frames: &[Vec<u8>], numbers: impl IntoIterator<Item = u8>) {
    for number in numbers {
        assert!(
            frames.iter().any(|frame| *frame == control(number)),
            "control frame {number} was not captured"
        );
    }
}

/// What DHCP client frames are, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dhcp {
    /// To everybody, from this address.
    Broadcast(Ipv4Addr),
    /// To the lease's server.
    Server(Ipv4Addr),
    /// Of DHCPv6; its message type (RFC 8415, 7.3).
    V6(u8),
}

pub fn dhcp(frame: &[u8]) -> Option<Dhcp> {
    let to = udp_to(frame)?;
    match (to.ip(), to.port()) {
        (IpAddr::V4(to), 67) if frame[23] == 17 && frame[34..36] == [0, 68] => {
            let from = Ipv4Addr::new(frame[26], frame[27], frame[28], frame[29]);
            Some(if to.is_broadcast() { Dhcp::Broadcast(from) } else { Dhcp::Server(to) })
        }
        (IpAddr::V6(to), 547) if frame[20] == 17 && frame[54..56] == [0x02, 0x22] => {
            (to == "ff02::1:2".parse::<std::net::Ipv6Addr>().unwrap()).then(|| Dhcp::V6(frame[62]))
        }
        _ => None,
    }
}

/// Rows 2.3 (`server`: the lease's), 2.4, 2.5 and ARP are listed while blocked; nothing else is.
#[track_caller]
pub fn assert_listed(frames: &[Vec<u8>], server: Option<Ipv4Addr>) {
    let listed = |frame: &&Vec<u8>| {
        let lease = match dhcp(frame) {
            Some(Dhcp::Server(to)) => server == Some(to),
            found => found.is_some(),
        };
        lease || is_housekeeping(frame)
    };
    let rest: Vec<_> = frames.iter().filter(|frame| !listed(frame)).collect();
    assert!(rest.is_empty(), "{} unlisted frames, such as {:02x?}", rest.len(), rest[0]);
}
