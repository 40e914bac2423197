//! `--from WHO --to WHAT`, read. Pure.

use std::net::IpAddr;

use crate::policy::reason::{PROTOCOLS, Zone};

/// Who sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// None: an address alone, whose LAN network is to be found.
    pub zone: Option<Zone>,
    /// An address, or a device's or host's name; empty for the router.
    pub who: String,
}

impl Sender {
    /// # Errors
    /// Words for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        let zones = [("lan:", Zone::Lan), ("wan:", Zone::Wan), ("tunnel:", Zone::Tunnel)];
        let known = zones.into_iter().find_map(|(word, zone)| Some((zone, text.strip_prefix(word)?)));
        let (zone, who) = match known {
            Some((zone, who)) => (Some(zone), who),
            None if text == "router" => (Some(Zone::Router), ""),
            None => (None, text),
        };
        let address = who.parse::<IpAddr>().is_ok();
        if zone != Some(Zone::Router) && (who.is_empty() || !address && zone != Some(Zone::Lan)) {
            return Err(format!(
                "--from: '{text}' is neither router nor lan:ADDRESS, lan:DEVICE, lan:NAME, wan:ADDRESS, tunnel:ADDRESS"
            ));
        }
        Ok(Self { zone, who: who.to_owned() })
    }
}

/// What is sent, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// None: the router itself.
    pub address: Option<IpAddr>,
    /// IANA's number.
    pub protocol: u8,
    /// Destination port, or the type of ICMP(v6).
    pub port: Option<u16>,
    /// What the text left open.
    pub assumed: Option<&'static str>,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

impl Target {
    /// What fw4's redirect takes (`redirect_dns`).
    pub fn is_dns(&self) -> bool {
        matches!(self.protocol, TCP | UDP) && self.port == Some(53)
    }

    /// `HOST[:PORT][/PROTOCOL]`, an IPv6 address with a port in brackets.
    ///
    /// # Errors
    /// Words for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("--to: '{text}': {why}");
        let (place, protocol) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let (host, port) = host_and_port(place).ok_or_else(|| wrong("the bracket is not closed"))?;
        let address = match host {
            "router" => None,
            _ => Some(host.parse::<IpAddr>().map_err(|_| {
                wrong("is no address (names are not looked up: that would be a packet, too)")
            })?),
        };
        let port = port.map(|port| port.parse().map_err(|_| wrong("the port is no number up to 65535")));
        let port: Option<u16> = port.transpose()?;
        let v6 = address.is_some_and(|address| address.is_ipv6());
        let echo = if v6 { (ICMPV6, Some(128)) } else { (ICMP, Some(8)) };
        let (protocol, port, assumed) = match (protocol, port) {
            (None, Some(_)) => (TCP, port, Some("TCP")),
            (None, None) => (TCP, Some(443), Some("TCP port 443")),
            (Some("icmp" | "ping" | "icmpv6"), None) => (echo.0, echo.1, None),
            (Some(name), port) => {
                (number(name).ok_or_else(|| wrong("the protocol is not known"))?, port, None)
            }
        };
        match (protocol, port) {
            (TCP | UDP | SCTP, None) => Err(wrong("which port?")),
            (TCP | UDP | SCTP | ICMP | ICMPV6, _) | (_, None) => {
                Ok(Self { address, protocol, port, assumed })
            }
            _ => Err(wrong("this protocol has no ports")),
        }
    }
}

fn number(name: &str) -> Option<u8> {
    let known = PROTOCOLS.iter().find(|(_, known)| *known == name).map(|(number, _)| *number);
    known.or_else(|| name.parse().ok())
}

fn host_and_port(place: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    // More than one colon: an IPv6 address without a port.
    match place.split_once(':') {
        Some((host, port)) if !port.contains(':') => Some((host, Some(port))),
        _ => Some((place, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_asked_for() {
        for (text, address, protocol, port) in [
            ("1.1.1.1:53/udp", "1.1.1.1", 17, Some(53)),
            ("1.1.1.1", "1.1.1.1", 6, Some(443)),
            ("1.1.1.1:80", "1.1.1.1", 6, Some(80)),
            ("1.1.1.1/icmp", "1.1.1.1", 1, Some(8)),
            ("2001:db8::1/icmp", "2001:db8::1", 58, Some(128)),
            ("[2001:db8::1]:443", "2001:db8::1", 6, Some(443)),
            ("[2001:db8::1]:123/udp", "2001:db8::1", 17, Some(123)),
            ("2001:db8::1", "2001:db8::1", 6, Some(443)),
            ("[2001:db8::1]/esp", "2001:db8::1", 50, None),
            ("192.0.2.1/47", "192.0.2.1", 47, None),
            ("192.0.2.1:3/icmpv6", "192.0.2.1", 58, Some(3)),
            ("192.0.2.1:9/sctp", "192.0.2.1", 132, Some(9)),
            ("router:22", "", 6, Some(22)),
            ("router/ping", "", 1, Some(8)),
        ] {
            let found = Target::parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(found.address, address.parse().ok(), "{text}");
            assert_eq!((found.protocol, found.port), (protocol, port), "{text}");
        }
        for (text, words) in [
            ("example.com", "names are not looked up"),
            ("example.com:443/tcp", "names are not looked up"),
            ("", "is no address"),
            ("1.1.1.1:99999", "no number up to 65535"),
            ("1.1.1.1:http", "no number up to 65535"),
            ("1.1.1.1/quic", "protocol is not known"),
            ("1.1.1.1/256", "protocol is not known"),
            ("1.1.1.1/udp", "which port?"),
            ("1.1.1.1:5/esp", "has no ports"),
            ("[2001:db8::1:443", "bracket"),
            ("[2001:db8::1]443", "bracket"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "([0-9a-f:./\\[\\]]|router|udp|icmp|.){0,12}") {
            let _ = (Target::parse(&text), Sender::parse(&text));
        }
    }

    #[test]
    fn who_can_ask() {
        for (text, zone, who) in [
            ("router", Some(Zone::Router), ""),
            ("lan:192.168.1.20", Some(Zone::Lan), "192.168.1.20"),
            ("lan:br-lan", Some(Zone::Lan), "br-lan"),
            ("lan:fd00:1::20", Some(Zone::Lan), "fd00:1::20"),
            ("wan:203.0.113.9", Some(Zone::Wan), "203.0.113.9"),
            ("tunnel:10.64.0.1", Some(Zone::Tunnel), "10.64.0.1"),
            ("192.168.1.20", None, "192.168.1.20"),
        ] {
            assert_eq!(Sender::parse(text), Ok(Sender { zone, who: who.to_owned() }), "{text}");
        }
        for text in ["", "lan:", "wan:eth1", "tv", "tunnel:x", "mars:1.1.1.1", "router:1"] {
            assert!(Sender::parse(text).unwrap_err().contains("is neither router nor lan:"), "{text}");
        }
    }
}
