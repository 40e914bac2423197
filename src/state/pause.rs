//! That the router is open for a while (`vpnd disarm --for`). In the run folder, with the boot it
//! is of: a crash of the daemon does not make the pause longer, and a reboot ends it. The wanted
//! state and the marker stay as they are, so that whoever knows nothing of a pause closes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{Error, RunDir, read_json, uptime, write_json};
use crate::from_json::from_json;

/// A rest longer than this makes no sense: a day, as the endpoint has it.
const MOST: u64 = 86_400;

#[derive(Serialize)]
struct Pause {
    /// Seconds since boot.
    until: u64,
    boot: String,
}

from_json!(struct Pause { until, boot });

impl RunDir {
    /// From now on.
    ///
    /// # Errors
    /// [`Error::Write`]: a crash of the daemon would end the pause.
    pub fn begin_pause(&self, seconds: u32) -> Result<(), Error> {
        write_json(&self.pause_file(), &Pause { until: uptime() + u64::from(seconds), boot: boot_id() })
    }

    /// What is left of it. Whatever makes no sense is no pause.
    #[must_use]
    pub fn pause_left(&self) -> Option<Duration> {
        let pause: Pause = read_json(&self.pause_file()).ok()??;
        let now = uptime();
        let left = pause.until.checked_sub(now).filter(|left| (1..=MOST).contains(left))?;
        (now > 0 && !pause.boot.is_empty() && pause.boot == boot_id()).then(|| Duration::from_secs(left))
    }

    pub fn end_pause(&self) {
        let _ = fs::remove_file(self.pause_file());
    }

    fn pause_file(&self) -> PathBuf {
        self.path().join("pause.json")
    }
}

/// Another one at each boot (proc(5), random/boot_id); empty: not known.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_no_pause() {
        let dir = std::env::temp_dir().join(format!("vpnd-pause-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let run = RunDir::new(&dir);
        assert_eq!(run.pause_left(), None);
        run.begin_pause(600).unwrap();
        let left = run.pause_left().unwrap().as_secs();
        assert!((598..=600).contains(&left), "{left}");
        let good = fs::read_to_string(run.pause_file()).unwrap();
        for (what, text) in [
            ("over", format!("{{\"until\":1,\"boot\":\"{}\"}}", boot_id())),
            ("another boot", good.replace(&boot_id(), "00000000-0000-0000-0000-000000000000")),
            ("no boot", good.replace(&boot_id(), "")),
            ("longer than a day", good.replace("\"until\":", "\"until\":99999")),
            ("torn", good[..9].to_owned()),
        ] {
            assert_ne!(text, good, "{what}");
            fs::write(run.pause_file(), text).unwrap();
            assert_eq!(run.pause_left(), None, "{what}");
        }
        run.begin_pause(600).unwrap();
        run.end_pause();
        assert_eq!(run.pause_left(), None);
        let _ = fs::remove_dir_all(&dir);
    }
}
