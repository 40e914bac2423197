//! When the kernel committed changes of its rules: nf_tables tells of each at its end.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::ns::Netns;

/// `NFNLGRP_NFTABLES` of linux/netfilter/nfnetlink.h.
const GROUP: u32 = 7;
/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN`.
const NEW_GENERATION: [u8; 2] = (10_u16 << 8 | 15).to_ne_bytes();

/// Time, and the name of the program that did it.
type Commit = (SystemTime, String);

/// Watches one namespace from now on. The times are those at which a thread of the highest priority
/// heard of it: never early, and late by no more than its being woken takes.
pub struct Commits {
    seen: Arc<Mutex<Vec<Commit>>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Commits {
    /// # Errors
    /// When the kernel gives no such socket.
    pub fn watch(ns: &Netns) -> Result<Self> {
        let socket = ns.enter(open)?;
        let (seen, stop) = (Arc::<Mutex<Vec<Commit>>>::default(), Arc::<AtomicBool>::default());
        let reader = {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            std::thread::spawn(move || read_all(&socket, &seen, &stop))
        };
        Ok(Self { seen, stop, reader: Some(reader) })
    }

    /// The first by this program.
    ///
    /// # Errors
    /// When there was none.
    pub fn first(&self, program: &str) -> Result<SystemTime> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = seen.iter().find(|(_, name)| name == program);
        found.map(|(time, _)| *time).with_context(|| format!("no commit by {program}: {seen:?}"))
    }

    /// The last by this program.
    ///
    /// # Errors
    /// When there was none.
    pub fn last(&self, program: &str) -> Result<SystemTime> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = seen.iter().rfind(|(_, name)| name == program);
        found.map(|(time, _)| *time).with_context(|| format!("no commit by {program}: {seen:?}"))
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn open() -> Result<OwnedFd> {
    // SAFETY: plain calls; the descriptor is checked and owned, the option's size is given.
    unsafe {
        let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_NETFILTER);
        if fd < 0 {
            bail!("a netfilter socket: {}", std::io::Error::last_os_error());
        }
        let fd = OwnedFd::from_raw_fd(fd);
        let set = |level, option, value: *const libc::c_void, size: usize| {
            libc::setsockopt(fd.as_raw_fd(), level, option, value, size as u32) == 0
        };
        // Without an address of its own it would be nobody to tell.
        let mut address: libc::sockaddr_nl = std::mem::zeroed();
        address.nl_family = libc::AF_NETLINK as u16;
        let bound = libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32);
        let (group, buffer, limit) = (GROUP, 8_i32 << 20, libc::timeval { tv_sec: 0, tv_usec: 50_000 });
        let good = bound == 0
            && set(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, (&raw const group).cast(), 4)
            && set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, (&raw const buffer).cast(), 4)
            && set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const limit).cast(), size_of_val(&limit));
        if !good {
            bail!("listening to nf_tables: {}", std::io::Error::last_os_error());
        }
        Ok(fd)
    }
}

fn read_all(socket: &OwnedFd, seen: &Mutex<Vec<Commit>>, stop: &AtomicBool) {
    // SAFETY: zero is a valid value of every field; musl has more of them than glibc.
    let mut priority: libc::sched_param = unsafe { std::mem::zeroed() };
    priority.sched_priority = 50;
    // SAFETY: a whole sched_param; 0 is this thread. Without it the times are only later.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    let mut buffer = vec![0_u8; 1 << 16];
    while !stop.load(Ordering::SeqCst) {
        // SAFETY: the buffer has the length that is given.
        let got = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let now = SystemTime::now();
        let Ok(got) = usize::try_from(got) else { continue };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(generations(buffer.get(..got).unwrap_or_default()).map(|name| (now, name)));
    }
}

/// Who made each new generation in a datagram.
fn generations(mut bytes: &[u8]) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    while let Some(length) = bytes.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize) {
        let Some(message) = bytes.get(..length).filter(|message| message.len() >= 20) else { break };
        if message.get(4..6) == Some(&NEW_GENERATION[..]) {
            found.push(program(message.get(20..).unwrap_or_default()));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found.into_iter()
}

/// `NFTA_GEN_PROC_NAME`.
fn program(mut attributes: &[u8]) -> String {
    while let Some(header) = attributes.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(value) = attributes.get(4..length) else { break };
        if u16::from_ne_bytes([header[2], header[3]]) == 3 {
            let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
            return String::from_utf8_lossy(name).into_owned();
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    String::new()
}
