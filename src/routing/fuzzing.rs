//! Doors for `fuzz/`: what is read of rtnetlink's answers.

use std::collections::BTreeMap;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

use crate::config::{IfName, Settings};
use crate::policy::Facts;

use super::facts;
use super::route::{self, Route};
use super::rule::{self, Rule};
use super::snapshot::Snapshot;

/// The messages of a datagram up to the first that is none, as rtnetlink's codec cuts them.
#[must_use]
pub fn messages(mut bytes: &[u8]) -> Vec<RouteNetlinkMessage> {
    let mut messages = Vec::new();
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        let length = (message.header.length as usize).max(1).next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
        if let NetlinkPayload::InnerMessage(inner) = message.payload {
            messages.push(inner);
        }
    }
    messages
}

/// Devices and addresses, as a policy sees them.
#[must_use]
pub fn facts(messages: &[RouteNetlinkMessage], settings: &Settings, tunnel: &IfName) -> Facts {
    let snapshot = Snapshot::assemble(messages, messages);
    facts::from_snapshot(&snapshot, settings, tunnel, &BTreeMap::new())
}

/// Of each message that could be an ip rule or route of ours: what it says, and what it says once
/// it was written and read again. The two must be the same.
#[must_use]
pub fn said_twice(messages: &[RouteNetlinkMessage]) -> Vec<(String, Option<String>)> {
    let mut twice = Vec::new();
    for message in messages {
        match message {
            RouteNetlinkMessage::NewRule(message) => {
                let _ = rule::priority_of(message);
                let Some(mut read) = Rule::from_message(message) else { continue };
                // Others' rules may have host bits there; what is written has none.
                read.to = read.to.map(|to| to.trunc());
                let again = match over_the_wire(RouteNetlinkMessage::NewRule(read.to_message())) {
                    Some(RouteNetlinkMessage::NewRule(message)) => Rule::from_message(&message),
                    _ => None,
                };
                twice.push((read.to_string(), again.map(|rule| rule.to_string())));
            }
            RouteNetlinkMessage::NewRoute(message) => {
                let _ = (route::table_of(message), facts::hop(message));
                let Some(mut read) = Route::from_message(message) else { continue };
                read.to = read.to.trunc();
                let again = match over_the_wire(RouteNetlinkMessage::NewRoute(read.to_message())) {
                    Some(RouteNetlinkMessage::NewRoute(message)) => Route::from_message(&message),
                    _ => None,
                };
                twice.push((read.to_string(), again.map(|route| route.to_string())));
            }
            _ => {}
        }
    }
    twice
}

fn over_the_wire(message: RouteNetlinkMessage) -> Option<RouteNetlinkMessage> {
    let mut message = NetlinkMessage::from(message);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    messages(&bytes).pop()
}
