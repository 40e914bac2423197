//! Where a response begins and ends, for any client of HTTP/1.1 (RFC 9112, 6).

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use vpnd::control::{Call, RelayStatus, Reply, Request};

use super::endpoint::{STATUS, code, endpoint, good, post, rest};

/// Head and body, if the head says that they are all there is.
fn split(response: &[u8]) -> (String, Vec<u8>) {
    let end = response.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    (String::from_utf8(response[..end].to_vec()).unwrap(), response[end..].to_vec())
}

fn field<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[test]
fn a_response_is_as_long_as_it_says() {
    let e = endpoint(Duration::from_secs(2), good);
    for (request, expected) in [
        (STATUS.to_vec(), 200),
        (b"GET /v1/status HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec(), 200),
        (b"GET /v1/status HTTP/1.1\r\nHost: vpnd\r\nTE: trailers\r\nUpgrade: h2c\r\n\r\n".to_vec(), 200),
        (STATUS.repeat(3), 200),
        (post("/v1/disarm", ""), 200),
        (post("/v1/connect", r#"{"relay":"nowhere"}"#), 409),
        (post("/v1/connect", "{\"\u{e9}\u{7f}\\r\\n\\r\\nHTTP/1.1 200\":1}"), 400),
        (post("/v1/nowhere", ""), 404),
        (post("/v1/status", ""), 405),
        (b"POST /v1/connect HTTP/1.1\r\nContent-Length: 99999\r\n\r\n".to_vec(), 413),
        (b"\0\r\n\r\n".to_vec(), 400),
    ] {
        let response = rest(e.sent(&request));
        let (head, body) = split(&response);
        assert!(head.starts_with(&format!("HTTP/1.1 {expected} ")), "{head}");
        assert_eq!(field(&head, "content-length"), [body.len().to_string()], "{head}");
        assert_eq!(field(&head, "content-type"), ["application/json"], "{head}");
        assert_eq!(field(&head, "connection"), ["close"], "{head}");
        assert!(field(&head, "transfer-encoding").is_empty(), "{head}");
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value.get("error").is_some(), expected != 200, "{value}");
        assert_eq!(body.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}

/// RFC 9110, 9.3.2: a client takes what follows for the next response.
#[test]
fn head_gets_no_body() {
    let e = endpoint(Duration::from_secs(2), good);
    for (path, expected) in [("/v1/status", 405), ("/v1/nowhere", 404)] {
        let (head, body) = split(&rest(e.sent(format!("HEAD {path} HTTP/1.1\r\n\r\n").as_bytes())));
        assert_eq!((code(head.as_bytes()), body.len()), (expected, 0), "{head}");
        assert_ne!(field(&head, "content-length"), ["0"], "{head}");
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let e = endpoint(Duration::from_secs(2), good);
    let mut stream = e.connect();
    for byte in post("/v1/lockdown", r#"{"on":true}"#) {
        stream.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(code(&rest(stream)), 200);
}

#[test]
fn one_request_to_a_connection() {
    let e = endpoint(Duration::from_secs(2), good);
    let reply = e.raw(&STATUS.repeat(1000));
    assert_eq!(reply.matches("HTTP/1.1").count(), 1, "{reply}");
    // A body that looks like a request stays a body.
    let reply = e.raw(&post("/v1/connect", "GET /v1/status HTTP/1.1\r\n\r\n"));
    assert!(reply.contains(" 400 ") && reply.matches("HTTP/1.1").count() == 1, "{reply}");
}

/// A reply that no socket buffer holds: about 2 MB, or more than 4 MiB.
fn many_relays(call: Call) {
    let Request::Relays { filter } = &call.request else { return good(call) };
    let relay = RelayStatus {
        name: "se_got_001".parse().unwrap(),
        endpoint: "198.51.100.1:51820".parse().unwrap(),
        country: "Sweden".into(),
        city: "Gothenburg".into(),
    };
    let count = if filter.is_some() { 60_000 } else { 20_000 };
    let _ = call.reply.send(Ok(Reply::Relays(vec![relay; count])));
}

const RELAYS: &[u8] = b"GET /v1/relays HTTP/1.1\r\n\r\n";

#[test]
fn a_large_reply_is_whole_and_a_larger_one_is_an_error() {
    let e = endpoint(Duration::from_secs(5), many_relays);
    let (head, body) = split(&rest(e.sent(RELAYS)));
    assert_eq!(field(&head, "content-length"), [body.len().to_string()], "{head}");
    assert!(body.len() > 1_500_000);
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(value["relays"].as_array().unwrap().len(), 20_000);
    let reply = e.raw(b"GET /v1/relays?filter=se HTTP/1.1\r\n\r\n");
    assert!(reply.contains(" 500 ") && reply.contains("larger than 4 MiB"), "{}", &reply[..200]);
    e.answers_within(Duration::from_secs(1));
}

/// All places are theirs for as long as they may take their time, and no longer.
#[test]
fn who_does_not_read_a_large_reply_is_dropped() {
    let e = endpoint(Duration::from_secs(5), many_relays);
    let start = Instant::now();
    let deaf: Vec<_> = (0..8).map(|_| e.sent(RELAYS)).collect();
    e.answers_within(Duration::from_secs(6));
    println!("answered after {:?}", start.elapsed());
    std::thread::sleep(Duration::from_secs(3));
    for stream in deaf {
        let got = rest(stream);
        assert!((1..1_500_000).contains(&got.len()), "{} bytes", got.len());
    }
    // Who reads slowly, but reads, gets the whole within his time.
    let mut stream = e.sent(RELAYS);
    let (mut got, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut chunk).unwrap() {
            0 => break,
            n => got.extend_from_slice(&chunk[..n]),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let (head, body) = split(&got);
    assert_eq!(field(&head, "content-length"), [body.len().to_string()], "{head}");
}
