//! The one spelling in which a compiled and a listed ruleset are compared and hashed.
//!
//! nft lists what it was given in its own words, and the words change from version to version
//! (1.0.6 and 1.1.3 were compared): names or numbers of protocols and ICMP types, the order in
//! sets, `|` or a list for flags, counters and handles. Nothing here forgives a difference in
//! meaning.

use std::net::Ipv6Addr;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::listing::for_each_object;
use super::names::{self, Names};
use super::ruleset::RulesetHash;
use crate::sorted;

/// A table's content: sets by name, chains by name with their rules in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Normal {
    /// `KIND NAME` -> its lines: the declaration, then the rules.
    entries: sorted::Map<String, Vec<String>>,
}

impl Normal {
    /// From list objects (`{"chain": {…}}`).
    #[cfg(test)]
    pub fn of_objects(objects: impl IntoIterator<Item = Value>) -> Self {
        let mut normal = Self::default();
        objects.into_iter().for_each(|object| normal.take(object));
        normal
    }

    /// From what `nft -j list table` prints.
    pub fn of_listing(listing: &[u8]) -> Result<Self, String> {
        let mut normal = Self::default();
        for_each_object(listing, |object| normal.take(object))?;
        Ok(normal)
    }

    /// One more list object (`{"chain": {…}}`), compiled or listed.
    pub fn take(&mut self, object: Value) {
        let Value::Object(object) = object else { return };
        for (kind, body) in object {
            self.add(&kind, body);
        }
    }

    fn add(&mut self, kind: &str, body: Value) {
        let Value::Object(mut body) = body else { return };
        for volatile in ["handle", "index", "elem", "family", "table"] {
            body.remove(volatile);
        }
        let text = |body: &Map<String, Value>, key| {
            body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        match kind {
            "metainfo" => {}
            // A dormant table has no effect at all (nft before 1.1 does not list it).
            "table" => {
                if body.get("flags").is_some() {
                    self.entries.insert("table".to_owned(), vec![canonical(&normal(Value::Object(body)))]);
                }
            }
            "rule" => {
                let chain = format!("chain {}", text(&body, "chain"));
                body.remove("chain");
                let line = canonical(&normal(Value::Object(body)));
                self.entries.get_or(chain, Vec::new).push(line);
            }
            _ => {
                let name = format!("{kind} {}", text(&body, "name"));
                let line = canonical(&normal(Value::Object(body)));
                // A declaration comes before the rules, wherever it is listed.
                self.entries.get_or(name, Vec::new).insert(0, line);
            }
        }
    }

    pub fn hash(&self) -> RulesetHash {
        let mut digest = Sha256::new();
        for (name, lines) in self.entries.iter() {
            for line in std::iter::once(name).chain(lines) {
                digest.update(line.as_bytes());
                digest.update(b"\n");
            }
        }
        RulesetHash::new(&digest.finalize())
    }

    /// Names of the chains.
    pub fn chains(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().filter_map(|name| name.strip_prefix("chain "))
    }

    /// The first difference, in words; None: the same in full.
    pub fn difference(&self, wanted: &Self) -> Option<String> {
        let missing = wanted.entries.keys().find(|name| !self.entries.contains_key(*name));
        if let Some(name) = missing {
            return Some(format!("{name} is missing"));
        }
        self.entries.iter().find_map(|(name, lines)| {
            let Some(wanted) = wanted.entries.get(name) else {
                return Some(format!("{name} should not be there"));
            };
            first_unequal(name, lines, wanted)
        })
    }
}

fn first_unequal(name: &str, lines: &[String], wanted: &[String]) -> Option<String> {
    for at in 0..lines.len().max(wanted.len()) {
        let said = |lines: &[String]| lines.get(at).map_or("nothing", String::as_str).to_owned();
        let (is, should) = (said(lines), said(wanted));
        if is != should {
            return Some(format!("{name}, line {at}: is {is}, should be {should}"));
        }
    }
    None
}

/// Keys in order, whatever map serde_json was built with.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: sorted::Map<&String, &Value> = map.iter().collect();
            let parts: Vec<String> = sorted
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(list) => {
            let parts: Vec<String> = list.iter().map(canonical).collect();
            format!("[{}]", parts.join(","))
        }
        other => other.to_string(),
    }
}

fn normal(value: Value) -> Value {
    match value {
        Value::Array(list) => list.into_iter().map(normal).collect(),
        Value::String(text) => plain_text(text),
        Value::Object(map) => object(map),
        other => other,
    }
}

fn object(mut map: Map<String, Value>) -> Value {
    if map.contains_key("counter") {
        map.insert("counter".to_owned(), Value::Null);
    }
    if let Some(Value::Object(body)) = map.get_mut("match") {
        named_values(body);
    }
    let mut map: Map<String, Value> = map.into_iter().map(|(key, value)| (key, normal(value))).collect();
    if let Some(flags) = map.get_mut("flags") {
        sort_flags(flags);
    }
    if map.len() != 1 {
        return Value::Object(map);
    }
    // An expression: `{"KIND": …}`.
    if let Some(Value::Array(items)) = map.get_mut("set") {
        return set_items(std::mem::take(items));
    }
    if let Some(prefix) = map.get("prefix") {
        if let Some(addr) = whole_address(prefix) {
            return addr;
        }
    }
    for operator in ["|", "^"] {
        if let Some(Value::Array(parts)) = map.get(operator) {
            if let Some(value) = set_bits(parts) {
                return value;
            }
        }
    }
    Value::Object(map)
}

/// nft 1.0.6 does not list `dynamic`; that a set is filled by rules shows in the rules.
fn sort_flags(flags: &mut Value) {
    let mut list = match flags.take() {
        Value::Array(list) => list,
        one => vec![one],
    };
    list.retain(|flag| flag.as_str() != Some("dynamic"));
    list.sort_by_key(canonical);
    *flags = Value::Array(list);
}

/// Order in a set means nothing, and a set of one is that one.
fn set_items(mut items: Vec<Value>) -> Value {
    items.sort_by_key(canonical);
    if items.len() == 1 {
        return items.remove(0);
    }
    let mut map = Map::new();
    map.insert("set".to_owned(), Value::Array(items));
    Value::Object(map)
}

fn whole_address(prefix: &Value) -> Option<Value> {
    let addr = prefix.get("addr")?;
    let full = if addr.as_str()?.contains(':') { 128 } else { 32 };
    (prefix.get("len")?.as_u64()? == full).then(|| addr.clone())
}

/// `x & mask | value`, `x & mask ^ value` with all of value's bits in or out of the mask, and
/// flags written as `a | b`: one spelling each.
fn set_bits(parts: &[Value]) -> Option<Value> {
    if parts.iter().all(Value::is_string) {
        let mut flags = parts.to_vec();
        flags.sort_by_key(canonical);
        return Some(Value::Array(flags));
    }
    let [kept, value] = parts else { return None };
    let value = value.as_u64()?;
    let [of, mask] = kept.get("&")?.as_array()?.as_slice() else { return None };
    let mask = mask.as_u64()?;
    Some(serde_json::json!({ "set bits": [of, mask | value, value] }))
}

fn plain_text(text: String) -> Value {
    if let Ok(addr) = text.parse::<Ipv6Addr>() {
        return Value::String(addr.to_string());
    }
    match text.strip_prefix("0x") {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
            let digits = digits.trim_start_matches('0').to_ascii_lowercase();
            Value::String(format!("0x{digits}"))
        }
        _ => Value::String(text),
    }
}

/// Names that stand for numbers in the right side of a match, by what its left side is; and one
/// operator for sets of bits.
fn named_values(body: &mut Map<String, Value>) {
    let left = body.get("left").cloned().unwrap_or_default();
    let known: Option<Names> = if left.pointer("/meta/key").and_then(Value::as_str) == Some("l4proto") {
        Some(names::PROTOCOLS)
    } else {
        let at = |pointer| left.pointer(pointer).and_then(Value::as_str);
        match (at("/payload/protocol"), at("/payload/field")) {
            (Some("icmp"), Some("type")) => Some(names::ICMP_TYPES),
            (Some("icmpv6"), Some("type")) => Some(names::ICMPV6_TYPES),
            (Some("icmpv6"), Some("code")) => Some(names::ICMPV6_CODES),
            _ => None,
        }
    };
    if let (Some(known), Some(right)) = (known, body.get_mut("right")) {
        renumber(right, known);
    }
    if let Some(Value::Array(flags)) = body.get_mut("left").and_then(|left| left.pointer_mut("/&/1")) {
        flags.sort_by_key(canonical);
    }
    if left.get("ct").is_some() && body.get("op").and_then(Value::as_str) == Some("in") {
        body.insert("op".to_owned(), Value::from("=="));
    }
}

fn renumber(value: &mut Value, known: Names) {
    match value {
        Value::String(name) => {
            if let Some(number) = names::number(known, name) {
                *value = Value::from(number);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| renumber(item, known)),
        Value::Object(map) => map.values_mut().for_each(|item| renumber(item, known)),
        _ => {}
    }
}
