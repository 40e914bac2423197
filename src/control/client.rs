//! The endpoint's client: one request, one reply, one deadline.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::seconds;
use super::paths;
use super::peer::peer_pid;
use super::response::REPLY_MAX;
use super::socket::socket_path;
use super::types::{RelayStatus, Reply, Request};
use crate::from_json::{from_bytes, from_json};

/// Between two tries at a daemon that is busy with others.
const AGAIN: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the daemon is not running (nobody listens on {})", socket.display())]
    NotRunning { socket: PathBuf },
    /// It listens, and says nothing: stopped, or stuck.
    #[error("the daemon{} does not answer within {} s on {}", of(*pid), seconds(*limit), socket.display())]
    NoAnswer { socket: PathBuf, pid: Option<i32>, limit: Duration },
    #[error("{message}")]
    Refused { code: u16, message: String },
    #[error("no access to {}: {source}; run as root", socket.display())]
    NoAccess { socket: PathBuf, source: io::Error },
    #[error("cannot talk to the daemon on {}: {source}", socket.display())]
    Io { socket: PathBuf, source: io::Error },
    #[error("the daemon's reply on {} makes no sense ({what}); is it another version?", socket.display())]
    Garbled { socket: PathBuf, what: String },
}

fn of(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// Sends `request` to the daemon that serves `run_dir` and waits at most `limit` for its reply.
///
/// # Errors
/// [`Error::NotRunning`] and [`Error::NoAnswer`] tell a dead daemon from a hung one;
/// [`Error::Refused`] is the daemon's own word.
pub fn call(run_dir: &Path, request: &Request, limit: Duration) -> Result<Reply, Error> {
    let socket = socket_path(run_dir);
    let deadline = Deadline { until: Instant::now() + limit, limit };
    loop {
        let result = once(&socket, request, &deadline);
        let passing = match &result {
            // The gate's "too many connections", or a daemon that is starting.
            Ok((code, _)) => *code == 503,
            // The gate gave our place to another before it had our request.
            Err(Error::Io { source, .. }) => {
                matches!(source.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
            }
            Err(_) => false,
        };
        if passing && deadline.left().is_some_and(|left| left > AGAIN) {
            std::thread::sleep(AGAIN);
            continue;
        }
        let (code, body) = result?;
        return understood(&socket, request, code, &body);
    }
}

struct Deadline {
    until: Instant,
    limit: Duration,
}

impl Deadline {
    fn left(&self) -> Option<Duration> {
        self.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

fn once(socket: &Path, request: &Request, deadline: &Deadline) -> Result<(u16, Vec<u8>), Error> {
    let no_answer = |pid| Error::NoAnswer { socket: socket.to_owned(), pid, limit: deadline.limit };
    let io = |source| Error::Io { socket: socket.to_owned(), source };
    let mut stream = connect(socket, deadline)?;
    let pid = peer_pid(stream.as_fd()).ok();
    let (method, target, body) = paths::write(request);
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: vpnd\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let sent = stream.write_all(head.as_bytes());
    let mut reply = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        let Some(left) = deadline.left() else {
            return Err(no_answer(pid));
        };
        stream.set_read_timeout(Some(left)).map_err(io)?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => reply.extend_from_slice(&chunk[..n]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(no_answer(pid));
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // A refusal that came before the whole request was sent is still a reply.
            Err(_) if !reply.is_empty() => break,
            Err(e) => return Err(io(e)),
        }
        if reply.len() > REPLY_MAX {
            return Err(Error::Garbled { socket: socket.to_owned(), what: "larger than 4 MiB".to_owned() });
        }
    }
    if reply.is_empty() {
        let source = sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
        return Err(io(source));
    }
    split(&reply)
        .ok_or(Error::Garbled { socket: socket.to_owned(), what: "no whole HTTP response".to_owned() })
}

/// Honours the deadline also while the daemon's backlog is full (unix_stream_connect waits for
/// SO_SNDTIMEO then).
fn connect(socket: &Path, deadline: &Deadline) -> Result<UnixStream, Error> {
    let io = |source| Error::Io { socket: socket.to_owned(), source };
    let address = socket2::SockAddr::unix(socket).map_err(io)?;
    let stream = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).map_err(io)?;
    let left = deadline.left().unwrap_or(Duration::from_millis(1));
    stream.set_write_timeout(Some(left)).map_err(io)?;
    stream.connect(&address).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Error::NotRunning { socket: socket.to_owned() }
        }
        io::ErrorKind::PermissionDenied => Error::NoAccess { socket: socket.to_owned(), source },
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Error::NoAnswer { socket: socket.to_owned(), pid: None, limit: deadline.limit }
        }
        _ => io(source),
    })?;
    Ok(UnixStream::from(std::os::fd::OwnedFd::from(stream)))
}

/// The status code and the body of a whole response.
pub(super) fn split(reply: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(head)) = response.parse(reply) else {
        return None;
    };
    let length = response.headers.iter().find(|f| f.name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = std::str::from_utf8(length.value).ok()?.parse().ok()?;
    let body = reply.get(head..)?.get(..length)?;
    Some((response.code?, body.to_vec()))
}

struct Relays {
    relays: Vec<RelayStatus>,
}

struct Done {
    notes: Vec<String>,
}

struct Failed {
    error: String,
}

from_json!(struct Relays { relays });
from_json!(struct Done { notes or default });
from_json!(struct Failed { error });

fn understood(socket: &Path, request: &Request, code: u16, body: &[u8]) -> Result<Reply, Error> {
    let garbled = |what: String| Error::Garbled { socket: socket.to_owned(), what };
    if code != 200 {
        let Failed { error } = from_bytes(body).map_err(garbled)?;
        return Err(Error::Refused { code, message: error });
    }
    let reply = match request {
        Request::Status => from_bytes(body).map(|status| Reply::Status(Box::new(status))),
        Request::Apply(_) => from_bytes(body).map(|applied| Reply::Applied(Box::new(applied))),
        Request::Blocked => from_bytes(body).map(Reply::Blocked),
        Request::Relays { .. } => from_bytes(body).map(|Relays { relays }| Reply::Relays(relays)),
        _ => from_bytes(body).map(|Done { notes }| Reply::Done { notes }),
    };
    reply.map_err(garbled)
}
