//! The endpoint's thread: apart from the daemon's loop, so that a hung daemon is told from a dead
//! one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::desk::Desk;
use super::error::Error;
use super::gate;
use super::socket;
use super::types::Call;
use crate::runtime;

/// How long the daemon may take: a disarm runs a transaction, deletes flows and writes files.
pub const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// Bytes: JSON's depth is what takes the most of it, and that is bounded (`paths`).
const STACK: usize = 256 * 1024;

/// The running endpoint; dropping it takes the socket away and joins its thread, within
/// [`gate::PARTING`].
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
    _lock: File,
}

impl Drop for Server {
    fn drop(&mut self) {
        // The name goes first: from now on the truth is "not running".
        let _ = fs::remove_file(&self.path);
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Opens `run_dir`/vpnd.sock (0600) and serves it from one thread of its own. At most
/// [`gate::PLACES`] calls wait for the daemon at once.
///
/// # Errors
/// [`Error::Running`] when another daemon serves this run dir; otherwise what could not be opened.
pub fn serve(run_dir: &Path, calls: mpsc::Sender<Call>) -> Result<Server, Error> {
    serve_within(run_dir, calls, REPLY_LIMIT)
}

/// [`serve`] with another limit on how long the daemon may take to reply.
///
/// # Errors
/// As [`serve`].
pub fn serve_within(run_dir: &Path, calls: mpsc::Sender<Call>, limit: Duration) -> Result<Server, Error> {
    let socket = socket::open(run_dir)?;
    let runtime = runtime::new().map_err(Error::Thread)?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::UnixListener::from_std(socket.listener)
            .map_err(|e| Error::socket("watch", &socket.path, e))?
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let serve = move || {
        let stop = async { drop(stopped.await) };
        runtime::run_to_end(&runtime, pin!(gate::run(listener, Desk { calls, limit }, stop)));
    };
    let thread = thread::Builder::new()
        .name("vpnd-gate".to_owned())
        .stack_size(STACK)
        .spawn(serve)
        .map_err(Error::Thread)?;
    Ok(Server { stop: Some(stop), thread: Some(thread), path: socket.path, _lock: socket.lock })
}
