//! The contract, by hand from its rows (CONTRACT.md, sections 0, 2 and 3). On each way the first
//! entry that fits a packet speaks; what none fits is blocked: audibly towards router and LAN,
//! silently towards WAN and tunnel.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use vpnd::config::{IfName, Mark, PortProto};
use vpnd::policy::{Family, Row, Stance, TunnelStance};

use crate::dims::{Dim, Interval};
use crate::setup::Case;
use crate::table::{At, Entry, Is, Say};

pub struct LanNet {
    pub device: IfName,
    pub forward: bool,
    /// Connected there: configured, or said by the kernel (not at boot).
    pub connected: Vec<IpNet>,
    /// `lan_route`.
    pub behind: Vec<IpNet>,
}

pub struct Contract {
    pub lan: Vec<LanNet>,
    /// The device that carries traffic now.
    pub tunnel: Option<IfName>,
    pub entries: Vec<Entry>,
    pub emergency: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zone {
    Loopback,
    Lan(usize),
    Tunnel,
    /// A device of vpnd's group that carries nothing now.
    Idle,
    Wan,
}

impl Zone {
    /// Which of the zones, whichever LAN network it is.
    pub fn kind(self) -> u8 {
        match self {
            Self::Loopback => 0,
            Self::Lan(_) => 1,
            Self::Tunnel => 2,
            Self::Idle => 3,
            Self::Wan => 4,
        }
    }
}

pub const GROUP: [&str; 2] = ["vpnd0", "vpnd1"];

impl Contract {
    pub fn zone(&self, device: &IfName) -> Zone {
        if device.as_str() == "lo" {
            return Zone::Loopback;
        }
        if self.tunnel.as_ref() == Some(device) {
            return Zone::Tunnel;
        }
        if GROUP.contains(&device.as_str()) {
            return Zone::Idle;
        }
        self.lan.iter().position(|lan| lan.device == *device).map_or(Zone::Wan, Zone::Lan)
    }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a literal of this file")
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| net(text)).collect()
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const IGMP: u8 = 2;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

fn proto(number: u8) -> Is {
    Is::Protocol(vec![number])
}
fn tcp_or_udp() -> Is {
    Is::Protocol(vec![TCP, UDP])
}
fn any_icmp() -> Is {
    Is::Protocol(vec![ICMP, ICMPV6])
}
fn exactly(dim: Dim, value: u32) -> Is {
    Is::In(dim, vec![(value.into(), value.into())])
}
fn sport(port: u16) -> Is {
    exactly(Dim::SourcePort, port.into())
}
fn dport(port: u16) -> Is {
    exactly(Dim::DestPort, port.into())
}
fn to(list: &[&str]) -> Is {
    Is::To(nets(list))
}
fn from(list: &[&str]) -> Is {
    Is::From(nets(list))
}
fn to_host(ip: IpAddr) -> Is {
    Is::To(vec![ip.into()])
}
fn from_host(ip: IpAddr) -> Is {
    Is::From(vec![ip.into()])
}
fn kind(number: u32) -> Is {
    exactly(Dim::Type, number)
}
fn hop(limit: u32) -> Is {
    exactly(Dim::HopLimit, limit)
}
const CODE_0: (Dim, Interval) = (Dim::Code, (0, 0));
fn code_0() -> Is {
    Is::In(CODE_0.0, vec![CODE_0.1])
}
/// By conntrack: what [`crate::lane::FLOWS`] counts.
fn reply() -> Is {
    Is::In(Dim::Flow, vec![(3, 3), (5, 5)])
}
fn established_reply() -> Is {
    exactly(Dim::Flow, 3)
}
fn related() -> Is {
    Is::In(Dim::Flow, vec![(4, 5)])
}
fn new() -> Is {
    Is::In(Dim::Flow, vec![(0, 1)])
}
fn tracked() -> Is {
    Is::In(Dim::Flow, vec![(0, 5)])
}
fn port_proto(proto: PortProto) -> Is {
    self::proto(if proto == PortProto::Tcp { TCP } else { UDP })
}

fn marked(dim: Dim, mark: Mark) -> Is {
    Is::Bits(dim, mark.mask(), mark.value())
}

struct Writer<'a> {
    case: &'a Case,
    lan: Vec<LanNet>,
    entries: Vec<Entry>,
}

/// Exactly what the contract lists for this state.
pub fn contract(case: &Case) -> Contract {
    let (tunnel, relays, dns) = match &case.stance {
        Stance::Connecting { relays, tunnel, dns, .. } => (tunnel.as_ref(), relays.clone(), *dns),
        Stance::Connected { relay, tunnel, .. } => (Some(tunnel), vec![*relay], true),
        Stance::Open | Stance::Blocked { .. } | Stance::Boot => (None, Vec::new(), false),
    };
    let api_outside = matches!(case.stance, Stance::Blocked { api: true } | Stance::Connecting { .. });
    let mut writer = Writer { case, lan: lan_nets(case), entries: Vec::new() };
    writer.sources(tunnel);
    writer.errors_and_outer(&relays);
    writer.no_route(tunnel);
    if api_outside {
        writer.api();
    }
    writer.nobody_else(&relays);
    writer.lan_side();
    writer.names_outside();
    writer.lan_side_out();
    writer.leases();
    writer.neighbours();
    writer.listed();
    writer.services();
    if let Some(tunnel) = tunnel {
        writer.tunnel(tunnel, dns);
    }
    writer.blocked();
    Contract {
        emergency: writer.lan.is_empty(),
        lan: writer.lan,
        tunnel: tunnel.map(|tunnel| tunnel.device.clone()),
        entries: writer.entries,
    }
}

/// Section 0: from configuration; the kernel adds addresses, but not at boot (4.1).
fn lan_nets(case: &Case) -> Vec<LanNet> {
    let boot = case.stance == Stance::Boot;
    let devices = case.settings.lan.devices.iter();
    devices
        .map(|device| {
            let mut connected = device.prefixes.clone();
            if !boot {
                connected.extend(case.facts.lan_prefixes.get(&device.name).into_iter().flatten());
            }
            let routes = case.settings.lan.routes.iter().filter(|route| route.device == device.name);
            LanNet {
                device: device.name.clone(),
                forward: device.forward,
                connected,
                behind: routes.map(|route| route.prefix).collect(),
            }
        })
        .collect()
}

impl Writer<'_> {
    fn say(&mut self, at: At, row: Row, say: Say, is: Vec<Is>) {
        self.entries.push(Entry { at, row, say, is });
    }
    fn allow(&mut self, at: At, row: Row, is: Vec<Is>) {
        self.say(at, row, Say::Allow, is);
    }
    fn refuse(&mut self, at: &[At], row: Row, is: &[Is]) {
        for at in at {
            self.say(*at, row, Say::Refuse, is.to_vec());
        }
    }
    fn boot(&self) -> bool {
        self.case.stance == Stance::Boot
    }

    /// Section 3: "packets for the tunnel's address that arrive on any device but the tunnel and
    /// loopback are dropped before conntrack"; sources belong to the device, or are unspecified
    /// under 2.3 to 2.5.
    fn sources(&mut self, tunnel: Option<&TunnelStance>) {
        let configured = self.case.settings.tunnel.iter().flat_map(|tunnel| &tunnel.addresses);
        let standing = tunnel.into_iter().flat_map(|tunnel| &tunnel.addresses);
        let own: Vec<IpNet> = configured.chain(standing).map(|net| net.addr().into()).collect();
        self.say(At::Arriving, Row::Source, Say::Silent, vec![Is::To(own)]);
        let tunnels: Vec<IpNet> =
            tunnel.into_iter().flat_map(|tunnel| &tunnel.addresses).map(|net| net.addr().into()).collect();
        self.allow(At::TunnelSource, Row::Source, vec![Is::From(tunnels)]);
        let late = At::ForeignSource;
        let nobody4 = || from(&["0.0.0.0/32"]);
        let nobody6 = || from(&["::/128"]);
        let ask = to(&["255.255.255.255/32"]);
        self.allow(late, Row::DhcpV4Client, vec![nobody4(), ask, proto(UDP), sport(68), dport(67)]);
        // Router and neighbour solicitation, MLD reports: as in 2.5.
        for (number, hops, group) in [
            (133, 255, "ff02::2/128"),
            (135, 255, "ff02::1:ff00:0/104"),
            (143, 1, "ff02::16/128"),
            (131, 1, "ff00::/8"),
        ] {
            let is = vec![nobody6(), proto(ICMPV6), kind(number), code_0(), hop(hops), to(&[group])];
            self.allow(late, Row::NeighbourDiscovery, is);
        }
        self.say(late, Row::Source, Say::Silent, Vec::new());
    }

    /// 3.1 and 2.6.
    fn errors_and_outer(&mut self, relays: &[SocketAddr]) {
        let mark = self.case.settings.mark;
        let port = crate::setup::LISTEN_PORT;
        for relay in relays {
            let out = vec![proto(UDP), to_host(relay.ip()), dport(relay.port()), marked(Dim::Mark, mark)];
            self.say(At::Leaving, Row::TunnelOuter, Say::Untrack, out.clone());
            self.allow(At::OutWan, Row::TunnelOuter, out);
            let back = vec![proto(UDP), from_host(relay.ip()), sport(relay.port()), dport(port)];
            self.say(At::ArrivingWan, Row::TunnelOuter, Say::MarkAndUntrack(mark), back.clone());
            self.allow(At::InWan, Row::TunnelOuter, back);
            let error = quoting(*relay, UDP, Some(port));
            self.say(At::ArrivingWan, Row::OuterErrors, Say::MarkAndUntrack(mark), error.clone());
            self.allow(At::InWan, Row::OuterErrors, error);
        }
    }

    /// Section 3: refusals of LAN traffic are fast, also where no route leads.
    fn no_route(&mut self, tunnel: Option<&TunnelStance>) {
        for family in Family::BOTH {
            let addresses = tunnel.into_iter().flat_map(|tunnel| &tunnel.addresses);
            if addresses.into_iter().any(|net| Family::of(net.addr()) == family) {
                continue;
            }
            // Not local (2), broadcast (3), anycast (4), multicast (5).
            let somewhere = Is::In(Dim::DestinationType, vec![(0, 1), (6, 8)]);
            let is = vec![Is::Family(family), new(), somewhere, exactly(Dim::Routed, 0)];
            self.say(At::NoRoute, Row::Default, Say::Refuse, is);
        }
    }

    /// 3.2, from vpnd's own marked socket; and related errors (2.6).
    fn api(&mut self) {
        let mark = self.case.settings.mark;
        for api in self.case.settings.api.clone() {
            let out = vec![proto(TCP), to_host(api.ip()), dport(api.port()), marked(Dim::Mark, mark)];
            self.allow(At::OutWan, Row::Api, out);
            let back = vec![proto(TCP), from_host(api.ip()), sport(api.port()), established_reply()];
            self.allow(At::InWan, Row::Api, back);
            let mut error = quoting(api, TCP, None);
            error.push(related());
            self.allow(At::InWan, Row::OuterErrors, error);
        }
    }

    /// 3.6, in every state; and the tunnel's own port is the WAN's only (3.1).
    fn nobody_else(&mut self, relays: &[SocketAddr]) {
        let ways = [At::OutWan, At::LanWan];
        for api in self.case.settings.api.clone() {
            self.refuse(&ways, Row::RelayFromLan, &[proto(TCP), to_host(api.ip()), dport(api.port())]);
        }
        // What is no relay now is blocked like everything else, but a listed prefix must not open it.
        let listed = |relay: &SocketAddr| {
            self.case.settings.allow_wan_private.iter().any(|net| net.contains(&relay.ip()))
        };
        let known = self.case.settings.relays.iter().map(|relay| relay.endpoint);
        let others: Vec<SocketAddr> = known.filter(listed).collect();
        for relay in relays.iter().chain(&others) {
            let is = [tcp_or_udp(), to_host(relay.ip()), dport(relay.port())];
            self.refuse(&ways, Row::RelayFromLan, &is);
        }
        if !relays.is_empty() {
            let own = [proto(UDP), dport(crate::setup::LISTEN_PORT)];
            self.refuse(&[At::InLan], Row::RelayFromLan, &own);
        }
    }

    /// 2.2, in; with no LAN known (section 0): whoever spoke first is answered where it spoke.
    fn lan_side(&mut self) {
        self.allow(At::InLan, Row::LanSide, Vec::new());
        self.allow(At::OutLan, Row::LanSide, vec![reply()]);
        if !self.lan.is_empty() {
            return;
        }
        self.allow(At::InWan, Row::LanSide, Vec::new());
        self.allow(At::OutWan, Row::LanSide, vec![reply(), exactly(Dim::Spoke, 1)]);
        let leases = [Is::Family(Family::V4), proto(UDP), sport(67), dport(68)];
        self.allow(At::OutWan, Row::LanSide, leases.to_vec());
        let local = || vec![from(&["fe80::/10"]), to(&["fe80::/10"])];
        self.allow(At::OutWan, Row::LanSide, [local(), vec![proto(UDP), sport(547), dport(546)]].concat());
        let advertise = vec![proto(ICMPV6), kind(134), hop(255), from(&["fe80::/10"])];
        let hearers = vec![to(&["fe80::/10", "ff00::/8"])];
        self.allow(At::OutWan, Row::LanSide, [advertise, hearers].concat());
    }

    /// 3.5 outside the tunnel: only to a resolver connected on a LAN device.
    fn names_outside(&mut self) {
        for at in 0..self.lan.len() {
            let mut here = self.lan[at].connected.clone();
            here.push(net("fe80::/10"));
            let device = Is::Out(self.lan[at].device.clone());
            self.allow(At::OutLan, Row::Dns, vec![device, tcp_or_udp(), dport(53), Is::To(here)]);
        }
        self.refuse(&[At::OutLan, At::OutWan, At::LanWan], Row::Dns, &[tcp_or_udp(), dport(53)]);
    }

    /// 2.2, out; and 2.7.
    fn lan_side_out(&mut self) {
        for at in 0..self.lan.len() {
            let lan = &self.lan[at];
            let reached = [lan.connected.clone(), lan.behind.clone()].concat();
            let is = vec![Is::Out(lan.device.clone()), Is::To(reached)];
            self.allow(At::OutLan, Row::LanSide, is.clone());
            self.allow(At::LanLan, Row::LanToLan, is);
        }
        let near = ["169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8", "255.255.255.255/32"];
        self.allow(At::OutLan, Row::LanSide, vec![to(&near)]);
        let server4 = vec![Is::Family(Family::V4), proto(UDP), sport(67), dport(68)];
        self.allow(At::OutLan, Row::LanSide, server4);
        let server6 = vec![Is::Family(Family::V6), proto(UDP), sport(547), dport(546)];
        self.allow(At::OutLan, Row::LanSide, server6);
        let discovery = Is::In(Dim::Type, vec![(133, 137)]);
        let is = vec![Is::Family(Family::V6), proto(ICMPV6), discovery, hop(255)];
        self.allow(At::OutLan, Row::LanSide, is);
        self.allow(At::OutLan, Row::LanSide, vec![Is::Family(Family::V4), proto(IGMP)]);
    }

    /// 2.3 and 2.4.
    fn leases(&mut self) {
        let (out, in_) = (At::OutWan, At::InWan);
        let ask = || vec![proto(UDP), sport(68), dport(67)];
        let anybody = to(&["255.255.255.255/32"]);
        self.allow(out, Row::DhcpV4Client, [vec![anybody], ask()].concat());
        if !self.boot() {
            for wan in &self.case.facts.wan {
                let Some(server) = wan.lease_server else { continue };
                let server = vec![Is::Out(wan.name.clone()), to_host(server.into())];
                let entry =
                    Entry { at: out, row: Row::DhcpV4Client, say: Say::Allow, is: [server, ask()].concat() };
                self.entries.push(entry);
            }
        }
        let offered = vec![Is::Family(Family::V4), proto(UDP), sport(67), dport(68)];
        self.allow(in_, Row::DhcpV4Client, offered);
        let servers = vec![from(&["fe80::/10"]), to(&["ff02::1:2/128", "ff05::1:3/128"])];
        self.allow(out, Row::DhcpV6Client, [servers, vec![proto(UDP), sport(546), dport(547)]].concat());
        let back = vec![to(&["fe80::/10"]), proto(UDP), sport(547), dport(546)];
        self.allow(in_, Row::DhcpV6Client, back);
    }

    /// 2.5: code 0, hop limit 255 (MLD: 1, RFC 2710 and 3810).
    fn neighbours(&mut self) {
        let row = Row::NeighbourDiscovery;
        let nd = |number: u32, hops: u32| {
            vec![Is::Family(Family::V6), proto(ICMPV6), kind(number), code_0(), hop(hops)]
        };
        let with = |mut is: Vec<Is>, more: Is| {
            is.push(more);
            is
        };
        let (out, in_) = (At::OutWan, At::InWan);
        self.allow(out, row, with(nd(133, 255), to(&["ff02::2/128"])));
        self.allow(in_, row, with(nd(134, 255), from(&["fe80::/10"])));
        self.allow(in_, row, nd(135, 255));
        self.allow(out, row, with(nd(135, 255), to(&["ff02::1:ff00:0/104", "fe80::/10"])));
        if !self.boot() {
            for wan in &self.case.facts.wan {
                let mut is = with(nd(135, 255), Is::To(wan.prefixes.clone()));
                is.push(Is::Out(wan.name.clone()));
                self.entries.push(Entry { at: out, row, say: Say::Allow, is });
            }
        }
        self.allow(in_, row, nd(136, 255));
        self.allow(out, row, with(nd(136, 255), to(&["ff02::1/128"])));
        self.allow(out, row, with(nd(136, 255), Is::NotTo(nets(&["ff00::/8"]))));
        self.allow(out, row, with(nd(131, 1), to(&["ff00::/8"])));
        self.allow(out, row, with(nd(132, 1), to(&["ff02::2/128"])));
        self.allow(out, row, with(nd(143, 1), to(&["ff02::16/128"])));
        self.allow(in_, row, nd(130, 1));
    }

    /// 2.8.
    fn listed(&mut self) {
        let row = Row::ListedWan;
        let prefixes = self.case.settings.allow_wan_private.clone();
        for (out, back) in [(At::OutWan, At::InWan), (At::LanWan, At::WanLan)] {
            self.allow(out, row, vec![Is::To(prefixes.clone())]);
            self.allow(back, row, vec![Is::From(prefixes.clone()), established_reply()]);
            self.allow(back, row, vec![Is::From(prefixes.clone()), any_icmp(), related()]);
        }
        let groups = self.case.settings.allow_wan_multicast.clone();
        for at in [At::OutWan, At::LanWan, At::InWan, At::WanLan] {
            self.allow(at, row, vec![Is::To(groups.clone()), proto(UDP)]);
        }
        let mut members: Vec<IpNet> = groups.into_iter().filter(|net| net.addr().is_ipv4()).collect();
        if !members.is_empty() {
            self.allow(At::InWan, row, vec![Is::Family(Family::V4), proto(IGMP)]);
            members.push(net("224.0.0.0/24"));
            self.allow(At::OutWan, row, vec![Is::To(members), proto(IGMP)]);
        }
    }

    /// 2.9: replies only, by the flow's mark and direction; the second mark, never the tunnel's.
    fn services(&mut self) {
        let mark = self.case.settings.mark.service();
        let row = Row::WanService;
        for service in &self.case.settings.allow_wan_service {
            let source = |wrap: fn(Vec<IpNet>) -> Is| service.source.map(|net| wrap(vec![net]));
            let asked: Vec<Is> = [port_proto(service.proto), dport(service.port)]
                .into_iter()
                .chain(source(Is::From))
                .collect();
            let answer: Vec<Is> =
                [port_proto(service.proto), sport(service.port), marked(Dim::FlowMark, mark), reply()]
                    .into_iter()
                    .chain(source(Is::To))
                    .collect();
            // Without a connection there is no mark whose other bits could be kept (nft_ct_set_eval),
            // and no answer could leave.
            let known = (mark.mask() != u32::MAX).then(tracked);
            for (at, say, is) in [
                (At::ServiceAsked, Say::Mark(mark), asked.clone()),
                (At::InWan, Say::AllowAndMark(mark), asked.into_iter().chain(known).collect()),
                (At::OutWan, Say::Allow, answer),
            ] {
                self.entries.push(Entry { at, row, say, is });
            }
        }
        if !self.case.settings.allow_wan_service.is_empty() {
            let is = vec![marked(Dim::FlowMark, mark), reply()];
            self.say(At::ServiceAnswers, row, Say::Mark(mark), is);
        }
    }

    /// 3.3, 3.4, and 3.5 inside.
    fn tunnel(&mut self, tunnel: &TunnelStance, dns: bool) {
        for at in [At::OutTunnel, At::LanTunnel] {
            if dns {
                let resolvers = self.resolvers().into_iter().map(IpNet::from).collect();
                self.allow(at, Row::Dns, vec![tcp_or_udp(), dport(53), Is::To(resolvers)]);
            }
            self.refuse(&[at], Row::Dns, &[tcp_or_udp(), dport(53)]);
            self.allow(at, Row::IntoTunnel, Vec::new());
        }
        for at in [At::InTunnel, At::TunnelLan] {
            self.allow(at, Row::FromTunnel, vec![established_reply()]);
            self.allow(at, Row::FromTunnel, vec![any_icmp(), related()]);
        }
        for forward in &self.case.settings.allow_tunnel_forward {
            let v4 = forward.to.is_ipv4();
            let own = tunnel.addresses.iter().filter(|net| net.addr().is_ipv4() == v4);
            let own = own.map(|net| net.addr().into()).collect();
            let asked = vec![Is::To(own), port_proto(forward.proto), dport(forward.port)];
            let arrived = vec![
                to_host(forward.to.ip()),
                port_proto(forward.proto),
                dport(forward.to.port()),
                tracked(),
                exactly(Dim::Translated, 1),
            ];
            for (at, say, is) in
                [(At::Redirected, Say::SendTo(forward.to), asked), (At::TunnelLan, Say::Allow, arrived)]
            {
                self.entries.push(Entry { at, row: Row::FromTunnel, say, is });
            }
        }
    }

    /// "Upstream only to the in-tunnel resolver or the custom resolvers, inside the tunnel; outside
    /// it only to a resolver connected on a LAN device or loopback."
    fn resolvers(&self) -> Vec<IpAddr> {
        let listed = &self.case.settings.resolvers;
        let own = self.case.settings.tunnel.iter().flat_map(|tunnel| tunnel.dns.clone());
        let wanted: Vec<IpAddr> = if listed.is_empty() { own.collect() } else { listed.clone() };
        let in_lan = |ip: &IpAddr| self.lan.iter().flat_map(|lan| &lan.connected).any(|net| net.contains(ip));
        wanted.into_iter().filter(|ip| !ip.is_loopback() && !in_lan(ip)).collect()
    }

    /// "What is not listed as allowed is blocked." "Refusals of LAN traffic are fast […]. From WAN:
    /// silence." The router's own programs hear it too, but vpnd's own (see `expect.rs`).
    fn blocked(&mut self) {
        for at in [At::OutLan, At::OutTunnel, At::OutWan, At::InLan, At::LanLan, At::LanTunnel, At::LanWan] {
            self.refuse(&[at], Row::Default, &[]);
        }
        for at in [At::InTunnel, At::InWan, At::TunnelLan, At::WanLan] {
            self.say(at, Row::Default, Say::Silent, Vec::new());
        }
    }
}

/// An ICMP error about a packet of ours (RFC 792, RFC 4443): unreachable, too-big, time-exceeded.
fn quoting(relay: SocketAddr, protocol: u8, source_port: Option<u16>) -> Vec<Is> {
    let (family, number, types, version) = match relay.ip() {
        IpAddr::V4(ip) => (Family::V4, u128::from(ip.to_bits()), vec![(3, 3), (11, 11)], (0x45, 0x45)),
        IpAddr::V6(ip) => (Family::V6, ip.to_bits(), vec![(1, 3)], (0x60, 0x6f)),
    };
    let to = u32::from(relay.port());
    let ports = match source_port {
        Some(port) => Is::Bits(Dim::QuotedPorts, u32::MAX, u32::from(port) << 16 | to),
        None => Is::Bits(Dim::QuotedPorts, 0xffff, to),
    };
    vec![
        Is::Family(family),
        proto(if family == Family::V4 { ICMP } else { ICMPV6 }),
        Is::In(Dim::Type, types),
        Is::In(Dim::QuotedVersion, vec![version]),
        exactly(Dim::QuotedProtocol, protocol.into()),
        Is::In(Dim::QuotedDestination, vec![(number, number)]),
        ports,
    ]
}
