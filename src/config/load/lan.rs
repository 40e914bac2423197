//! Which devices are LAN: from configuration only, never from the routing table (contract,
//! section 0).

use std::path::Path;

use ipnet::IpNet;

use super::fields::Fields;
use super::network::{Network, Zones, forbidden};
use super::{read_package, wan};
use crate::config::names::IfName;
use crate::config::problem::{Place, Report};
use crate::config::settings::{FirewallZone, Lan, LanDevice, LanRoute};
use crate::config::uci::Item;
use crate::config::value;
use crate::sorted::{self, Map};

/// Decides the LAN from the `config vpnd` section and the two files beside it.
pub(super) struct Decision<'a> {
    network: Network,
    zones: Zones,
    zones_known: bool,
    /// By name.
    devices: Vec<LanDevice>,
    report: &'a mut Report,
    network_report: &'a mut Report,
    firewall_report: &'a mut Report,
}

/// As the fields of [`super::Settings`] and [`super::Loaded`].
pub(super) struct Decided {
    pub lan: Lan,
    pub lan_networks: Vec<String>,
    /// Whether `/etc/config/network` has a prefix of the LAN's own (`ula_prefix`).
    pub has_ula: bool,
    pub wan_names: Vec<IfName>,
    pub wan_pppoe: Vec<IfName>,
    pub zones: Vec<FirewallZone>,
}

impl<'a> Decision<'a> {
    pub fn new(
        report: &'a mut Report,
        network_report: &'a mut Report,
        firewall_report: &'a mut Report,
    ) -> Self {
        Self {
            network: Network::default(),
            zones: Zones::default(),
            zones_known: false,
            devices: Vec::new(),
            report,
            network_report,
            firewall_report,
        }
    }

    pub fn decide(mut self, main: &mut Fields<'_>, config_dir: &Path) -> Decided {
        let listed_devices = main.all(self.report, "lan_device", &|text| {
            let name: IfName = text.parse()?;
            forbidden(&name).map_or(Ok(name), |message| Err(message.to_owned()))
        });
        let written_devices = main.items("lan_device").len();
        let listed_networks = main.all(self.report, "lan_network", &|text| Ok(text.to_owned()));
        let automatic = written_devices == 0 && main.items("lan_network").is_empty();
        self.read_files(config_dir, automatic, listed_networks.is_empty());
        for (name, _) in listed_devices {
            self.add(name, &[]);
        }
        for (name, item) in &listed_networks {
            self.add_listed(main, name, item);
        }
        if automatic {
            self.add_automatic(false);
            if self.devices.is_empty() {
                // An error in any case, but the owner must be able to get in and mend it.
                self.add_automatic(true);
            }
        }
        self.add_prefixes();
        self.mark_unfit();
        let files_read = self.network_report.problems.is_empty() && self.firewall_report.problems.is_empty();
        if self.devices.is_empty() && files_read {
            self.report.problem(
                Place::missing(&main.title, "lan_device"),
                "no LAN was found: list its devices (lan_device) or its networks (lan_network), or \
                 give a static network without gateway a firewall zone without masquerade",
            );
        }
        let routes = self.routes(main);
        let (wan_names, wan_pppoe) = wan::names(&self.network, |name| self.position(name).is_ok());
        let is_lan = |name: &str| name.parse().is_ok_and(|name| self.position(&name).is_ok());
        let zones = self.zones.sides(&self.network, is_lan);
        let on_lan = |name: &&String| self.network.devices(name).iter().any(|device| is_lan(device));
        let lan_networks = self.network.interfaces.keys().filter(on_lan).cloned().collect();
        let has_ula = self.network.has_ula;
        let lan = Lan { devices: self.devices, routes };
        Decided { lan, lan_networks, has_ula, wan_names, wan_pppoe, zones }
    }

    fn read_files(&mut self, config_dir: &Path, automatic: bool, by_device: bool) {
        let by_device = by_device && !automatic;
        match read_package(&config_dir.join("network")) {
            Ok(package) => self.network = Network::read(&package),
            Err(fault) if by_device && fault.missing => {}
            Err(fault) if by_device => fault.into_warning(self.network_report),
            Err(fault) => fault.into_problem(self.network_report),
        }
        match read_package(&config_dir.join("firewall")) {
            Ok(package) => {
                self.zones = Zones::read(&package);
                self.zones_known = true;
            }
            Err(fault) if automatic => fault.into_problem(self.firewall_report),
            Err(fault) if fault.missing => {}
            Err(fault) => fault.into_warning(self.firewall_report),
        }
    }

    /// Where the device is, or where it would have to be.
    fn position(&self, name: &IfName) -> Result<usize, usize> {
        self.devices.binary_search_by(|device| device.name.cmp(name))
    }

    fn add(&mut self, name: IfName, prefixes: &[IpNet]) {
        let at = self.position(&name).unwrap_or_else(|at| {
            self.devices.insert(at, LanDevice { name, prefixes: Vec::new(), forward: true });
            at
        });
        let device = &mut self.devices[at];
        for prefix in prefixes {
            if !device.prefixes.contains(prefix) {
                device.prefixes.push(*prefix);
            }
        }
    }

    fn add_listed(&mut self, main: &Fields<'_>, name: &str, item: &Item) {
        let place = main.place("lan_network", item);
        let Some(interface) = self.network.interfaces.get(name) else {
            self.report.problem(place, "is no interface of /etc/config/network");
            return;
        };
        if !interface.has_own_address() {
            let message = format!(
                "takes its address from elsewhere (proto {}), so it is an uplink and no LAN",
                crate::config::problem::shown("", interface.proto.as_bytes())
            );
            self.report.problem(place, message);
        }
        let devices = self.network.devices(name);
        if devices.is_empty() {
            self.report.problem(
                place,
                "has no device in /etc/config/network; give it a bridge, or list its device in \
                 lan_device",
            );
        }
        for device in devices {
            let name: Result<IfName, _> = device.parse();
            match name.map(|name| (forbidden(&name), name)) {
                Ok((None, name)) => self.add(name, &[]),
                Ok((Some(message), _)) => self.report.problem(place, message),
                Err(message) => {
                    let device = crate::config::problem::shown("", device.as_bytes());
                    self.report.problem(place, format!("has a device '{device}' that {message}"));
                }
            }
        }
    }

    fn add_automatic(&mut self, with_gateway: bool) {
        let names: Vec<String> = self
            .network
            .interfaces
            .iter()
            .filter(|(name, interface)| {
                interface.proto == "static"
                    && interface.has_gateway_option() == with_gateway
                    && !interface.disabled
                    && self.zones.hold_lan(name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let devices = self.network.devices(&name);
            let usable: Vec<IfName> = devices
                .iter()
                .filter_map(|device| device.parse().ok())
                .filter(|device| forbidden(device).is_none())
                .collect();
            if let (true, Some(interface)) = (
                usable.is_empty() && !devices.iter().any(|device| device == "lo"),
                self.network.interfaces.get(&name),
            ) {
                self.network_report.warning(
                    Place::section(&interface.title, interface.line),
                    "would be LAN but has no device here, so it stays closed; give it a bridge, \
                     or list its device in lan_device",
                );
            }
            for device in usable {
                self.add(device, &[]);
            }
        }
    }

    /// Every interface on a LAN device adds its prefixes, aliases included.
    fn add_prefixes(&mut self) {
        let names: Vec<String> = self.network.interfaces.keys().cloned().collect();
        for name in names {
            let Some(interface) = self.network.interfaces.get(&name) else { continue };
            let prefixes = interface.prefixes.clone();
            for device in self.network.devices(&name) {
                let Ok(device) = device.parse::<IfName>() else { continue };
                if self.position(&device).is_ok() {
                    self.add(device, &prefixes);
                }
            }
        }
        for device in &mut self.devices {
            sorted::sort_by(&mut device.prefixes, Ord::cmp);
        }
    }

    /// Contract, section 0: a gateway on a LAN device, or a WAN port in its bridge.
    fn mark_unfit(&mut self) {
        let uplinks = self.network.uplinks();
        // A masqueraded network (a modem's) is WAN, too.
        let mut wan: Map<String, String> = uplinks.clone();
        if self.zones_known {
            for name in sorted::each_once(&self.zones.masqueraded) {
                for device in self.network.devices(name) {
                    if device != "lo" {
                        wan.get_or(device, || name.clone());
                    }
                }
            }
        }
        let lan: Vec<String> = self.devices.iter().map(|device| device.name.to_string()).collect();
        for device in &mut self.devices {
            let name = device.name.to_string();
            if let Some(uplink) = uplinks.get(&name) {
                device.forward = false;
                gateway_problem(self.network_report, &self.network, uplink, &name);
            }
            for port in self.network.ports(&name) {
                if let Some(uplink) = wan.get(port).filter(|_| !lan.contains(port)) {
                    device.forward = false;
                    let message = format!(
                        "holds the port {port}, which {} uses as an uplink; take the port out of \
                         the bridge, or the bridge off the LAN",
                        interface_title(&self.network, uplink)
                    );
                    self.network_report.problem(
                        Place {
                            line: None,
                            section: &format!("device '{name}'"),
                            option: "ports",
                            value: port.as_bytes(),
                        },
                        message,
                    );
                }
            }
        }
    }

    fn routes(&mut self, main: &mut Fields<'_>) -> Vec<LanRoute> {
        let mut routes: Vec<LanRoute> = Vec::new();
        for ((prefix, gateway), item) in main.all(self.report, "lan_route", &value::lan_route) {
            let place = main.place("lan_route", item);
            let device =
                self.devices.iter().find(|device| device.prefixes.iter().any(|net| net.contains(&gateway)));
            let Some(device) = device else {
                self.report.problem(
                    place,
                    "has a gateway that lies in no network of a LAN device; the gateway must be a \
                     LAN host's address",
                );
                continue;
            };
            if routes.iter().any(|route| route.prefix == prefix) {
                self.report.problem(place, "names a prefix that another lan_route has already");
                continue;
            }
            routes.push(LanRoute { prefix, gateway, device: device.name.clone() });
        }
        routes
    }
}

fn interface_title(network: &Network, name: &str) -> String {
    network.interfaces.get(name).map_or_else(String::new, |interface| interface.title.clone())
}

fn gateway_problem(report: &mut Report, network: &Network, uplink: &str, device: &str) {
    let Some(interface) = network.interfaces.get(uplink) else { return };
    let (option, value) = match &interface.gateway {
        Some((option, value)) => (option.as_str(), value.as_str()),
        None => ("proto", interface.proto.as_str()),
    };
    report.problem(
        Place { line: Some(interface.line), section: &interface.title, option, value: value.as_bytes() },
        format!(
            "makes the LAN device {device} an uplink; a LAN has no gateway: take it away, or take \
             the device off the LAN"
        ),
    );
}
