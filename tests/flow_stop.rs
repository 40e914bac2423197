//! The stop ahead of the flowtables in a router of network namespaces, with every other table gone;
//! and a real daemon that puts it up and ends it. What flowtables do is tried in the guests: this
//! machine's kernel may have none.
#![allow(clippy::unwrap_used)]

mod netns;

use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netns::{From, House, INTERNET, INTERNET6, connect_tcp, leaks, name, net, send_udp, settings, transmit};
use vpnd::config::{IfName, Settings};
use vpnd::firewall::evaluate::{Devices, Evaluator, Flow, Hook, Packet, Verdict, World};
use vpnd::firewall::{Nft, compile, compile_stop};
use vpnd::policy::{Entrances, Facts, Stance, compose, stop};
use vpnd::routing::{Router, watch};
use vpnd::sorted::Map;

const LINK_LOCAL: &str = "fe80::7651";

/// A router whose first LAN device is a bridge, with the house's as its port.
fn house() -> (House, Settings) {
    let house = House::build();
    house.sh("rtr", "ip link add br-lan type bridge; ip link set br-lan up; ip addr flush dev lan0; ip link set lan0 master br-lan;
        ip addr add 192.168.1.1/24 dev br-lan; ip -6 addr add fd00:1::1/64 dev br-lan nodad;
        ip -6 addr add fe80::7651/64 dev br-lan nodad");
    let mut settings = settings();
    settings.lan.devices[0].name = name("br-lan");
    (house, settings)
}

fn look(house: &House, settings: &Settings) -> (Facts, Entrances) {
    let settings = settings.clone();
    house.run("rtr", move || async move {
        Router::open().unwrap().look(&settings, &name("vpnd0"), &Map::new()).await.unwrap()
    })
}

/// The stop, and no other table.
fn stopped(house: &House, settings: &Settings) {
    let (facts, entrances) = look(house, settings);
    let policy = compose(&Stance::Blocked { api: true }, settings, &facts).unwrap();
    let stop = stop(&policy, settings, &entrances).unwrap();
    let missing = house.inside("rtr", move || {
        Nft::new("nft".into()).apply_stopping(&compile(&policy), Some(&stop)).unwrap().1
    });
    assert_eq!(missing, None);
    house.sh("rtr", "nft delete table inet vpnd");
    assert_eq!(tables(house), "table inet vpnd_stop");
}

fn tables(house: &House) -> String {
    house.sh("rtr", "nft list tables").trim().to_owned()
}

fn end(house: &House) {
    house.inside("rtr", || Nft::new("nft".into()).end_stop().unwrap());
    assert_eq!(tables(house), "");
}

/// Frames of both LANs that reached the ISP, of those sent to the internet by UDP, TCP and ICMP in
/// both families.
fn outward(house: &House) -> usize {
    let frames = house.capture(|| {
        for place in ["cli", "cli2"] {
            for to in [INTERNET, INTERNET6] {
                let to: IpAddr = to.parse().unwrap();
                house.inside(place, move || {
                    send_udp(SocketAddr::new(to, 9999), &From::default());
                    connect_tcp(SocketAddr::new(to, 9999));
                });
                house.ping(place, &to.to_string(), Duration::from_millis(100));
            }
        }
    });
    leaks(&frames)
}

/// Does the router hear a datagram that a LAN host sends there?
fn hears(house: &House, to: &str) -> bool {
    let to: IpAddr = to.parse().unwrap();
    let any = if to.is_ipv4() { "0.0.0.0:6767" } else { "[::]:6767" };
    let socket = house.inside("rtr", move || UdpSocket::bind(any).unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    house.inside("cli", move || {
        let socket = UdpSocket::bind(if to.is_ipv4() { "192.168.1.2:0" } else { "[::]:0" }).unwrap();
        socket.set_broadcast(true).unwrap();
        let to = match to {
            IpAddr::V4(_) => SocketAddr::new(to, 6767),
            IpAddr::V6(to) => {
                // SAFETY: a C string.
                let device = unsafe { libc::if_nametoindex(c"eth0".as_ptr()) };
                SocketAddrV6::new(to, 6767, 0, device).into()
            }
        };
        socket.send_to(b"hello", to).unwrap();
    });
    socket.recv(&mut [0; 16]).is_ok()
}

fn at_home(house: &House) {
    let link_local = format!("{LINK_LOCAL}%eth0");
    for to in [
        "192.168.1.1",
        "fd00:1::1",
        link_local.as_str(),
        "203.0.113.2",
        "2001:db8:203::2",
        "192.168.2.2",
        "fd00:2::2",
    ] {
        assert!(house.pings("cli", to), "cli to {to}");
    }
    for to in
        ["255.255.255.255", "192.168.1.255", "192.168.1.1", "224.0.0.1", "ff02::1", "ff02::2", LINK_LOCAL]
    {
        assert!(hears(house, to), "cli to {to}");
    }
}

#[test]
fn alone_it_stops_the_lan_and_spares_what_stays_at_home() {
    let (house, settings) = house();
    let (_, entrances) = look(&house, &settings);
    let names: Vec<&str> = entrances.devices.iter().map(IfName::as_str).collect();
    assert_eq!(names, ["br-lan", "lan0", "lan1"]);
    let free = outward(&house);
    assert!(free >= 2 * 2 * 20, "control: {free} frames");
    at_home(&house);

    stopped(&house, &settings);
    assert_eq!(outward(&house), 0);
    at_home(&house);
    // The router's own packets are none of its business.
    assert!(house.pings("rtr", INTERNET) && house.pings("rtr", INTERNET6));
    // Ahead of the bridge, and behind it: each chain stops what comes its way.
    house.sh("rtr", "nft flush chain inet vpnd_stop from_0");
    assert_eq!(outward(&house), 0, "by the port");
    house.sh("rtr", "nft flush chain inet vpnd_stop from_1");
    assert!(outward(&house) > 0, "control: neither");

    stopped(&house, &settings);
    house.sh("rtr", "nft flush chain inet vpnd_stop from_1");
    assert_eq!(outward(&house), 0, "by the bridge");
    end(&house);
    let again = outward(&house);
    assert!(again >= 2 * 2 * 20, "{again} frames");
}

/// A UDP packet in a frame, for a device whatever its address.
fn frame(mac: &str, to: IpAddr) -> Vec<u8> {
    let mut frame: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    frame.extend([2, 0, 0, 0, 0, 9]);
    match to {
        IpAddr::V4(to) => {
            frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 168, 1, 2]);
            frame.extend(to.octets());
        }
        IpAddr::V6(to) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
            frame.extend("fd00:1::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
            frame.extend(to.octets());
        }
    }
    frame.extend([0x30, 0x39, 0x30, 0x39, 0, 8, 0, 0]);
    frame
}

/// Packets that the stop dropped so far.
fn dropped(house: &House) -> u64 {
    let words = house.sh("rtr", "nft list chain inet vpnd_stop stop");
    let after = words.split("counter packets ").nth(1).unwrap();
    after.split(' ').next().unwrap().parse().unwrap()
}

/// At both ends of every prefix that is spared, beside them, and anywhere else.
#[test]
fn the_evaluator_says_of_each_packet_what_the_kernel_does() {
    let (house, mut settings) = house();
    settings.allow_wan_private = vec![net("100.64.0.0/10"), net("2001:db8:7000::/36")];
    let (facts, entrances) = look(&house, &settings);
    let policy = compose(&Stance::Blocked { api: true }, &settings, &facts).unwrap();
    let wanted = stop(&policy, &settings, &entrances).unwrap();
    let (chains, rules) = compile_stop(&wanted);
    let evaluator = Evaluator::of_objects(&[], &chains, &rules).unwrap();
    let passes = |to: IpAddr| {
        let source = if to.is_ipv4() { "192.168.1.2" } else { "fd00:1::2" }.parse().unwrap();
        let (protocol, transport, hop_limit, mark) = (17, vec![0; 8], 64, 0);
        let mut packet = Packet { source, destination: to, protocol, transport, hop_limit, mark };
        let devices = Devices { iif: Some(name("lan0")), oif: None };
        let (mut flow, world) = (Flow::new(), World::default());
        let said = evaluator.hook(Hook::Ingress, &mut packet, &devices, &mut flow, &world).unwrap();
        said.verdict == Verdict::Accept
    };
    let mut all: Vec<IpAddr> = Vec::new();
    for spared in &wanted.spared {
        for end in [spared.network(), spared.broadcast()] {
            match end {
                IpAddr::V4(end) => {
                    let end = end.to_bits();
                    let beside = [end, end.wrapping_sub(1), end.wrapping_add(1), end ^ 1 << 31, end ^ 1 << 9];
                    all.extend(beside.map(|bits| IpAddr::from(std::net::Ipv4Addr::from_bits(bits))));
                }
                IpAddr::V6(end) => {
                    let end = end.to_bits();
                    let beside =
                        [end, end.wrapping_sub(1), end.wrapping_add(1), end ^ 1 << 127, end ^ 1 << 65];
                    all.extend(beside.map(|bits| IpAddr::from(std::net::Ipv6Addr::from_bits(bits))));
                }
            }
        }
    }
    let (through, stopped_ones): (Vec<IpAddr>, Vec<IpAddr>) = all.into_iter().partition(|to| passes(*to));
    assert!(through.len() > 40 && stopped_ones.len() > 60, "{} {}", through.len(), stopped_ones.len());
    stopped(&house, &settings);
    let mac = house.sh("rtr", "cat /sys/class/net/br-lan/address").trim().to_owned();
    let before = dropped(&house);
    let send = |list: &[IpAddr]| {
        let frames: Vec<Vec<u8>> = list.iter().map(|to| frame(&mac, *to)).collect();
        house.inside("cli", move || transmit("eth0", &frames));
        dropped(&house)
    };
    assert_eq!(send(&through) - before, 0, "one of {through:?}");
    assert_eq!(send(&stopped_ones) - before, stopped_ones.len() as u64, "not all of {stopped_ones:?}");
}

#[test]
fn listed_prefixes_are_spared() {
    let (house, mut settings) = house();
    stopped(&house, &settings);
    assert!(!house.pings("cli", INTERNET) && !house.pings("cli", INTERNET6));
    settings.allow_wan_private = vec![net("198.51.100.0/24")];
    stopped(&house, &settings);
    assert!(house.pings("cli", INTERNET) && !house.pings("cli", INTERNET6));
}

#[test]
fn offloading_is_ended_by_a_change_that_leaves_nothing_behind() {
    let (house, _) = house();
    let before = house.tables();
    house.run("rtr", || async {
        let mut changes = watch().unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(300), changes.next()).await;
        assert!(quiet.is_err(), "control: nothing changes by itself");
        Router::open().unwrap().end_offloading().await.unwrap();
        tokio::time::timeout(Duration::from_secs(2), changes.next()).await.unwrap().unwrap();
    });
    assert_eq!(house.tables(), before);
    // Also where one was left behind.
    house.sh(
        "rtr",
        "ip rule add pref 199 to 0.0.0.0/32 unreachable protocol static; ip -6 route add unreachable ::/128 proto static",
    );
    house.run("rtr", || async { Router::open().unwrap().end_offloading().await.unwrap() });
    assert_eq!(house.tables(), before);
}

/// Ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From one commit, with the policy, to the deletion of the flows.
#[test]
fn the_daemon_puts_it_up_with_the_policy_and_ends_it_with_the_flows() {
    let (house, _) = house();
    let dir = std::env::temp_dir().join(format!("vpnd-stop-{}", std::process::id()));
    for part in ["config", "state"] {
        std::fs::create_dir_all(dir.join(part)).unwrap();
    }
    let config = |file: &str, text: &str| std::fs::write(dir.join("config").join(file), text).unwrap();
    config(
        "network",
        "config interface 'lan'\n\toption device 'br-lan'\n\toption proto 'static'\n\toption ipaddr '192.168.1.1'\n\toption netmask '255.255.255.0'\n",
    );
    config("firewall", "config zone\n\toption name 'lan'\n\tlist network 'lan'\n\toption input 'ACCEPT'\n");
    config("vpnd", "config vpnd 'main'\n\toption enabled '1'\n");
    let in_router = |program: &str, words: &[&str]| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &house.name("rtr"), program]).args(words);
        command
    };
    let vpnd = |words: &[&str]| {
        let mut command = in_router(env!("CARGO_BIN_EXE_vpnd"), words);
        let option = |name: &str, part: &str| format!("--{name}={}", dir.join(part).display());
        command.args([
            option("config-dir", "config"),
            option("state-dir", "state"),
            option("run-dir", "run"),
        ]);
        command
    };
    let log = |file: &Path| Stdio::from(std::fs::File::create(file).unwrap());
    let seen = dir.join("seen");
    let monitor =
        Running(in_router("stdbuf", &["-oL", "nft", "monitor"]).stdout(log(&seen)).spawn().unwrap());
    let daemon = Running(vpnd(&["daemon"]).stderr(log(&dir.join("log"))).spawn().unwrap());
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let end = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < end, "in vain until {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let say = |words: &[&str]| {
        let output = vpnd(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    until("it may be asked", &|| vpnd(&["lockdown", "on"]).output().unwrap().status.success());
    assert_eq!(tables(&house), "table inet vpnd\ntable inet vpnd_guard\ntable netdev vpnd_egress");
    let events = || std::fs::read_to_string(&seen).unwrap();
    until("the events are there", &|| events().contains("delete table inet vpnd_stop"));
    say(&["disarm", "--yes"]);
    assert_eq!(tables(&house), "");
    drop((daemon, monitor));
    let events = events();
    // What was done before each commit; who did it is said with the number after it.
    let commits: Vec<&str> = events.split("# new generation").collect();
    let up = commits.iter().position(|done| done.contains("add chain inet vpnd_stop stop")).unwrap();
    assert!(commits[up].contains("add chain inet vpnd forward"), "in one transaction: {events}");
    assert!(commits[up].contains("hook ingress"), "{events}");
    // Guard and egress hook come in between, in transactions of their own.
    let down = commits.iter().skip(up + 1).position(|done| done.contains("delete table inet vpnd_stop\n"));
    let down = up + 1 + down.unwrap();
    assert!(down <= up + 3, "{events}");
    assert!(
        !commits[down].contains("add ") && commits[down + 1].contains("(vpnd)"),
        "by a message: {events}"
    );
    let _ = std::fs::remove_dir_all(&dir);
}
