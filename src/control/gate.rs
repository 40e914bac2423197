//! The accept loop before tiny_http: who, how many, how long, how large.
//!
//! One thread, whatever the number of clients. A connection that has not sent its whole request
//! within [`READ_LIMIT`] is dropped; while all places are taken, the one that has been sending
//! longest gives way, so that half requests never keep an honest client out.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, LocalSet};
use tokio::time::{sleep, timeout};

use super::head::{BODY_MAX, Fault, HEAD_MAX, Whole, response};
use super::peer;

/// Connections at once.
pub const PLACES: usize = 8;
/// From accept to the whole request.
pub const READ_LIMIT: Duration = Duration::from_secs(2);
/// For the client to take the whole reply.
const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// Who sends on a local socket sends at once: only older ones give way.
const GRACE: Duration = Duration::from_millis(100);
/// Bytes of a reply: a status or some thousand relays.
const REPLY_MAX: usize = 4 * 1024 * 1024;
/// Descriptors: three for one request inside tiny_http, and as many again for whatever else the
/// process opens meanwhile.
const SPARE: usize = 16;
/// After an accept that failed, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// What the gate needs to do its work.
pub struct Gate {
    pub inner: PathBuf,
    /// Longer than the daemon's own deadline.
    pub inner_limit: Duration,
    /// Called when tiny_http did not answer within `inner_limit`.
    pub on_dead: Box<dyn Fn()>,
}

struct Place {
    id: u64,
    since: Instant,
    /// False once the whole request is there.
    reading: Rc<Cell<bool>>,
    task: AbortHandle,
}

type Places = Rc<RefCell<Vec<Place>>>;

/// Gives the place back, also when the task is aborted.
struct Leave {
    places: Places,
    id: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        if let Ok(mut places) = self.places.try_borrow_mut() {
            places.retain(|place| place.id != self.id);
        }
    }
}

/// Serves until `stop` resolves.
pub async fn run(listener: UnixListener, gate: Gate, stop: impl Future<Output = ()>) {
    let local = LocalSet::new();
    tokio::select! {
        () = local.run_until(accept(listener, Rc::new(gate))) => {}
        () = stop => {}
    }
}

async fn accept(listener: UnixListener, gate: Rc<Gate>) {
    let places = Places::default();
    let mut id = 0_u64;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        if !stream.peer_cred().is_ok_and(|who| peer::trusted(who.uid())) {
            refuse(&stream, Fault(403, "only root may ask"));
            continue;
        }
        if !room(&places) {
            refuse(&stream, Fault(503, "too many connections; try again"));
            continue;
        }
        id += 1;
        let reading = Rc::new(Cell::new(true));
        let leave = Leave { places: Rc::clone(&places), id };
        let (gate, flag) = (Rc::clone(&gate), Rc::clone(&reading));
        let task = tokio::task::spawn_local(async move {
            let _leave = leave;
            attend(&stream, &gate, &flag).await;
        });
        // The task first runs at the next await: its place is here before it can leave it.
        places.borrow_mut().push(Place { id, since: Instant::now(), reading, task: task.abort_handle() });
    }
}

/// Whether there is a place; takes one from who has been sending for too long.
fn room(places: &Places) -> bool {
    let mut places = places.borrow_mut();
    if places.len() < PLACES {
        return true;
    }
    let slowest = places
        .iter()
        .enumerate()
        .filter(|(_, place)| place.reading.get() && place.since.elapsed() >= GRACE)
        .min_by_key(|(_, place)| place.since)
        .map(|(at, _)| at);
    match slowest {
        // abort() only marks the task: its `Leave` runs later and finds the place gone already.
        Some(at) => {
            places.remove(at).task.abort();
            true
        }
        None => false,
    }
}

/// One try, no waiting: a reply of this size always fits an empty socket buffer.
fn refuse(stream: &UnixStream, fault: Fault) {
    let _ = stream.try_write(&response(fault));
}

async fn attend(stream: &UnixStream, gate: &Gate, reading: &Cell<bool>) {
    let request = match timeout(READ_LIMIT, receive(stream)).await {
        Ok(Ok(Some(request))) => request,
        Ok(Ok(None)) => return,
        Ok(Err(fault)) => return refuse(stream, fault),
        Err(_) => return refuse(stream, Fault(408, "the request did not arrive within 2 s")),
    };
    reading.set(false);
    if !spare_descriptors(stream) {
        return refuse(stream, Fault(503, "the daemon is out of file descriptors"));
    }
    let reply = match timeout(gate.inner_limit, ask(&gate.inner, &request)).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_)) => response(Fault(502, "the server inside the daemon does not answer")),
        Err(_) => {
            (gate.on_dead)();
            response(Fault(504, "the server inside the daemon does not answer"))
        }
    };
    // A client that does not read is dropped with what it has got.
    let _ = timeout(WRITE_LIMIT, send(stream, &reply)).await;
}

/// tiny_http panics when it cannot duplicate a socket (which would end a daemon that aborts on
/// panic), so a request goes on only while there are more descriptors than one can need.
fn spare_descriptors(stream: &UnixStream) -> bool {
    let spare: io::Result<Vec<_>> = (0..SPARE).map(|_| stream.as_fd().try_clone_to_owned()).collect();
    spare.is_ok()
}

/// Ok(None): the client went away.
async fn receive(stream: &UnixStream) -> Result<Option<Whole>, Fault> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let mut chunk = [0_u8; 2048];
        match read(stream, &mut chunk).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
        if let Some(request) = Whole::parse(&bytes)? {
            return Ok(Some(request));
        }
        if bytes.len() >= HEAD_MAX + BODY_MAX {
            return Err(Fault(413, "the request is larger than 24 KiB"));
        }
    }
}

/// Hands one whole request to tiny_http and takes its whole reply.
async fn ask(inner: &Path, request: &Whole) -> io::Result<Vec<u8>> {
    let stream = UnixStream::connect(inner).await?;
    send(&stream, &request.rewritten()).await?;
    let mut reply = Vec::with_capacity(1024);
    loop {
        let mut chunk = [0_u8; 4096];
        match read(&stream, &mut chunk).await? {
            0 if reply.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => return Ok(reply),
            n if reply.len() + n > REPLY_MAX => return Err(io::ErrorKind::FileTooLarge.into()),
            n => reply.extend_from_slice(&chunk[..n]),
        }
    }
}

async fn read(stream: &UnixStream, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(chunk) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

async fn send(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
