//! A steady stream of questions from the tv, and what its answers say: by which way they went,
//! and when.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, anyhow};

use crate::house::{House, MAC_ROUTER_LAN, MAC_TV, at, ip};
use crate::packets::{Body, Kind, Marker, Packet, Seen, ethernet};
use crate::services::ECHO;
use crate::wire::{Capture, Frame, Sender, Take};

/// Between two questions.
pub const EVERY: Duration = Duration::from_millis(5);
/// So many flows take turns; an answer belongs to its flow's latest question.
const FLOWS: u32 = 100;
const FIRST_PORT: u16 = 20_000;

/// A running stream.
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    /// Of each flow's latest question.
    times: Arc<Mutex<BTreeMap<u16, SystemTime>>>,
    sender: Option<JoinHandle<Result<()>>>,
    tv: Capture,
    internet: Capture,
}

/// Something seen, and by which way it went.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    pub at: SystemTime,
    /// Whom the internet sees.
    pub exit: IpAddr,
}

impl Stream {
    /// # Errors
    /// When a capture or the sender cannot be made.
    pub fn start(house: &House) -> Result<Self> {
        let tv = Capture::start(&house.tv, "eth0", Take::Arriving)?;
        let internet = Capture::start(&house.internet, "eth0", Take::Arriving)?;
        let stop: Arc<AtomicBool> = Arc::default();
        let sent: Arc<AtomicU32> = Arc::default();
        let times: Arc<Mutex<BTreeMap<u16, SystemTime>>> = Arc::default();
        let socket = house.tv.enter(|| Sender::here("eth0"))?;
        let thread = {
            let (stop, sent, times) = (Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&times));
            std::thread::spawn(move || ask_on(&socket, &stop, &sent, &times))
        };
        Ok(Self { stop, sent, times, sender: Some(thread), tv, internet })
    }

    #[must_use]
    pub fn sent(&self) -> u32 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Forgets what was seen so far.
    pub fn clear(&self) {
        self.tv.clear();
        self.internet.clear();
    }

    /// Waits for an answer by way of `exit`, and says when it came.
    #[must_use]
    pub fn first_by(&self, exit: IpAddr, limit: Duration) -> Option<SystemTime> {
        let by = |f: &Frame| answer(f).is_some_and(|(_, seen)| seen == exit);
        self.tv.wait(0, limit, by).map(|f| f.at)
    }

    /// Answers that reached the tv.
    #[must_use]
    pub fn answers(&self) -> Vec<Sight> {
        let frames = self.tv.since(0);
        frames.iter().filter_map(|f| answer(f).map(|(_, exit)| Sight { at: f.at, exit })).collect()
    }

    /// Questions that reached the internet host.
    #[must_use]
    pub fn questions(&self) -> Vec<Sight> {
        let frames = self.internet.since(0);
        frames.iter().filter_map(|f| question(f).map(|exit| Sight { at: f.at, exit })).collect()
    }

    /// Round trips of the latest answers, over all flows.
    #[must_use]
    pub fn round_trips(&self) -> Vec<Duration> {
        std::thread::sleep(EVERY * FLOWS / 2);
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let frames = self.tv.since(0);
        let mut trips = Vec::new();
        for frame in frames {
            let Some((port, _)) = answer(&frame) else { continue };
            let Some(trip) = times.get(&port).and_then(|sent| frame.at.duration_since(*sent).ok()) else {
                continue;
            };
            if trip < EVERY * FLOWS / 2 {
                trips.push(trip);
            }
        }
        trips
    }

    /// # Errors
    /// When a capture lost frames or the sender failed.
    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(sender) = self.sender.take() {
            sender.join().map_err(|_| anyhow!("the stream's thread panicked"))??;
        }
        self.tv.assert_complete()?;
        self.internet.assert_complete()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
    }
}

fn ask_on(
    socket: &Sender,
    stop: &AtomicBool,
    sent: &AtomicU32,
    times: &Mutex<BTreeMap<u16, SystemTime>>,
) -> Result<()> {
    let start = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let n = sent.load(Ordering::SeqCst);
        let due = EVERY * n;
        if let Some(early) = due.checked_sub(start.elapsed()) {
            std::thread::sleep(early);
        }
        let port = FIRST_PORT + (n % FLOWS) as u16;
        let packet = Packet::new(ip(at::TV[0]), ip(at::INTERNET[0]), Body::Udp { from: port, to: ECHO });
        let marker = Marker { kind: Kind::Probe, id: 1, seq: n };
        let frame = ethernet(MAC_ROUTER_LAN, MAC_TV, 0x0800, &packet.bytes(marker));
        times.lock().unwrap_or_else(PoisonError::into_inner).insert(port, SystemTime::now());
        socket.send(&frame)?;
        sent.store(n + 1, Ordering::SeqCst);
    }
    Ok(())
}

fn parsed(frame: &Frame) -> Option<Seen> {
    frame.bytes.get(14..).and_then(Seen::parse).filter(|seen| seen.proto == 17)
}

/// The question's port, and whom the internet saw.
fn answer(frame: &Frame) -> Option<(u16, IpAddr)> {
    let seen = parsed(frame)?;
    let (from, to) = seen.ports?;
    let text = std::str::from_utf8(seen.payload.get(8..)?).ok()?;
    (from == ECHO && seen.from == ip(at::INTERNET[0])).then_some((to, text.parse().ok()?))
}

fn question(frame: &Frame) -> Option<IpAddr> {
    let seen = parsed(frame)?;
    (seen.ports?.1 == ECHO && frame.marker.is_some()).then_some(seen.from)
}

/// The time without any sight, from the last one before the way changed to `next`.
#[must_use]
pub fn gap(sights: &[Sight], next: IpAddr) -> Option<Duration> {
    let first = sights.iter().position(|s| s.exit == next)?;
    let last = sights.get(first.checked_sub(1)?)?;
    sights.get(first)?.at.duration_since(last.at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_around_the_first_sight_of_the_next_way() {
        let start = SystemTime::UNIX_EPOCH;
        let sight = |ms, exit: &str| Sight { at: start + Duration::from_millis(ms), exit: ip(exit) };
        let sights =
            [sight(0, "10.0.0.1"), sight(5, "10.0.0.1"), sight(30, "10.0.0.2"), sight(35, "10.0.0.2")];
        assert_eq!(gap(&sights, ip("10.0.0.2")), Some(Duration::from_millis(25)));
        assert_eq!(gap(&sights, ip("10.0.0.1")), None);
        assert_eq!(gap(&sights, ip("10.0.0.3")), None);
    }
}
