//! What the kernel has where the barrier is.

use std::path::Path;

use crate::rtnetlink::RouteMessage;

use super::Error;
use super::group::Way;
use super::netlink::Netlink;
use super::plan::{Family, PRIORITIES, TABLE_LAN, TABLE_MAIN, TABLE_TUNNEL};
use super::route::{self, Route};
use super::rule::{self, Rule};

/// A kernel without IPv6 has no IPv6 rules, and needs none. (One with IPv6 but without its rules
/// refuses them, which is an error.)
pub(super) fn families() -> impl Iterator<Item = Family> {
    let has_v6 = Path::new("/proc/sys/net/ipv6").exists();
    Family::ALL.into_iter().filter(move |family| has_v6 || *family == Family::V4)
}

/// What the kernel has in our priorities and tables, and in `main`.
pub(super) struct Standing {
    pub rules: Vec<Said<Rule>>,
    pub routes: Vec<Said<Route>>,
    /// The routes of `main`.
    pub main: Vec<Way>,
}

/// A rule or a route: as we would say it (None: we would not), and as the kernel said it.
pub(super) struct Said<T> {
    pub ours: Option<T>,
    /// Its priority; its table.
    pub place: u32,
    pub body: Vec<u8>,
}

impl Said<Rule> {
    fn read(kind: u16, body: &[u8]) -> Option<Self> {
        let place = rule::priority_of(body);
        let here = kind == libc::RTM_NEWRULE && PRIORITIES.contains(&place);
        here.then(|| Self { ours: Rule::read(body), place, body: body.to_vec() })
    }
}

impl Said<Route> {
    fn read(message: &RouteMessage, body: &[u8]) -> Option<Self> {
        let place = message.table;
        let here = [TABLE_LAN, TABLE_TUNNEL].contains(&place);
        here.then(|| Self { ours: Route::from_message(message), place, body: body.to_vec() })
    }
}

/// A route that counts here.
enum Listed {
    Ours(Said<Route>),
    Main(Way),
}

impl Listed {
    fn read(kind: u16, body: &[u8]) -> Option<Self> {
        let message = RouteMessage::read(kind, body)?;
        if message.table == TABLE_MAIN {
            return Way::read(&message).map(Self::Main);
        }
        Said::<Route>::read(&message, body).map(Self::Ours)
    }
}

impl Standing {
    pub(super) async fn read(netlink: &Netlink) -> Result<Self, Error> {
        let mut standing = Self { rules: Vec::new(), routes: Vec::new(), main: Vec::new() };
        for family in families() {
            let what = format!("listing the {family} rules");
            standing.rules.extend(netlink.dump(&rule::question(family), &what, Said::<Rule>::read).await?);
            let question = route::question(family).request(libc::RTM_GETROUTE);
            let what = format!("listing the {family} routes");
            for listed in netlink.dump(&question, &what, Listed::read).await? {
                match listed {
                    Listed::Ours(route) => standing.routes.push(route),
                    Listed::Main(way) => standing.main.push(way),
                }
            }
        }
        Ok(standing)
    }
}
