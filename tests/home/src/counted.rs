//! A ruleset in which every rule counts twice: how many packets it was looked at by, and how many
//! matched. Rules of vpnd's count matches only, and not all of them do.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use vpnd::firewall::{Ruleset, TABLE};

use crate::ns::Netns;

/// Of one rule since it was loaded, in packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    pub looked_at: u64,
    /// All its matches held.
    pub matched: u64,
}

/// The commands that load `ruleset`, with two counters in every rule and nothing else changed.
///
/// # Errors
/// When the ruleset is not spelled as nft has it.
pub fn to_json(ruleset: &Ruleset) -> Result<String> {
    let mut commands: Value = serde_json::from_str(&ruleset.to_json()?)?;
    let list = commands["nftables"].as_array_mut().context("no list of commands")?;
    for command in list {
        if let Some(statements) = command.pointer_mut("/add/rule/expr").and_then(Value::as_array_mut) {
            if !statements.iter().any(is_counter) {
                // A rule without a counter ends with what it does.
                statements.insert(statements.len().saturating_sub(1), json!({ "counter": null }));
            }
            statements.insert(0, json!({ "counter": null }));
        }
    }
    Ok(commands.to_string())
}

fn is_counter(statement: &Value) -> bool {
    statement.get("counter").is_some()
}

/// The counters, by the rules' places in [`Ruleset::rules`].
///
/// # Errors
/// When the table is not there, or is another one.
pub fn read(router: &Netns, ruleset: &Ruleset) -> Result<Vec<Count>> {
    let listed = router.run("nft", &["-j", "list", "table", "inet", TABLE])?;
    let listed: Value = serde_json::from_str(&listed)?;
    let list = listed["nftables"].as_array().context("no list of objects")?;
    let rules: Vec<&Value> = list.iter().filter_map(|object| object.get("rule")).collect();
    let mut counts = vec![None; ruleset.rules().len()];
    for chain in ruleset.chains() {
        let own = (0..).zip(ruleset.rules()).filter(|(_, rule)| rule.chain == chain.name);
        let theirs = rules.iter().filter(|rule| rule["chain"] == *chain.name);
        for ((at, _), rule) in own.zip(theirs) {
            let at: usize = at;
            counts[at] = Some(count(rule).with_context(|| format!("rule {rule}"))?);
        }
    }
    counts.into_iter().collect::<Option<Vec<_>>>().context("rules are missing in the kernel")
}

fn count(rule: &Value) -> Result<Count> {
    let statements = rule["expr"].as_array().context("no statements")?;
    let counters: Vec<u64> =
        statements.iter().filter_map(|statement| statement["counter"]["packets"].as_u64()).collect();
    match counters[..] {
        [looked_at, matched] => Ok(Count { looked_at, matched }),
        _ => bail!("{} counters", counters.len()),
    }
}
