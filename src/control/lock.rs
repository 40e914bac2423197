//! The lock of a run dir: who holds it is the daemon, or takes its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::server::Error;
use super::socket::{failed, private_dir};

/// Takes the lock for as long as the file is open; its content is then this process's id. While it
/// is held no daemon starts in this run dir.
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
        .map_err(|e| failed("open", &path, e))?;
    // SAFETY: flock takes any open descriptor and touches no memory of ours.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let e = io::Error::last_os_error();
        if e.kind() == io::ErrorKind::WouldBlock {
            return Err(Error::Running { lock: path });
        }
        return Err(failed("lock", &path, e));
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

fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("vpnd.lock")
}
