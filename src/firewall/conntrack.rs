//! Deletes connections that a policy no longer allows, over ctnetlink.
//!
//! Messages and attributes: linux/netfilter/nfnetlink_conntrack.h; how they are answered:
//! net/netfilter/nf_conntrack_netlink.c. Values inside attributes are big endian.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::netlink::{Socket, message, messages};
use crate::policy::flows::Flow;

use super::conntrack_message::{Entry, GENERIC_HEADER, MSG_DELETE, MSG_GET};

/// Deletions that are sent before their answers are read: 64 answers fit any receive buffer.
const BATCH: usize = 64;
/// Rounds of dump and delete: a second one sees what was confirmed during the first.
const ROUNDS: u32 = 4;
/// A dump that overran is started again this often.
const DUMP_TRIES: u32 = 5;

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
    let number = error.raw_os_error();
    number.map_or(error.kind() == io::ErrorKind::TimedOut, |errno| passing.contains(&errno))
}

fn try_dump() -> Result<Vec<Entry>, Error> {
    let socket = open().map_err(Error::Open)?;
    let mut entries = Vec::new();
    // AF_UNSPEC, NFNETLINK_V0 and resource 0: every connection of every family.
    let everything = [0; GENERIC_HEADER];
    let whole = socket.ask(MSG_GET, libc::NLM_F_DUMP, &everything, &mut |kind, body| {
        entries.extend(Entry::of_message(kind, body));
    });
    match whole {
        Ok(true) => Ok(entries),
        Ok(false) => Err(Error::Dump(io::Error::from_raw_os_error(libc::ENOBUFS))),
        Err(error) => Err(Error::Dump(error)),
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
        message::put(&mut datagram, MSG_DELETE, libc::NLM_F_ACK, sequence, &entry.deletion());
    }
    socket.send(&datagram)?;
    let mut open = batch.len();
    while open > 0 {
        socket.datagram(&mut datagram)?;
        for answer in messages(&datagram).filter_map(|message| message.end()) {
            open = open.saturating_sub(1);
            match answer {
                0 => tally.deleted += 1,
                libc::ENOENT => {}
                errno => tally.fail(1, io::Error::from_raw_os_error(errno)),
            }
        }
    }
    Ok(())
}

pub(super) fn open() -> io::Result<Socket> {
    Socket::open(NETLINK_NETFILTER)
}

/// A door for `fuzz/`: for each connection of a datagram its flow, and the request to delete it.
#[cfg(fuzzing)]
pub fn fuzzing_deletions(datagram: &[u8]) -> Vec<(Option<Flow>, Vec<u8>)> {
    let entries = messages(datagram).filter_map(|message| Entry::of_message(message.kind, message.body));
    let deletion = |entry: &Entry| {
        let mut bytes = Vec::new();
        message::put(&mut bytes, MSG_DELETE, libc::NLM_F_ACK, 1, &entry.deletion());
        bytes
    };
    entries.map(|entry| (entry.flow.clone(), deletion(&entry))).collect()
}
