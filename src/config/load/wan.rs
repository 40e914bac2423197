//! The names that WAN devices will have, as far as `/etc/config/network` gives them away.

use super::network::{Interface, Network, forbidden};
use crate::config::names::IfName;
use crate::sorted;

/// Protocols of pppd: the device is PROTO-INTERFACE (ppp.sh, 3g.sh and l2tp.sh of OpenWrt), unless
/// `option pppname` says otherwise.
const PPP: [&str; 8] = ["ppp", "pppoe", "pppoa", "pppossh", "pptp", "l2tp", "sstp", "3g"];

/// Every device that an interface uses or will make, but for loopback, LAN and our own; and those
/// of them under PPPoE. Sorted.
///
/// A name too many harms nobody: it only lets the router's own sockets that are bound to such a
/// device use the main table.
pub(super) fn names(network: &Network, is_lan: impl Fn(&IfName) -> bool) -> (Vec<IfName>, Vec<IfName>) {
    let (mut names, mut pppoe) = (Vec::new(), Vec::new());
    for (name, interface) in network.interfaces.iter() {
        if interface.disabled {
            continue;
        }
        let devices = network.devices(name);
        if interface.proto == "pppoe" {
            pppoe.extend(devices.iter().cloned());
        }
        names.extend(devices);
        names.extend(made_by_protocol(name, interface));
    }
    let wan = |names: Vec<String>| {
        let names = sorted::each_once(names).into_iter().filter_map(|name| name.parse::<IfName>().ok());
        names.filter(|name| forbidden(name).is_none() && !is_lan(name)).collect()
    };
    (wan(names), wan(pppoe))
}

fn made_by_protocol(name: &str, interface: &Interface) -> Option<String> {
    let proto = interface.proto.as_str();
    if PPP.contains(&proto) {
        return Some(interface.ppp_name.clone().unwrap_or_else(|| format!("{proto}-{name}")));
    }
    // The control device /dev/cdc-wdmN of these belongs to the network device that the kernel's
    // drivers call wwanN.
    let number = interface.devices.first()?.strip_prefix("/dev/cdc-wdm")?;
    matches!(proto, "qmi" | "mbim" | "ncm").then(|| format!("wwan{number}"))
}
