//! A packet in words.

use std::fmt::Write;

use vpnd::firewall::evaluate::Path;

use crate::dims::Dim;
use crate::expect::{Effects, Outcome};
use crate::explore::Difference;
use crate::lane::{FLOWS, Lane, Point, Shape, address};
use crate::rules::Rules;

pub fn packet(lane: &Lane, point: &Point) -> String {
    let device =
        |device: &Option<vpnd::config::IfName>| device.as_ref().map_or("-".to_owned(), ToString::to_string);
    let mut text = match lane.path {
        Path::Output => format!("router -> {}", device(&lane.oif)),
        Path::Input => format!("{} -> router", device(&lane.iif)),
        Path::Forward => format!("{} -> {}", device(&lane.iif), device(&lane.oif)),
    };
    let number = |dim| point.value(dim);
    let (from, to) =
        (address(lane.family, number(Dim::Source)), address(lane.family, number(Dim::Destination)));
    let _ = match lane.shape {
        Shape::Tcp | Shape::Udp | Shape::Other => {
            let from = std::net::SocketAddr::new(from, number(Dim::SourcePort) as u16);
            let to = std::net::SocketAddr::new(to, number(Dim::DestPort) as u16);
            write!(text, ": {:?} {from} -> {to}", lane.shape)
        }
        Shape::Icmp | Shape::ShortIcmp | Shape::StrayIcmp => {
            let (kind, code) = (number(Dim::Type), number(Dim::Code));
            write!(text, ": {:?} type {kind} code {code} {from} -> {to}", lane.shape)
        }
        shape => write!(text, ": {shape:?} {from} -> {to}"),
    };
    if lane.shape == Shape::Tcp {
        let _ = write!(text, ", flags {:#04x}", number(Dim::Flags));
    }
    if lane.shape == Shape::Icmp {
        let to = address(lane.family, number(Dim::QuotedDestination));
        let ports = number(Dim::QuotedPorts);
        let (version, protocol) = (number(Dim::QuotedVersion), number(Dim::QuotedProtocol));
        let _ = write!(
            text,
            ", quotes {version:#x} protocol {protocol} {} -> {to} {}",
            ports >> 16,
            ports & 0xffff
        );
    }
    let (state, reply, first) = FLOWS[number(Dim::Flow) as usize];
    let _ = write!(text, ", {state:?}");
    for (said, what) in [
        (reply, " reply"),
        (!first && state == vpnd::firewall::evaluate::FlowState::New, " again"),
        (number(Dim::Translated) == 1, ", destination translated"),
        (number(Dim::Masqueraded) == 1, ", source translated"),
        (lane.has(Dim::Routed) && number(Dim::Routed) == 0, ", no route"),
    ] {
        text.push_str(if said { what } else { "" });
    }
    let _ = write!(text, ", mark {:#x}, flow mark {:#x}", number(Dim::Mark), number(Dim::FlowMark));
    if lane.has(Dim::HopLimit) {
        let _ = write!(text, ", hop limit {}", number(Dim::HopLimit));
    }
    if lane.has(Dim::SourceType) {
        let _ = write!(text, ", source of type {}, spoke {}", number(Dim::SourceType), number(Dim::Spoke));
    }
    if lane.has(Dim::DestinationType) {
        let _ = write!(text, ", destination of type {}", number(Dim::DestinationType));
    }
    text
}

fn effects(effects: &Effects) -> String {
    let mut text = format!("mark {:#x}, flow mark {:#x}", effects.mark, effects.flow_mark);
    for (said, what) in [
        (effects.untracked, ", untracked"),
        (effects.masqueraded, ", masqueraded"),
        (effects.clamped, ", segment size set"),
        (effects.remembered, ", remembered"),
    ] {
        text.push_str(if said { what } else { "" });
    }
    if let Some(to) = effects.redirected {
        let _ = write!(text, ", sent to {to}");
    }
    text
}

pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allowed => "allowed",
        Outcome::Refused { reset: true } => "refused with a TCP reset",
        Outcome::Refused { reset: false } => "refused with ICMP",
        Outcome::Silent => "dropped silently",
        Outcome::Unrouted => "left to routing, which knows no way",
        Outcome::Redirected => "sent to another host",
    }
}

pub fn difference(found: &Difference, rules: &Rules) -> String {
    let (actual, expected) = (&found.actual, &found.expected);
    let rule = actual.rule.map(|rule| &rules.rules[rule as usize]);
    let rule = rule.and_then(|rule| rule.comment.as_deref()).unwrap_or("the chain's policy");
    format!(
        "{} differs\n    packet    {}\n    rules     {}, row {} ({}); {}\n              by \"{rule}\" in {}\n    contract  {}, row {}; {}",
        found.why,
        packet(&found.lane, &found.point),
        outcome(actual.outcome),
        actual.row.number(),
        actual.row.title(),
        effects(&actual.effects),
        actual.chain,
        outcome(expected.outcome),
        expected.row.number(),
        effects(&expected.effects),
    )
}
