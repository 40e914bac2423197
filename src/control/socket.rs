//! The two listening sockets and the lock that keeps a second daemon out.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::server::Error;
use super::{lock, socket_path};

/// What `serve` holds of the run dir.
pub struct Sockets {
    /// Where clients connect.
    pub public: UnixListener,
    /// Where the gate hands whole requests to tiny_http: in a 0700 folder.
    pub inner: UnixListener,
    pub inner_path: PathBuf,
    /// A second link to it: tiny_http unlinks the first one when it is dropped.
    pub gate_path: PathBuf,
    pub public_path: PathBuf,
    /// flock'ed as long as it is open.
    pub lock: File,
}

/// # Errors
/// [`Error::Running`] when another daemon holds the run dir; otherwise what failed, on what.
pub fn open(run_dir: &Path) -> Result<Sockets, Error> {
    private_dir(run_dir)?;
    let inner_dir = run_dir.join("http");
    private_dir(&inner_dir)?;
    let lock = lock::claim(run_dir)?;
    let inner_path = inner_dir.join("inner.sock");
    let inner = bind(&inner_path)?;
    let gate_path = inner_dir.join("gate.sock");
    remove_stale(&gate_path)?;
    fs::hard_link(&inner_path, &gate_path).map_err(|e| failed("link", &gate_path, e))?;
    // Bound where nobody else may look, given its mode, and only then moved to its name: there is
    // no instant at which another user could connect. rename() also replaces a dead daemon's.
    let unnamed = inner_dir.join("new.sock");
    let public = bind(&unnamed)?;
    let public_path = socket_path(run_dir);
    fs::rename(&unnamed, &public_path).map_err(|e| failed("rename to", &public_path, e))?;
    Ok(Sockets { public, inner, inner_path, gate_path, public_path, lock })
}

pub fn private_dir(dir: &Path) -> Result<(), Error> {
    match DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        Ok(()) => {}
        Err(e) => return Err(failed("create", dir, e)),
    }
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(|e| failed("set mode 0700 of", dir, e))
}

fn bind(path: &Path) -> Result<UnixListener, Error> {
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(|e| failed("bind", path, e))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))
        .map_err(|e| failed("set mode 0600 of", path, e))?;
    Ok(listener)
}

fn remove_stale(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove stale", path, e)),
        _ => Ok(()),
    }
}

pub fn failed(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Socket { what, path: path.to_owned(), source }
}
