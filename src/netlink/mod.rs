//! Netlink, as all rooms speak it that ask the kernel (linux/netlink.h).
//!
//! | file | holds |
//! |---|---|
//! | `attribute.rs` | the attributes of a message, read and written; pure |
//! | `message.rs` | the messages of a datagram, cut and put together; pure |
//! | `socket.rs` | a socket that asks the kernel one thing after the other |
//!
//! What is read here may be any bytes: what is not known is passed over, and what is malformed ends the list that it
//! is in, and nothing else.

pub(crate) mod attribute;
pub(crate) mod message;
mod socket;

pub(crate) use message::{Message, messages};
pub(crate) use socket::{Socket, TIME_LIMIT};
