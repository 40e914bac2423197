//! What the user wants, after every check. A value of these types needs no further validation.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;

use super::names::{IfName, Mark, RelayName, WireguardKey};
use crate::from_json::from_json;
use crate::sorted;

/// The whole of `/etc/config/vpnd` together with what `/etc/config/network` and
/// `/etc/config/firewall` say of the LAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub enabled: bool,
    /// Matters only where no wanted state is stored (contract, section 1).
    pub auto_connect: bool,
    /// "Always require VPN": changes only what *disconnected* means.
    pub lockdown: bool,
    pub lan: Lan,
    /// The names in `/etc/config/network` of what is on its devices.
    pub lan_networks: Vec<String>,
    /// Names that WAN devices have or will have by `/etc/config/network`, sorted; never a LAN
    /// device. Only for the routing rules that must stand before such a device does: which devices
    /// are WAN is decided by what is not LAN.
    pub wan_names: Vec<IfName>,
    /// Those of them on which pppd speaks PPPoE (contract 2.10), sorted.
    pub wan_pppoe: Vec<IfName>,
    /// Contract 2.8: prefixes behind the WAN that router and LAN may reach.
    pub allow_wan_private: Vec<IpNet>,
    /// Contract 2.8: multicast groups from the WAN (IPTV).
    pub allow_wan_multicast: Vec<IpNet>,
    /// Contract 2.9.
    pub allow_wan_service: Vec<WanService>,
    /// Contract 3.4: port forwards from the tunnel.
    pub allow_tunnel_forward: Vec<TunnelForward>,
    /// Contract 3.5: custom resolvers; inside the tunnel unless connected on a LAN device.
    /// Empty means the tunnel's own.
    pub resolvers: Vec<IpAddr>,
    /// What LAN hosts ask of any resolver on port 53 is answered by the router (contract 3.5).
    pub redirect_dns: bool,
    pub mark: Mark,
    /// Contract 3.2: addresses (TCP, normally port 443) of the provider's API.
    pub api: Vec<SocketAddr>,
    /// None when no `config tunnel` is there yet: the machine reports it as a cause of error.
    pub tunnel: Option<TunnelSettings>,
    /// In the file's order; names are unique.
    pub relays: Vec<Relay>,
}

impl Settings {
    /// Whether the VPN carries IPv6.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.tunnel.iter().flat_map(|tunnel| &tunnel.addresses).any(|address| address.addr().is_ipv6())
    }

    /// The custom resolvers that live in the LAN.
    pub fn lan_resolvers(&self) -> impl Iterator<Item = &IpAddr> {
        self.resolvers.iter().filter(|address| self.lan.connects(address))
    }

    /// What is held when the configuration cannot be read: the kept LAN list and no exception.
    /// With an empty list this is contract section 0's "neither a config nor a kept list".
    #[must_use]
    pub fn fallback(lan: Lan) -> Self {
        Self {
            enabled: true,
            auto_connect: false,
            lockdown: false,
            lan,
            lan_networks: Vec::new(),
            wan_names: Vec::new(),
            wan_pppoe: Vec::new(),
            allow_wan_private: Vec::new(),
            allow_wan_multicast: Vec::new(),
            allow_wan_service: Vec::new(),
            allow_tunnel_forward: Vec::new(),
            resolvers: Vec::new(),
            redirect_dns: false,
            mark: Mark::DEFAULT,
            api: Vec::new(),
            tunnel: None,
            relays: Vec::new(),
        }
    }
}

/// The devices that vpnd protects, decided from configuration only (contract, section 0).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Lan {
    /// Sorted by name, no name twice. Empty only in [`Settings::fallback`].
    pub devices: Vec<LanDevice>,
    pub routes: Vec<LanRoute>,
}

from_json!(struct Lan { devices, routes });

impl Lan {
    /// Whether configuration puts the address on one of its networks.
    #[must_use]
    pub fn connects(&self, address: &IpAddr) -> bool {
        self.devices.iter().any(|device| device.prefixes.iter().any(|net| net.contains(address)))
    }

    /// What a configuration with errors says of the LAN, with the devices that only the last good
    /// one knew: whoever is behind them must get in and mend it. Nothing is forwarded for those
    /// (contract, section 0).
    #[must_use]
    pub fn with_kept(mut self, kept: Self) -> Self {
        let nothing_said = self.devices.is_empty();
        for mut device in kept.devices {
            if self.devices.iter().any(|known| known.name == device.name) {
                continue;
            }
            let routes = kept.routes.iter().filter(|route| route.device == device.name);
            self.routes.extend(routes.cloned());
            device.forward &= nothing_said;
            self.devices.push(device);
        }
        sorted::sort_by(&mut self.devices, |a, b| a.name.cmp(&b.name));
        self
    }
}

/// A zone of `/etc/config/firewall`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallZone {
    /// One word of letters, digits and `_`.
    pub name: String,
    pub side: ZoneSide,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneSide {
    /// Holds a device of the LAN, and no uplink.
    Lan,
    /// Holds an uplink, or masquerades for no LAN.
    Wan,
    Neither,
}

/// One LAN device and the prefixes that configuration puts on it (the kernel may know more).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LanDevice {
    pub name: IfName,
    /// Truncated to the network address.
    pub prefixes: Vec<IpNet>,
    /// False on a device that configuration makes unfit (a gateway on it, a default route over
    /// it, a bridge that also holds a WAN port): nothing is forwarded to or from it, but contract
    /// 2.2 holds, so that the owner can get in and mend it.
    pub forward: bool,
}

from_json!(struct LanDevice { name, prefixes, forward });

/// A network behind a LAN device (`list lan_route 'PREFIX via GATEWAY'`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LanRoute {
    pub prefix: IpNet,
    pub gateway: IpAddr,
    /// The LAN device whose prefix holds the gateway.
    pub device: IfName,
}

from_json!(struct LanRoute { prefix, gateway, device });

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProto {
    Tcp,
    Udp,
}

/// A service of the router that hosts on the WAN may use (`'PROTO PORT [SOURCE_PREFIX]'`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WanService {
    pub proto: PortProto,
    /// 1 to 65535.
    pub port: u16,
    /// None: any source, both families.
    pub source: Option<IpNet>,
}

/// A port of the tunnel's address handed on to a LAN host (`'PROTO PORT ADDRESS [PORT]'`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TunnelForward {
    pub proto: PortProto,
    pub port: u16,
    pub to: SocketAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelSettings {
    pub private_key: WireguardKey,
    /// Addresses of the tunnel device with their prefix length, host bits kept; never empty.
    pub addresses: Vec<IpNet>,
    /// In-tunnel resolvers.
    pub dns: Vec<IpAddr>,
    /// Bytes; None: from the path.
    pub mtu: Option<u16>,
    /// Hosts inside the tunnel that answer ICMP echo; empty: the resolvers (`tunnel::probe`).
    pub probe: Vec<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    pub name: RelayName,
    /// Never in LAN, loopback, multicast or tunnel ranges (contract, section 3).
    pub endpoint: SocketAddr,
    pub public_key: WireguardKey,
    pub preshared_key: Option<WireguardKey>,
    /// Empty in the file means everything, both families.
    pub allowed_ips: Vec<IpNet>,
    pub country: String,
    pub city: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lan(names: &[&str]) -> Lan {
        let device =
            |name: &&str| LanDevice { name: name.parse().unwrap(), prefixes: Vec::new(), forward: true };
        let route = |name: &&str| LanRoute {
            prefix: "192.168.9.0/24".parse().unwrap(),
            gateway: "192.168.1.9".parse().unwrap(),
            device: name.parse().unwrap(),
        };
        Lan { devices: names.iter().map(device).collect(), routes: names.iter().take(1).map(route).collect() }
    }

    #[test]
    fn a_kept_device_that_a_broken_configuration_lost_stays_reachable() {
        let both = lan(&["br-guest"]).with_kept(lan(&["br-lan", "br-guest"]));
        let found: Vec<_> = both.devices.iter().map(|d| (d.name.as_str(), d.forward)).collect();
        assert_eq!(found, [("br-guest", true), ("br-lan", false)]);
        assert_eq!(both.routes.len(), 2, "its routes come with it");
        assert_eq!(lan(&[]).with_kept(lan(&["br-lan"])), lan(&["br-lan"]), "kept as it was");
        assert_eq!(lan(&["br-lan"]).with_kept(lan(&["br-lan"])), lan(&["br-lan"]), "what is said counts");
    }
}
