//! What can go wrong between this room and the kernel.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("opening a netlink socket for {what}: {source}")]
    Open { what: &'static str, source: io::Error },
    /// The kernel refused one request.
    #[error("{what}: {source}")]
    Refused { what: String, source: io::Error },
    #[error("{what}: no answer from the kernel within {seconds} s; will be tried again at the next change")]
    Silent { what: String, seconds: u64 },
    #[error("{what}: the answer was incomplete {tries} times in a row, as devices or routes kept changing")]
    Incomplete { what: String, tries: u32 },
    #[error("waiting for changes of devices and routes: {0}")]
    Watch(io::Error),
    #[error("{action} {path}: {source}")]
    File { action: &'static str, path: String, source: io::Error },
}

impl Error {
    /// The kernel's error number, where it gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
