//! That a ruleset is on its way into the kernel: it is in force there before it is read back and
//! noted as a generation, and whoever looks in between would take it for somebody else's.
//!
//! A record lock (fcntl(2)), as looking at one takes nothing: a stopped `vpnd status` can never
//! hold the daemon up, and the lock of a process that died is gone.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use super::RunDir;

/// Held while a ruleset is put in force and noted.
#[derive(Debug)]
pub struct Applying {
    _file: Option<File>,
}

impl RunDir {
    /// Says that a ruleset is being applied, until the answer is dropped. What cannot be said stops
    /// nothing: `vpnd generations` may then take the newest ruleset for a foreign one for a moment.
    #[must_use]
    pub fn applying(&self) -> Applying {
        let file = self.lock_file(true).and_then(|file| {
            let lock = record_lock(libc::F_WRLCK);
            // SAFETY: the descriptor is open, and F_SETLK only reads the flock structure.
            let set = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) };
            if set == 0 { Ok(file) } else { Err(io::Error::last_os_error()) }
        });
        Applying { _file: file.ok() }
    }

    /// Whether another process is applying a ruleset just now.
    #[must_use]
    pub fn is_applying(&self) -> bool {
        let Ok(file) = self.lock_file(false) else { return false };
        let mut lock = record_lock(libc::F_WRLCK);
        // SAFETY: the descriptor is open, and `lock` outlives the call that writes to it.
        let got = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) };
        got == 0 && lock.l_type != libc::F_UNLCK as libc::c_short
    }

    fn lock_file(&self, create: bool) -> io::Result<File> {
        if create {
            DirBuilder::new().recursive(true).mode(0o700).create(self.path())?;
        }
        let path = self.path().join("applying");
        OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(path)
    }
}

/// Over the whole file.
fn record_lock(kind: libc::c_int) -> libc::flock {
    // SAFETY: zero is a valid value of every field.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}
