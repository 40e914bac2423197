//! When a tunnel that once answered is doubted, and when it is dead. Pure: fed with the time, the
//! device's counters and answers.

use std::time::Duration;

/// How often the counters are read. This and the other times are those of Mullvad's app
/// (talpid-wireguard, connectivity/constants.rs), which proved them on many lines.
pub const POLL: Duration = Duration::from_secs(1);
/// And where nothing moved and nothing is asked: a router's processor is to sleep. What is sent
/// then is noticed so much later.
pub const IDLE_POLL: Duration = Duration::from_secs(10);
/// Something was sent and no data came for this long: ask.
const UNANSWERED: Duration = Duration::from_secs(5);
/// Neither sent nor received anything for this long: ask.
const QUIET: Duration = Duration::from_secs(120);
/// Between two requests while asking.
const PING: Duration = Duration::from_secs(3);
/// Asked for this long without an answer: dead.
const DEAD: Duration = Duration::from_secs(15);
/// A poll came so much late (a stalled router, a stopped process): nothing can be said of the time
/// meanwhile.
const STALL: Duration = Duration::from_secs(5);

/// What the kernel counts as received or sent although no data moved (WireGuard's message sizes,
/// drivers/net/wireguard/messages.h).
const INITIATION: u64 = 148;
const RESPONSE: u64 = 92;
const KEEPALIVE: u64 = 32;

/// What to do after a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Wait,
    /// Send an echo request to every target.
    Ping,
    /// Nothing answers any more. Said once; afterwards [`Step::Wait`].
    Dead,
}

/// Times are since any fixed point of a clock that never jumps.
#[derive(Debug, Clone)]
pub struct Liveness {
    polled: Duration,
    /// Until the next poll.
    wait: Duration,
    rx: u64,
    tx: u64,
    /// Data or an answer came last.
    heard: Duration,
    /// The first data sent after `heard`.
    unanswered: Option<Duration>,
    asking: Option<Asking>,
    /// An answer came since the last poll: what was sent before it needs none any more.
    answered: bool,
    dead: bool,
}

#[derive(Debug, Clone, Copy)]
struct Asking {
    since: Duration,
    last: Duration,
}

impl Liveness {
    /// A tunnel that was just seen to answer.
    #[must_use]
    pub fn new(now: Duration, rx: u64, tx: u64) -> Self {
        Self {
            polled: now,
            wait: POLL,
            rx,
            tx,
            heard: now,
            unanswered: None,
            asking: None,
            answered: false,
            dead: false,
        }
    }

    /// An echo request was answered.
    pub fn answered(&mut self, now: Duration) {
        self.hear(now);
        self.answered = true;
    }

    /// The counters as they are now; None where they cannot be read (then only answers count, and
    /// they are asked for).
    pub fn poll(&mut self, now: Duration, counters: Option<(u64, u64)>) -> Step {
        if self.dead {
            return Step::Wait;
        }
        let (rx, tx) = counters.unwrap_or((self.rx, self.tx));
        // A new peer counts from 0.
        let (received, sent) = (rx.saturating_sub(self.rx), tx.saturating_sub(self.tx));
        let stalled = now.saturating_sub(self.polled) >= self.wait + STALL;
        (self.polled, self.rx, self.tx) = (now, rx, tx);
        if stalled || is_data_received(received) {
            self.hear(now);
        } else if !self.answered && (counters.is_none() || is_data_sent(sent)) {
            self.unanswered.get_or_insert(now);
        }
        self.answered = false;
        let step = self.step(now);
        let idle = received == 0 && sent == 0 && self.unanswered.is_none() && self.asking.is_none();
        self.wait = if idle && counters.is_some() { IDLE_POLL } else { POLL };
        step
    }

    /// When to poll again, after a poll.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.wait
    }

    fn hear(&mut self, now: Duration) {
        self.heard = now;
        self.unanswered = None;
        self.asking = None;
    }

    fn step(&mut self, now: Duration) -> Step {
        let since = |then: Duration| now.saturating_sub(then);
        match self.asking {
            None => {
                let doubt = match self.unanswered {
                    Some(sent) => since(sent) >= UNANSWERED,
                    None => since(self.heard) >= QUIET,
                };
                if !doubt {
                    return Step::Wait;
                }
                self.asking = Some(Asking { since: now, last: now });
                Step::Ping
            }
            Some(asking) if since(asking.since) >= DEAD => {
                self.dead = true;
                Step::Dead
            }
            Some(asking) if since(asking.last) >= PING => {
                self.asking = Some(Asking { last: now, ..asking });
                Step::Ping
            }
            Some(_) => Step::Wait,
        }
    }
}

/// Whether `bytes` more sent within one poll hold data. One handshake message and one keepalive
/// may be among them. A data message is a multiple of 16 and at least 64, so data alone is never
/// mistaken; handshakes that are mistaken for data cost a ping.
fn is_data_sent(bytes: u64) -> bool {
    !explained(bytes, 1, 1)
}

/// Whether `bytes` more received within one poll hold data. Must not be fooled by a relay that
/// only completes handshakes, so it allows for two of each handshake message (a poll may be late)
/// and three keepalives (or cookie replies of 64, where a kernel counts them). Data that is
/// mistaken for those costs a ping, and that is answered.
fn is_data_received(bytes: u64) -> bool {
    !explained(bytes, 2, 3)
}

/// Whether `bytes` is a sum of at most `handshakes` initiations, as many responses (together one
/// where that is 1), and `keepalives`.
fn explained(bytes: u64, handshakes: u64, keepalives: u64) -> bool {
    (0..=handshakes).any(|initiations| {
        let responses = if handshakes == 1 { 1 - initiations } else { handshakes };
        (0..=responses).any(|responses| {
            (0..=keepalives).any(|keepalives| {
                bytes == initiations * INITIATION + responses * RESPONSE + keepalives * KEEPALIVE
            })
        })
    })
}

#[cfg(test)]
mod tests;
