//! The control endpoint under hostile, slow and oversized requests: it still answers a good
//! request within a bound, and threads and memory stay bounded.

// Helpers of tests, which clippy.toml allows only inside #[test] functions.
#![allow(clippy::unwrap_used, clippy::panic)]

mod daemon;
mod endpoint;
mod framing;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use vpnd::control::client::{self, Error};
use vpnd::control::{Request, serve_within, socket_path};

use endpoint::{STATUS, endpoint, good, own_status, post};

#[test]
fn the_socket_is_roots_alone() {
    let mut e = endpoint(Duration::from_secs(1), good);
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&socket_path(&e.dir)), 0o600);
    assert_eq!(mode(&e.dir), 0o700);
    assert_eq!(mode(&e.dir.join("vpnd.lock")), 0o600);
    // Also where somebody made the folder before, or opened it to all.
    drop(e.server.take());
    std::fs::set_permissions(&e.dir, PermissionsExt::from_mode(0o777)).unwrap();
    let (calls, _queue) = tokio::sync::mpsc::channel(1);
    e.server = Some(serve_within(&e.dir, calls, Duration::from_secs(1)).unwrap());
    assert_eq!((mode(&socket_path(&e.dir)), mode(&e.dir)), (0o600, 0o700));
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
            let _ = stream.write_all(STATUS);
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

/// Without a descriptor for a connection it waits in the queue; with one it is answered. The
/// endpoint outlives it, whatever the number.
#[test]
fn out_of_file_descriptors_is_survived() {
    let e = endpoint(Duration::from_secs(2), good);
    e.answers_within(Duration::from_secs(1));
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live rlimit; the soft limit of this test process only, put back below.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    // One of them is the folder's own.
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as libc::rlim_t - 1;
    // A second time from few to many: what failed before must not count.
    let results: Vec<_> = [0, 1, 2, 3, 4, 24, 0, 1, 2, 3, 24]
        .into_iter()
        .map(|spare| {
            let low = libc::rlimit { rlim_cur: open + spare, rlim_max: limit.rlim_max };
            // SAFETY: as above.
            unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const low) };
            (spare, client::call(&e.dir, &Request::Status, Duration::from_millis(500)))
        })
        .collect();
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    for (spare, result) in results {
        match result {
            Ok(_) => println!("{spare} spare descriptors: answered"),
            // One for this end, one for the other.
            Err(error) if spare < 2 => println!("{spare} spare descriptors: {error}"),
            Err(error) => panic!("{spare} spare descriptors: {error}"),
        }
    }
    e.answers_within(Duration::from_secs(1));
}

/// Connections that come while there is no descriptor for them are served later.
#[test]
fn who_waited_for_a_descriptor_is_answered() {
    let e = endpoint(Duration::from_secs(2), good);
    let address = socket2::SockAddr::unix(socket_path(&e.dir)).unwrap();
    let clients: Vec<_> = (0..4)
        .map(|_| socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap())
        .collect();
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live rlimit; the soft limit of this test process only, put back below.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let none = libc::rlimit { rlim_cur: 0, rlim_max: limit.rlim_max };
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const none) };
    let connected: Vec<_> = clients.iter().map(|client| client.connect(&address)).collect();
    std::thread::sleep(Duration::from_millis(300));
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    for (client, connected) in clients.into_iter().zip(connected) {
        connected.unwrap();
        let mut stream = UnixStream::from(std::os::fd::OwnedFd::from(client));
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(STATUS).unwrap();
        assert_eq!(endpoint::code(&endpoint::rest(stream)), 200);
    }
}
