//! Doors for `fuzz/`: the parsers that a client's bytes go through.

use super::head::Whole;
use super::types::Request;
use super::{head, paths};

/// Largest body that is taken, in bytes.
pub const BODY_MAX: usize = head::BODY_MAX;

/// What the gate hands on: method, path and body, and the bytes that tiny_http gets. None: more
/// bytes are needed.
///
/// # Errors
/// The status code and the whole response.
pub fn gate(bytes: &[u8]) -> Result<Option<(Parts, Vec<u8>)>, (u16, Vec<u8>)> {
    let whole = Whole::parse(bytes).map_err(|fault| (fault.0, head::response(fault)))?;
    Ok(whole.map(|whole| (whole.parts(), whole.rewritten())))
}

/// Method, path and body.
pub type Parts = (String, String, Vec<u8>);

/// # Errors
/// The status code and the words.
pub fn read(method: &str, target: &str, body: &[u8]) -> Result<Request, (u16, String)> {
    paths::read(method, target, body).map_err(|wrong| (wrong.0, wrong.1))
}

/// The other way round, as the client writes it.
#[must_use]
pub fn write(request: &Request) -> (&'static str, String, String) {
    paths::write(request)
}
