//! Guard table and egress hook, each alone and with the daemon, in a house of namespaces: frames are
//! counted at the ISP's end. Needs root; no WireGuard.

#![allow(clippy::unwrap_used, clippy::panic)]

mod netns;

use std::ffi::CString;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netns::{FRAMES, From, House, INTERNET, INTERNET6, leaks, name, net, send_udp, settings};
use serde_json::Value;
use vpnd::config::Settings;
use vpnd::firewall::guard::{
    Error as KeeperError, Guard, Hold, Keeper, Table, Uplink, remove_left_over, standing,
};
use vpnd::policy::{Facts, WanDevice};

const MARK: u32 = 0x6d6f_6c65;
const HELD: Hold = Hold { owned: true, persist: true };

fn guard_of(settings: &Settings) -> Guard {
    let prefixes = vec![net("203.0.113.0/24"), net("2001:db8:203::/64")];
    let wan = vec![WanDevice { name: name("wan0"), prefixes, lease_server: None }];
    let uplink = Uplink {
        name: name("wan0"),
        index: 0,
        addresses: vec!["203.0.113.2".parse().unwrap()],
        pppoe: false,
    };
    Guard::new(settings, &Facts { wan, ..Facts::default() }, vec![uplink])
}

/// Installed in the router; they stand for as long as the keeper lives.
fn keep(house: &House, guard: bool, egress: bool) -> Keeper {
    house.inside("rtr", move || {
        let (mut keeper, wanted) = (Keeper::open().unwrap(), guard_of(&settings()));
        if guard {
            assert_eq!(keeper.hold(&wanted.table()).unwrap(), HELD);
        }
        if egress {
            assert_eq!(keeper.hold(&wanted.egress().unwrap()).unwrap(), HELD);
        }
        keeper
    })
}

fn to(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// LAN hosts and the router towards the internet, both families; and sockets that are bound to the WAN.
fn try_everything(house: &House) {
    for (place, device) in [("cli", None), ("cli2", None), ("rtr", None), ("rtr", Some("wan0"))] {
        house.inside(place, move || {
            for address in [INTERNET, INTERNET6] {
                send_udp(to(address, 9999), &From { device, ..From::default() });
            }
        });
    }
}

/// How many frames of all these get out.
fn leaving(house: &House) -> usize {
    leaks(&house.capture(|| try_everything(house)))
}

/// Eight kinds, all of which leave where nothing blocks.
const ALL: usize = 8 * FRAMES;

/// What others do to nftables; all of `fw4 flush` is the loop.
const HOSTILE: [&str; 9] = [
    "nft flush ruleset",
    "nft list tables | while read -r t; do nft delete $t; done",
    "nft delete table inet vpnd_guard",
    "nft flush table inet vpnd_guard",
    "nft flush chain inet vpnd_guard leaving",
    "nft insert rule inet vpnd_guard leaving accept",
    "nft add table inet vpnd_guard \"{ flags dormant; }\"",
    "nft delete table netdev vpnd_egress",
    "nft add table netdev vpnd_egress \"{ flags dormant; }\"",
];

#[test]
fn the_guard_alone_holds_whatever_others_do_to_nftables() {
    let house = House::build();
    assert_eq!(leaving(&house), ALL, "control: everything leaves");
    let keeper = keep(&house, true, false);
    assert_eq!(leaving(&house), 0);
    for line in HOSTILE {
        house.try_sh("rtr", line);
        assert_eq!(leaving(&house), 0, "after {line}");
        assert_eq!(house.inside("rtr", standing).unwrap().guard, Some(HELD), "after {line}");
    }
    // A control of the commands: on a table like it that nobody owns they work.
    house.sh("rtr", "nft add table inet own; nft flush ruleset; ! nft list table inet own 2>/dev/null");
    // The LAN is not touched, in either family, nor is vpnd's own socket.
    for (place, address) in
        [("cli", "192.168.1.1"), ("cli", "fd00:1::1"), ("rtr", "192.168.2.2"), ("rtr", "fd00:2::2")]
    {
        assert!(house.pings(place, address), "{place} to {address}");
    }
    let marked = leaks(&house.capture(|| {
        house.inside("rtr", || {
            for address in [INTERNET, INTERNET6] {
                send_udp(to(address, 51820), &From { mark: Some(MARK), ..From::default() });
            }
        });
    }));
    assert_eq!(marked, 2 * FRAMES);
    house.inside("rtr", move || {
        let mut keeper = keeper;
        keeper.remove_guard().unwrap();
    });
    assert_eq!(leaving(&house), ALL, "control: it was the guard");
}

#[test]
fn a_device_that_nobody_knew_is_covered_at_once() {
    let house = House::build();
    let plug_in = |number: u8| {
        let isp = house.name("isp");
        house.sh(
            "rtr",
            &format!(
                "ip link add usb{number} type veth peer name tether{number} netns {isp};
            ip addr add 198.19.{number}.2/24 dev usb{number}; ip link set usb{number} up"
            ),
        );
        house.sh("isp", &format!("ip addr add 198.19.{number}.1/24 dev tether{number}; ip link set tether{number} up;
            nft add table ip count{number}; nft add chain ip count{number} in \"{{ type filter hook input priority 0; }}\";
            nft add rule ip count{number} in iifname tether{number} udp dport 9999 counter"));
        for place in ["rtr", "cli"] {
            let way = format!("ip route replace 198.19.{number}.0/24 via 192.168.1.1");
            if place == "cli" {
                house.sh("cli", &way);
            }
            house.inside(place, move || {
                send_udp(to(&format!("198.19.{number}.1"), 9999), &From::default());
            });
        }
        std::thread::sleep(Duration::from_millis(100));
        let counted = house.sh("isp", &format!("nft -j list table ip count{number}"));
        let counted: Value = serde_json::from_str(&counted).unwrap();
        let rules = counted["nftables"].as_array().unwrap().iter();
        rules
            .filter_map(|object| object["rule"]["expr"].as_array())
            .flatten()
            .find_map(|e| e["counter"]["packets"].as_u64())
            .unwrap()
    };
    // The ISP answers the LAN's addresses, and sees both senders.
    assert!(plug_in(1) >= 2 * FRAMES as u64 - 2, "control: a new device carries packets");
    let _keeper = keep(&house, true, false);
    assert_eq!(plug_in(2), 0);
}

/// A raw frame by a packet socket; whether the kernel took it.
fn transmit(device: &str, bypass: bool, kind: u16, frame: &[u8]) -> bool {
    let name = CString::new(device).unwrap();
    // SAFETY: plain calls with buffers that outlive them; the descriptor is owned.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        assert!(fd >= 0);
        let socket = OwnedFd::from_raw_fd(fd);
        let on: libc::c_int = i32::from(bypass);
        let size = size_of_val(&on) as u32;
        // PACKET_QDISC_BYPASS.
        assert_eq!(
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, 20, (&raw const on).cast(), size),
            0
        );
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = kind.to_be();
        address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
        address.sll_halen = 6;
        let sent = libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            size_of_val(&address) as u32,
        );
        sent == frame.len() as isize
    }
}

/// Ethernet to everybody, from an address that tells these frames from the kernel's own.
fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(OURS);
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

const OURS: [u8; 6] = [2, 0, 0, 0, 0x77, 0x77];

fn udp4(source: [u8; 4], destination: [u8; 4], ports: [u16; 2]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    packet.extend([0, 16, 0, 0]);
    packet.extend([0x55; 8]);
    packet
}

fn ipv6(next: u8, hops: u8, source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next, hops];
    packet.extend(address(source));
    packet.extend(address(destination));
    packet.extend(payload);
    packet
}

fn arp(sender: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend(OURS);
    packet.extend(sender);
    packet.extend([0; 6]);
    packet.extend([203, 0, 113, 1]);
    packet
}

/// Name, EtherType, frame, and whether contract 2.3 to 2.5 and 2.10 let it out.
fn frames() -> Vec<(&'static str, u16, Vec<u8>, bool)> {
    let wan = [203, 0, 113, 2];
    let solicit = |hops, target: &str| ipv6(58, hops, "fe80::1", target, &[135, 0, 0, 0, 0, 0, 0, 0]);
    vec![
        ("UDP to the internet", 0x0800, udp4(wan, [198, 51, 100, 1], [4000, 9999]), false),
        ("UDP with a LAN address", 0x0800, udp4([192, 168, 1, 2], [198, 51, 100, 1], [4000, 9999]), false),
        ("DNS", 0x0800, udp4(wan, [203, 0, 113, 1], [4000, 53]), false),
        ("UDP to the internet, IPv6", 0x86dd, ipv6(17, 64, "2001:db8:203::2", INTERNET6, &[0x55; 16]), false),
        ("a lease is asked for", 0x0800, udp4([0; 4], [255; 4], [68, 67]), true),
        ("from port 68 to elsewhere", 0x0800, udp4(wan, [198, 51, 100, 1], [68, 67]), false),
        (
            "DHCPv6",
            0x86dd,
            ipv6(17, 1, "fe80::1", "ff02::1:2", &[2, 34, 2, 35, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
            true,
        ),
        ("a neighbour is asked for", 0x86dd, solicit(255, "ff02::1:ff00:1"), true),
        ("the same, forwarded", 0x86dd, solicit(64, "ff02::1:ff00:1"), false),
        ("a neighbour elsewhere", 0x86dd, solicit(255, INTERNET6), false),
        ("ARP", 0x0806, arp(wan), true),
        ("ARP probe", 0x0806, arp([0; 4]), true),
        ("ARP with the LAN's address", 0x0806, arp([192, 168, 1, 1]), false),
        ("ARP with the tunnel's address", 0x0806, arp([10, 64, 0, 2]), false),
        ("IP that says ARP", 0x0806, udp4(wan, [198, 51, 100, 1], [4000, 9999]), false),
        ("EAPOL", 0x888e, vec![1, 1, 0, 0], true),
        ("PPPoE where there is none", 0x8864, vec![0x11, 0, 0, 1, 0, 2, 0, 0x21], false),
        ("LLDP", 0x88cc, vec![2, 7, 4, 0, 0, 0, 0, 0, 0], false),
        ("a VLAN's tag", 0x8100, vec![0, 7, 8, 0, 0x45, 0], false),
    ]
}

/// Which of these frames come out at the ISP's end.
fn frames_out(house: &House, bypass: bool) -> Vec<&'static str> {
    let all = frames();
    let sent: Vec<_> = all.iter().map(|(_, kind, payload, _)| (*kind, ethernet(*kind, payload))).collect();
    let captured = house.capture(|| {
        let sent = sent.clone();
        house.inside("rtr", move || {
            for (kind, frame) in &sent {
                transmit("wan0", bypass, *kind, frame);
            }
        });
    });
    let came = |frame: &Vec<u8>| captured.iter().any(|seen| seen == frame);
    all.iter().zip(&sent).filter(|(_, (_, frame))| came(frame)).map(|((name, ..), _)| *name).collect()
}

#[test]
fn packet_sockets_are_held_to_the_contract_by_the_egress_hook() {
    let house = House::build();
    let all: Vec<_> = frames().into_iter().map(|(name, ..)| name).collect();
    // A frame with a tag in it is one for a VLAN when it is captured.
    let plain: Vec<_> = all.iter().copied().filter(|name| *name != "a VLAN's tag").collect();
    let listed: Vec<_> = frames().into_iter().filter(|frame| frame.3).map(|(name, ..)| name).collect();
    for bypass in [false, true] {
        let out = frames_out(&house, bypass);
        assert!(plain.iter().all(|name| out.contains(name)), "control, bypass {bypass}: {out:?}");
        // The guard alone sees none of them.
        let guard = keep(&house, true, false);
        assert_eq!(frames_out(&house, bypass), out, "bypass {bypass}");
        house.inside("rtr", move || {
            let mut keeper = guard;
            keeper.remove_guard().unwrap();
        });
        let egress = keep(&house, false, true);
        assert_eq!(frames_out(&house, bypass), listed, "bypass {bypass}");
        for line in HOSTILE {
            house.try_sh("rtr", line);
        }
        assert_eq!(frames_out(&house, bypass), listed, "bypass {bypass}, after {HOSTILE:?}");
        assert_eq!(leaving(&house), 0, "ordinary packets as well");
        house.inside("rtr", move || {
            let mut keeper = egress;
            keeper.remove_egress().unwrap();
        });
        assert_eq!(frames_out(&house, bypass), out, "control: it was the egress hook");
    }
}

#[test]
fn neighbours_are_found_and_the_tunnel_gets_out_through_both() {
    let house = House::build();
    let _keeper = keep(&house, true, true);
    for _ in 0..2 {
        house.sh("rtr", "ip neigh flush dev wan0; ip -6 neigh flush dev wan0");
        for address in [INTERNET, INTERNET6] {
            let out = leaks(&house.capture(|| {
                house.inside("rtr", move || {
                    let from = From { mark: Some(MARK), ..From::default() };
                    // The first wait for the neighbour; not all of them, as the line is short.
                    send_udp(to(address, 51820), &from);
                    std::thread::sleep(Duration::from_millis(300));
                    send_udp(to(address, 51820), &from);
                });
            }));
            assert!(out > FRAMES, "{address}: {out}: ARP and neighbour discovery are through");
        }
        // The owner: both LANs, both families.
        for (place, address) in
            [("cli", "192.168.1.1"), ("cli", "fd00:1::1"), ("cli2", "192.168.1.1"), ("cli", "192.168.2.2")]
        {
            assert!(house.pings(place, address), "{place} to {address}");
        }
        // And the ISP still finds the router.
        house.sh("isp", "ip neigh flush dev eth0; ip -6 neigh flush dev eth0");
        assert!(!house.ping("isp", "203.0.113.2", Duration::from_millis(300)), "no answer from the WAN");
        house.sh("isp", "ip neigh show 203.0.113.2 dev eth0 | grep -q lladdr");
    }
}

/// A flood from LAN and router, as long as `work` takes; the frames that left.
fn under_flood(house: &House, work: impl FnOnce()) -> usize {
    let stop = std::sync::atomic::AtomicBool::new(false);
    leaks(&house.capture(|| {
        std::thread::scope(|scope| {
            for place in ["cli", "rtr"] {
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        house.inside(place, || {
                            for address in [INTERNET, INTERNET6] {
                                send_udp(to(address, 9999), &From::default());
                            }
                        });
                    }
                });
            }
            // Also where the work panics: the flood must not keep its words from being told.
            let _end = End(&stop);
            std::thread::sleep(Duration::from_millis(100));
            work();
            std::thread::sleep(Duration::from_millis(50));
        });
    }))
}

struct End<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The other guard: another content, equally closed.
fn other() -> Guard {
    let mut settings = settings();
    settings.allow_wan_private = vec![net("10.99.0.0/16")];
    guard_of(&settings)
}

/// Waits for the former owner's end: a command that another test of this process is starting has a
/// copy of the owner's socket until it is executed, and for so long the table stays owned.
fn hold_once_free(keeper: &mut Keeper, table: &Table) -> Result<Hold, KeeperError> {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        match keeper.hold(table) {
            Err(KeeperError::Taken { .. }) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

#[test]
fn replacing_and_taking_over_leave_no_gap() {
    let house = House::build();
    for egress in [false, true] {
        let pick = move |guard: &Guard| if egress { guard.egress().unwrap() } else { guard.table() };
        let keeper = keep(&house, !egress, egress);
        let inside = std::sync::Mutex::new(Some(keeper));
        let replace = |gap: bool| {
            let mut keeper = inside.lock().unwrap().take().unwrap();
            let keeper = house.inside("rtr", move || {
                for _ in 0..100 {
                    for guard in [other(), guard_of(&settings())] {
                        if gap {
                            keeper.remove_guard().unwrap();
                            keeper.remove_egress().unwrap();
                        }
                        keeper.hold(&pick(&guard)).unwrap();
                    }
                }
                keeper
            });
            *inside.lock().unwrap() = Some(keeper);
        };
        assert_eq!(under_flood(&house, || replace(false)), 0, "200 replacements, egress {egress}");
        let gaps = under_flood(&house, || replace(true));
        assert!(gaps > 0, "control: a gap is seen, egress {egress}");
        // 50 owners, each dies and is followed by another.
        let follow = || {
            for _ in 0..50 {
                let owner = inside.lock().unwrap().take();
                drop(owner);
                *inside.lock().unwrap() = Some(house.inside("rtr", move || {
                    let mut keeper = Keeper::open().unwrap();
                    assert_eq!(hold_once_free(&mut keeper, &pick(&guard_of(&settings()))).unwrap(), HELD);
                    keeper
                }));
            }
        };
        assert_eq!(under_flood(&house, follow), 0, "50 owners, egress {egress}");
        *inside.lock().unwrap() = None;
        house.inside("rtr", || remove_left_over().unwrap());
    }
}

const NETWORK: &str = "config interface 'lan'\n\toption device 'lan0'\n\toption proto 'static'\n\
    \toption ipaddr '192.168.1.1'\n\toption netmask '255.255.255.0'\n\
    config interface 'wan'\n\toption device 'wan0'\n\toption proto 'dhcp'\n";
const FIREWALL: &str = "config zone\n\toption name 'lan'\n\tlist network 'lan'\n\toption input 'ACCEPT'\n";
const VPND: &str =
    "config vpnd 'main'\n\toption enabled '1'\n\tlist lan_device 'lan0'\n\tlist lan_device 'lan1'\n";

/// A daemon in the house's router.
struct Router {
    house: House,
    dir: PathBuf,
    daemon: Option<Child>,
}

impl Router {
    fn new(what: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vpnd-guard-{}-{what}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("config")).unwrap();
        for (file, text) in [("network", NETWORK), ("firewall", FIREWALL), ("vpnd", VPND)] {
            std::fs::write(dir.join("config").join(file), text).unwrap();
        }
        Self { house: House::build(), dir, daemon: None }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.house.name("rtr"), env!("CARGO_BIN_EXE_vpnd")]);
        command.args(line.split(' '));
        for option in ["config", "state", "run"] {
            command.arg(format!("--{option}-dir={}", self.dir.join(option).display()));
        }
        command
    }

    fn say(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.say("status --json")).unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = self.command("daemon");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        self.until("the daemon answers", |r| !r.status()["daemon"]["status"].is_null());
    }

    /// SIGKILL: `ip netns exec` is replaced by the daemon.
    fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !holds(self) {
            assert!(Instant::now() < end, "in vain until {what}: {:#}\n{}", self.status(), self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn layers(&self) -> Value {
        let mut layers = self.status()["layers"].clone();
        layers.as_object_mut().unwrap().remove("missing");
        layers
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            self.kill();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn all_layers(owned: bool) -> Value {
    serde_json::json!({
        "rules": true, "barrier": true, "guard": { "owned": owned, "persist": true },
        "egress": { "owned": owned, "persist": true, "devices": ["wan0"] },
    })
}

fn no_layers() -> Value {
    serde_json::json!({ "rules": false, "barrier": false, "guard": null, "egress": null })
}

#[test]
fn the_daemon_holds_both_outlives_itself_and_opens_them_last() {
    let mut r = Router::new("life");
    r.start();
    assert_eq!(r.layers(), no_layers(), "nothing while disconnected");
    assert_eq!(leaving(&r.house), ALL, "control");
    r.say("lockdown on");
    r.until("it blocks", |r| r.status()["state"] == "blocked");
    assert_eq!(r.layers(), all_layers(true));
    let lines = r.say("status");
    assert!(lines.contains("  guard      stands, the daemon's own, and stays without it"), "{lines}");
    assert!(lines.contains("  egress     on wan0") && !lines.contains("missing layer: egress"), "{lines}");
    // Whatever others do, nothing of ours is gone but the rules, which were never owned.
    for line in HOSTILE {
        r.house.try_sh("rtr", line);
    }
    let layers = r.layers();
    assert_eq!(
        (&layers["guard"], &layers["egress"]),
        (&all_layers(true)["guard"], &all_layers(true)["egress"])
    );
    assert_eq!(leaving(&r.house), 0);
    r.kill();
    r.until("nobody owns them", |r| r.layers()["guard"]["owned"] == false);
    let left = r.layers();
    assert_eq!(
        (&left["guard"], &left["egress"]),
        (&all_layers(false)["guard"], &all_layers(false)["egress"])
    );
    assert_eq!(leaving(&r.house), 0, "without a daemon");
    let taken = r.house.inside("rtr", || {
        let packet = udp4([203, 0, 113, 2], [198, 51, 100, 1], [1, 2]);
        transmit("wan0", true, 0x0800, &ethernet(0x0800, &packet))
    });
    assert!(!taken, "nor a raw frame");
    let lines = r.say("status");
    assert!(lines.contains("nobody owns it: a flush of nftables removes it"), "{lines}");
    r.start();
    assert_eq!(r.layers(), all_layers(true), "the next one takes them over, with its rules");
    assert_eq!(leaving(&r.house), 0);
    r.say("disarm --yes");
    assert_eq!(r.layers(), no_layers());
    assert_eq!(leaving(&r.house), ALL, "open again");
}

#[test]
fn what_a_dead_daemon_left_goes_by_disarm_and_by_the_next_one() {
    let mut r = Router::new("left");
    let block_and_kill = |r: &mut Router| {
        r.start();
        r.say("lockdown on");
        r.until("both stand", |r| r.layers() == all_layers(true));
        r.kill();
        r.until("nobody owns them", |r| r.layers()["egress"]["owned"] == false);
    };
    block_and_kill(&mut r);
    let said = r.say("disarm --yes");
    assert!(said.contains("  guard: done") && said.contains("disarmed"), "{said}");
    assert_eq!(r.layers(), no_layers());
    assert_eq!(leaving(&r.house), ALL);
    // With the rules and barrier gone and nothing wanted, the tables are all that is left.
    block_and_kill(&mut r);
    r.house.sh("rtr", "nft delete table inet vpnd");
    r.house.run("rtr", || async { vpnd::routing::Router::open().unwrap().lower().await.unwrap() });
    std::fs::remove_dir_all(r.dir.join("state")).unwrap();
    let lines = r.say("status");
    assert!(lines.starts_with("error: not armed, but the guard table is still there"), "{lines}");
    assert_eq!(leaving(&r.house), 0);
    r.start();
    assert_eq!(r.layers(), no_layers());
    assert_eq!(leaving(&r.house), ALL);
}

#[test]
fn a_wan_device_that_goes_and_comes_is_held_again() {
    let mut r = Router::new("again");
    r.start();
    r.say("lockdown on");
    r.until("both stand", |r| r.layers() == all_layers(true));
    for down in [0, 200] {
        r.house.sh("rtr", &format!("ip link del wan0; sleep 0.{down:03}; ip link add wan0 type veth peer name eth0 netns {}; ip addr add 203.0.113.2/24 dev wan0; ip link set wan0 up", r.house.name("isp")));
        r.house.sh("isp", "ip link set eth0 up; ip addr add 203.0.113.1/24 dev eth0");
        let frame = ethernet(0x88cc, &[2, 7, 4]);
        r.until("its frames are held", |r| {
            let frame = frame.clone();
            !r.house.inside("rtr", move || transmit("wan0", true, 0x88cc, &frame))
        });
        r.until("the status says so", |r| r.layers() == all_layers(true));
    }
    // An address that comes later: ARP for it passes once it is known.
    r.house.sh("rtr", "ip addr add 203.0.113.77/24 dev wan0");
    let asked = ethernet(0x0806, &arp([203, 0, 113, 77]));
    r.until("its ARP passes", |r| {
        let asked = asked.clone();
        r.house.inside("rtr", move || transmit("wan0", false, 0x0806, &asked))
    });
}
