//! Captures: every frame on a device, with the kernel's time, and the proof that none was lost.

use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use crate::ns::Netns;
use crate::packets::Marker;

/// A frame as it was on the wire (Ethernet header first, or an IP packet where the device has
/// no link layer).
#[derive(Debug, Clone)]
pub struct Frame {
    pub at: SystemTime,
    pub bytes: Vec<u8>,
    /// The 802.1Q tag that the kernel took off before we saw the frame.
    pub vlan: Option<u16>,
    /// Sent by the side where the capture stands.
    pub outgoing: bool,
    /// The first marker in it: its own, or that of the packet it quotes.
    pub marker: Option<Marker>,
}

/// Which frames a capture takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Only what arrives from the other end of the wire.
    Arriving,
    Both,
}

#[derive(Default)]
struct Shared {
    frames: Mutex<Vec<Frame>>,
    more: Condvar,
    stop: AtomicBool,
    /// For the harness's own test of the drop counter.
    paused: AtomicBool,
}

/// A running capture on one device.
pub struct Capture {
    place: String,
    shared: Arc<Shared>,
    socket: Arc<OwnedFd>,
    reader: Option<JoinHandle<()>>,
    dropped: Mutex<u32>,
}

/// Bytes of socket buffer: a second of any flood that a test makes.
const BUFFER: libc::c_int = 32 << 20;

impl Capture {
    /// # Errors
    /// When the device is not there, or without root.
    pub fn start(ns: &Netns, device: &str, take: Take) -> Result<Self> {
        Self::with_buffer(ns, device, take, BUFFER)
    }

    /// # Errors
    /// As [`Capture::start`].
    pub fn with_buffer(ns: &Netns, device: &str, take: Take, buffer: libc::c_int) -> Result<Self> {
        let socket = Arc::new(ns.enter(|| open(device, take, buffer))?);
        let shared = Arc::new(Shared::default());
        let reader = {
            let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
            std::thread::spawn(move || read_all(socket.as_raw_fd(), &shared))
        };
        let place = format!("{}/{device}", ns.name());
        Ok(Self { place, shared, socket, reader: Some(reader), dropped: Mutex::new(0) })
    }

    /// How many frames were captured so far: a position for [`Capture::since`].
    #[must_use]
    pub fn position(&self) -> usize {
        self.frames().len()
    }

    #[must_use]
    pub fn since(&self, position: usize) -> Vec<Frame> {
        self.frames().get(position..).unwrap_or_default().to_vec()
    }

    /// The frames after `position` that satisfy `wanted`.
    #[must_use]
    pub fn select(&self, position: usize, wanted: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        self.frames().get(position..).unwrap_or_default().iter().filter(|f| wanted(f)).cloned().collect()
    }

    /// Whether a frame after `position` satisfies `wanted`, now.
    #[must_use]
    pub fn has(&self, position: usize, wanted: impl Fn(&Frame) -> bool) -> bool {
        self.frames().get(position..).unwrap_or_default().iter().any(wanted)
    }

    /// Waits until a frame after `position` satisfies `wanted`.
    #[must_use]
    pub fn wait(&self, position: usize, limit: Duration, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let end = Instant::now() + limit;
        let mut seen = position;
        let mut frames = self.frames();
        loop {
            if let Some(found) = frames.get(seen..).unwrap_or_default().iter().find(|f| wanted(f)) {
                return Some(found.clone());
            }
            seen = seen.max(frames.len());
            let left = end.checked_duration_since(Instant::now())?;
            frames = self.shared.more.wait_timeout(frames, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Frames that the kernel could not give us since the capture began.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn dropped(&self) -> Result<u32> {
        let mut total = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        *total += statistics(self.socket.as_raw_fd())?;
        Ok(*total)
    }

    /// # Errors
    /// When the capture lost a frame: then it proves nothing.
    pub fn assert_complete(&self) -> Result<()> {
        match self.dropped()? {
            0 => Ok(()),
            n => bail!("the capture at {} lost {n} frames: nothing can be said", self.place),
        }
    }

    /// Forgets the frames so far (memory of long floods).
    pub fn clear(&self) {
        self.frames().clear();
    }

    /// Stops reading the socket, so that its buffer overflows; for the harness's own tests.
    pub fn pause(&self, paused: bool) {
        self.shared.paused.store(paused, Ordering::SeqCst);
    }

    fn frames(&self) -> MutexGuard<'_, Vec<Frame>> {
        self.shared.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn open(device: &str, take: Take, buffer: libc::c_int) -> Result<OwnedFd> {
    let fd = packet_socket()?;
    let index = index_of(device)?;
    // Before binding, or a busy wire would fill a small buffer first.
    set(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &buffer).context("SO_RCVBUFFORCE")?;
    set(&fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1i32).context("SO_TIMESTAMPNS")?;
    set(&fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1i32).context("PACKET_AUXDATA")?;
    if take == Take::Arriving {
        set(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1i32).context("PACKET_IGNORE_OUTGOING")?;
    }
    let limit = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
    set(&fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &limit).context("SO_RCVTIMEO")?;
    let address = link_address(index, [0; 6]);
    // SAFETY: the address is a whole sockaddr_ll and its length is given.
    let rc = unsafe {
        libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), size_of::<libc::sockaddr_ll>() as u32)
    };
    if rc != 0 {
        bail!("binding a packet socket to {device}: {}", std::io::Error::last_os_error());
    }
    Ok(fd)
}

/// Sends whole Ethernet frames out of a device (or IP packets where it has no link layer),
/// past netfilter's output hooks.
///
/// # Errors
/// When the device is not there, is down, or refuses.
pub fn transmit<'a>(
    ns: &Netns,
    device: &str,
    frames: impl IntoIterator<Item = &'a [u8]> + Send,
) -> Result<()> {
    ns.enter(|| {
        let sender = Sender::here(device)?;
        frames.into_iter().try_for_each(|frame| sender.send(frame))
    })
}

/// A packet socket for sending, made in the calling thread's namespace.
pub struct Sender {
    fd: OwnedFd,
    index: i32,
}

impl Sender {
    /// # Errors
    /// When the device is not there.
    pub fn here(device: &str) -> Result<Self> {
        Ok(Self { fd: packet_socket()?, index: index_of(device)? })
    }

    /// # Errors
    /// What the kernel answers.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let mut address = link_address(self.index, [0; 6]);
        address.sll_halen = 6;
        if let Some(destination) = frame.get(..6) {
            address.sll_addr[..6].copy_from_slice(destination);
        }
        if let Some(kind) = frame.get(12..14) {
            address.sll_protocol = u16::from_ne_bytes([kind[0], kind[1]]);
        }
        // SAFETY: pointers and lengths belong to `frame` and `address`.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                std::ptr::from_ref(&address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if sent < 0 {
            return Err(std::io::Error::last_os_error()).context("sending a frame");
        }
        Ok(())
    }
}

fn packet_socket() -> Result<OwnedFd> {
    // SAFETY: plain call; the descriptor is owned at once.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        bail!("opening a packet socket: {}", std::io::Error::last_os_error());
    }
    // SAFETY: just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The index of `device` in the calling thread's namespace.
///
/// # Errors
/// When there is none.
pub fn index_of(device: &str) -> Result<i32> {
    let name = std::ffi::CString::new(device)?;
    // SAFETY: a terminated string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => bail!("no device {device}"),
        index => Ok(index as i32),
    }
}

fn link_address(index: i32, mac: [u8; 6]) -> libc::sockaddr_ll {
    // SAFETY: sockaddr_ll is plain data.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    address.sll_addr[..6].copy_from_slice(&mac);
    address
}

/// setsockopt with a plain value.
///
/// # Errors
/// What the kernel answers.
pub fn set<T>(fd: &impl AsRawFd, level: i32, option: i32, value: &T) -> std::io::Result<()> {
    // SAFETY: the value is borrowed for the call and its size is given.
    let rc = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if rc == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn statistics(fd: RawFd) -> Result<u32> {
    // SAFETY: tpacket_stats is plain data, and its size is given.
    let mut stats: libc::tpacket_stats = unsafe { zeroed() };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: as above.
    let rc = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            std::ptr::from_mut(&mut stats).cast(),
            &raw mut length,
        )
    };
    if rc != 0 {
        bail!("PACKET_STATISTICS: {}", std::io::Error::last_os_error());
    }
    Ok(stats.tp_drops)
}

fn read_all(fd: RawFd, shared: &Shared) {
    let mut buffer = vec![0u8; 70_000];
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.paused.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        if let Some(frame) = receive(fd, &mut buffer) {
            shared.frames.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
            shared.more.notify_all();
        }
    }
}

fn receive(fd: RawFd, buffer: &mut [u8]) -> Option<Frame> {
    // u64s, so that the control messages are aligned.
    let mut control = [0u64; 32];
    // SAFETY: plain data, filled in below.
    let mut from: libc::sockaddr_ll = unsafe { zeroed() };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: plain data.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = std::ptr::from_mut(&mut from).cast();
    message.msg_namelen = size_of::<libc::sockaddr_ll>() as u32;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<[u64; 32]>() as _;
    // SAFETY: every pointer in the message is to a live buffer of the length given.
    let got = unsafe { libc::recvmsg(fd, &raw mut message, 0) };
    let got = usize::try_from(got).ok()?;
    let (at, vlan) = control_data(&message);
    let bytes = buffer.get(..got)?.to_vec();
    let marker = Marker::find(&bytes);
    Some(Frame { at, bytes, vlan, outgoing: from.sll_pkttype == libc::PACKET_OUTGOING, marker })
}

fn control_data(message: &libc::msghdr) -> (SystemTime, Option<u16>) {
    let (mut at, mut vlan) = (SystemTime::now(), None);
    // SAFETY: the kernel filled the control buffer; the CMSG_ macros stay inside it, and the data
    // of the two kinds is read unaligned.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let data = libc::CMSG_DATA(header);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let stamp: libc::timespec = data.cast::<libc::timespec>().read_unaligned();
                    at = SystemTime::UNIX_EPOCH
                        + Duration::new(
                            u64::try_from(stamp.tv_sec).unwrap_or_default(),
                            u32::try_from(stamp.tv_nsec).unwrap_or(0),
                        );
                }
                (libc::SOL_PACKET, libc::PACKET_AUXDATA) => {
                    let aux: libc::tpacket_auxdata = data.cast::<libc::tpacket_auxdata>().read_unaligned();
                    if aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                        vlan = Some(aux.tp_vlan_tci & 0x0fff);
                    }
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    (at, vlan)
}
