//! nft's words for the nftables crate's plain values; the same in JSON and in text.

use std::collections::HashSet;

use nftables::expr::{FibFlag, FibResult, MetaKey, RTKey};
use nftables::schema::{SetFlag, SetType};
use nftables::stmt::Operator;
use nftables::types::{NfChainPolicy, NfChainType, NfHook, RejectCode};

use super::Unwritten;
use crate::sorted;

type Word = Result<&'static str, Unwritten>;

pub fn meta_key(key: MetaKey) -> Word {
    match key {
        MetaKey::Nfproto => Ok("nfproto"),
        MetaKey::L4proto => Ok("l4proto"),
        MetaKey::Iifname => Ok("iifname"),
        MetaKey::Oifname => Ok("oifname"),
        MetaKey::Mark => Ok("mark"),
        _ => Err(Unwritten("a meta key like this")),
    }
}

pub fn operator(operator: Operator) -> Word {
    match operator {
        Operator::EQ => Ok("=="),
        Operator::NEQ => Ok("!="),
        Operator::IN => Ok("in"),
        _ => Err(Unwritten("an operator like this")),
    }
}

pub fn reject_code(code: RejectCode) -> Word {
    match code {
        RejectCode::AdminProhibited => Ok("admin-prohibited"),
        _ => Err(Unwritten("a refusal like this")),
    }
}

pub fn set_type(kind: SetType) -> Word {
    match kind {
        SetType::Ipv4Addr => Ok("ipv4_addr"),
        SetType::Ipv6Addr => Ok("ipv6_addr"),
        SetType::Ifname => Ok("ifname"),
        _ => Err(Unwritten("a set's type like this")),
    }
}

pub fn route_key(key: RTKey) -> &'static str {
    match key {
        RTKey::ClassId => "classid",
        RTKey::NextHop => "nexthop",
        RTKey::MTU => "mtu",
    }
}

pub fn fib_result(result: FibResult) -> &'static str {
    match result {
        FibResult::Oif => "oif",
        FibResult::Oifname => "oifname",
        FibResult::Type => "type",
    }
}

pub fn chain_type(kind: NfChainType) -> &'static str {
    match kind {
        NfChainType::Filter => "filter",
        NfChainType::Route => "route",
        NfChainType::NAT => "nat",
    }
}

pub fn hook(hook: NfHook) -> &'static str {
    match hook {
        NfHook::Ingress => "ingress",
        NfHook::Prerouting => "prerouting",
        NfHook::Forward => "forward",
        NfHook::Input => "input",
        NfHook::Output => "output",
        NfHook::Postrouting => "postrouting",
        NfHook::Egress => "egress",
    }
}

pub fn policy(policy: NfChainPolicy) -> &'static str {
    match policy {
        NfChainPolicy::Accept => "accept",
        NfChainPolicy::Drop => "drop",
    }
}

pub fn fib_flags(flags: &HashSet<FibFlag>) -> Vec<&'static str> {
    in_order(flags.iter().map(|flag| match flag {
        FibFlag::Saddr => "saddr",
        FibFlag::Daddr => "daddr",
        FibFlag::Mark => "mark",
        FibFlag::Iif => "iif",
        FibFlag::Oif => "oif",
    }))
}

pub fn set_flags(flags: &HashSet<SetFlag>) -> Vec<&'static str> {
    in_order(flags.iter().map(|flag| match flag {
        SetFlag::Constant => "constant",
        SetFlag::Interval => "interval",
        SetFlag::Timeout => "timeout",
        SetFlag::Dynamic => "dynamic",
    }))
}

/// A set's own order differs from run to run.
fn in_order(words: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut words: Vec<_> = words.collect();
    sorted::sort_by(&mut words, Ord::cmp);
    words
}
