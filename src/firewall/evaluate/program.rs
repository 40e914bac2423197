//! The typed form: what a rule reads, and what it does with it. Every value is a number of at most
//! 128 bits: addresses and names as their bytes in network order.

use crate::config::IfName;
use crate::policy::Family;

use super::types::{Hook, Refusal};

/// An index into the evaluator's chains.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Target(pub u16);

pub struct Base {
    pub hook: Hook,
    /// The name of the one device whose packets it sees, at ingress.
    pub device: Option<u128>,
    /// When the kernel runs it: nat chains all at their hook's own priority (nf_nat_core.c), in
    /// the order of theirs.
    pub priority: (i32, i32),
    pub nat: bool,
    pub drops: bool,
    pub chain: Target,
}

pub struct RuleOps {
    pub ops: Box<[Op]>,
}

/// What a rule can read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Key {
    InName,
    OutName,
    Nfproto,
    Protocol,
    Mark,
    CtState,
    CtDirection,
    CtMark,
    CtStatus,
    Source(Family),
    Destination(Family),
    HopLimit,
    /// Bits of the transport header; the protocol and family are what nft itself demands ahead of
    /// a named header's field.
    Bits {
        family: Option<Family>,
        protocol: Option<u8>,
        at: u16,
        len: u8,
    },
    DestinationType,
    HasRoute,
    SourceType,
}

impl Key {
    /// Width in bits.
    pub fn bits(self) -> u32 {
        match self {
            Self::InName | Self::OutName | Self::Source(Family::V6) | Self::Destination(Family::V6) => 128,
            Self::Source(Family::V4)
            | Self::Destination(Family::V4)
            | Self::Mark
            | Self::CtMark
            | Self::CtState
            | Self::CtStatus
            | Self::DestinationType
            | Self::SourceType => 32,
            Self::Bits { len, .. } => u32::from(len),
            _ => 8,
        }
    }
}

/// A key and the bits of it that count.
#[derive(Clone, Copy)]
pub struct Load {
    pub key: Key,
    pub mask: u128,
}

/// From, to; both belong to it.
pub type Range = (u128, u128);

/// A verdict map's key, of one part or two, and what it leads to.
pub type Entry = ([u128; 2], Outcome);

pub enum Op {
    /// In one of the ranges, or in none.
    In {
        load: Load,
        ranges: Box<[Range]>,
        negated: bool,
    },
    /// Has one of these bits.
    Has {
        load: Load,
        bits: u128,
    },
    /// Device and address are in a dynamic set of this family.
    Spoke {
        device: Key,
        address: Key,
    },
    Remember {
        device: Key,
        address: Key,
    },
    VerdictMap {
        keys: [Option<Key>; 2],
        entries: Box<[Entry]>,
    },
    SetMark {
        conntrack: bool,
        and: u32,
        or: u32,
    },
    Counter,
    Notrack,
    ClampMss,
    Dnat(std::net::SocketAddr),
    Masquerade,
    End(Outcome),
}

#[derive(Clone, Copy)]
pub enum Outcome {
    Accept,
    Drop,
    Reject(Refusal),
    Return,
    Jump(Target),
    Goto(Target),
}

/// A device's name as the kernel compares it: IFNAMSIZ bytes, filled up with zeros.
pub fn name(device: &str) -> u128 {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(device.bytes()) {
        *to = from;
    }
    u128::from_be_bytes(bytes)
}

/// The empty name for no device (`nft_meta_store_ifname`).
pub fn name_of(device: Option<&IfName>) -> u128 {
    device.map_or(0, |device| name(device.as_str()))
}
