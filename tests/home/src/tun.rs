//! A TUN device under the test's hand: in firewall-only tests it stands in for the tunnel, as it
//! is point-to-point and without a link layer like WireGuard's own.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};

use crate::ns::Netns;

pub struct Tun {
    file: File,
}

/// struct ifreq as TUNSETIFF reads it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

impl Tun {
    /// Makes the device in `ns`; it vanishes with the value.
    ///
    /// # Errors
    /// Without /dev/net/tun, or when the name is taken.
    pub fn new(ns: &Netns, name: &str) -> Result<Self> {
        ns.enter(|| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/net/tun")
                .context("opening /dev/net/tun")?;
            let mut request = Request {
                name: [0; libc::IFNAMSIZ],
                flags: (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short,
                rest: [0; 22],
            };
            request
                .name
                .get_mut(..name.len())
                .context("a device name too long")?
                .copy_from_slice(name.as_bytes());
            // SAFETY: `request` has the layout and at least the size of struct ifreq.
            if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) } != 0 {
                bail!("making the TUN device {name}: {}", std::io::Error::last_os_error());
            }
            // Packets that nobody reads would only fill its queue: they are seen by a capture.
            let drain = file.try_clone()?;
            std::thread::spawn(move || drain_all(drain));
            Ok(Self { file })
        })
    }

    /// Lets a packet come out of the tunnel.
    ///
    /// # Errors
    /// When the device is down.
    pub fn inject(&self, packet: &[u8]) -> Result<()> {
        (&self.file).write_all(packet).context("writing to the TUN device")
    }
}

fn drain_all(mut file: File) {
    let mut buffer = vec![0; 70_000];
    // EIO while the device is down; EBADFD when it is deleted.
    loop {
        match file.read(&mut buffer) {
            Ok(_) => {}
            Err(e) if e.raw_os_error() == Some(libc::EIO) => {
                std::thread::sleep(std::time::Duration::from_millis(20))
            }
            Err(_) => return,
        }
    }
}
