//! `config tunnel` and `config relay`.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::fields::Fields;
use crate::config::names::RelayName;
use crate::config::problem::{Place, Report, shown};
use crate::config::settings::{Lan, Relay, TunnelSettings};
use crate::config::uci::Section;
use crate::config::value::{self, Endpoint};
use crate::sorted::Set;

/// Ranges in which no endpoint may lie (contract, section 3).
pub(super) struct Ranges {
    lan: Vec<IpNet>,
    tunnel: Vec<IpNet>,
    /// `allow_wan_private`.
    pub listed: Vec<IpNet>,
}

impl Ranges {
    pub fn new(lan: &Lan, tunnel: Option<&TunnelSettings>) -> Self {
        let devices = lan.devices.iter().flat_map(|device| device.prefixes.iter().copied());
        Self {
            lan: devices.chain(lan.routes.iter().map(|route| route.prefix)).collect(),
            tunnel: tunnel.map(|tunnel| tunnel.addresses.clone()).unwrap_or_default(),
            listed: Vec::new(),
        }
    }

    pub fn lan_overlap(&self, net: &IpNet) -> Option<&IpNet> {
        self.lan.iter().find(|lan| value::overlap(lan, net))
    }

    pub fn endpoint(&self, text: &str) -> Result<SocketAddr, String> {
        let address = match value::endpoint(text)? {
            Endpoint::Address(address) => address,
            Endpoint::Name { .. } => {
                return Err("is a name; give its address, or import it while the router is open".to_owned());
            }
        };
        let ip: IpAddr = address.ip();
        if let Some(what) = value::unfit(ip) {
            return Err(format!("is {what}; the address of a host on the internet is needed"));
        }
        if let Some(net) = self.lan.iter().find(|net| net.contains(&ip)) {
            return Err(format!("lies in the LAN ({net}); a host beyond the WAN is needed"));
        }
        if let Some(net) = self.tunnel.iter().find(|net| net.contains(&ip)) {
            return Err(format!("lies in the tunnel's range ({}); it must be outside", net.trunc()));
        }
        Ok(address)
    }

    /// An endpoint in a listed prefix (a server behind the ISP's box) is allowed: marked packets
    /// are routed before the prefix's rule, and contract 3.6 refuses everybody else's to that port
    /// ahead of 2.8. But only nftables does: the routing barrier lets through what is listed, so
    /// it is said. (An endpoint in a LAN or behind a `lan_route` is refused, and none is multicast.)
    pub fn warn_listed(&self, report: &mut Report, place: Place<'_>, endpoint: IpAddr) {
        if let Some(net) = self.listed.iter().find(|net| net.contains(&endpoint)) {
            report.warning(
                place,
                format!(
                    "lies in allow_wan_private {net}: should the rules be gone, the routing barrier \
                     alone lets everybody's packets reach it"
                ),
            );
        }
    }
}

/// Reads a tunnel; None when something that it cannot do without is missing or wrong.
pub(super) fn tunnel(fields: &mut Fields<'_>, report: &mut Report, lan: &Lan) -> Option<TunnelSettings> {
    let private_key = required_key(fields, report, "private_key");
    let ranges = Ranges::new(lan, None);
    let written = fields.items("address").len();
    let addresses = fields.values(report, "address", &|text| {
        let net = value::tunnel_address(text)?;
        match ranges.lan_overlap(&net) {
            Some(lan) => Err(format!("overlaps the LAN ({lan}); one of the two must change")),
            None => Ok(net),
        }
    });
    if written == 0 {
        report.problem(
            Place::missing(&fields.title, "address"),
            "is missing; the address that the provider gave you is needed",
        );
    }
    let dns = fields.values(report, "dns", &|text| value::host(text, false));
    let probe = fields.values(report, "probe", &|text| value::host(text, false));
    if fields.items("dns").is_empty() && fields.items("probe").is_empty() {
        report.warning(
            Place::missing(&fields.title, "probe"),
            "neither dns nor probe is given: with no host to ask inside it, the tunnel is never \
             verified",
        );
    }
    let mtu = fields.one(report, "mtu", &|text| value::tunnel_mtu(text, &addresses));
    Some(TunnelSettings { private_key: private_key?, addresses, dns, mtu, probe })
        .filter(|tunnel| !tunnel.addresses.is_empty())
}

fn required_key(
    fields: &mut Fields<'_>,
    report: &mut Report,
    name: &'static str,
) -> Option<crate::config::names::WireguardKey> {
    match fields.item(report, name) {
        Some(item) => fields.read(report, name, item, &value::key),
        None => {
            report.problem(
                Place::missing(&fields.title, name),
                "is missing; a WireGuard key (32 bytes in base64) is needed",
            );
            None
        }
    }
}

pub(super) fn relay(
    fields: &mut Fields<'_>,
    report: &mut Report,
    section: &Section,
    ranges: &Ranges,
    taken: &mut Set<RelayName>,
) -> Option<Relay> {
    let name = relay_name(fields, report, section);
    if let Some(name) = &name {
        if !taken.add(name.clone()) {
            report.problem(
                Place { value: name.as_str().as_bytes(), ..Place::missing(&fields.title, "name") },
                "is the name of an earlier relay; names must differ",
            );
        }
    }
    let endpoint = match fields.item(report, "endpoint") {
        Some(item) => {
            let endpoint = fields.read(report, "endpoint", item, &|text| ranges.endpoint(text));
            if let Some(endpoint) = endpoint {
                ranges.warn_listed(report, fields.place("endpoint", item), endpoint.ip());
            }
            endpoint
        }
        None => {
            report.problem(
                Place::missing(&fields.title, "endpoint"),
                "is missing; ADDRESS:PORT or [IPV6]:PORT is needed",
            );
            None
        }
    };
    let public_key = required_key(fields, report, "public_key");
    let preshared_key = fields.one(report, "preshared_key", &value::key);
    let allowed_ips = fields.values(report, "allowed_ip", &value::prefix);
    // Shown by status and LuCI later: nothing that a message would have to escape.
    let place = |text: &str| {
        if shown("", text.as_bytes()) == text {
            Ok(text.to_owned())
        } else {
            Err("is no place's name (up to 80 characters, no control characters)".to_owned())
        }
    };
    let country = fields.one(report, "country", &place).unwrap_or_default();
    let city = fields.one(report, "city", &place).unwrap_or_default();
    Some(Relay {
        name: name?,
        endpoint: endpoint?,
        public_key: public_key?,
        preshared_key,
        allowed_ips,
        country,
        city,
    })
}

/// `option name` for names that UCI cannot give a section (with `-` or `.`), else the section's.
fn relay_name(fields: &mut Fields<'_>, report: &mut Report, section: &Section) -> Option<RelayName> {
    if let Some(item) = fields.item(report, "name") {
        let name = fields.read(report, "name", item, &str::parse::<RelayName>)?;
        fields.title = format!("relay '{name}'");
        return Some(name);
    }
    if section.anonymous {
        report.problem(
            Place::section(&fields.title, section.line),
            "has no name; write config relay 'NAME', or option name where NAME has a - or .",
        );
        return None;
    }
    match section.name.parse() {
        Ok(name) => Some(name),
        Err(message) => {
            report.problem(Place::section(&fields.title, section.line), message);
            None
        }
    }
}
