//! A daemon that is slow, hung, gone or going, and many clients at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vpnd::control::client::{self, Error};
use vpnd::control::{Call, Reply, Request, socket_path};

use super::endpoint::{STATUS, code, endpoint, endpoint_of, good, hung, post, rest, turns};

const PLACES: usize = 8;

#[test]
fn a_hung_daemon_is_told_from_a_dead_one() {
    let e = endpoint(Duration::from_millis(300), hung);
    match client::call(&e.dir, &Request::Status, Duration::from_millis(100)) {
        Err(Error::NoAnswer { pid, .. }) => assert_eq!(pid, Some(std::process::id() as i32)),
        other => panic!("{other:?}"),
    }
    let start = Instant::now();
    let late = e.raw(STATUS);
    assert!(late.contains(" 504 ") && late.contains("did not reply within 0.3 s"), "{late}");
    assert!((Duration::from_millis(300)..Duration::from_secs(1)).contains(&start.elapsed()));
    // More than there are places.
    let many: Vec<_> = (0..30).map(|_| e.sent(STATUS)).collect();
    for stream in many {
        let reply = rest(stream);
        assert!(matches!(code(&reply), 503 | 504), "{}", String::from_utf8_lossy(&reply));
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

/// Its queue is full: nobody waits for a place in it.
#[test]
fn a_daemon_that_takes_no_call_is_a_503_at_once() {
    let (calls, queue) = tokio::sync::mpsc::channel(2);
    let e = endpoint_of(Duration::from_secs(30), calls);
    let waiting: Vec<_> = (0..2).map(|_| e.sent(STATUS)).collect();
    thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    assert_eq!(e.code(STATUS), 503);
    assert!(start.elapsed() < Duration::from_secs(1));
    // The daemon ends: those who waited hear that, and all who come.
    drop(queue);
    for stream in waiting {
        assert_eq!(code(&rest(stream)), 503);
    }
    assert_eq!(e.code(STATUS), 503);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_daemon_that_drops_a_call_is_a_503_at_once() {
    let e = endpoint(Duration::from_secs(30), drop);
    let start = Instant::now();
    assert_eq!(e.code(STATUS), 503);
    assert!(start.elapsed() < Duration::from_secs(1));
}

const SLOW: Duration = Duration::from_secs(1);

/// Each call on a thread of its own.
fn slow(call: Call) {
    thread::spawn(move || {
        thread::sleep(SLOW);
        good(call);
    });
}

#[test]
fn clients_of_a_slow_daemon_wait_side_by_side() {
    let e = endpoint(Duration::from_secs(5), slow);
    let start = Instant::now();
    let many: Vec<_> = (0..PLACES).map(|_| e.sent(STATUS)).collect();
    thread::sleep(Duration::from_millis(100));
    // One more than there are places is told so, and does not wait.
    let more = e.raw(STATUS);
    assert!(more.contains(" 503 ") && more.contains("too many connections"), "{more}");
    assert!(start.elapsed() < SLOW, "{:?}", start.elapsed());
    for stream in many {
        assert_eq!(code(&rest(stream)), 200);
    }
    assert!(start.elapsed() < SLOW * 2, "{:?}", start.elapsed());
    // vpnd's own client asks again until there is a place.
    thread::scope(|scope| {
        for _ in 0..3 * PLACES {
            scope.spawn(|| e.answers_within(SLOW * 6));
        }
    });
}

/// Connects for ever; everything else at once.
fn connecting(call: Call) {
    if matches!(call.request, Request::Connect { .. }) { hung(call) } else { good(call) }
}

#[test]
fn a_call_without_reply_holds_up_nobody_else() {
    let limit = Duration::from_millis(1500);
    let e = endpoint(limit, connecting);
    let start = Instant::now();
    let stuck: Vec<_> = (1..PLACES).map(|_| e.sent(&post("/v1/connect", ""))).collect();
    for _ in 0..100 {
        e.answers_within(Duration::from_secs(1));
    }
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    for stream in stuck {
        assert_eq!(code(&rest(stream)), 504);
    }
    assert!(start.elapsed() >= limit && start.elapsed() < limit * 2, "{:?}", start.elapsed());
}

#[test]
fn a_reply_that_comes_too_late_is_nobodys() {
    let e = endpoint(Duration::from_millis(200), slow);
    for _ in 0..3 {
        let late = e.raw(STATUS);
        assert!(late.contains(" 504 ") && late.matches("HTTP/1.1").count() == 1, "{late}");
    }
    thread::sleep(SLOW);
    assert_eq!(e.code(&post("/v1/nowhere", "")), 404);
}

/// What is refused on the way never gets to the daemon, and what comes behind a request neither.
#[test]
fn the_daemon_hears_of_whole_good_requests_alone() {
    static HEARD: AtomicUsize = AtomicUsize::new(0);
    let e = endpoint(Duration::from_secs(1), |call| {
        HEARD.fetch_add(1, Ordering::SeqCst);
        good(call);
    });
    for bad in [&b"GET /v1/statu"[..], &post("/v1/lockdown", "{}"), &post("/v1/nowhere", ""), b"\r\n\r\n"] {
        let stream = e.sent(bad);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        rest(stream);
    }
    assert_eq!(HEARD.load(Ordering::SeqCst), 0);
    let two = [post("/v1/connect", "{}"), post("/v1/disarm", "{}")].concat();
    assert_eq!(e.raw(&two).matches("HTTP/1.1").count(), 1);
    assert_eq!(HEARD.load(Ordering::SeqCst), 1);
}

#[test]
fn who_waits_when_the_daemon_goes_hears_that_and_the_endpoint_is_gone() {
    let (calls, queue) = tokio::sync::mpsc::channel(16);
    let mut e = endpoint_of(Duration::from_secs(30), calls);
    let waiting: Vec<_> = (0..4).map(|_| e.sent(STATUS)).collect();
    let half = e.sent(b"GET /v1/sta");
    thread::sleep(Duration::from_millis(100));
    // As the daemon's own end: the queue first, and the endpoint in the same breath.
    let start = Instant::now();
    drop(queue);
    drop(e.server.take());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(!socket_path(&e.dir).exists());
    for stream in waiting {
        assert_eq!(code(&rest(stream)), 503);
    }
    assert_eq!(rest(half), b"");
}

#[test]
fn a_call_that_nobody_answers_does_not_keep_the_endpoint() {
    let mut e = endpoint(Duration::from_secs(30), hung);
    let waiting = e.sent(STATUS);
    thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    drop(e.server.take());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(rest(waiting), b"");
    assert!(matches!(
        client::call(&e.dir, &Request::Status, Duration::from_secs(1)),
        Err(Error::NotRunning { .. })
    ));
}

/// A router's processor sleeps while nobody asks.
#[test]
fn nobody_asks_and_nothing_wakes_up() {
    let e = endpoint(Duration::from_secs(5), good);
    e.answers_within(Duration::from_secs(1));
    thread::sleep(Duration::from_millis(100));
    let before = turns();
    thread::sleep(Duration::from_secs(4));
    assert_eq!(turns(), before);
    // The control.
    e.answers_within(Duration::from_secs(1));
    assert!(turns() > before);
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
