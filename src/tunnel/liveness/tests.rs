use super::*;

/// Seconds at which something other than Wait was said, over a line that behaves as `line`
/// says: for each second (bytes received, bytes sent, whether a ping is answered at once).
fn watch(seconds: u64, line: impl Fn(u64) -> (u64, u64, bool)) -> Vec<(u64, Step)> {
    polled(seconds, false, line).0
}

/// The same, if `sparing` polled no sooner than is asked for; and how often it was.
fn polled(seconds: u64, sparing: bool, line: impl Fn(u64) -> (u64, u64, bool)) -> (Vec<(u64, Step)>, u32) {
    let (mut next, mut polls) = (Duration::ZERO, 0);
    let at = Duration::from_secs;
    let mut live = Liveness::new(at(0), 0, 0);
    let (mut rx, mut tx) = (0, 0);
    let mut said = Vec::new();
    for second in 1..=seconds {
        let (received, sent, answers) = line(second);
        rx += received;
        tx += sent;
        if sparing && at(second) < next {
            continue;
        }
        let step = live.poll(at(second), Some((rx, tx)));
        polls += 1;
        next = at(second) + live.wait();
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
    (said, polls)
}

#[test]
fn an_idle_line_lets_the_router_sleep() {
    // A keepalive now and then is nothing to do; what it asks itself every two minutes is answered.
    let (said, polls) = polled(600, true, |s| (0, if s % 30 == 0 { KEEPALIVE } else { 0 }, true));
    assert!(said.iter().all(|(_, step)| *step == Step::Ping) && said.len() >= 4, "{said:?}");
    assert!(polls <= 600 / 10 + 60, "{polls} polls in 600 s");
    // A dead relay is found at most so much later.
    let (said, _) = polled(200, true, |s| if s < 102 { (0, 0, true) } else { (0, 500, false) });
    let (slow, fast) = (said.last().unwrap(), dies(107));
    assert_eq!(slow.1, Step::Dead);
    assert!((fast.last().unwrap().0..=fast.last().unwrap().0 + 10).contains(&slow.0), "{said:?}");
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
    let line = |s| if s % 5 == 0 { (RESPONSE + KEEPALIVE, INITIATION + 500, false) } else { (0, 500, false) };
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
