//! The tunnel device's addresses.

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::Handle;

use super::Error;
use super::error::to_io;

/// Removing an IPv4 address also removes the later ones of its subnet (devinet.c, unless
/// promote_secondaries is set), so a wanted one may have to be added again.
const ROUNDS: usize = 3;

/// Makes the device's addresses exactly `wanted`: adds the new ones first, so that there is
/// always one to send from, then removes the others.
pub(super) async fn reconcile(handle: &Handle, index: u32, wanted: &[IpNet]) -> Result<(), Error> {
    for _ in 0..ROUNDS {
        let present = list(handle, index).await?;
        let missing = wanted.iter().filter(|net| present.iter().all(|(have, _)| have != *net));
        let mut changed = false;
        for net in missing {
            add(handle, index, *net).await?;
            changed = true;
        }
        for (_, message) in present.into_iter().filter(|(net, _)| !wanted.contains(net)) {
            remove(handle, message).await?;
            changed = true;
        }
        if !changed {
            return Ok(());
        }
    }
    Ok(())
}

pub(super) async fn list(handle: &Handle, index: u32) -> Result<Vec<(IpNet, AddressMessage)>, Error> {
    let messages = handle.address().get().set_link_index_filter(index).execute();
    let messages: Vec<AddressMessage> =
        messages.try_collect().await.map_err(|e| Error::netlink("listing the addresses of", e))?;
    Ok(messages.into_iter().filter_map(|m| Some((net_of(&m)?, m))).collect())
}

/// IFA_LOCAL where it is there: on a point-to-point address IFA_ADDRESS is the other end.
fn net_of(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    let address = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    });
    IpNet::new(local.or(address)?, message.header.prefix_len).ok()
}

/// Without a prefix route: only the tunnel's own table routes into the tunnel, `main` never
/// learns of it (contract, section 3).
async fn add(handle: &Handle, index: u32, net: IpNet) -> Result<(), Error> {
    let mut request = handle.address().add(index, net.addr(), net.prefix_len());
    let flags = AddressFlags::Noprefixroute;
    request.message_mut().attributes.push(AddressAttribute::Flags(flags));
    match request.execute().await.map_err(to_io) {
        Ok(()) => Ok(()),
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Err(source) => Err(Error::Address { address: net, source }),
    }
}

async fn remove(handle: &Handle, message: AddressMessage) -> Result<(), Error> {
    match handle.address().del(message).execute().await.map_err(to_io) {
        Ok(()) => Ok(()),
        // It went with the first one of its subnet.
        Err(e) if e.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
        Err(e) => Err(Error::kernel("removing an old address of", e)),
    }
}
