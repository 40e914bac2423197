//! When a tunnel that once answered is doubted, and when it is dead. Pure: fed with the time, the
//! device's counters and answers.

use std::time::Duration;

/// How often the counters are read. This and the other times are those of Mullvad's app
/// (talpid-wireguard, connectivity/constants.rs), which proved them on many lines.
pub const POLL: Duration = Duration::from_secs(1);
/// Something was sent and no data came for this long: ask.
const UNANSWERED: Duration = Duration::from_secs(5);
/// Neither sent nor received anything for this long: ask.
const QUIET: Duration = Duration::from_secs(120);
/// Between two requests while asking.
const PING: Duration = Duration::from_secs(3);
/// Asked for this long without an answer: dead.
const DEAD: Duration = Duration::from_secs(15);
/// The loop was asleep for this long (a stalled router, a stopped process): nothing can be said
/// of the time meanwhile.
const STALL: Duration = Duration::from_secs(6);

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
        Self { polled: now, rx, tx, heard: now, unanswered: None, asking: None, answered: false, dead: false }
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
        let stalled = now.saturating_sub(self.polled) >= STALL;
        (self.polled, self.rx, self.tx) = (now, rx, tx);
        if stalled || is_data_received(received) {
            self.hear(now);
        } else if !self.answered && (counters.is_none() || is_data_sent(sent)) {
            self.unanswered.get_or_insert(now);
        }
        self.answered = false;
        self.step(now)
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
mod tests {
    use super::*;

    /// Seconds at which something other than Wait was said, over a line that behaves as `line`
    /// says: for each second (bytes received, bytes sent, whether a ping is answered at once).
    fn watch(seconds: u64, line: impl Fn(u64) -> (u64, u64, bool)) -> Vec<(u64, Step)> {
        let at = Duration::from_secs;
        let mut live = Liveness::new(at(0), 0, 0);
        let (mut rx, mut tx) = (0, 0);
        let mut said = Vec::new();
        for second in 1..=seconds {
            let (received, sent, answers) = line(second);
            rx += received;
            tx += sent;
            let step = live.poll(at(second), Some((rx, tx)));
            if step != Step::Wait {
                said.push((second, step));
            }
            if step == Step::Ping {
                tx += 80;
                if answers {
                    rx += 80;
                    live.answered(at(second) + Duration::from_millis(50));
                }
            }
        }
        said
    }

    /// Pings from `first` on every 3 s, dead 15 s after the first.
    fn dies(first: u64) -> Vec<(u64, Step)> {
        let mut said: Vec<_> = (0..5).map(|n| (first + 3 * n, Step::Ping)).collect();
        said.push((first + 15, Step::Dead));
        said
    }

    #[test]
    fn a_busy_line_is_never_asked() {
        assert_eq!(watch(600, |_| (1452, 1452, false)), []);
        assert_eq!(watch(600, |_| (1452, 0, false)), [], "a download with rare acknowledgements");
    }

    #[test]
    fn a_relay_that_goes_silent_is_dead_20_seconds_after_the_first_lost_packet() {
        assert_eq!(watch(100, |s| if s < 30 { (500, 500, true) } else { (0, 500, false) }), dies(35));
    }

    #[test]
    fn a_relay_that_only_completes_handshakes_is_dead() {
        // A handshake every 5 s and its keepalive, our data going nowhere.
        let line =
            |s| if s % 5 == 0 { (RESPONSE + KEEPALIVE, INITIATION + 500, false) } else { (0, 500, false) };
        assert_eq!(watch(60, line), dies(6));
        // The same from a relay that starts handshakes itself, twice in one late poll.
        let line = |s| {
            if s % 10 == 0 { (2 * INITIATION + 2 * RESPONSE, 500, false) } else { (KEEPALIVE, 500, false) }
        };
        assert_eq!(watch(60, line), dies(6));
    }

    #[test]
    fn one_way_out_is_dead_and_one_way_in_is_alive() {
        assert_eq!(watch(60, |_| (0, 96, false)), dies(6));
        assert_eq!(watch(600, |_| (128, 0, false)), []);
    }

    #[test]
    fn a_quiet_line_is_asked_every_two_minutes() {
        let said = watch(500, |_| (0, 0, true));
        assert_eq!(said, [(120, Step::Ping), (241, Step::Ping), (362, Step::Ping), (483, Step::Ping)]);
    }

    #[test]
    fn a_quiet_line_that_died_is_found() {
        assert_eq!(watch(200, |_| (0, 0, false)), dies(120));
    }

    #[test]
    fn keepalives_alone_are_quiet() {
        let said = watch(300, |s| if s % 10 == 0 { (32, 32, true) } else { (0, 0, true) });
        assert_eq!(said, [(120, Step::Ping), (241, Step::Ping)]);
    }

    #[test]
    fn data_that_comes_while_asking_saves_it() {
        let said = watch(40, |s| (if s >= 15 { 1000 } else { 0 }, 100, false));
        assert_eq!(said, [(6, Step::Ping), (9, Step::Ping), (12, Step::Ping)]);
    }

    #[test]
    fn dead_is_said_once() {
        assert_eq!(watch(1000, |_| (0, 100, false)).iter().filter(|s| s.1 == Step::Dead).count(), 1);
    }

    #[test]
    fn a_late_answer_counts_for_what_was_sent_before_it() {
        let at = Duration::from_secs;
        let mut live = Liveness::new(at(0), 0, 0);
        for second in 1..120 {
            assert_eq!(live.poll(at(second), Some((0, 0))), Step::Wait);
        }
        assert_eq!(live.poll(at(120), Some((0, 0))), Step::Ping);
        assert_eq!(live.poll(at(121), Some((0, 80))), Step::Wait);
        live.answered(at(121) + Duration::from_millis(500));
        for second in 122..241 {
            assert_eq!(live.poll(at(second), Some((80, 80))), Step::Wait, "{second}");
        }
    }

    #[test]
    fn a_stalled_loop_starts_anew() {
        let at = Duration::from_secs;
        let mut live = Liveness::new(at(0), 0, 0);
        for second in 1..=19 {
            live.poll(at(second), Some((0, 100 * second)));
        }
        // One second short of dead; then the router slept.
        assert_eq!(live.poll(at(25), Some((0, 2000))), Step::Wait);
        for second in 26..31 {
            assert_eq!(live.poll(at(second), Some((0, 80 * second))), Step::Wait);
        }
        assert_eq!(live.poll(at(31), Some((0, 9999))), Step::Ping);
        // Less than a stall is no excuse.
        let mut live = Liveness::new(at(0), 0, 0);
        let said: Vec<_> = (1..6).map(|n| live.poll(at(5 * n), Some((0, 1000 * n)))).collect();
        assert_eq!(said, [Step::Wait, Step::Ping, Step::Ping, Step::Ping, Step::Dead]);
    }

    #[test]
    fn counters_of_a_new_peer_and_unreadable_ones_prove_nothing() {
        let at = Duration::from_secs;
        let mut live = Liveness::new(at(0), 50_000, 50_000);
        assert_eq!(live.poll(at(1), Some((0, 0))), Step::Wait);
        let mut said = Vec::new();
        for second in 2..40 {
            said.push((second, live.poll(at(second), None)));
        }
        said.retain(|(_, step)| *step != Step::Wait);
        assert_eq!(said, dies(7));
    }

    #[test]
    fn handshakes_and_keepalives_are_told_from_data() {
        for bytes in [0, 32, 92, 124, 148, 180] {
            assert!(!is_data_sent(bytes), "{bytes}");
            assert!(!is_data_received(bytes), "{bytes}");
        }
        for bytes in (64..5000).step_by(16) {
            assert!(is_data_sent(bytes), "{bytes}");
        }
        for bytes in [184, 240, 64, 96, 480, 2 * 92 + 2 * 148 + 96] {
            assert!(!is_data_received(bytes), "{bytes}");
        }
        for bytes in [80, 112, 128, 160, 1452, 100_000, u64::MAX] {
            assert!(is_data_received(bytes), "{bytes}");
        }
    }
}
