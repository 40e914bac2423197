//! Tables of nftables on the wire, as far as the guard needs them
//! (linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c). Pure.
//!
//! Attributes hold numbers in network byte order; a register holds what its expression loads:
//! marks and device indices in the machine's order, what a packet says as the packet says it.

use super::super::conntrack_message::{attributes, be32, put};
use super::table::{Chain, Expr, Hook, Key, Rule, Table, Verdict};

/// linux/netfilter/nfnetlink.h.
const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
const BATCH_BEGIN: u16 = libc::NFNL_MSG_BATCH_BEGIN as u16;
const BATCH_END: u16 = libc::NFNL_MSG_BATCH_END as u16;
/// `enum nf_tables_msg_types`.
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_RULE: u16 = SUBSYSTEM | 6;

/// `struct nlmsghdr` and `struct nfgenmsg`.
const NETLINK_HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
const NESTED: u16 = libc::NLA_F_NESTED as u16;

/// `enum nft_table_flags`: nobody else may change the table; it outlives its owner (Linux 6.9).
pub const OWNER: u32 = 2;
pub const PERSIST: u32 = 4;

/// `enum nft_registers`: 16 bytes, and the one for verdicts.
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;

/// What a datagram of requests is made of.
#[derive(Default)]
pub struct Requests {
    bytes: Vec<u8>,
    /// What each message is about, by its sequence number from 1.
    about: Vec<&'static str>,
}

impl Requests {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the message of this sequence number tries.
    pub fn about(&self, sequence: u32) -> &'static str {
        let at = (sequence as usize).checked_sub(1);
        at.and_then(|at| self.about.get(at)).copied().unwrap_or("the batch")
    }

    /// `family` and `resource`: `struct nfgenmsg`.
    fn add(
        &mut self,
        what: &'static str,
        kind: u16,
        flags: i32,
        (family, resource): (u8, u16),
        payload: &[u8],
    ) {
        self.about.push(what);
        let length = (NETLINK_HEADER + GENERIC_HEADER + payload.len()) as u32;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        self.bytes.extend((self.about.len() as u32).to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(payload);
    }

    fn batch(inside: impl FnOnce(&mut Self)) -> Self {
        let mut requests = Self::default();
        let tables = (0, libc::NFNL_SUBSYS_NFTABLES as u16);
        requests.add("the batch", BATCH_BEGIN, 0, tables, &[]);
        inside(&mut requests);
        requests.add("the batch", BATCH_END, 0, tables, &[]);
        requests
    }
}

/// One transaction that makes `table` what it says; `replaces`: one of that name is there.
pub fn install(table: &Table, flags: u32, replaces: bool) -> Requests {
    Requests::batch(|requests| {
        if replaces {
            delete_table(requests, table.family, table.name);
        }
        let mut payload = name(1, table.name);
        put(&mut payload, 2, &flags.to_be_bytes());
        requests.add(NEWTABLE, NEW_TABLE, libc::NLM_F_CREATE | libc::NLM_F_ACK, (table.family, 0), &payload);
        // A rule may lead to any chain.
        for chain in &table.chains {
            let payload = chain_payload(table, chain);
            requests.add(
                "adding a chain",
                NEW_CHAIN,
                libc::NLM_F_CREATE | libc::NLM_F_ACK,
                (table.family, 0),
                &payload,
            );
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND | libc::NLM_F_ACK;
                let payload = rule_payload(table, chain, rule);
                requests.add("adding a rule", NEW_RULE, flags, (table.family, 0), &payload);
            }
        }
    })
}

/// What the message that names the flags is about.
pub const NEWTABLE: &str = "adding the table";

/// One transaction that deletes a table that is there.
pub fn remove(family: u8, table: &str) -> Requests {
    Requests::batch(|requests| delete_table(requests, family, table))
}

fn delete_table(requests: &mut Requests, family: u8, table: &str) {
    requests.add("deleting the table", DELETE_TABLE, libc::NLM_F_ACK, (family, 0), &name(1, table));
}

/// Asks for one table.
pub fn get_table(family: u8, table: &str) -> Requests {
    let mut requests = Requests::default();
    requests.add("looking at the table", GET_TABLE, libc::NLM_F_ACK, (family, 0), &name(1, table));
    requests
}

/// Asks for all chains of a family.
pub fn get_chains(family: u8) -> Requests {
    let mut requests = Requests::default();
    requests.add("listing chains", GET_CHAIN, libc::NLM_F_DUMP, (family, 0), &[]);
    requests
}

fn name(kind: u16, text: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    string(&mut payload, kind, text);
    payload
}

fn string(bytes: &mut Vec<u8>, kind: u16, text: &str) {
    let mut text = text.as_bytes().to_vec();
    text.push(0);
    put(bytes, kind, &text);
}

fn number(bytes: &mut Vec<u8>, kind: u16, value: u32) {
    put(bytes, kind, &value.to_be_bytes());
}

fn nested(bytes: &mut Vec<u8>, kind: u16, inside: impl FnOnce(&mut Vec<u8>)) {
    let mut payload = Vec::new();
    inside(&mut payload);
    put(bytes, kind | NESTED, &payload);
}

/// `enum nft_chain_attributes`, `enum nft_hook_attributes`.
fn chain_payload(table: &Table, chain: &Chain) -> Vec<u8> {
    let mut payload = name(1, table.name);
    string(&mut payload, 3, &chain.name);
    if let Some(Hook { number: hook, priority, device, .. }) = &chain.hook {
        nested(&mut payload, 4, |hook_payload| {
            number(hook_payload, 1, *hook);
            put(hook_payload, 2, &priority.to_be_bytes());
            if let Some(device) = device {
                string(hook_payload, 3, device.as_str());
            }
        });
        // Accept: a base chain is hooked in before its rules are in force.
        number(&mut payload, 5, libc::NF_ACCEPT as u32);
        string(&mut payload, 7, "filter");
    }
    payload
}

/// `enum nft_rule_attributes`.
fn rule_payload(table: &Table, chain: &Chain, rule: &Rule) -> Vec<u8> {
    let mut payload = name(1, table.name);
    string(&mut payload, 2, &chain.name);
    nested(&mut payload, 4, |list| {
        for expr in &rule.exprs {
            // NFTA_LIST_ELEM.
            nested(list, 1, |element| expression(element, expr));
        }
    });
    // libnftnl's comment: type 0, length, text with its end.
    let text = rule.comment.as_bytes();
    let text = text.get(..text.len().min(127)).unwrap_or_default();
    let mut comment = vec![0, text.len() as u8 + 1];
    comment.extend(text);
    comment.push(0);
    put(&mut payload, 7, &comment);
    payload
}

/// `enum nft_expr_attributes`, and each expression's own.
fn expression(element: &mut Vec<u8>, expr: &Expr) {
    let kind = match expr {
        Expr::Load(Key::Meta(_)) => "meta",
        Expr::Load(Key::Ct(_)) => "ct",
        Expr::Load(Key::Network { .. } | Key::Transport { .. }) => "payload",
        Expr::Mask(_) => "bitwise",
        Expr::Is(_) | Expr::IsNot(_) => "cmp",
        Expr::Counter => "counter",
        Expr::End(_) => "immediate",
    };
    string(element, 1, kind);
    nested(element, 2, |data| match expr {
        Expr::Load(Key::Meta(key) | Key::Ct(key)) => {
            number(data, 1, REGISTER);
            number(data, 2, *key);
        }
        Expr::Load(Key::Network { at, length }) => load(data, 1, *at, *length),
        Expr::Load(Key::Transport { at, length }) => load(data, 2, *at, *length),
        Expr::Mask(mask) => {
            number(data, 1, REGISTER);
            number(data, 2, REGISTER);
            number(data, 3, mask.len() as u32);
            nested(data, 4, |value| put(value, 1, mask));
            nested(data, 5, |value| put(value, 1, &vec![0; mask.len()]));
        }
        Expr::Is(value) => compare(data, 0, value),
        Expr::IsNot(value) => compare(data, 1, value),
        Expr::Counter => {}
        Expr::End(verdict) => {
            number(data, 1, VERDICT_REGISTER);
            nested(data, 2, |data| nested(data, 2, |data| end(data, verdict)));
        }
    });
}

/// `enum nft_payload_attributes`, `enum nft_payload_bases`.
fn load(data: &mut Vec<u8>, base: u32, at: u32, length: u32) {
    for (kind, value) in [(1, REGISTER), (2, base), (3, at), (4, length)] {
        number(data, kind, value);
    }
}

/// `enum nft_cmp_attributes`, `enum nft_cmp_ops`.
fn compare(data: &mut Vec<u8>, operator: u32, with: &[u8]) {
    number(data, 1, REGISTER);
    number(data, 2, operator);
    nested(data, 3, |value| put(value, 1, with));
}

/// `enum nft_verdict_attributes`; NFT_GOTO is -4.
fn end(data: &mut Vec<u8>, verdict: &Verdict) {
    let code = match verdict {
        Verdict::Drop => libc::NF_DROP,
        Verdict::Accept => libc::NF_ACCEPT,
        Verdict::Goto(_) => -4,
    };
    put(data, 1, &code.to_be_bytes());
    if let Verdict::Goto(chain) = verdict {
        string(data, 2, chain);
    }
}

/// What the kernel answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Sequence number; 0 or an errno.
    Done(u32, i32),
    Table {
        flags: u32,
        /// Netlink port; 0: nobody.
        owner: u32,
    },
    Chain {
        table: String,
        device: Option<String>,
    },
}

/// The messages of a datagram, up to the first malformed one.
pub fn read(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some((answer, rest)) = first(bytes) {
        answers.extend(answer);
        bytes = rest;
    }
    answers
}

fn first(bytes: &[u8]) -> Option<(Option<Answer>, &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    let body = bytes.get(NETLINK_HEADER..length)?;
    let rest = bytes.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
    let code = || Some(i32::from_ne_bytes(body.get(..4)?.try_into().ok()?).wrapping_neg());
    let own = body.get(GENERIC_HEADER..).unwrap_or_default();
    let answer = match kind {
        NEW_TABLE => Some(table(own)),
        NEW_CHAIN => Some(chain(own)),
        kind if kind == libc::NLMSG_ERROR as u16 || kind == libc::NLMSG_DONE as u16 => {
            code().map(|code| Answer::Done(sequence, code))
        }
        _ => None,
    };
    Some((answer, rest))
}

fn table(bytes: &[u8]) -> Answer {
    let (mut flags, mut owner) = (0, 0);
    for (kind, value) in attributes(bytes) {
        match kind {
            2 => flags = be32(value).unwrap_or(0),
            7 => owner = be32(value).unwrap_or(0),
            _ => {}
        }
    }
    Answer::Table { flags, owner }
}

fn chain(bytes: &[u8]) -> Answer {
    let (mut table, mut device) = (String::new(), None);
    for (kind, value) in attributes(bytes) {
        match kind {
            1 => table = text(value),
            4 => {
                let dev = |(kind, value)| (kind == 3).then(|| text(value));
                device = attributes(value).find_map(dev);
            }
            _ => {}
        }
    }
    Answer::Chain { table, device }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = read(&bytes);
        }
    }
}
