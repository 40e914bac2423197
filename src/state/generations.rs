//! The rulesets that were put in force since boot: one small file each in the run folder, so that
//! they can be read with a dead daemon. The number orders them, whatever the clock says.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{Error, RunDir};
use crate::from_json::{from_bytes, from_json};
use crate::sorted;

/// Generations that are remembered.
const KEPT: usize = 16;
/// Bytes of their rules, all together: a ruleset with 5,000 prefixes has some 90 KiB.
const BYTES: u64 = 512 * 1024;

/// A ruleset that was put in place and read back, or its removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Generation {
    /// From 1, one more each time, over restarts of the daemon; a reboot begins anew.
    pub number: u32,
    /// "boot", "blocked", "connecting", "connected"; "open": there are no rules.
    pub state: String,
    /// Empty when open.
    pub hash: String,
    /// What led to it, for people.
    pub cause: String,
    /// Seconds since 1970 by a clock that may be wrong.
    pub when: u64,
    /// Seconds since boot.
    pub uptime: u64,
    /// Bytes of its rules, which were dropped to save RAM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
}

from_json!(struct Generation { number, state, hash, cause, when, uptime, dropped });

/// Seconds since boot, which no clock jump changes (proc(5), /proc/uptime); 0: not known.
#[must_use]
pub fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}

impl RunDir {
    /// What is remembered, oldest first. A file that makes no sense is left out.
    #[must_use]
    pub fn generations(&self) -> Vec<Generation> {
        self.numbers().into_iter().filter_map(|number| header(&self.generation_file(number))).collect()
    }

    /// The rules of a generation, as [`Self::add_generation`] got them. None: not remembered, or
    /// dropped.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn generation_rules(&self, number: u32) -> Result<Option<String>, Error> {
        let path = self.generation_file(number);
        if header(&path).is_none_or(|generation| generation.dropped.is_some()) {
            return Ok(None);
        }
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.split_once('\n').map(|(_, rules)| rules.to_owned())),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// Remembers that a ruleset is in force. One that is in force already stays the generation
    /// that it is. `hash` is empty for the open router.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn add_generation(
        &self,
        state: &str,
        hash: &str,
        cause: &str,
        rules: impl FnOnce() -> String,
    ) -> Result<Generation, Error> {
        let last = self.numbers().last().copied();
        let newest = last.and_then(|number| header(&self.generation_file(number)));
        if let Some(newest) = newest.filter(|newest| newest.state == state && newest.hash == hash) {
            return Ok(newest);
        }
        let mut generation = Generation {
            number: last.unwrap_or(0).saturating_add(1),
            state: state.to_owned(),
            hash: hash.to_owned(),
            cause: cause.to_owned(),
            when: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs()),
            uptime: uptime(),
            dropped: None,
        };
        let rules = rules();
        let size = rules.len() as u64;
        let rules = if size > BYTES {
            generation.dropped = Some(size);
            String::new()
        } else {
            rules
        };
        self.put(&mut generation, &rules)
            .map_err(|source| Error::Write { path: self.generation_file(generation.number), source })?;
        self.prune();
        Ok(generation)
    }

    /// Under the first number that nobody has: `vpnd block` and the daemon may come at once.
    fn put(&self, generation: &mut Generation, rules: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.folder())?;
        loop {
            let path = self.generation_file(generation.number);
            let temporary = write_beside(&path, generation, rules)?;
            let linked = fs::hard_link(&temporary, &path);
            let _ = fs::remove_file(&temporary);
            match linked {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    generation.number = generation.number.checked_add(1).ok_or(e)?;
                }
                other => return other,
            }
        }
    }

    /// The oldest go; of those that stay, the rules that are too many bytes together, oldest first.
    fn prune(&self) {
        let mut bytes = 0;
        for (age, number) in self.numbers().into_iter().rev().enumerate() {
            let path = self.generation_file(number);
            if age >= KEPT {
                let _ = fs::remove_file(&path);
                continue;
            }
            bytes += fs::metadata(&path).map_or(0, |file| file.len());
            if bytes <= BYTES {
                continue;
            }
            let Some(mut generation) = header(&path).filter(|known| known.dropped.is_none()) else {
                continue;
            };
            generation.dropped = fs::metadata(&path).ok().map(|file| file.len());
            if let Ok(temporary) = write_beside(&path, &generation, "") {
                let _ = fs::rename(temporary, &path);
            }
        }
    }

    fn numbers(&self) -> Vec<u32> {
        let entries = fs::read_dir(self.folder()).into_iter().flatten().flatten();
        sorted::each_once(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
    }

    fn folder(&self) -> PathBuf {
        self.path().join("generations")
    }

    fn generation_file(&self, number: u32) -> PathBuf {
        self.folder().join(number.to_string())
    }
}

/// The first line; never more of a file that is not ours.
fn header(path: &Path) -> Option<Generation> {
    let mut line = Vec::new();
    BufReader::new(File::open(path).ok()?.take(4096)).read_until(b'\n', &mut line).ok()?;
    from_bytes(&line).ok()
}

fn write_beside(path: &Path, generation: &Generation, rules: &str) -> io::Result<PathBuf> {
    let fresh = path.with_file_name("new");
    if let Some(folder) = path.parent() {
        super::sweep(folder, &fresh);
    }
    let temporary = super::temporary_name(&fresh);
    let _ = fs::remove_file(&temporary);
    let mut text = serde_json::to_vec(generation)?;
    text.push(b'\n');
    text.extend_from_slice(rules.as_bytes());
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(&text));
    match written {
        Ok(()) => Ok(temporary),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Temp(RunDir);

    impl Temp {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("vpnd-gen-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            Self(RunDir::new(dir))
        }
        fn add(&self, state: &str, hash: &str, rules: &str) -> u32 {
            self.0.add_generation(state, hash, "a test", || rules.to_owned()).unwrap().number
        }
        fn numbers(&self) -> Vec<u32> {
            self.0.generations().iter().map(|generation| generation.number).collect()
        }
    }

    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.path());
        }
    }

    #[test]
    fn numbers_go_on_and_the_same_ruleset_is_the_same_generation() {
        let temp = Temp::new("numbers");
        assert_eq!(temp.0.generations(), []);
        assert_eq!(temp.add("boot", "aa", "x"), 1);
        assert_eq!(temp.add("boot", "aa", "x"), 1, "put in force again");
        assert_eq!(temp.add("blocked", "bb", "y"), 2);
        // Another process: nothing is kept in memory.
        let other = Temp(RunDir::new(temp.0.path()));
        assert_eq!(other.add("boot", "aa", "x"), 3, "the rules of 1 again, but after 2");
        assert_eq!(other.numbers(), [1, 2, 3]);
        assert_eq!(temp.0.generation_rules(2).unwrap().as_deref(), Some("y"));
        assert_eq!(temp.0.generation_rules(9).unwrap(), None);
        let all = temp.0.generations();
        assert_eq!((all[1].state.as_str(), all[1].cause.as_str()), ("blocked", "a test"));
        assert!(all[1].when > 1_600_000_000 && all[1].uptime <= uptime());
    }

    #[test]
    fn the_number_orders_whatever_the_clock_says() {
        let temp = Temp::new("clock");
        temp.add("boot", "aa", "");
        let path = temp.0.generation_file(1);
        let future = fs::read_to_string(&path).unwrap().replace("\"when\":", "\"when\":9");
        fs::write(&path, future).unwrap();
        temp.add("blocked", "bb", "");
        let all = temp.0.generations();
        assert_eq!(temp.numbers(), [1, 2]);
        assert!(all[0].when > all[1].when, "the clock was set back in between");
    }

    #[test]
    fn sixteen_are_kept_and_a_number_never_comes_again() {
        let temp = Temp::new("kept");
        for n in 0..40 {
            temp.add("blocked", &format!("{n:02}"), "rules");
        }
        assert_eq!(temp.numbers(), (25..=40).collect::<Vec<_>>());
        assert_eq!(fs::read_dir(temp.0.folder()).unwrap().count(), KEPT, "no temporary stays");
    }

    #[test]
    fn rules_are_bounded_in_bytes_and_what_was_dropped_is_said() {
        let temp = Temp::new("bytes");
        let long = "x".repeat(90 * 1024);
        for n in 0..16 {
            temp.add("blocked", &format!("{n:02}"), &long);
        }
        let used: u64 = (1..=16).map(|n| fs::metadata(temp.0.generation_file(n)).unwrap().len()).sum();
        assert!(used <= BYTES + 8 * 1024, "{used}");
        assert_eq!(temp.numbers().len(), 16, "number, hash and cause stay");
        for generation in temp.0.generations() {
            let rules = temp.0.generation_rules(generation.number).unwrap();
            assert_eq!(generation.dropped.is_some(), generation.number <= 11, "{generation:?}");
            assert_eq!(rules.is_none(), generation.number <= 11);
        }
        // One that is too large by itself costs the others nothing.
        let number = temp.add("blocked", "huge", &"x".repeat(600 * 1024));
        let all = temp.0.generations();
        assert_eq!(all.last().unwrap().dropped, Some(600 * 1024));
        assert_eq!(temp.0.generation_rules(number).unwrap(), None);
        assert!(temp.0.generation_rules(16).unwrap().is_some());
    }

    #[test]
    fn what_is_not_ours_is_left_out() {
        let temp = Temp::new("damaged");
        temp.add("boot", "aa", "x");
        fs::write(temp.0.generation_file(2), "{\"number\":").unwrap();
        fs::write(temp.0.folder().join("notes"), "").unwrap();
        fs::write(temp.0.generation_file(3), vec![b'['; 100_000]).unwrap();
        assert_eq!(temp.numbers(), [1]);
        assert_eq!(temp.0.generation_rules(2).unwrap(), None);
        assert_eq!(temp.add("blocked", "bb", "y"), 4, "its number is taken all the same");
    }

    /// Two processes that both saw the same last number.
    #[test]
    fn two_writers_get_two_numbers() {
        let temp = Temp::new("race");
        temp.add("boot", "aa", "x");
        let mut late = temp.0.generations().remove(0);
        late.hash = "bb".to_owned();
        temp.0.put(&mut late, "y").unwrap();
        assert_eq!((late.number, temp.numbers()), (2, vec![1, 2]));
        let hashes: Vec<_> = temp.0.generations().into_iter().map(|generation| generation.hash).collect();
        assert_eq!(hashes, ["aa", "bb"], "neither took the other's place");
        assert_eq!(temp.0.generation_rules(1).unwrap().as_deref(), Some("x"));
    }
}
