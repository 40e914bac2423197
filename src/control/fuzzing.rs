//! Doors for `fuzz/`: the parsers that a client's bytes go through, and what it gets back.

use super::head::Whole;
use super::response::Response;
use super::types::Request;
use super::{client, head, paths};

/// Largest body that is taken, in bytes.
pub const BODY_MAX: usize = head::BODY_MAX;

/// Method, path and body.
pub type Parts = (String, String, Vec<u8>);

/// A refusal: its status code, and the whole response.
pub type Refused = (u16, Vec<u8>);

fn refused(response: &Response) -> Refused {
    (response.code, response.bytes())
}

/// What the gate hands on. None: more bytes are needed.
///
/// # Errors
/// What the client gets instead.
pub fn gate(bytes: &[u8]) -> Result<Option<Parts>, Refused> {
    let whole = Whole::parse(bytes).map_err(|fault| refused(&Response::from(fault)))?;
    Ok(whole.map(|whole| (whole.method, whole.path, whole.body)))
}

/// What the desk makes of it.
///
/// # Errors
/// What the client gets instead.
pub fn read(method: &str, target: &str, body: &[u8]) -> Result<Request, Refused> {
    paths::read(method, target, body).map_err(|wrong| refused(&Response::error(wrong.0, &wrong.1)))
}

/// The other way round, as the client writes it.
#[must_use]
pub fn write(request: &Request) -> (&'static str, String, String) {
    paths::write(request)
}

/// A response as the client reads it: status code and body. None: it is no whole one.
#[must_use]
pub fn split(response: &[u8]) -> Option<(u16, Vec<u8>)> {
    client::split(response)
}
