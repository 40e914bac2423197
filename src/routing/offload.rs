//! Ends the offloading of flows by a change of the routing generation: a rule and a route that no
//! packet can meet, there for a moment.

use super::Error;
use super::netlink::Netlink;
use super::plan::{Family, PRIORITIES, TABLE_MAIN};
use super::route::Route;
use super::rule::{Action, Rule};
use super::standing::families;
use crate::rtnetlink::Request;

/// For IPv4 any rule will do (`fib4_rule_flush_cache`). IPv6 looks at the number of the routes'
/// tree (`ip6_dst_check`), which a new route in it changes. Both together were seen to end flows of
/// both families at once (Linux 6.1 and 6.12).
pub(super) async fn end(netlink: &Netlink) -> Result<(), Error> {
    let mut result = Ok(());
    for family in families() {
        let rule = rule(family);
        let (add, delete) = (rule.request(libc::RTM_NEWRULE), rule.request(libc::RTM_DELRULE));
        result = result.and(passing(netlink, add, delete, &format!("the rule {rule}")).await);
        if family == Family::V6 {
            let route = route();
            let (add, delete) = (route.request(libc::RTM_NEWROUTE), route.request(libc::RTM_DELROUTE));
            result = result.and(passing(netlink, add, delete, &format!("the route {route}")).await);
        }
    }
    result
}

/// Added and deleted. Where it is there already, deleting it is the change.
async fn passing(netlink: &Netlink, add: Request, delete: Request, what: &str) -> Result<(), Error> {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let added = netlink.change(&add, flags, &|| format!("adding {what}")).await;
    let deleted = netlink.change(&delete, 0, &|| format!("deleting {what}")).await;
    deleted.or(added)
}

/// To the unspecified address, where no packet goes.
fn rule(family: Family) -> Rule {
    let nowhere = family.unspecified().into();
    Rule { to: Some(nowhere), ..Rule::new(family, *PRIORITIES.end(), Action::Unreachable) }
}

fn route() -> Route {
    Route { table: TABLE_MAIN, to: Family::V6.unspecified().into(), hop: None, metric: 0 }
}
