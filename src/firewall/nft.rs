//! The kernel's rules, by way of the `nft` program.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::policy::{PolicyState, Stop};

use super::child::{self, Output};
use super::counters::{self, RowCount};
use super::error::Error;
use super::listing::for_each_object;
use super::nfnetlink;
use super::normal::Normal;
use super::ruleset::{HEAL_TABLE, Rules, Ruleset, RulesetHash, TABLE};
use super::stop::{self, STOP_TABLE};

/// Loading takes a few milliseconds on a PC and well below a second on a slow router; longer
/// means that it hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// Far more than one step of the daemon runs.
const PROCESSES: usize = 64;

/// What the kernel holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    pub state: PolicyState,
    pub hash: RulesetHash,
}

/// Loads, reads back and removes the table `inet vpnd`. Calls block; one at a time.
#[derive(Debug)]
pub struct Nft {
    program: PathBuf,
    limit: Duration,
    /// What was last loaded and seen to be in force, for putting it back.
    former: Mutex<Option<Former>>,
    /// The hash that rules of another process must have to be put back.
    recorded: Option<String>,
    /// The kernel refused the rules that tell of blocked packets, and took the others.
    mute: AtomicBool,
    /// Processes of `nft` since [`Nft::processes`] was last asked.
    processes: Mutex<Vec<u32>>,
}

/// Rules that can be loaded again.
#[derive(Debug, Clone)]
struct Former {
    batch: String,
    hash: RulesetHash,
}

/// A table as the kernel lists it.
struct Listed {
    /// nft's JSON.
    text: Vec<u8>,
    normal: Normal,
}

impl Nft {
    /// `program`: the path of `nft`, or its name to look for in `PATH`.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self::with_limit(program, LIMIT)
    }

    /// Where another process loaded the rules of now, they are what is put back if the first new ones
    /// fail, but only if they list with this hash, which it noted when it had read them back: nft may list a
    /// part of a table, and end well.
    #[must_use]
    pub fn keeping(mut self, recorded: Option<String>) -> Self {
        self.recorded = recorded;
        self
    }

    /// As [`Nft::new`], with another time limit for each run of the program.
    #[must_use]
    pub fn with_limit(program: PathBuf, limit: Duration) -> Self {
        Self {
            program,
            limit,
            former: Mutex::new(None),
            recorded: None,
            mute: AtomicBool::new(false),
            processes: Mutex::default(),
        }
    }

    /// Puts the ruleset in force: one transaction, then it is read back and compared in full.
    ///
    /// A kernel that cannot tell of blocked packets refuses all of it: then it is loaded without
    /// those rules. A packet that is not explained is fine, a router that does not block is not.
    ///
    /// # Errors
    /// In each case but [`Error::Unknown`] what was in force before still is. If nothing was, and
    /// the kernel holds something else than it was given, that is left there: it is no less
    /// closed than nothing.
    pub fn apply(&self, ruleset: &Ruleset) -> Result<InForce, Error> {
        self.apply_stopping(ruleset, None).map(|(in_force, _)| in_force)
    }

    /// As [`Nft::apply`], with a stop ahead of the flowtables in the same transaction; without one,
    /// a former stop ends with it. Where the kernel refuses the stop (before 6.16 it refuses a
    /// device that is missing), the ruleset is put in force without it at once: the text says why.
    ///
    /// # Errors
    /// As [`Nft::apply`].
    pub fn apply_stopping(
        &self,
        ruleset: &Ruleset,
        stop: Option<&Stop>,
    ) -> Result<(InForce, Option<String>), Error> {
        if self.mute() {
            return self.with_stop_or_without(ruleset.without_log(), stop);
        }
        let result = self.with_stop_or_without(ruleset.whole(), stop);
        if !matches!(result, Err(Error::Refused { .. })) {
            return result;
        }
        let quiet = ruleset.without_log();
        if quiet.iter().count() == ruleset.rules().len() {
            return result;
        }
        let again = self.with_stop_or_without(quiet, stop);
        self.mute.store(again.is_ok(), Ordering::Relaxed);
        // The first refusal says why.
        again.or(result)
    }

    fn with_stop_or_without(
        &self,
        rules: Rules<'_>,
        stop: Option<&Stop>,
    ) -> Result<(InForce, Option<String>), Error> {
        let refused = match stop {
            None => None,
            Some(_) => match self.apply_whole(rules, stop) {
                Err(error @ (Error::Refused { .. } | Error::Killed { .. })) => Some(error.to_string()),
                result => return result.map(|in_force| (in_force, None)),
            },
        };
        self.apply_whole(rules, None).map(|in_force| (in_force, refused))
    }

    /// Ends the stop; fine when there is none.
    ///
    /// # Errors
    /// When neither the kernel's own socket nor nft can.
    pub fn end_stop(&self) -> Result<(), Error> {
        // One message; nft would take its time to start, in which the LAN waits.
        if nfnetlink::delete_table(STOP_TABLE).is_ok() {
            return Ok(());
        }
        let batch = joined(stop::commands_to_end());
        self.run(&["-j", "-f", "-"], batch, "removing table inet vpnd_stop").map(drop)
    }

    /// Whether blocked packets cannot be told of: nfnetlink_log or nft_log is not in the kernel.
    pub fn mute(&self) -> bool {
        self.mute.load(Ordering::Relaxed)
    }

    fn apply_whole(&self, rules: Rules<'_>, stop: Option<&Stop>) -> Result<InForce, Error> {
        let mut former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
        if former.is_none() {
            // A daemon that was started anew: what a former one left is worth keeping as well. What
            // cannot be read must not keep new rules away: a dormant table lists as nothing.
            *former = self.recorded.as_ref().and_then(|recorded| {
                let table = self.listed().ok().flatten()?;
                let hash = table.normal.hash();
                (hash.to_string() == *recorded).then_some(())?;
                Some(Former { batch: reloadable(&table.text).ok()?, hash })
            });
        }
        let batch = rules.to_json()?;
        let stop = stop.map_or_else(|| Ok(stop::commands_to_end()), stop::commands)?;
        let loaded = self.load(&with_stop(&batch, &stop));
        if let Err(error @ (Error::Start { .. } | Error::Refused { .. })) = loaded {
            // One transaction: refused means that nothing has changed.
            return Err(error);
        }
        match self.check(rules) {
            Ok(in_force) => {
                *former = Some(Former { batch, hash: in_force.hash });
                Ok(in_force)
            }
            Err(difference) => {
                if let Err(error) = loaded {
                    // Killed before it committed: nothing has changed.
                    if self.stands(former.as_ref()) {
                        return Err(error);
                    }
                    let difference = format!("{error}; {difference}");
                    return Err(self.put_back(former.as_ref(), difference));
                }
                match (self.put_back(former.as_ref(), difference), former.as_ref()) {
                    // Somebody changed them meanwhile, and what was put back are these very rules.
                    (Error::Differs { .. }, Some(former)) if former.batch == batch => {
                        Ok(InForce { state: rules.state(), hash: former.hash })
                    }
                    (error, _) => Err(error),
                }
            }
        }
    }

    /// Deletes the table, and what fw4 brought back; fine when they are absent.
    ///
    /// # Errors
    /// When nft cannot be run or refuses; the tables are then still there.
    pub fn remove(&self) -> Result<(), Error> {
        let mut former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
        let [table, heal] =
            [TABLE, HEAL_TABLE].map(|name| json!({ "table": { "family": "inet", "name": name } }));
        // Added first, so that deleting succeeds when it was absent.
        let batch = json!({ "nftables": [
            { "add": table }, { "delete": table }, { "add": heal }, { "delete": heal },
        ] });
        let batch = with_stop(&batch.to_string(), &stop::commands_to_end());
        self.run(&["-j", "-f", "-"], batch, "removing table inet vpnd")?;
        *former = None;
        Ok(())
    }

    /// Whether nft would take a file, which changes nothing.
    ///
    /// # Errors
    /// nft's own words where it would not.
    pub fn accepts(&self, file: &str) -> Result<(), Error> {
        self.run(&["-c", "-f", file], String::new(), "checking what fw4 is to bring back").map(drop)
    }

    /// What is in force, from the kernel alone. None: the table is absent.
    ///
    /// # Errors
    /// When nft cannot be run, or its answer names no state.
    pub fn in_force(&self) -> Result<Option<InForce>, Error> {
        let Some(table) = self.listed()? else { return Ok(None) };
        let state = state_of(&table.normal).map_err(|why| Error::Unreadable { what: LISTING, why })?;
        Ok(Some(InForce { state, hash: table.normal.hash() }))
    }

    /// The same, and how often each row of the contract decided since the rules were loaded.
    ///
    /// # Errors
    /// As [`Nft::in_force`].
    pub fn counted(&self) -> Result<Option<(InForce, Vec<RowCount>)>, Error> {
        let Some(table) = self.listed()? else { return Ok(None) };
        let unreadable = |why| Error::Unreadable { what: LISTING, why };
        let state = state_of(&table.normal).map_err(unreadable)?;
        let rows = counters::by_row(&table.text).map_err(unreadable)?;
        Ok(Some((InForce { state, hash: table.normal.hash() }, rows)))
    }

    /// The processes of `nft` since the last time that this was asked: the kernel names them where
    /// it tells of changes (`watch`).
    pub fn processes(&self) -> Vec<u32> {
        std::mem::take(&mut *self.processes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn load(&self, batch: &str) -> Result<(), Error> {
        self.run(&["-j", "-f", "-"], batch.to_owned(), "loading table inet vpnd").map(|_| ())
    }

    /// Is it the ruleset that is in force, in full? If not, says what differs.
    fn check(&self, wanted: Rules<'_>) -> Result<InForce, String> {
        // Not asked first whether it exists, as after loading it nearly always does.
        let table = match self.listing() {
            Ok(table) => table,
            Err(error) => {
                let missing = matches!(Self::exists(), Ok(false));
                return Err(if missing {
                    "table inet vpnd is missing".to_owned()
                } else {
                    error.to_string()
                });
            }
        };
        let normal = wanted.normal().map_err(|error| error.to_string())?;
        match table.normal.difference(&normal) {
            Some(difference) => Err(difference),
            None => Ok(InForce { state: wanted.state(), hash: table.normal.hash() }),
        }
    }

    /// Is what was in force before still so?
    fn stands(&self, former: Option<&Former>) -> bool {
        match self.listed() {
            Ok(now) => now.map(|table| table.normal.hash()) == former.map(|former| former.hash),
            Err(_) => false,
        }
    }

    fn put_back(&self, former: Option<&Former>, difference: String) -> Error {
        let Some(former) = former else {
            let restore = "none are known; what the kernel has now was left there".to_owned();
            return Error::Unknown { difference, restore };
        };
        let again =
            self.load(&with_stop(&former.batch, &stop::commands_to_end())).and_then(|()| self.listed());
        let restore = match again {
            Ok(Some(table)) if table.normal.hash() == former.hash => {
                return Error::Differs { difference };
            }
            Ok(Some(_)) => "they read back differently, too".to_owned(),
            Ok(None) => "the table is gone".to_owned(),
            Err(error) => error.to_string(),
        };
        Error::Unknown { difference, restore }
    }

    fn listed(&self) -> Result<Option<Listed>, Error> {
        if Self::exists()? { self.listing().map(Some) } else { Ok(None) }
    }

    /// The table, which is there.
    fn listing(&self) -> Result<Listed, Error> {
        let output = self.run(&["-j", "list", "table", "inet", TABLE], String::new(), LISTING)?;
        let normal =
            Normal::of_listing(&output.stdout).map_err(|why| Error::Unreadable { what: LISTING, why })?;
        Ok(Listed { text: output.stdout, normal })
    }

    /// Asked apart from listing: an absent table and a failure have the same exit code. Not by nft:
    /// nft 1.0.6 reads every set of every table to list their names, and begins anew with each change
    /// that anybody makes meanwhile.
    fn exists() -> Result<bool, Error> {
        nfnetlink::has_table(TABLE)
            .map_err(|source| Error::Kernel { what: "looking for table inet vpnd", source })
    }

    fn run(&self, args: &[&str], input: String, what: &'static str) -> Result<Output, Error> {
        let started = |process| {
            let mut all = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody asks in `vpnd status`.
            if all.len() < PROCESSES {
                all.push(process);
            }
        };
        let output = child::run(&self.program, args, input, self.limit, what, started)?;
        match output.status.code() {
            Some(0) => Ok(output),
            Some(code) => Err(Error::Refused { what, code, stderr: brief(&output.stderr) }),
            None => Err(Error::Killed { what }),
        }
    }
}

const LISTING: &str = "listing table inet vpnd";

/// The batch, and in the same transaction the stop, or the end of a former one.
fn with_stop(batch: &str, stop: &[String]) -> String {
    format!("{},{}]}}", batch.strip_suffix("]}").unwrap_or(batch), stop.join(","))
}

fn joined(commands: Vec<String>) -> String {
    format!("{{\"nftables\":[{}]}}", commands.join(","))
}

/// nft repeats the offending input line, which holds the whole batch.
fn brief(stderr: &str) -> String {
    const MOST: usize = 400;
    let mut text: String = stderr.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect();
    if text.len() < stderr.len() {
        text.push('…');
    }
    text
}

fn state_of(normal: &Normal) -> Result<PolicyState, String> {
    let states = PolicyState::ALL.iter().copied();
    let mut found = states.filter(|state| normal.chains().any(|chain| chain == state.chain()));
    match (found.next(), found.next()) {
        (Some(state), None) => Ok(state),
        (None, _) => Err("no chain names a state".to_owned()),
        (Some(_), Some(_)) => Err("several chains name a state".to_owned()),
    }
}

/// A listing as a batch that builds the same table anew. Handles belong to the table that goes.
fn reloadable(listing: &[u8]) -> Result<String, String> {
    let table = json!({ "table": { "family": "inet", "name": TABLE } });
    let rebuilt = [json!({ "add": table }), json!({ "delete": table }), json!({ "add": table })];
    let mut commands: Vec<String> = rebuilt.iter().map(Value::to_string).collect();
    for_each_object(listing, |mut object| {
        if object.get("metainfo").is_some() || object.get("table").is_some() {
            return;
        }
        for body in object.as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
            if let Some(body) = body.as_object_mut() {
                body.remove("handle");
                body.remove("elem");
            }
        }
        commands.push(json!({ "add": object }).to_string());
    })?;
    Ok(joined(commands))
}
