//! How often each row of the contract decided, from the kernel's own counters.

use serde::Serialize;
use serde_json::Value;

use crate::policy::Row;
use crate::sorted;

use super::base;
use super::listing::for_each_object;

/// Packets that a row let through or blocked since the rules were loaded. Each packet is counted
/// once in each filter hook that decides on it. Loopback has no counter of its own, and packets
/// that a flowtable carries pass no rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowCount {
    /// As in the contract, e.g. "3.1".
    pub row: &'static str,
    pub packets: u64,
    pub bytes: u64,
}

/// By row, in the contract's order; rows without a rule that decides are left out.
///
/// # Errors
/// When it is no listing of nft's.
pub fn by_row(listing: &[u8]) -> Result<Vec<RowCount>, String> {
    let mut rows: Vec<RowCount> = Vec::new();
    for_each_object(listing, |object| {
        let Some((row, packets, bytes)) = object.get("rule").and_then(counted) else { return };
        match rows.iter_mut().find(|known| known.row == row.number()) {
            Some(known) => {
                known.packets = known.packets.saturating_add(packets);
                known.bytes = known.bytes.saturating_add(bytes);
            }
            None => rows.push(RowCount { row: row.number(), packets, bytes }),
        }
    })?;
    let place = |count: &RowCount| Row::of_number(count.row);
    sorted::sort_by(&mut rows, |a, b| place(a).cmp(&place(b)));
    Ok(rows)
}

/// Row, packets and bytes of a rule that decides: one that accepts on a way from zone to zone, or
/// through which whatever is blocked goes. Others count the same packets on their way there
/// (marks, translation, the sort of refusal).
fn counted(rule: &Value) -> Option<(Row, u64, u64)> {
    let chain = rule.get("chain")?.as_str()?;
    let expr = rule.get("expr")?.as_array()?;
    let accepts = || expr.iter().any(|stmt| stmt.get("accept").is_some());
    let blocks = base::BLOCKED.iter().any(|blocked| blocked.chain == chain);
    if !(blocks || chain.contains("_to_") && accepts()) {
        return None;
    }
    let row = Row::of_number(rule.get("comment")?.as_str()?.split(' ').next()?)?;
    let counter = expr.iter().find_map(|stmt| stmt.get("counter"))?;
    Some((row, counter.get("packets")?.as_u64()?, counter.get("bytes")?.as_u64()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(chain: &str, comment: &str, packets: u64, verdict: Value) -> Value {
        let counter = json!({ "counter": { "packets": packets, "bytes": packets * 100 } });
        json!({ "rule": { "chain": chain, "comment": comment, "expr": [counter, verdict] } })
    }

    #[test]
    fn a_packet_is_counted_once_and_by_what_decided_it() {
        let accept = json!({ "accept": null });
        let goto = |to: &str| json!({ "goto": { "target": to } });
        let listing = json!({ "nftables": [
            { "metainfo": { "version": "1.0.6" } },
            rule("output_raw", "3.1 the tunnel's packets are not tracked", 5, accept.clone()),
            rule("router_to_wan", "3.1 the relay may be reached", 5, accept.clone()),
            rule("wan_to_router", "3.1 the relay may reach", 7, accept.clone()),
            rule("router_to_wan", "3.5 no resolver outside the tunnel", 2, goto("blocked_router_dns")),
            rule("blocked_router_dns", "3.5 blocked", 2, goto("refuse_router")),
            rule("blocked_wan", "0.0 blocked", 9, goto("refuse_silently")),
            rule("refuse_router", "0.0 refused to the router", 2, json!({ "reject": null })),
            rule("arriving_from_lan", "3.7 the tunnel's address", 1, goto("blocked_source")),
            rule("blocked_source", "3.7 blocked", 1, json!({ "drop": null })),
            rule("lan_to_tunnel", "x", 3, accept),
        ] });
        let found = by_row(listing.to_string().as_bytes()).unwrap();
        let found: Vec<_> = found.iter().map(|count| (count.row, count.packets, count.bytes)).collect();
        assert_eq!(found, [("0.0", 9, 900), ("3.1", 12, 1200), ("3.5", 2, 200), ("3.7", 1, 100)]);
        assert!(by_row(b"{}").is_err());
    }
}
