//! One ip rule (`struct fib_rule_hdr` and FRA_* of linux/fib_rules.h).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::plan::Family;
use crate::netlink::attribute::{address, attributes, ip, ne32, put, string, text};
use crate::rtnetlink::{INET, INET6, Request, fixed, word};

/// Bytes of `struct fib_rule_hdr`.
const FIXED: usize = 12;
const FRA_DST: u16 = 1;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_PROTOCOL: u16 = 21;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;
/// Linux 6.15: reported beside every exact port.
const FRA_SPORT_MASK: u16 = 28;
const FRA_DPORT_MASK: u16 = 29;
/// `FR_ACT_*`.
const TO_TABLE: u8 = 1;
const UNREACHABLE: u8 = 7;
/// `FIB_RULE_IIF_DETACHED | FIB_RULE_OIF_DETACHED`: a device that the rule names is not there.
const DETACHED: u32 = 0x18;

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

    /// As a request of type `kind`: RTM_NEWRULE or RTM_DELRULE.
    pub(super) fn request(&self, kind: u16) -> Request {
        let mut header = [0; FIXED];
        header[0] = self.family.number();
        header[1] = self.to.map_or(0, |to| to.prefix_len());
        header[7] = if self.action == Action::Unreachable { UNREACHABLE } else { TO_TABLE };
        let mut request = Request::new(kind, &header);
        let table = match self.action {
            Action::Lookup(table) => Some(table),
            Action::Unreachable => None,
        };
        let numbers = [
            (FRA_PRIORITY, Some(self.priority)),
            (FRA_TABLE, table),
            (FRA_FWMARK, self.mark.map(|(value, _)| value)),
            (FRA_FWMASK, self.mark.map(|(_, mask)| mask)),
            (FRA_SUPPRESS_PREFIXLEN, self.suppress_length),
            (FRA_SUPPRESS_IFGROUP, self.suppress_group),
        ];
        for (attribute, value) in numbers {
            if let Some(value) = value {
                request.number(attribute, value);
            }
        }
        let body = &mut request.body;
        put(body, FRA_PROTOCOL, &[libc::RTPROT_STATIC]);
        if self.from_router {
            string(body, FRA_IIFNAME, LOOPBACK);
        }
        if let Some(to) = self.to {
            address(body, FRA_DST, to.network());
        }
        if let Some(out) = &self.out {
            string(body, FRA_OIFNAME, out);
        }
        if let Some(protocol) = self.protocol {
            put(body, FRA_IP_PROTO, &[protocol]);
        }
        for (attribute, port) in
            [(FRA_SPORT_RANGE, self.source_port), (FRA_DPORT_RANGE, self.destination_port)]
        {
            if let Some(port) = port {
                // `struct fib_rule_port_range`: from and to.
                put(body, attribute, &[port.to_ne_bytes(), port.to_ne_bytes()].concat());
            }
        }
        request
    }

    /// What RTM_NEWRULE says; None for a rule that says anything which no rule of ours says.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let (header, rest) = fixed::<FIXED>(body)?;
        let [family, to_length, from_length, tos, table, _, _, action, ..] = *header;
        if from_length != 0 || tos != 0 || word(header, 8) & !DETACHED != 0 {
            return None;
        }
        let action = match action {
            TO_TABLE => Action::Lookup(table.into()),
            UNREACHABLE => Action::Unreachable,
            _ => return None,
        };
        let mut rule = Self::new(Family::of(family)?, 0, action);
        for (kind, value) in attributes(rest) {
            rule.attribute(kind, value, to_length)?;
        }
        Some(rule)
    }

    fn attribute(&mut self, kind: u16, value: &[u8], to_length: u8) -> Option<()> {
        match kind {
            FRA_PRIORITY => self.priority = ne32(value)?,
            FRA_TABLE => {
                let table = ne32(value)?;
                if let Action::Lookup(current) = &mut self.action {
                    *current = table;
                }
            }
            FRA_IIFNAME if text(value) == LOOPBACK => self.from_router = true,
            FRA_FWMARK => self.mark.get_or_insert((0, 0)).0 = ne32(value)?,
            FRA_FWMASK => self.mark.get_or_insert((0, 0)).1 = ne32(value)?,
            FRA_DST => {
                let to = ip(value).filter(|to| Family::of_address(*to) == self.family)?;
                self.to = Some(IpNet::new(to, to_length).ok()?);
            }
            FRA_OIFNAME => self.out = Some(text(value)),
            FRA_IP_PROTO => self.protocol = Some(*value.first()?),
            FRA_SPORT_RANGE => self.source_port = Some(single(value)?),
            FRA_DPORT_RANGE => self.destination_port = Some(single(value)?),
            // All ones: none. The kernel says it of the length, and leaves the group out.
            FRA_SUPPRESS_PREFIXLEN => {
                self.suppress_length = Some(ne32(value)?).filter(|length| *length != u32::MAX)
            }
            FRA_SUPPRESS_IFGROUP => {
                self.suppress_group = Some(ne32(value)?).filter(|group| *group != u32::MAX)
            }
            FRA_PROTOCOL => {}
            FRA_SPORT_MASK | FRA_DPORT_MASK => return value.iter().all(|byte| *byte == 0xff).then_some(()),
            _ => return None,
        }
        Some(())
    }
}

const LOOPBACK: &str = "lo";

/// Of a range that is one port.
fn single(range: &[u8]) -> Option<u16> {
    let [a, b, c, d] = range.try_into().ok()?;
    ([a, b] == [c, d]).then(|| u16::from_ne_bytes([a, b]))
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
pub(super) fn priority_of(body: &[u8]) -> u32 {
    let rest = body.get(FIXED..).unwrap_or_default();
    attributes(rest).find(|(kind, _)| *kind == FRA_PRIORITY).and_then(|(_, value)| ne32(value)).unwrap_or(0)
}

/// Asks for all rules of one family.
pub(super) fn question(family: Family) -> Request {
    let mut header = [0; FIXED];
    header[0] = family.number();
    Request::new(libc::RTM_GETRULE, &header)
}

impl Family {
    pub(super) fn of(family: u8) -> Option<Self> {
        match family {
            INET => Some(Self::V4),
            INET6 => Some(Self::V6),
            _ => None,
        }
    }
    /// `AF_*`.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::V4 => INET,
            Self::V6 => INET6,
        }
    }
    pub(super) fn of_address(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

#[cfg(test)]
mod tests;
