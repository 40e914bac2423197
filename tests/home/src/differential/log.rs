//! The kernel's packet log (linux/netfilter/nfnetlink_log.h): what the observer table says.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Result, bail};
use vpnd::firewall::evaluate::Hook;

use crate::ns::Netns;
use crate::wire::set;

/// The log's group, as the observer's rules name it; vpnd's own is another.
pub const GROUP: u16 = 7642;

/// One message of one rule of the observer's.
#[derive(Debug, Clone)]
pub struct Entry {
    pub hook: Hook,
    /// What the rule says of the packet.
    pub prefix: String,
    pub mark: u32,
    /// Interface indexes, 0 for none.
    pub iif: u32,
    pub oif: u32,
    /// From the IP header on.
    pub packet: Vec<u8>,
}

pub struct Log {
    socket: OwnedFd,
}

impl Log {
    /// # Errors
    /// When the kernel has no nfnetlink_log.
    pub fn open(ns: &Netns) -> Result<Self> {
        ns.enter(|| {
            // SAFETY: plain call; the descriptor is owned at once.
            let fd = unsafe {
                libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_NETFILTER)
            };
            if fd < 0 {
                bail!("a netfilter socket: {}", std::io::Error::last_os_error());
            }
            // SAFETY: just made, owned by nobody else.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(64 << 20))?;
            let log = Self { socket };
            // NFULA_CFG_CMD: NFULNL_CFG_CMD_BIND.
            log.configure(1, &[1])?;
            // NFULA_CFG_MODE: all of each packet, NFULNL_COPY_PACKET.
            log.configure(2, &[0, 0, 0xff, 0xff, 2, 0])?;
            Ok(log)
        })
    }

    fn configure(&self, attribute: u16, value: &[u8]) -> Result<()> {
        let padded = value.len().next_multiple_of(4);
        let mut message = Vec::new();
        message.extend((16 + 4 + 4 + padded as u32).to_ne_bytes());
        // NFNL_SUBSYS_ULOG, NFULNL_MSG_CONFIG.
        message.extend((4u16 << 8 | 1).to_ne_bytes());
        message.extend(((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
        message.extend([0; 8]);
        message.extend([0, 0]);
        message.extend(GROUP.to_be_bytes());
        message.extend((4 + value.len() as u16).to_ne_bytes());
        message.extend(attribute.to_ne_bytes());
        message.extend(value);
        message.resize(message.len() - value.len() + padded, 0);
        let mut answer = [0u8; 256];
        // SAFETY: buffers and lengths of live values.
        let got = unsafe {
            libc::send(self.socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0);
            libc::recv(self.socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
        };
        let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        if got < 20 || error != 0 {
            bail!("setting up the packet log: answer of {got} bytes, error {error}");
        }
        Ok(())
    }

    /// All that is there, and what comes until nothing came for `quiet` milliseconds.
    ///
    /// # Errors
    /// When messages were lost.
    pub fn read(&self, quiet: i32) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut buffer = vec![0u8; 256 << 10];
        let fd = self.socket.as_raw_fd();
        loop {
            let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd.
            if unsafe { libc::poll(&raw mut poll, 1, quiet) } <= 0 {
                return Ok(entries);
            }
            // SAFETY: buffer and length of a live value.
            let got = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
            match usize::try_from(got) {
                Ok(got) => messages(&buffer[..got], &mut entries),
                Err(_) => bail!("reading the packet log: {}", std::io::Error::last_os_error()),
            }
        }
    }
}

fn messages(mut bytes: &[u8], entries: &mut Vec<Entry>) {
    while let Some(length) = bytes.get(..4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]) as usize) {
        let Some(message) = bytes.get(20..length.max(20)) else { return };
        entries.extend(entry(message));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn entry(mut bytes: &[u8]) -> Option<Entry> {
    let mut entry =
        Entry { hook: Hook::Prerouting, prefix: String::new(), mark: 0, iif: 0, oif: 0, packet: Vec::new() };
    let mut known = false;
    while let (Some(&[a, b]), Some(&[c, d])) =
        (bytes.first_chunk(), bytes.get(2..4).and_then(|b| b.first_chunk()))
    {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        let number = || value.first_chunk().map(|b| u32::from_be_bytes(*b)).unwrap_or(0);
        match u16::from_ne_bytes([c, d]) & 0x3fff {
            1 => {
                known = true;
                entry.hook = match value.get(2)? {
                    0 => Hook::Prerouting,
                    1 => Hook::Input,
                    2 => Hook::Forward,
                    3 => Hook::Output,
                    _ => Hook::Postrouting,
                };
            }
            2 => entry.mark = number(),
            4 => entry.iif = number(),
            5 => entry.oif = number(),
            9 => entry.packet = value.to_vec(),
            10 => entry.prefix = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    known.then_some(entry)
}
