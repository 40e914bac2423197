//! Devices and addresses, as the kernel has them at one moment.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use super::Error;
use super::netlink::Netlink;

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
        let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let links = netlink.dump(links, "listing the network devices").await?;
        let addresses = netlink.dump(addresses, "listing the network addresses").await?;
        Ok(Self::assemble(&links, &addresses))
    }

    pub(super) fn assemble(links: &[RouteNetlinkMessage], addresses: &[RouteNetlinkMessage]) -> Self {
        let messages: Vec<&LinkMessage> = links
            .iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewLink(link) => Some(link),
                _ => None,
            })
            .collect();
        let vrfs: Vec<u32> =
            messages.iter().filter(|link| is(link, &InfoKind::Vrf)).map(|link| link.header.index).collect();
        let mut links: Vec<Link> = messages.iter().filter_map(|message| Link::read(message, &vrfs)).collect();
        for message in addresses {
            let RouteNetlinkMessage::NewAddress(message) = message else {
                continue;
            };
            let link = links.iter_mut().find(|link| link.index == message.header.index);
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

fn is(link: &LinkMessage, kind: &InfoKind) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => info.contains(&LinkInfo::Kind(kind.clone())),
        _ => false,
    })
}

/// The device that such a one names is its other end, or where its outer packets may go: those are
/// IP packets like others there.
fn sends_by_routes(info: &LinkInfo) -> bool {
    use InfoKind::{Geneve, GreTap, GreTap6, GreTun, GreTun6, IpTun, SitTun, Veth, Vti, Vxlan, Xfrm};
    let LinkInfo::Kind(kind) = info else { return false };
    match kind {
        Veth | Vxlan | GreTap | GreTap6 | IpTun | SitTun | GreTun | GreTun6 | Vti | Xfrm | Geneve => true,
        InfoKind::Other(name) => ["ip6tnl", "vti6", "erspan", "ip6erspan"].contains(&name.as_str()),
        _ => false,
    }
}

impl Link {
    fn read(message: &LinkMessage, vrfs: &[u32]) -> Option<Self> {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            up: flags.contains(LinkFlags::Up),
            loopback: flags.contains(LinkFlags::Loopback),
            ..Self::default()
        };
        let mut stands = true;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Link(index) => {
                    link.beneath = Some(*index).filter(|index| *index != 0);
                    // Other kinds name their peer so, or a device of another namespace.
                    link.carrier = link.beneath.filter(|_| is(message, &InfoKind::Vlan));
                }
                // An index of another namespace.
                LinkAttribute::LinkNetNsId(_) => stands = false,
                LinkAttribute::LinkInfo(info) => stands &= !info.iter().any(sends_by_routes),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Group(group) => link.group = *group,
                LinkAttribute::Controller(master) => {
                    link.port = *master != 0 && !vrfs.contains(master);
                    link.above = Some(*master).filter(|_| link.port);
                }
                _ => {}
            }
        }
        link.beneath = link.beneath.filter(|_| stands);
        (!link.name.is_empty()).then_some(link)
    }

    /// Connected networks, each once; also the router's own address on a point-to-point device.
    pub(super) fn prefixes(&self) -> Vec<IpNet> {
        let own = self.addresses.iter().filter(|a| !a.connected.contains(&a.local));
        let mut prefixes: Vec<IpNet> = self
            .addresses
            .iter()
            .map(|address| address.connected)
            .chain(own.map(|address| address.local.into()))
            .collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes
    }
}

impl Address {
    fn read(message: &AddressMessage) -> Option<Self> {
        let (mut local, mut peer) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(address) => local = Some(*address),
                AddressAttribute::Address(address) => peer = Some(*address),
                _ => {}
            }
        }
        // IPv6 has no IFA_LOCAL unless the address has a peer.
        let peer = peer.or(local)?;
        let connected = IpNet::new(peer, message.header.prefix_len).ok()?.trunc();
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
