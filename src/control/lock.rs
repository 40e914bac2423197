//! The lock of a run dir: who holds it is the daemon, or takes its place.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::Error;

/// Takes the lock for as long as the file is open; its content is then this process's id. While it
/// is held no daemon starts in this run dir. The run dir is made if need be, and its mode is 0700
/// then.
///
/// # Errors
/// [`Error::Running`] when another process holds it.
pub fn claim(run_dir: &Path) -> Result<File, Error> {
    private_dir(run_dir)?;
    let path = path(run_dir);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| Error::socket("open", &path, e))?;
    // SAFETY: flock takes any open descriptor and touches no memory of ours.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let e = io::Error::last_os_error();
        if e.kind() == io::ErrorKind::WouldBlock {
            return Err(Error::Running { lock: path });
        }
        return Err(Error::socket("lock", &path, e));
    }
    // For `disarm`, which has to end a hung daemon. Not worth failing for.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// The process that says it holds the lock, if it really has that file open: a number alone may be
/// another process's by now.
#[must_use]
pub fn holder(run_dir: &Path) -> Option<i32> {
    let path = path(run_dir);
    let pid: i32 = fs::read_to_string(&path).ok()?.trim().parse().ok().filter(|pid| *pid > 1)?;
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let real = fs::canonicalize(&path).ok()?;
    open.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == real)).then_some(pid)
}

fn private_dir(dir: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Error::socket("create", dir, e))?;
    fs::set_permissions(dir, Permissions::from_mode(0o700))
        .map_err(|e| Error::socket("set mode 0700 of", dir, e))
}

fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("vpnd.lock")
}
