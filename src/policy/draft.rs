//! Builds clauses as sentences: `allow(row, "…").on(way).udp().dest_port(53)`.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::config::{IfName, Mark};

use super::clause::{Action, Clause, Family, Match, Proto};
use super::row::Row;
use super::way::Way;

/// One sentence in the making; [`Draft::clauses`] ends it. Boxed, as each word of it is a call that
/// takes and returns it.
#[derive(Debug, Clone)]
#[must_use = "a draft does nothing until it is added to a policy"]
pub struct Draft(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    row: Row,
    what: &'static str,
    action: Action,
    ways: Vec<Way>,
    devices: Vec<Match>,
    family: Option<Family>,
    from: Option<Vec<IpNet>>,
    to: Option<Vec<IpNet>>,
    not_to: Option<Vec<IpNet>>,
    proto: Option<Proto>,
    rest: Vec<Match>,
}

pub fn act(action: Action, row: Row, what: &'static str) -> Draft {
    Draft(Box::new(Parts {
        row,
        what,
        action,
        ways: Vec::new(),
        devices: Vec::new(),
        family: None,
        from: None,
        to: None,
        not_to: None,
        proto: None,
        rest: Vec::new(),
    }))
}

pub fn allow(row: Row, what: &'static str) -> Draft {
    act(Action::Allow, row, what)
}

pub fn refuse(row: Row, what: &'static str) -> Draft {
    act(Action::Refuse, row, what)
}

pub fn drop_silently(row: Row, what: &'static str) -> Draft {
    act(Action::Drop, row, what)
}

impl Draft {
    pub fn on(mut self, way: Way) -> Self {
        self.0.ways.push(way);
        self
    }
    pub fn leaving_by(mut self, device: &IfName) -> Self {
        self.0.devices.push(Match::Out(vec![device.clone()]));
        self
    }
    pub fn ipv4(mut self) -> Self {
        self.0.family = Some(Family::V4);
        self
    }
    pub fn ipv6(mut self) -> Self {
        self.0.family = Some(Family::V6);
        self
    }
    pub fn from(mut self, nets: impl IntoIterator<Item = IpNet>) -> Self {
        self.0.from = Some(nets.into_iter().collect());
        self
    }
    pub fn to(mut self, nets: impl IntoIterator<Item = IpNet>) -> Self {
        self.0.to = Some(nets.into_iter().collect());
        self
    }
    pub fn not_to(mut self, nets: impl IntoIterator<Item = IpNet>) -> Self {
        self.0.not_to = Some(nets.into_iter().collect());
        self
    }
    pub fn proto(mut self, proto: Proto) -> Self {
        self.0.proto = Some(proto);
        self
    }
    pub fn udp(self) -> Self {
        self.proto(Proto::Udp)
    }
    pub fn tcp(self) -> Self {
        self.proto(Proto::Tcp)
    }
    pub fn tcp_or_udp(self) -> Self {
        self.proto(Proto::TcpOrUdp)
    }
    /// After the protocol: without one, UDP is meant.
    pub fn source_port(mut self, port: u16) -> Self {
        self.0.rest.push(Match::SourcePort(self.0.proto.unwrap_or(Proto::Udp), port));
        self
    }
    /// After the protocol: without one, UDP is meant.
    pub fn dest_port(mut self, port: u16) -> Self {
        self.0.rest.push(Match::DestPort(self.0.proto.unwrap_or(Proto::Udp), port));
        self
    }
    /// Address and port; after the protocol.
    pub fn towards(self, endpoint: SocketAddr) -> Self {
        self.to([host(endpoint.ip())]).dest_port(endpoint.port())
    }
    /// Address and port; after the protocol.
    pub fn coming_from(self, endpoint: SocketAddr) -> Self {
        self.from([host(endpoint.ip())]).source_port(endpoint.port())
    }
    pub fn icmp(mut self, types: &'static [u8]) -> Self {
        self.0.rest.push(Match::Icmp(types));
        self
    }
    pub fn icmpv6(mut self, types: &'static [u8]) -> Self {
        self.0.rest.push(Match::Icmpv6(types));
        self
    }
    pub fn matching(mut self, condition: Match) -> Self {
        self.0.rest.push(condition);
        self
    }
    pub fn marked(self, mark: Mark) -> Self {
        self.matching(Match::Marked(mark))
    }
    pub fn reply(self) -> Self {
        self.matching(Match::Reply)
    }

    /// One clause for each way and each family that the addresses leave possible. A list of
    /// addresses with none of a family means: nothing of that family.
    #[must_use]
    pub fn clauses(self) -> Vec<Clause> {
        let mut clauses = Vec::new();
        for way in &self.0.ways {
            for matches in self.0.match_lists() {
                let action = self.0.action.clone();
                clauses.push(Clause { row: self.0.row, what: self.0.what, way: *way, matches, action });
            }
        }
        clauses
    }
}

impl Parts {
    fn match_lists(&self) -> Vec<Vec<Match>> {
        let named = [&self.from, &self.to, &self.not_to];
        if named.iter().all(|list| list.is_none()) {
            return vec![self.matches(self.family, Vec::new())];
        }
        let only = self.family.or_else(|| self.implied_family());
        let wanted = |family: &Family| only.is_none_or(|only| only == *family);
        let mut lists = Vec::new();
        for family in Family::BOTH.into_iter().filter(wanted) {
            let addresses = (
                narrowed(self.from.as_deref(), family),
                narrowed(self.to.as_deref(), family),
                narrowed(self.not_to.as_deref(), family),
            );
            // "Not to none of this family" holds always; "to none of it" never.
            let (Some(from), Some(to)) = (addresses.0, addresses.1) else { continue };
            let not_to = addresses.2.unwrap_or_default();
            if not_to.iter().any(|net| net.prefix_len() == 0) {
                continue;
            }
            let matches = [
                (!from.is_empty()).then_some(Match::From(from)),
                (!to.is_empty()).then_some(Match::To(to)),
                (!not_to.is_empty()).then_some(Match::NotTo(not_to)),
            ];
            lists.push(self.matches(Some(family), matches.into_iter().flatten().collect()));
        }
        lists
    }

    /// The family that the protocol has.
    fn implied_family(&self) -> Option<Family> {
        self.rest.iter().find_map(|condition| match condition {
            Match::Icmp(_) => Some(Family::V4),
            Match::Icmpv6(_) | Match::Icmpv6Code0 | Match::HopLimit(_) => Some(Family::V6),
            _ => None,
        })
    }

    fn matches(&self, family: Option<Family>, addresses: Vec<Match>) -> Vec<Match> {
        let mut matches = self.devices.clone();
        if let Some(family) = family {
            if addresses.is_empty() && self.implied_family().is_none() {
                matches.push(Match::Family(family));
            }
        }
        matches.extend(addresses);
        let has_port = |m: &Match| matches!(m, Match::SourcePort(..) | Match::DestPort(..));
        if let Some(proto) = self.proto {
            // A port says its protocol, unless it may be either's.
            if proto == Proto::TcpOrUdp || !self.rest.iter().any(has_port) {
                matches.push(Match::Proto(proto));
            }
        }
        matches.extend(self.rest.iter().cloned());
        matches
    }
}

/// The list's networks of one family, aggregated. None: there was a list, and it has none of this
/// family. Empty: no list, or everything of the family.
fn narrowed(nets: Option<&[IpNet]>, family: Family) -> Option<Vec<IpNet>> {
    let Some(nets) = nets else { return Some(Vec::new()) };
    let own: Vec<IpNet> = nets.iter().filter(|net| family.holds(net)).map(IpNet::trunc).collect();
    if own.is_empty() {
        return None;
    }
    let all = IpNet::aggregate(&own);
    if all.iter().any(|net| net.prefix_len() == 0) { Some(Vec::new()) } else { Some(all) }
}

/// A single address as a network.
#[must_use]
pub fn host(addr: IpAddr) -> IpNet {
    IpNet::from(addr)
}
