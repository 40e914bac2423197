//! The frame that is the same in every state: base chains, zones, refusals.

use std::borrow::Cow;
use std::collections::HashSet;

use nftables::expr::{Expression, MetaKey, NamedExpression, SetItem};
use nftables::schema::{Chain, Rule, Set, SetFlag, SetType, SetTypeValue};
use nftables::stmt::{Limit, Log, Reject, RejectType, Statement, VerdictMap};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook, RejectCode};

use crate::config::IfName;
use crate::policy::{Family, Row, Way};

use super::expr::{self, Expr, Stmt};
use super::ruleset::TABLE;

/// Before conntrack (-200).
pub const RAW: i32 = -300;
/// Where routing may still change its mind (type route).
pub const MANGLE: i32 = -150;
/// Ahead of fw4's dstnat (-100).
pub const DSTNAT: i32 = -110;
/// Ahead of fw4's filter (0), so that a forbidden flow never reaches its offload statement.
pub const FILTER: i32 = -10;
/// Ahead of fw4's srcnat (100).
pub const SRCNAT: i32 = 90;
/// After all source NAT.
pub const LATE: i32 = 300;

/// Refusals of the router's own packets, of the LAN's, and of everybody else's.
pub const REFUSE_ROUTER: &str = "refuse_router";
pub const REFUSE_LAN: &str = "refuse_lan";
pub const REFUSE_SILENTLY: &str = "refuse_silently";

/// On the way to a refusal: what is blocked is told to the daemon, by the row that blocks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocked {
    pub chain: &'static str,
    pub row: Row,
    /// None: dropped there and then, also where no refusal can be sent (before conntrack).
    pub refusal: Option<&'static str>,
}

const fn blocked(chain: &'static str, row: Row, refusal: Option<&'static str>) -> Blocked {
    Blocked { chain, row, refusal }
}

const ROUTER: Blocked = blocked("blocked_router", Row::Default, Some(REFUSE_ROUTER));
const LAN: Blocked = blocked("blocked_lan", Row::Default, Some(REFUSE_LAN));
const WAN: Blocked = blocked("blocked_wan", Row::Default, Some(REFUSE_SILENTLY));
const ROUTER_DNS: Blocked = blocked("blocked_router_dns", Row::Dns, Some(REFUSE_ROUTER));
const LAN_DNS: Blocked = blocked("blocked_lan_dns", Row::Dns, Some(REFUSE_LAN));
const ROUTER_RELAY: Blocked = blocked("blocked_router_relay", Row::RelayFromLan, Some(REFUSE_ROUTER));
const LAN_RELAY: Blocked = blocked("blocked_lan_relay", Row::RelayFromLan, Some(REFUSE_LAN));
const SOURCE: Blocked = blocked("blocked_source", Row::Source, None);

/// All of them.
pub const BLOCKED: [Blocked; 8] = [ROUTER, LAN, WAN, ROUTER_DNS, LAN_DNS, ROUTER_RELAY, LAN_RELAY, SOURCE];
pub const BLOCKED_LAN: &str = LAN.chain;
pub const BLOCKED_ROUTER: &str = ROUTER.chain;
pub const BLOCKED_WAN: &str = WAN.chain;
pub const BLOCKED_SOURCE: &str = SOURCE.chain;

/// Where a packet of this way goes that this row refuses.
pub fn refusal(way: Way, row: Row) -> &'static str {
    let (router, lan) = match row {
        Row::Dns => (ROUTER_DNS, LAN_DNS),
        Row::RelayFromLan => (ROUTER_RELAY, LAN_RELAY),
        _ => (ROUTER, LAN),
    };
    match way {
        Way::RouterToLan | Way::RouterToTunnel | Way::RouterToWan => router.chain,
        Way::LanToRouter | Way::LanToLan | Way::LanToTunnel | Way::LanToWan => lan.chain,
        _ => WAN.chain,
    }
}

/// Where the daemon hears of blocked packets: a group of nfnetlink_log.
pub const LOG_GROUP: u16 = 7651;
/// What begins the log prefix; the row's number follows. Fixed text, never anything from a packet
/// or a user.
pub const LOG_PREFIX: &str = "vpnd ";

/// Tells the daemon of a packet, some of them in a flood, and decides nothing: the limit ends this
/// rule only, so that no verdict ever depends on it.
pub fn told(row: Row) -> Vec<Stmt> {
    let limit = Limit {
        rate: 10,
        rate_unit: None,
        per: Some("second".into()),
        burst: Some(20),
        burst_unit: None,
        inv: None,
    };
    let mut log = Log::new(Some(u32::from(LOG_GROUP)));
    log.prefix = Some(format!("{LOG_PREFIX}{}", row.number()).into());
    vec![Statement::Limit(limit), Statement::Log(Some(log))]
}

/// The chain that holds a way's clauses.
pub fn chain_of(way: Way) -> &'static str {
    match way {
        Way::ArrivingFromLan => "arriving_from_lan",
        Way::ArrivingFromWan => "arriving_from_wan",
        Way::LeavingRouter => "output_raw",
        Way::ReroutingRouter => "output_mark",
        Way::LanToRouter => "lan_to_router",
        Way::TunnelToRouter => "tunnel_to_router",
        Way::WanToRouter => "wan_to_router",
        Way::RouterToLan => "router_to_lan",
        Way::RouterToTunnel => "router_to_tunnel",
        Way::RouterToWan => "router_to_wan",
        Way::LanToLan => "lan_to_lan",
        Way::LanToTunnel => "lan_to_tunnel",
        Way::TunnelToLan => "tunnel_to_lan",
        Way::LanToWan => "lan_to_wan",
        Way::WanToLan => "wan_to_lan",
        Way::ForwardedSyn => "forwarded_syn",
        Way::TunnelDestinationNat => "dstnat",
        Way::TunnelSourceNat => "srcnat",
        Way::LeavingByTunnel => "leaving_by_tunnel",
        Way::ForeignSource => "foreign_source",
    }
}

/// A set that the kernel fills: `reference` is how rules name it.
pub struct SpokeSet {
    pub name: &'static str,
    pub reference: &'static str,
    address: SetType,
}

pub fn spoke_set(family: Family) -> SpokeSet {
    match family {
        Family::V4 => SpokeSet { name: "spoke_ipv4", reference: "@spoke_ipv4", address: SetType::Ipv4Addr },
        Family::V6 => SpokeSet { name: "spoke_ipv6", reference: "@spoke_ipv6", address: SetType::Ipv6Addr },
    }
}

impl SpokeSet {
    /// nft 1.0.6 reads no `dynamic` flag in JSON; a set with a timeout can be filled by rules without.
    /// Bounded in size and time: a flood from WAN must not eat the memory of a small router.
    pub fn declaration(&self) -> Set<'static> {
        Set {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: self.name.into(),
            set_type: SetTypeValue::Concatenated(Cow::Owned(vec![SetType::Ifname, self.address])),
            flags: Some(HashSet::from([SetFlag::Timeout])),
            timeout: Some(1800),
            size: Some(8192),
            ..Set::default()
        }
    }
}

pub fn regular_chain(name: &'static str) -> Chain<'static> {
    Chain { family: NfFamily::INet, table: TABLE.into(), name: name.into(), ..Chain::default() }
}

pub fn base_chain(
    name: &'static str,
    kind: NfChainType,
    hook: NfHook,
    priority: i32,
    policy: NfChainPolicy,
) -> Chain<'static> {
    Chain {
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(policy),
        ..regular_chain(name)
    }
}

pub fn rule(chain: &'static str, expr: Vec<Stmt>, comment: String) -> Rule<'static> {
    Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: expr.into(),
        comment: Some(comment.into()),
        ..Rule::default()
    }
}

/// `KEY vmap { … }`; None when there is nothing to tell apart.
pub fn verdicts(key: Expr, entries: Vec<(Expr, Stmt)>) -> Option<Stmt> {
    if entries.is_empty() {
        return None;
    }
    let items = entries.into_iter().map(|(key, verdict)| SetItem::MappingStatement(key, verdict)).collect();
    let data = Expression::Named(NamedExpression::Set(items));
    Some(Statement::VerdictMap(VerdictMap { key, data }))
}

pub fn arrives_by(devices: &[IfName]) -> Stmt {
    expr::is(expr::meta(MetaKey::Iifname), expr::devices(devices))
}

pub fn leaves_by(devices: &[IfName]) -> Stmt {
    expr::is(expr::meta(MetaKey::Oifname), expr::devices(devices))
}

pub fn arrives_by_none_of(devices: Vec<Expr>) -> Stmt {
    expr::is_not(expr::meta(MetaKey::Iifname), expr::one_of(devices))
}

pub fn leaves_by_none_of(devices: Vec<Expr>) -> Stmt {
    expr::is_not(expr::meta(MetaKey::Oifname), expr::one_of(devices))
}

pub fn reset() -> Stmt {
    Statement::Reject(Some(Reject::new(Some(RejectType::TCPReset), None)))
}

pub fn prohibited() -> Stmt {
    let code = RejectCode::AdminProhibited;
    Statement::Reject(Some(Reject::new(Some(RejectType::ICMPX), Some(code))))
}
