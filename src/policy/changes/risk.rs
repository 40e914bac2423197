//! Whether changed settings could cut off who asks for them.

use std::net::IpAddr;

use crate::config::{IfName, Settings};
use crate::policy::Facts;

use super::lets_in;

/// Where a person's session comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    pub address: IpAddr,
    /// Of a link-local address.
    pub device: Option<IfName>,
    /// The TCP port of the router that the session goes to.
    pub port: Option<u16>,
}

/// Why the change needs a confirmation, for people; empty: nobody is cut off by it. `asker` is
/// None where it is not known.
#[must_use]
pub fn risks(old: &Settings, new: &Settings, facts: &Facts, asker: Option<&Asker>) -> Vec<String> {
    let mut out = Vec::new();
    if old == new {
        return out;
    }
    if old.lan != new.lan {
        out.push("the LAN list or its addresses change: who is on such a network may be cut off".to_owned());
    }
    let Some(asker) = asker else {
        if lost(old, new) {
            let why = "a service for the WAN goes away, and where you ask from is not known";
            out.push(why.to_owned());
        }
        return out;
    };
    let address = asker.address.to_canonical();
    if on_lan(old, facts, address, asker.device.as_ref()) {
        return out;
    }
    out.push(format!("you ask from {address}, which is on no LAN network"));
    if let Some(port) = asker.port {
        let was = lets_in(&old.allow_wan_service, address, port);
        if was && !lets_in(&new.allow_wan_service, address, port) {
            out.push(format!("your own session ({address} to tcp {port}) would not be let in any more"));
        }
    }
    out
}

/// Whether some host loses a service.
fn lost(old: &Settings, new: &Settings) -> bool {
    old.allow_wan_service.iter().any(|service| !new.allow_wan_service.contains(service))
}

fn on_lan(settings: &Settings, facts: &Facts, address: IpAddr, device: Option<&IfName>) -> bool {
    let lan = &settings.lan;
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    };
    if link_local {
        return lan.devices.iter().any(|known| Some(&known.name) == device);
    }
    let routed = lan.routes.iter().map(|route| &route.prefix);
    let devices = lan.devices.iter().flat_map(|known| {
        known.prefixes.iter().chain(facts.lan_prefixes.get(&known.name).into_iter().flatten())
    });
    devices.chain(routed).any(|net| net.contains(&address))
}
