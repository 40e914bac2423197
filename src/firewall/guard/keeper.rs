//! The socket that owns the tables (`nft_table_has_owner` of net/netfilter/nf_tables_api.c).

use std::io;
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::message::{self, OWNER, PERSIST};
use super::table::Table;
use super::{EGRESS, GUARD};
use crate::firewall::nftables_message::{self as nftables, Answer, NEWTABLE, Requests};
use crate::sorted;

/// Bytes: a dump comes in datagrams of at most 32 KiB.
const DATAGRAM: usize = 64 * 1024;
/// Bytes of the largest batch, where the kernel's own limit allows it; it is no memory.
const LARGEST: usize = 4 << 20;
/// Somebody may delete a table between a look and the batch.
const TRIES: u32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("opening the nftables socket: {0}")]
    Open(io::Error),
    #[error("{table}: {what}: {source}")]
    Refused { table: &'static str, what: &'static str, source: io::Error },
    #[error(
        "{table} belongs to another program (netlink port {owner}, mostly its pid): end it, and the table can be had"
    )]
    Taken { table: &'static str, owner: u32 },
}

impl Error {
    /// The kernel has no egress hook (CONFIG_NETFILTER_EGRESS, Linux 5.16).
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if source.raw_os_error() == Some(libc::EOPNOTSUPP))
    }
}

/// How a table that stands is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// By a living process: nobody else can change it.
    pub owned: bool,
    /// It outlives its owner.
    pub persist: bool,
}

/// What stands, whoever put it there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    pub guard: Option<Hold>,
    pub egress: Option<Hold>,
    /// Devices whose egress chain is bound.
    pub devices: Vec<String>,
}

/// Holds the tables for as long as it lives. Calls block, for milliseconds.
pub struct Keeper {
    socket: Socket,
    port: u32,
    sent: Vec<(Table, Hold)>,
}

impl Keeper {
    /// # Errors
    /// [`Error::Open`].
    pub fn open() -> Result<Self, Error> {
        let (socket, port) = open()?;
        Ok(Self { socket, port, sent: Vec::new() })
    }

    /// Brings the table to this content in one transaction: a packet meets the former or the new
    /// one. What a dead daemon left is taken over in the same way. Nothing is sent where it stands.
    ///
    /// # Errors
    /// [`Error::Refused`], and [`Error::Taken`] while another process owns one of that name. What
    /// stood before still does.
    pub fn hold(&mut self, table: &Table) -> Result<Hold, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_hold(table) {
                Err(Error::Refused { source, what, .. })
                    if tries < TRIES && what != "adding a chain" && is_race(&source) => {}
                result => return result,
            }
        }
    }

    fn try_hold(&mut self, table: &Table) -> Result<Hold, Error> {
        let found = look(&self.socket, table.family, table.name)?;
        let own = found.is_some_and(|found| found.owner == self.port);
        if let (Some(Found { owner, .. }), false) = (found, own) {
            taken(table.name, owner)?;
        }
        let known = self.sent.iter().find(|(sent, _)| own && sent == table);
        if let Some((_, hold)) = known {
            return Ok(*hold);
        }
        let mut result = self.install(table, OWNER | PERSIST, found.is_some());
        if matches!(&result, Err(error @ Error::Refused { what: NEWTABLE, .. }) if error.is_unsupported()) {
            result = self.install(table, OWNER, found.is_some());
        }
        result
    }

    pub(super) fn install(&mut self, table: &Table, flags: u32, replaces: bool) -> Result<Hold, Error> {
        transact(&self.socket, table.name, &message::install(table, flags, replaces))?;
        let hold = Hold { owned: true, persist: flags & PERSIST != 0 };
        self.sent.retain(|(sent, _)| sent.name != table.name);
        self.sent.push((table.clone(), hold));
        Ok(hold)
    }

    /// Deletes the guard's table, also one that a dead process left; fine when there is none.
    ///
    /// # Errors
    /// As [`Keeper::hold`].
    pub fn remove_guard(&mut self) -> Result<(), Error> {
        self.remove(libc::NFPROTO_INET as u8, GUARD)
    }

    /// The same for the egress hook's.
    ///
    /// # Errors
    /// As [`Keeper::hold`].
    pub fn remove_egress(&mut self) -> Result<(), Error> {
        self.remove(libc::NFPROTO_NETDEV as u8, EGRESS)
    }

    fn remove(&mut self, family: u8, name: &'static str) -> Result<(), Error> {
        self.sent.retain(|(sent, _)| sent.name != name);
        let Some(found) = look(&self.socket, family, name)? else { return Ok(()) };
        if found.owner != self.port {
            taken(name, found.owner)?;
        }
        match transact(&self.socket, name, &nftables::remove(family, name)) {
            Err(Error::Refused { source, .. }) if is_race(&source) => Ok(()),
            result => result,
        }
    }
}

/// Deletes what a dead daemon left; waits a little for one that is just dying.
///
/// # Errors
/// As [`Keeper::hold`]: a living owner's tables stay.
pub fn remove_left_over() -> Result<(), Error> {
    let mut keeper = Keeper::open()?;
    let mut tries = 0;
    loop {
        tries += 1;
        match keeper.remove_egress().and_then(|()| keeper.remove_guard()) {
            Err(Error::Taken { .. }) if tries < 20 => std::thread::sleep(Duration::from_millis(50)),
            result => return result,
        }
    }
}

/// What the kernel holds now.
///
/// # Errors
/// When it does not tell.
pub fn standing() -> Result<Standing, Error> {
    let (socket, _) = open()?;
    let held = |family: i32, name| -> Result<Option<Hold>, Error> {
        let found = look(&socket, family as u8, name)?;
        Ok(found.map(|found| Hold { owned: found.owner != 0, persist: found.flags & PERSIST != 0 }))
    };
    let guard = held(libc::NFPROTO_INET, GUARD)?;
    let egress = held(libc::NFPROTO_NETDEV, EGRESS)?;
    let mut devices = Vec::new();
    if egress.is_some() {
        let requests = nftables::get_chains(libc::NFPROTO_NETDEV as u8);
        for answer in ask(&socket, EGRESS, &requests)? {
            match answer {
                Answer::Chain { table, device } if table == EGRESS => {
                    devices.extend(device.filter(|device| exists(device)))
                }
                _ => {}
            }
        }
    }
    sorted::sort_by(&mut devices, Ord::cmp);
    Ok(Standing { guard, egress, devices })
}

/// From Linux 6.16 a chain may wait for its device.
fn exists(device: &str) -> bool {
    let Ok(name) = std::ffi::CString::new(device) else { return false };
    // SAFETY: a C string that outlives the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) != 0 }
}

fn open() -> Result<(Socket, u32), Error> {
    let opened = || {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let address = socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        // As much as the kernel's limit allows.
        let _ = socket2::SockRef::from(&socket).set_send_buffer_size(LARGEST);
        Ok((socket, address.port_number()))
    };
    opened().map_err(Error::Open)
}

fn is_race(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
}

/// A living process keeps others away.
fn taken(table: &'static str, owner: u32) -> Result<(), Error> {
    if owner == 0 { Ok(()) } else { Err(Error::Taken { table, owner }) }
}

#[derive(Clone, Copy)]
struct Found {
    flags: u32,
    owner: u32,
}

fn look(socket: &Socket, family: u8, name: &'static str) -> Result<Option<Found>, Error> {
    match ask(socket, name, &nftables::get_table(family, name)) {
        Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
            Answer::Table { flags, owner } => Some(Found { flags, owner }),
            _ => None,
        })),
        Err(Error::Refused { source, .. }) if is_race(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A batch is in force as a whole, or nothing of it.
fn transact(socket: &Socket, table: &'static str, requests: &Requests) -> Result<(), Error> {
    let answers = ask(socket, table, requests)?;
    if answers.is_empty() {
        let source = io::Error::from(io::ErrorKind::UnexpectedEof);
        return Err(Error::Refused { table, what: "no answer to the batch", source });
    }
    Ok(())
}

/// Sends and reads what the kernel answers; it has done so when send(2) returns. The first refusal
/// is the error.
fn ask(socket: &Socket, table: &'static str, requests: &Requests) -> Result<Vec<Answer>, Error> {
    let failed = |what, source| Error::Refused { table, what, source };
    // Left over from a call that failed.
    while receive(socket).is_ok_and(|answers| answers.is_some()) {}
    retry(|| socket.send(requests.bytes(), 0)).map_err(|error| failed("sending", error))?;
    let mut all = Vec::new();
    let mut refused: Option<(u32, i32)> = None;
    while let Some(answers) = receive(socket).map_err(|error| failed("reading the answer", error))? {
        for answer in answers {
            match answer {
                Answer::Done(sequence, code) if code != 0 => {
                    let this = (sequence, code);
                    refused = Some(refused.map_or(this, |first| first.min(this)));
                }
                answer => all.push(answer),
            }
        }
    }
    match refused {
        Some((sequence, code)) => Err(failed(requests.about(sequence), io::Error::from_raw_os_error(code))),
        None => Ok(all),
    }
}

/// The answers of one datagram; None: there is no other.
fn receive(socket: &Socket) -> io::Result<Option<Vec<Answer>>> {
    let mut buffer = Vec::with_capacity(DATAGRAM);
    match retry(|| socket.recv(&mut buffer, 0)) {
        Ok(_) => Ok(Some(nftables::read(&buffer))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
