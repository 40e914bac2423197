//! One HTTP/1.1 request out of a client's bytes, bounded, before anything else looks at them
//! (RFC 9112, 2 to 6; httparse reads the head). Pure.

/// Bytes of request line and header fields.
pub const HEAD_MAX: usize = 8 * 1024;
/// Bytes of the body; the largest honest one is about 100.
pub const BODY_MAX: usize = 16 * 1024;
const FIELDS_MAX: usize = 32;
const PATH_MAX: usize = 512;

/// A whole request, with nothing left of the client's own header fields.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    pub method: String,
    /// With its query.
    pub path: String,
    pub body: Vec<u8>,
}

/// The status code and the words for a client that is at fault.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Fault(pub u16, pub &'static str);

impl Whole {
    /// None: more bytes are needed. What comes after the request is not looked at: there is one
    /// request to a connection.
    ///
    /// # Errors
    /// The [`Fault`] to answer before closing.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Fault> {
        let window = bytes.get(..HEAD_MAX).unwrap_or(bytes);
        // Looked for first, so that a client that sends byte by byte costs one parse, not 8192.
        let Some(end) = window.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) else {
            return if bytes.len() >= HEAD_MAX {
                Err(Fault(431, "the request's head is larger than 8 KiB"))
            } else {
                Ok(None)
            };
        };
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&bytes[..end]) {
            Ok(httparse::Status::Complete(_)) => {}
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Fault(431, "too many header fields"));
            }
            Ok(httparse::Status::Partial) | Err(_) => {
                return Err(Fault(400, "this is no HTTP request"));
            }
        }
        let length = body_length(request.headers)?;
        let (Some(method), Some(path)) = (request.method, request.path) else {
            return Err(Fault(400, "this is no HTTP request"));
        };
        if path.len() > PATH_MAX {
            return Err(Fault(414, "the path is too long"));
        }
        if !path.bytes().all(|b| b.is_ascii_graphic()) || method.len() > 16 {
            return Err(Fault(400, "this is no HTTP request"));
        }
        match bytes.get(end..end + length) {
            Some(body) => {
                Ok(Some(Self { method: method.to_owned(), path: path.to_owned(), body: body.to_vec() }))
            }
            None => Ok(None),
        }
    }

    /// Whether the response may have no body: HEAD (RFC 9110, 9.3.2).
    #[must_use]
    pub fn wants_head_alone(&self) -> bool {
        self.method == "HEAD"
    }
}

/// Content-Length alone says how long a body is: with a coding, or two lengths, two readers could
/// disagree about where the request ends (RFC 9112, 6.3 and 11.2).
fn body_length(fields: &[httparse::Header<'_>]) -> Result<usize, Fault> {
    let mut length = None;
    for field in fields {
        if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Fault(411, "send Content-Length, not Transfer-Encoding"));
        }
        if field.name.eq_ignore_ascii_case("expect") {
            return Err(Fault(417, "Expect is not known here"));
        }
        if field.name.eq_ignore_ascii_case("content-length") {
            // Digits only: `parse` alone would take "+5".
            let digits = !field.value.is_empty() && field.value.iter().all(u8::is_ascii_digit);
            if !digits || length.is_some() {
                return Err(Fault(400, "Content-Length is no number, or there twice"));
            }
            let number = std::str::from_utf8(field.value).ok().and_then(|t| t.parse::<usize>().ok());
            match number {
                Some(n) if n <= BODY_MAX => length = Some(n),
                _ => return Err(Fault(413, "the body is larger than 16 KiB")),
            }
        }
    }
    Ok(length.unwrap_or(0))
}
