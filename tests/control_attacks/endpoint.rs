//! An endpoint of its own for each test, with a daemon that the test chooses.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vpnd::control::client;
use vpnd::control::{Call, Refusal, Reply, Request, Server, Status, TunnelState, serve_within, socket_path};

/// Threads, memory and descriptors are counted for the whole process, so one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub const STATUS: &[u8] = b"GET /v1/status HTTP/1.1\r\n\r\n";

pub struct Endpoint {
    pub dir: PathBuf,
    pub server: Option<Server>,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        drop(self.server.take());
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// `daemon` answers one call after the other, out of a queue as long as the real one's.
pub fn endpoint(reply_limit: Duration, daemon: fn(Call)) -> Endpoint {
    let (calls, mut queue) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        while let Some(call) = queue.blocking_recv() {
            daemon(call);
        }
    });
    endpoint_of(reply_limit, calls)
}

/// With a queue of calls that the test reads itself.
pub fn endpoint_of(reply_limit: Duration, calls: tokio::sync::mpsc::Sender<Call>) -> Endpoint {
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = std::env::temp_dir().join(format!("vpnd-ctl-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let server = serve_within(&dir, calls, reply_limit).unwrap();
    Endpoint { dir, server: Some(server), _turn: turn }
}

/// The daemon that does what is asked, at once.
pub fn good(call: Call) {
    let reply = match call.request {
        Request::Status => Ok(Reply::Status(Box::new(status()))),
        Request::Relays { .. } => Ok(Reply::Relays(Vec::new())),
        Request::Connect { relay: Some(_) } => Err(Refusal::impossible("no such relay")),
        _ => Ok(Reply::Done { notes: vec!["noted".into()] }),
    };
    let _ = call.reply.send(reply);
}

/// The daemon that never says a word, nor lets go of a call.
pub fn hung(call: Call) {
    std::mem::forget(call.reply);
}

fn status() -> Status {
    Status {
        state: TunnelState::Connected,
        lockdown: false,
        armed: true,
        cause: None,
        since_s: 0,
        wanted: None,
        relay: None,
        policy: None,
        device: None,
        trial: None,
        open_for_s: None,
        wan_services: Vec::new(),
        missing_layers: Vec::new(),
        warnings: Vec::new(),
        incidents: Vec::new(),
        incident_count: 0,
        version: String::new(),
        pid: 0,
    }
}

/// A number of /proc/self/status: "VmRSS:" (KiB).
pub fn own_status(field: &str) -> usize {
    number(&std::fs::read_to_string("/proc/self/status").unwrap(), field)
}

fn number(text: &str, field: &str) -> usize {
    let line = text.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The endpoint's threads, by their folders in /proc: a thread has the name of the one that started
/// it, unless it gets one, as those of tokio's pools do.
fn threads() -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc/self/task").unwrap().flatten().map(|thread| thread.path());
    all.filter(|thread| {
        let name = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
        name.starts_with("vpnd-") || name.starts_with("tokio")
    })
    .collect()
}

/// How often they gave the processor back so far: each turn began with a wake-up.
pub fn turns() -> usize {
    let texts = threads().into_iter().map(|thread| std::fs::read_to_string(thread.join("status")).unwrap());
    texts.map(|text| number(&text, "voluntary_ctxt_switches:")).sum()
}

pub fn post(path: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A response's status code; 0: there was none.
pub fn code(response: &[u8]) -> u16 {
    String::from_utf8_lossy(response).split(' ').nth(1).and_then(|c| c.parse().ok()).unwrap_or(0)
}

/// All that comes until the other end closes.
pub fn rest(mut stream: UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

impl Endpoint {
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(socket_path(&self.dir)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    }

    /// A client that has sent `bytes` and reads nothing yet.
    pub fn sent(&self, bytes: &[u8]) -> UnixStream {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        stream
    }

    pub fn raw(&self, bytes: &[u8]) -> String {
        String::from_utf8_lossy(&rest(self.sent(bytes))).into_owned()
    }

    pub fn code(&self, bytes: &[u8]) -> u16 {
        code(self.raw(bytes).as_bytes())
    }

    /// The proof of life: a good request, answered within `bound`; and the bound on threads.
    pub fn answers_within(&self, bound: Duration) {
        let start = Instant::now();
        match client::call(&self.dir, &Request::Status, bound) {
            Ok(Reply::Status(s)) => assert_eq!(s.state, TunnelState::Connected),
            other => panic!("no status: {other:?} after {:?}", start.elapsed()),
        }
        assert_eq!(threads().len(), 1);
    }
}
