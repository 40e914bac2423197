//! A client's bytes on the control socket: through the gate, and on to a request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vpnd::control::fuzzing::{BODY_MAX, gate, read, write};
use vpnd_fuzz::bounded;

fuzz_target!(|data: &[u8]| {
    let outcome = bounded(data.len(), 4, 8192, || gate(data));
    let ((method, target, body), handed_on) = match outcome {
        Ok(Some(whole)) => whole,
        Ok(None) => return,
        Err((code, response)) => {
            assert!((400..600).contains(&code) && response.starts_with(b"HTTP/1.1 "));
            return;
        }
    };
    assert!(body.len() <= BODY_MAX);
    // Read piece by piece, it is the same request, and before its end it is none yet.
    let cut = data.len() / 2;
    match gate(&data[..cut]) {
        Ok(None) => {}
        Ok(Some((parts, _))) => assert_eq!(parts, (method.clone(), target.clone(), body.clone())),
        Err((code, _)) => panic!("{code} for the first {cut} bytes of a good request"),
    }
    // What tiny_http gets is one request, and this one.
    let (again, _) = gate(&handed_on).expect("no fault").expect("whole");
    assert_eq!(again, (method.clone(), target.clone(), body.clone()));

    let request = bounded(data.len(), 64, 8192, || read(&method, &target, &body));
    let Ok(request) = request else { return };
    let (method, target, body) = write(&request);
    assert_eq!(read(method, &target, body.as_bytes()), Ok(request));
});
