//! Addresses of each zone, and connections that are open before the rules under test are there.

use std::net::IpAddr;

use fastrand::Rng;

use super::place::{DEVICES, own_address};
use super::shot::{ACK, Origin, SYN, Shot, TCP, UDP};

/// An end of a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Device(&'static str),
    Router,
}

/// Hosts that are reached through a device, by `place`'s routes.
pub fn host(device: &str, v4: bool, random: &mut Rng) -> IpAddr {
    let nets: &[&str] = match (device, v4) {
        ("br-lan", true) => &["192.168.1", "192.168.1", "10.9.3"],
        ("br-guest", true) => &["192.168.2"],
        ("eth7", true) => &["192.168.7"],
        ("wan", true) => &["198.51.100", "192.168.100", "203.0.113", "192.0.2"],
        ("usb0", true) => &["198.19.0"],
        ("vpnd1", true) => &["198.18.65"],
        (_, true) => &["9.9.9", "10.64.0"],
        ("br-lan", false) => &["fd00:1:"],
        ("br-guest", false) => &["fd00:2:"],
        ("eth7", false) => &["fd00:7:"],
        ("wan", false) => &["2001:db8:100:", "fd00:dead:", "2001:db8:203:", "2001:db8:51:"],
        ("usb0", false) => &["2001:db8:1900:"],
        ("vpnd1", false) => &["2001:db8:65:"],
        (_, false) => &["2600:1:", "fd64:"],
    };
    let net = nets[random.usize(..nets.len())];
    // Few hosts, so that they are met again; none that is the router.
    let number = random.u8(64..80);
    let text = if v4 { format!("{net}.{number}") } else { format!("{net}:{number:x}") };
    text.parse().unwrap_or(IpAddr::from([192, 0, 2, 99]))
}

pub fn address(end: End, other: End, v4: bool, random: &mut Rng) -> IpAddr {
    match (end, other) {
        (End::Device(device), _) => host(device, v4, random),
        (End::Router, End::Device(device)) => {
            own_address(device, v4).unwrap_or_else(|| host(device, v4, random))
        }
        (End::Router, End::Router) => host("br-lan", v4, random),
    }
}

/// A packet from one end to the other, of a kind that nothing knows.
pub fn plain(from: End, to: End, v4: bool, random: &mut Rng) -> Shot {
    let origin = match (from, to) {
        (End::Device(device), _) => Origin::Device(device),
        (End::Router, End::Device(device)) => Origin::Router { device: Some(device), mark: 0 },
        (End::Router, End::Router) => Origin::Router { device: None, mark: 0 },
    };
    let mut shot = Shot {
        origin,
        source: address(from, to, v4, random),
        destination: address(to, from, v4, random),
        protocol: UDP,
        hops: 64,
        transport: Vec::new(),
    };
    let icmp = if v4 { 1 } else { 58 };
    shot.become_protocol([UDP, UDP, TCP, TCP, icmp, 47][random.usize(..6)]);
    if shot.protocol == icmp {
        shot.transport[0] = if v4 { 8 } else { 128 };
        shot.set_port(4, random.u16(..));
    } else if shot.protocol != 47 {
        // (NAT drops GRE of a version that it does not know: zeros.)
        shot.set_port(0, random.u16(1024..));
        shot.set_port(2, random.u16(1024..));
    }
    if shot.protocol == TCP {
        shot.transport[13] = SYN;
    }
    shot
}

/// A connection that has seen its answer.
#[derive(Debug, Clone)]
pub struct Open {
    pub from: End,
    pub to: End,
    pub original: Shot,
    pub reply: Shot,
    /// The mark that the opening table gives it.
    pub mark: u32,
    pub dnat: bool,
}

fn answer(original: &Shot, from: End, to: End) -> Shot {
    let origin = match (to, from) {
        (End::Device(device), _) => Origin::Device(device),
        (End::Router, End::Device(device)) => Origin::Router { device: Some(device), mark: 0 },
        (End::Router, End::Router) => Origin::Router { device: None, mark: 0 },
    };
    let mut reply =
        Shot { origin, source: original.destination, destination: original.source, ..original.clone() };
    match reply.protocol {
        1 => reply.transport[0] = 0,
        58 => reply.transport[0] = 129,
        _ => {
            reply.set_port(0, original.port(2));
            reply.set_port(2, original.port(0));
        }
    }
    if reply.protocol == TCP {
        reply.transport[13] = SYN | ACK;
    }
    reply
}

/// Source ports by which the opening table marks connections.
const MARKED: std::ops::Range<u16> = 2000..3000;
const MARKED_NEXT: std::ops::Range<u16> = 3000..4000;

/// The table under which the connections are opened.
pub fn opening_table(mark: u32, next: u32) -> String {
    let marks = [(MARKED, mark), (MARKED_NEXT, next)].map(|(ports, mark)| {
        format!(
            "    meta l4proto {{ 6, 17 }} th sport {}-{} ct mark set {mark}\n",
            ports.start,
            ports.end - 1
        )
    });
    format!(
        "table inet opening {{
  chain marks {{
    type filter hook prerouting priority -140;
{}  }}
  chain forwards {{
    type nat hook prerouting priority -100;
    iifname vpnd0 ip daddr 10.64.10.2 tcp dport 8080 dnat ip to 192.168.1.5:80
    iifname vpnd0 ip daddr 10.64.10.2 tcp dport 8081 dnat ip to 192.168.1.5:81
    iifname vpnd0 ip6 daddr fd64::10:2 udp dport 9999 dnat ip6 to [fd00:1::5]:9999
    iifname vpnd0 ip6 daddr fd64::10:2 udp dport 9998 dnat ip6 to [fd00:1::5]:9998
  }}
}}
",
        marks.concat()
    )
}

/// Connections between every two ends, to the router's services, and through port forwards.
pub fn connections(mark: u32, next: u32, random: &mut Rng) -> Vec<Open> {
    let ends: Vec<End> = DEVICES.iter().map(|device| End::Device(device.name)).chain([End::Router]).collect();
    let mut open = Vec::new();
    for from in &ends {
        for to in ends.iter().filter(|to| *to != from) {
            for (v4, _) in [true, false].into_iter().flat_map(|v4| [(v4, 0), (v4, 1), (v4, 2)]) {
                let mut original = plain(*from, *to, v4, random);
                if original.protocol == 47 {
                    original.become_protocol(UDP);
                }
                open.push((*from, *to, original, 0));
            }
        }
    }
    for device in ["wan", "usb0"] {
        for (ports, mark) in [(MARKED, mark), (MARKED_NEXT, next), (4000..5000, 0)] {
            for (protocol, port) in [(TCP, 22), (TCP, 23), (UDP, 1194), (UDP, 1195)] {
                for v4 in [true, true, true, false] {
                    let mut original = plain(End::Device(device), End::Router, v4, random);
                    original.transport = Vec::new();
                    original.become_protocol(protocol);
                    original.set_port(0, random.u16(ports.clone()));
                    original.set_port(2, port);
                    if v4 && device == "wan" {
                        // Within the prefix that a listed service is for.
                        original.source = IpAddr::from([198, 51, 100, random.u8(64..80)]);
                    }
                    if protocol == TCP {
                        original.transport[13] = SYN;
                    }
                    open.push((End::Device(device), End::Router, original, mark));
                }
            }
        }
    }
    // To listed prefixes, and to the API.
    for from in [End::Router, End::Device("br-lan"), End::Device("br-guest")] {
        for (text, port) in
            [("192.168.100.70", 80), ("fd00:dead::70", 80), ("192.0.2.10", 443), ("2001:db8:a::10", 443)]
        {
            let Ok(to) = text.parse::<IpAddr>() else { continue };
            for protocol in [TCP, TCP, UDP] {
                let mut original = plain(from, End::Device("wan"), to.is_ipv4(), random);
                (original.destination, original.transport) = (to, Vec::new());
                original.become_protocol(protocol);
                original.set_port(0, random.u16(5000..));
                original.set_port(2, port);
                if protocol == TCP {
                    original.transport[13] = SYN;
                }
                open.push((from, End::Device("wan"), original, 0));
            }
        }
    }
    let mut open: Vec<Open> = open
        .into_iter()
        .map(|(from, to, original, mark)| {
            let reply = answer(&original, from, to);
            Open { from, to, original, reply, mark, dnat: false }
        })
        .collect();
    for (protocol, port, to, to_port) in [
        (TCP, 8080, "192.168.1.5", 80),
        (TCP, 8081, "192.168.1.5", 81),
        (UDP, 9999, "fd00:1::5", 9999),
        (UDP, 9998, "fd00:1::5", 9998),
    ] {
        let Ok(to) = to.parse::<IpAddr>() else { continue };
        for _ in 0..4 {
            let (from, lan) = (End::Device("vpnd0"), End::Device("br-lan"));
            let mut original = plain(from, End::Router, to.is_ipv4(), random);
            original.transport = Vec::new();
            original.become_protocol(protocol);
            original.set_port(0, random.u16(5000..));
            original.set_port(2, port);
            if protocol == TCP {
                original.transport[13] = SYN;
            }
            let mut inside = original.clone();
            inside.destination = to;
            inside.set_port(2, to_port);
            let reply = answer(&inside, from, lan);
            open.push(Open { from, to: lan, original, reply, mark: 0, dnat: true });
        }
    }
    open
}

/// A later packet of an open connection.
pub fn later(shot: &Shot) -> Shot {
    let mut shot = shot.clone();
    if shot.protocol == TCP {
        shot.transport[13] = ACK;
    }
    shot
}
