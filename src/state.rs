//! The files of the state folder (kept over a reboot) and of the run folder (gone with it).
//!
//! Every file is replaced, never written in place: a temporary beside it, fsync, rename, fsync of
//! the folder. So a reader sees the old content or the new, at a power cut too. What cannot be
//! read counts as the closed answer (contract 4.5).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::config::{IfName, Lan};
use crate::from_json::{FromJson, from_bytes};
use crate::machine::Stored;
use crate::sorted::Map;

mod applying;
pub mod boot;
pub mod clock;
mod generations;
mod pause;
mod trial;
mod word;

pub use boot::Boot;
pub use generations::{Generation, uptime};
pub use trial::{TrialNote, Undone};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: cannot be written: {source}{}", path.display(), advice(source))]
    Write { path: PathBuf, source: io::Error },
    #[error("{}: cannot be removed: {source}{}", path.display(), advice(source))]
    Remove { path: PathBuf, source: io::Error },
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: is damaged ({why}); `vpnd connect`, `disconnect` or `disarm` writes it anew", path.display())]
    Damaged { path: PathBuf, why: String },
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; the flash is full: remove a package or a log, then try again"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; the root file system is read-only: after a failed boot of the overlay, reboot or see `mount`"
        }
        io::ErrorKind::PermissionDenied => "; run as root",
        _ => "",
    }
}

/// `/etc/vpnd`: what must survive a reboot.
#[derive(Debug, Clone)]
pub struct StateDir {
    dir: PathBuf,
}

impl StateDir {
    pub const DEFAULT: &str = "/etc/vpnd";

    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The wanted state; None when none was ever stored. What is there but cannot be read is
    /// "connect, any relay": unknown is closed.
    #[must_use]
    pub fn wanted(&self) -> Option<Stored> {
        self.read_wanted().0
    }

    /// [`Self::wanted`] with the reason why it could not be read.
    #[must_use]
    pub fn read_wanted(&self) -> (Option<Stored>, Option<Error>) {
        let closed = Stored { connect: true, ..Stored::default() };
        match read_json(&self.file("wanted.json")) {
            Ok(found) => (found, None),
            Err(error) => (Some(closed), Some(error)),
        }
    }

    /// # Errors
    /// [`Error::Write`]; the former content stays, unless it would open what is to be closed (a
    /// full flash): then there is none, which beside the marker counts as closed.
    pub fn store_wanted(&self, wanted: &Stored) -> Result<(), Error> {
        let path = self.file("wanted.json");
        // Every try out of an error stores: flash is written only when something changed.
        if matches!(read_json::<Stored>(&path), Ok(Some(former)) if former == *wanted) {
            return Ok(());
        }
        let result = write_json(&path, wanted);
        if result.is_err() && wanted.closes() && self.wanted().is_some_and(|former| !former.closes()) {
            let _ = fs::remove_file(&path);
        }
        result
    }

    /// Whether the marker is there. A marker that cannot be looked at counts as there.
    #[must_use]
    pub fn armed(&self) -> bool {
        match fs::symlink_metadata(self.marker()) {
            Ok(_) => true,
            Err(e) => e.kind() != io::ErrorKind::NotFound,
        }
    }

    /// # Errors
    /// [`Error::Write`].
    pub fn arm(&self) -> Result<(), Error> {
        if fs::symlink_metadata(self.marker()).is_ok() {
            return Ok(());
        }
        write_atomic(&self.marker(), b"")
    }

    /// # Errors
    /// [`Error::Remove`]: the router will be blocked again after a reboot.
    pub fn disarm(&self) -> Result<(), Error> {
        let path = self.marker();
        let result = match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            // A folder of that name counts as armed, so it has to be removable.
            Err(e) if matches!(e.kind(), io::ErrorKind::IsADirectory) => fs::remove_dir(&path),
            Err(e) => Err(e),
            Ok(()) => sync_dir(&path),
        };
        result.map_err(|source| Error::Remove { path, source })
    }

    #[must_use]
    pub fn marker(&self) -> PathBuf {
        self.file("armed")
    }

    /// The LAN as the last good configuration had it; None when none was kept.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Damaged`].
    pub fn kept_lan(&self) -> Result<Option<Lan>, Error> {
        read_json(&self.file("lan.json"))
    }

    /// Keeps `lan` for the day the configuration cannot be read. Writes only a change: this is
    /// flash.
    ///
    /// # Errors
    /// [`Error::Write`]; the former list stays.
    pub fn keep_lan(&self, lan: &Lan) -> Result<(), Error> {
        if matches!(self.kept_lan(), Ok(Some(kept)) if kept == *lan) {
            return Ok(());
        }
        write_json(&self.file("lan.json"), lan)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// `/var/run/vpnd` (tmpfs): what the daemon of this boot says of itself.
#[derive(Debug, Clone)]
pub struct RunDir {
    dir: PathBuf,
}

impl RunDir {
    pub const DEFAULT: &str = "/var/run/vpnd";

    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The DHCP leases that the hook reported since boot: device -> server (contract 2.3), for a
    /// daemon that starts after the lease was had. A file that makes no sense counts as empty:
    /// without it a renewal falls back to broadcast.
    #[must_use]
    pub fn leases(&self) -> Map<IfName, Ipv4Addr> {
        read_json(&self.leases_file()).ok().flatten().unwrap_or_default()
    }

    /// None: the lease is lost.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn set_lease(&self, device: &IfName, server: Option<Ipv4Addr>) -> Result<(), Error> {
        let mut leases = self.leases();
        match server {
            Some(server) => leases.insert(device.clone(), server),
            None => leases.remove(device),
        };
        write_json(&self.leases_file(), &leases)
    }

    fn leases_file(&self) -> PathBuf {
        self.dir.join("leases.json")
    }
}

fn read_json<T: FromJson>(path: &Path) -> Result<Option<T>, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
    };
    from_bytes(&text).map(Some).map_err(|why| Error::Damaged { path: path.to_owned(), why })
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let mut text = serde_json::to_vec(value)
        .map_err(|e| Error::Write { path: path.to_owned(), source: io::Error::other(e) })?;
    text.push(b'\n');
    write_atomic(path, &text)
}

/// Replaces `path` (mode 0600) as a whole; creates its folder (0700) if need be.
///
/// # Errors
/// [`Error::Write`]; the former content stays, no temporary does.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = temporary_name(path);
    replace(path, &temporary, bytes).map_err(|source| {
        let _ = fs::remove_file(&temporary);
        Error::Write { path: path.to_owned(), source }
    })
}

/// `.NAME.PID.new`: two processes never share one, and nothing that globs NAME finds it.
fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
}

fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        sweep(dir, path);
    }
    // A leftover of a dead process that had our pid; O_EXCL then also refuses a planted symlink.
    let _ = fs::remove_file(temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    let former = fs::metadata(path).and_then(|former| former.modified());
    if let Some(time) = former.ok().and_then(|time| clock::not_before(time, SystemTime::now())) {
        file.set_modified(time)?;
    }
    file.sync_all()?;
    fs::rename(temporary, path)?;
    sync_dir(path)
}

/// Removes the temporaries of processes that died while writing this file, so that crashes do not
/// fill the flash.
fn sweep(dir: &Path, path: &Path) {
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return };
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let pid = found
            .to_str()
            .and_then(|f| f.strip_prefix('.')?.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".new"))
            .and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
