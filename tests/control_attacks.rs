//! The control endpoint under hostile, slow and oversized requests: it still answers a good
//! request within a bound, and threads and memory stay bounded.

// Helpers of tests, which clippy.toml allows only inside #[test] functions.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vpnd::control::client::{self, Error};
use vpnd::control::{Call, Refusal, Reply, Request, Server, Status, TunnelState, serve_within, socket_path};

/// Threads are counted for the whole process, so one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// gate, dispatcher, tiny_http's accept thread, its pool of 4, and one per place.
const THREADS_MAX: usize = 3 + 4 + 8;

struct Endpoint {
    dir: PathBuf,
    server: Option<Server>,
    _turn: MutexGuard<'static, ()>,
    threads_before: usize,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        drop(self.server.take());
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn status() -> Status {
    serde_json::from_str(r#"{"state":"connected","lockdown":false,"armed":true}"#).unwrap()
}

/// `daemon` answers each call on a thread of its own.
fn endpoint(reply_limit: Duration, daemon: fn(Call)) -> Endpoint {
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let unique = Instant::now().elapsed().as_nanos() as usize + std::process::id() as usize;
    let dir = std::env::temp_dir().join(format!("vpnd-ctl-{}-{unique}", std::process::id()));
    let (calls, mut queue) = tokio::sync::mpsc::channel(4);
    std::thread::spawn(move || {
        while let Some(call) = queue.blocking_recv() {
            daemon(call);
        }
    });
    let threads_before = own_status("Threads:");
    let server = serve_within(&dir, calls, reply_limit).unwrap();
    Endpoint { dir, server: Some(server), _turn: turn, threads_before }
}

fn good(call: Call) {
    let reply = match call.request {
        Request::Status => Ok(Reply::Status(Box::new(status()))),
        Request::Relays { .. } => Ok(Reply::Relays(Vec::new())),
        Request::Connect { relay: Some(_) } => Err(Refusal::impossible("no such relay")),
        _ => Ok(Reply::Done { notes: vec!["noted".into()] }),
    };
    (call.reply)(reply);
}

/// A number of /proc/self/status: "Threads:", "VmRSS:" (KiB).
fn own_status(field: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

impl Endpoint {
    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(socket_path(&self.dir)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    }

    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        String::from_utf8_lossy(&reply).into_owned()
    }

    fn code(&self, bytes: &[u8]) -> u16 {
        let reply = self.raw(bytes);
        reply.split(' ').nth(1).and_then(|c| c.parse().ok()).unwrap_or(0)
    }

    /// The proof of life: a good request, answered within `bound`; and the bounds on threads.
    fn answers_within(&self, bound: Duration) {
        let start = Instant::now();
        match client::call(&self.dir, &Request::Status, bound) {
            Ok(Reply::Status(s)) => assert_eq!(s.state, TunnelState::Connected),
            other => panic!("no status: {other:?} after {:?}", start.elapsed()),
        }
        let threads = own_status("Threads:").saturating_sub(self.threads_before);
        assert!(threads <= THREADS_MAX, "{threads} threads");
    }
}

fn post(path: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[test]
fn requests_are_answered() {
    let e = endpoint(Duration::from_secs(5), good);
    e.answers_within(Duration::from_secs(1));
    let call = |r: &Request| client::call(&e.dir, r, Duration::from_secs(1));
    assert_eq!(call(&Request::Disarm).unwrap(), Reply::Done { notes: vec!["noted".into()] });
    assert_eq!(call(&Request::Relays { filter: Some("é".into()) }).unwrap(), Reply::Relays(vec![]));
    match call(&Request::Connect { relay: Some("nowhere".into()) }) {
        Err(Error::Refused { code: 409, message }) => assert_eq!(message, "no such relay"),
        other => panic!("{other:?}"),
    }
    assert!(e.raw(b"GET /v1/status HTTP/1.0\r\n\r\n").contains("\"state\":\"connected\""));
}

#[test]
fn the_socket_is_roots_alone() {
    let e = endpoint(Duration::from_secs(1), good);
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&socket_path(&e.dir)), 0o600);
    assert_eq!(mode(&e.dir), 0o700);
    assert_eq!(mode(&e.dir.join("http")), 0o700);
}

#[test]
fn a_second_daemon_is_kept_out_and_a_dead_one_is_replaced() {
    let mut e = endpoint(Duration::from_secs(1), good);
    let (calls, _queue) = tokio::sync::mpsc::channel(1);
    let second = serve_within(&e.dir, calls.clone(), Duration::from_secs(1));
    assert!(matches!(second, Err(vpnd::control::Error::Running { .. })));
    e.answers_within(Duration::from_secs(1));
    drop(e.server.take());
    assert!(matches!(
        client::call(&e.dir, &Request::Status, Duration::from_secs(1)),
        Err(Error::NotRunning { .. })
    ));
    // What a killed daemon leaves behind.
    drop(std::os::unix::net::UnixListener::bind(socket_path(&e.dir)).unwrap());
    assert!(matches!(
        client::call(&e.dir, &Request::Status, Duration::from_secs(1)),
        Err(Error::NotRunning { .. })
    ));
    e.server = Some(serve_within(&e.dir, calls, Duration::from_secs(1)).unwrap());
}

#[test]
fn a_hung_daemon_is_told_from_a_dead_one() {
    fn hung(call: Call) {
        std::mem::forget(call.reply);
    }
    let e = endpoint(Duration::from_millis(300), hung);
    match client::call(&e.dir, &Request::Status, Duration::from_millis(100)) {
        Err(Error::NoAnswer { pid, .. }) => assert_eq!(pid, Some(std::process::id() as i32)),
        other => panic!("{other:?}"),
    }
    let start = Instant::now();
    assert_eq!(e.code(b"GET /v1/status HTTP/1.1\r\n\r\n"), 504);
    assert!(start.elapsed() < Duration::from_secs(1));
    // More waiting calls than the daemon's queue holds, and than there are places.
    let many: Vec<UnixStream> = (0..30)
        .map(|_| {
            let mut s = e.connect();
            let _ = s.write_all(b"GET /v1/status HTTP/1.1\r\n\r\n");
            s
        })
        .collect();
    for mut stream in many {
        let mut reply = String::new();
        let _ = stream.read_to_string(&mut reply);
        assert!(reply.contains(" 504 ") || reply.contains(" 503 "), "{reply}");
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn a_daemon_that_drops_a_call_or_is_gone_is_a_503_at_once() {
    fn drops(call: Call) {
        drop(call);
    }
    let e = endpoint(Duration::from_secs(30), drops);
    let start = Instant::now();
    assert_eq!(e.code(b"GET /v1/status HTTP/1.1\r\n\r\n"), 503);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn slowloris_and_half_requests() {
    let e = endpoint(Duration::from_secs(2), good);
    let mut slow: Vec<UnixStream> = (0..50).map(|_| e.connect()).collect();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        for stream in &mut slow {
            let _ = stream.write_all(b"G");
        }
        e.answers_within(Duration::from_secs(1));
        std::thread::sleep(Duration::from_millis(50));
    }
    // All of them have been dropped by now.
    for mut stream in slow {
        let mut rest = Vec::new();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let read = stream.read_to_end(&mut rest);
        let still = matches!(&read, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!still, "a connection outlived its deadline");
    }
    for half in
        [&b"GET /v1/status HTT"[..], b"POST /v1/lockdown HTTP/1.1\r\nContent-Length: 100\r\n\r\n{\"on\""]
    {
        let mut stream = e.connect();
        stream.write_all(half).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert_eq!(reply, "");
    }
    let start = Instant::now();
    assert_eq!(e.code(b"POST /v1/lockdown HTTP/1.1\r\nContent-Length: 100\r\n\r\n{\"on\""), 408);
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn oversized_requests() {
    let e = endpoint(Duration::from_secs(2), good);
    let before = own_status("VmRSS:");
    let big = vec![b'a'; 10 * 1024 * 1024];
    for _ in 0..20 {
        let mut body = b"POST /v1/connect HTTP/1.1\r\nContent-Length: 10485760\r\n\r\n".to_vec();
        body.extend_from_slice(&big);
        assert_eq!(e.code(&body), 413);
        let mut head = b"GET /v1/status HTTP/1.1\r\nX: ".to_vec();
        head.extend_from_slice(&big);
        assert_eq!(e.code(&head), 431);
        let mut path = b"GET /".to_vec();
        path.extend_from_slice(&big[..4000]);
        path.extend_from_slice(b" HTTP/1.1\r\n\r\n");
        assert_eq!(e.code(&path), 414);
    }
    drop(big);
    let grown = own_status("VmRSS:").saturating_sub(before);
    assert!(grown < 30 * 1024, "RSS grew by {grown} KiB, of which 20 MiB may be this test's own");
    e.answers_within(Duration::from_secs(1));
}

#[test]
fn what_is_no_request_is_refused() {
    let e = endpoint(Duration::from_secs(2), good);
    let many_fields = format!("GET /v1/status HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
    for (bytes, code) in [
        (&b"\xff\xfe\x00\r\n\r\n"[..], 400),
        (b"GET /v1/\xc3\x28 HTTP/1.1\r\n\r\n", 400),
        (b"GET  /v1/status HTTP/1.1\r\n\r\n", 400),
        (b"GET /v1/status HTTP/2.0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"POST /v1/connect HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 411),
        (b"POST /v1/connect HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", 400),
        (b"POST /v1/connect HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/connect HTTP/1.1\r\nContent-Length: +2\r\n\r\n{}", 400),
        (b"POST /v1/connect HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        (b"POST /v1/connect HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", 417),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", 404),
        (b"DELETE /v1/status HTTP/1.1\r\n\r\n", 405),
        (b"HEAD /v1/status HTTP/1.1\r\n\r\n", 405),
        (many_fields.as_bytes(), 431),
        (&post("/v1/connect", &"[".repeat(16_000)), 400),
        (&post("/v1/connect", &format!("{{\"relay\":{}", "{\"a\":".repeat(3000))), 400),
        (&post("/v1/lockdown", "{\"on\":\u{1b}}"), 400),
        (&post("/v1/nowhere", "{}"), 404),
    ] {
        assert_eq!(e.code(bytes), code, "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]));
    }
    let bad_utf8 = b"POST /v1/connect HTTP/1.1\r\nContent-Length: 14\r\n\r\n{\"relay\":\"\xff\xff\"}";
    assert_eq!(e.code(bad_utf8), 400);
    e.answers_within(Duration::from_secs(1));
}

#[test]
fn one_request_to_a_connection() {
    let e = endpoint(Duration::from_secs(2), good);
    let reply = e.raw(&b"GET /v1/status HTTP/1.1\r\n\r\n".repeat(1000));
    assert_eq!(reply.matches("HTTP/1.1").count(), 1, "{reply}");
    // A body that looks like a request stays a body.
    let reply = e.raw(&post("/v1/connect", "GET /v1/status HTTP/1.1\r\n\r\n"));
    assert!(reply.contains(" 400 ") && reply.matches("HTTP/1.1").count() == 1, "{reply}");
}

#[test]
fn a_thousand_connects_and_clients_that_never_read() {
    let e = endpoint(Duration::from_secs(2), good);
    for _ in 0..1000 {
        drop(UnixStream::connect(socket_path(&e.dir)));
    }
    e.answers_within(Duration::from_secs(1));
    let before = own_status("VmRSS:");
    let start = Instant::now();
    let deaf: Vec<UnixStream> = (0..100)
        .map(|_| {
            let mut stream = e.connect();
            let _ = stream.write_all(b"GET /v1/status HTTP/1.1\r\n\r\n");
            stream
        })
        .collect();
    e.answers_within(Duration::from_secs(4));
    for _ in 0..1000 {
        e.answers_within(Duration::from_secs(4));
    }
    println!("1000 requests in {:?}", start.elapsed());
    drop(deaf);
    let grown = own_status("VmRSS:").saturating_sub(before);
    println!("RSS grew by {grown} KiB");
    assert!(grown < 2048, "RSS grew by {grown} KiB");
}

/// tiny_http's accept thread ends at its first error; the endpoint must not.
#[test]
fn out_of_file_descriptors_is_survived() {
    let e = endpoint(Duration::from_secs(2), good);
    e.answers_within(Duration::from_secs(1));
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live rlimit; the soft limit of this test process only, put back below.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as libc::rlim_t;
    for spare in 0..24 {
        let low = libc::rlimit { rlim_cur: open + spare, rlim_max: limit.rlim_max };
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const low) };
        let result = client::call(&e.dir, &Request::Status, Duration::from_millis(300));
        println!(
            "{spare} spare descriptors: {}",
            result.map_or_else(|e| e.to_string(), |_| "answered".into())
        );
    }
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    // A tiny_http that was replaced lets its pool go after 5 s without work.
    std::thread::sleep(Duration::from_secs(6));
    e.answers_within(Duration::from_secs(5));
}
