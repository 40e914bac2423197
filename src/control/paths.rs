//! Method, path and body <-> [`Request`]. Pure.

use std::net::Ipv4Addr;

use serde_json::json;

use super::types::{Apply, PAUSE_MAX, Request};
use crate::config::{IfName, RelayName};
use crate::from_json::{FromJson, from_bytes, from_json};

#[cfg(test)]
mod tests;

/// A status code and what was wrong, for the client.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong(pub u16, pub String);

/// Characters of `filter`.
const FILTER_MAX: usize = 64;

struct ConnectBody {
    relay: Option<RelayName>,
}

struct LockdownBody {
    on: bool,
}

struct LeaseBody {
    device: IfName,
    server: Option<Ipv4Addr>,
}

struct DisarmBody {
    for_s: Option<u32>,
}

struct EmptyBody {}

from_json!(strict struct ConnectBody { relay });
from_json!(strict struct LockdownBody { on });
from_json!(strict struct LeaseBody { device, server });
from_json!(strict struct DisarmBody { for_s });
from_json!(strict struct EmptyBody {});

/// # Errors
/// 404 for an unknown path, 405 for a wrong method, 400 for everything else that does not fit.
pub fn read(method: &str, target: &str, body: &[u8]) -> Result<Request, Wrong> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let wanted = match path {
        "/v1/status" | "/v1/relays" | "/v1/blocked" => "GET",
        "/v1/connect" | "/v1/disconnect" | "/v1/reconnect" | "/v1/lockdown" | "/v1/disarm" | "/v1/reload"
        | "/v1/lease" | "/v1/apply" | "/v1/confirm" | "/v1/undo" => "POST",
        _ => {
            return Err(Wrong(404, "there is no such path; see docs/cli.md".to_owned()));
        }
    };
    if method != wanted {
        return Err(Wrong(405, format!("use {wanted}")));
    }
    if query.is_some() && path != "/v1/relays" {
        return Err(wrong("no query is known here"));
    }
    if wanted == "GET" && !body.is_empty() {
        return Err(wrong("no body is known here"));
    }
    Ok(match path {
        "/v1/status" => Request::Status,
        "/v1/blocked" => Request::Blocked,
        "/v1/relays" => Request::Relays { filter: query.map(filter).transpose()?.flatten() },
        "/v1/connect" => {
            let body: ConnectBody = json_or_empty(body)?;
            Request::Connect { relay: body.relay.map(String::from) }
        }
        "/v1/lockdown" => Request::Lockdown { on: json_body::<LockdownBody>(body)?.on },
        "/v1/lease" => {
            let body: LeaseBody = json_body(body)?;
            Request::Lease { device: body.device, server: body.server }
        }
        "/v1/disarm" => match json_or_empty::<DisarmBody>(body)?.for_s {
            None => Request::Disarm,
            Some(seconds) if (1..=PAUSE_MAX).contains(&seconds) => Request::Pause { seconds },
            Some(_) => return Err(wrong("for_s: 1 to 86400 seconds")),
        },
        "/v1/apply" => {
            let ask: Apply = json_or_empty(body)?;
            if ask.confirm_within.is_some_and(|seconds| !(1..=3600).contains(&seconds)) {
                return Err(wrong("confirm_within: 1 to 3600 seconds"));
            }
            Request::Apply(ask)
        }
        other => {
            let EmptyBody {} = json_or_empty(body)?;
            match other {
                "/v1/disconnect" => Request::Disconnect,
                "/v1/reconnect" => Request::Reconnect,
                "/v1/confirm" => Request::Confirm,
                "/v1/undo" => Request::Undo,
                _ => Request::Reload,
            }
        }
    })
}

/// The other way round, for the client: method, target, body.
#[must_use]
pub fn write(request: &Request) -> (&'static str, String, String) {
    let post = |path: &str, body: serde_json::Value| ("POST", path.to_owned(), body.to_string());
    match request {
        Request::Status => ("GET", "/v1/status".to_owned(), String::new()),
        Request::Blocked => ("GET", "/v1/blocked".to_owned(), String::new()),
        Request::Relays { filter: None } => ("GET", "/v1/relays".to_owned(), String::new()),
        Request::Relays { filter: Some(text) } => {
            ("GET", format!("/v1/relays?filter={}", percent_encoded(text)), String::new())
        }
        Request::Connect { relay } => post("/v1/connect", json!({ "relay": relay })),
        Request::Disconnect => post("/v1/disconnect", json!({})),
        Request::Reconnect => post("/v1/reconnect", json!({})),
        Request::Lockdown { on } => post("/v1/lockdown", json!({ "on": on })),
        Request::Disarm => post("/v1/disarm", json!({})),
        Request::Pause { seconds } => post("/v1/disarm", json!({ "for_s": seconds })),
        Request::Reload => post("/v1/reload", json!({})),
        Request::Apply(ask) => post("/v1/apply", json!(ask)),
        Request::Confirm => post("/v1/confirm", json!({})),
        Request::Undo => post("/v1/undo", json!({})),
        Request::Lease { device, server } => post("/v1/lease", json!({ "device": device, "server": server })),
    }
}

fn wrong(words: &str) -> Wrong {
    Wrong(400, words.to_owned())
}

fn json_body<T: FromJson>(body: &[u8]) -> Result<T, Wrong> {
    flat(body)?;
    from_bytes(body).map_err(|e| Wrong(400, format!("body: {e}")))
}

fn json_or_empty<T: FromJson>(body: &[u8]) -> Result<T, Wrong> {
    json_body(if body.is_empty() { b"{}" } else { body })
}

/// No body that is taken has anything nested, nor a bracket in a text; a tree of what a hostile
/// client nests would take many times its bytes.
fn flat(body: &[u8]) -> Result<(), Wrong> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(wrong("body: is no JSON object"));
    }
    if body.iter().filter(|byte| b"{[".contains(byte)).count() > 1 {
        return Err(wrong("body: has an object or list in it; no field here takes one"));
    }
    Ok(())
}

fn filter(query: &str) -> Result<Option<String>, Wrong> {
    let Some(raw) = query.strip_prefix("filter=") else {
        return Err(wrong("the only query known here is filter="));
    };
    let text = percent_decoded(raw).ok_or_else(|| wrong("filter: is no percent-encoded UTF-8"))?;
    if text.chars().count() > FILTER_MAX || text.chars().any(char::is_control) {
        return Err(wrong("filter: at most 64 characters, none of them control characters"));
    }
    Ok(Some(text).filter(|t| !t.is_empty()))
}

fn percent_decoded(raw: &str) -> Option<String> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'&' => return None,
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
