//! What the kernel tells of changed rules (linux/netfilter/nf_tables.h; nf_tables_commit in
//! net/netfilter/nf_tables_api.c): the changes of one transaction, then a message that closes it and names the
//! process. Pure.

use crate::netlink::attribute::{attributes, be32};
use crate::netlink::messages;

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
/// `enum nf_tables_msg_types`, as far as a change of a table's content comes with them.
const NEW_TABLE: u16 = 0;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DEL_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DEL_RULE: u16 = 8;
const NEW_GEN: u16 = 15;
/// Sets, their elements, objects, flowtables.
const OTHERS: [u16; 8] = [9, 11, 12, 14, 18, 20, 22, 24];
/// `struct nfgenmsg`.
const GENERIC_HEADER: usize = 4;
/// NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE and all the others': the table is the first.
const TABLE_NAME: u16 = 1;
/// `enum nft_gen_attributes`.
const GEN_PROC_PID: u16 = 2;
const GEN_PROC_NAME: u16 = 3;
/// `TASK_COMM_LEN` of linux/sched.h, less the end.
const NAME_MOST: usize = 15;

/// The tables that are vpnd's: family (`NFPROTO_*`) and name.
const TABLES: [(u8, &str); 3] = [(1, "vpnd"), (1, "vpnd_guard"), (5, "vpnd_egress")];
/// Different changes that are told apart in one answer; more are counted.
const MOST: usize = 8;

/// What a transaction did to one table, as bits; the lowest one that is set is told.
const DELETED: u8 = 1;
const ALTERED: u8 = 2;
const CHAIN_GONE: u8 = 4;
const CHAIN_NEW: u8 = 8;
const RULE_GONE: u8 = 16;
const RULE_NEW: u8 = 32;
const OTHER: u8 = 64;

/// One transaction of somebody else's that touched a table of vpnd's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// For people: "table inet vpnd was deleted".
    pub what: String,
    /// By the kernel's own numbering.
    pub pid: Option<u32>,
    /// Printable ASCII, at most 15 characters.
    pub process: Option<String>,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    /// In their order; those beyond the first few different ones are in `more`.
    pub changes: Vec<Change>,
    pub more: u32,
    /// Somebody else touched a table after vpnd last did.
    pub touched: bool,
    /// Messages were lost: anything may have changed.
    pub lost: bool,
}

/// Reads one datagram after the other; a transaction may be spread over several.
#[derive(Debug, Default)]
pub struct Reader {
    /// vpnd's own process: what it changes over a socket of its own is no more foreign than what its `nft` does.
    process: Option<u32>,
    /// Of the transaction that is being read, by table.
    foreign: [u8; TABLES.len()],
    own: [bool; TABLES.len()],
    /// By table: touched by somebody else after vpnd last did.
    touched: [bool; TABLES.len()],
}

impl Reader {
    #[must_use]
    pub fn new(process: u32) -> Self {
        Self { process: Some(process), ..Self::default() }
    }

    /// Adds to `heard` what a datagram says. `own`: whether a netlink port is one of vpnd's (that
    /// of `nft` is its process's number, netlink_autobind in net/netlink/af_netlink.c). No bytes
    /// can make it panic, or hold more than a few hundred bytes.
    pub fn read(&mut self, bytes: &[u8], own: impl Fn(u32) -> bool, heard: &mut Heard) {
        for message in messages(bytes) {
            let Some(kind) = message.kind.checked_sub(SUBSYSTEM) else { continue };
            if kind == NEW_GEN {
                self.close(message.body, heard);
            } else if let (Some(bit), Some(table)) = (bit(kind), table(message.body)) {
                if own(message.port) {
                    self.own[table] = true;
                } else {
                    self.foreign[table] |= bit;
                }
            }
        }
        heard.touched = self.touched.contains(&true);
    }

    /// Messages were lost, perhaps in the middle of a transaction.
    pub fn lost(&mut self, heard: &mut Heard) {
        self.foreign = Default::default();
        self.own = Default::default();
        heard.lost = true;
    }

    /// What is in force was compared with what should be, or is about to be put again.
    pub fn forget(&mut self) {
        self.touched = Default::default();
    }

    fn close(&mut self, body: &[u8], heard: &mut Heard) {
        let mut foreign = std::mem::take(&mut self.foreign);
        let mut own = std::mem::take(&mut self.own);
        let (mut pid, mut process) = (None, None);
        for (kind, value) in attributes(body.get(GENERIC_HEADER..).unwrap_or_default()) {
            match kind {
                GEN_PROC_PID => pid = be32(value),
                GEN_PROC_NAME => process = Some(printable(value)),
                _ => {}
            }
        }
        if self.process.is_some() && self.process == pid {
            own = std::array::from_fn(|table| own[table] || foreign[table] != 0);
            foreign = Default::default();
        }
        for (table, touched) in self.touched.iter_mut().enumerate() {
            *touched = (*touched && !own[table]) || foreign[table] != 0;
        }
        for (bits, (family, name)) in foreign.iter().zip(TABLES) {
            if *bits == 0 {
                continue;
            }
            let family = if family == 1 { "inet" } else { "netdev" };
            let change = Change { what: words(*bits, family, name), pid, process: process.clone() };
            if heard.changes.len() < MOST {
                heard.changes.push(change);
            } else {
                heard.more = heard.more.saturating_add(1);
            }
        }
    }
}

fn words(bits: u8, family: &str, name: &str) -> String {
    let table = format!("table {family} {name}");
    match 1 << bits.trailing_zeros() {
        DELETED => format!("{table} was deleted"),
        ALTERED => format!("{table} was created or switched off or on"),
        CHAIN_GONE => format!("a chain of {table} was deleted"),
        CHAIN_NEW => format!("a chain of {table} was added or altered"),
        RULE_GONE => format!("a rule of {table} was deleted"),
        RULE_NEW => format!("a rule was put into {table}"),
        _ => format!("a set of {table} was altered"),
    }
}

fn bit(kind: u16) -> Option<u8> {
    Some(match kind {
        DEL_TABLE => DELETED,
        NEW_TABLE => ALTERED,
        DEL_CHAIN => CHAIN_GONE,
        NEW_CHAIN => CHAIN_NEW,
        DEL_RULE => RULE_GONE,
        NEW_RULE => RULE_NEW,
        other if OTHERS.contains(&other) => OTHER,
        _ => return None,
    })
}

/// Which of [`TABLES`] a change is in.
fn table(body: &[u8]) -> Option<usize> {
    let family = *body.first()?;
    let (_, name) = attributes(body.get(GENERIC_HEADER..)?).find(|(kind, _)| *kind == TABLE_NAME)?;
    let name = name.split(|byte| *byte == 0).next()?;
    TABLES.iter().position(|table| table.0 == family && table.1.as_bytes() == name)
}

fn printable(name: &[u8]) -> String {
    let bytes = name.iter().take_while(|byte| **byte != 0).take(NAME_MOST);
    bytes.map(|byte| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' }).collect()
}

#[cfg(test)]
mod tests;
