//! Guard table and egress hook in the home of the firewall-only tests: beside the compiled rules of
//! every state nothing that must pass is lost; and each alone, with fw4's rules only, stops what must
//! not leave by the WAN.

use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};

use vpnd::config::load_from;
use vpnd::firewall::guard::{Guard, Keeper, Uplink};
use vpnd::policy::{Facts, Row, WanDevice};

use crate::cells;
use crate::config::Config;
use crate::home::Home;
use crate::house::at;
use crate::native::cells_in;
use crate::ns::Netns;
use crate::probes::{Case, ENFORCING, Place};
use crate::suite::Test;
use crate::vpnd::{Policy, Rules, uplink};
use crate::wire::index_of;

/// Cells that the guard leaves to the rules, by row: any marked packet of the router is vpnd's own to
/// it (3.1, 3.2), an answer to the WAN is one whatever its port (2.9), and sources are not its matter
/// (3.7).
const LEFT_TO_THE_RULES: [Row; 4] = [Row::TunnelOuter, Row::Api, Row::WanService, Row::Source];

/// Which layer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Guard,
    Egress,
}

#[must_use]
pub fn tests(rules: &Rc<dyn Rules>) -> Vec<Test> {
    let mut tests = Vec::new();
    for relay in [0, 2] {
        let family = if relay == 0 { "IPv4" } else { "IPv6" };
        for policy in ENFORCING {
            let rules = Rc::clone(rules);
            let name =
                format!("layers: cells of {} with guard and egress hook, relay over {family}", policy.word());
            tests.push(Test::new(name, move || beside(policy, relay, &*rules)));
        }
    }
    for (layer, name) in [(Layer::Guard, "the guard"), (Layer::Egress, "the egress hook")] {
        let rules = Rc::clone(rules);
        tests.push(Test::new(format!("layers: {name} alone, without vpnd's rules"), move || {
            alone(layer, &*rules)
        }));
    }
    tests
}

/// What the daemon would hold in the home of [`Config::on_paper`]; the stick is not always plugged in.
fn guard(usb_is_there: bool) -> Result<Guard> {
    let dir = std::env::temp_dir().join(format!("home-layers-{}", std::process::id()));
    Config::on_paper().write(&dir)?;
    let loaded = load_from(&dir.join("vpnd"), &dir);
    std::fs::remove_dir_all(&dir)?;
    ensure!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let mut settings = loaded.settings;
    settings.api = uplink().api;
    let name = |text: &str| text.parse().map_err(|error| anyhow::anyhow!("{text}: {error}"));
    let wan =
        WanDevice { name: name("wan")?, prefixes: uplink().connected, lease_server: uplink().lease_server };
    let usb = WanDevice {
        name: name("usb0")?,
        prefixes: vec!["198.19.0.0/24".parse()?, "2001:db8:1900::/64".parse()?],
        lease_server: None,
    };
    let facts = Facts { wan: vec![usb, wan], ..Facts::default() };
    let held = |device, address: &str| -> Result<Uplink> {
        Ok(Uplink { name: name(device)?, index: 0, addresses: vec![address.parse()?], pppoe: false })
    };
    let mut uplinks = vec![held("wan", at::ROUTER_WAN[0])?];
    if usb_is_there {
        uplinks.push(held("usb0", "198.19.0.2")?);
    }
    Ok(Guard::new(&settings, &facts, uplinks))
}

/// They stand for as long as the keeper lives, and are removed by [`remove`].
pub(crate) fn install(router: &Netns, layers: &[Layer]) -> Result<Keeper> {
    router.enter(|| {
        let guard = guard(index_of("usb0").is_ok())?;
        let mut keeper = Keeper::open()?;
        for layer in layers {
            let table = match layer {
                Layer::Guard => guard.table(),
                Layer::Egress => guard.egress().context("no device for the egress hook")?,
            };
            keeper.hold(&table)?;
        }
        Ok(keeper)
    })
}

pub(crate) fn remove(mut keeper: Keeper) -> Result<()> {
    keeper.remove_egress()?;
    Ok(keeper.remove_guard()?)
}

/// Every cell of a state has the same verdict with all layers as with the rules alone.
fn beside(policy: Policy, relay: usize, rules: &dyn Rules) -> Result<String> {
    let mut home = Home::build()?;
    let keeper = install(&home.house.router, &[Layer::Guard, Layer::Egress])?;
    let faults = cells_in(&mut home, policy, relay, rules, |_| true)?;
    remove(keeper)?;
    match faults.len() {
        0 => Ok(String::new()),
        n => bail!("{n} faults:\n  {}", faults.join("\n  ")),
    }
}

/// What leaves by the WAN with fw4's rules alone, and must not in any state, does not with one layer.
fn alone(layer: Layer, rules: &dyn Rules) -> Result<String> {
    let mut home = Home::build()?;
    home.enter(Policy::Open, 0, rules)?;
    let wanted = |case: &Case| {
        case.seen == Place::Wan
            && case.passes.contains(&Policy::Open)
            && ENFORCING.iter().all(|policy| case.blocked.contains(policy))
            && case.relay.unwrap_or(0) == 0
            && !LEFT_TO_THE_RULES.contains(&case.row)
    };
    let cases: Vec<Case> = cells::all().into_iter().filter(wanted).collect();
    let seen = |home: &mut Home| -> Result<Vec<String>> {
        let outcomes = home.run(&cases, Policy::Open, 0)?;
        Ok(outcomes
            .into_iter()
            .filter(|o| o.seen)
            .map(|o| format!("{}: {}", o.case.row.number(), o.case.name))
            .collect())
    };
    let before = seen(&mut home)?;
    ensure!(
        before.len() == cases.len() && cases.len() > 60,
        "control: {} of {} leave",
        before.len(),
        cases.len()
    );
    let keeper = install(&home.house.router, &[layer])?;
    home.control()?;
    let out = seen(&mut home)?;
    ensure!(out.is_empty(), "{} leave:\n  {}", out.len(), out.join("\n  "));
    remove(keeper)?;
    let after = seen(&mut home)?;
    ensure!(after.len() == cases.len(), "control: {} of {} leave again", after.len(), cases.len());
    Ok(format!("{} kinds of packets", cases.len()))
}
