//! The nftables crate's types -> nft's JSON (libnftables-json(5)), for exactly what is built here.
//!
//! The crate's own way is serde's derived code for everything that nft has: several times as much, on
//! a router's flash. What is not known here is an error that ends the apply, never left out; the tests
//! hold the rest against the crate's own.

mod expression;
mod statement;
#[cfg(test)]
mod tests;
pub(super) mod words;

use nftables::schema::{Chain, Rule, Set, SetTypeValue};
use nftables::types::NfFamily;
use serde_json::{Map, Value};

/// What the compiler does not build, so that nobody has taught this how to write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("vpnd does not know how to write {0} for nft")]
pub struct Unwritten(pub(super) &'static str);

pub(super) type Written = Result<Value, Unwritten>;

/// The fields of an object.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn with(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    fn text(self, name: &str, text: &str) -> Self {
        self.with(name, Value::from(text))
    }

    fn number(self, name: &str, number: u32) -> Self {
        self.with(name, Value::from(number))
    }

    /// `{"KIND": {…}}`.
    fn of(self, kind: &str) -> Value {
        named(kind, Value::Object(self.0))
    }
}

/// `{"KIND": body}`.
fn named(kind: &str, body: Value) -> Value {
    Value::Object(Fields::default().with(kind, body).0)
}

/// All of them, or what the first says that cannot be written. One function for items of any kind,
/// not one for each.
fn list(items: &mut dyn Iterator<Item = Written>) -> Written {
    let mut list = Vec::new();
    for item in items {
        list.push(item?);
    }
    Ok(Value::Array(list))
}

/// A table of family inet.
pub(super) fn table(name: &str) -> Value {
    Fields::default().text("family", "inet").text("name", name).of("table")
}

pub(super) fn set(set: &Set<'_>) -> Written {
    let Set {
        family: NfFamily::INet,
        table,
        name,
        handle: None,
        set_type: SetTypeValue::Concatenated(types),
        policy: None,
        flags: Some(flags),
        elem: None,
        timeout: Some(timeout),
        gc_interval: None,
        size: Some(size),
        comment: None,
    } = set
    else {
        return Err(Unwritten("a set like this"));
    };
    let types = list(&mut types.iter().map(|one| words::set_type(*one).map(Value::from)))?;
    let fields = Fields::default().text("family", "inet").text("table", table).text("name", name);
    let fields = fields.with("type", types).with("flags", Value::from(words::set_flags(flags)));
    Ok(fields.number("timeout", *timeout).number("size", *size).of("set"))
}

pub(super) fn chain(chain: &Chain<'_>) -> Written {
    let Chain {
        family: NfFamily::INet,
        table,
        name,
        newname: None,
        handle: None,
        _type: kind,
        hook,
        prio,
        dev,
        policy,
    } = chain
    else {
        return Err(Unwritten("a chain like this"));
    };
    let mut fields = Fields::default().text("family", "inet").text("table", table).text("name", name);
    if let Some(kind) = kind {
        fields = fields.text("type", words::chain_type(*kind));
    }
    if let Some(hook) = hook {
        fields = fields.text("hook", words::hook(*hook));
    }
    if let Some(priority) = prio {
        fields = fields.with("prio", Value::from(*priority));
    }
    if let Some(device) = dev {
        fields = fields.text("dev", device);
    }
    if let Some(policy) = policy {
        fields = fields.text("policy", words::policy(*policy));
    }
    Ok(fields.of("chain"))
}

pub(super) fn rule(rule: &Rule<'_>) -> Written {
    let Rule {
        family: NfFamily::INet,
        table,
        chain,
        expr,
        handle: None,
        index: None,
        comment: Some(comment),
    } = rule
    else {
        return Err(Unwritten("a rule like this"));
    };
    let statements = list(&mut expr.iter().map(statement::written))?;
    let fields = Fields::default().text("family", "inet").text("table", table).text("chain", chain);
    Ok(fields.with("expr", statements).text("comment", comment).of("rule"))
}
