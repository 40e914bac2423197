//! The stop ahead of the flowtables ([`Stop`]) as a table of its own, which comes in the transaction
//! of the policy and goes when the old flows are deleted.
//!
//! Of its own, because it stands for moments only and says nothing of the state; because the kernel
//! takes a chain's device out by itself when that goes, which would change the policy's hash; and
//! because nft 1.0.6 lists ingress chains of an inet table without their devices. A chain for each
//! device, as nft before 1.0.8 reads one device only in JSON. No `fib`, which is not to be had at
//! this hook (`nft_fib_validate`), and no policy `drop`, which would hold before the rules do.

use nftables::schema::{Chain, Rule};
use nftables::stmt::Statement;
use nftables::types::{NfChainPolicy, NfChainType, NfHook};

use crate::policy::{Family, Row, Stop};

use super::base;
use super::expr::{self, Stmt};
use super::json::{self, Unwritten, table};
use super::ruleset::{add, delete};
use super::statement::{counter, goto};

/// Of family inet; there from a policy's commit until the old flows are deleted.
pub const STOP_TABLE: &str = "vpnd_stop";
/// Ahead of any flowtable: fw4's is at 0.
const AHEAD: i32 = -500;
const STOP: &str = "stop";

/// Commands of one transaction, as JSON: the table goes, if it is there.
pub(super) fn commands_to_end() -> Vec<String> {
    // Added first, so that deleting succeeds when it was absent.
    vec![add(table(STOP_TABLE)), delete(table(STOP_TABLE))]
}

/// The same, and the table is built anew.
///
/// # Errors
/// When there is something in it that `json` does not know.
pub(super) fn commands(stop: &Stop) -> Result<Vec<String>, Unwritten> {
    let (chains, rules) = compile_stop(stop);
    let mut commands = commands_to_end();
    commands.push(add(table(STOP_TABLE)));
    for object in chains.iter().map(json::chain).chain(rules.iter().map(json::rule)) {
        commands.push(add(object?));
    }
    Ok(commands)
}

/// Chains and rules of a stop.
#[must_use]
pub fn compile_stop(stop: &Stop) -> (Vec<Chain<'static>>, Vec<Rule<'static>>) {
    let mut chains = vec![in_table(base::regular_chain(STOP))];
    let mut rules = Vec::new();
    for (at, device) in stop.devices.iter().enumerate() {
        let chain = base::base_chain("", NfChainType::Filter, NfHook::Ingress, AHEAD, NfChainPolicy::Accept);
        let name = format!("from_{at}");
        let dev = Some(device.as_str().to_owned().into());
        chains.push(Chain { name: name.clone().into(), dev, ..in_table(chain) });
        let rule = rule(vec![goto(STOP)], Row::Default, "what comes in from the LAN");
        rules.push(Rule { chain: name.into(), ..rule });
    }
    for family in Family::BOTH {
        let nets: Vec<_> = stop.spared.iter().filter(|net| family.holds(net)).copied().collect();
        if nets.is_empty() {
            continue;
        }
        let to = expr::field(if family == Family::V4 { "ip" } else { "ip6" }, "daddr");
        let what = "what stays at home, or was listed, goes on";
        rules.push(rule(vec![expr::is(to, expr::nets(&nets)), Statement::Accept(None)], Row::LanSide, what));
    }
    let drop = vec![counter(), Statement::Drop(None)];
    rules.push(rule(drop, Row::Default, "until the old flows are deleted"));
    (chains, rules)
}

fn in_table(chain: Chain<'static>) -> Chain<'static> {
    Chain { table: STOP_TABLE.into(), ..chain }
}

fn rule(expr: Vec<Stmt>, row: Row, what: &str) -> Rule<'static> {
    let comment = format!("{} {what}", row.number());
    Rule { table: STOP_TABLE.into(), ..base::rule(STOP, expr, comment) }
}
