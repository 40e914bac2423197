//! The contract, written a second time: which row lets a frame onto the WAN wire in a state.
//!
//! By hand from docs/contract.md, sharing with vpnd nothing but the rows' names. A frame that no
//! row lists is a leak, whatever rule of vpnd's let it out.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use vpnd::policy::Row;

use crate::packets::{Kind, Marker, Seen};

/// What is in force at an instant. Two of them around a transition allow the union.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No policy: everything may pass.
    Open,
    Boot,
    Blocked {
        api: bool,
    },
    Connecting {
        relays: Vec<SocketAddr>,
    },
    Connected {
        relay: SocketAddr,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Boot => f.write_str("boot"),
            Self::Blocked { .. } => f.write_str("blocked"),
            Self::Connecting { relays } => write!(f, "connecting to {relays:?}"),
            Self::Connected { relay } => write!(f, "connected to {relay}"),
        }
    }
}

/// What the house's owner configured and the WAN gave, as far as the contract's rows depend on it.
#[derive(Debug, Clone, Default)]
pub struct Uplink {
    /// The WAN device's own addresses, link-local ones included.
    pub own: Vec<IpAddr>,
    pub connected: Vec<IpNet>,
    pub lease_server: Option<Ipv4Addr>,
    /// The tunnel socket's port, where the test knows it.
    pub tunnel_port: Option<u16>,
    pub allow_private: Vec<IpNet>,
    pub allow_multicast: Vec<IpNet>,
    /// Protocol number and port.
    pub services: Vec<(u8, u16)>,
    pub api: Vec<SocketAddr>,
    /// Configured 802.1Q tags, and whether pppd runs on the device.
    pub vlans: Vec<u16>,
    pub pppoe: bool,
}

/// What a frame at the ISP's end of the wire is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Nothing was in force.
    Open,
    Listed(Row),
    /// A leak, and the reading of the frame.
    Unlisted(String),
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open: nothing in force"),
            Self::Listed(row) => write!(f, "{} {}", row.number(), row.title()),
            Self::Unlisted(_) => f.write_str("NOT LISTED"),
        }
    }
}

const ETH_IP: u16 = 0x0800;
const ETH_ARP: u16 = 0x0806;
const ETH_IP6: u16 = 0x86dd;
const ETH_EAPOL: u16 = 0x888e;
const ETH_PPPOE_DISCOVERY: u16 = 0x8863;
const ETH_PPPOE_SESSION: u16 = 0x8864;
/// Protocols of PPP (RFC 1661, section 2; RFC 5072, section 3).
const PPP_IP: u16 = 0x0021;
const PPP_IP6: u16 = 0x0057;

/// Judges an Ethernet frame that the router put on the WAN wire while one of `states` held.
#[must_use]
pub fn classify(frame: &[u8], vlan: Option<u16>, states: &[State], uplink: &Uplink) -> Class {
    let judged = listed(frame, vlan, states, uplink);
    if states.contains(&State::Open) && matches!(judged, Class::Unlisted(_)) { Class::Open } else { judged }
}

fn listed(frame: &[u8], vlan: Option<u16>, states: &[State], uplink: &Uplink) -> Class {
    let (Some(kind), Some(payload)) = (frame.get(12..14), frame.get(14..)) else {
        return Class::Unlisted(format!("a frame of {} bytes", frame.len()));
    };
    let kind = u16::from_be_bytes([kind[0], kind[1]]);
    if vlan.is_some_and(|tag| !uplink.vlans.contains(&tag)) {
        return Class::Unlisted(format!("VLAN {vlan:?}, type {kind:#06x}"));
    }
    match kind {
        ETH_ARP => arp(payload, uplink),
        ETH_EAPOL => Class::Listed(Row::WanLayer2),
        ETH_PPPOE_DISCOVERY if uplink.pppoe => Class::Listed(Row::WanLayer2),
        ETH_PPPOE_SESSION if uplink.pppoe => session(payload, states, uplink),
        ETH_IP | ETH_IP6 => ip(payload, states, uplink),
        _ => Class::Unlisted(format!("a frame of type {kind:#06x}")),
    }
}

fn ip(packet: &[u8], states: &[State], uplink: &Uplink) -> Class {
    match Seen::parse(packet) {
        Some(seen) => match row(&seen, states, uplink) {
            Some(row) => Class::Listed(row),
            None => Class::Unlisted(seen.to_string()),
        },
        None => Class::Unlisted(format!("an unreadable IP packet {packet:02x?}")),
    }
}

/// What a PPPoE session carries (RFC 2516, section 4: six bytes of header): pppd's own words, or a
/// packet of IP, which has to be listed as if it were on the wire itself.
fn session(payload: &[u8], states: &[State], uplink: &Uplink) -> Class {
    let Some((protocol, packet)) = payload.get(6..).and_then(|inner| inner.split_first_chunk()) else {
        return Class::Unlisted("a cut-off PPPoE frame".to_owned());
    };
    match u16::from_be_bytes(*protocol) {
        PPP_IP | PPP_IP6 => ip(packet, states, uplink),
        // Of links and of network protocols: LCP, CHAP, IPCP, IPV6CP.
        0x8000.. => Class::Listed(Row::WanLayer2),
        other => Class::Unlisted(format!("PPP's protocol {other:#06x}")),
    }
}

/// 2.10: ARP speaks of the WAN's own addresses only (or of none: a probe for duplicates).
fn arp(payload: &[u8], uplink: &Uplink) -> Class {
    let sender = payload.get(14..18).and_then(|a| <[u8; 4]>::try_from(a).ok()).map(Ipv4Addr::from);
    match sender {
        Some(a) if a.is_unspecified() || uplink.own.contains(&IpAddr::V4(a)) => Class::Listed(Row::WanLayer2),
        Some(a) => Class::Unlisted(format!("ARP in the name of {a}")),
        None => Class::Unlisted("a cut-off ARP packet".to_owned()),
    }
}

fn row(seen: &Seen, states: &[State], uplink: &Uplink) -> Option<Row> {
    // Section 3: a source that is not the WAN's own goes only where it is unspecified.
    let own = uplink.own.contains(&seen.from);
    let row = without_source(seen, states, uplink)?;
    let may_be_unspecified = matches!(row, Row::DhcpV4Client | Row::NeighbourDiscovery);
    (own || (seen.from.is_unspecified() && may_be_unspecified)).then_some(row)
}

fn without_source(seen: &Seen, states: &[State], uplink: &Uplink) -> Option<Row> {
    // No listed packet is large enough to need fragments, nor has an odd extension header.
    if seen.fragment {
        return None;
    }
    let marker = Marker::find(&seen.payload);
    let of_lan = marker.is_some_and(|m| m.kind == Kind::LanFlood);
    // 2.8 is for LAN and router alike.
    if uplink.allow_private.iter().chain(&uplink.allow_multicast).any(|p| p.contains(&seen.to))
        && seen.ports.is_none_or(|(_, to)| to != 53)
    {
        return Some(Row::ListedWan);
    }
    // Every other row is the router's own.
    if of_lan {
        return None;
    }
    dhcp(seen, uplink)
        .or_else(|| membership(seen, uplink))
        .or_else(|| neighbour_discovery(seen, uplink))
        .or_else(|| outer(seen, states, uplink))
        .or_else(|| api(seen, states, uplink))
        .or_else(|| service(seen, uplink))
}

/// Who listens to a listed group says so to the routers of the link: IGMPv3 reports go to
/// 224.0.0.22, leave messages to 224.0.0.2 (RFC 3376, section 4.2.14; RFC 2236, section 9). Which
/// groups are in a report is not looked at.
fn membership(seen: &Seen, uplink: &Uplink) -> Option<Row> {
    let routers = [Ipv4Addr::new(224, 0, 0, 22), Ipv4Addr::new(224, 0, 0, 2)].map(IpAddr::V4);
    let told = seen.proto == 2 && seen.hops == 1 && routers.contains(&seen.to);
    (told && uplink.allow_multicast.iter().any(|net| net.addr().is_ipv4())).then_some(Row::ListedWan)
}

fn dhcp(seen: &Seen, uplink: &Uplink) -> Option<Row> {
    if seen.proto != 17 || !seen.extensions.is_empty() {
        return None;
    }
    match (seen.from, seen.to, seen.ports?) {
        (IpAddr::V4(_), IpAddr::V4(to), (68, 67)) => {
            (to.is_broadcast() || uplink.lease_server == Some(to)).then_some(Row::DhcpV4Client)
        }
        (IpAddr::V6(from), IpAddr::V6(_), (546, 547)) => {
            let to = seen.to.to_string();
            let link_local = from.segments()[0] & 0xffc0 == 0xfe80;
            (link_local && (to == "ff02::1:2" || to == "ff05::1:3")).then_some(Row::DhcpV6Client)
        }
        _ => None,
    }
}

fn neighbour_discovery(seen: &Seen, uplink: &Uplink) -> Option<Row> {
    let IpAddr::V6(to) = seen.to else { return None };
    let (kind, code) = seen.icmp?;
    if seen.proto != 58 || code != 0 {
        return None;
    }
    let text = to.to_string();
    let link_local = to.segments()[0] & 0xffc0 == 0xfe80;
    let solicited_node = to.octets()[..13] == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];
    let connected = uplink.connected.iter().any(|p| p.contains(&seen.to));
    let multicast_listener = seen.extensions == [0] && seen.hops == 1;
    let plain = seen.extensions.is_empty() && seen.hops == 255;
    let fits = match kind {
        133 => plain && text == "ff02::2",
        135 => plain && (solicited_node || link_local || connected),
        136 => plain && (text == "ff02::1" || !to.is_multicast()),
        143 => multicast_listener && text == "ff02::16",
        131 => multicast_listener && to.is_multicast(),
        132 => multicast_listener && text == "ff02::2",
        _ => false,
    };
    fits.then_some(Row::NeighbourDiscovery)
}

/// 3.1, and never with one of our markers readable in it: that would be plaintext.
fn outer(seen: &Seen, states: &[State], uplink: &Uplink) -> Option<Row> {
    let (from, to) = seen.ports.filter(|_| seen.proto == 17 && seen.extensions.is_empty())?;
    let endpoint = SocketAddr::new(seen.to, to);
    let allowed = states.iter().any(|state| match state {
        State::Connecting { relays } => relays.contains(&endpoint),
        State::Connected { relay } => *relay == endpoint,
        _ => false,
    });
    let plaintext = Marker::find(&seen.payload).is_some_and(|m| m.kind != Kind::Control);
    let port_fits = uplink.tunnel_port.is_none_or(|own| own == from);
    (allowed && port_fits && !plaintext).then_some(Row::TunnelOuter)
}

fn api(seen: &Seen, states: &[State], uplink: &Uplink) -> Option<Row> {
    let (_, to) = seen.ports.filter(|_| seen.proto == 6)?;
    let outside = states.iter().any(|s| matches!(s, State::Blocked { api: true } | State::Connecting { .. }));
    (outside && uplink.api.contains(&SocketAddr::new(seen.to, to))).then_some(Row::Api)
}

fn service(seen: &Seen, uplink: &Uplink) -> Option<Row> {
    let (from, _) = seen.ports?;
    uplink.services.contains(&(seen.proto, from)).then_some(Row::WanService)
}

/// How many frames of each class.
#[derive(Debug, Clone, Default)]
pub struct Tally(pub BTreeMap<Class, usize>);

impl Tally {
    pub fn add(&mut self, class: Class) {
        *self.0.entry(class).or_default() += 1;
    }

    #[must_use]
    pub fn unlisted(&self) -> usize {
        self.0.iter().filter(|(c, _)| matches!(c, Class::Unlisted(_))).map(|(_, n)| n).sum()
    }

    #[must_use]
    pub fn of(&self, row: Row) -> usize {
        self.0.get(&Class::Listed(row)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::{Body, Packet, ethernet};

    fn uplink() -> Uplink {
        Uplink {
            own: ["203.0.113.2", "2001:db8:203::2", "fe80::ff:fe00:301"].map(|a| a.parse().unwrap()).to_vec(),
            connected: ["203.0.113.0/24", "2001:db8:203::/64"].map(|p| p.parse().unwrap()).to_vec(),
            lease_server: Some("203.0.113.1".parse().unwrap()),
            ..Uplink::default()
        }
    }

    fn judge(packet: &Packet, kind: Kind, state: State) -> Class {
        let bytes = packet.bytes(Marker { kind, id: 1, seq: 1 });
        let ethertype = if packet.from.is_ipv4() { ETH_IP } else { ETH_IP6 };
        classify(&ethernet([0; 6], [0; 6], ethertype, &bytes), None, &[state], &uplink())
    }

    fn udp(from: &str, to: &str, ports: (u16, u16)) -> Packet {
        Packet::new(from.parse().unwrap(), to.parse().unwrap(), Body::Udp { from: ports.0, to: ports.1 })
    }

    fn relay() -> SocketAddr {
        "192.0.2.11:51820".parse().unwrap()
    }

    #[test]
    fn the_relay_is_listed_only_while_a_state_names_it() {
        let outer = udp("203.0.113.2", "192.0.2.11", (51820, 51820));
        let listed = Class::Listed(Row::TunnelOuter);
        assert_eq!(judge(&outer, Kind::Control, State::Connected { relay: relay() }), listed);
        assert_eq!(judge(&outer, Kind::Control, State::Connecting { relays: vec![relay()] }), listed);
        for state in [State::Boot, State::Blocked { api: true }] {
            assert!(matches!(judge(&outer, Kind::Control, state), Class::Unlisted(_)));
        }
        assert_eq!(judge(&outer, Kind::Control, State::Open), Class::Open);
    }

    #[test]
    fn a_readable_payload_to_the_relay_is_a_leak() {
        let outer = udp("203.0.113.2", "192.0.2.11", (51820, 51820));
        for kind in [Kind::Probe, Kind::LanFlood, Kind::RouterFlood] {
            assert!(matches!(judge(&outer, kind, State::Connected { relay: relay() }), Class::Unlisted(_)));
        }
    }

    #[test]
    fn a_foreign_source_is_a_leak_even_to_a_listed_place() {
        let mut uplink = uplink();
        uplink.allow_private = vec!["192.168.100.0/24".parse().unwrap()];
        let to_modem = |from| {
            let packet = udp(from, "192.168.100.1", (1, 80));
            let frame = ethernet(
                [0; 6],
                [0; 6],
                ETH_IP,
                &packet.bytes(Marker { kind: Kind::LanFlood, id: 1, seq: 1 }),
            );
            classify(&frame, None, &[State::Boot], &uplink)
        };
        assert_eq!(to_modem("203.0.113.2"), Class::Listed(Row::ListedWan));
        assert!(matches!(to_modem("10.64.10.2"), Class::Unlisted(_)));
    }

    #[test]
    fn dhcp_goes_to_the_broadcast_address_and_the_leases_server_only() {
        let to = |address| judge(&udp("203.0.113.2", address, (68, 67)), Kind::Control, State::Boot);
        assert_eq!(to("255.255.255.255"), Class::Listed(Row::DhcpV4Client));
        assert_eq!(to("203.0.113.1"), Class::Listed(Row::DhcpV4Client));
        assert!(matches!(to("198.51.100.1"), Class::Unlisted(_)));
    }

    #[test]
    fn what_a_pppoe_session_carries_is_judged_as_if_it_were_on_the_wire() {
        let judged = |protocol: u16, packet: &[u8], pppoe| {
            let payload = [&[0x11, 0, 0, 1, 0, 0], &protocol.to_be_bytes()[..], packet].concat();
            let frame = ethernet([0; 6], [0; 6], ETH_PPPOE_SESSION, &payload);
            classify(&frame, None, &[State::Boot], &Uplink { pppoe, ..uplink() })
        };
        let packet =
            |to| udp("203.0.113.2", to, (68, 67)).bytes(Marker { kind: Kind::RouterFlood, id: 1, seq: 1 });
        assert_eq!(judged(0xc021, &[9, 1, 0, 8], true), Class::Listed(Row::WanLayer2));
        assert_eq!(judged(PPP_IP, &packet("255.255.255.255"), true), Class::Listed(Row::DhcpV4Client));
        for (protocol, to, pppoe) in [
            (PPP_IP, "198.51.100.1", true),
            (0x0041, "255.255.255.255", true),
            (0xc021, "255.255.255.255", false),
        ] {
            assert!(matches!(judged(protocol, &packet(to), pppoe), Class::Unlisted(_)), "{protocol:#x} {to}");
        }
    }

    #[test]
    fn arp_in_another_name_and_unknown_types_are_leaks() {
        let arp = |sender: [u8; 4]| {
            let body = crate::packets::arp(1, ([2; 6], sender), ([0; 6], [203, 0, 113, 1]));
            classify(&ethernet([255; 6], [2; 6], ETH_ARP, &body), None, &[State::Boot], &uplink())
        };
        assert_eq!(arp([203, 0, 113, 2]), Class::Listed(Row::WanLayer2));
        assert!(matches!(arp([10, 64, 10, 2]), Class::Unlisted(_)));
        let other = classify(&ethernet([255; 6], [2; 6], 0x88cc, &[0; 50]), None, &[State::Boot], &uplink());
        assert!(matches!(other, Class::Unlisted(_)));
    }
}
