//! The kernel settings that go with the routing barrier. No nftables table exists in these namespaces.
#![allow(clippy::unwrap_used)]

mod netns;

use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::Duration;

use netns::{From, House, name, settings};
use vpnd::config::Settings;
use vpnd::policy::Facts;
use vpnd::routing::{Router, sysctl};
use vpnd::sorted::Map;

const DEVICES: [&str; 5] = ["all", "default", "lan0", "lan1", "wan0"];

/// A house with a run folder, which goes away with it.
struct Home {
    house: House,
    run: PathBuf,
}

impl Home {
    /// `strict`: the values of rp_filter of [`DEVICES`] before vpnd comes.
    fn build(strict: [u8; 5]) -> Self {
        let house = House::build();
        let run = std::env::temp_dir().join(house.name("run"));
        std::fs::create_dir(&run).unwrap();
        let home = Self { house, run };
        // `default` first: it goes to every device that has no value of its own yet.
        for (device, value) in DEVICES.iter().zip(strict).skip(1).chain([(&"all", strict[0])]) {
            home.set(device, value);
        }
        home
    }

    fn set(&self, device: &str, value: u8) {
        self.house.sh("rtr", &format!("echo {value} >/proc/sys/net/ipv4/conf/{device}/rp_filter"));
    }

    fn get(&self, device: &str) -> u8 {
        let text = self.house.sh("rtr", &format!("cat /proc/sys/net/ipv4/conf/{device}/rp_filter"));
        text.trim().parse().unwrap()
    }

    fn values(&self) -> [u8; 5] {
        DEVICES.map(|device| self.get(device))
    }

    fn facts(&self, settings: &Settings) -> Facts {
        let settings = settings.clone();
        self.house.run("rtr", move || async move {
            let router = Router::open().unwrap();
            router.facts(&settings, &name("vpnd0"), &Map::new()).await.unwrap()
        })
    }

    fn raise(&self, settings: &Settings) {
        let (run, facts, settings) = (self.run.clone(), self.facts(settings), settings.clone());
        self.house.run("rtr", move || async move {
            sysctl::raise(&run, &settings.lan, &facts).unwrap();
            Router::open().unwrap().raise(&settings, &facts, None).await.unwrap();
        });
    }

    fn lower(&self) {
        let run = self.run.clone();
        self.house.run("rtr", move || async move {
            Router::open().unwrap().lower().await.unwrap();
            sysctl::lower(&run).unwrap();
        });
        assert!(!self.run.join("sysctl.json").exists());
    }

    /// What a WAN needs while blocked, from the router's side and from the gateway's.
    fn wan_works(&self, when: &str) {
        let house = &self.house;
        house.sh("isp", "ip neigh flush all; ip neigh del 203.0.113.2 dev eth0 2>/dev/null || true");
        house.ping("isp", "203.0.113.2", Duration::from_millis(300));
        let neighbour = house.sh("isp", "ip neigh show 203.0.113.2");
        assert!(neighbour.contains("lladdr"), "the gateway's ARP is not answered, {when}: {neighbour}");
        assert!(house.pings("rtr", "203.0.113.1%wan0"), "the gateway's pong is not heard, {when}");
        let socket = house.inside("rtr", || UdpSocket::bind("0.0.0.0:68").unwrap());
        let from = From { port: 67, ..From::default() };
        house.inside("isp", move || netns::send_udp("203.0.113.2:68".parse().unwrap(), &from));
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        assert!(socket.recv(&mut [0; 16]).is_ok(), "the DHCP server is not heard, {when}");
    }

    fn strict_devices(&self) -> Vec<String> {
        let facts = self.facts(&settings());
        let strict = self.house.inside("rtr", move || sysctl::strict_devices(&facts));
        strict.iter().map(ToString::to_string).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.run);
    }
}

#[test]
fn what_is_always_set_is_recorded_and_put_back() {
    let home = Home::build([0; 5]);
    let read = || {
        let words = "cd /proc/sys/net/ipv4/conf/all; cat src_valid_mark arp_ignore arp_announce";
        home.house.sh("rtr", words).replace('\n', " ")
    };
    home.house.sh("rtr", "sysctl -qw net.ipv4.conf.all.arp_announce=1");
    home.raise(&settings());
    assert_eq!(read(), "1 1 2 ");
    home.raise(&settings());
    home.lower();
    assert_eq!(read(), "0 0 1 ");
    home.lower();
}

/// Control: what the settings are for. If this fails, the kernel has learnt better.
#[test]
fn strict_validation_and_the_barrier_do_not_go_together() {
    let home = Home::build([1, 0, 0, 0, 0]);
    let (facts, settings) = (home.facts(&settings()), settings());
    home.house.run("rtr", move || async move {
        Router::open().unwrap().raise(&settings, &facts, None).await.unwrap();
    });
    assert_eq!(home.strict_devices(), ["wan0"]);
    assert!(!home.house.pings("rtr", "203.0.113.1%wan0"));
}

#[test]
fn the_wan_is_not_validated_while_the_barrier_stands() {
    for (before, during) in [
        //all, default, lan0, lan1, wan0
        ([0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
        ([1, 0, 0, 2, 0], [0, 0, 1, 2, 0]),
        ([2, 1, 1, 0, 1], [0, 1, 2, 2, 0]),
        ([0, 1, 1, 0, 2], [0, 1, 1, 0, 0]),
        ([0, 2, 2, 2, 2], [0, 2, 2, 2, 0]),
    ] {
        let home = Home::build(before);
        assert_eq!(home.values(), before);
        home.raise(&settings());
        assert_eq!(home.values(), during, "raised from {before:?}");
        assert_eq!(home.strict_devices(), Vec::<String>::new());
        home.wan_works(&format!("rp_filter was {before:?}"));
        // Twice, and as a daemon that crashed in between: what is recorded is not recorded anew.
        home.raise(&settings());
        assert_eq!(home.values(), during);
        home.lower();
        assert_eq!(home.values(), before, "lowered");
        home.raise(&settings());
        assert_eq!(home.values(), during, "raised again");
    }
}

#[test]
fn devices_that_come_later_or_change_sides_are_followed() {
    let home = Home::build([1, 2, 0, 0, 1]);
    home.raise(&settings());
    home.house.sh("rtr", "ip link add pppoe-wan type veth peer name far; ip link set pppoe-wan up");
    assert_eq!(home.get("pppoe-wan"), 2, "control: from default");
    assert_eq!(home.strict_devices(), ["far", "pppoe-wan"]);
    home.raise(&settings());
    assert_eq!(home.get("pppoe-wan"), 0);

    // Somebody sets it again while the barrier stands.
    home.set("wan0", 2);
    home.set("all", 2);
    home.raise(&settings());
    assert_eq!(home.values(), [0, 2, 1, 1, 0]);

    // wan0 becomes LAN, lan1 becomes WAN.
    let mut other = settings();
    other.lan.devices[1].name = name("wan0");
    home.raise(&other);
    assert_eq!(home.values(), [0, 2, 1, 0, 1]);
    home.raise(&settings());
    assert_eq!(home.values(), [0, 2, 1, 1, 0]);

    home.house.sh("rtr", "ip link del pppoe-wan");
    home.lower();
    assert_eq!(home.values(), [1, 2, 0, 0, 1]);
}

/// A value that somebody else set meanwhile is theirs.
#[test]
fn a_value_of_somebody_else_is_not_put_back() {
    let home = Home::build([1, 0, 0, 0, 0]);
    home.raise(&settings());
    home.set("lan0", 2);
    home.lower();
    assert_eq!(home.values(), [1, 0, 2, 0, 0]);
}
