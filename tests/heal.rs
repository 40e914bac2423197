//! fw4 comes back alone: every table was deleted and no daemon lives. What fw4 includes while armed
//! (`files/usr/share/vpnd/heal.nft`), with fw4's own rules and nothing else of vpnd's: no ip rules, no
//! guard. Frames are counted at the ISP's end. Needs root; no WireGuard.

// Helpers of tests, which clippy.toml allows only inside #[test] functions.
#![allow(clippy::unwrap_used, clippy::panic)]

mod netns;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use netns::{FRAMES, From, House, INTERNET, INTERNET6, leaks, send_udp};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn heal() -> String {
    format!("{ROOT}/files/usr/share/vpnd/heal.nft")
}

/// The stand-in for fw4, whose rules let the LAN out by the WAN: what closes it in fw4 as well while
/// armed is not there, so that nothing else helps.
fn fw4(house: &House, include: bool, verb: &str) {
    let include = if include { format!("FW4_INCLUDE={}", heal()) } else { String::new() };
    house.sh(
        "rtr",
        &format!("FW4_LAN=lan0 FW4_GUEST=lan1 FW4_WAN=wan0 {include} {ROOT}/tests/home/fixtures/fw4 {verb}"),
    );
}

fn to(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// Datagrams of a LAN host to each, counted at the ISP's end.
fn leaving(house: &House, all: &'static [(&'static str, u16)]) -> usize {
    leaks(&house.capture(|| {
        house.inside("cli", move || {
            for (address, port) in all {
                send_udp(to(address, *port), &From::default());
            }
        });
    }))
}

const OUT: &[(&str, u16)] = &[(INTERNET, 9999), (INTERNET6, 9999)];

/// The internet has no service, and its refusals would be noise.
fn quiet(house: &House) {
    house.sh(
        "isp",
        "nft \"table inet quiet { chain c { type filter hook input priority 0; udp dport { 53, 9000-9999 } drop; }; }\"",
    );
}

#[test]
fn fw4_that_comes_back_alone_lets_nothing_out() {
    let house = House::build();
    quiet(&house);
    fw4(&house, false, "start");
    assert_eq!(leaving(&house, OUT), 2 * FRAMES, "control: fw4 alone lets the LAN out");
    // vpnd's table, the daemon dead; then somebody stops the firewall and starts it.
    house.sh(
        "rtr",
        "nft \"table inet vpnd { chain forward { type filter hook forward priority -10; policy drop; }; }\"",
    );
    assert_eq!(leaving(&house, OUT), 0, "control: the table blocks");
    fw4(&house, false, "flush");
    fw4(&house, false, "start");
    assert_eq!(leaving(&house, OUT), 2 * FRAMES, "control: without the include it is open");
    for verb in ["start", "reload", "restart"] {
        fw4(&house, true, "flush");
        fw4(&house, true, verb);
        assert_eq!(leaving(&house, OUT), 0, "after {verb}");
    }

    // Refused at once, in both families.
    house.inside("cli", || {
        for address in [INTERNET, INTERNET6] {
            let start = Instant::now();
            let error = TcpStream::connect_timeout(&to(address, 80), Duration::from_secs(5)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}");
            let socket = UdpSocket::bind(if address == INTERNET { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            socket.connect(to(address, 9999)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            // The kernel's ICMP errors are rationed: one of several is heard.
            let heard = (0..9).any(|_| {
                socket.send(b"x").is_err()
                    || socket.recv(&mut [0; 8]).is_err_and(|e| e.kind() != ErrorKind::WouldBlock)
            });
            assert!(heard && start.elapsed() < Duration::from_secs(4), "{address}: {:?}", start.elapsed());
        }
    });
}

/// Flows that began while nothing was there are established for fw4.
#[test]
fn flows_from_the_gap_do_not_go_on() {
    let house = House::build();
    // The internet answers, so that the flow is one in both directions.
    house.sh(
        "isp",
        "nft \"table inet quiet { chain c { type filter hook input priority 0; udp dport 9998 drop; }; }\"",
    );
    house.inside("isp", || {
        std::thread::spawn(|| {
            let socket = UdpSocket::bind(to(INTERNET, 9999)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut bytes = [0; 16];
            while let Ok((_, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(b"answer", from);
            }
        });
    });
    for include in [false, true] {
        fw4(&house, false, "flush");
        // Something tracks and translates in the gap, as any other table on a router may.
        house.sh("rtr", "nft \"table inet other { chain n { type nat hook postrouting priority 100; oifname wan0 masquerade; }; }\"");
        let socket = house.inside("cli", || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(to(INTERNET, 9999)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            for _ in 0..3 {
                socket.send(b"x").unwrap();
                assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 6, "control: the flow stands");
            }
            socket
        });
        fw4(&house, include, "start");
        let frames = house.capture(|| {
            for _ in 0..FRAMES {
                // Refused, the next one says so and is not sent.
                while socket.send(b"x").is_err() {}
            }
        });
        assert_eq!(leaks(&frames), if include { 0 } else { FRAMES }, "include {include}");
    }
}

/// Whatever the configuration says may pass, passes; what no configuration allows does not.
#[test]
fn it_takes_nothing_that_may_pass() {
    let house = House::build();
    quiet(&house);
    // Both LANs have public prefixes, the second one's device is in vpnd's group; a tunnel that ends at
    // the ISP's; a modem behind the WAN.
    let isp = house.name("isp");
    house.sh("rtr", &format!("ip -6 addr add 2001:db8:1::1/64 dev lan0 nodad; ip -6 addr add 2001:db8:2::1/64 dev lan1 nodad
        ip link add vpnd0 type veth peer name exit netns {isp}; ip addr add 10.64.0.2/24 dev vpnd0; ip link set vpnd0 up
        ip route add 198.51.100.77 via 10.64.0.1 dev vpnd0; ip route add 192.168.100.0/24 via 203.0.113.1"));
    house.sh("isp", "ip addr add 10.64.0.1/24 dev exit; ip link set exit up; ip addr add 198.51.100.77/32 dev lo; ip addr add 192.168.100.1/32 dev lo
        ip route add 192.168.1.0/25 via 10.64.0.2 dev exit; sysctl -qw net.ipv4.conf.all.rp_filter=0");
    house.sh(
        "cli",
        "ip -6 addr add 2001:db8:1::2/64 dev eth0 nodad; ip -6 route add 2001:db8:2::/64 via 2001:db8:1::1",
    );
    house.sh(
        "cli2",
        "ip -6 addr add 2001:db8:2::2/64 dev eth0 nodad; ip -6 route add 2001:db8:1::/64 via 2001:db8:2::1",
    );
    let group =
        |number: u32| house.sh("rtr", &format!("for d in lan0 lan1; do ip link set $d group {number}; done"));
    let both = |include: bool| {
        fw4(&house, include, "flush");
        fw4(&house, include, "start");
    };
    for include in [false, true] {
        both(include);
        group(7651);
        for address in ["192.168.2.2", "fd00:2::2", "2001:db8:2::2", "192.168.1.1", "198.51.100.77"] {
            assert!(house.pings("cli", address), "to {address}, include {include}");
        }
        // What the tunnel's far end opens is fw4's to judge, as is a modem.
        assert_eq!(leaving(&house, &[("192.168.100.1", 9999)]), FRAMES, "2.8, include {include}");
        assert_eq!(leaving(&house, &[("192.168.100.1", 53)]), if include { 0 } else { FRAMES }, "3.5");
        assert_eq!(leaving(&house, &[("10.77.0.1", 53)]), if include { 0 } else { FRAMES }, "3.5");
        assert_eq!(leaving(&house, OUT), if include { 0 } else { 2 * FRAMES });
        // A boot without a daemon: nobody has put the LAN into a group.
        group(0);
        assert!(house.pings("cli", "192.168.2.2") && house.pings("cli", "fd00:2::2"));
        assert_eq!(house.pings("cli", "2001:db8:2::2"), !include, "a public address, and no group");
    }
    // From the tunnel to the LAN, where fw4 lets it.
    group(7651);
    both(true);
    house.sh("rtr", "nft insert rule inet fw4 forward iifname vpnd0 oifname lan0 accept");
    assert!(house.pings("isp", "192.168.1.2"), "3.4");
}

#[test]
fn loaded_again_it_is_the_same_and_nothing_of_others_is_touched() {
    let house = House::build();
    house.sh("rtr", "nft \"table inet vpnd { chain c { type filter hook forward priority -10; policy drop; }; }; table inet vpnd_guard { chain c { ip daddr 10.0.0.1 drop; }; }\"");
    let list = || house.sh("rtr", "nft -s list ruleset");
    fw4(&house, false, "start");
    let without = list();
    house.sh("rtr", &format!("nft -c -f {}", heal()));
    assert_eq!(list(), without, "a check changed something");
    fw4(&house, true, "start");
    let once = list();
    assert!(once.contains("table inet vpnd_heal"), "{once}");
    for verb in ["reload", "reload", "restart", "start"] {
        house.sh("rtr", &format!("nft -c -f {}", heal()));
        fw4(&house, true, verb);
        let now = list();
        let sorted = |text: &str| {
            let mut tables: Vec<_> = text
                .split("\ntable ")
                .map(|table| table.trim_start_matches("table ").trim().to_owned())
                .collect();
            tables.sort();
            tables
        };
        assert_eq!(sorted(&now), sorted(&once), "after {verb}");
    }
    house.sh("rtr", "nft delete table inet vpnd_heal");
    assert_eq!(list().matches("table inet").count(), without.matches("table inet").count());
    // The package is gone: fw4 passes over it.
    house.sh("rtr", &format!("FW4_INCLUDE=/nowhere/heal.nft {ROOT}/tests/home/fixtures/fw4 reload; ! nft list table inet vpnd_heal 2> /dev/null"));
}
