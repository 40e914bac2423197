//! The dispatcher: tiny_http's requests become [`Call`]s, replies become JSON, and a daemon that
//! does not reply in time becomes a 504.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::head::BODY_MAX;
use super::paths::{self, Wrong};
use super::server::Error;
use super::types::{Call, Refusal, RefusalKind, Reply};

/// What the endpoint's threads have in common.
pub struct Shared {
    /// Replaced when its accept thread has ended, which tiny_http does at the first error.
    pub http: Mutex<Arc<tiny_http::Server>>,
    pub replace: AtomicBool,
    pub stopping: AtomicBool,
}

impl Shared {
    fn http(&self) -> Arc<tiny_http::Server> {
        Arc::clone(&self.http.lock().unwrap_or_else(PoisonError::into_inner))
    }
    pub fn wake(&self) {
        self.http().unblock();
    }
}

pub fn http_server(listener: &UnixListener, path: &Path) -> Result<Arc<tiny_http::Server>, Error> {
    let failed = |words: String| Error::Http { path: path.to_owned(), words };
    let listener = listener.try_clone().map_err(|e| failed(e.to_string()))?;
    tiny_http::Server::from_listener(listener, None).map(Arc::new).map_err(|e| failed(e.to_string()))
}

/// Carries one reply back; if it is dropped unused, says that instead of letting a client wait.
struct Slip {
    id: u64,
    replies: mpsc::Sender<(u64, Result<Reply, Refusal>)>,
    shared: Arc<Shared>,
    used: bool,
}

impl Slip {
    fn send(&mut self, reply: Result<Reply, Refusal>) {
        self.used = true;
        let _ = self.replies.send((self.id, reply));
        self.shared.wake();
    }
}

impl Drop for Slip {
    fn drop(&mut self) {
        if !self.used {
            self.send(Err(Refusal::unavailable("the daemon dropped the request")));
        }
    }
}

/// The dispatching thread: the only one that reads requests and writes replies.
pub struct Desk {
    shared: Arc<Shared>,
    listener: UnixListener,
    inner_path: PathBuf,
    gate_path: PathBuf,
    calls: tokio::sync::mpsc::Sender<Call>,
    reply_limit: Duration,
    waiting: BTreeMap<u64, (tiny_http::Request, Instant)>,
    next: u64,
    replies: mpsc::Receiver<(u64, Result<Reply, Refusal>)>,
    slips: mpsc::Sender<(u64, Result<Reply, Refusal>)>,
}

impl Desk {
    pub fn new(
        shared: Arc<Shared>,
        listener: UnixListener,
        (inner_path, gate_path): (PathBuf, PathBuf),
        calls: tokio::sync::mpsc::Sender<Call>,
        reply_limit: Duration,
    ) -> Self {
        let (slips, replies) = mpsc::channel();
        let waiting = BTreeMap::new();
        Self { shared, listener, inner_path, gate_path, calls, reply_limit, waiting, next: 0, replies, slips }
    }

    pub fn run(mut self) {
        while !self.shared.stopping.load(Ordering::Acquire) {
            let first = self.waiting.values().map(|(_, until)| *until).min();
            let pause = first
                .map_or(Duration::from_secs(60), |until| until.saturating_duration_since(Instant::now()));
            let mut failed = false;
            match self.shared.http().recv_timeout(pause) {
                Ok(Some(request)) => self.admit(request),
                Ok(None) => {}
                Err(_) => failed = true,
            }
            if self.shared.replace.swap(false, Ordering::AcqRel) || failed {
                self.replace_http();
            }
            while let Ok((id, reply)) = self.replies.try_recv() {
                if let Some((request, _)) = self.waiting.remove(&id) {
                    answer(request, &rendered(reply));
                }
            }
            self.expire();
        }
        for (_, (request, _)) in std::mem::take(&mut self.waiting) {
            answer(request, &error(503, "the daemon is going down"));
        }
    }

    fn admit(&mut self, mut request: tiny_http::Request) {
        let mut body = Vec::new();
        // The gate has the whole body already; the limit is for a reader that disagrees with it.
        let limit = BODY_MAX as u64 + 1;
        if io::Read::read_to_end(&mut io::Read::take(request.as_reader(), limit), &mut body).is_err() {
            return answer(request, &error(400, "the body did not arrive"));
        }
        let asked = match paths::read(request.method().as_str(), request.url(), &body) {
            Ok(asked) => asked,
            Err(Wrong(code, words)) => return answer(request, &error(code, &words)),
        };
        self.next += 1;
        let id = self.next;
        let mut slip =
            Slip { id, replies: self.slips.clone(), shared: Arc::clone(&self.shared), used: false };
        let reply = Box::new(move |result| slip.send(result));
        self.waiting.insert(id, (request, Instant::now() + self.reply_limit));
        // When the daemon's queue is full or gone, the slip comes back as a 503 by itself.
        let _ = self.calls.try_send(Call { request: asked, reply });
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let late: Vec<u64> =
            self.waiting.iter().filter(|(_, (_, until))| *until <= now).map(|(id, _)| *id).collect();
        for id in late {
            if let Some((request, _)) = self.waiting.remove(&id) {
                let words = format!("the daemon did not reply within {} s", self.reply_limit.as_secs_f32());
                answer(request, &error(504, &words));
            }
        }
    }

    /// tiny_http's accept thread is gone: a new server on the same listening socket, whose queue
    /// is kept. The old one unlinks `inner_path` when dropped; the gate uses another link to it.
    fn replace_http(&self) {
        thread::sleep(Duration::from_millis(50));
        match http_server(&self.listener, &self.inner_path) {
            Ok(fresh) => {
                let old = std::mem::replace(
                    &mut *self.shared.http.lock().unwrap_or_else(PoisonError::into_inner),
                    fresh,
                );
                drop(old);
                // Only needed for the wake-up at the end; may be there still.
                let _ = fs::hard_link(&self.gate_path, &self.inner_path);
            }
            // No descriptor left, as a rule: again at the next turn.
            Err(_) => self.shared.replace.store(true, Ordering::Release),
        }
    }
}

type Rendered = (u16, Value);

fn error(code: u16, words: &str) -> Rendered {
    (code, json!({ "error": words }))
}

fn rendered(reply: Result<Reply, Refusal>) -> Rendered {
    match reply {
        Ok(Reply::Status(status)) => (200, serde_json::to_value(*status).unwrap_or(Value::Null)),
        Ok(Reply::Applied(applied)) => (200, serde_json::to_value(*applied).unwrap_or(Value::Null)),
        Ok(Reply::Blocked(list)) => (200, serde_json::to_value(list).unwrap_or(Value::Null)),
        Ok(Reply::Relays(relays)) => (200, json!({ "relays": relays })),
        Ok(Reply::Done { notes }) => (200, json!({ "done": true, "notes": notes })),
        Err(Refusal { kind, message }) => {
            let code = match kind {
                RefusalKind::Impossible => 409,
                RefusalKind::Failed => 500,
                RefusalKind::Unavailable => 503,
            };
            error(code, &message)
        }
    }
}

fn answer(request: tiny_http::Request, (code, body): &Rendered) {
    let mut response = tiny_http::Response::from_string(format!("{body}\n"))
        .with_status_code(*code)
        .with_chunked_threshold(usize::MAX);
    if let Ok(json) = tiny_http::Header::from_bytes("Content-Type", "application/json") {
        response = response.with_header(json);
    }
    // The gate always reads; if it has given up, there is nobody left to tell.
    let _ = request.respond(response);
}
