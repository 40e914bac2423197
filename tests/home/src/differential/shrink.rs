//! From a batch in which something differs to one packet, and to what matters in it.

use anyhow::Result;

use super::shot::{Origin, Shot};

/// `fails` fires packets at freshly loaded rules and says what differed.
///
/// # Errors
/// Those of `fails`.
pub fn to_one_packet(
    shots: &[(u32, Shot)],
    fault: String,
    fails: impl Fn(&[(u32, Shot)]) -> Result<Option<String>>,
) -> Result<String> {
    let mut left = shots.to_vec();
    let mut said = fault;
    while left.len() > 1 {
        let (first, second) = left.split_at(left.len() / 2);
        if let Some(fault) = fails(first)? {
            (left, said) = (first.to_vec(), fault);
        } else if let Some(fault) = fails(second)? {
            (left, said) = (second.to_vec(), fault);
        } else {
            return Ok(format!(
                "{said}\n  only when {} packets come together; it was {}",
                left.len(),
                named(&said, &left)
            ));
        }
    }
    let Some((serial, mut shot)) = left.pop() else { return Ok(said) };
    let mut going = true;
    while going {
        going = false;
        for simpler in simpler(&shot) {
            if let Some(fault) = fails(&[(serial, simpler.clone())])? {
                (shot, said, going) = (simpler, fault, true);
                break;
            }
        }
    }
    Ok(format!("{said}\n  one packet: {shot}"))
}

/// The packet whose serial number the fault tells, else the last.
fn named(said: &str, shots: &[(u32, Shot)]) -> String {
    let serial = said.strip_prefix("packet ").and_then(|rest| rest.split(':').next()?.parse().ok());
    let found = shots.iter().find(|(of, _)| Some(*of) == serial).or(shots.last());
    found.map(|(_, shot)| shot.to_string()).unwrap_or_default()
}

/// The packet with one thing less that is odd.
fn simpler(shot: &Shot) -> Vec<Shot> {
    let mut list = Vec::new();
    let mut with = |change: &dyn Fn(&mut Shot)| {
        let mut changed = shot.clone();
        change(&mut changed);
        if changed != *shot {
            list.push(changed);
        }
    };
    with(&|shot| shot.hops = 64);
    with(&|shot| {
        if let Origin::Router { mark, .. } = &mut shot.origin {
            *mark = 0;
        }
    });
    with(&|shot| {
        if let Origin::Router { device, .. } = &mut shot.origin {
            *device = None;
        }
    });
    with(&|shot| shot.transport.truncate(if shot.protocol == 6 { 20 } else { 8 }));
    with(&|shot| shot.become_protocol(17));
    for at in [0, 2] {
        with(&|shot| {
            if [6, 17].contains(&shot.protocol) {
                shot.set_port(at, 40_000);
            }
        });
    }
    for at in 4..shot.transport.len() {
        with(&|shot| shot.transport[at] = if shot.protocol == 6 && at == 12 { 0x50 } else { 0 });
    }
    list
}
