//! Devices and addresses, as the kernel has them at one moment.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Error;
use super::netlink::Netlink;
use crate::rtnetlink::{AddressMessage, LinkMessage};
use crate::sorted;

#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub links: Vec<Link>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Link {
    pub index: u32,
    pub name: String,
    pub up: bool,
    pub loopback: bool,
    /// A port of a bridge or a bond: it has no addresses and no routes of its own. (A device in a
    /// VRF has a master as well, but is a device in its own right.)
    pub port: bool,
    /// Index of the device that this one is a port of (as `port`), and of the one that carries this
    /// one, where it is a VLAN.
    pub above: Option<u32>,
    pub carrier: Option<u32>,
    /// The device that it stands on: a VLAN's parent, the conduit of a switch's port.
    pub beneath: Option<u32>,
    /// `ip link set group`; 0 unless somebody said otherwise.
    pub group: u32,
    /// Bytes.
    pub mtu: u32,
    pub addresses: Vec<Address>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    pub local: IpAddr,
    /// The connected network, host bits cleared; on a point-to-point device the peer's.
    pub connected: IpNet,
}

impl Snapshot {
    pub(super) async fn take(netlink: &Netlink) -> Result<Self, Error> {
        let links =
            netlink.dump(&LinkMessage::list(), "listing the network devices", LinkMessage::read).await?;
        let question = AddressMessage::list();
        let addresses =
            netlink.dump(&question, "listing the network addresses", AddressMessage::read).await?;
        Ok(Self::assemble(links, &addresses))
    }

    pub(super) fn assemble(messages: Vec<LinkMessage>, addresses: &[AddressMessage]) -> Self {
        let vrfs: Vec<u32> =
            messages.iter().filter(|link| link.kind == "vrf").map(|link| link.index).collect();
        let mut links: Vec<Link> =
            messages.into_iter().filter_map(|message| Link::read(message, &vrfs)).collect();
        for message in addresses {
            let link = links.iter_mut().find(|link| link.index == message.index);
            if let (Some(link), Some(address)) = (link, Address::read(message)) {
                link.addresses.push(address);
            }
        }
        Self { links }
    }

    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// The device that such a one names is its other end, or where its outer packets may go: those are
/// IP packets like others there.
const SEND_BY_ROUTES: [&str; 15] = [
    "veth",
    "vxlan",
    "gretap",
    "ip6gretap",
    "ipip",
    "sit",
    "gre",
    "ip6gre",
    "vti",
    "vti6",
    "xfrm",
    "geneve",
    "ip6tnl",
    "erspan",
    "ip6erspan",
];

impl Link {
    fn read(message: LinkMessage, vrfs: &[u32]) -> Option<Self> {
        let beneath = Some(message.link).filter(|index| *index != 0);
        // An index of another namespace says nothing here.
        let stands = !message.elsewhere && !SEND_BY_ROUTES.contains(&message.kind.as_str());
        let above = Some(message.master).filter(|master| *master != 0 && !vrfs.contains(master));
        let link = Self {
            index: message.index,
            up: message.is_up(),
            loopback: message.is_loopback(),
            port: above.is_some(),
            above,
            // Other kinds name their peer so, or a device of another namespace.
            carrier: beneath.filter(|_| message.kind == "vlan"),
            beneath: beneath.filter(|_| stands),
            group: message.group,
            mtu: message.mtu.unwrap_or(0),
            name: message.name,
            addresses: Vec::new(),
        };
        (!link.name.is_empty()).then_some(link)
    }

    /// Connected networks, each once; also the router's own address on a point-to-point device.
    pub(super) fn prefixes(&self) -> Vec<IpNet> {
        let own = self.addresses.iter().filter(|a| !a.connected.contains(&a.local));
        let connected = self.addresses.iter().map(|address| address.connected);
        sorted::each_once(connected.chain(own.map(|address| address.local.into())))
    }
}

impl Address {
    fn read(message: &AddressMessage) -> Option<Self> {
        let local = message.local;
        // IPv6 has no IFA_LOCAL unless the address has a peer.
        let peer = message.address.or(local)?;
        let connected = IpNet::new(peer, message.prefix_length).ok()?.trunc();
        // An address of length 0 would make its device the way to everywhere.
        (connected.prefix_len() != 0).then_some(Self { local: local.unwrap_or(peer), connected })
    }
}

/// fe80::/10 (RFC 4291) or 169.254.0.0/16 (RFC 3927).
pub(super) fn is_link_local(prefix: &IpNet) -> bool {
    match prefix.network() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}
