//! One request, or one dump, over rtnetlink, in this room's words; and which changes are our own.

use std::cell::RefCell;

use crate::netlink::TIME_LIMIT;
use crate::rtnetlink::{self, Connection, DUMP_TRIES, Request};

use super::Error;

/// Ports that are remembered; what comes of a change is heard soon after it.
const OWN_MOST: usize = 16;

thread_local! {
    /// The netlink ports of the last connections, the newest first.
    static OWN: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Whether a change that is told of was made by one of the last connections of this thread.
pub(super) fn is_own(port: u32) -> bool {
    OWN.with_borrow(|own| own.contains(&port))
}

/// A connection for one operation.
pub(super) struct Netlink {
    connection: Connection,
}

impl Netlink {
    pub(super) fn open() -> Result<Self, Error> {
        let opened = Connection::open();
        let connection = opened.map_err(|source| Error::Open { what: "rules and routes", source })?;
        OWN.with_borrow_mut(|own| {
            own.truncate(OWN_MOST - 1);
            own.insert(0, connection.port());
        });
        Ok(Self { connection })
    }

    /// Changes something. `flags` (`NLM_F_*`): beside REQUEST and ACK.
    pub(super) async fn change(
        &self,
        request: &Request,
        flags: i32,
        what: &dyn Fn() -> String,
    ) -> Result<(), Error> {
        self.connection.change(request, flags).await.map_err(|error| worded(error, what()))
    }

    /// Asks one question that has one answer.
    pub(super) async fn ask<T>(
        &self,
        request: &Request,
        what: &dyn Fn() -> String,
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.connection.ask(request, read).await.map_err(|error| worded(error, what()))
    }

    /// Everything of one kind that `read` finds of use.
    pub(super) async fn dump<T>(
        &self,
        request: &Request,
        what: &str,
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        self.connection.dump(request, read).await.map_err(|error| worded(error, what.to_owned()))
    }
}

fn worded(error: rtnetlink::Error, what: String) -> Error {
    match error {
        rtnetlink::Error::Refused(source) => Error::Refused { what, source },
        rtnetlink::Error::Silent => Error::Silent { what, seconds: TIME_LIMIT.as_secs() },
        rtnetlink::Error::Incomplete => Error::Incomplete { what, tries: DUMP_TRIES },
    }
}
