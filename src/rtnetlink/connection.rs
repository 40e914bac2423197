//! One request, or one dump: with a time limit, and repeated when interrupted.

use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;

use super::Request;
use crate::netlink::Socket;

/// A dump that was interrupted by a change is repeated this often.
pub(crate) const DUMP_TRIES: u32 = 8;

/// Its type and content.
type Message<'a> = (u16, &'a [u8]);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The kernel's number, or why it could not be asked.
    #[error("{0}")]
    Refused(io::Error),
    #[error("no answer from the kernel")]
    Silent,
    /// Devices or routes kept changing.
    #[error("the answer was incomplete {DUMP_TRIES} times in a row")]
    Incomplete,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        // Also what a route says (ETIMEDOUT has a number, and is none of ours).
        let silent = error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none();
        if silent { Self::Silent } else { Self::Refused(error) }
    }
}

impl Error {
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Refused(error) => error,
            Self::Silent => io::ErrorKind::TimedOut.into(),
            Self::Incomplete => io::ErrorKind::Interrupted.into(),
        }
    }
}

/// For one operation. The next operation opens its own, so a socket that broke (overrun, killed task) never outlives
/// the operation it broke in.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
}

impl Connection {
    pub fn open() -> io::Result<Self> {
        Socket::open(NETLINK_ROUTE).map(|socket| Self { socket })
    }

    /// The netlink port that the kernel names where it tells of a change that was made here.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Changes something. `flags` (`NLM_F_*`): beside REQUEST and ACK.
    pub async fn change(&self, request: &Request, flags: i32) -> Result<(), Error> {
        self.exchange(request, flags, &mut |_, _| ()).await.map(drop)
    }

    /// Asks a question that has one answer. `read` takes a message's type and content.
    pub async fn ask<T>(
        &self,
        request: &Request,
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let mut answer = None;
        self.exchange(request, 0, &mut |kind, body| answer = answer.take().or_else(|| read(kind, body)))
            .await?;
        Ok(answer)
    }

    /// Everything of one kind that `read` finds of use. Repeated while the kernel says that it changed half way.
    pub async fn dump<T>(
        &self,
        request: &Request,
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let mut found = Vec::new();
        self.dump_each(request, &mut |message| match message {
            Some((kind, body)) => found.extend(read(kind, body)),
            None => found.clear(),
        })
        .await?;
        Ok(found)
    }

    /// What dumping any type has in common, compiled once: `each` has every message, and `None` where all of them
    /// come anew.
    async fn dump_each(
        &self,
        request: &Request,
        each: &mut dyn FnMut(Option<Message<'_>>),
    ) -> Result<(), Error> {
        for _ in 0..DUMP_TRIES {
            each(None);
            let whole =
                self.exchange(request, libc::NLM_F_DUMP, &mut |kind, body| each(Some((kind, body)))).await;
            match whole {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                // A kernel that has none of this family's: nothing is listed, and what is added is refused.
                Err(Error::Refused(error)) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Incomplete)
    }

    /// The socket waits for nothing; the others in this thread have their turn between two requests.
    async fn exchange(
        &self,
        request: &Request,
        flags: i32,
        each: &mut dyn FnMut(u16, &[u8]),
    ) -> Result<bool, Error> {
        let whole = self.socket.ask(request.kind, flags, &request.body, each)?;
        tokio::task::yield_now().await;
        Ok(whole)
    }
}
