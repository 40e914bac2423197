//! OpenWrt's own services beside the daemon: fw4's file and dnsmasq's servers go by the state, and are
//! what they were when the router is open.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Scenario, connect};
use crate::house::at;
use crate::town::{LONG, SOON, Town};

pub(super) fn scenarios() -> Vec<(&'static str, Scenario)> {
    vec![("fw4's file and dnsmasq's servers follow the state, and are given back", follow)]
}

/// What is there for dnsmasq: None without vpnd's file.
fn servers(dir: &Path) -> Option<Vec<String>> {
    fs::metadata(dir.join("vpnd.conf")).ok()?;
    let text = fs::read_to_string(dir.join(".vpnd.servers")).ok()?;
    Some(text.lines().map(|line| line.trim_start_matches("server=").to_owned()).collect())
}

fn follow(town: &mut Town) -> Result<String> {
    let (config, dnsmasq) = (town.dir.join("config"), town.dir.join("dnsmasq.d"));
    town.config.write(&config)?;
    let dhcp = format!("config dnsmasq\n\toption confdir '{}'\n", dnsmasq.display());
    fs::write(config.join("dhcp"), dhcp)?;
    let firewall = config.join("firewall");
    let before = fs::read_to_string(&firewall)?;
    let closed = |text: &str| text.contains("'vpnd_closed_1'");
    let reads = || fs::read_to_string(&firewall).context("the firewall's file");
    let asks = |wanted: Option<&[&str]>| {
        let found = servers(&dnsmasq);
        let same = found.as_ref().map(|list| list.iter().map(String::as_str).collect::<Vec<_>>());
        same.as_deref() == wanted
    };
    town.does(&["setup"])?;
    let open = reads()?;
    ensure!(open.starts_with(&before) && open.contains("'vpnd_zone_1'"), "setup wrote: {open}");
    ensure!(!closed(&open), "closed while open: {open}");

    town.start_as_it_is()?;
    connect(town, "r1")?;
    town.until("fw4's file is closed", LONG, |_| Ok(closed(&reads()?)))?;
    town.until("dnsmasq asks inside the tunnel", LONG, |_| Ok(asks(Some(&at::RESOLVER))))?;
    // A setup at any time says the same.
    let said = town.does(&["setup"])?;
    ensure!(said.contains("nothing had to be changed"), "{said}");
    let refused = town.say(&["teardown"])?;
    ensure!(refused.code != 0 && refused.err.contains("armed"), "teardown: {}{}", refused.out, refused.err);

    town.does(&["lockdown", "on"])?;
    town.does(&["disconnect"])?;
    town.until("dnsmasq asks nobody", LONG, |_| Ok(asks(Some(&[]))))?;
    ensure!(closed(&reads()?), "lockdown opened fw4's file");
    // Open for a while is open in fw4, too; and closed again.
    town.does(&["disarm", "--yes", "--for", "15s"])?;
    town.until("both are given back for a while", SOON, |_| Ok(!closed(&reads()?) && asks(None)))?;
    town.until("both are taken again", LONG, |_| Ok(closed(&reads()?) && asks(Some(&[]))))?;

    town.does(&["disarm", "--yes"])?;
    town.until("both are given back", LONG, |_| Ok(!closed(&reads()?) && asks(None)))?;
    ensure!(reads()? == open, "disarmed: {}", reads()?);

    // With a dead daemon, the command does it.
    connect(town, "r1")?;
    town.until("closed again", LONG, |_| Ok(closed(&reads()?) && asks(Some(&at::RESOLVER))))?;
    town.kill()?;
    let said = town.does(&["disarm", "--yes"])?;
    ensure!(reads()? == open && asks(None), "disarm with a dead daemon: {said}{}", reads()?);
    town.does(&["teardown"])?;
    ensure!(reads()? == before, "teardown left: {}", reads()?);
    Ok("closed and asked inside while connected; the files were what they were in the end".to_owned())
}
