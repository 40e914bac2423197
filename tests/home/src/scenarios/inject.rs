//! Each netlink call of the daemon, and of the nft it runs, fails once: the former policy stays,
//! nothing unlisted leaves, and the daemon still gets where it is wanted.

use std::fs;

use anyhow::{Result, ensure};

use super::{Way, blocked, expect};
use crate::flood::Flood;
use crate::town::{LONG, Town};

/// A kind of system call and the error it is made to end with (strace's `inject`).
pub(crate) struct Call {
    pub name: &'static str,
    calls: &'static str,
    error: &'static str,
}

pub(crate) const CALLS: [&Call; 2] = [
    &Call { name: "netlink request", calls: "sendto,sendmsg", error: "ENOBUFS" },
    &Call { name: "netlink answer", calls: "recvfrom,recvmsg", error: "EIO" },
];

/// More calls than a daemon makes on its way to a tunnel; the test ends before.
const MOST: u32 = 400;

/// Fails the calls one after the other, each with a daemon of its own that starts on a router
/// which is armed, blocked by the boot policy and wants a tunnel. In a shorter run (`HOME_ALL`
/// unset) every `STRIDE`th, which ones by the seed.
pub(crate) fn each(town: &mut Town, call: &Call, seed: u64) -> Result<String> {
    const STRIDE: u32 = 9;
    let stride = if std::env::var_os("HOME_ALL").is_some() { 1 } else { STRIDE };
    let mut failed = 0;
    let mut flown = 0;
    let mut number = 1 + (seed % u64::from(stride)) as u32;
    while number < MOST {
        let (struck, sent) = once(town, call, number)?;
        if !struck {
            ensure!(failed > 0, "not one call was made to fail");
            return Ok(format!("{failed} calls failed, one a start; {flown} LAN packets flew meanwhile"));
        }
        failed += 1;
        flown += sent;
        number += stride;
    }
    anyhow::bail!("the daemon makes more than {MOST} calls before it is connected")
}

/// Whether call `number` was reached, and how many LAN packets flew.
fn once(town: &mut Town, call: &Call, number: u32) -> Result<(bool, u32)> {
    town.fresh()?;
    town.config.write(&town.dir.join("config"))?;
    fs::create_dir_all(town.dir.join("state"))?;
    fs::write(town.dir.join("state/wanted.json"), r#"{"connect":true,"relay":null,"lockdown":null}"#)?;
    fs::write(town.dir.join("state/armed"), "")?;
    town.does(&["block"])?;
    let log = town.dir.join("strace");
    town.wrapper = ["strace", "-D", "-f", "-qq", "-o"].map(str::to_owned).to_vec();
    town.wrapper.extend([
        log.display().to_string(),
        format!("--trace={}", call.calls),
        format!("--inject={}:error={}:when={number}", call.calls, call.error),
    ]);
    let position = town.wan.position();
    let flood = Flood::start(&town.house, 100)?;
    let arrived = town.start_as_it_is().and_then(|()| town.until_word("connected", LONG));
    let struck = fs::read_to_string(&log).unwrap_or_default().contains("(INJECTED)");
    let flown = flood.stop(&town.wan, position)?;
    let context = || format!("{} number {number}", call.name);
    arrived.map_err(|error| error.context(context()))?;
    town.judged(position, &[town.tunnelled(), blocked()].concat()).map_err(|e| e.context(context()))?;
    if struck {
        let rules = town.house.router.run("nft", &["list", "table", "inet", "vpnd"])?;
        ensure!(rules.contains("state_connected"), "{}: connected, but the table says otherwise", context());
    } else {
        expect(&town.house.tv, Way::Relay(0))?;
    }
    Ok((struck, flown.lan))
}
