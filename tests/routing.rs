//! The routing barrier alone: no nftables table exists in any of these namespaces.
#![allow(clippy::unwrap_used)]

mod netns;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netns::{FRAMES, From, House, INTERNET, INTERNET6, leaks, name, net, settings};
use vpnd::config::{LanRoute, Mark, PortProto, Settings, WanService};
use vpnd::policy::{Facts, TunnelStance};
use vpnd::routing::{Path, Router, sysctl, watch};
use vpnd::sorted::Map;

fn stance() -> TunnelStance {
    TunnelStance { device: name("vpnd0"), addresses: vec![net("10.64.0.9/32"), net("fc00:bbbb::9/128")] }
}

fn facts(house: &House, settings: &Settings) -> Facts {
    let settings = settings.clone();
    house.run("rtr", move || async move {
        let leases = Map::from([(name("wan0"), "203.0.113.1".parse().unwrap())]);
        Router::open().unwrap().facts(&settings, &name("vpnd0"), &leases).await.unwrap()
    })
}

fn raise(house: &House, settings: &Settings, tunnel: Option<TunnelStance>) {
    let (facts, settings) = (facts(house, settings), settings.clone());
    house.run("rtr", move || async move {
        Router::open().unwrap().raise(&settings, &facts, tunnel.as_ref()).await.unwrap();
    });
}

fn lower(house: &House) {
    house.run("rtr", || async { Router::open().unwrap().lower().await.unwrap() });
}

fn standing(house: &House) -> bool {
    house.run("rtr", || async { Router::open().unwrap().standing().await.unwrap() })
}

fn route_to(house: &House, to: &str) -> Option<Path> {
    let to: IpAddr = to.parse().unwrap();
    house
        .run("rtr", move || async move { Router::open().unwrap().route_to(to, Mark::DEFAULT).await.unwrap() })
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// Frames of each kind that got to the ISP.
fn probe(house: &House) -> BTreeMap<&'static str, usize> {
    let udp = |place: &'static str, to: SocketAddr, from: From| {
        leaks(&house.capture(|| {
            house.inside(place, move || netns::send_udp(to, &from));
        }))
    };
    let tcp = |place: &'static str, to: SocketAddr| {
        leaks(&house.capture(|| house.inside(place, move || netns::connect_tcp(to))))
    };
    let ping = |place: &'static str, to: &str| {
        leaks(&house.capture(|| {
            for _ in 0..3 {
                house.ping(place, to, Duration::from_millis(50));
            }
        }))
    };
    let (v4, v6) = (at(INTERNET, 9999), at(INTERNET6, 9999));
    let source = |address: &str| From { address: address.parse().ok(), ..From::default() };
    let bound = || From { device: Some("wan0"), ..From::default() };
    BTreeMap::from([
        ("LAN UDP v4", udp("cli", v4, From::default())),
        ("LAN UDP v6", udp("cli", v6, From::default())),
        ("LAN TCP v4", tcp("cli", v4)),
        ("LAN TCP v6", tcp("cli", v6)),
        ("LAN ICMP v4", ping("cli", INTERNET)),
        ("LAN ICMP v6", ping("cli", INTERNET6)),
        ("second LAN UDP v4", udp("cli2", v4, From::default())),
        ("LAN DHCP to the internet", udp("cli", at(INTERNET, 67), From { port: 68, ..From::default() })),
        (
            "LAN DHCP to the lease's server",
            udp("cli", at("203.0.113.1", 67), From { port: 68, ..From::default() }),
        ),
        ("router UDP v4", udp("rtr", v4, From::default())),
        ("router UDP v6", udp("rtr", v6, From::default())),
        ("router TCP v4", tcp("rtr", v4)),
        ("router TCP v6", tcp("rtr", v6)),
        ("router ICMP v4", ping("rtr", INTERNET)),
        ("router ICMP v6", ping("rtr", INTERNET6)),
        ("router with WAN address v4", udp("rtr", v4, source("203.0.113.2"))),
        ("router with WAN address v6", udp("rtr", v6, source("2001:db8:203::2"))),
        ("router to the WAN's own network v4", udp("rtr", at("203.0.113.1", 80), From::default())),
        ("router to the WAN's own network v6", udp("rtr", at("2001:db8:203::1", 80), From::default())),
        ("router bound to WAN v6", udp("rtr", v6, bound())),
        (GAP, udp("rtr", v4, bound())),
    ])
}

/// No ip rule can stop these: the kernel sends a bound IPv4 socket's packet on-link when the
/// look-up fails (ip_route_output_key_hash_rcu). The firewall layers do.
const GAP: &str = "router bound to WAN v4";

fn assert_closed(seen: &BTreeMap<&'static str, usize>, when: &str) {
    for (kind, frames) in seen {
        if *kind == GAP {
            assert_eq!(*frames, FRAMES, "the known gap, {when}: document it as closed");
        } else {
            assert_eq!(*frames, 0, "{kind} left in the clear, {when}");
        }
    }
}

#[test]
fn nothing_leaks_with_the_barrier_alone() {
    let house = House::build();
    for (kind, frames) in probe(&house) {
        assert!(frames > 0, "control: {kind} did not get out of an open router");
    }
    let before = house.tables();

    raise(&house, &settings(), None);
    assert!(standing(&house));
    assert_closed(&probe(&house), "no tunnel");

    house.hostile_routes();
    assert_closed(&probe(&house), "no tunnel, hostile routes in main");

    raise(&house, &settings(), Some(stance()));
    assert_closed(&probe(&house), "tunnel wanted but absent, hostile routes");

    for prefix in netns::OPTION_121 {
        house.sh("rtr", &format!("ip route del {prefix}"));
    }
    for prefix in netns::OPTION_121_V6 {
        house.sh("rtr", &format!("ip -6 route del {prefix}"));
    }
    lower(&house);
    assert!(!standing(&house));
    assert_eq!(house.tables(), before, "lowering left something behind");
    lower(&house);
}

#[test]
fn marked_packets_and_listed_prefixes_and_services_go_out_of_the_wan() {
    let house = House::build();
    let mut settings = settings();
    settings.allow_wan_private = vec![net("198.51.100.1/32"), net("2001:db8:100::1/128")];
    settings.allow_wan_service = vec![
        WanService { proto: PortProto::Udp, port: 7000, source: None },
        WanService { proto: PortProto::Tcp, port: 7001, source: Some(net("203.0.113.0/24")) },
    ];
    let mark = settings.mark;
    let gets_out = |place: &'static str, to: SocketAddr, from: From| {
        leaks(&house.capture(|| {
            house.inside(place, move || netns::send_udp(to, &from));
        }))
    };
    let marked = |mark: Mark| From { mark: Some(mark.value()), ..From::default() };
    let (relay, relay6) = (at("203.0.113.1", 51820), at("2001:db8:203::1", 51820));

    raise(&house, &netns::settings(), None);
    for mark in [mark, mark.service()] {
        assert_eq!(gets_out("rtr", relay, marked(mark)), FRAMES);
        assert_eq!(gets_out("rtr", relay6, marked(mark)), FRAMES);
    }
    let other = Mark::new(mark.value() ^ 0x100, mark.mask()).unwrap();
    assert_eq!(gets_out("rtr", relay, marked(other)), 0, "a foreign mark got out");
    assert_eq!(gets_out("cli", at(INTERNET, 1), From::default()), 0);
    assert_eq!(gets_out("rtr", relay, From { port: 7000, ..From::default() }), 0);

    raise(&house, &settings, None);
    for place in ["cli", "rtr"] {
        assert_eq!(gets_out(place, at(INTERNET, 1), From::default()), FRAMES, "2.8 from {place}");
        assert_eq!(gets_out(place, at(INTERNET6, 1), From::default()), FRAMES, "2.8 from {place}");
    }
    assert_eq!(gets_out("rtr", relay, From::default()), 0);
    // 2.9: the service's answers have a route although nothing has marked them yet.
    assert_eq!(gets_out("rtr", relay, From { port: 7000, ..From::default() }), FRAMES);
    assert_eq!(gets_out("rtr", relay6, From { port: 7000, ..From::default() }), FRAMES);
    assert_eq!(gets_out("cli", relay, From { port: 7000, ..From::default() }), 0, "forwarded");
    let listener = house.inside("rtr", || std::net::TcpListener::bind("0.0.0.0:7001").unwrap());
    let reached = house.inside("isp", || {
        std::net::TcpStream::connect_timeout(&at("203.0.113.2", 7001), Duration::from_secs(2)).is_ok()
    });
    assert!(reached, "a WAN host cannot reach a listed service");
    drop(listener);
}

#[test]
fn wan_routes_can_be_set_behind_the_barrier() {
    let house = House::build();
    house.sh("rtr", "ip route del default; ip -6 route del default");
    let settings = settings();
    let mut facts = facts(&house, &settings);
    // A device that only configuration knows yet.
    let mut later = facts.wan[0].clone();
    later.name = name("wan9");
    facts.wan.push(later);
    let without = Facts { wan: Vec::new(), ..facts.clone() };
    let raise = |facts: Facts| {
        let settings = settings.clone();
        house.run("rtr", move || async move {
            Router::open().unwrap().raise(&settings, &facts, None).await.unwrap();
        });
    };
    let default = "ip route add default via 203.0.113.1 dev wan0";
    raise(without);
    assert!(!house.try_sh("rtr", default), "control: the kernel checks the gateway by the rules");
    raise(facts);
    house.sh("rtr", default);
    house.sh("rtr", "ip -6 route add default via 2001:db8:203::1 dev wan0");
    house.sh("rtr", "ip -6 route replace default via fe80::1 dev wan0");
    house.sh("rtr", "ip link add wan9 type veth peer name far9; ip link set wan9 up; ip link set far9 up; ip addr add 100.64.0.2/24 dev wan9; ip route add 203.0.114.0/24 via 100.64.0.1 dev wan9");
    assert_eq!(route_to(&house, INTERNET), Some(Path { device: name("wan0"), mtu: 1500 }));
}

/// As pppd does: a device of another name is renamed, and the route set at once.
#[test]
fn a_device_that_configuration_names_gets_its_route_as_soon_as_it_appears() {
    let house = House::build();
    house.sh("rtr", "ip route del default");
    let appear = "ip link add ppp0 type veth peer name far0; ip link set ppp0 name pppoe-wan; ip addr add 100.64.0.2 peer 100.64.0.1 dev pppoe-wan; ip link set far0 up; ip link set pppoe-wan up; ip route add default via 100.64.0.1 dev pppoe-wan";
    raise(&house, &settings(), None);
    assert!(!house.try_sh("rtr", appear), "control: the kernel checks the gateway by the rules");
    house.sh("rtr", "ip link del pppoe-wan");

    let mut settings = settings();
    settings.wan_names = vec![name("pppoe-wan"), name("wan0")];
    raise(&house, &settings, None);
    house.sh("rtr", appear);
    let wanted = house.tables();
    raise(&house, &settings, None);
    let rules = |tables: &str| tables.lines().filter(|line| line.contains("oif pppoe-wan")).count();
    assert_eq!((rules(&wanted), rules(&house.tables())), (1, 1));
    assert_eq!(house.tables().matches("oif wan0").count(), 1, "named and present: one rule");
}

#[test]
fn lan_networks_reach_each_other_and_the_router() {
    let house = House::build();
    let mut settings = settings();
    settings.lan.routes = vec![LanRoute {
        prefix: net("192.168.9.0/24"),
        gateway: "192.168.2.2".parse().unwrap(),
        device: name("lan1"),
    }];
    house
        .sh("rtr", "ip addr add 192.168.3.1/24 dev lan0; ip -6 addr add 2001:db8:203:1::1/64 dev lan0 nodad");
    house
        .sh("cli", "ip addr add 192.168.3.2/24 dev eth0; ip -6 addr add 2001:db8:203:1::2/64 dev eth0 nodad");
    // The WAN claims the LAN's addresses; LAN addresses stay the LAN's.
    house.sh("rtr", "ip route add 192.168.1.2/32 via 203.0.113.1 dev wan0; ip route add 192.168.2.0/25 via 203.0.113.1 dev wan0");
    raise(&house, &settings, None);
    let link_local = house.sh("rtr", "ip -6 -o addr show dev lan0 scope link");
    let link_local = link_local.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned();
    for to in
        ["192.168.1.1", "192.168.2.1", "192.168.2.2", "192.168.9.1", "fd00:1::1", "fd00:2::2", "203.0.113.2"]
    {
        assert!(house.pings("cli", to), "a LAN client cannot reach {to}");
    }
    assert!(house.pings("cli", &format!("{link_local}%eth0")), "only IPv6 link-local to the router");
    for to in ["192.168.1.2", "192.168.2.2", "192.168.3.2", "192.168.9.1", "fd00:1::2", "2001:db8:203:1::2"] {
        assert!(house.pings("rtr", to), "the router cannot reach {to}");
    }
    let source = house.sh("rtr", "ip route get 192.168.3.2");
    assert!(source.contains("src 192.168.3.1"), "{source}");
    // A device that goes down and comes back has its routes after the next call.
    house.sh("rtr", "ip link set lan1 down");
    raise(&house, &settings, None);
    house.sh("rtr", "ip link set lan1 up; ip -6 addr replace fd00:2::1/64 dev lan1 nodad");
    raise(&house, &settings, None);
    assert!(house.pings("cli", "192.168.2.2") && house.pings("cli", "fd00:2::2"));
}

/// Contract, section 0: nobody knows which device is LAN, and the owner must get in to mend that.
#[test]
fn without_a_known_lan_the_router_answers_on_every_link_and_reaches_nothing_beyond() {
    use vpnd::config::Lan;
    let house = House::build();
    let unknown = Settings::fallback(Lan::default());
    house.hostile_routes();
    raise(&house, &unknown, None);
    for (place, to) in
        [("cli", "192.168.1.1"), ("cli", "fd00:1::1"), ("cli2", "192.168.2.1"), ("cli2", "fd00:2::1")]
    {
        assert!(house.pings(place, to), "{place} is locked out of {to}");
    }
    let mut seen = probe(&house);
    // Those on the uplink's own link cannot be told from an owner there; the firewall answers only
    // who spoke first.
    seen.retain(|kind, _| !kind.starts_with("router to the WAN's own network"));
    assert_closed(&seen, "no LAN known, hostile routes");
    raise(&house, &unknown, None);
    assert!(house.pings("cli", "192.168.1.1"), "after it was raised again");
    raise(&house, &settings(), None);
    assert_closed(&probe(&house), "the LAN is known again");
}

#[test]
fn a_lan_device_without_ipv6_is_no_obstacle() {
    let house = House::build();
    house.sh("rtr", "sysctl -qw net.ipv6.conf.lan0.disable_ipv6=1; ip link set lan1 mtu 1000");
    let mut settings = settings();
    settings.lan.devices.push(vpnd::config::LanDevice {
        name: name("br-later"),
        prefixes: vec![net("192.168.5.0/24"), net("fd00:5::/64")],
        forward: true,
    });
    raise(&house, &settings, Some(stance()));
    let wanted = house.tables();
    raise(&house, &settings, Some(stance()));
    assert_eq!(house.tables(), wanted);
    assert!(house.pings("cli", "192.168.1.1") && house.pings("cli", "192.168.2.2"));
}

#[test]
fn raising_is_idempotent_and_mends() {
    let house = House::build();
    let settings = settings();
    raise(&house, &settings, None);
    let wanted = house.tables();
    raise(&house, &settings, None);
    assert_eq!(house.tables(), wanted, "raising twice changed something");

    house.sh("rtr", "ip rule flush; ip -6 rule flush; ip rule add lookup main pref 32766; ip rule add lookup default pref 32767; ip -6 rule add lookup main pref 32766");
    house.sh("rtr", "ip route flush table 7651; ip -6 route flush table 7652");
    raise(&house, &settings, None);
    assert_eq!(house.tables(), wanted, "netifd's flush was not mended");

    // The range is ours: what others put there to lead around the barrier goes.
    house.sh("rtr", "ip rule add pref 105 lookup main; ip -6 rule add pref 199 from fd00:1::/64 lookup main suppress_prefixlength 0; ip rule add pref 100 fwmark 0x1 lookup main");
    house.sh("rtr", "ip route add 198.51.100.0/24 via 203.0.113.1 dev wan0 table 7652; ip -6 route add default via fe80::1 dev wan0 table 7651 metric 5");
    house.sh(
        "rtr",
        "ip rule add pref 99 to 10.99.0.0/16 lookup main; ip route add 10.99.0.0/16 dev lan0 table 99",
    );
    raise(&house, &settings, None);
    house.sh("rtr", "ip rule del pref 99; ip route del 10.99.0.0/16 table 99");
    assert_eq!(house.tables(), wanted, "foreign rules or routes stayed, or too much went");
}

#[test]
fn changes_are_heard() {
    let house = House::build();
    let name = house.name("rtr");
    house.run("rtr", move || async move {
        let mut changes = watch().unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(300), changes.next()).await;
        assert!(quiet.is_err(), "heard a change where none was");
        for words in [
            "ip rule add pref 5000 lookup main",
            "ip -6 rule add pref 5000 lookup main",
            "ip addr add 192.168.77.1/24 dev lan0",
            "ip -6 addr add fd00:77::1/64 dev lan0 nodad",
            "ip route add 10.77.0.0/16 dev lan0",
            "ip -6 route add fd00:78::/64 dev lan0",
            "ip link set lan1 down",
            "sysctl -qw net.ipv4.conf.wan0.rp_filter=1",
            // More than the queue holds: an overflow is a change as well.
            "for i in $(seq 1 3000); do echo rule add pref $((6000+i)) lookup main; done | ip -batch -",
        ] {
            let status = std::process::Command::new("ip")
                .args(["netns", "exec", &name, "sh", "-c", words])
                .status()
                .unwrap();
            assert!(status.success(), "{words}");
            tokio::time::timeout(Duration::from_secs(2), changes.next()).await.expect(words).unwrap();
            while tokio::time::timeout(Duration::from_millis(200), changes.next()).await.is_ok() {}
        }
    });
}

#[test]
fn facts_tell_lan_from_wan() {
    let house = House::build();
    house.sh("rtr", "ip link add br0 type bridge; ip link add port0 type veth peer name port1; ip link set port0 master br0; ip tuntap add mode tun name vpnd0");
    house.sh("rtr", "ip addr add 10.0.0.1 peer 10.0.0.2 dev port1; ip link set port1 up; ip link set br0 up");
    let facts = facts(&house, &settings());
    let lan: Vec<&str> = facts.lan_prefixes.keys().map(|name| name.as_str()).collect();
    assert_eq!(lan, ["lan0", "lan1"]);
    assert_eq!(facts.lan_prefixes.get(&name("lan0")).unwrap(), &[net("192.168.1.0/24"), net("fd00:1::/64")]);
    let wan: Vec<&str> = facts.wan.iter().map(|wan| wan.name.as_str()).collect();
    assert_eq!(wan, ["br0", "port1", "wan0"]);
    assert_eq!(facts.wan[1].prefixes, [net("10.0.0.1/32"), net("10.0.0.2/32")]);
    assert_eq!(facts.wan[2].prefixes, [net("203.0.113.0/24"), net("2001:db8:203::/64")]);
    assert_eq!(facts.wan[2].lease_server, Some("203.0.113.1".parse().unwrap()));
}

#[test]
fn the_path_to_a_relay_is_that_of_a_marked_packet() {
    let house = House::build();
    raise(&house, &settings(), None);
    let wan = |mtu| Some(Path { device: name("wan0"), mtu });
    assert_eq!(route_to(&house, INTERNET), wan(1500));
    assert_eq!(route_to(&house, INTERNET6), wan(1500));
    house.sh("rtr", "ip link set wan0 mtu 1492; ip route replace default via 203.0.113.1 dev wan0 mtu 1400");
    assert_eq!(route_to(&house, INTERNET), wan(1400));
    assert_eq!(route_to(&house, INTERNET6), wan(1492));
    assert_eq!(route_to(&house, "127.0.0.1"), None);
    house.sh("rtr", "ip route replace unreachable default; ip -6 route del default");
    assert_eq!(route_to(&house, INTERNET), None);
    assert_eq!(route_to(&house, INTERNET6), None);
    house.sh("rtr", "ip link set wan0 down");
    assert_eq!(route_to(&house, "203.0.113.1"), None);
}

/// What the router writes into a `tun` device of the tunnel's name, until the device is gone.
struct Tunnel {
    packets: std::sync::Arc<std::sync::Mutex<Vec<Vec<u8>>>>,
}

impl Tunnel {
    fn create(house: &House) -> Self {
        use std::io::Read;
        use std::os::fd::AsRawFd;
        let mut file = house.inside("rtr", || {
            let file = std::fs::File::options().read(true).write(true).open("/dev/net/tun").unwrap();
            let mut request = [0u8; 40];
            request[..5].copy_from_slice(b"vpnd0");
            let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as u16;
            request[16..18].copy_from_slice(&flags.to_ne_bytes());
            // SAFETY: `request` has the size of struct ifreq.
            let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, request.as_mut_ptr()) };
            assert_eq!(made, 0);
            file
        });
        house.sh("rtr", "ip addr add 10.64.0.9/32 dev vpnd0; ip -6 addr add fc00:bbbb::9/128 dev vpnd0 nodad; ip link set vpnd0 up");
        let packets = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink = packets.clone();
        std::thread::spawn(move || {
            let mut buffer = [0u8; 2048];
            while let Ok(length) = file.read(&mut buffer) {
                sink.lock().unwrap().push(buffer[..length].to_vec());
            }
        });
        Self { packets }
    }

    /// Packets to port 9999 since the last call.
    fn take(&self) -> usize {
        std::thread::sleep(Duration::from_millis(100));
        let packets = std::mem::take(&mut *self.packets.lock().unwrap());
        let port = |packet: &Vec<u8>| {
            let at = if packet[0] >> 4 == 4 { 22 } else { 42 };
            packet.get(at..at + 2) == Some(&9999u16.to_be_bytes())
        };
        packets.iter().filter(|packet| port(packet)).count()
    }
}

#[test]
fn the_tunnel_carries_router_and_lan_until_it_is_gone() {
    let house = House::build();
    house.hostile_routes();
    raise(&house, &settings(), Some(stance()));
    let tunnel = Tunnel::create(&house);
    raise(&house, &settings(), Some(stance()));
    let send = |place: &'static str, to: &'static str, from: From| {
        let frames = house.capture(|| {
            house.inside(place, move || netns::send_udp(at(to, 9999), &from));
        });
        (leaks(&frames), tunnel.take())
    };
    let wan_address = |address: &str| From { address: address.parse().ok(), ..From::default() };
    for (place, to, from) in [
        ("cli", INTERNET, From::default()),
        ("cli", INTERNET6, From::default()),
        ("cli2", INTERNET, From::default()),
        ("rtr", INTERNET, From::default()),
        ("rtr", INTERNET6, From::default()),
        ("rtr", INTERNET, wan_address("203.0.113.2")),
        ("rtr", INTERNET6, wan_address("2001:db8:203::2")),
        ("rtr", "203.0.113.77", From::default()),
    ] {
        assert_eq!(send(place, to, from), (0, FRAMES), "(WAN, tunnel) {place} to {to}");
    }
    let marked = From { mark: Some(Mark::DEFAULT.value()), ..From::default() };
    assert_eq!(send("rtr", INTERNET, marked.clone()), (FRAMES, 0), "the outer packets");
    assert!(house.pings("cli", "192.168.2.2") && house.pings("cli", "fd00:2::2"));

    // Only the families that the tunnel has.
    let v4_only = TunnelStance { addresses: vec![net("10.64.0.9/32")], ..stance() };
    raise(&house, &settings(), Some(v4_only));
    assert_eq!(send("cli", INTERNET, From::default()), (0, FRAMES));
    assert_eq!(send("cli", INTERNET6, From::default()), (0, 0));

    raise(&house, &settings(), Some(stance()));
    // A route of `main` that refuses holds for the router alone, and opens nothing.
    house.sh("rtr", "ip route add blackhole 198.51.100.5; ip -6 route add prohibit 2001:db8:100::5");
    for to in ["198.51.100.5", "2001:db8:100::5"] {
        assert_eq!(send("rtr", to, From::default()), (0, 0), "{to}");
        assert_eq!(send("cli", to, From::default()), (0, FRAMES), "{to}");
    }

    house.sh("rtr", "ip link del vpnd0");
    for to in [INTERNET, INTERNET6] {
        assert_eq!(send("cli", to, From::default()), (0, 0), "the tunnel was deleted");
        assert_eq!(send("rtr", to, From::default()), (0, 0), "the tunnel was deleted");
    }
}

/// A lease of 20 s, renewed by a real client after 10 s, with the barrier up and no tunnel, on a
/// router that validated sources strictly.
#[test]
fn a_lease_is_renewed_and_only_with_its_server() {
    let house = House::build();
    let folder = std::env::temp_dir().join(house.name("dhcp"));
    std::fs::create_dir(&folder).unwrap();
    let path = |file: &str| folder.join(file).display().to_string();
    std::fs::write(path("udhcpd.conf"), format!(
        "interface eth0\nstart 203.0.113.50\nend 203.0.113.50\nmin_lease 10\noption lease 20\noption subnet 255.255.255.0\nlease_file {}\npidfile {}\n",
        path("leases"), path("pid"))).unwrap();
    std::fs::write(path("leases"), "").unwrap();
    // As a DHCP client's script on a router: the address; the route is netifd's.
    std::fs::write(path("script"), "#!/bin/sh\ncase $1 in bound|renew) echo $1 >>$0.log; ip addr replace $ip/24 dev $interface;; deconfig) ip addr flush dev $interface scope global;; esac\n").unwrap();
    house.sh("rtr", &format!("chmod +x {}; ip addr flush dev wan0", path("script")));
    house.sh("rtr", "sysctl -qw net.ipv4.conf.all.rp_filter=1");
    let (run, facts) = (folder.clone(), facts(&house, &settings()));
    house.inside("rtr", move || sysctl::raise(&run, &settings().lan, &facts).unwrap());
    raise(&house, &settings(), None);
    let spawn = |place: &str, words: String| {
        let place = house.name(place);
        std::process::Command::new("ip")
            .args(["netns", "exec", &place])
            .args(words.split(' '))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut server = spawn("isp", format!("busybox udhcpd -f {}", path("udhcpd.conf")));
    let mut client = spawn("rtr", format!("busybox udhcpc -f -i wan0 -s {} -t 8 -T 1", path("script")));
    let log = || std::fs::read_to_string(path("script.log")).unwrap_or_default();
    let wait = |word: &str, seconds: u64| {
        (0..seconds * 10).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            log().contains(word)
        })
    };
    let bound = wait("bound", 10);
    raise(&house, &settings(), None);
    let mut renewed = false;
    let frames = house.capture(|| renewed = wait("renew", 19));
    client.kill().unwrap();
    server.kill().unwrap();
    client.wait().unwrap();
    server.wait().unwrap();
    let outside = log();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(bound, "no lease: {outside}");
    assert!(renewed, "not renewed within the lease: {outside}");
    let sent: Vec<SocketAddr> =
        frames.iter().filter(|f| !netns::is_housekeeping(f)).filter_map(|f| netns::udp_to(f)).collect();
    assert!(sent.iter().all(|to| *to == at("203.0.113.1", 67)), "{sent:?}");
    assert!(!sent.is_empty(), "the renewal was not unicast");

    // A client whose socket is not bound to the device: by the rule of its server alone.
    let from = From { address: "203.0.113.50".parse().ok(), port: 68, ..From::default() };
    let send = |to: &'static str, port: u16| {
        let from = from.clone();
        leaks(&house.capture(|| {
            house.inside("rtr", move || netns::send_udp(at(to, port), &from));
        }))
    };
    assert_eq!(send("203.0.113.1", 67), FRAMES);
    assert_eq!(send("203.0.113.1", 68), 0);
    assert_eq!(send("203.0.113.77", 67), 0);
    assert_eq!(send(INTERNET, 67), 0);
}

#[test]
fn mending_and_changing_the_barrier_under_a_flood_lets_nothing_out() {
    const CHANGES: u32 = 400;
    let house = House::build();
    house.hostile_routes();
    raise(&house, &settings(), Some(stance()));
    let _tunnel = Tunnel::create(&house);
    let facts = facts(&house, &settings());
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let frames = house.capture(|| {
        let floods: Vec<_> = [("cli", INTERNET), ("cli", INTERNET6), ("rtr", INTERNET), ("rtr", INTERNET6)]
            .into_iter()
            .map(|(place, to)| {
                let (stop, sent) = (stop.clone(), sent.clone());
                house.inside(place, move || {
                    let any = if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
                    let socket = std::net::UdpSocket::bind(any).unwrap();
                    std::thread::spawn(move || {
                        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                            let _ = socket.send_to(b"flood", at(to, 9999));
                            sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            std::thread::sleep(Duration::from_micros(500));
                        }
                    })
                })
            })
            .collect();
        house.run("rtr", move || async move {
            let router = Router::open().unwrap();
            let mut other = settings();
            other.mark = Mark::new(0x51, 0xff).unwrap();
            other.allow_wan_private = vec![net("192.0.2.0/24"), net("2001:db8:5::/48")];
            for turn in 0..CHANGES {
                let (settings, tunnel) = match turn % 4 {
                    0 => (settings(), None),
                    1 => (settings(), Some(stance())),
                    2 => (other.clone(), Some(stance())),
                    _ => (other.clone(), None),
                };
                router.raise(&settings, &facts, tunnel.as_ref()).await.unwrap();
            }
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for flood in floods {
            flood.join().unwrap();
        }
    });
    let sent = sent.load(std::sync::atomic::Ordering::Relaxed);
    println!("{CHANGES} changes, {sent} packets meanwhile");
    assert!(sent > 1000);
    assert_eq!(leaks(&frames), 0);
}

/// Answers every datagram to port 5300, as a resolver or an SSH server would, until dropped.
struct Echo(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Echo {
    fn start(house: &House) -> Self {
        let socket = house.inside("rtr", || std::net::UdpSocket::bind("[::]:5300").unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::spawn(move || {
            let mut buffer = [0u8; 64];
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        Self(stop)
    }

    fn answers(house: &House, to: &'static str) -> bool {
        house.inside("cli", move || {
            let any = if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let socket = std::net::UdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
            socket.connect(at(to, 5300)).unwrap();
            (0..3).any(|_| socket.send(b"hello").is_ok() && socket.recv(&mut [0u8; 64]).is_ok())
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The words that let the router's own packets go by the LAN's routes in `main`.
const LAN_IN_MAIN: &str = "lookup main suppress_prefixlength 0 suppress_ifgroup ";

fn lan_in_main(house: &House) -> usize {
    house.tables().lines().filter(|line| line.starts_with("111:") && line.contains(LAN_IN_MAIN)).count()
}

/// The interface group of every device of the router.
fn groups(house: &House) -> BTreeMap<String, u32> {
    let lines = house.sh("rtr", "cd /sys/class/net; grep . */netdev_group");
    let read = |line: &str| {
        let (path, group) = line.split_once(':').unwrap();
        (path.trim_end_matches("/netdev_group").to_owned(), group.parse().unwrap())
    };
    lines.lines().map(read).collect()
}

/// Contract 2.2: nothing raises the barrier again in this test.
#[test]
fn with_a_dead_daemon_the_router_answers_a_lan_that_went_down_and_up() {
    let house = House::build();
    let _echo = Echo::start(&house);
    // fd00 addresses do not survive a device that goes down; netifd puts them there again.
    let bounce = "ip link set lan0 down; ip link set lan0 up; ip -6 addr replace fd00:1::1/64 dev lan0 nodad";
    let answered = |to: [&'static str; 2], when: &str| {
        for to in to {
            assert!(house.pings("cli", to), "{to} does not answer a ping, {when}");
            assert!(Echo::answers(&house, to), "{to} does not answer a datagram, {when}");
        }
        let link_local = house.sh("rtr", "ip -6 -o addr show dev lan0 scope link");
        let link_local = link_local.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned();
        assert!(house.pings("cli", &format!("{link_local}%eth0")), "link-local, {when}");
    };
    let home = ["192.168.1.1", "fd00:1::1"];
    house.sh("rtr", bounce);
    answered(home, "control: no barrier");
    for tunnel in [false, true] {
        let stance = tunnel.then(stance);
        let _tunnel = tunnel.then(|| Tunnel::create(&house));
        if !tunnel {
            house.hostile_routes();
        }
        raise(&house, &settings(), stance);
        answered(home, "barrier");
        let frames = house.capture(|| {
            house.sh("rtr", bounce);
            let lost = house.sh("rtr", "ip route show table 7651");
            assert!(!lost.contains("192.168.1."), "control: the barrier's own routes are gone: {lost}");
            answered(home, "down and up");
            house.sh("rtr", "ip addr flush dev lan0 scope global; ip addr add 192.168.7.1/24 dev lan0; ip -6 addr add fd00:7::1/64 dev lan0 nodad");
            house.sh("cli", "ip addr replace 192.168.7.2/24 dev eth0; ip -6 addr replace fd00:7::2/64 dev eth0 nodad");
            answered(["192.168.7.1", "fd00:7::1"], "another address");
        });
        assert_eq!(leaks(&frames), 0);
        assert_closed(&probe_router(&house), "after that");
        house.sh("rtr", "ip addr flush dev lan0 scope global; ip addr add 192.168.1.1/24 dev lan0; ip -6 addr add fd00:1::1/64 dev lan0 nodad");
    }
}

/// The part of [`probe`] that a rule for the router's own packets can open.
fn probe_router(house: &House) -> BTreeMap<&'static str, usize> {
    let mut seen = probe(house);
    seen.retain(|kind, _| kind.starts_with("router"));
    seen
}

/// Every kind of route that a hostile uplink, or several, can put into `main`.
#[test]
fn no_route_of_the_wan_opens_what_the_lan_has_in_main() {
    let house = House::build();
    let send = |to: &'static str| {
        leaks(&house.capture(|| {
            house.inside("rtr", move || netns::send_udp(at(to, 9999), &From::default()));
        }))
    };
    raise(&house, &settings(), None);
    assert_eq!(lan_in_main(&house), 2, "one rule in each family: {}", house.tables());
    // A device that appears while the daemon is dead; its far end is the ISP as well.
    let isp = house.name("isp");
    house.sh("rtr", &format!("ip link add wan1 type veth peer name eth1 netns {isp}; ip link set wan1 up; ip addr add 203.0.114.2/24 dev wan1"));
    house.sh("isp", "ip link set eth1 up; ip addr add 203.0.114.1/24 dev eth1");
    // The rule that a barrier must not have: whatever is more specific than a default route.
    let open = |family: &str, add: bool| {
        let verb = if add { "add" } else { "del" };
        let words = "pref 90 iif lo lookup main suppress_prefixlength 0";
        house.sh("rtr", &format!("ip {family} rule {verb} {words}"));
    };
    let mut kinds = vec![
        ("-4", "198.51.100.0/24 dev wan0".to_owned(), INTERNET),
        ("-4", "198.51.100.1/32 via 203.0.113.1 dev wan0 onlink".to_owned(), INTERNET),
        ("-4", "198.51.100.0/24 nexthop via 203.0.113.1 dev wan0 nexthop via 203.0.113.1 dev wan0 onlink".to_owned(), INTERNET),
        ("-6", "2001:db8:100::/64 via fe80::1 dev wan0 onlink".to_owned(), INTERNET6),
        ("-6", "2001:db8:100::/64 nexthop via 2001:db8:203::1 dev wan0 nexthop via fe80::1 dev wan0".to_owned(), INTERNET6),
        ("-6", "2001:db8:100::/64 nexthop via fd00:1::2 dev lan0 nexthop via 2001:db8:203::1 dev wan0 weight 250".to_owned(), INTERNET6),
        ("-6", "2001:db8:100::/64 nexthop via 2001:db8:203::1 dev wan0 weight 250 nexthop via fd00:1::2 dev lan0".to_owned(), INTERNET6),
    ];
    kinds.extend(netns::OPTION_121.map(|to| ("-4", format!("{to} via 203.0.113.1 dev wan0"), INTERNET)));
    kinds.extend(
        netns::OPTION_121_V6.map(|to| ("-6", format!("{to} via 2001:db8:203::1 dev wan0"), INTERNET6)),
    );
    house.sh(
        "isp",
        "ip -6 addr add fe80::1/64 dev eth0 nodad; ip -6 addr add 2001:db8:100::1/64 dev eth0 nodad",
    );
    for (family, route, to) in &kinds {
        // The halves that do not hold the destination prove nothing.
        let proves = !route.starts_with("0.0.0.0/1 ") && !route.starts_with("8000::/1 ");
        house.sh("rtr", &format!("ip {family} route add {route}"));
        assert_eq!(send(to), 0, "{route}");
        open(family, true);
        assert!(!proves || send(to) > 0, "control: {route} does not lead to the WAN");
        open(family, false);
        house.sh("rtr", &format!("ip {family} route del {route}"));
    }

    house.hostile_routes();
    house.sh("rtr", "ip route add 198.51.100.1/32 via 203.0.114.1 dev wan1 onlink metric 1; ip route add 192.168.1.2/32 via 203.0.113.1 dev wan0; ip -6 route add fd00:1::2/128 via 2001:db8:203::1 dev wan0");
    assert_closed(&probe(&house), "hostile routes of every kind");
    // The LAN's addresses, claimed by the uplink: with the barrier's own routes gone as well, the
    // answers to them end in the barrier.
    house.sh(
        "rtr",
        "ip link set lan0 down; ip link set lan0 up; ip -6 addr replace fd00:1::1/64 dev lan0 nodad",
    );
    assert_eq!((send("192.168.1.2"), send("fd00:1::2")), (0, 0));
    house.sh("rtr", "ip route del 198.51.100.1/32 metric 1");

    // IPv4 judges a route by its first next hop alone.
    house.sh("rtr", "ip route replace 198.51.100.1/32 nexthop via 192.168.1.2 dev lan0 nexthop via 203.0.113.1 dev wan0 weight 250");
    house.sh("rtr", "sysctl -qw net.ipv4.fib_multipath_hash_policy=1");
    let spread = || {
        leaks(&house.capture(|| {
            house.inside("rtr", || {
                for port in 9000..9020 {
                    netns::send_udp(at(INTERNET, port), &From::default());
                }
            });
        }))
    };
    assert!(spread() > 0, "control: next hops on both sides open the rule");
    raise(&house, &settings(), None);
    assert_eq!((lan_in_main(&house), spread()), (0, 0), "next hops on both sides");
}

#[test]
fn a_wan_device_in_a_group_closes_what_the_lan_has_in_main() {
    let house = House::build();
    house.hostile_routes();
    let raise = || raise(&house, &settings(), None);
    raise();
    assert_eq!(lan_in_main(&house), 2);
    house.sh("rtr", "ip link set wan0 group 5");
    let udp = || {
        leaks(&house.capture(|| {
            house.inside("rtr", || netns::send_udp(at(INTERNET, 9999), &From::default()));
        }))
    };
    assert!(udp() > 0, "control: a device in a group is not suppressed");
    raise();
    assert_eq!(lan_in_main(&house), 0, "the rule stayed");
    assert_closed(&probe(&house), "a WAN device in a group");
    let named = {
        let facts = facts(&house, &settings());
        house.inside("rtr", move || {
            // SAFETY: constant C strings; the mount is in a mount namespace of this thread alone.
            unsafe {
                assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
                let (none, nothing) = (std::ptr::null(), std::ptr::null());
                let private = libc::MS_REC | libc::MS_PRIVATE;
                assert_eq!(libc::mount(none, c"/".as_ptr(), none, private, nothing), 0);
                let sysfs = c"sysfs".as_ptr();
                assert_eq!(libc::mount(sysfs, c"/sys".as_ptr(), sysfs, 0, nothing), 0);
            }
            vpnd::routing::grouped_devices(&facts)
        })
    };
    assert_eq!(named, [name("wan0")], "what `status` warns of");

    // In ours: it goes back to where new devices are.
    house.sh("rtr", "ip link set wan0 group 7651");
    raise();
    assert_eq!((groups(&house)["wan0"], lan_in_main(&house)), (0, 2));
    assert_closed(&probe_router(&house), "a WAN device that was in the barrier's group");

    // A LAN device that configuration makes unfit may be an uplink.
    let mut unfit = settings();
    unfit.lan.devices[1].forward = false;
    self::raise(&house, &unfit, None);
    assert_eq!((groups(&house)["lan0"], groups(&house)["lan1"]), (7651, 0));
    assert_eq!(lan_in_main(&house), 2);
    house.sh("rtr", "ip link set lan1 group 5");
    self::raise(&house, &unfit, None);
    assert_eq!(lan_in_main(&house), 0, "an unfit LAN device in a group");
    house.sh("rtr", "ip link set lan1 group 0");

    // The port of a bridge counts when routes lead over it.
    house.sh("rtr", "ip link add br0 type bridge; ip link add port0 group 5 type veth peer name port1; ip link set port0 master br0; ip link set port0 up; ip link set port1 up; ip link set br0 up");
    raise();
    assert_eq!(lan_in_main(&house), 2, "a port without routes");
    house.sh("rtr", "ip route add 198.51.100.77/32 dev port0");
    raise();
    assert_eq!(lan_in_main(&house), 0, "a port with a route");
}

#[test]
fn lowering_restores_groups_and_rules() {
    let house = House::build();
    // A LAN device in a group of its owner's stays there, and is answered all the same.
    house.sh("rtr", "ip link set lan0 group 9");
    let before = (groups(&house), house.tables());
    raise(&house, &settings(), Some(stance()));
    let raised = groups(&house);
    assert_eq!([raised["lan0"], raised["lan1"], raised["wan0"], raised["lo"]], [9, 7651, 0, 0]);
    assert_eq!(lan_in_main(&house), 2);
    let wanted = house.tables();
    raise(&house, &settings(), Some(stance()));
    assert_eq!((groups(&house), house.tables()), (raised, wanted), "raising twice changed something");
    house.sh(
        "rtr",
        "ip link set lan0 down; ip link set lan0 up; ip -6 addr replace fd00:1::1/64 dev lan0 nodad",
    );
    assert!(house.pings("cli", "192.168.1.1") && house.pings("cli", "fd00:1::1"));
    lower(&house);
    assert_eq!((groups(&house), house.tables()), before, "lowering left something behind");
}
