//! The guard's tables as messages to nf_tables (linux/netfilter/nf_tables.h). Pure.
//!
//! Attributes hold numbers in network byte order; a register holds what its expression loads:
//! marks and device indices in the machine's order, what a packet says as the packet says it.

use super::super::nftables_message::{Requests, name};
use super::table::{Chain, Expr, Hook, Key, Rule, Table, Verdict};
use crate::netlink::attribute::{nested, number, put, string};

/// `enum nft_table_flags`: nobody else may change the table; it outlives its owner (Linux 6.9).
pub const OWNER: u32 = 2;
pub const PERSIST: u32 = 4;

/// `enum nft_registers`: 16 bytes, and the one for verdicts.
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;

/// One transaction that makes `table` what it says; `replaces`: one of that name is there.
pub fn install(table: &Table, flags: u32, replaces: bool) -> Requests {
    Requests::batch(|requests| {
        if replaces {
            requests.delete_table(table.family, table.name);
        }
        requests.add_table(table.family, table.name, flags);
        // A rule may lead to any chain.
        for chain in &table.chains {
            requests.add_chain(table.family, &chain_payload(table, chain));
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                requests.add_rule(table.family, &rule_payload(table, chain, rule));
            }
        }
    })
}

/// `enum nft_chain_attributes`, `enum nft_hook_attributes`.
fn chain_payload(table: &Table, chain: &Chain) -> Vec<u8> {
    let mut payload = name(table.name);
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
    let mut payload = name(table.name);
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
