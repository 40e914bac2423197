//! The daemon's word as one whole HTTP/1.1 response. Pure.
//!
//! There is no Date: a router's clock may be years off, and without a good one there must be none
//! (RFC 9110, 6.6.1).

use serde_json::{Value, json};

use super::head::Fault;
use super::types::{Refusal, RefusalKind, Reply};

/// Bytes of a response: a status, or some thousand relays.
pub const REPLY_MAX: usize = 4 * 1024 * 1024;

/// A status code (docs/cli.md, "The endpoint") and a line of JSON.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub code: u16,
    body: String,
}

impl Response {
    /// `{"error": words}`; `words` may be any text, a client's too.
    #[must_use]
    pub fn error(code: u16, words: &str) -> Self {
        Self::new(code, &json!({ "error": words }))
    }

    /// What the daemon said; a 500 if that is larger than [`REPLY_MAX`].
    #[must_use]
    pub fn reply(reply: Result<Reply, Refusal>) -> Self {
        let response = match reply {
            Ok(reply) => Self::new(200, &value(reply)),
            Err(Refusal { kind, message }) => Self::error(code(kind), &message),
        };
        if response.head().len() + response.body.len() > REPLY_MAX {
            return Self::error(500, "the reply is larger than 4 MiB");
        }
        response
    }

    fn new(code: u16, value: &Value) -> Self {
        Self { code, body: format!("{value}\n") }
    }

    /// Status line and header fields (RFC 9112, 4 and 6.2). The phrase is for people: a client goes
    /// by the code.
    #[must_use]
    pub fn head(&self) -> String {
        let phrase = match self.code {
            ..400 => "OK",
            400..500 => "Refused",
            500 => "Failed",
            _ => "Unavailable",
        };
        format!(
            "HTTP/1.1 {} {phrase}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.code,
            self.body.len()
        )
    }

    /// Head and body.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head().into_bytes();
        bytes.extend_from_slice(self.body.as_bytes());
        bytes
    }
}

impl From<Fault> for Response {
    fn from(Fault(code, words): Fault) -> Self {
        Self::error(code, words)
    }
}

fn value(reply: Reply) -> Value {
    match reply {
        Reply::Status(status) => serde_json::to_value(*status).unwrap_or(Value::Null),
        Reply::Applied(applied) => serde_json::to_value(*applied).unwrap_or(Value::Null),
        Reply::Blocked(list) => serde_json::to_value(list).unwrap_or(Value::Null),
        Reply::Relays(relays) => json!({ "relays": relays }),
        Reply::Done { notes } => json!({ "done": true, "notes": notes }),
    }
}

fn code(kind: RefusalKind) -> u16 {
    match kind {
        RefusalKind::Impossible => 409,
        RefusalKind::Failed => 500,
        RefusalKind::Unavailable => 503,
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::split;
    use super::*;

    fn done(notes: &[&str]) -> Response {
        Response::reply(Ok(Reply::Done { notes: notes.iter().map(|&note| note.to_owned()).collect() }))
    }

    #[test]
    fn to_the_byte() {
        // In bytes, not in characters: é is two.
        let reply = String::from_utf8(done(&["é"]).bytes()).unwrap();
        let expected = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n\
            Content-Length: 29\r\n\r\n{\"done\":true,\"notes\":[\"é\"]}\n";
        assert_eq!(reply, expected);
        assert_eq!(
            Response::from(Fault(408, "late")).bytes(),
            b"HTTP/1.1 408 Refused\r\nConnection: close\r\nContent-Type: application/json\r\n\
            Content-Length: 17\r\n\r\n{\"error\":\"late\"}\n"
        );
    }

    #[test]
    fn every_kind_has_its_code() {
        for (refusal, code, phrase) in [
            (Refusal::impossible("x"), 409, "Refused"),
            (Refusal::failed("x"), 500, "Failed"),
            (Refusal::unavailable("x"), 503, "Unavailable"),
        ] {
            let response = Response::reply(Err(refusal));
            assert_eq!(response.code, code);
            assert!(response.head().starts_with(&format!("HTTP/1.1 {code} {phrase}\r\n")));
        }
    }

    /// A client's words, which an error may quote, end neither the head nor the body.
    #[test]
    fn words_stay_within_the_body() {
        for words in
            ["\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "\"}\n{\"", "\0\u{1b}[2J\u{7f}\u{2028}"]
        {
            let bytes = Response::error(400, words).bytes();
            let (code, body) = split(&bytes).unwrap();
            assert_eq!(code, 400);
            assert!(
                bytes.ends_with(&body)
                    && bytes.len() == body.len() + Response::error(400, words).head().len()
            );
            assert_eq!(body.iter().filter(|byte| **byte < b' ').count(), 1, "the last newline");
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), json!({ "error": words }));
        }
    }

    #[test]
    fn what_is_too_large_is_not_sent() {
        let large = "x".repeat(REPLY_MAX);
        let response = done(&[&large]);
        assert_eq!((response.code, response.bytes().len() < 1024), (500, true));
        assert_eq!(done(&[&large[..REPLY_MAX - 1024]]).code, 200);
    }
}
