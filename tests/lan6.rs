//! What the LAN gets of IPv6, with a real client and the real radvd in odhcpd's place: it announces what netifd
//! and odhcpd make of the files that vpnd wrote. The tunnel is a wire. Needs root.
#![allow(clippy::unwrap_used)]

mod netns;

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netns::{House, INTERNET6, connected, leaks};
use vpnd::config::uci::{Section, Value, parse};
use vpnd::config::{Settings, load};
use vpnd::lan6::Follower;
use vpnd::policy::Stance;

const NETWORK: &str = "config globals 'globals'\n\toption ula_prefix 'fd12:3456:789a::/48'\n\n\
    config interface 'lan'\n\toption device 'lan0'\n\toption proto 'static'\n\toption ipaddr '192.168.1.1/24'\n\toption ip6assign '64'\n\n\
    config interface 'wan6'\n\toption device 'wan0'\n\toption proto 'dhcpv6'\n";
const DHCP: &str = "config dhcp 'lan'\n\toption interface 'lan'\n\toption ra 'server'\n";
const VPND: &str = "config vpnd 'main'\n\tlist lan_network 'lan'\n\n\
    config tunnel\n\toption private_key 'yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk='\n\tlist address '10.64.0.9/32'\n";
const IPV6: &str = "\tlist address 'fc00:bbbb::9/128'\n";
/// The router's address in the LAN's own prefix, and in that of the ISP.
const ULA: &str = "fd12:3456:789a:1::1/64";
const ISPS: &str = "2001:db8:1:1::1/64";
/// Also for a busy machine; Happy Eyeballs wait 250 ms.
const AT_ONCE: Duration = Duration::from_millis(100);

/// netifd, interface-ip.c (`interface_update_prefix_assignments`): all classes, or those that are listed. odhcpd,
/// router.c (`send_router_advert`): a default route, here always in `main`, and an address that is public, or any
/// with `ra_default`.
fn announced(dir: &Path) -> (Vec<&'static str>, u32) {
    let section = |file: &str| -> Section {
        let package = parse(&fs::read(dir.join(file)).unwrap()).unwrap();
        package.sections.into_iter().find(|section| section.name == "lan").unwrap()
    };
    let classes: Vec<String> = match section("network").get("ip6class").map(|entry| entry.value.clone()) {
        None => Vec::new(),
        Some(Value::Text(one)) => vec![String::from_utf8(one.bytes).unwrap()],
        Some(Value::List(all)) => all.into_iter().map(|one| String::from_utf8(one.bytes).unwrap()).collect(),
    };
    let assigned = |class: &str| classes.is_empty() || classes.iter().any(|listed| listed == class);
    let mut prefixes = Vec::new();
    prefixes.extend(assigned("local").then_some(ULA));
    prefixes.extend(assigned("wan6").then_some(ISPS));
    let default: u32 = section("dhcp").text("ra_default").map_or(0, |text| text.parse().unwrap());
    let valid = default > 1 || prefixes.contains(&ISPS) || default == 1 && !prefixes.is_empty();
    (prefixes, if valid { 1800 } else { 0 })
}

struct Home {
    house: House,
    dir: PathBuf,
    radvd: Option<Child>,
}

impl Drop for Home {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What the client has.
#[derive(Debug, PartialEq, Eq)]
struct Has {
    own: bool,
    isps: bool,
    default_route: bool,
}

impl Home {
    fn new() -> Self {
        let house = House::build();
        house.lay_tunnel();
        house.sh("cli", "ip -6 addr flush dev eth0; ip -6 route flush dev eth0; sysctl -qw net.ipv6.conf.eth0.accept_ra=1");
        house.sh("isp", "ip -6 route add 2001:db8:1::/48 via 2001:db8:203::2");
        house.inside("isp", || {
            let listener = TcpListener::bind("[::]:80").unwrap();
            std::thread::spawn(move || listener.incoming().for_each(drop));
        });
        let dir = std::env::temp_dir().join(house.name("lan6"));
        fs::create_dir_all(&dir).unwrap();
        for (file, text) in [("network", NETWORK), ("dhcp", DHCP), ("firewall", "")] {
            fs::write(dir.join(file), text).unwrap();
        }
        Self { house, dir, radvd: None }
    }

    fn settings(&self, ipv6: bool) -> Settings {
        fs::write(self.dir.join("vpnd"), format!("{VPND}{}", if ipv6 { IPV6 } else { "" })).unwrap();
        let loaded = load(&self.dir);
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        loaded.settings
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.radvd.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The router announces what the files say, to a client that is switched on.
    fn switched_on(&mut self) -> Has {
        self.stop();
        let (prefixes, lifetime) = announced(&self.dir);
        let mut text = format!(
            "interface lan0 {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime {lifetime};\n"
        );
        self.house.sh("rtr", "ip -6 addr flush dev lan0 scope global");
        for prefix in &prefixes {
            self.house.sh("rtr", &format!("ip -6 addr add {prefix} dev lan0 nodad"));
            text += &format!("prefix {prefix} {{ AdvOnLink on; AdvAutonomous on; }};\n");
        }
        let conf = self.dir.join("radvd.conf");
        fs::write(&conf, text + "};\n").unwrap();
        self.house.sh("cli", "ip link set eth0 down; ip -6 addr flush dev eth0; ip link set eth0 up");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.house.name("rtr"), "radvd", "-n", "-m", "stderr"]);
        command.arg("-C").arg(&conf).arg("-p").arg(self.dir.join("radvd.pid")).stderr(Stdio::null());
        self.radvd = Some(command.spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(15);
        loop {
            let addresses = self.house.sh("cli", "ip -6 addr show dev eth0 scope global");
            let has =
                |prefix: &str| addresses.contains(prefix.strip_suffix("1/64").unwrap().trim_end_matches(':'));
            if has(ULA) {
                // All are in one advertisement.
                let default_route = !self.house.sh("cli", "ip -6 route show default").is_empty();
                return Has { own: true, isps: has(ISPS), default_route };
            }
            assert!(Instant::now() < until, "no advertisement: {addresses}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// By TCP, and by what a datagram hears: what each ends with, and when.
    fn reaches(&self) -> [(Option<ErrorKind>, Duration); 2] {
        self.house.inside("cli", || {
            let to = |port| SocketAddr::new(INTERNET6.parse().unwrap(), port);
            let begun = Instant::now();
            let tcp = TcpStream::connect_timeout(&to(80), Duration::from_secs(2)).err().map(|e| e.kind());
            let tcp = (tcp, begun.elapsed());
            let begun = Instant::now();
            let udp = || {
                let socket = UdpSocket::bind("[::]:0")?;
                socket.set_read_timeout(Some(Duration::from_secs(2)))?;
                socket.connect(to(9))?;
                socket.send(b"probe")?;
                socket.recv(&mut [0; 16])
            };
            [tcp, (udp().err().map(|e| e.kind()), begun.elapsed())]
        })
    }

    #[track_caller]
    fn refused_at_once(&self, when: &str) {
        let frames = self.house.capture(|| {
            for (error, took) in self.reaches() {
                // Not by a time that ran out.
                let said =
                    error.is_some_and(|kind| kind != ErrorKind::TimedOut && kind != ErrorKind::WouldBlock);
                assert!(said && took < AT_ONCE, "{when}: {error:?} after {took:?}");
            }
        });
        assert_eq!(leaks(&frames), 0, "{when}");
    }

    fn files(&self) -> [String; 2] {
        ["network", "dhcp"].map(|name| fs::read_to_string(self.dir.join(name)).unwrap())
    }
}

#[test]
fn the_lan_gets_the_vpns_ipv6_or_a_refusal_at_once_and_never_the_isps_prefix() {
    let mut home = Home::new();
    let mut follower = Follower::new(&home.dir, &home.dir);
    let everything = Has { own: true, isps: true, default_route: true };

    // The control: without vpnd the LAN has the ISP's prefix, and reaches the internet with it.
    follower.follow(Some(&home.settings(true)), false, || true);
    assert_eq!((home.files(), home.switched_on()), ([NETWORK, DHCP].map(str::to_owned), everything));
    let begin = Instant::now();
    while home.reaches()[0].0.is_some() {
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", home.reaches());
    }

    // A VPN with IPv6.
    let settings = home.settings(true);
    follower.follow(Some(&settings), true, || true);
    home.house.enforce(&connected(&["10.64.0.9/32", "fc00:bbbb::9/128"]), &settings);
    assert_eq!(home.switched_on(), Has { own: true, isps: false, default_route: true });
    home.house.enforce(&connected(&["10.64.0.9/32", "fc00:bbbb::9/128"]), &settings);
    let frames = home.house.capture(|| assert_eq!(home.reaches()[0].0, None, "through the tunnel"));
    assert_eq!(leaks(&frames), 0, "past the tunnel");
    // Blocked: the client still has its default route, and hears at once that it leads nowhere.
    home.house.enforce(&Stance::Blocked { api: false }, &settings);
    home.refused_at_once("blocked");

    // A VPN without: no default route, so that the client itself says no.
    let settings = home.settings(false);
    follower.follow(Some(&settings), true, || true);
    home.house.enforce(&connected(&["10.64.0.9/32"]), &settings);
    assert_eq!(home.switched_on(), Has { own: true, isps: false, default_route: false });
    home.refused_at_once("no default route");
    // The owner has one announced all the same: ICMPv6 says no.
    fs::write(home.dir.join("dhcp"), format!("{DHCP}\toption ra_default '2'\n")).unwrap();
    assert_eq!(home.switched_on(), Has { own: true, isps: false, default_route: true });
    for stance in [connected(&["10.64.0.9/32"]), Stance::Blocked { api: false }] {
        home.house.enforce(&stance, &settings);
        home.refused_at_once("a default route, and no IPv6 in the VPN");
    }
    fs::write(home.dir.join("dhcp"), DHCP).unwrap();

    // Open again: as it was, to the byte.
    follower.follow(Some(&settings), false, || true);
    assert_eq!(home.files(), [NETWORK, DHCP]);
    assert_eq!(home.switched_on(), Has { own: true, isps: true, default_route: true });
}
