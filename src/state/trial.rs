//! Settings on trial, as far as it must survive a crash and a reboot: a copy of the former file
//! and a marker, on flash. Whoever starts and finds the marker goes back.
//!
//! Order: the copy is there before the marker and goes after it. Going back needs no room on a
//! full flash: a link and a rename.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Error, StateDir, read_json, sync_dir, write_atomic, write_json};
use crate::from_json::from_json;
use crate::machine::{LockdownWord, Stored};

/// What must be known to go back, besides the former file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TrialNote {
    /// The lockdown of before ([`Stored`]): settings that latch it, and are not kept, leave no
    /// router behind that stays closed.
    pub latched: bool,
    pub lockdown: Option<LockdownWord>,
}

from_json!(struct TrialNote { latched, lockdown });

impl TrialNote {
    #[must_use]
    pub fn of(stored: &Stored) -> Self {
        Self { latched: stored.latched, lockdown: stored.lockdown }
    }

    /// Whether only the trial closed the router: no person said so since.
    #[must_use]
    pub fn unlatches(&self, now: &Stored) -> bool {
        now.latched && !self.latched && now.lockdown == self.lockdown
    }
}

/// The former file is back.
#[derive(Debug)]
pub struct Undone {
    pub note: TrialNote,
    /// Where the other settings are now; an error where they could not be kept.
    pub rejected: Result<PathBuf, Error>,
}

impl StateDir {
    /// Whether settings are on trial, or were when the last daemon ended. A marker that cannot be
    /// looked at counts as there.
    #[must_use]
    pub fn on_trial(&self) -> bool {
        match fs::symlink_metadata(self.trial_marker()) {
            Ok(_) => true,
            Err(e) => e.kind() != io::ErrorKind::NotFound,
        }
    }

    /// The copy of the former settings, while they are on trial.
    #[must_use]
    pub fn former_settings(&self) -> PathBuf {
        self.file("vpnd.former")
    }

    /// Where settings that were not kept lie.
    #[must_use]
    pub fn rejected_settings(&self) -> PathBuf {
        self.file("vpnd.rejected")
    }

    /// The configuration that counts: of a trial that nobody confirmed and nobody undid, the
    /// former.
    #[must_use]
    pub fn settings_to_trust(&self, vpnd_file: PathBuf) -> PathBuf {
        let former = self.former_settings();
        if self.on_trial() && former.exists() { former } else { vpnd_file }
    }

    /// Before the new settings are put in force.
    ///
    /// # Errors
    /// [`Error::Write`] (a full flash); then there is no trial, and nothing is left of it.
    pub fn begin_trial(&self, former: &[u8], note: &TrialNote) -> Result<(), Error> {
        let copy = self.former_settings();
        let result = write_atomic(&copy, former).and_then(|()| write_json(&self.trial_marker(), note));
        if result.is_err() {
            let _ = fs::remove_file(self.trial_marker());
            let _ = fs::remove_file(&copy);
        }
        result
    }

    /// The new settings stay.
    ///
    /// # Errors
    /// [`Error::Remove`]: the marker is still there, and with it the trial.
    pub fn end_trial(&self) -> Result<(), Error> {
        self.remove_trial_marker()?;
        let _ = fs::remove_file(self.former_settings());
        Ok(())
    }

    /// Puts the former file back in the place of `vpnd_file`, which is kept aside.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::Remove`]: the marker is still there, so that the next start
    /// tries again.
    pub fn undo_trial(&self, vpnd_file: &Path) -> Result<Undone, Error> {
        let note = read_json(&self.trial_marker()).ok().flatten().unwrap_or_default();
        let former = self.former_settings();
        let mut rejected = Ok(self.rejected_settings());
        // Without the copy it is in its place already: it came before the marker.
        if former.exists() {
            rejected = self.keep_aside(vpnd_file);
            put_back(&former, vpnd_file)
                .map_err(|source| Error::Write { path: vpnd_file.to_owned(), source })?;
        }
        self.remove_trial_marker()?;
        Ok(Undone { note, rejected })
    }

    /// A link where it can be one: the flash may be full. The other name goes to the former file.
    fn keep_aside(&self, vpnd_file: &Path) -> Result<PathBuf, Error> {
        let path = self.rejected_settings();
        let _ = fs::remove_file(&path);
        if fs::hard_link(vpnd_file, &path).is_err() {
            let text =
                fs::read(vpnd_file).map_err(|source| Error::Read { path: vpnd_file.to_owned(), source })?;
            write_atomic(&path, &text)?;
        }
        // It holds keys.
        let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o600));
        Ok(path)
    }

    fn remove_trial_marker(&self) -> Result<(), Error> {
        let path = self.trial_marker();
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Error::Remove { path, source }),
            Ok(()) => {
                let _ = sync_dir(&path);
                Ok(())
            }
        }
    }

    fn trial_marker(&self) -> PathBuf {
        self.file("trial.json")
    }
}

fn put_back(former: &Path, vpnd_file: &Path) -> io::Result<()> {
    if fs::rename(former, vpnd_file).is_err() {
        // Another file system.
        let text = fs::read(former)?;
        write_atomic(vpnd_file, &text).map_err(io::Error::other)?;
        let _ = fs::remove_file(former);
    }
    sync_dir(vpnd_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Temp {
        dir: PathBuf,
        state: StateDir,
        file: PathBuf,
    }

    impl Temp {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("vpnd-trial-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(dir.join("config")).unwrap();
            let file = dir.join("config/vpnd");
            fs::write(&file, "new").unwrap();
            Self { state: StateDir::new(dir.join("state")), dir, file }
        }
        fn read(&self, path: &Path) -> String {
            fs::read_to_string(path).unwrap_or_default()
        }
        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.state.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    fn note() -> TrialNote {
        TrialNote { latched: true, lockdown: Some(LockdownWord { on: true, option_then: false }) }
    }

    #[test]
    fn what_is_not_confirmed_is_undone_and_kept_aside() {
        let temp = Temp::new("undone");
        assert!(!temp.state.on_trial());
        assert_eq!(temp.state.settings_to_trust(temp.file.clone()), temp.file);
        temp.state.begin_trial(b"former\xff", &note()).unwrap();
        assert!(temp.state.on_trial());
        assert_eq!(temp.state.settings_to_trust(temp.file.clone()), temp.state.former_settings());
        let undone = temp.state.undo_trial(&temp.file).unwrap();
        assert_eq!(undone.note, note());
        assert_eq!(fs::read(&temp.file).unwrap(), b"former\xff", "byte by byte");
        let rejected = undone.rejected.unwrap();
        assert_eq!(temp.read(&rejected), "new");
        for path in [&rejected, &temp.file] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "it holds keys");
        }
        assert_eq!(temp.names(), ["vpnd.rejected"]);
        assert!(!temp.state.on_trial());
    }

    #[test]
    fn what_is_confirmed_stays() {
        let temp = Temp::new("confirmed");
        temp.state.begin_trial(b"former", &note()).unwrap();
        temp.state.end_trial().unwrap();
        assert_eq!((temp.read(&temp.file), temp.names()), ("new".to_owned(), Vec::new()));
        temp.state.end_trial().unwrap();
    }

    /// A crash after each step of beginning and of going back.
    #[test]
    fn a_crash_at_any_step_ends_with_one_of_the_two_files() {
        let temp = Temp::new("crash");
        // The copy, but no marker yet: nothing was put in force.
        write_atomic(&temp.state.former_settings(), b"former").unwrap();
        assert!(!temp.state.on_trial());
        // The marker, and the former file is in its place already.
        temp.state.begin_trial(b"former", &note()).unwrap();
        temp.state.keep_aside(&temp.file).unwrap();
        put_back(&temp.state.former_settings(), &temp.file).unwrap();
        assert!(temp.state.on_trial());
        assert_eq!(temp.state.settings_to_trust(temp.file.clone()), temp.file);
        let undone = temp.state.undo_trial(&temp.file).unwrap();
        assert_eq!(
            (temp.read(&temp.file), temp.read(&undone.rejected.unwrap())),
            ("former".into(), "new".into())
        );
        assert!(!temp.state.on_trial());
        // A marker that makes no sense still goes back.
        fs::write(&temp.file, "newer").unwrap();
        temp.state.begin_trial(b"former", &note()).unwrap();
        fs::write(temp.state.trial_marker(), "{").unwrap();
        let undone = temp.state.undo_trial(&temp.file).unwrap();
        assert_eq!((temp.read(&temp.file), undone.note), ("former".into(), TrialNote::default()));
        assert_eq!(temp.read(&temp.state.rejected_settings()), "newer");
    }

    /// What cannot be created stands for a full flash.
    #[test]
    fn without_room_no_trial_begins_but_one_that_began_is_undone() {
        let temp = Temp::new("full");
        fs::create_dir_all(temp.state.path()).unwrap();
        let copy = super::super::temporary_name(&temp.state.former_settings());
        let marker = super::super::temporary_name(&temp.state.trial_marker());
        for blocker in [&copy, &marker] {
            fs::create_dir(blocker).unwrap();
            assert!(temp.state.begin_trial(b"former", &note()).is_err());
            assert!(!temp.state.on_trial() && !temp.state.former_settings().exists());
            fs::remove_dir(blocker).unwrap();
        }
        temp.state.begin_trial(b"former", &note()).unwrap();
        let others =
            [&temp.state.rejected_settings(), &temp.file].map(|path| super::super::temporary_name(path));
        others.iter().for_each(|path| fs::create_dir(path).unwrap());
        let undone = temp.state.undo_trial(&temp.file).unwrap();
        assert_eq!(
            (temp.read(&temp.file), temp.read(&undone.rejected.unwrap())),
            ("former".into(), "new".into())
        );
    }

    #[test]
    fn what_cannot_be_put_back_stays_on_trial() {
        let temp = Temp::new("stuck");
        temp.state.begin_trial(b"former", &note()).unwrap();
        fs::remove_file(&temp.file).unwrap();
        fs::create_dir_all(temp.file.join("x")).unwrap();
        let error = temp.state.undo_trial(&temp.file).unwrap_err().to_string();
        assert!(error.contains("config/vpnd: cannot be written"), "{error}");
        assert!(temp.state.on_trial());
        assert_eq!(temp.read(&temp.state.settings_to_trust(temp.file.clone())), "former");
    }

    #[test]
    fn only_what_the_trial_latched_is_unlatched() {
        let word = |on| Some(LockdownWord { on, option_then: false });
        for (before, now, unlatches) in [
            ((false, None), (true, None), true),
            ((false, None), (false, None), false),
            ((true, None), (true, None), false),
            ((false, None), (true, word(true)), false),
            ((false, word(false)), (true, word(false)), true),
        ] {
            let note = TrialNote { latched: before.0, lockdown: before.1 };
            let now = Stored { latched: now.0, lockdown: now.1, ..Stored::default() };
            assert_eq!(note.unlatches(&now), unlatches, "{note:?} {now:?}");
        }
    }
}
