//! The threads of the endpoint: the gate, and tiny_http behind it.

use std::fs::{self, File};
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use super::desk::{Desk, Shared, http_server};
use super::gate::{self, Gate};
use super::socket;
use super::types::Call;

/// How long the daemon may take: a disarm runs a transaction, deletes flows and writes files.
pub const REPLY_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("another vpnd daemon is running (it holds {}); stop it first", lock.display())]
    Running { lock: PathBuf },
    #[error("control socket: cannot {what} {}: {source}", path.display())]
    Socket { what: &'static str, path: PathBuf, source: io::Error },
    #[error("control socket: cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("control socket: cannot start the HTTP server on {}: {words}", path.display())]
    Http { path: PathBuf, words: String },
}

/// The running endpoint; dropping it takes the socket away and joins its threads.
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    public_path: PathBuf,
    _lock: File,
}

impl Drop for Server {
    fn drop(&mut self) {
        // The name goes first: from now on the truth is "not running".
        let _ = fs::remove_file(&self.public_path);
        drop(self.stop.take());
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.wake();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Opens `run_dir`/vpnd.sock (0600) and serves it from threads of its own: one for the gate, one
/// that dispatches, tiny_http's accept thread and its pool (4, at most 4 + [`gate::PLACES`]).
///
/// # Errors
/// [`Error::Running`] when another daemon serves this run dir; otherwise what could not be opened.
pub fn serve(run_dir: &Path, calls: tokio::sync::mpsc::Sender<Call>) -> Result<Server, Error> {
    serve_within(run_dir, calls, REPLY_LIMIT)
}

/// [`serve`] with another limit on how long the daemon may take to reply.
///
/// # Errors
/// As [`serve`].
pub fn serve_within(
    run_dir: &Path,
    calls: tokio::sync::mpsc::Sender<Call>,
    reply_limit: Duration,
) -> Result<Server, Error> {
    let sockets = socket::open(run_dir)?;
    let http = http_server(&sockets.inner, &sockets.inner_path)?;
    let shared = Arc::new(Shared {
        http: Mutex::new(http),
        replace: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let gate =
        spawn_gate(sockets.public, sockets.gate_path.clone(), reply_limit, Arc::clone(&shared), stopped)?;
    let mut server = Server {
        stop: Some(stop),
        shared: Arc::clone(&shared),
        threads: vec![gate],
        public_path: sockets.public_path,
        _lock: sockets.lock,
    };
    let desk = Desk::new(shared, sockets.inner, (sockets.inner_path, sockets.gate_path), calls, reply_limit);
    server.threads.push(spawn("vpnd-http", move || desk.run())?);
    Ok(server)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    thread::Builder::new().name(name.to_owned()).stack_size(256 * 1024).spawn(body).map_err(Error::Thread)
}

fn spawn_gate(
    listener: UnixListener,
    inner: PathBuf,
    reply_limit: Duration,
    shared: Arc<Shared>,
    stopped: oneshot::Receiver<()>,
) -> Result<JoinHandle<()>, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
    listener.set_nonblocking(true).map_err(Error::Thread)?;
    spawn("vpnd-gate", move || {
        runtime.block_on(async {
            let Ok(listener) = tokio::net::UnixListener::from_std(listener) else {
                return;
            };
            let on_dead = Box::new(move || {
                shared.replace.store(true, Ordering::Release);
                shared.wake();
            });
            let inner_limit = reply_limit + Duration::from_secs(1);
            gate::run(listener, Gate { inner, inner_limit, on_dead }, async {
                let _ = stopped.await;
            })
            .await;
        });
    })
}
