//! The accept loop: who, how many, how long.
//!
//! One thread, whatever the number of clients. A connection that has not sent its whole request
//! within [`READ_LIMIT`] is dropped; while all places are taken, the one that has been sending
//! longest gives way, so that half requests never keep an honest client out. A request costs no
//! descriptor but its connection's: without any left, new ones wait in the listener's queue.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, LocalSet};
use tokio::time::{sleep, timeout};

use super::desk::Desk;
use super::head::{BODY_MAX, Fault, HEAD_MAX, Whole};
use super::peer;
use super::response::Response;
use crate::runtime;

/// Connections at once.
pub const PLACES: usize = 8;
/// From accept to the whole request.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// For the client to take the whole reply.
const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// Who sends on a local socket sends at once: only older ones give way.
const GRACE: Duration = Duration::from_millis(100);
/// After an accept that failed, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// At the end, for what is under way: a daemon that goes drops its calls, and their clients hear it.
pub const PARTING: Duration = Duration::from_millis(100);

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
pub async fn run(listener: UnixListener, desk: Desk, stop: impl Future<Output = ()>) {
    let local = LocalSet::new();
    tokio::select! {
        () = local.run_until(accept(listener, Rc::new(desk))) => {}
        () = stop => {}
    }
    let _ = timeout(PARTING, local).await;
}

async fn accept(listener: UnixListener, desk: Rc<Desk>) {
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
        let (desk, flag) = (Rc::clone(&desk), Rc::clone(&reading));
        let task = runtime::spawn(async move {
            let _leave = leave;
            attend(&stream, &desk, &flag).await;
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
    let _ = stream.try_write(&Response::from(fault).bytes());
}

async fn attend(stream: &UnixStream, desk: &Desk, reading: &Cell<bool>) {
    let request = match timeout(READ_LIMIT, receive(stream)).await {
        Ok(Ok(Some(request))) => request,
        Ok(Ok(None)) => return,
        Ok(Err(fault)) => return refuse(stream, fault),
        Err(_) => return refuse(stream, Fault(408, "the request did not arrive within 2 s")),
    };
    reading.set(false);
    let response = desk.ask(&request).await;
    let bytes = if request.wants_head_alone() { response.head().into_bytes() } else { response.bytes() };
    // A client that does not read is dropped with what it has got.
    let _ = timeout(WRITE_LIMIT, send(stream, &bytes)).await;
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
