//! The listening socket, and the lock that keeps a second daemon out.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::lock;

/// What `serve` holds of the run dir.
pub struct Socket {
    pub listener: UnixListener,
    pub path: PathBuf,
    /// flock'ed as long as it is open.
    pub lock: File,
}

/// The endpoint's socket in a run dir.
#[must_use]
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("vpnd.sock")
}

/// # Errors
/// [`Error::Running`] when another daemon holds the run dir; otherwise what failed, on what.
pub fn open(run_dir: &Path) -> Result<Socket, Error> {
    let lock = lock::claim(run_dir)?;
    // Bound in a folder where nobody else may look (0700 by now), given its mode, and only then
    // moved to its name: who connects by that finds it closed to others. rename() also replaces a
    // dead daemon's.
    let unnamed = run_dir.join("vpnd.sock.new");
    let listener = bind(&unnamed)?;
    let path = socket_path(run_dir);
    fs::rename(&unnamed, &path).map_err(|e| Error::socket("rename to", &path, e))?;
    Ok(Socket { listener, path, lock })
}

/// Without waiting in its calls, as tokio takes it.
fn bind(path: &Path) -> Result<UnixListener, Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(Error::socket("remove stale", path, e));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(|e| Error::socket("bind", path, e))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))
        .map_err(|e| Error::socket("set mode 0600 of", path, e))?;
    listener.set_nonblocking(true).map_err(|e| Error::socket("set nonblocking", path, e))?;
    Ok(listener)
}
