//! The wanted state in the run folder, while the state folder cannot be written: a crash must not
//! undo a person's word.

use std::path::PathBuf;

use super::{Error, RunDir, StateDir, read_json, write_json};
use crate::machine::Stored;

impl RunDir {
    /// Stores the word, here only where `state` does not take it.
    ///
    /// # Errors
    /// [`Error::Write`] of the state folder: a reboot forgets.
    pub fn store_word(&self, state: &StateDir, wanted: &Stored) -> Result<(), Error> {
        let result = state.store_wanted(wanted);
        match &result {
            Ok(()) => drop(std::fs::remove_file(self.word_file())),
            Err(_) => drop(write_json(&self.word_file(), wanted)),
        }
        result
    }

    /// The last word: that of the state folder, unless a later one could not be stored there. One
    /// that cannot be read counts for nothing; the state folder's may.
    #[must_use]
    pub fn last_word(&self, state: &StateDir) -> Option<Stored> {
        read_json(&self.word_file()).ok().flatten().or_else(|| state.wanted())
    }

    fn word_file(&self) -> PathBuf {
        self.path().join("wanted.json")
    }
}
