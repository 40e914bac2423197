use std::net::SocketAddr;

use super::*;
use crate::config::{IfName, Lan, LanDevice, LanRoute, PortProto, TunnelSettings, WanService, WireguardKey};
use crate::policy::{TunnelStance, WanDevice};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn settings() -> Settings {
    let lan = Lan {
        devices: vec![
            LanDevice { name: name("br-lan"), prefixes: vec![net("192.168.1.0/24")], forward: true },
            LanDevice { name: name("br-guest"), prefixes: vec![net("192.168.2.0/24")], forward: true },
        ],
        routes: vec![LanRoute {
            prefix: net("192.168.9.0/24"),
            gateway: "192.168.2.2".parse().unwrap(),
            device: name("br-guest"),
        }],
    };
    Settings {
        allow_wan_private: vec![net("192.168.100.0/24")],
        allow_wan_service: vec![WanService {
            proto: PortProto::Tcp,
            port: 22,
            source: Some(net("203.0.113.0/24")),
        }],
        api: vec!["198.51.100.9:443".parse().unwrap()],
        tunnel: Some(TunnelSettings {
            private_key: WireguardKey::new([1; 32]),
            addresses: vec![net("10.64.0.9/32"), net("fc00:bbbb::9/128")],
            dns: Vec::new(),
            mtu: None,
            probe: Vec::new(),
        }),
        ..Settings::fallback(lan)
    }
}

fn facts() -> Facts {
    Facts {
        // The kernel knows more of the LAN than configuration does.
        lan_prefixes: [(name("br-lan"), vec![net("192.168.1.0/24"), net("fd00:1::/64")])].into(),
        wan: vec![WanDevice {
            name: name("wan"),
            prefixes: vec![net("203.0.113.0/24"), net("2001:db8:203::/64")],
            lease_server: Some("203.0.113.1".parse().unwrap()),
        }],
    }
}

fn tuple(source: &str, destination: &str) -> Tuple {
    let port = |text: &str| -> (IpAddr, u16) {
        text.parse::<SocketAddr>()
            .map_or_else(|_| (text.parse().unwrap(), 0), |address| (address.ip(), address.port()))
    };
    let ((source, source_port), (destination, destination_port)) = (port(source), port(destination));
    Tuple { source, destination, source_port, destination_port }
}

fn flow(protocol: u8, original: [&str; 2], reply: [&str; 2]) -> Flow {
    Flow {
        original: tuple(original[0], original[1]),
        reply: tuple(reply[0], reply[1]),
        protocol,
        mark: 0,
        status: 0,
        zone: 0,
    }
}

/// A flow that nothing translates.
fn plain(protocol: u8, from: &str, to: &str) -> Flow {
    flow(protocol, [from, to], [to, from])
}

fn tunnel() -> TunnelStance {
    TunnelStance { device: name("vpnd0"), addresses: vec![net("10.64.0.9/32"), net("fc00:bbbb::9/128")] }
}

fn stances() -> [Stance; 5] {
    let relay = "203.0.113.7:51820".parse().unwrap();
    [
        Stance::Open,
        Stance::Boot,
        Stance::Blocked { api: true },
        Stance::Connecting { relays: vec![relay], listen_port: 1, tunnel: Some(tunnel()), dns: false },
        Stance::Connected { relay, listen_port: 1, tunnel: tunnel() },
    ]
}

/// Open, boot, blocked, connecting, connected: `+` stays, `-` is deleted, `t` stays only when the
/// tunnel is spared.
fn verdicts(flow: &Flow) -> String {
    let letter =
        |stance: &Stance| match [true, false].map(|spare| fits(flow, stance, &settings(), &facts(), spare)) {
            [true, true] => '+',
            [true, false] => 't',
            [false, false] => '-',
            [false, true] => '!',
        };
    stances().iter().map(letter).collect()
}

#[test]
fn every_kind_of_flow_in_every_stance() {
    let mut service = plain(TCP, "203.0.113.5:4000", "203.0.113.2:22");
    service.mark = settings().mark.service().value();
    let unlisted = Flow {
        original: tuple("198.51.100.7:4000", "203.0.113.2:22"),
        reply: tuple("203.0.113.2:22", "198.51.100.7:4000"),
        ..service.clone()
    };
    let unmarked = Flow { mark: 0, ..service.clone() };
    let table = [
        ("loopback", plain(TCP, "127.0.0.1:1", "127.0.0.1:2"), "+++++"),
        ("loopback v6", plain(TCP, "[::1]:1", "[::1]:2"), "+++++"),
        ("router with its own WAN address", plain(TCP, "203.0.113.2:1", "203.0.113.2:2"), "+++++"),
        ("LAN to router", plain(TCP, "192.168.1.2:1", "192.168.1.1:22"), "+++++"),
        ("LAN to router v6, prefix from the kernel", plain(TCP, "[fd00:1::2]:1", "[fd00:1::1]:22"), "+++++"),
        ("LAN to LAN", plain(1, "192.168.1.2", "192.168.2.2"), "+++++"),
        ("LAN to a network behind the LAN", plain(UDP, "192.168.1.2:1", "192.168.9.2:2"), "+++++"),
        (
            "hairpin to a LAN server",
            flow(TCP, ["192.168.1.2:1", "203.0.113.2:80"], ["192.168.1.3:80", "192.168.1.1:1"]),
            "+++++",
        ),
        (
            "DNS taken over by the router",
            flow(UDP, ["192.168.1.2:1", "9.9.9.9:53"], ["192.168.1.1:53", "192.168.1.2:1"]),
            "+++++",
        ),
        ("IPv6 link-local", plain(UDP, "[fe80::1]:546", "[fe80::2]:547"), "+++++"),
        ("LAN multicast", plain(UDP, "192.168.1.2:5353", "224.0.0.251:5353"), "+++++"),
        ("DHCP on the LAN", plain(UDP, "0.0.0.0:68", "255.255.255.255:67"), "+++++"),
        ("DHCPv6 on the WAN", plain(UDP, "[fe80::1]:546", "[ff02::1:2]:547"), "+++++"),
        ("renewal of the lease", plain(UDP, "203.0.113.2:68", "203.0.113.1:67"), "+++++"),
        ("the server's answer", plain(UDP, "203.0.113.1:67", "203.0.113.2:68"), "+++++"),
        ("DHCP to another server", plain(UDP, "203.0.113.2:68", "198.51.100.1:67"), "+----"),
        (
            "DHCP of a LAN host to the server",
            flow(UDP, ["192.168.1.2:68", "203.0.113.1:67"], ["203.0.113.1:67", "203.0.113.2:68"]),
            "+----",
        ),
        (
            "LAN to the internet",
            flow(TCP, ["192.168.1.2:1", "198.51.100.1:443"], ["198.51.100.1:443", "203.0.113.2:1"]),
            "+----",
        ),
        ("LAN to the internet, routed", plain(TCP, "[fd00:1::2]:1", "[2001:db8:100::1]:443"), "+----"),
        ("router to the internet", plain(UDP, "203.0.113.2:1", "198.51.100.1:123"), "+----"),
        ("router to the relay, tracked", plain(UDP, "203.0.113.2:51820", "203.0.113.7:51820"), "+----"),
        (
            "from the internet to a LAN host",
            flow(TCP, ["198.51.100.1:1", "203.0.113.2:80"], ["192.168.1.3:80", "198.51.100.1:1"]),
            "+----",
        ),
        ("the API, from the router", plain(TCP, "203.0.113.2:1", "198.51.100.9:443"), "+-++-"),
        (
            "the API, from a LAN host",
            flow(TCP, ["192.168.1.2:1", "198.51.100.9:443"], ["198.51.100.9:443", "203.0.113.2:1"]),
            "+----",
        ),
        (
            "listed prefix",
            flow(TCP, ["192.168.1.2:1", "192.168.100.1:80"], ["192.168.100.1:80", "203.0.113.2:1"]),
            "+++++",
        ),
        (
            "from a listed prefix to a LAN host",
            flow(TCP, ["192.168.100.1:1", "203.0.113.2:80"], ["192.168.1.3:80", "192.168.100.1:1"]),
            "+----",
        ),
        ("listed service", service, "+++++"),
        ("listed service, another source", unlisted, "+----"),
        ("listed service, not marked", unmarked, "+----"),
        (
            "LAN through the tunnel",
            flow(TCP, ["192.168.1.2:1", "198.51.100.1:443"], ["198.51.100.1:443", "10.64.0.9:1"]),
            "---tt",
        ),
        (
            "LAN through the tunnel v6",
            flow(
                UDP,
                ["[fd00:1::2]:1", "[2001:db8:100::1]:443"],
                ["[2001:db8:100::1]:443", "[fc00:bbbb::9]:1"],
            ),
            "---tt",
        ),
        ("router through the tunnel", plain(UDP, "10.64.0.9:1", "198.51.100.1:53"), "---tt"),
        ("the API inside the tunnel", plain(TCP, "10.64.0.9:1", "198.51.100.9:443"), "---tt"),
        (
            "listed prefix, but translated to the tunnel",
            flow(TCP, ["192.168.1.2:1", "192.168.100.1:80"], ["192.168.100.1:80", "10.64.0.9:1"]),
            "---tt",
        ),
        (
            "listed prefix, but translated to a former tunnel",
            flow(TCP, ["192.168.1.2:1", "192.168.100.1:80"], ["192.168.100.1:80", "10.70.0.1:1"]),
            "-----",
        ),
        (
            "forwarded port of the tunnel",
            flow(TCP, ["198.51.100.1:1", "10.64.0.9:5000"], ["192.168.1.3:80", "198.51.100.1:1"]),
            "---tt",
        ),
        (
            "LAN through a tunnel whose address was changed",
            flow(TCP, ["192.168.1.2:1", "198.51.100.1:443"], ["198.51.100.1:443", "10.70.0.1:1"]),
            "-----",
        ),
        ("router with the tunnel's former address", plain(UDP, "10.70.0.1:1", "198.51.100.1:53"), "-----"),
    ];
    for (what, flow, wanted) in table {
        assert_eq!(verdicts(&flow), wanted, "{what}");
    }
}
