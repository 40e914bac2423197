//! Deletes connections that a policy no longer allows, over ctnetlink.
//!
//! Messages and attributes: linux/netfilter/nfnetlink_conntrack.h; how they are answered:
//! net/netfilter/nf_conntrack_netlink.c. Values inside attributes are big endian.

use std::io;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use crate::policy::flows::Flow;

use super::conntrack_message::{Entry, Message};

/// Deletions that are sent before their answers are read: 64 answers fit any receive buffer.
const BATCH: usize = 64;
/// Rounds of dump and delete: a second one sees what was confirmed during the first.
const ROUNDS: u32 = 4;
/// A dump that overran is started again this often.
const DUMP_TRIES: u32 = 5;
/// The kernel answers at once; this keeps a lost answer from hanging the caller.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Bytes: a dump comes in datagrams of at most 32 KiB (netlink_dump in net/netlink/af_netlink.c).
const DATAGRAM: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("opening the connection tracking socket (is nf_conntrack_netlink in the kernel?): {0}")]
    Open(io::Error),
    #[error("listing the tracked connections: {0}")]
    Dump(io::Error),
    #[error(
        "deleting {failed} of {wanted} tracked connections that the policy no longer allows; the first refusal: {source}"
    )]
    Delete { failed: usize, wanted: usize, source: io::Error },
}

/// Deletes every connection that `keep` refuses, in both families and all zones, and returns how
/// many it deleted. An entry that cannot be read is deleted as well. Blocks for as long as the
/// table is long: about a second for 20,000 entries on a small router.
///
/// # Errors
/// When the table cannot be listed, or an entry cannot be deleted for another reason than being
/// gone. The entries that could be deleted are.
pub fn delete_unfit(keep: impl Fn(&Flow) -> bool) -> Result<usize, Error> {
    let mut deleted = 0;
    for _ in 0..ROUNDS {
        let mut unfit = dump()?;
        unfit.retain(|entry| entry.flow.as_ref().is_none_or(|flow| !keep(flow)));
        let gone = delete(&unfit)?;
        deleted += gone;
        if unfit.is_empty() {
            break;
        }
    }
    Ok(deleted)
}

/// Every connection that can be read, for `status` and for tests.
///
/// # Errors
/// When the table cannot be listed.
pub fn flows() -> Result<Vec<Flow>, Error> {
    Ok(dump()?.into_iter().filter_map(|entry| entry.flow).collect())
}

fn dump() -> Result<Vec<Entry>, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        match try_dump() {
            Err(Error::Dump(error)) if tries < DUMP_TRIES && is_passing(&error) => {}
            result => return result,
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    let passing = [libc::EINTR, libc::ENOBUFS, libc::EAGAIN, libc::EBUSY];
    error.raw_os_error().is_some_and(|errno| passing.contains(&errno))
}

fn try_dump() -> Result<Vec<Entry>, Error> {
    let socket = open().map_err(Error::Open)?;
    let mut entries = Vec::new();
    send(&socket, &request(Message::Get, NLM_F_DUMP, 1)).map_err(Error::Dump)?;
    loop {
        for answer in receive(&socket).map_err(Error::Dump)? {
            match answer.payload {
                NetlinkPayload::InnerMessage(Message::Entry(entry)) => entries.push(entry),
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(Error::Dump(io::Error::from_raw_os_error(-done.code)));
                }
                NetlinkPayload::Done(_) => return Ok(entries),
                NetlinkPayload::Error(error) => return Err(Error::Dump(error.to_io())),
                NetlinkPayload::Overrun(_) => {
                    return Err(Error::Dump(io::Error::from_raw_os_error(libc::ENOBUFS)));
                }
                _ => {}
            }
        }
    }
}

/// Returns how many were there and are gone.
fn delete(entries: &[Entry]) -> Result<usize, Error> {
    if entries.is_empty() {
        return Ok(0);
    }
    let mut socket = open().map_err(Error::Open)?;
    let mut tally = Tally::default();
    for batch in entries.chunks(BATCH) {
        if let Err(error) = delete_batch(&socket, batch, &mut tally) {
            // Which answers are lost is unknown: the next round lists what is still there.
            tally.fail(batch.len(), error);
            socket = open().map_err(Error::Open)?;
        }
    }
    match tally.failed {
        Some(source) => Err(Error::Delete { failed: tally.failures, wanted: entries.len(), source }),
        None => Ok(tally.deleted),
    }
}

#[derive(Default)]
struct Tally {
    deleted: usize,
    failures: usize,
    failed: Option<io::Error>,
}

impl Tally {
    fn fail(&mut self, count: usize, error: io::Error) {
        if is_passing(&error) {
            return;
        }
        self.failures += count;
        self.failed.get_or_insert(error);
    }
}

fn delete_batch(socket: &Socket, batch: &[Entry], tally: &mut Tally) -> io::Result<()> {
    let mut datagram = Vec::new();
    for (sequence, entry) in (1..).zip(batch) {
        datagram.extend(request(Message::Delete(entry.clone()), NLM_F_ACK, sequence));
    }
    send(socket, &datagram)?;
    let mut open = batch.len();
    while open > 0 {
        for answer in receive(socket)? {
            let NetlinkPayload::Error(answer) = answer.payload else { continue };
            open = open.saturating_sub(1);
            match answer.code.map(|code| -code.get()) {
                None => tally.deleted += 1,
                Some(libc::ENOENT) => {}
                Some(errno) => tally.fail(1, io::Error::from_raw_os_error(errno)),
            }
        }
    }
    Ok(())
}

pub(super) fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket2::SockRef::from(&socket).set_read_timeout(Some(TIME_LIMIT))?;
    Ok(socket)
}

fn request(message: Message, flags: u16, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    // Messages in one datagram start at multiples of four (NLMSG_ALIGN).
    let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
    message.serialize(&mut bytes);
    bytes
}

pub(super) fn send(socket: &Socket, bytes: &[u8]) -> io::Result<()> {
    loop {
        match socket.send(bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map(|_| ()),
        }
    }
}

/// The messages of one datagram.
fn receive(socket: &Socket) -> io::Result<Vec<NetlinkMessage<Message>>> {
    split(&datagram(socket)?)
}

pub(super) fn datagram(socket: &Socket) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(DATAGRAM);
    loop {
        match socket.recv(&mut buffer, 0) {
            Ok(_) => return Ok(buffer),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A door for `fuzz/`: for each connection of a datagram its flow, and the request to delete it.
///
/// # Errors
/// When the datagram is no row of messages.
#[cfg(fuzzing)]
pub fn fuzzing_deletions(datagram: &[u8]) -> io::Result<Vec<(Option<Flow>, Vec<u8>)>> {
    let entries = split(datagram)?.into_iter().filter_map(|message| match message.payload {
        NetlinkPayload::InnerMessage(Message::Entry(entry)) => Some(entry),
        _ => None,
    });
    Ok(entries.map(|entry| (entry.flow.clone(), request(Message::Delete(entry), NLM_F_ACK, 1))).collect())
}

/// Cuts a datagram into its messages.
fn split(mut bytes: &[u8]) -> io::Result<Vec<NetlinkMessage<Message>>> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let message = NetlinkMessage::<Message>::deserialize(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let length = (message.header.length as usize).max(1).next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
        messages.push(message);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = split(&bytes);
        }
    }
}
