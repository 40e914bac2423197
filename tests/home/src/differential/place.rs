//! The router that packets are sent through, and its observer: a table of the test's own that says
//! of each packet into which hooks it came, what the kernel knows of it there, and whether it left them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use anyhow::{Context, Result};
use vpnd::config::IfName;

use super::log::{GROUP, Log};
use super::shot::{Origin, Shot};
use crate::ns::Netns;
use crate::raw::{Binding, Socket};
use crate::volley::Muzzle;

pub struct Device {
    pub name: &'static str,
    pub addresses: &'static [&'static str],
}

/// LAN, guest, a LAN device that forwards nothing, WAN, a device that nobody has heard of, and
/// vpnd's group.
pub const DEVICES: [Device; 7] = [
    Device { name: "br-lan", addresses: &["192.168.1.1/24", "fd00:1::1/64"] },
    Device { name: "br-guest", addresses: &["192.168.2.1/24", "fd00:2::1/64"] },
    Device { name: "eth7", addresses: &["192.168.7.1/24", "fd00:7::1/64"] },
    Device { name: "wan", addresses: &["203.0.113.2/24", "2001:db8:203::2/64"] },
    Device { name: "usb0", addresses: &["198.19.0.2/24", "2001:db8:1900::2/64"] },
    Device { name: "vpnd0", addresses: &["10.64.10.2/32", "fd64::10:2/128"] },
    Device { name: "vpnd1", addresses: &["10.65.10.2/32", "fd65::10:2/128"] },
];

/// Destinations by the device that leads to them, also those just beside what the rules name; the
/// tunnel has the default route.
const ROUTES: &str = "\
route add default dev vpnd0
route add 192.168.100.0/24 dev wan
route add 192.0.2.0/24 dev wan
route add 198.51.100.0/24 dev wan
route add 10.9.0.0/16 via 192.168.1.9 dev br-lan
route add 198.18.65.0/24 dev vpnd1
route add unreachable 198.18.99.0/24
route add 192.168.0.0/24 dev br-lan
route add 192.168.3.0/24 dev br-guest
route add 192.168.4.0/24 dev br-guest
route add 10.8.0.0/16 dev br-lan
route add 10.10.0.0/16 dev br-lan
route add 192.168.99.0/24 dev wan
route add 192.168.101.0/24 dev wan
route add fd00:1:0:1::/64 dev br-lan
route add fd00:deac::/32 dev wan
route add fd00:dead:1::/48 dev wan
route add ::/0 dev vpnd0
route add fd00:dead::/48 dev wan
route add 2001:db8:51::/64 dev wan
route add 2001:db8:a::/64 dev wan
route add 2001:db8:100::/48 dev wan
route add 2001:db8:65::/48 dev vpnd1
route add unreachable 2001:db8:99::/48";

/// IPv4 or not, the device and the mark that a socket is bound to.
type Bound = (bool, Option<&'static str>, u32);

/// Multicast groups that the router listens to.
const GROUPS: [&str; 2] = ["239.35.1.1/32", "ff3e::1/128"];

pub struct Place {
    pub router: Netns,
    pub log: Log,
    /// At the other end of each device; and the device's MAC address.
    ends: HashMap<&'static str, (Muzzle, [u8; 6])>,
    /// Raw sockets of the router's that were opened, by how they are bound. Closing one takes the
    /// kernel longer than sending through it.
    sockets: RefCell<HashMap<Bound, Socket>>,
    names: HashMap<u32, IfName>,
}

impl Place {
    /// # Errors
    /// When the kernel, `ip` or `nft` refuses something.
    pub fn build(marks: &[u32]) -> Result<Self> {
        let (router, outside) = (Netns::new("router")?, Netns::new("outside")?);
        outside.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        for (path, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/conf/all/accept_local", "1"),
        ] {
            router.sysctl(path, value)?;
        }
        let mut commands = String::new();
        for (n, device) in (1u8..).zip(&DEVICES) {
            let name = device.name;
            commands += &format!(
                "link add {name} address 02:00:00:00:08:{n:02x} type veth peer name {name} netns {}\n",
                outside.path()
            );
            for address in device.addresses {
                let nodad = if address.contains(':') { "nodad" } else { "" };
                commands += &format!("addr add {address} dev {name} {nodad}\n");
            }
            // For sockets that are bound to it.
            commands +=
                &format!("link set {name} up\nroute add ::/0 dev {name} metric {}\n", 5000 + u32::from(n));
        }
        router.ip(&(commands + "neigh replace 192.168.1.9 lladdr 02:00:00:00:07:09 dev br-lan\n"))?;
        let up: String = DEVICES.iter().map(|device| format!("link set {} up\n", device.name)).collect();
        outside.ip(&up)?;
        router.ip(ROUTES)?;
        for group in GROUPS {
            router.ip(&format!("addr add {group} dev wan autojoin"))?;
        }
        router.nft(&observer(marks))?;
        // A connection whose middle is not where conntrack thinks it is stays one.
        router.sysctl("net/netfilter/nf_conntrack_tcp_be_liberal", "1")?;
        let names = router.enter(|| {
            let index = |device: &Device| -> Result<(u32, IfName)> {
                let name = device.name.parse().map_err(|e| anyhow::anyhow!("{}: {e}", device.name))?;
                Ok((crate::wire::index_of(device.name)?.unsigned_abs(), name))
            };
            let mut names = DEVICES.iter().map(index).collect::<Result<HashMap<_, _>>>()?;
            names.insert(1, "lo".parse().map_err(|e| anyhow::anyhow!("lo: {e}"))?);
            Ok(names)
        })?;
        let log = Log::open(&router)?;
        let end = |(n, device): (u8, &Device)| {
            Ok((device.name, (Muzzle::new(&outside, device.name)?, [2, 0, 0, 0, 8, n])))
        };
        let ends = (1u8..).zip(&DEVICES).map(end).collect::<Result<_>>()?;
        Ok(Self { router, log, ends, sockets: RefCell::default(), names })
    }

    #[must_use]
    pub fn name(&self, index: u32) -> Option<IfName> {
        self.names.get(&index).cloned()
    }

    /// The router's own address on a device.
    #[must_use]
    pub fn own_address(&self, device: &IfName, v4: bool) -> Option<IpAddr> {
        own_address(device.as_str(), v4)
    }

    /// Sends all of them, in their order; what the kernel does not even route is not sent.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn fire(&self, shots: &[(u32, Shot)]) -> Result<()> {
        let mut rest = shots;
        while let Some((_, first)) = rest.first() {
            let same = |(_, shot): &&(u32, Shot)| shot.origin == first.origin && shot.v4() == first.v4();
            let count = rest.iter().take_while(same).count();
            let (now, later) = rest.split_at(count);
            rest = later;
            match &first.origin {
                Origin::Device(device) => {
                    let (muzzle, mac) = self.ends.get(device).context("no such device")?;
                    let frames: Vec<Vec<u8>> =
                        now.iter().map(|(serial, shot)| shot.frame(*serial, *mac)).collect();
                    muzzle.send(frames.iter())?;
                }
                Origin::Router { device, mark } => {
                    let mut sockets = self.sockets.borrow_mut();
                    let bound = (first.v4(), *device, *mark);
                    let socket = match sockets.entry(bound) {
                        Entry::Occupied(open) => open.into_mut(),
                        Entry::Vacant(place) => {
                            let mark = (*mark != 0).then_some(*mark);
                            let binding = Binding { device: device.map(str::to_owned), mark };
                            place.insert(self.router.enter(|| Socket::open(first.v4(), &binding))?)
                        }
                    };
                    for (serial, shot) in now {
                        // EPERM and ENETUNREACH are answers, not errors.
                        let _ = socket.send(&shot.bytes(*serial), shot.destination);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The router's own address on a device.
#[must_use]
pub fn own_address(device: &str, v4: bool) -> Option<IpAddr> {
    let device = DEVICES.iter().find(|known| known.name == device)?;
    device
        .addresses
        .iter()
        .filter_map(|text| text.split('/').next()?.parse().ok())
        .find(|a: &IpAddr| a.is_ipv4() == v4)
}

/// Rules that only say what is so. Kernel-made packets (resets, ICMP errors, neighbour discovery)
/// have no socket with an owner; they are stopped before anybody counts them.
fn observer(marks: &[u32]) -> String {
    let log = |prefix: &str| format!("log prefix \"{prefix}\" group {GROUP} queue-threshold 1");
    let chain = |name: &str, hook: &str, priority: i32, rules: &[String]| {
        format!(
            "  chain {name} {{\n    type filter hook {hook} priority {priority};\n    {}\n  }}\n",
            rules.join("\n    ")
        )
    };
    let nat = |name: &str, hook: &str| {
        format!("  chain {name} {{\n    type nat hook {hook} priority -111;\n    {}\n  }}\n", log("first"))
    };
    let mut begin = vec![log("begin")];
    for kind in ["local", "broadcast", "multicast", "anycast"] {
        begin.push(format!("fib daddr type {kind} {}", log(kind)));
    }
    let mut conntrack: Vec<String> = ["new", "established", "related", "invalid", "untracked"]
        .iter()
        .map(|state| format!("ct state {state} {}", log(state)))
        .collect();
    conntrack.push(format!("ct direction reply {}", log("reply")));
    conntrack.push(format!("ct status dnat {}", log("dnat")));
    conntrack.push(format!("ct status snat {}", log("snat")));
    conntrack.extend(marks.iter().map(|mark| format!("ct mark {mark} {}", log(&format!("mark{mark}")))));
    let mut text = "table inet observer {\n".to_owned();
    text += "  chain silence {\n    type filter hook output priority -1001; policy drop;\n    meta skuid 0 accept\n  }\n";
    for hook in ["output", "prerouting"] {
        text += &chain(&format!("{hook}_begin"), hook, -1000, &begin);
        // The kernel knows no such lookup in output.
        begin.push(format!("fib daddr oif missing {}", log("unrouted")));
        text += &chain(&format!("{hook}_conntrack"), hook, -199, &conntrack);
        text += &nat(&format!("{hook}_nat"), hook);
    }
    for hook in ["input", "forward", "postrouting"] {
        text += &chain(&format!("{hook}_begin"), hook, -1000, &[log("begin")]);
    }
    text += &chain(
        "postrouting_source",
        "postrouting",
        299,
        &[format!("fib saddr . oif type local {}", log("own"))],
    );
    for hook in ["prerouting", "output", "input", "forward", "postrouting"] {
        text += &chain(&format!("{hook}_end"), hook, 1000, &[log("end")]);
    }
    text + "}\n"
}
