//! Why a packet is blocked, and what would allow it: one plain sentence each. Pure.

use std::net::IpAddr;

use serde::Serialize;

use super::row::Row;
use super::state::PolicyState;
use crate::from_json::from_json;

/// An end of a packet's way (contract, section 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Zone {
    Router,
    Lan,
    Tunnel,
    Wan,
    /// No route leads there.
    Nowhere,
}

from_json!(
    enum Zone {
        Router = "router",
        Lan = "lan",
        Tunnel = "tunnel",
        Wan = "wan",
        Nowhere = "nowhere",
    }
);

impl Zone {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Lan => "LAN",
            Self::Tunnel => "tunnel",
            Self::Wan => "WAN",
            Self::Nowhere => "nowhere",
        }
    }
}

/// A packet that `row` blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub state: PolicyState,
    pub row: Row,
    pub from: Zone,
    pub to: Zone,
    pub destination: IpAddr,
    /// IANA's number.
    pub protocol: u8,
    /// Destination port, or ICMP type.
    pub port: Option<u16>,
}

/// Why it was blocked, and what would allow it; no full stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub why: String,
    pub remedy: String,
}

const NEVER: &str = "nothing: the contract never allows it";
const CONNECT: &str = "a tunnel ('vpnd connect')";
const OWN_RESOLVER: &str = "use the router as resolver";

impl Refused {
    #[must_use]
    pub fn reason(&self) -> Reason {
        let (why, remedy) = match self.row {
            Row::Dns => self.dns(),
            Row::RelayFromLan if self.to == Zone::Router => {
                ("the tunnel's own port is for the relay only".to_owned(), NEVER.to_owned())
            }
            Row::RelayFromLan => (
                "past the tunnel, the relay and the provider's API are for vpnd itself only".to_owned(),
                NEVER.to_owned(),
            ),
            Row::Source => self.source(),
            _ => self.unlisted(),
        };
        Reason { why, remedy }
    }

    fn dns(&self) -> (String, String) {
        let destination = self.destination;
        match (self.to, self.state) {
            (Zone::Tunnel, PolicyState::Connecting) => (
                "this is DNS, before the tunnel is verified or to another resolver than its own".to_owned(),
                format!("{OWN_RESOLVER}, and wait for 'vpnd status' to say connected"),
            ),
            (Zone::Tunnel, _) => (
                "this is DNS to another resolver than the tunnel's own".to_owned(),
                format!("{OWN_RESOLVER}, or list this one: list resolver '{destination}'"),
            ),
            (_, PolicyState::Connected) => {
                ("this is DNS past the tunnel".to_owned(), OWN_RESOLVER.to_owned())
            }
            _ => (
                "this is DNS past the tunnel, and there is no tunnel to ask through".to_owned(),
                format!("{CONNECT}; then {OWN_RESOLVER}"),
            ),
        }
    }

    fn source(&self) -> (String, String) {
        if matches!(self.to, Zone::Router | Zone::Nowhere) {
            let why = "the tunnel's own address is reached through the tunnel only";
            return (why.to_owned(), NEVER.to_owned());
        }
        let why = "its source address belongs to another device than the one it would leave by".to_owned();
        let remedy = if self.from == Zone::Lan && self.to == Zone::Wan {
            "source NAT on the WAN: option masq '1' (IPv6: masq6) in its firewall zone"
        } else {
            NEVER
        };
        (why, remedy.to_owned())
    }

    /// Nothing lists it.
    fn unlisted(&self) -> (String, String) {
        match (self.from, self.to) {
            (Zone::Lan | Zone::Router, Zone::Wan | Zone::Nowhere) => self.past_the_tunnel(),
            (Zone::Lan | Zone::Router, Zone::Lan) => (
                "its destination is on no network of that LAN device, or nothing is forwarded there"
                    .to_owned(),
                "if it is behind a LAN host: list lan_route 'PREFIX via GATEWAY'".to_owned(),
            ),
            (Zone::Lan | Zone::Router, Zone::Tunnel) => {
                ("the tunnel carries nothing now".to_owned(), CONNECT.to_owned())
            }
            (Zone::Wan, Zone::Router) => (
                "a host on the WAN asks the router for something".to_owned(),
                match (protocol_name(self.protocol), self.port) {
                    (Some(name @ ("tcp" | "udp")), Some(port)) => {
                        format!("list allow_wan_service '{name} {port}'")
                    }
                    _ => NEVER.to_owned(),
                },
            ),
            (Zone::Wan, Zone::Lan) => (
                "a host on the WAN sends to the LAN".to_owned(),
                "nothing from the WAN; a port of the tunnel's address: list allow_tunnel_forward".to_owned(),
            ),
            (Zone::Tunnel, Zone::Lan | Zone::Router) => (
                "somebody beyond the tunnel starts something here".to_owned(),
                "a port handed on to a LAN host: list allow_tunnel_forward".to_owned(),
            ),
            _ => ("nothing lists it as allowed".to_owned(), NEVER.to_owned()),
        }
    }

    fn past_the_tunnel(&self) -> (String, String) {
        let destination = self.destination;
        let family = if destination.is_ipv4() { "IPv4" } else { "IPv6" };
        let length = if destination.is_ipv4() { 32 } else { 128 };
        if destination.is_multicast() {
            return (
                "this multicast group behind the WAN is not listed".to_owned(),
                format!("list allow_wan_multicast '{destination}/{length}'"),
            );
        }
        if self.to == Zone::Nowhere && self.port == Some(53) && matches!(self.protocol, 6 | 17) {
            return self.dns();
        }
        let listed = |other: &str| {
            if is_private(destination) {
                format!(
                    "list allow_wan_private '{destination}/{length}', if it is behind the WAN (a modem's page); {other}"
                )
            } else {
                other.to_owned()
            }
        };
        match (self.state, self.to) {
            (PolicyState::Connected, Zone::Nowhere) => (
                format!("the tunnel carries no {family}, and nothing leaves past it"),
                listed(&format!("a tunnel with an {family} address")),
            ),
            (PolicyState::Connected, _) => {
                ("it would leave by the WAN, past the tunnel".to_owned(), listed("to leave by the tunnel"))
            }
            (PolicyState::Connecting, _) => (
                format!("no tunnel carries {family} yet, and nothing leaves past it"),
                listed("wait for 'vpnd status' to say connected"),
            ),
            _ => ("there is no tunnel, and nothing leaves past it".to_owned(), listed(CONNECT)),
        }
    }
}

/// RFC 1918, 3927, 6598; RFC 4193, 4291.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || a == 100 && b & 0xc0 == 64
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80
        }
    }
}

/// IANA's protocol numbers that people know by name.
pub const PROTOCOLS: [(u8, &str); 10] = [
    (1, "icmp"),
    (2, "igmp"),
    (6, "tcp"),
    (17, "udp"),
    (41, "6in4"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "icmpv6"),
    (132, "sctp"),
];

#[must_use]
pub fn protocol_name(number: u8) -> Option<&'static str> {
    PROTOCOLS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination has its sentences; `UPDATE_GOLDEN=1` writes them anew.
    #[test]
    fn the_sentences_are_as_written_down() {
        use std::fmt::Write;
        let zones = [Zone::Router, Zone::Lan, Zone::Tunnel, Zone::Wan, Zone::Nowhere];
        let destinations = ["1.1.1.1", "192.168.100.1", "239.1.2.3", "2001:db8::1", "fd00:9::1"];
        let mut out = String::new();
        for row in [Row::Default, Row::Dns, Row::RelayFromLan, Row::Source] {
            for state in PolicyState::ALL.iter().copied() {
                for (from, to) in zones.iter().flat_map(|from| zones.iter().map(move |to| (*from, *to))) {
                    let reason = |destination: &str| {
                        let destination = destination.parse().unwrap();
                        Refused { state, row, from, to, destination, protocol: 6, port: Some(22) }.reason()
                    };
                    let mut former = None;
                    for destination in destinations {
                        let reason = reason(destination);
                        if former.replace(reason.clone()).as_ref() == Some(&reason) || from == Zone::Nowhere {
                            continue;
                        }
                        assert!(!reason.why.is_empty() && !reason.remedy.is_empty());
                        let way = format!("{} -> {}", from.as_str(), to.as_str());
                        let Reason { why, remedy } = reason;
                        let number = row.number();
                        writeln!(out, "{number} {state} {way} {destination}: {why} | {remedy}").unwrap();
                    }
                }
            }
        }
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/reasons.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &out).unwrap();
        }
        assert!(std::fs::read_to_string(&path).unwrap_or_default() == out, "{} differs", path.display());
    }
}
