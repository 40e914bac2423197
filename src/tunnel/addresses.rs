//! The tunnel device's addresses.

use ipnet::IpNet;

use super::Error;
use crate::rtnetlink::{AddressMessage, Connection};

/// Removing an IPv4 address also removes the later ones of its subnet (devinet.c, unless
/// promote_secondaries is set), so a wanted one may have to be added again.
const ROUNDS: usize = 3;

/// Makes the device's addresses exactly `wanted`: adds the new ones first, so that there is
/// always one to send from, then removes the others.
pub(super) async fn reconcile(netlink: &Connection, index: u32, wanted: &[IpNet]) -> Result<(), Error> {
    for _ in 0..ROUNDS {
        let present = list(netlink, index).await?;
        let missing = wanted.iter().filter(|net| present.iter().all(|(have, _)| have != *net));
        let mut changed = false;
        for net in missing {
            add(netlink, index, *net).await?;
            changed = true;
        }
        for (_, message) in present.iter().filter(|(net, _)| !wanted.contains(net)) {
            remove(netlink, message).await?;
            changed = true;
        }
        if !changed {
            return Ok(());
        }
    }
    Ok(())
}

pub(super) async fn list(netlink: &Connection, index: u32) -> Result<Vec<(IpNet, AddressMessage)>, Error> {
    let read = |kind, body: &[u8]| AddressMessage::read(kind, body).filter(|address| address.index == index);
    let messages = netlink.dump(&AddressMessage::list(), read).await;
    let messages = messages.map_err(|e| Error::netlink("listing the addresses of", e))?;
    Ok(messages.into_iter().filter_map(|m| Some((net_of(&m)?, m))).collect())
}

/// IFA_LOCAL where it is there: on a point-to-point address IFA_ADDRESS is the other end.
fn net_of(message: &AddressMessage) -> Option<IpNet> {
    IpNet::new(message.local.or(message.address)?, message.prefix_length).ok()
}

/// Without a prefix route: only the tunnel's own table routes into the tunnel, `main` never
/// learns of it (contract, section 3).
async fn add(netlink: &Connection, index: u32, net: IpNet) -> Result<(), Error> {
    let request = AddressMessage::add(index, net);
    let added = netlink.change(&request, libc::NLM_F_CREATE | libc::NLM_F_EXCL).await;
    match added.map_err(crate::rtnetlink::Error::into_io) {
        Ok(()) => Ok(()),
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Err(source) => Err(Error::Address { address: net, source }),
    }
}

async fn remove(netlink: &Connection, message: &AddressMessage) -> Result<(), Error> {
    match netlink.change(&message.delete(), 0).await.map_err(crate::rtnetlink::Error::into_io) {
        Ok(()) => Ok(()),
        // It went with the first one of its subnet.
        Err(e) if e.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
        Err(e) => Err(Error::kernel("removing an old address of", e)),
    }
}
