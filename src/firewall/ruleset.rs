//! A compiled ruleset: one table, typed, ready for one transaction.

use std::fmt;

use nftables::schema::{Chain, Rule, Set, Table};
use nftables::stmt::Statement;
use nftables::types::NfFamily;
use serde::Serialize;
use serde_json::{Value, json};

use crate::policy::{PolicyState, Row};
use crate::sorted;

use super::normal::Normal;
use super::text;

/// The per-state table, of family inet.
pub const TABLE: &str = "vpnd";
/// Of family inet, too: what fw4 brings back while armed (`files/usr/share/vpnd/heal.nft`).
pub const HEAL_TABLE: &str = "vpnd_heal";

/// What is in the kernel, or should be: SHA-256 over the normal form, the same from a compiled
/// ruleset and from the kernel's listing. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "String")]
pub struct RulesetHash([u8; 8]);

impl RulesetHash {
    pub(super) fn new(digest: &[u8]) -> Self {
        let mut short = [0; 8];
        for (to, from) in short.iter_mut().zip(digest) {
            *to = *from;
        }
        Self(short)
    }
}

impl fmt::Display for RulesetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RulesetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<RulesetHash> for String {
    fn from(hash: RulesetHash) -> Self {
        hash.to_string()
    }
}

/// One policy as nftables objects. Its text form ([`fmt::Display`]) is for people and can be
/// loaded with `nft -f`; [`Ruleset::to_json`] is what [`super::Nft`] loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    state: PolicyState,
    sets: Vec<Set<'static>>,
    chains: Vec<Chain<'static>>,
    rules: Vec<Rule<'static>>,
}

impl Ruleset {
    pub(super) fn new(
        state: PolicyState,
        sets: Vec<Set<'static>>,
        chains: Vec<Chain<'static>>,
        rules: Vec<Rule<'static>>,
    ) -> Self {
        Self { state, sets, chains, rules }
    }

    #[must_use]
    pub fn state(&self) -> PolicyState {
        self.state
    }

    #[must_use]
    pub fn sets(&self) -> &[Set<'static>] {
        &self.sets
    }

    #[must_use]
    pub fn chains(&self) -> &[Chain<'static>] {
        &self.chains
    }

    /// Those of one chain in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule<'static>] {
        &self.rules
    }

    /// The contract's row that a rule's comment names.
    #[must_use]
    pub fn row(&self, rule: u32) -> Option<Row> {
        let comment = self.rules.get(usize::try_from(rule).ok()?)?.comment.as_deref()?;
        let (number, _) = comment.split_once(' ')?;
        Row::of_number(number)
    }

    #[must_use]
    pub fn hash(&self) -> RulesetHash {
        self.normal().hash()
    }

    /// The same without the rules that tell the daemon of what is blocked, for kernels that cannot
    /// (nfnetlink_log is missing). They decide nothing, so no verdict changes.
    #[must_use]
    pub fn without_log(&self) -> Self {
        let mut quiet = self.clone();
        quiet.rules.retain(|rule| !rule.expr.iter().any(|stmt| matches!(stmt, Statement::Log(_))));
        quiet
    }

    /// One transaction: the table is created if it is absent, deleted, and built anew. Whoever
    /// looks on sees the old one or the new one, never neither (libnftables-json(5)).
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut commands = vec![add(table(TABLE)), delete(table(TABLE)), add(table(TABLE))];
        commands.extend(self.objects().map(add));
        format!("{{\"nftables\":[{}]}}", commands.join(","))
    }

    /// One at a time: serde_json's tree of the whole batch takes some megabytes, which the daemon
    /// would keep for good.
    fn objects(&self) -> impl Iterator<Item = Value> + '_ {
        let sets = self.sets.iter().map(|set| object("set", set));
        sets.chain(self.chains.iter().map(chain)).chain(self.rules.iter().map(rule))
    }

    pub(super) fn normal(&self) -> Normal {
        Normal::of_objects(self.objects().map(spelled_for_nft))
    }
}

pub(super) fn table(name: &'static str) -> Value {
    object("table", &Table { family: NfFamily::INet, name: name.into(), handle: None })
}

pub(super) fn chain(chain: &Chain<'_>) -> Value {
    object("chain", chain)
}

pub(super) fn rule(rule: &Rule<'_>) -> Value {
    object("rule", rule)
}

/// As the crate's `NfListObject`, which would want the object itself and not what is lent. A
/// serialisation into memory fails only for maps whose keys are no text; there are none here, and
/// nft would refuse an empty object.
fn object(kind: &str, body: &impl Serialize) -> Value {
    json!({ kind: serde_json::to_value(body).unwrap_or_default() })
}

/// The command that adds an object.
pub(super) fn add(object: Value) -> String {
    json!({ "add": spelled_for_nft(object) }).to_string()
}

/// The command that deletes an object.
pub(super) fn delete(object: Value) -> String {
    json!({ "delete": spelled_for_nft(object) }).to_string()
}

/// The crate writes the one statement without arguments as a bare word, which nft refuses, and flags
/// in an order that differs from run to run.
fn spelled_for_nft(value: Value) -> Value {
    match value {
        Value::String(word) if word == "notrack" => json!({ "notrack": null }),
        Value::Array(list) => list.into_iter().map(spelled_for_nft).collect(),
        Value::Object(map) => {
            map.into_iter().map(in_order).map(|(key, value)| (key, spelled_for_nft(value))).collect()
        }
        other => other,
    }
}

fn in_order((key, mut value): (String, Value)) -> (String, Value) {
    if let (true, Some(flags)) = (key == "flags", value.as_array_mut()) {
        sorted::sort_by(flags, |one, other| one.as_str().cmp(&other.as_str()));
    }
    (key, value)
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(f, self)
    }
}
