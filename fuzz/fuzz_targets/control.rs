//! A client's bytes on the control socket: through the gate, and on to a request or a refusal.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vpnd::control::fuzzing::{BODY_MAX, Refused, gate, read, split, write};
use vpnd_fuzz::bounded;

fuzz_target!(|data: &[u8]| {
    let outcome = bounded(data.len(), 4, 8192, || gate(data));
    let (method, target, body) = match outcome {
        Ok(Some(parts)) => parts,
        Ok(None) => return,
        Err(refused) => return check(refused),
    };
    assert!(body.len() <= BODY_MAX);
    // Read piece by piece, it is the same request, and before its end it is none yet.
    let cut = data.len() / 2;
    match gate(&data[..cut]) {
        Ok(None) => {}
        Ok(Some(parts)) => assert_eq!(parts, (method.clone(), target.clone(), body.clone())),
        Err((code, _)) => panic!("{code} for the first {cut} bytes of a good request"),
    }
    // What comes after it changes nothing.
    let two = [data, b"POST /v1/disarm HTTP/1.1\r\n\r\n"].concat();
    assert_eq!(gate(&two), Ok(Some((method.clone(), target.clone(), body.clone()))));

    let request = match bounded(data.len(), 64, 8192, || read(&method, &target, &body)) {
        Ok(request) => request,
        Err(refused) => return check(refused),
    };
    let (method, target, body) = write(&request);
    assert_eq!(read(method, &target, body.as_bytes()), Ok(request));
});

/// The client's own words may be in it, and are nothing but words: it reads one response, to the
/// last byte, whose body is one line.
fn check((code, response): Refused) {
    assert!((400..500).contains(&code) && response.starts_with(b"HTTP/1.1 "));
    let (read, body) = split(&response).expect("a whole response");
    assert_eq!(read, code);
    assert!(body.starts_with(b"{\"error\":\"") && body.ends_with(b"\"}\n"));
    assert_eq!(body.iter().filter(|byte| **byte < b' ').count(), 1);
    let head = response.len() - body.len();
    assert!(response[head..] == body && response[..head].ends_with(b"\r\n\r\n"));
    assert_eq!(response.windows(4).filter(|four| four == b"\r\n\r\n").count(), 1);
}
