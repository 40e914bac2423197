//! One ip rule (`struct fib_rule_hdr` and FRA_* of linux/fib_rules.h).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange};
use netlink_packet_utils::nla::Nla;

use super::plan::Family;

/// FRA_SPORT_MASK and FRA_DPORT_MASK (Linux 6.15): reported beside every exact port.
const FRA_PORT_MASKS: [u16; 2] = [28, 29];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub family: Family,
    pub priority: u32,
    /// `iif lo`: only what the router itself sends, never what it forwards.
    pub from_router: bool,
    pub mark: Option<(u32, u32)>,
    pub to: Option<IpNet>,
    /// The device that a socket is bound to, by name: holds before the device exists.
    pub out: Option<String>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    pub source_port: Option<u16>,
    pub destination_port: Option<u16>,
    pub action: Action,
    /// `suppress_prefixlength`: routes found that are no longer than this do not count.
    pub suppress_length: Option<u32>,
    /// `suppress_ifgroup`: nor do routes over a device of this group.
    pub suppress_group: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Lookup(u32),
    Unreachable,
}

impl Rule {
    /// A rule that matches everything.
    pub(super) fn new(family: Family, priority: u32, action: Action) -> Self {
        Self {
            family,
            priority,
            from_router: false,
            mark: None,
            to: None,
            out: None,
            protocol: None,
            source_port: None,
            destination_port: None,
            action,
            suppress_length: None,
            suppress_group: None,
        }
    }

    pub(super) fn to_message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = self.family.address_family();
        let attributes = &mut message.attributes;
        attributes.push(RuleAttribute::Priority(self.priority));
        attributes.push(RuleAttribute::Protocol(RouteProtocol::Static));
        match self.action {
            Action::Lookup(table) => {
                message.header.action = RuleAction::ToTable;
                attributes.push(RuleAttribute::Table(table));
            }
            Action::Unreachable => message.header.action = RuleAction::Unreachable,
        }
        if self.from_router {
            attributes.push(RuleAttribute::Iifname("lo".to_owned()));
        }
        if let Some((value, mask)) = self.mark {
            attributes.push(RuleAttribute::FwMark(value));
            attributes.push(RuleAttribute::FwMask(mask));
        }
        if let Some(to) = self.to {
            message.header.dst_len = to.prefix_len();
            attributes.push(RuleAttribute::Destination(to.network()));
        }
        if let Some(out) = &self.out {
            attributes.push(RuleAttribute::Oifname(out.clone()));
        }
        if let Some(protocol) = self.protocol {
            attributes.push(RuleAttribute::IpProtocol(i32::from(protocol).into()));
        }
        if let Some(port) = self.source_port {
            attributes.push(RuleAttribute::SourcePortRange(exactly(port)));
        }
        if let Some(port) = self.destination_port {
            attributes.push(RuleAttribute::DestinationPortRange(exactly(port)));
        }
        if let Some(length) = self.suppress_length {
            attributes.push(RuleAttribute::SuppressPrefixLen(length));
        }
        if let Some(group) = self.suppress_group {
            attributes.push(RuleAttribute::SuppressIfGroup(group));
        }
        message
    }

    /// None for a rule that says anything which no rule of ours says.
    pub(super) fn from_message(message: &RuleMessage) -> Option<Self> {
        let header = &message.header;
        let detached = RuleFlags::IifDetached | RuleFlags::OifDetached;
        if header.src_len != 0 || header.tos != 0 || !detached.contains(header.flags) {
            return None;
        }
        let family = Family::of(header.family)?;
        let action = match header.action {
            RuleAction::ToTable => Action::Lookup(header.table.into()),
            RuleAction::Unreachable => Action::Unreachable,
            _ => return None,
        };
        let mut rule = Self::new(family, 0, action);
        for attribute in &message.attributes {
            rule.read(attribute, header.dst_len)?;
        }
        Some(rule)
    }

    fn read(&mut self, attribute: &RuleAttribute, dst_len: u8) -> Option<()> {
        match attribute {
            RuleAttribute::Priority(priority) => self.priority = *priority,
            RuleAttribute::Table(table) => {
                if let Action::Lookup(current) = &mut self.action {
                    *current = *table;
                }
            }
            RuleAttribute::Iifname(name) if name == "lo" => self.from_router = true,
            RuleAttribute::FwMark(value) => self.mark.get_or_insert((0, 0)).0 = *value,
            RuleAttribute::FwMask(mask) => self.mark.get_or_insert((0, 0)).1 = *mask,
            RuleAttribute::Destination(to) => self.to = Some(IpNet::new(*to, dst_len).ok()?),
            RuleAttribute::Oifname(name) => self.out = Some(name.clone()),
            RuleAttribute::IpProtocol(protocol) => {
                self.protocol = Some(u8::try_from(i32::from(*protocol)).ok()?);
            }
            RuleAttribute::SourcePortRange(ports) => self.source_port = Some(single(*ports)?),
            RuleAttribute::DestinationPortRange(ports) => {
                self.destination_port = Some(single(*ports)?);
            }
            // All ones: none. The kernel says it of the length, and leaves the group out.
            RuleAttribute::SuppressPrefixLen(length) => {
                self.suppress_length = Some(*length).filter(|length| *length != u32::MAX);
            }
            RuleAttribute::SuppressIfGroup(group) => {
                self.suppress_group = Some(*group).filter(|group| *group != u32::MAX);
            }
            RuleAttribute::Protocol(_) => {}
            RuleAttribute::Other(other) if FRA_PORT_MASKS.contains(&other.kind()) => {
                let mut mask = vec![0; other.value_len()];
                other.emit_value(&mut mask);
                return mask.iter().all(|byte| *byte == 0xff).then_some(());
            }
            _ => return None,
        }
        Some(())
    }
}

fn exactly(port: u16) -> RulePortRange {
    RulePortRange { start: port, end: port }
}

fn single(ports: RulePortRange) -> Option<u16> {
    (ports.start == ports.end).then_some(ports.start)
}

/// As `ip rule` would say it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}:", self.family, self.priority)?;
        if let Some((value, mask)) = self.mark {
            write!(f, " fwmark {value:#x}/{mask:#x}")?;
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if self.from_router {
            f.write_str(" iif lo")?;
        }
        if let Some(out) = &self.out {
            write!(f, " oif {out}")?;
        }
        if let Some(protocol) = self.protocol {
            write!(f, " ipproto {protocol}")?;
        }
        if let Some(port) = self.source_port {
            write!(f, " sport {port}")?;
        }
        if let Some(port) = self.destination_port {
            write!(f, " dport {port}")?;
        }
        match self.action {
            Action::Lookup(table) => write!(f, " lookup {table}")?,
            Action::Unreachable => f.write_str(" unreachable")?,
        }
        if let Some(length) = self.suppress_length {
            write!(f, " suppress_prefixlength {length}")?;
        }
        if let Some(group) = self.suppress_group {
            write!(f, " suppress_ifgroup {group}")?;
        }
        Ok(())
    }
}

/// The priority of any rule, ours or not.
pub(super) fn priority_of(message: &RuleMessage) -> u32 {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Priority(priority) => Some(*priority),
            _ => None,
        })
        .unwrap_or(0)
}

/// A message that asks for all rules of one family.
pub(super) fn question(family: Family) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family.address_family();
    message
}

impl Family {
    pub(super) fn of(family: AddressFamily) -> Option<Self> {
        match family {
            AddressFamily::Inet => Some(Self::V4),
            AddressFamily::Inet6 => Some(Self::V6),
            _ => None,
        }
    }
    pub(super) fn address_family(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }
    pub(super) fn of_address(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}
