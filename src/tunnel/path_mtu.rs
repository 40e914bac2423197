//! Finds the packet size that the path to the relay really carries.
//!
//! WireGuard's outer packets may be fragmented (the kernel sends them without DF), so a path with
//! a smaller MTU still works, unless somebody on it drops fragments or the ICMP errors that tell
//! of the size: then large packets vanish and small ones live. Nobody reports it, so it is asked.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::pinger::Pinger;
use super::{MIN_MTU_V4, MIN_MTU_V6};

/// How long the full size has to be answered.
const FULL: Duration = Duration::from_secs(2);
/// Between two requests of the full size, and two rounds over the ladder.
const ROUND: Duration = Duration::from_millis(400);
/// Between two requests of a round: a burst might be lost for being one.
const PACE: Duration = Duration::from_millis(5);
const ROUNDS: u32 = 3;
/// How long the last round may be answered.
const LAST: Duration = Duration::from_millis(1500);
/// Bytes between two sizes that are tried: WireGuard pads what is smaller than the device's MTU
/// to a multiple of 16, so no size in between can be told apart (drivers/net/wireguard/send.c).
const STEP: u32 = 16;

/// The largest size in bytes, smaller than `current`, that `target` (a host inside the tunnel)
/// answers, when it does not answer `current` but small packets; None when there is nothing to
/// change or nothing can be told. Ends within 5 s; at once when the full size is answered.
pub async fn find_mtu(target: IpAddr, current: u32) -> Option<u32> {
    let mut pinger = Pinger::new();
    let floor = if target.is_ipv4() { MIN_MTU_V4 } else { MIN_MTU_V6 };
    if current <= floor || !only_small_lives(&mut pinger, target, current).await {
        return None;
    }
    let sizes = ladder(floor, current);
    let mut best = floor;
    for round in 0..ROUNDS {
        for &size in &sizes {
            if size > best {
                pinger.send(target, bytes(size)).await;
                collect(&mut pinger, Instant::now() + PACE, current, &mut best).await?;
            }
        }
        let wait = if round + 1 == ROUNDS { LAST } else { ROUND };
        collect(&mut pinger, Instant::now() + wait, current, &mut best).await?;
        if sizes.get(1) == Some(&best) {
            break;
        }
    }
    Some(best)
}

/// Sizes to try, the largest first: `current` once more, as it may only have been lost.
fn ladder(floor: u32, current: u32) -> Vec<u32> {
    let mut sizes = vec![current];
    let mut size = current.saturating_sub(1) / STEP * STEP;
    while size > floor {
        sizes.push(size);
        size -= STEP;
    }
    sizes.push(floor);
    sizes
}

/// True when a small packet was answered and none of the full size within [`FULL`].
async fn only_small_lives(pinger: &mut Pinger, target: IpAddr, current: u32) -> bool {
    let end = Instant::now() + FULL;
    let mut small = false;
    loop {
        pinger.send(target, bytes(current)).await;
        pinger.send(target, 0).await;
        let round = (Instant::now() + ROUND).min(end);
        while let Ok(answer) = timeout_at(round, pinger.answer()).await {
            if answer.size == bytes(current) {
                return false;
            }
            small = true;
        }
        if Instant::now() >= end {
            return small;
        }
    }
}

/// Takes answers until `end`. None: the full size was answered after all (a slow line).
async fn collect(pinger: &mut Pinger, end: Instant, current: u32, best: &mut u32) -> Option<()> {
    while let Ok(answer) = timeout_at(end, pinger.answer()).await {
        let size = u32::try_from(answer.size).unwrap_or(0);
        if size >= current {
            return None;
        }
        *best = size.max(*best);
    }
    Some(())
}

fn bytes(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_goes_down_to_the_floor() {
        assert_eq!(ladder(1280, 1340), [1340, 1328, 1312, 1296, 1280]);
        assert_eq!(ladder(1280, 1281), [1281, 1280]);
        assert_eq!(ladder(1280, 1328), [1328, 1312, 1296, 1280]);
        assert_eq!(ladder(576, 1420).len(), 54);
    }
}
