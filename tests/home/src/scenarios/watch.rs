//! Somebody else changes vpnd's rules, barrier, settings or device: undone at once, and told.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::barrier::{lan_frames, router_frames};
use super::{Scenario, Way, connected, expect};
use crate::flood::Flood;
use crate::town::{LONG, Town};

pub(crate) fn scenarios() -> Vec<(&'static str, Scenario)> {
    vec![
        ("what others change of rules, barrier and settings is put back at once, and told", each),
        ("fw4 reload, restart, stop and flush, with and without a flowtable", fw4),
        ("the tunnel device deleted, set down or without addresses is built anew, and told", device),
    ]
}

/// Packets a second: what an emulated machine can bear beside the repairs.
const FLOOD: u32 = 20;
const FW4: &str = include_str!("../../fixtures/fw4");
const FW4_RULES: &str = include_str!("../../fixtures/fw4-home.nft");
const NETIFD: &str = include_str!("../../fixtures/netifd");

/// The stand-ins, as files beside the daemon's.
fn stand_ins(town: &Town) -> Result<(String, String)> {
    for (name, text) in [("fw4", FW4), ("fw4-home.nft", FW4_RULES), ("netifd", NETIFD)] {
        fs::write(town.dir.join(name), text)?;
    }
    let path = |name| format!("sh {}", town.dir.join(name).display());
    Ok((path("fw4"), path("netifd")))
}

fn hash(town: &Town) -> Result<String> {
    let status = town.status()?;
    Ok(status["kernel"]["rules"]["hash"].as_str().unwrap_or_default().to_owned())
}

fn last(town: &Town) -> Result<serde_json::Value> {
    incidents(town)?;
    Ok(town.status()?["daemon"]["status"]["incidents"][0].clone())
}

fn incidents(town: &Town) -> Result<u64> {
    // While it mends on an emulated machine, the daemon may not answer in time.
    let end = Instant::now() + LONG;
    loop {
        match town.status()?["daemon"]["status"]["incident_count"].as_u64() {
            None if Instant::now() < end => {}
            count => return count.context("no incident_count"),
        }
    }
}

/// Runs `words`, and waits until it is told that this was put back; milliseconds, and what was said.
fn undone(town: &Town, words: &str, what: &str) -> Result<String> {
    // A repair is followed by a pause.
    std::thread::sleep(Duration::from_secs(1));
    let (wanted, before) = (hash(town)?, incidents(town)?);
    let start = Instant::now();
    town.house.router.run("sh", &["-ec", words])?;
    town.until(&format!("it is told: {words}"), LONG, |town| Ok(incidents(town)? > before))?;
    let took = start.elapsed();
    town.until("the same rules are in force", LONG, |town| Ok(hash(town)? == wanted))?;
    let last = last(town)?;
    let said = last["what"].as_str().unwrap_or_default();
    ensure!(said.contains(what), "{words}: {last:#}");
    ensure!(last["error"].is_null() && last["mended_ms"].is_u64(), "{words}: {last:#}");
    ensure!(!words.starts_with("nft") || last["process"] == "nft", "{words}: {last:#}");
    Ok(format!("{said}: {} ms (told after {})", last["mended_ms"], took.as_millis()))
}

fn each(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let (fw4, netifd) = stand_ins(town)?;
    let position = town.wan.position();
    let flood = Flood::start(&town.house, FLOOD)?;
    let set = |name: &str, value| format!("echo {value} >/proc/sys/net/ipv4/conf/{name}");
    let chain = "nft \"flush chain inet vpnd forward; delete chain inet vpnd forward\"";
    let mut told = Vec::new();
    for (words, what) in [
        ("nft flush ruleset".to_owned(), "was deleted"),
        ("nft delete table inet vpnd".to_owned(), "was deleted"),
        (chain.to_owned(), "a chain"),
        ("nft insert rule inet vpnd forward accept".to_owned(), "a rule was put into"),
        ("nft add table inet vpnd \"{ flags dormant; }\"".to_owned(), "switched off"),
        (format!("{netifd} flush-rules"), "rule"),
        ("ip -6 rule del pref 199".to_owned(), "rule 199"),
        ("ip route flush table 7652".to_owned(), "route"),
        (set("all/arp_ignore", "0"), "arp_ignore"),
        (set("all/arp_announce", "0"), "arp_announce"),
        (set("all/src_valid_mark", "0"), "src_valid_mark"),
        (set("wan/rp_filter", "1"), "rp_filter"),
    ] {
        told.push(undone(town, &words, what)?);
        town.house.router.run("sh", &["-ec", &format!("{fw4} start")])?;
    }
    let flown = flood.stop(&town.wan, position)?;
    let (lan, router) = (lan_frames(town, position), router_frames(town, position));
    ensure!(lan == 0 && router == 0, "{lan} frames of the LAN and {router} of the router left in plaintext");
    town.until_word("connected", LONG)?;
    expect(&town.house.tv, Way::Relay(0))?;
    Ok(format!("{}; {flown}", told.join("; ")))
}

fn fw4(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let (fw4, _) = stand_ins(town)?;
    let wanted = hash(town)?;
    let mut told = Vec::new();
    for offload in ["", "FW4_OFFLOAD=1 "] {
        let position = town.wan.position();
        let flood = Flood::start(&town.house, FLOOD)?;
        for verb in ["start", "reload", "restart", "stop", "start"] {
            town.house.router.run("sh", &["-ec", &format!("{offload}{fw4} {verb}")])?;
        }
        ensure!(hash(town)? == wanted, "fw4 touched the rules");
        ensure!(incidents(town)? == told.len() as u64, "what fw4 does to its own table is an incident");
        told.push(undone(town, &format!("{offload}{fw4} flush"), "was deleted")?);
        town.house.router.run("sh", &["-ec", &format!("{offload}{fw4} start")])?;
        let flown = flood.stop(&town.wan, position)?;
        let (lan, router) = (lan_frames(town, position), router_frames(town, position));
        ensure!(lan == 0 && router == 0, "{offload}{lan} frames of the LAN, {router} of the router; {flown}");
        expect(&town.house.tv, Way::Relay(0))?;
    }
    Ok(told.join("; "))
}

fn device(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let position = town.wan.position();
    for words in ["ip link del vpnd0", "ip link set vpnd0 down", "ip addr flush dev vpnd0 scope global"] {
        let before = incidents(town)?;
        town.house.router.run("sh", &["-ec", words])?;
        town.until(words, LONG, |town| Ok(incidents(town)? > before))?;
        let last = last(town)?;
        ensure!(last["what"].as_str().is_some_and(|what| what.contains("vpnd0")), "{words}: {last:#}");
        town.until_word("connected", LONG)?;
        expect(&town.house.tv, Way::Relay(0))?;
    }
    town.judged(position, &town.tunnelled_or_blocked())?;
    Ok(String::new())
}
