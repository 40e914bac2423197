//! Of each boot: when the block stood, and when the first frame left by the WAN. In the run folder.
//!
//! The kernel counts what each device sent (`/proc/net/dev`), but not when: the first frame is known
//! as the time between two looks. The counters are read after the rules were read back, so that a
//! frame in between counts as one that left too early.

use std::fs;
use std::path::PathBuf;

use serde::Serialize;

use super::{Error, RunDir, read_json, write_json};
use crate::config::Settings;
use crate::from_json::from_json;
use crate::policy::TUNNEL_GROUP;
use crate::sorted::Map;

/// Frames sent by each device.
pub type Sent = Map<String, u64>;

/// Times are milliseconds since boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Boot {
    /// When blocking rules stood.
    pub blocked_ms: u64,
    /// What each WAN device had sent by then; those that were not there yet had sent nothing.
    pub sent: Sent,
    /// The last look at which none had sent more.
    pub none_ms: Option<u64>,
    /// The first look at which one had.
    pub first_ms: Option<u64>,
}

from_json!(struct Boot { blocked_ms, sent, none_ms, first_ms });

impl Boot {
    /// Frames that left before the block stood.
    #[must_use]
    pub fn early(&self) -> u64 {
        self.sent.values().sum()
    }

    /// Takes in a look at the devices.
    pub fn look(&mut self, now_ms: u64, sent: &Sent) {
        let more = |(name, count): (&String, &u64)| *count > self.sent.get(name).copied().unwrap_or(0);
        if self.first_ms.is_none() {
            let seen = if sent.iter().any(more) { &mut self.first_ms } else { &mut self.none_ms };
            *seen = Some(now_ms);
        }
    }

    /// For people.
    #[must_use]
    pub fn words(&self) -> String {
        let early = match self.early() {
            0 => "before any frame left by the WAN".to_owned(),
            _ => {
                let devices = self.sent.iter().filter(|(_, count)| **count > 0);
                let each: Vec<_> = devices.map(|(name, count)| format!("{count} frames by {name}")).collect();
                format!("AFTER {}", each.join(", "))
            }
        };
        let first = match (self.none_ms, self.first_ms) {
            (_, None) => String::new(),
            (None, Some(by)) => format!("; the first after it by {}", seconds(by)),
            (Some(none), Some(by)) => format!("; the first after it {} to {}", seconds(none), seconds(by)),
        };
        format!("blocked {} after boot, {early}{first}", seconds(self.blocked_ms))
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// Now; 0: not known.
#[must_use]
pub fn since_boot_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is live, and the kernel fills it in.
    if unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) } != 0 {
        return 0;
    }
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// What the WAN devices have sent: those that the configuration names, or, where it names none,
/// all but loopback, LAN and tunnel.
#[must_use]
pub fn sent_by_wan(settings: &Settings) -> Sent {
    let named = &settings.wan_names;
    let is_wan = |name: &str| {
        if named.is_empty() {
            let lan = settings.lan.devices.iter().any(|device| device.name.as_str() == name);
            !lan && name != "lo" && !TUNNEL_GROUP.contains(&name)
        } else {
            named.iter().any(|wan| wan.as_str() == name)
        }
    };
    // Not /sys: that is of the namespace it was mounted in.
    let text = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    read_devices(&text).into_iter().filter(|(name, _)| is_wan(name)).collect()
}

/// `NAME: 8 numbers of what came in, 8 of what went out`, the second of each are packets (proc(5)).
fn read_devices(text: &str) -> Sent {
    let line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        Some((name.trim().to_owned(), numbers.split_whitespace().nth(9)?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

impl RunDir {
    /// None: nothing is known of this boot.
    #[must_use]
    pub fn boot(&self) -> Option<Boot> {
        read_json(&self.boot_file()).ok().flatten()
    }

    /// # Errors
    /// [`Error::Write`].
    pub fn keep_boot(&self, boot: &Boot) -> Result<(), Error> {
        write_json(&self.boot_file(), boot)
    }

    /// Whether vpnd has put no rules since boot: then the next ones are this boot's block.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.boot().is_none() && self.generations().is_empty()
    }

    fn boot_file(&self) -> PathBuf {
        self.path().join("boot.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  101472    1089    0    0    0     0          0         0   101472    1089    0    0    0     0       0          0
  eth1:       0       0    0    0    0     0          0         0     4210      17    0    0    0     0       0          0
br-lan:99999999999999 3 0 0 0 0 0 0 7 8 0 0 0 0 0 0
";

    fn sent(pairs: &[(&str, u64)]) -> Sent {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn the_kernels_table_is_read() {
        assert_eq!(read_devices(DEVICES), sent(&[("lo", 1089), ("eth1", 17), ("br-lan", 8)]));
    }

    #[test]
    fn the_first_frame_lies_between_two_looks() {
        let mut boot = Boot { blocked_ms: 2940, sent: sent(&[("eth1", 0)]), ..Boot::default() };
        boot.look(3500, &sent(&[("eth1", 0)]));
        boot.look(4020, &sent(&[("eth1", 0), ("usb0", 0)]));
        assert_eq!(boot.words(), "blocked 2.9 s after boot, before any frame left by the WAN");
        boot.look(4310, &sent(&[("eth1", 0), ("usb0", 2)]));
        boot.look(9000, &sent(&[("eth1", 5), ("usb0", 9)]));
        assert_eq!(
            boot.words(),
            "blocked 2.9 s after boot, before any frame left by the WAN; the first after it 4.0 s to 4.3 s"
        );
        let mut late =
            Boot { blocked_ms: 61_000, sent: sent(&[("eth1", 17), ("eth2", 0)]), ..Boot::default() };
        late.look(62_000, &sent(&[("eth1", 17)]));
        assert_eq!((late.early(), late.first_ms), (17, None));
        assert_eq!(late.words(), "blocked 61.0 s after boot, AFTER 17 frames by eth1");
    }
}
