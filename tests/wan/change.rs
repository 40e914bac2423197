//! Uplinks that come and go, change their names and addresses, or have one family only.

use std::net::SocketAddr;

use crate::netns::{INTERNET, INTERNET6, udp_to};
use crate::router::{Router, arp, assert_controls, assert_listed, end};

const STATIC: &str = "config interface 'wan'\n\toption device 'wan0'\n\toption proto 'static'\n\
    \toption ipaddr '203.0.113.2'\n\toption netmask '255.255.255.0'\n\toption gateway '203.0.113.1'\n";
const SECOND: &str = "config interface 'wanb'\n\toption device 'wan1'\n\toption proto 'static'\n\
    \toption ipaddr '198.19.1.2'\n\toption netmask '255.255.255.0'\n\toption gateway '198.19.1.1'\n";
const V6_ONLY: &str = "config interface 'wan6'\n\toption device 'wan0'\n\toption proto 'dhcpv6'\n";

/// The WAN's addresses and routes, as netifd gives them to a device. Where configuration does not name
/// the device, IPv4's gateway is taken once the daemon has seen it; a DHCP client takes longer to come to that.
fn configure(r: &Router, device: &str) {
    r.rtr(&format!(
        "ip link set {device} up
        ip addr replace 203.0.113.2/24 dev {device}; ip -6 addr replace 2001:db8:203::2/64 dev {device} nodad
        ip -6 route replace default via 2001:db8:203::1 dev {device}"
    ));
    let route = format!("ip route replace default via 203.0.113.1 dev {device}");
    r.until("its gateway is taken", |r| r.house.try_sh("rtr", &route));
}

/// A cable to the ISP: the router's end is DEVICE, the other end `eth0`.
fn plug_in(r: &Router, device: &str) {
    r.rtr(&format!("ip link add {device} type veth peer name eth0 netns {}", r.house.name("isp")));
    r.house.sh(
        "isp",
        "ip link set eth0 up; ip addr add 203.0.113.1/24 dev eth0; ip -6 addr add 2001:db8:203::1/64 dev eth0 nodad",
    );
    configure(r, device);
}

/// Blocked, for want of a route to any relay, or for another reason.
fn offline(r: &Router) -> bool {
    let status = r.status();
    assert_ne!(status["state"], "open", "{status:#}");
    r.rtr(&format!("{} || true", r.words("status"))).contains("offline: no route to any relay")
}

fn connect(r: &Router) {
    r.rtr(&format!("{} || true", r.words("connect --no-wait")));
}

#[test]
fn a_wan_that_is_readdressed_renamed_and_replaced_is_held_all_the_while() {
    const DEVICES: &[&str] = &["wan0", "wan5", "usb0"];
    let r = Router::new(STATIC);
    r.leaves_while_open(&["wan0"], &super::both());
    r.blocked();
    let frames = r.under_flood(DEVICES, || {
        r.holds(&["wan0"], 1);
        r.rtr("ip addr del 203.0.113.2/24 dev wan0; ip addr add 203.0.113.9/24 dev wan0; ip route replace default via 203.0.113.1 dev wan0");
        let (old, new) = ([203, 0, 113, 2].into(), [203, 0, 113, 9].into());
        r.until("ARP speaks of the new address", |r| r.transmit("wan0", &arp(new)));
        assert!(!r.transmit("wan0", &arp(old)), "and of the old one no more");
        r.holds(&["wan0"], 2);
        // Its IPv6 addresses and all routes go with the device's being down.
        r.rtr("ip link set wan0 down; ip link set wan0 name wan5");
        configure(&r, "wan5");
        r.holds(&["wan5"], 3);
        r.rtr("ip link del wan5");
        r.until("there is no WAN", |r| r.status()["layers"]["egress"].is_null());
        plug_in(&r, "wan0");
        r.holds(&["wan0"], 4);
        // A tether that configuration says nothing of takes its place.
        r.rtr("ip link del wan0");
        plug_in(&r, "usb0");
        r.holds(&["usb0"], 5);
    });
    assert_listed(&frames, None);
    assert_controls(&frames, 1..=5);
    r.rtr(&r.words("disarm --yes"));
    r.leaves_while_open(&["usb0"], &super::both());
}

#[test]
fn a_second_wan_is_held_as_the_first_whichever_is_there() {
    const DEVICES: &[&str] = &["wan0", "wan1"];
    let r = Router::new(&format!("{STATIC}{SECOND}"));
    r.leaves_while_open(&["wan0"], &super::both());
    r.blocked();
    let frames = r.under_flood(DEVICES, || {
        r.holds(&["wan0"], 1);
        r.rtr(&format!("ip link add wan1 type veth peer name eth1 netns {}", r.house.name("isp")));
        r.house.sh("isp", "ip link set eth1 up; ip addr add 198.19.1.1/24 dev eth1");
        // It is the better way from now on.
        r.rtr("ip link set wan1 up; ip addr add 198.19.1.2/24 dev wan1; ip route del default; ip route add default via 198.19.1.1 dev wan1 metric 5; ip route add default via 203.0.113.1 dev wan0 metric 9");
        r.holds(DEVICES, 2);
        r.rtr("ip link set wan1 down; ip link set wan1 up; ip route add default via 198.19.1.1 dev wan1 metric 5");
        r.holds(DEVICES, 3);
        r.rtr("ip link del wan0");
        r.holds(&["wan1"], 4);
    });
    assert_listed(&frames, None);
    assert_controls(&frames, 1..=4);
    r.rtr(&r.words("disarm --yes"));
    r.leaves_while_open(&["wan1"], &[INTERNET.parse().unwrap()]);
}

#[test]
fn a_wan_that_comes_long_after_boot_is_held_and_used() {
    let r = Router::new(STATIC);
    r.leaves_while_open(&["wan0"], &super::both());
    r.rtr("ip link del wan0");
    r.rtr(&r.words("block"));
    let frames = r.under_flood(&["wan0"], || {
        r.start();
        connect(&r);
        r.until("it is offline", offline);
        assert_eq!(r.held(), Vec::<String>::new());
        plug_in(&r, "wan0");
        r.holds(&["wan0"], 1);
        r.until("it has a way to the relay", |r| !offline(r));
        r.rtr("ip route del default; ip -6 route del default");
        r.until("it is offline again", offline);
    });
    let relay: SocketAddr = format!("{INTERNET}:51820").parse().unwrap();
    assert_listed(&but_to(frames.clone(), relay), None);
    assert_controls(&frames, [1]);
}

/// Without what a tunnel may send to its relay, where the kernel has WireGuard.
fn but_to(mut frames: Vec<Vec<u8>>, relay: SocketAddr) -> Vec<Vec<u8>> {
    frames.retain(|frame| udp_to(frame) != Some(relay));
    frames
}

/// Address and way out by dnsmasq's router advertisements.
#[test]
fn an_ipv6_only_wan_is_found_by_its_advertisements_while_blocked() {
    let relay = format!("[{INTERNET6}]:51820");
    let r = Router::with_relay(V6_ONLY, &relay);
    r.leaves_while_open(&["wan0"], &super::both());
    r.rtr("ip addr flush dev wan0 scope global; ip link set wan0 down; sysctl -qw net.ipv6.conf.wan0.accept_ra=2");
    r.house.sh("isp", "ip addr del 203.0.113.1/24 dev eth0");
    r.rtr(&r.words("block"));
    let mut advertiser = None;
    let frames = r.under_flood(&["wan0"], || {
        r.start();
        connect(&r);
        r.until("it is offline", offline);
        let dnsmasq = "dnsmasq --no-daemon --conf-file=/dev/null --port=0 --interface=eth0 --bind-interfaces --enable-ra \
            --dhcp-range=2001:db8:203::,ra-only,64 --ra-param=eth0,4,60 --user=root --leasefile-ro";
        advertiser = Some(r.spawn("isp", "dnsmasq", dnsmasq));
        r.rtr("ip link set wan0 up");
        r.until("it has an address and a way out", |r| {
            r.rtr("ip -6 addr show dev wan0 scope global").contains("2001:db8:203:")
                && r.rtr("ip -6 route show default").contains("proto ra")
        });
        r.holds(&["wan0"], 1);
        r.until("it has a way to the relay", |r| !offline(r));
        assert!(r.rtr("ip -4 addr show dev wan0").is_empty(), "it is an IPv6-only WAN");
    });
    end(advertiser);
    assert_listed(&but_to(frames.clone(), relay.parse().unwrap()), None);
    assert_controls(&frames, [1]);
    let solicited = |frame: &&Vec<u8>| frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 133;
    assert!(frames.iter().any(|frame| solicited(&frame)), "the router asked for its advertisement");
}
