//! What `/etc/config/network` and `/etc/config/firewall` say of interfaces, devices and zones.
//! Only what the LAN decision and the WAN devices' names need; anything odd in these files is netifd's business, not ours.

use ipnet::IpNet;

use super::fields::title;
use crate::config::OWN_SECTIONS;
use crate::config::names::IfName;
use crate::config::settings::{FirewallZone, ZoneSide};
use crate::config::uci::{Package, Section, Value};
use crate::config::value;
use crate::sorted::{self, Map};

/// A `config interface`.
#[derive(Debug, Clone, Default)]
pub(super) struct Interface {
    pub title: String,
    pub line: usize,
    pub proto: String,
    pub disabled: bool,
    /// As written: device names, or `@other` for another interface's device.
    pub devices: Vec<String>,
    /// `option pppname`: what pppd is to call its device.
    pub ppp_name: Option<String>,
    /// `option type bridge`, as before OpenWrt 21.02: the devices are ports of `br-NAME`.
    bridge: bool,
    pub prefixes: Vec<IpNet>,
    /// The option that makes it an uplink, and its value: `gateway`, `ip6gw`, or a default route.
    pub gateway: Option<(String, String)>,
}

impl Interface {
    /// True when packets to the internet may leave through it by configuration.
    pub fn is_uplink(&self) -> bool {
        self.gateway.is_some() || !self.has_own_address()
    }
    /// True for `option gateway`, false where only a `config route` leads out through it.
    pub fn has_gateway_option(&self) -> bool {
        self.gateway.as_ref().is_some_and(|(option, _)| !option.starts_with("route"))
    }
    /// Protocols that ask nobody for an address.
    pub fn has_own_address(&self) -> bool {
        matches!(self.proto.as_str(), "" | "none" | "static" | "wireguard" | "batadv")
    }
}

#[derive(Debug, Default)]
pub(super) struct Network {
    pub interfaces: Map<String, Interface>,
    /// `option ula_prefix`.
    pub has_ula: bool,
    /// Ports of each bridge.
    ports: Map<String, Vec<String>>,
}

impl Network {
    pub fn read(package: &Package) -> Self {
        let mut network = Self::default();
        for section in &package.sections {
            match section.kind.as_str() {
                "interface" => network.interface(section, &package.sections),
                "globals" => network.has_ula |= section.text("ula_prefix").is_some(),
                "device" if section.text("type").as_deref() == Some("bridge") => {
                    if let Some(name) = section.text("name") {
                        let mut ports = words(section, "ports");
                        ports.extend(words(section, "ifname"));
                        network.ports.get_or(name, Vec::new).extend(ports);
                    }
                }
                _ => {}
            }
        }
        for section in &package.sections {
            network.default_route(section);
        }
        network
    }

    fn interface(&mut self, section: &Section, sections: &[Section]) {
        if section.anonymous {
            return;
        }
        let mut devices = words(section, "device");
        if devices.is_empty() {
            devices = words(section, "ifname");
        }
        let bridge = section.text("type").as_deref() == Some("bridge");
        if bridge {
            let name = format!("br-{}", section.name);
            self.ports.get_or(name, Vec::new).extend(devices.iter().cloned());
        }
        let on = |name| is_on(section, name);
        let gateway =
            ["gateway", "ip6gw"].iter().find_map(|name| Some(((*name).to_owned(), section.text(name)?)));
        self.interfaces.insert(
            section.name.clone(),
            Interface {
                title: title(section, sections),
                line: section.line,
                proto: section.text("proto").unwrap_or_default(),
                disabled: on("disabled"),
                devices,
                ppp_name: section.text("pppname"),
                bridge,
                prefixes: prefixes(section),
                gateway,
            },
        );
    }

    /// `config route` to half the internet or more makes its interface an uplink.
    fn default_route(&mut self, section: &Section) {
        let wide = match section.kind.as_str() {
            "route" => {
                let target = section.text("target").unwrap_or_default();
                let mask = section.text("netmask").and_then(|mask| value::netmask(&mask));
                match value::prefix(&target) {
                    Ok(net) if target.contains('/') => net.prefix_len() <= 1,
                    Ok(_) => mask.is_some_and(|length| length <= 1),
                    Err(_) => false,
                }
            }
            "route6" => section
                .text("target")
                .and_then(|target| value::prefix(&target).ok())
                .is_some_and(|net| net.prefix_len() <= 1),
            _ => false,
        };
        let name = section.text("interface").unwrap_or_default();
        if let (true, Some(interface)) = (wide, self.interfaces.get_mut(&name)) {
            let target = section.text("target").unwrap_or_default();
            interface.gateway.get_or_insert((section.kind.clone(), target));
        }
    }

    /// The devices of an interface, aliases followed. Empty where configuration does not tell: a
    /// Wi-Fi network without bridge, or a ring of aliases.
    pub fn devices(&self, name: &str) -> Vec<String> {
        let mut name = name;
        // No sane chain of aliases is longer; a ring ends here.
        for _ in 0..8 {
            let Some(interface) = self.interfaces.get(name) else { break };
            if interface.bridge {
                return vec![format!("br-{name}")];
            }
            if interface.proto == "wireguard" {
                return vec![name.to_owned()];
            }
            match interface.devices.first().and_then(|first| first.strip_prefix('@')) {
                Some(other) => name = other,
                None => return sorted::each_once(interface.devices.iter().cloned()),
            }
        }
        Vec::new()
    }

    /// All devices that an uplink interface uses, with the interface's name.
    pub fn uplinks(&self) -> Map<String, String> {
        let mut uplinks = Map::new();
        for (name, interface) in self.interfaces.iter() {
            if interface.is_uplink() && !interface.disabled {
                for device in self.devices(name) {
                    uplinks.get_or(device, || name.clone());
                }
            }
        }
        uplinks
    }

    pub fn ports(&self, bridge: &str) -> Vec<&String> {
        sorted::each_once(self.ports.get(bridge).into_iter().flatten())
    }
}

fn prefixes(section: &Section) -> Vec<IpNet> {
    let mask = section.text("netmask").and_then(|mask| value::netmask(&mask));
    let mut out = Vec::new();
    for (option, mask) in [("ipaddr", mask), ("ip6addr", None), ("addresses", None)] {
        for word in words(section, option) {
            let Ok(mut net) = value::interface_address(&word) else { continue };
            if let (false, Some(length)) = (word.contains('/'), mask) {
                net = IpNet::new(net.addr(), length).unwrap_or(net);
            }
            if net.prefix_len() > 0 && !out.contains(&net.trunc()) {
                out.push(net.trunc());
            }
        }
    }
    out
}

/// The firewall's zones; the names of networks that sit in one with masquerade, and of those in one without.
#[derive(Debug, Default)]
pub(super) struct Zones {
    pub masqueraded: Vec<String>,
    pub plain: Vec<String>,
    all: Vec<Members>,
}

#[derive(Debug)]
struct Members {
    name: String,
    masquerades: bool,
    networks: Vec<String>,
    devices: Vec<String>,
}

impl Zones {
    pub fn read(package: &Package) -> Self {
        let mut zones = Self::default();
        // Ours is the only zone with such a name that no owner gave.
        let theirs = |section: &&Section| {
            let number = section.name.strip_prefix(OWN_SECTIONS).and_then(|rest| rest.strip_prefix("zone_"));
            section.anonymous || number.is_none()
        };
        for zone in package.sections.iter().filter(|section| section.kind == "zone").filter(theirs) {
            let on = |name| is_on(zone, name);
            let mut networks = words(zone, "network");
            // Without any member option a zone holds the network of its own name.
            let members = ["network", "device", "subnet", "extra"];
            if members.iter().all(|option| zone.get(option).is_none()) {
                networks.extend(zone.text("name"));
            }
            let masquerades = on("masq") || on("masq6");
            let side = if masquerades { &mut zones.masqueraded } else { &mut zones.plain };
            side.extend(networks.iter().cloned());
            // fw4 refuses other names (fw4.uc, parse_zone: identifiers).
            let name = zone.text("name").filter(|name| value::is_identifier(name));
            if let Some(name) = name.filter(|_| !on("disabled")) {
                let devices = words(zone, "device");
                zones.all.push(Members { name, masquerades, networks, devices });
            }
        }
        zones
    }

    /// Each zone and which side it is on, where `is_lan` knows the LAN's devices.
    pub fn sides(&self, network: &Network, is_lan: impl Fn(&str) -> bool) -> Vec<FirewallZone> {
        let side = |zone: &Members| {
            let uplink = |name: &String| {
                network.interfaces.get(name).is_some_and(|found| found.is_uplink() && !found.disabled)
            };
            let named = zone.networks.iter().flat_map(|name| network.devices(name));
            if zone.networks.iter().any(uplink) {
                ZoneSide::Wan
            } else if named.chain(zone.devices.iter().cloned()).any(|device| is_lan(&device)) {
                // Some masquerade towards their LAN, too.
                ZoneSide::Lan
            } else if zone.masquerades {
                ZoneSide::Wan
            } else {
                ZoneSide::Neither
            }
        };
        self.all.iter().map(|zone| FirewallZone { name: zone.name.clone(), side: side(zone) }).collect()
    }

    pub fn hold_lan(&self, network: &str) -> bool {
        let holds = |names: &[String]| names.iter().any(|name| name == network);
        holds(&self.plain) && !holds(&self.masqueraded)
    }
}

/// Whether a flag is there, and set.
pub(super) fn is_on(section: &Section, option: &str) -> bool {
    section.text(option).is_some_and(|text| value::flag(&text) == Ok(true))
}

/// A list, or a text of words: both are used for the same options over OpenWrt's releases.
fn words(section: &Section, option: &str) -> Vec<String> {
    let items = match section.get(option).map(|entry| &entry.value) {
        None => return Vec::new(),
        Some(Value::Text(item)) => std::slice::from_ref(item),
        Some(Value::List(items)) => items,
    };
    items
        .iter()
        .filter_map(|item| std::str::from_utf8(&item.bytes).ok())
        .flat_map(str::split_whitespace)
        .map(str::to_owned)
        .collect()
}

/// Names that are no device of a LAN.
pub(super) fn forbidden(device: &IfName) -> Option<&'static str> {
    let name = device.as_str();
    if name == "lo" {
        return Some("is the loopback device, not LAN");
    }
    // tunnel::DEVICE and the second slot of a switch.
    if name.strip_prefix("vpnd").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit())) {
        return Some("is a tunnel device of vpnd itself, not LAN");
    }
    None
}
