//! Why the endpoint cannot be served.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("another vpnd daemon is running (it holds {}); stop it first", lock.display())]
    Running { lock: PathBuf },
    #[error("control socket: cannot {what} {}: {source}", path.display())]
    Socket { what: &'static str, path: PathBuf, source: io::Error },
    #[error("control socket: cannot start a thread: {0}")]
    Thread(io::Error),
}

impl Error {
    pub(super) fn socket(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Socket { what, path: path.to_owned(), source }
    }
}

/// "10", "0.3": seconds to a tenth. By whole numbers, as what prints others is 8 KB of a mips program.
pub fn seconds(time: std::time::Duration) -> String {
    let tenths = time.as_millis() as u64 / 100;
    match tenths % 10 {
        0 => (tenths / 10).to_string(),
        tenth => format!("{}.{tenth}", tenths / 10),
    }
}
