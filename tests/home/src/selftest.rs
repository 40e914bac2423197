//! The harness under test: a leak must be caught, a lost frame must be noticed, and rules without
//! a hole must raise no alarm.

use std::time::{Duration, SystemTime};

use anyhow::{Result, bail, ensure};
use vpnd::policy::Row;

use crate::classify::{Class, Tally, classify};
use crate::flood::Flood;
use crate::hand::{ByHand, Hole};
use crate::home::Home;
use crate::native::cells_in;
use crate::packets::{Kind, Marker, ethernet};
use crate::probes::{Case, Place, Step};
use crate::suite::Test;
use crate::vpnd::{Policy, uplink};
use crate::wire::{Capture, Take, transmit};

#[must_use]
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("harness: rules without a hole raise no alarm", sound_rules),
        Test::new("harness: a leaky rule is caught by probe and by frame", leaky_rules),
        Test::new("harness: flows that outlive the blocking are caught", old_flows),
        Test::new("harness: a lost control frame is noticed", lost_control),
        Test::new("harness: a capture that lost frames is noticed", lost_frames),
        Test::new("harness: commits of rules are heard of when they happen", commits),
    ]
}

fn commits() -> Result<String> {
    let ns = crate::ns::Netns::new("commits")?;
    let commits = crate::commits::Commits::watch(&ns)?;
    ensure!(commits.first("nft").is_err(), "a commit that nobody made");
    let before = SystemTime::now();
    ns.nft("add table inet one")?;
    // Who hears of it may be woken after nft has ended, but not this much later.
    std::thread::sleep(Duration::from_millis(100));
    let between = SystemTime::now();
    ns.nft("delete table inet one")?;
    let (first, last) = (commits.first("nft")?, commits.last("nft")?);
    ensure!(
        before <= first && first < between && between <= last,
        "{before:?} {first:?} {between:?} {last:?}"
    );
    ensure!(commits.first("vpnd").is_err(), "a commit by another program");
    Ok(String::new())
}

fn lan_to_internet(case: &Case) -> bool {
    case.row == Row::Default && case.seen == Place::Wan && matches!(case.steps.last(), Some(Step::Tv(_)))
}

fn sound_rules() -> Result<String> {
    let mut home = Home::build()?;
    let faults = cells_in(&mut home, Policy::Blocked, 0, &ByHand(Hole::None), lan_to_internet)?;
    ensure!(faults.is_empty(), "false alarms:\n  {}", faults.join("\n  "));
    let (tally, flown) = flooded(&home, Hole::None)?;
    ensure!(tally.unlisted() == 0, "false alarms: {:?}", tally.0);
    Ok(flown)
}

fn leaky_rules() -> Result<String> {
    let mut home = Home::build()?;
    let faults = cells_in(&mut home, Policy::Blocked, 0, &ByHand(Hole::LanUdp), lan_to_internet)?;
    // The probe's own verdict counts with its frame's: one fault per family, and nothing else.
    ensure!(faults.len() == 2, "expected the two leaks of UDP 9999, got {faults:?}");
    let (tally, _) = flooded(&home, Hole::LanUdp)?;
    ensure!(tally.unlisted() > 0, "a flood through a hole was not seen");
    Ok(format!("{} leaked frames of the flood seen", tally.unlisted()))
}

fn old_flows() -> Result<String> {
    let home = Home::build()?;
    let (tally, _) = flooded(&home, Hole::Established)?;
    ensure!(tally.unlisted() > 0, "flows from before were not seen to go on");
    Ok(format!("{} frames of old flows seen", tally.unlisted()))
}

/// A flood that begins while everything is open; the frames after the blocking, judged.
fn flooded(home: &Home, hole: Hole) -> Result<(Tally, String)> {
    home.enter(Policy::Open, 0, &ByHand(hole))?;
    let start = home.wan.position();
    let flood = Flood::start(&home.house, 500)?;
    std::thread::sleep(Duration::from_millis(500));
    home.load(&crate::vpnd::Rules::of(&ByHand(hole), Policy::Blocked, 0)?)?;
    let blocked = SystemTime::now() + IN_FLIGHT;
    std::thread::sleep(Duration::from_millis(500));
    let flown = flood.stop(&home.wan, start)?;
    let mut tally = Tally::default();
    let mut before = 0;
    for frame in home.wan.since(start) {
        if frame.at < blocked {
            before += 1;
        } else {
            tally.add(classify(&frame.bytes, frame.vlan, &[Policy::Blocked.state(0)], &uplink()));
        }
    }
    ensure!(before > 100, "only {before} frames left while open: no positive control");
    Ok((tally, flown.to_string()))
}

/// A packet that passed the hooks just before a transaction may still be in a queue.
pub const IN_FLIGHT: Duration = Duration::from_millis(20);

fn lost_control() -> Result<String> {
    let mut home = Home::build()?;
    home.enter(Policy::Blocked, 0, &ByHand(Hole::Mute))?;
    ensure!(home.control().is_err(), "a control frame that was dropped went unnoticed");
    let position = home.wan.position();
    let flood = Flood::start(&home.house, 200)?;
    std::thread::sleep(Duration::from_millis(200));
    ensure!(flood.stop(&home.wan, position).is_err(), "dropped control frames of a flood went unnoticed");
    Ok(String::new())
}

fn lost_frames() -> Result<String> {
    let home = Home::build()?;
    let small = Capture::with_buffer(&home.house.isp, "cpe", Take::Arriving, 4096)?;
    small.pause(true);
    let marker = Marker { kind: Kind::Control, id: 0, seq: 0 };
    let frame = ethernet([2, 0, 0, 0, 3, 2], [2, 0, 0, 0, 3, 1], 0x88b5, &marker.bytes());
    transmit(&home.house.router, "wan", (0..200).map(|_| &frame[..]))?;
    std::thread::sleep(Duration::from_millis(50));
    small.pause(false);
    let Err(error) = small.assert_complete() else { bail!("200 frames fitted into 4 KiB") };
    ensure!(home.wan.assert_complete().is_ok(), "the large capture lost frames too");
    let judged = classify(&frame, None, &[Policy::Blocked.state(0)], &uplink());
    ensure!(matches!(judged, Class::Unlisted(_)), "a frame of an unknown type was listed");
    Ok(error.to_string())
}
