//! A floor for the clock. A router without a battery for it boots in the past, and a relay takes a
//! handshake for a replay until its timestamp passes the last one it saw (WireGuard whitepaper,
//! section 5.1). So the clock is never left behind the newest file of the state folder: the floor
//! costs no write of its own. It is as good as that file is new; a tunnel that shook hands for
//! weeks after the last write needs NTP or a person (`vpnd status` says so).

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{RunDir, StateDir};

/// 2026-11-01, not later than this version: a clock before it is wrong.
pub const RELEASED: u64 = 1_793_491_200;
/// Ten years. A file from beyond was written by a clock that was wrong, and is no floor.
const CREDIBLE: u64 = 10 * 365 * 86_400;

/// Where the clock has to be set to, if it has to. Seconds since 1970. A clock that somebody has set
/// since boot is left alone, whatever the files say.
fn floor(now: u64, files: impl Iterator<Item = u64>, was_set: bool) -> Option<u64> {
    let newest = files.filter(|stamp| *stamp <= RELEASED + CREDIBLE).max()?;
    (newest > now && !was_set).then_some(newest)
}

/// The time that a file gets which replaces one of `former`: not an earlier one as long as the
/// clock is certainly wrong. None: its own.
pub(super) fn not_before(former: SystemTime, now: SystemTime) -> Option<SystemTime> {
    let released = UNIX_EPOCH + Duration::from_secs(RELEASED);
    (now < released && former > now && former <= released + Duration::from_secs(CREDIBLE)).then_some(former)
}

/// Sets a clock that lies behind the state folder's files; what was done, for people.
#[must_use]
pub fn lift(state: &StateDir, run: &RunDir) -> Option<String> {
    let now = now();
    let to = floor(now, stamps(state.path()), was_set(run))?;
    let from = date(now);
    let to_date = date(to);
    Some(match set(to) {
        Ok(()) => format!(
            "the clock was at {from}, before vpnd's own files: set to {to_date}, which may still be behind"
        ),
        Err(error) => format!(
            "the clock is at {from}, before vpnd's own files, and could not be set to {to_date}: {error}"
        ),
    })
}

/// Whether NTP has set the clock since boot: by the kernel's word (adjtimex(2)), or by ntpd's
/// hotplug event, as busybox' does not tell the kernel.
#[must_use]
pub fn was_set(run: &RunDir) -> bool {
    // SAFETY: zero is a valid value of every field, and with no mode nothing is changed.
    let mut answer: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is live, and the kernel fills it in.
    let state = unsafe { libc::adjtimex(&raw mut answer) };
    let synchronized = state >= 0 && answer.status & libc::STA_UNSYNC == 0;
    synchronized || run.path().join("ntp").exists()
}

/// For a person who wonders why no relay answers.
#[must_use]
pub fn doubt() -> String {
    format!(
        "no relay answers, and NTP has not set the clock since boot (it says {} UTC): should it be behind, relays take handshakes for replays until it passes the last one; 'date -u -s \"YYYY-MM-DD HH:MM\"' sets it",
        date(now())
    )
}

fn stamps(dir: &Path) -> impl Iterator<Item = u64> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(seconds(entry.metadata().ok()?.modified().ok()?)))
}

fn now() -> u64 {
    seconds(SystemTime::now())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

fn set(to: u64) -> io::Result<()> {
    let time = libc::timespec { tv_sec: to.try_into().map_err(io::Error::other)?, tv_nsec: 0 };
    // SAFETY: the structure is live, and the kernel only reads it.
    let done = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `2026-11-22 03:41`, of UTC; the civil calendar as computed from days since 1970-01-01, in years
/// that begin in March and eras of 400 years.
fn date(time: u64) -> String {
    let days = time / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", time / 3600 % 24, time / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn the_clock_is_set_forward_to_the_newest_file_only() {
        let files = [RELEASED + 3 * DAY, RELEASED + 5 * DAY, 0];
        let at = |now, was_set| floor(now, files.into_iter(), was_set);
        assert_eq!(at(0, false), Some(RELEASED + 5 * DAY), "booted in 1970");
        assert_eq!(at(RELEASED + 5 * DAY - 1, false), Some(RELEASED + 5 * DAY));
        assert_eq!(at(RELEASED + 5 * DAY, false), None);
        assert_eq!(at(RELEASED + 900 * DAY, false), None, "never backwards");
        assert_eq!(at(RELEASED, true), None, "NTP knows better");
        assert_eq!(floor(0, std::iter::empty(), false), None);
    }

    #[test]
    fn a_clock_in_the_far_future_does_not_poison_the_floor() {
        let files = [RELEASED + 3 * DAY, RELEASED + CREDIBLE + 1, 4_294_967_295, u64::MAX];
        assert_eq!(floor(0, files.into_iter(), false), Some(RELEASED + 3 * DAY));
        assert_eq!(floor(0, files.into_iter().skip(1), false), None);
    }

    #[test]
    fn a_write_with_a_wrong_clock_does_not_lower_the_floor() {
        let time = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let good = time(RELEASED + DAY);
        assert_eq!(not_before(good, time(0)), Some(good));
        assert_eq!(not_before(good, time(RELEASED + 2 * DAY)), None);
        assert_eq!(not_before(good, time(RELEASED)), None, "set back by somebody who knew");
        assert_eq!(not_before(time(RELEASED + CREDIBLE + 1), time(0)), None);
    }

    #[test]
    fn dates() {
        for (time, text) in [
            (0, "1970-01-01 00:00"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (1_793_491_200, "2026-11-01 00:00"),
            (4_107_542_400, "2100-03-01 00:00"),
        ] {
            assert_eq!(date(time), text);
        }
    }
}
