//! A table as it is sent: chains, rules, expressions. Pure.

use crate::config::IfName;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `NFPROTO_*` of linux/netfilter.h.
    pub family: u8,
    pub name: &'static str,
    pub chains: Vec<Chain>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    /// None: other chains lead to it.
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub number: u32,
    pub priority: i32,
    /// In the netdev family.
    pub device: Option<IfName>,
    /// The device's: it is not sent, but tells a device made anew, to which no chain of its
    /// predecessor is bound (before Linux 6.16), from the former.
    pub index: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub exprs: Vec<Expr>,
    /// Begins with the contract's row.
    pub comment: String,
}

/// All work on the same register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    Load(Key),
    /// Bits that count.
    Mask(Vec<u8>),
    Is(Vec<u8>),
    IsNot(Vec<u8>),
    Counter,
    End(Verdict),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// `enum nft_meta_keys`.
    Meta(u32),
    /// `enum nft_ct_keys`.
    Ct(u32),
    /// Bytes of the header.
    Network { at: u32, length: u32 },
    /// Bytes of the header.
    Transport { at: u32, length: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Drop,
    Accept,
    Goto(&'static str),
}
