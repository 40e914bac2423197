//! Loopback, LAN, tunnel, WAN: which device is what (contract, section 0). By name only, so that
//! rules can be loaded before a device exists.

use ipnet::IpNet;

use crate::config::{IfName, Settings};
use crate::sorted::{self, Map};

use super::facts::Facts;
use super::stance::Stance;

/// vpnd's own group of devices. Whether or not a policy knows of a tunnel, these are never WAN:
/// a device that is still there while blocked must not be given WAN's exceptions.
pub const TUNNEL_GROUP: [&str; 2] = ["vpnd0", "vpnd1"];

/// The devices of each zone. WAN is everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zones {
    /// By name; empty in an emergency (neither a config nor a kept list).
    pub lan: Vec<LanZone>,
    /// vpnd's group, all of it.
    pub group: Vec<IfName>,
    /// The device of the group that carries traffic now.
    pub tunnel: Option<IfName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanZone {
    pub device: IfName,
    /// False: nothing is forwarded to or from it.
    pub forward: bool,
    /// Connected there, by configuration or by the kernel's word.
    pub connected: Vec<IpNet>,
    /// Networks behind it (`lan_route`).
    pub routed: Vec<IpNet>,
}

impl LanZone {
    /// Everything that is reached through this device.
    pub fn reachable(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.connected.iter().chain(&self.routed).copied()
    }
}

impl Zones {
    pub(super) fn new(stance: &Stance, settings: &Settings, facts: &Facts) -> Self {
        let tunnel = stance.tunnel().map(|tunnel| tunnel.device.clone());
        let group = TUNNEL_GROUP.iter().filter_map(|name| name.parse().ok());
        let group = sorted::each_once(group.chain(tunnel.clone()));
        let mut lan = Map::new();
        for device in &settings.lan.devices {
            // A tunnel is never LAN, whatever a list says.
            if group.contains(&device.name) || device.name.as_str() == "lo" {
                continue;
            }
            let mut connected = device.prefixes.clone();
            connected.extend(facts.lan_prefixes.get(&device.name).into_iter().flatten());
            let routed = settings.lan.routes.iter().filter(|route| route.device == device.name);
            let zone = LanZone {
                device: device.name.clone(),
                forward: device.forward,
                connected: IpNet::aggregate(&connected),
                routed: routed.map(|route| route.prefix).collect(),
            };
            lan.insert(device.name.clone(), zone);
        }
        Self { lan: lan.into_iter().map(|(_, zone)| zone).collect(), group, tunnel }
    }

    /// No LAN is known: contract section 0's "neither a config nor a kept list".
    #[must_use]
    pub fn emergency(&self) -> bool {
        self.lan.is_empty()
    }

    /// LAN devices, of which nothing is forwarded for some.
    #[must_use]
    pub fn lan_devices(&self) -> Vec<IfName> {
        self.lan.iter().map(|zone| zone.device.clone()).collect()
    }

    /// LAN devices to and from which packets are forwarded.
    #[must_use]
    pub fn forwarding(&self) -> Vec<IfName> {
        self.lan.iter().filter(|zone| zone.forward).map(|zone| zone.device.clone()).collect()
    }

    /// Is this address on a network connected to a LAN device?
    #[must_use]
    pub fn connected_on_lan(&self, addr: std::net::IpAddr) -> bool {
        self.lan.iter().flat_map(|zone| &zone.connected).any(|net| net.contains(&addr))
    }
}
