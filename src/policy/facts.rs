//! What the kernel says of devices and addresses, as far as a policy depends on it.

use std::net::Ipv4Addr;

use ipnet::IpNet;

use crate::config::IfName;
use crate::sorted::Map;

/// A snapshot of the router's devices. Which devices are LAN never comes from here (contract,
/// section 0), only what addresses they have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Prefixes connected on the configured LAN devices, without link-local ones.
    pub lan_prefixes: Map<IfName, Vec<IpNet>>,
    /// Every device that is neither loopback, LAN nor tunnel, nor a port of a bridge; by name.
    pub wan: Vec<WanDevice>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WanDevice {
    pub name: IfName,
    /// Connected prefixes, without link-local ones.
    pub prefixes: Vec<IpNet>,
    /// The current lease's DHCP server (contract 2.3), where one is known.
    pub lease_server: Option<Ipv4Addr>,
}
