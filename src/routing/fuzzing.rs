//! Doors for `fuzz/`: what is read of rtnetlink's answers.

use crate::config::{IfName, Settings};
use crate::netlink;
use crate::policy::Facts;
use crate::rtnetlink::{AddressMessage, LinkMessage, Request, RouteMessage};
use crate::sorted::Map;

use super::facts;
use super::group::Way;
use super::route::Route;
use super::rule::{self, Rule};
use super::snapshot::Snapshot;

/// The messages of a datagram, of the kinds that are read, up to the first malformed one.
#[derive(Default)]
pub struct Messages {
    links: Vec<LinkMessage>,
    addresses: Vec<AddressMessage>,
    routes: Vec<RouteMessage>,
    /// As they came.
    rules: Vec<Vec<u8>>,
}

#[must_use]
pub fn messages(bytes: &[u8]) -> Messages {
    let mut messages = Messages::default();
    for netlink::Message { kind, body, .. } in netlink::messages(bytes) {
        messages.links.extend(LinkMessage::read(kind, body));
        messages.addresses.extend(AddressMessage::read(kind, body));
        messages.routes.extend(RouteMessage::read(kind, body));
        messages.rules.extend((kind == libc::RTM_NEWRULE).then(|| body.to_vec()));
    }
    messages
}

/// Devices and addresses, as a policy sees them.
#[must_use]
pub fn facts(messages: &Messages, settings: &Settings, tunnel: &IfName) -> Facts {
    let snapshot = Snapshot::assemble(messages.links.clone(), &messages.addresses);
    let _ = facts::entrances(&snapshot, settings);
    facts::from_snapshot(&snapshot, settings, tunnel, &Map::new())
}

/// Of each message that could be an ip rule or route of ours: what it says, and what it says once
/// it was written and read again. The two must be the same.
#[must_use]
pub fn said_twice(messages: &Messages) -> Vec<(String, Option<String>)> {
    let mut twice = Vec::new();
    for body in &messages.rules {
        let _ = rule::priority_of(body);
        let Some(mut read) = Rule::read(body) else { continue };
        // Others' rules may have host bits there; what is written has none.
        read.to = read.to.map(|to| to.trunc());
        let again = over_the_wire(&read.request(libc::RTM_NEWRULE)).rules.pop();
        twice.push((read.to_string(), again.and_then(|body| Rule::read(&body)).map(|rule| rule.to_string())));
    }
    for message in &messages.routes {
        let _ = (facts::hop(message), Way::read(message));
        let Some(mut read) = Route::from_message(message) else { continue };
        read.to = read.to.trunc();
        let again = over_the_wire(&read.request(libc::RTM_NEWROUTE)).routes.pop();
        let again = again.and_then(|message| Route::from_message(&message));
        twice.push((read.to_string(), again.map(|route| route.to_string())));
    }
    twice
}

fn over_the_wire(request: &Request) -> Messages {
    let mut bytes = Vec::new();
    netlink::message::put(&mut bytes, request.kind, 0, 1, &request.body);
    messages(&bytes)
}
