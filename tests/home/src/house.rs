//! What stands in the virtual home: the LAN's devices, the router, the ISP, relays and the
//! internet, each in a namespace of its own.
//!
//! ```text
//!  tv ── lan1 ┐                                            ┌ relay1 192.0.2.11  2001:db8:51::11
//!             br-lan ┐                                     ├ relay2 192.0.2.12  ...:12
//!                    router ── wan ════ cpe ── isp ── core ┼ relay3 192.0.2.13  ...:13
//!          br-guest ┘       (the wire)                     └ internet 198.51.100.1 2001:db8:100::1
//!  guest ─ guest1 ┘
//! ```

use std::net::IpAddr;

use anyhow::Result;

use crate::ns::Netns;

/// Addresses of the house; text, as tests write it.
pub mod at {
    pub const LAN: &str = "192.168.1.0/24";
    pub const TV: [&str; 2] = ["192.168.1.20", "fd00:1::20"];
    pub const ROUTER_LAN: [&str; 2] = ["192.168.1.1", "fd00:1::1"];
    /// A network behind the television (`lan_route`).
    pub const BEHIND_TV: [&str; 2] = ["192.168.50.5", "fd00:50::5"];
    pub const GUEST: [&str; 2] = ["192.168.2.20", "fd00:2::20"];
    pub const ROUTER_GUEST: [&str; 2] = ["192.168.2.1", "fd00:2::1"];
    pub const ROUTER_WAN: [&str; 2] = ["203.0.113.2", "2001:db8:203::2"];
    pub const ISP: [&str; 2] = ["203.0.113.1", "2001:db8:203::1"];
    /// The modem's page: private addresses behind the WAN.
    pub const MODEM: [&str; 2] = ["192.168.100.1", "fd00:100::1"];
    pub const INTERNET: [&str; 2] = ["198.51.100.1", "2001:db8:100::1"];
    /// The provider's API, on the same host.
    pub const API: [&str; 2] = ["198.51.100.200", "2001:db8:100::200"];
    /// Routed into the tunnel's stand-in by firewall-only tests.
    pub const THROUGH_TUNNEL: [&str; 2] = ["198.18.0.1", "2001:db8:1800::1"];
    pub const TUNNEL: [&str; 2] = ["10.64.10.2", "fd64::10:2"];
    /// The in-tunnel resolver.
    pub const RESOLVER: [&str; 2] = ["10.64.0.1", "fd64::1"];
    pub const RELAYS: [[&str; 2]; 3] = [
        ["192.0.2.11", "2001:db8:51::11"],
        ["192.0.2.12", "2001:db8:51::12"],
        ["192.0.2.13", "2001:db8:51::13"],
    ];
    pub const RELAY_PORT: u16 = 51820;
    /// On a device that appears later (a USB tether).
    pub const USB: [&str; 2] = ["198.19.0.1", "2001:db8:1900::1"];
}

/// # Panics
/// On text that is no address: a mistake in the test itself.
#[must_use]
#[allow(clippy::expect_used)] // constants of the tests, wrong for everybody or nobody
pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address written in a test")
}

pub const MAC_ROUTER_LAN: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const MAC_TV: [u8; 6] = [2, 0, 0, 0, 1, 0x20];
pub const MAC_ROUTER_GUEST: [u8; 6] = [2, 0, 0, 0, 2, 1];
pub const MAC_GUEST: [u8; 6] = [2, 0, 0, 0, 2, 0x20];
pub const MAC_ROUTER_WAN: [u8; 6] = [2, 0, 0, 0, 3, 1];
pub const MAC_ISP: [u8; 6] = [2, 0, 0, 0, 3, 2];

/// The link-local address that the kernel makes of a MAC address (RFC 4291, appendix A).
#[must_use]
pub fn link_local(mac: [u8; 6]) -> IpAddr {
    let m = mac;
    IpAddr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]])
}

/// Hosts answer what they serve and are silent about the rest: a reset or an ICMP error would
/// end the flow that a probe is about.
pub const QUIET: &str = "table inet quiet {
    chain out {
        type filter hook output priority 0;
        tcp flags & rst == rst drop
        icmp type destination-unreachable drop
        icmpv6 type destination-unreachable drop
    }
}
";

pub struct House {
    pub router: Netns,
    pub tv: Netns,
    pub guest: Netns,
    pub isp: Netns,
    pub internet: Netns,
    pub relays: Vec<Netns>,
}

/// firewall4's own output for its default configuration, with our devices' names (see the file).
const FW4: &str = include_str!("../fixtures/fw4-home.nft");

impl House {
    /// Builds everything but the router's firewall and the relays' WireGuard.
    ///
    /// # Errors
    /// When the kernel or `ip` refuses something.
    pub fn build() -> Result<Self> {
        let house = Self {
            router: Netns::new("router")?,
            tv: Netns::new("tv")?,
            guest: Netns::new("guest")?,
            isp: Netns::new("isp")?,
            internet: Netns::new("internet")?,
            relays: (1..=at::RELAYS.len())
                .map(|n| Netns::new(&format!("relay{n}")))
                .collect::<Result<_>>()?,
        };
        house.lan()?;
        house.outside()?;
        house.wan()?;
        for host in [&house.tv, &house.guest, &house.isp, &house.internet] {
            host.nft(QUIET)?;
        }
        Ok(house)
    }

    fn lan(&self) -> Result<()> {
        let (router, tv, guest) = (&self.router, &self.tv, &self.guest);
        for path in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            router.sysctl(path, "1")?;
        }
        // Every refusal is to be seen, however many probes fly.
        router.sysctl("net/ipv4/icmp_ratelimit", "0")?;
        router.sysctl("net/ipv6/icmp/ratelimit", "0")?;
        // Probes of SCTP carry no checksum.
        router.nft("table inet touch { chain c { type filter hook input priority 0; ct state new; }; }")?;
        router.sysctl("net/netfilter/nf_conntrack_checksum", "0")?;
        router.nft("delete table inet touch")?;
        router.ip(&format!(
            "link add br-lan address 02:00:00:00:01:01 type bridge forward_delay 0 mcast_snooping 0
             link add br-guest address 02:00:00:00:02:01 type bridge forward_delay 0 mcast_snooping 0
             link add lan1 type veth peer name eth0 address 02:00:00:00:01:20 netns {tv}
             link add guest1 type veth peer name eth0 address 02:00:00:00:02:20 netns {guest}
             link set lan1 master br-lan up
             link set guest1 master br-guest up
             addr add 192.168.1.1/24 dev br-lan
             addr add fd00:1::1/64 dev br-lan nodad
             addr add 192.168.2.1/24 dev br-guest
             addr add fd00:2::1/64 dev br-guest nodad
             link set br-lan up
             link set br-guest up",
            tv = tv.path(),
            guest = guest.path(),
        ))?;
        tv.ip("addr add 192.168.1.20/24 dev eth0
             addr add fd00:1::20/64 dev eth0 nodad
             link set eth0 up
             addr add 192.168.50.5/32 dev lo
             addr add fd00:50::5/128 dev lo nodad
             route add default via 192.168.1.1
             route add default via fd00:1::1")?;
        guest.ip("addr add 192.168.2.20/24 dev eth0
             addr add fd00:2::20/64 dev eth0 nodad
             link set eth0 up
             route add default via 192.168.2.1
             route add default via fd00:2::1")?;
        // So that neither end waits for neighbour discovery behind a burst of probes.
        router.ip("neigh replace 192.168.1.20 lladdr 02:00:00:00:01:20 dev br-lan
             neigh replace fd00:1::20 lladdr 02:00:00:00:01:20 dev br-lan
             neigh replace 192.168.2.20 lladdr 02:00:00:00:02:20 dev br-guest
             neigh replace fd00:2::20 lladdr 02:00:00:00:02:20 dev br-guest
             route add 192.168.50.0/24 via 192.168.1.20
             route add fd00:50::/64 via fd00:1::20
             route add 192.168.78.0/24 via 192.168.1.20
             route add fd00:78::/64 via fd00:1::20
             route add 192.168.77.0/24 via 192.168.2.20
             route add fd00:77::/64 via fd00:2::20")
    }

    fn outside(&self) -> Result<()> {
        let (isp, internet) = (&self.isp, &self.internet);
        for path in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            isp.sysctl(path, "1")?;
        }
        isp.sysctl("net/ipv4/conf/all/send_redirects", "0")?;
        isp.sysctl("net/ipv4/conf/default/send_redirects", "0")?;
        isp.ip("link add core type bridge forward_delay 0 mcast_snooping 0
             link set core up
             addr add 192.0.2.1/24 dev core
             addr add 2001:db8:51::1/64 dev core nodad")?;
        let hosts = self.relays.iter().chain([internet]);
        for (n, host) in hosts.enumerate() {
            isp.ip(&format!(
                "link add port{n} type veth peer name eth0 netns {}
                 link set port{n} master core up",
                host.path()
            ))?;
        }
        for (relay, [v4, v6]) in self.relays.iter().zip(at::RELAYS) {
            relay.sysctl("net/ipv4/ip_forward", "1")?;
            relay.sysctl("net/ipv6/conf/all/forwarding", "1")?;
            relay.ip(&format!(
                "addr add {v4}/24 dev eth0
                 addr add {v6}/64 dev eth0 nodad
                 link set eth0 up
                 route add default via 192.0.2.1
                 route add default via 2001:db8:51::1
                 route add 198.51.100.0/24 via 192.0.2.100
                 route add 2001:db8:100::/64 via 2001:db8:51::100"
            ))?;
        }
        internet.ip("addr add 192.0.2.100/24 dev eth0
             addr add 2001:db8:51::100/64 dev eth0 nodad
             link set eth0 up
             addr add 198.51.100.1/32 dev lo
             addr add 198.51.100.53/32 dev lo
             addr add 198.51.100.200/32 dev lo
             addr add 2001:db8:100::1/128 dev lo nodad
             addr add 2001:db8:100::53/128 dev lo nodad
             addr add 2001:db8:100::200/128 dev lo nodad
             route add default via 192.0.2.1
             route add default via 2001:db8:51::1")?;
        isp.ip("route add 198.51.100.0/24 via 192.0.2.100
             route add 2001:db8:100::/64 via 2001:db8:51::100")
    }

    /// The wire between router and ISP. The ISP knows the way back to the LAN, so that a packet
    /// that got out would also be answered.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn wan(&self) -> Result<()> {
        self.router.ip(&format!(
            "link add wan address 02:00:00:00:03:01 type veth peer name cpe address 02:00:00:00:03:02 netns {}",
            self.isp.path()
        ))?;
        self.isp.ip("addr add 203.0.113.1/24 dev cpe
             addr add 192.168.100.1/24 dev cpe
             addr add 2001:db8:203::1/64 dev cpe nodad
             addr add fd00:100::1/64 dev cpe nodad
             link set cpe up
             neigh replace 203.0.113.2 lladdr 02:00:00:00:03:01 dev cpe
             neigh replace 2001:db8:203::2 lladdr 02:00:00:00:03:01 dev cpe
             route add 192.168.0.0/16 via 203.0.113.2
             route add fd00::/16 via 2001:db8:203::2")?;
        self.wan_up()
    }

    /// What netifd does at boot.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn wan_up(&self) -> Result<()> {
        self.router.ip("link set wan up
             addr add 203.0.113.2/24 dev wan
             addr add 2001:db8:203::2/64 dev wan nodad")?;
        self.default_route()?;
        self.router.ip("neigh replace 203.0.113.1 lladdr 02:00:00:00:03:02 dev wan
             neigh replace 2001:db8:203::1 lladdr 02:00:00:00:03:02 dev wan
             neigh replace 203.0.113.9 lladdr 02:00:00:00:03:02 dev wan
             neigh replace 2001:db8:203::9 lladdr 02:00:00:00:03:02 dev wan")
    }

    /// What netifd sets after a lease.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn default_route(&self) -> Result<()> {
        self.router.ip("route replace default via 203.0.113.1 dev wan
             route replace default via 2001:db8:203::1 dev wan
             route replace 192.168.100.0/24 via 203.0.113.1 dev wan
             route replace fd00:100::/64 via 2001:db8:203::1 dev wan")
    }

    /// The router's own firewall, as OpenWrt starts it.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn fw4(&self) -> Result<()> {
        self.router.nft(FW4)
    }

    /// # Errors
    /// When `nft` refuses.
    pub fn no_tables(&self) -> Result<()> {
        self.router.nft("flush ruleset")
    }
}
