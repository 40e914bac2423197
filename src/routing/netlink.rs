//! One request, or one dump, over rtnetlink: with a time limit, and repeated when interrupted.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use futures::StreamExt;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::AsyncSocket;
use rtnetlink::Handle;

use super::Error;

/// The kernel answers at once or not at all; this only keeps a lost answer from hanging the daemon.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// A dump that was interrupted by a change is repeated this often.
const DUMP_TRIES: u32 = 8;
/// linux/netlink.h; in no crate of ours.
const NLM_F_DUMP_INTR: u16 = 0x10;

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

/// A connection for one operation. The next operation opens its own, so a socket that broke
/// (overrun, killed task) never outlives the operation it broke in.
pub(super) struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Must be called inside a tokio runtime; the connection's task ends when `self` is dropped.
    pub(super) fn open() -> Result<Self, Error> {
        let opened = rtnetlink::new_connection().and_then(|(mut connection, handle, _)| {
            let port = connection.socket_mut().socket_mut().bind_auto()?.port_number();
            OWN.with_borrow_mut(|own| {
                own.truncate(OWN_MOST - 1);
                own.insert(0, port);
            });
            Ok((connection, handle))
        });
        let (connection, handle) =
            opened.map_err(|source| Error::Open { what: "rules and routes", source })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Changes something: `flags` beside REQUEST and ACK.
    pub(super) async fn change(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: impl Fn() -> String,
    ) -> Result<(), Error> {
        self.exchange(message, NLM_F_ACK | flags, &what).await.map(|_| ())
    }

    /// Asks one question that has one answer.
    pub(super) async fn ask(
        &self,
        message: RouteNetlinkMessage,
        what: impl Fn() -> String,
    ) -> Result<Option<RouteNetlinkMessage>, Error> {
        Ok(self.exchange(message, 0, &what).await?.0.into_iter().next())
    }

    /// Everything of one kind. Repeated while the kernel says that it changed half way.
    pub(super) async fn dump(
        &self,
        message: RouteNetlinkMessage,
        what: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        for _ in 0..DUMP_TRIES {
            let (answers, whole) = self.exchange(message.clone(), NLM_F_DUMP, &|| what.to_owned()).await?;
            if whole {
                return Ok(answers);
            }
        }
        Err(Error::Incomplete { what: what.to_owned(), tries: DUMP_TRIES })
    }

    /// The answers, and whether they are a consistent whole.
    async fn exchange(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: &impl Fn() -> String,
    ) -> Result<(Vec<RouteNetlinkMessage>, bool), Error> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut handle = self.handle.clone();
        let refused = |source| Error::Refused { what: what(), source };
        let collect = async {
            let mut answers = Vec::new();
            let mut whole = true;
            let mut stream =
                handle.request(request).map_err(|error| refused(io::Error::other(error.to_string())))?;
            while let Some(answer) = stream.next().await {
                whole &= answer.header.flags & NLM_F_DUMP_INTR == 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(refused(error.to_io()));
                    }
                    NetlinkPayload::Overrun(_) => whole = false,
                    _ => {}
                }
            }
            Ok((answers, whole))
        };
        tokio::time::timeout(TIME_LIMIT, collect)
            .await
            .map_err(|_| Error::Silent { what: what(), seconds: TIME_LIMIT.as_secs() })?
    }
}
