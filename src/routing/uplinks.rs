//! Which devices of the WAN the egress hook can be bound to, without harm to the LAN.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::{IfName, LanDevice, Settings};
use crate::policy::TUNNEL_GROUP;
use crate::sorted;

use super::snapshot::{Snapshot, is_link_local};

/// A device of the WAN that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    pub name: IfName,
    pub index: u32,
    pub addresses: Vec<Ipv4Addr>,
    /// Another device stands on it: a VLAN, or the port of a switch. What it carries may be the
    /// LAN's, with tags that rules for IP do not know.
    pub carries: bool,
}

/// Devices that are configured as WAN or have an address that is not link-local, in the order of
/// their names. Others have nothing to send, or are no uplinks at all: the devices that traffic
/// shapers send what came *in* through, the ports of bridges.
pub(super) fn from_snapshot(snapshot: &Snapshot, settings: &Settings) -> Vec<Uplink> {
    let mut uplinks = Vec::new();
    for link in &snapshot.links {
        let Ok(name) = link.name.parse::<IfName>() else { continue };
        let is_lan = settings.lan.devices.iter().any(|device| device.name == name);
        let addressed = link.addresses.iter().any(|address| !is_link_local(&address.connected));
        let used = addressed || settings.wan_names.contains(&name);
        if link.loopback || link.port || is_lan || !used || TUNNEL_GROUP.contains(&name.as_str()) {
            continue;
        }
        let addresses = link.addresses.iter().filter_map(|address| match address.local {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        // A VLAN that comes back while no daemon sees it must find its way as well.
        let is_vlan =
            |lan: &LanDevice| lan.name.as_str().split_once('.').is_some_and(|(on, _)| on == link.name);
        let carries = snapshot.links.iter().any(|other| other.beneath == Some(link.index))
            || settings.lan.devices.iter().any(is_vlan);
        uplinks.push(Uplink { name, index: link.index, addresses: sorted::each_once(addresses), carries });
    }
    sorted::sort_by(&mut uplinks, |a, b| a.name.cmp(&b.name));
    uplinks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Lan;
    use crate::rtnetlink::{AddressMessage, LinkMessage};

    /// NAME, what it stands on (0: nothing), and of what kind it is.
    fn link(index: u32, name: &str, beneath: u32, kind: &str) -> LinkMessage {
        let (name, kind) = (name.to_owned(), kind.to_owned());
        LinkMessage { index, name, link: beneath, kind, ..LinkMessage::default() }
    }

    fn uplinks(links: Vec<LinkMessage>, wan: &[&str], lan: &str) -> Vec<(String, bool)> {
        let address = |index, own: &str, prefix_length| AddressMessage {
            index,
            prefix_length,
            address: own.parse().ok(),
            ..AddressMessage::default()
        };
        let addresses = [address(9, "198.51.100.2", 24), address(1, "fe80::1", 64)];
        let snapshot = Snapshot::assemble(links, &addresses);
        let device = LanDevice { name: lan.parse().unwrap(), prefixes: Vec::new(), forward: true };
        let mut settings = Settings::fallback(Lan { devices: vec![device], routes: Vec::new() });
        settings.wan_names = wan.iter().map(|name| name.parse().unwrap()).collect();
        from_snapshot(&snapshot, &settings).into_iter().map(|up| (up.name.to_string(), up.carries)).collect()
    }

    #[test]
    fn what_carries_the_lan_is_never_held() {
        // A switch: WAN and LAN are ports of one conduit, the LAN's in a bridge.
        let mut port = link(3, "lan1", 1, "dsa");
        port.master = 5;
        let bridge = link(5, "br-lan", 0, "bridge");
        let switch = vec![link(1, "eth0", 0, ""), link(2, "wan", 1, ""), port, bridge];
        let found = uplinks(switch, &["wan", "eth0", "lan1"], "br-lan");
        assert_eq!(found, [("eth0".to_owned(), true), ("wan".to_owned(), false)]);
        // LAN and WAN as tags of one device; a bridge that filters VLANs, and the LAN a VLAN of it.
        let tags = vec![link(1, "eth0", 0, ""), link(2, "eth0.1", 1, "vlan"), link(9, "eth0.2", 1, "vlan")];
        assert_eq!(
            uplinks(tags, &["eth0"], "eth0.1"),
            [("eth0".to_owned(), true), ("eth0.2".to_owned(), false)]
        );
        let filtering = vec![link(9, "br", 0, "bridge"), link(2, "br.1", 9, "vlan")];
        assert_eq!(uplinks(filtering, &[], "br.1"), [("br".to_owned(), true)]);
    }

    #[test]
    fn a_vlan_of_the_lan_that_is_away_counts() {
        let found = uplinks(vec![link(9, "eth0", 0, "")], &["eth0"], "eth0.5");
        assert_eq!(found, [("eth0".to_owned(), true)]);
    }

    #[test]
    fn only_what_is_configured_or_has_an_address_is_an_uplink() {
        let shaped = vec![
            link(1, "ifb4eth1", 0, "ifb"),
            link(2, "eth1", 0, ""),
            link(9, "usb0", 0, ""),
            link(4, "vpnd1", 0, "wireguard"),
            // 6in4 over eth1 is IP there, and the end of a veth pair stands on nothing.
            link(6, "6in4-six", 2, "sit"),
            link(7, "veth0", 2, "veth"),
        ];
        let found = uplinks(shaped, &["eth1", "vpnd1"], "br-lan");
        assert_eq!(found, [("eth1".to_owned(), false), ("usb0".to_owned(), false)]);
        let mut elsewhere = link(8, "wan", 2, "macvlan");
        elsewhere.elsewhere = true;
        assert_eq!(
            uplinks(vec![link(2, "eth1", 0, ""), elsewhere], &["eth1"], "br-lan"),
            [("eth1".to_owned(), false)]
        );
    }
}
