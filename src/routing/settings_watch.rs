//! Tells when somebody writes one of the kernel settings that no netlink message tells of.
//!
//! inotify sees writes through /proc, as it sees all of write(2) (fsnotify_modify in fs/read_write.c). The kernel makes
//! a file of /proc/sys anew when it has forgotten it: hence each is held open. Whoever
//! mounts another /proc is not seen.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes: events of a file have no name in them (inotify(7)).
const EVENTS: usize = 512;

pub(super) struct SettingsWatch {
    events: AsyncFd<OwnedFd>,
    _files: Vec<File>,
}

impl SettingsWatch {
    /// Must be called inside a tokio runtime.
    pub(super) fn new(paths: impl Iterator<Item = PathBuf>) -> io::Result<Self> {
        // SAFETY: takes a number; the result is checked, and owned by nobody else.
        let events = unsafe {
            let fd = libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let mut files = Vec::new();
        for path in paths {
            files.push(File::open(&path)?);
            let name = std::ffi::CString::new(path.as_os_str().as_bytes())?;
            // SAFETY: the descriptor is open, and `name` is a C string that outlives the call.
            let watch =
                unsafe { libc::inotify_add_watch(events.as_raw_fd(), name.as_ptr(), libc::IN_MODIFY) };
            if watch < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: the descriptor is owned, and kept until it is dropped.
        let events = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) }?;
        Ok(Self { events, _files: files })
    }

    /// Ready when there was a write since the last time.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut any = false;
        loop {
            let Poll::Ready(guard) = self.events.poll_read_ready(context) else {
                return if any { Poll::Ready(Ok(())) } else { Poll::Pending };
            };
            let mut buffer = [0_u8; EVENTS];
            let read = guard?.try_io(|events| {
                // SAFETY: the descriptor is open, and the buffer has the length that is said.
                match unsafe { libc::read(events.as_raw_fd(), buffer.as_mut_ptr().cast(), EVENTS) } {
                    length if length < 0 => Err(io::Error::last_os_error()),
                    _ => Ok(()),
                }
            });
            match read {
                Ok(Ok(())) => any = true,
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}
