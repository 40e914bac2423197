//! Frames sent as fast as one thread can, and the processor time that it takes.
//!
//! On a veth pair the kernel carries a frame through the router and to the far end before the
//! sender's call returns, on the sender's time: the time of this thread is that of the router. It
//! does not run on while others have the processor, which a clock on the wall does.

use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail};

use crate::ns::Netns;
use crate::wire::{index_of, set};

/// Frames of one system call.
const BATCH: usize = 64;

/// A packet socket without a queue: what was sent has arrived.
pub struct Muzzle {
    socket: OwnedFd,
    address: libc::sockaddr_ll,
}

impl Muzzle {
    /// # Errors
    /// When the device is not there.
    pub fn new(ns: &Netns, device: &str) -> Result<Self> {
        let (socket, index) = ns.enter(|| {
            // SAFETY: plain call; the descriptor is owned at once.
            let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
            if fd < 0 {
                bail!("a packet socket: {}", std::io::Error::last_os_error());
            }
            // SAFETY: just made, owned by nobody else.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            set(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1i32)
                .context("PACKET_QDISC_BYPASS")?;
            Ok((socket, index_of(device)?))
        })?;
        // SAFETY: sockaddr_ll is plain data.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index;
        Ok(Self { socket, address })
    }

    /// Sends frames of one EtherType.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn send<'a>(&self, frames: impl ExactSizeIterator<Item = &'a Vec<u8>>) -> Result<()> {
        let mut parts: Vec<libc::iovec> = frames
            .map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() })
            .collect();
        let mut address = self.address;
        if let Some(part) = parts.first().filter(|part| part.iov_len >= 14) {
            // SAFETY: the frame is borrowed for as long as this function runs, and is long enough.
            let kind = unsafe { std::slice::from_raw_parts(part.iov_base.cast::<u8>().add(12), 2) };
            address.sll_protocol = u16::from_ne_bytes([kind[0], kind[1]]);
        }
        let mut messages: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: mmsghdr is plain data.
                let mut message: libc::mmsghdr = unsafe { zeroed() };
                message.msg_hdr.msg_name = std::ptr::from_mut(&mut address).cast();
                message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as u32;
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        let mut left = messages.as_mut_slice();
        while !left.is_empty() {
            // SAFETY: every pointer is to a live value of this function or its caller, which the
            // kernel only reads, but for the counts in `messages`.
            let sent =
                unsafe { libc::sendmmsg(self.socket.as_raw_fd(), left.as_mut_ptr(), left.len() as u32, 0) };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => left = &mut left[sent..],
                _ => bail!("sending frames: {}", std::io::Error::last_os_error()),
            }
        }
        Ok(())
    }
}

/// Frames that are sent in turn, again and again.
pub struct Volley {
    muzzle: Muzzle,
    frames: Vec<Vec<u8>>,
}

impl Volley {
    /// # Errors
    /// When the device is not there.
    pub fn new(ns: &Netns, device: &str, frames: Vec<Vec<u8>>) -> Result<Self> {
        Ok(Self { muzzle: Muzzle::new(ns, device)?, frames })
    }

    /// Sends the first frame.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn one(&self) -> Result<()> {
        self.muzzle.send(self.frames.iter().take(1))
    }

    /// Sends `count` frames in turn; nanoseconds of this thread's processor time.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn send(&self, count: usize) -> Result<f64> {
        let before = processor_time()?;
        let mut sent = 0;
        while sent < count {
            let from = sent % self.frames.len();
            let batch = self.frames.iter().skip(from).take(BATCH.min(count - sent));
            sent += batch.len();
            self.muzzle.send(batch)?;
        }
        Ok(processor_time()? - before)
    }
}

fn processor_time() -> Result<f64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the result.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        bail!("CLOCK_THREAD_CPUTIME_ID: {}", std::io::Error::last_os_error());
    }
    Ok(time.tv_sec as f64 * 1e9 + time.tv_nsec as f64)
}

/// Keeps the calling thread on the processor on which it is.
///
/// # Errors
/// What the kernel answers.
pub fn stay_here() -> Result<()> {
    // SAFETY: cpu_set_t is plain data, and its size is given.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::CPU_SET(usize::try_from(libc::sched_getcpu()).unwrap_or(0), &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) != 0
    };
    if failed {
        bail!("sched_setaffinity: {}", std::io::Error::last_os_error());
    }
    Ok(())
}
