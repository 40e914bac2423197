//! Deletion of connections, with real ones through a router that translates addresses.
#![allow(clippy::unwrap_used)]

mod netns;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use netns::{From, House, INTERNET, INTERNET6, name, net, settings};
use vpnd::config::Settings;
use vpnd::firewall::conntrack;
use vpnd::policy::flows::{Flow, fits};
use vpnd::policy::{Facts, Stance, TunnelStance, WanDevice};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// A router with masquerading and connection tracking.
fn house() -> House {
    let house = House::build();
    house.sh("rtr", "nft add table inet nat; nft add chain inet nat post \"{ type nat hook postrouting priority 100; }\"; nft add rule inet nat post oifname wan0 masquerade; nft add table inet raw; nft add chain inet raw pre \"{ type filter hook prerouting priority raw; }\"; nft add rule inet raw pre udp dport 7777 ct zone set 5");
    house
}

fn facts() -> Facts {
    let prefixes = vec![net("203.0.113.0/24"), net("2001:db8:203::/64")];
    let wan = vec![WanDevice { name: name("wan0"), prefixes, lease_server: None }];
    Facts { wan, ..Facts::default() }
}

fn flows(house: &House) -> Vec<Flow> {
    house.inside("rtr", || conntrack::flows().unwrap())
}

fn delete(house: &House, stance: Stance, settings: Settings, spare_tunnel: bool) -> usize {
    house.inside("rtr", move || {
        conntrack::delete_unfit(|flow| fits(flow, &stance, &settings, &facts(), spare_tunnel)).unwrap()
    })
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// One connection of each protocol from the LAN to the internet, and TCP to the router itself.
/// The sockets must be kept.
fn open_flows(house: &House) -> (Vec<TcpListener>, Vec<TcpStream>) {
    let mut listeners = Vec::new();
    let mut streams = Vec::new();
    for (place, address) in
        [("isp", INTERNET), ("isp", INTERNET6), ("rtr", "192.168.1.1"), ("rtr", "fd00:1::1")]
    {
        let to = at(address, 8080);
        listeners.push(house.inside(place, move || TcpListener::bind(to).unwrap()));
        streams.push(
            house.inside("cli", move || TcpStream::connect_timeout(&to, Duration::from_secs(2)).unwrap()),
        );
    }
    for address in [INTERNET, INTERNET6] {
        assert!(house.pings("cli", address));
        house.inside("cli", move || netns::send_udp(at(address, 9999), &From::default()));
    }
    house.inside("cli", || netns::send_udp(at(INTERNET, 7777), &From::default()));
    (listeners, streams)
}

fn to_internet(flows: &[Flow]) -> Vec<(u8, bool)> {
    let mut kinds: Vec<(u8, bool)> = flows
        .iter()
        .filter(|flow| [INTERNET, INTERNET6].contains(&flow.original.destination.to_string().as_str()))
        .map(|flow| (flow.protocol, flow.original.source.is_ipv4()))
        .collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn flows_to_the_internet_go_and_those_of_the_lan_stay() {
    let house = house();
    let _open = open_flows(&house);
    let before = flows(&house);
    let wanted =
        [(ICMP, true), (TCP, false), (TCP, true), (UDP, false), (UDP, true), (UDP, true), (ICMPV6, false)];
    let mut kinds = to_internet(&before);
    kinds.dedup();
    assert_eq!(
        kinds,
        {
            let mut once = wanted.to_vec();
            once.dedup();
            once
        },
        "control: {before:?}"
    );
    assert!(before.iter().any(|flow| flow.zone == 5), "control: no flow in a zone");

    // Open: nothing of this was through a tunnel.
    assert_eq!(delete(&house, Stance::Open, settings(), false), 0);
    let deleted = delete(&house, Stance::Blocked { api: false }, settings(), false);
    assert_eq!(deleted, to_internet(&before).len());
    let after = flows(&house);
    assert_eq!(to_internet(&after), []);
    let to_router =
        |flows: &[Flow]| flows.iter().filter(|flow| flow.original.destination_port == 8080).count();
    assert_eq!(to_router(&after), 2, "the owner's connections to the router: {after:?}");
    assert_eq!(delete(&house, Stance::Blocked { api: false }, settings(), false), 0);
}

#[test]
fn flows_through_the_tunnel_are_spared_only_on_request() {
    let house = house();
    // wan0 stands in for the tunnel: what is translated to its address is "through the tunnel".
    let tunnel = |v4: &str| TunnelStance {
        device: name("vpnd0"),
        addresses: vec![net(v4), net("2001:db8:203::2/128")],
    };
    let connected = |v4: &str| Stance::Connected {
        relay: at("203.0.113.1", 51820),
        listen_port: 40000,
        tunnel: tunnel(v4),
    };
    let _open = open_flows(&house);
    let count = to_internet(&flows(&house)).len();
    assert_eq!(delete(&house, connected("203.0.113.2/32"), settings(), true), 0);
    let v4 = to_internet(&flows(&house)).iter().filter(|(_, v4)| *v4).count();
    assert_eq!(delete(&house, connected("203.0.113.3/32"), settings(), true), v4, "another address");
    assert_eq!(delete(&house, connected("203.0.113.2/32"), settings(), false), count - v4);
    assert_eq!(to_internet(&flows(&house)), []);
}

#[test]
fn twenty_thousand_flows_are_deleted_in_bounded_time() {
    let house = house();
    house.inside("cli", || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        for port in 1..=20_000 {
            let _ = socket.send_to(b"x", at(INTERNET, port));
            if port % 200 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    let there = to_internet(&flows(&house)).len();
    assert!(there > 19_000, "control: only {there} flows");
    let start = Instant::now();
    let deleted = delete(&house, Stance::Boot, settings(), false);
    println!("{deleted} flows deleted in {:?}", start.elapsed());
    assert!(deleted >= there && start.elapsed() < Duration::from_secs(15));
    assert_eq!(to_internet(&flows(&house)), []);
}

#[test]
fn blocking_by_hand_deletes_what_was_open() {
    let house = house();
    let dir = std::env::temp_dir().join(format!("vpnd-block-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("config")).unwrap();
    let _open = open_flows(&house);
    assert!(!to_internet(&flows(&house)).is_empty(), "control");
    let option = |name: &str| format!("--{name}-dir={}", dir.join(name).display());
    let output = std::process::Command::new("ip")
        .args(["netns", "exec", &house.name("rtr"), env!("CARGO_BIN_EXE_vpnd"), "block"])
        .args(["config", "state", "run"].map(option))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(to_internet(&flows(&house)), []);
    let _ = std::fs::remove_dir_all(&dir);
}
