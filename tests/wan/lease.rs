//! Row 2.3 by busybox's udhcpc, as on OpenWrt, and busybox's udhcpd at the ISP.
//!
//! udhcpc takes no lease for less than 122 s (`perform_renew`'s caller in udhcpc.c wants room for a renewal by
//! unicast), so its clock goes 20 times as fast: libfaketime does that to the client alone.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::{Value, json};
use vpnd::sorted::Map;

use crate::netns::{name, net};
use crate::router::{Dhcp, Router, assert_listed, dhcp, end};

const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const SPEED: u32 = 20;
const LEASE_S: u32 = 122;
/// By the tests' clock.
const LEASE: Duration = Duration::from_millis(LEASE_S as u64 * 1000 / SPEED as u64);

const WAN: &str = "config interface 'wan'\n\toption device 'wan0'\n\toption proto 'dhcp'\n";

/// Debian's programs, which are not installed.
pub fn unpacked(packages: &[&str]) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unpack");
    let output = Command::new(script).args(packages).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// What OpenWrt's lib/netifd/dhcp.script does with a lease: address and routes, the latter without `onlink`; then the
/// packages' own scripts, with vpnd's real one among them. The client's clock is not theirs.
const SCRIPT: &str = "#!/bin/sh
unset LD_PRELOAD FAKETIME
echo \"$1 $ip $serverid\" >> DIR/leases
case \"$1\" in
deconfig) ip -4 addr flush dev \"$interface\" ;;
bound | renew)
	ip addr replace \"$ip/24\" broadcast + dev \"$interface\"
	ip route replace default via \"$router\" dev \"$interface\"
	;;
esac
. DIR/50-vpnd
";

const SERVER_CONFIG: &str = "start 203.0.113.2\nend 203.0.113.2\ninterface eth0\nlease_file DIR/given\npidfile DIR/udhcpd.pid\n\
    min_lease 1\noption lease SECONDS\noption subnet 255.255.255.0\noption router 203.0.113.1\n";

/// The ISP's server and the router's client, and who watches the router's addresses.
struct Lease {
    children: [Option<Child>; 3],
}

impl Lease {
    /// Until the lease is had.
    fn ask(r: &Router) -> Self {
        let programs = unpacked(&["busybox", "libfaketime"]);
        let dir = r.dir.display().to_string();
        let write = |file: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt;
            let path = r.dir.join(file);
            std::fs::write(&path, text.replace("DIR", &dir).replace("SECONDS", &LEASE_S.to_string()))
                .unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        let hook = concat!(env!("CARGO_MANIFEST_DIR"), "/files/etc/udhcpc.user.d/50-vpnd");
        let hook = std::fs::read_to_string(hook).unwrap();
        assert_eq!(hook.matches("/usr/sbin/vpnd lease ").count(), 2);
        write("50-vpnd", &hook.replace("/usr/sbin/vpnd", "DIR/vpnd"));
        write("vpnd", &format!("#!/bin/sh\nexec {}\n", r.words("\"$@\"")));
        write("dhcp.script", SCRIPT);
        write("udhcpd.conf", SERVER_CONFIG);
        write("given", "");
        r.rtr("ip -4 addr flush dev wan0");
        let server = r.spawn("isp", "server", &format!("busybox udhcpd -f {dir}/udhcpd.conf"));
        // As OpenWrt's proto/dhcp.sh calls it.
        let client = format!(
            "env LD_PRELOAD={0}/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 FAKETIME=\"+0 x{SPEED}\" \
             {0}/bin/busybox udhcpc -p {dir}/udhcpc.pid -s {dir}/dhcp.script -f -t 0 -i wan0 -x hostname:OpenWrt -C -O 121",
            programs.display()
        );
        let client = r.spawn("rtr", "client", &client);
        let mut lease = Self { children: [Some(client), Some(server), None] };
        lease.until(r, "a lease is had", |r| events(r).contains(&"bound".to_owned()));
        lease.children[2] = Some(r.spawn("rtr", "addresses", "ip -o monitor address"));
        lease
    }

    #[track_caller]
    fn until(&self, r: &Router, what: &str, holds: impl Fn(&Router) -> bool) {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while !holds(r) {
            let (client, server) = (r.log("client"), r.log("server"));
            assert!(
                std::time::Instant::now() < end,
                "in vain until {what}: {client}\n{server}\n{}",
                r.log("log")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn monitored(r: &Router) -> bool {
        r.log("addresses").lines().any(|line| line.contains("Deleted") && line.contains("203.0.113.2/"))
    }

    /// The address stays for so many leases; what the client sent meanwhile, and how often it was answered.
    #[track_caller]
    fn kept(r: &Router, leases: f32, server: Option<Ipv4Addr>) -> (Vec<Dhcp>, usize) {
        let before = events(r).len();
        let frames = r.under_flood(&["wan0"], || std::thread::sleep(LEASE.mul_f32(leases)));
        assert_listed(&frames, server);
        let events = events(r);
        let since = &events[before..];
        assert!(since.iter().all(|event| event == "renew"), "{events:?}\n{}", r.log("client"));
        assert!(!Self::monitored(r), "the address vanished: {}", r.log("addresses"));
        assert!(r.rtr("ip -4 addr show dev wan0").contains("203.0.113.2/24"));
        (frames.iter().filter_map(|frame| dhcp(frame)).collect(), since.len())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.children.iter_mut().for_each(|child| end(child.take()));
    }
}

/// What the client's script was called for.
fn events(r: &Router) -> Vec<String> {
    r.log("leases").lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

fn count(sent: &[Dhcp], kind: Dhcp) -> usize {
    sent.iter().filter(|found| **found == kind).count()
}

/// The ISP no longer takes what comes to the server's own address.
fn deaf_to_unicast(r: &Router) {
    r.house.sh("isp", "nft \"table ip deaf { chain c { type filter hook input priority 0; ip daddr 203.0.113.1 udp dport 67 drop; }; }\"");
}

/// Takes a row's rules out of whatever table of vpnd's has them; how many there were.
pub fn without_row(r: &Router, row: &str) -> usize {
    let mut commands = Vec::new();
    for table in ["inet vpnd", "inet vpnd_guard", "netdev vpnd_egress"] {
        let listed = r.rtr(&format!("nft -j -a list table {table} || echo {{}}"));
        let listed: Value = serde_json::from_str(&listed).unwrap();
        for rule in listed["nftables"].as_array().into_iter().flatten().map(|object| &object["rule"]) {
            if rule["comment"].as_str().is_some_and(|comment| comment.starts_with(&format!("{row} "))) {
                let key =
                    ["family", "table", "chain", "handle"].map(|part| (part.to_owned(), rule[part].clone()));
                commands.push(json!({ "delete": { "rule": serde_json::Map::from_iter(key) } }));
            }
        }
    }
    let file = r.dir.join("without");
    std::fs::write(&file, json!({ "nftables": commands }).to_string()).unwrap();
    r.rtr(&format!("nft -j -f {}", file.display()));
    commands.len()
}

/// Side by side, as both wait most of the time.
#[test]
fn a_lease_survives_boot_and_three_lease_times_blocked_and_connected() {
    std::thread::scope(|scope| {
        scope.spawn(from_boot_on);
        scope.spawn(while_connected);
    });
}

/// As a router comes up: the network is there before the daemon.
fn from_boot_on() {
    let r = Router::new(WAN);
    r.leaves_while_open(&["wan0"], &super::both());
    r.rtr(&r.words("block"));
    let _lease = Lease::ask(&r);
    // No unicast at boot: nobody knows whose it is. The lease is renewed all the same.
    let (sent, renewed) = Lease::kept(&r, 1.1, None);
    assert_eq!(count(&sent, Dhcp::Server(SERVER)), 0, "{sent:?}");
    assert!(count(&sent, Dhcp::Broadcast(OWN)) > 0 && renewed > 0, "{sent:?}, renewed {renewed} times");

    r.blocked();
    r.until("the lease's server is known", |r| {
        r.rtr("nft list table inet vpnd").contains("own server is asked to renew it")
    });
    let (sent, renewed) = Lease::kept(&r, 3.05, Some(SERVER));
    let unicast = count(&sent, Dhcp::Server(SERVER));
    assert!(unicast >= 3 && renewed >= 3, "renewed {renewed} times, {unicast} by unicast: {sent:?}");

    deaf_to_unicast(&r);
    let (sent, renewed) = Lease::kept(&r, 1.1, Some(SERVER));
    assert!(count(&sent, Dhcp::Server(SERVER)) > 0, "it is asked first");
    assert!(count(&sent, Dhcp::Broadcast(OWN)) > 0 && renewed > 0, "{sent:?}, renewed {renewed} times");

    // The control: without the row the lease is lost. The daemon would put its rules back.
    r.kill();
    let rules = without_row(&r, "2.3");
    assert!(rules > 6, "{rules} rules");
    let before = events(&r).len();
    let frames = r.under_flood(&["wan0"], || {
        r.within(LEASE * 3, "the lease is lost", |r| events(r)[before..].contains(&"deconfig".to_owned()));
    });
    assert_listed(&frames, None);
    assert!(Lease::monitored(&r) && !r.rtr("ip -4 addr show dev wan0").contains("203.0.113.2/24"));
    assert_eq!(
        frames.iter().filter_map(|frame| dhcp(frame)).count(),
        0,
        "and nothing of the client's leaves"
    );
}

/// The rules and the barrier of a connected router; the tunnel's device is away, as there may be no WireGuard.
fn while_connected() {
    let r = Router::new(WAN);
    r.leaves_while_open(&["wan0"], &super::both());
    let lease = "--wan=wan0=203.0.113.0/24,2001:db8:203::/64 --lease=wan0=203.0.113.1";
    let rules = r.words(&format!("ruleset --state=connected --format=json {lease}"));
    r.rtr(&format!("{rules} | nft -j -f -"));
    let config = r.dir.join("config");
    r.house.run("rtr", move || async move {
        let settings = vpnd::config::load(&config).settings;
        let tunnel =
            vpnd::policy::TunnelStance { device: name("vpnd0"), addresses: vec![net("10.64.0.2/32")] };
        let router = vpnd::routing::Router::open().unwrap();
        let leases = Map::from([(name("wan0"), SERVER)]);
        let facts = router.facts(&settings, &name("vpnd0"), &leases).await.unwrap();
        router.raise(&settings, &facts, Some(&tunnel)).await.unwrap();
    });
    let _lease = Lease::ask(&r);
    let (sent, renewed) = Lease::kept(&r, 3.05, Some(SERVER));
    let unicast = count(&sent, Dhcp::Server(SERVER));
    assert!(unicast >= 3 && renewed >= 3, "renewed {renewed} times, {unicast} by unicast: {sent:?}");
    assert_eq!(count(&sent, Dhcp::Broadcast(OWN)), 0, "{sent:?}");
    // The control: its own rules and ip rule are what lets the renewal out; udhcpc goes on by broadcast, which
    // no hook at this layer stops.
    assert!(without_row(&r, "2.3") > 2);
    let (sent, _) = Lease::kept(&r, 0.8, None);
    assert_eq!(count(&sent, Dhcp::Server(SERVER)), 0, "{sent:?}");
}
