//! The probe task: verifies the tunnel, then watches it.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::pinger::Pinger;
use super::{Liveness, Step, stats};
use crate::alarm::Alarm;

/// Between two requests until the first answer. WireGuard holds a packet back until the handshake
/// is done, so the first one is answered one round trip after it; the others are for losses.
const VERIFY: Duration = Duration::from_millis(250);
/// Bytes: the smallest.
const SMALL: usize = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeEvent {
    /// An echo request sent inside the tunnel was answered. Once.
    Answered { rtt: Duration, from: IpAddr },
    /// The tunnel that once answered carries nothing any more. Once, and the last.
    Silent,
}

/// Sends echo requests to all `targets` through the tunnel device until one answers, then watches
/// the device until it is dead; see [`Liveness`] for the times. Never gives up before the first
/// answer: how long to try is the machine's to decide. Ends after [`ProbeEvent::Silent`] or when
/// nobody listens; dropping it leaves nothing behind.
pub async fn probe(targets: Vec<IpAddr>, events: mpsc::Sender<ProbeEvent>) {
    let mut pinger = Pinger::new();
    let answered = tokio::select! {
        event = verify(&mut pinger, &targets) => event,
        () = events.closed() => return,
    };
    if events.send(answered).await.is_err() {
        return;
    }
    tokio::select! {
        () = watch(&mut pinger, &targets) => {}
        () = events.closed() => return,
    }
    // Nobody listening is as good as said.
    let _ = events.send(ProbeEvent::Silent).await;
}

async fn verify(pinger: &mut Pinger, targets: &[IpAddr]) -> ProbeEvent {
    // tokio's `interval` takes a division of 128-bit numbers along: 1.3 KB of the package.
    let mut due = Instant::now();
    loop {
        tokio::select! {
            biased;
            answer = pinger.answer() => {
                return ProbeEvent::Answered { rtt: answer.rtt, from: answer.from };
            }
            () = sleep_until(due) => {
                due = Instant::now() + VERIFY;
                ping_all(pinger, targets).await;
            }
        }
    }
}

/// Returns when the tunnel is dead.
async fn watch(pinger: &mut Pinger, targets: &[IpAddr]) {
    let start = Instant::now();
    let (rx, tx) = counters().flatten().unwrap_or_default();
    let mut live = Liveness::new(Duration::ZERO, rx, tx);
    let (mut alarm, mut due) = (Alarm::new(), Instant::now());
    loop {
        tokio::select! {
            // After a late wake-up the answer that lies there counts before the time does.
            biased;
            _ = pinger.answer() => live.answered(start.elapsed()),
            () = alarm.after(due.saturating_duration_since(Instant::now())) => {
                // A device that is gone will not come back as this tunnel.
                let Some(counters) = counters() else { return };
                match live.poll(start.elapsed(), counters) {
                    Step::Wait => {}
                    Step::Ping => ping_all(pinger, targets).await,
                    Step::Dead => return,
                }
                due = Instant::now() + live.wait();
            }
        }
    }
}

/// Received and sent bytes; outer None: no device; inner None: they could not be read.
fn counters() -> Option<Option<(u64, u64)>> {
    match stats() {
        Ok(None) => None,
        Ok(Some(stats)) => Some(Some((stats.rx, stats.tx))),
        Err(_) => Some(None),
    }
}

async fn ping_all(pinger: &mut Pinger, targets: &[IpAddr]) {
    for target in targets {
        pinger.send(*target, SMALL).await;
    }
}
