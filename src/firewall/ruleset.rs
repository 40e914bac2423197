//! A compiled ruleset: one table, typed, ready for one transaction.

use std::fmt;

use nftables::schema::{Chain, Rule, Set};
use nftables::stmt::Statement;
use serde::Serialize;
use serde_json::{Value, json};

use crate::policy::{PolicyState, Row};

use super::json::{self, Unwritten, Written};
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

    /// As it is loaded where the kernel can do all of it.
    pub(super) fn whole(&self) -> Rules<'_> {
        Rules { of: self, quiet: false }
    }

    /// The same without the rules that tell the daemon of what is blocked, for kernels that cannot
    /// (nfnetlink_log is missing). They decide nothing, so no verdict changes.
    #[must_use]
    pub fn without_log(&self) -> Rules<'_> {
        Rules { of: self, quiet: true }
    }

    /// Of all of it: [`Rules::hash`].
    ///
    /// # Errors
    /// As [`Rules::to_json`].
    pub fn hash(&self) -> Result<RulesetHash, Unwritten> {
        self.whole().hash()
    }

    /// All of it: [`Rules::to_json`].
    ///
    /// # Errors
    /// As [`Rules::to_json`].
    pub fn to_json(&self) -> Result<String, Unwritten> {
        self.whole().to_json()
    }
}

/// What of a [`Ruleset`] is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    of: &'a Ruleset,
    quiet: bool,
}

impl<'a> Rules<'a> {
    pub(super) fn state(self) -> PolicyState {
        self.of.state
    }

    /// Those of one chain in their order.
    pub fn iter(self) -> impl Iterator<Item = &'a Rule<'static>> {
        self.of.rules.iter().filter(move |rule| !(self.quiet && tells(rule)))
    }

    /// # Errors
    /// As [`Rules::to_json`].
    pub fn hash(self) -> Result<RulesetHash, Unwritten> {
        Ok(self.normal()?.hash())
    }

    /// One transaction: the table is created if it is absent, deleted, and built anew. Whoever
    /// looks on sees the old one or the new one, never neither (libnftables-json(5)).
    ///
    /// # Errors
    /// When there is something in it that `json` does not know.
    pub fn to_json(self) -> Result<String, Unwritten> {
        let mut commands = vec![add(json::table(TABLE)), delete(json::table(TABLE)), add(json::table(TABLE))];
        for object in self.objects() {
            commands.push(add(object?));
        }
        Ok(format!("{{\"nftables\":[{}]}}", commands.join(",")))
    }

    /// One at a time: serde_json's tree of the whole batch takes some megabytes, which the daemon
    /// would keep for good.
    fn objects(self) -> impl Iterator<Item = Written> + 'a {
        let sets = self.of.sets.iter().map(json::set);
        sets.chain(self.of.chains.iter().map(json::chain)).chain(self.iter().map(json::rule))
    }

    pub(super) fn normal(self) -> Result<Normal, Unwritten> {
        let mut normal = Normal::default();
        self.objects().try_for_each(|object| object.map(|object| normal.take(object)))?;
        Ok(normal)
    }
}

fn tells(rule: &Rule<'_>) -> bool {
    rule.expr.iter().any(|stmt| matches!(stmt, Statement::Log(_)))
}

/// The command that adds an object.
pub(super) fn add(object: Value) -> String {
    json!({ "add": object }).to_string()
}

/// The command that deletes an object.
pub(super) fn delete(object: Value) -> String {
    json!({ "delete": object }).to_string()
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(f, self)
    }
}
