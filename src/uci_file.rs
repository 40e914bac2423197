//! A file of `/etc/config` that vpnd writes a part of, and the service that goes by it. The former file stays where
//! anything goes wrong: a firewall or a network that cannot be read takes more with it than the VPN.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::uci::{EditError, Package, parse};
use crate::init_script::{InitScript, say_once};
use crate::state;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Edit { path: PathBuf, source: EditError },
    #[error(transparent)]
    Write(#[from] state::Error),
}

#[derive(Debug, Clone)]
pub struct UciFile {
    path: PathBuf,
}

impl UciFile {
    #[must_use]
    pub fn new(config_dir: &Path, name: &str) -> Self {
        Self { path: config_dir.join(name) }
    }

    /// None: it cannot be read.
    #[must_use]
    pub fn package(&self) -> Option<Package> {
        self.read().ok().and_then(|text| parse(&text).ok())
    }

    /// Puts what `edit` makes of the text in its place; true when that was anything else.
    ///
    /// # Errors
    /// The file stands as it was.
    pub fn edit(
        &self,
        edit: impl FnOnce(&[u8]) -> Result<Option<Vec<u8>>, EditError>,
    ) -> Result<bool, Error> {
        let text = self.read()?;
        match edit(&text).map_err(|source| Error::Edit { path: self.path.clone(), source })? {
            // A link stays a link: what it points at is replaced.
            Some(text) => {
                let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
                let former = fs::metadata(&target).map(|meta| meta.permissions());
                state::write_atomic(&target, &text)?;
                // Whoever could read it still can; that it cannot be set back is no reason to fail.
                let _ = former.and_then(|mode| fs::set_permissions(&target, mode));
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn read(&self) -> Result<Vec<u8>, Error> {
        fs::read(&self.path).map_err(|source| Error::Read { path: self.path.clone(), source })
    }
}

/// Writing it, and telling the service, which nobody waits for.
#[derive(Debug)]
pub struct Teller {
    /// For people.
    name: &'static str,
    script: InitScript,
    /// Why the file could not be written.
    trouble: Option<String>,
}

impl Teller {
    #[must_use]
    pub fn new(name: &'static str, script: InitScript) -> Self {
        Self { name, script, trouble: None }
    }

    /// What became of the service.
    pub fn look(&mut self) {
        self.script.look();
    }

    #[must_use]
    pub fn is_telling(&self) -> bool {
        self.script.is_running()
    }

    /// True: it is written, or was so before.
    pub fn write(&mut self, write: impl FnOnce() -> Result<bool, Error>) -> bool {
        let owed = self.script.is_owed();
        self.script.owe();
        let written = write();
        if matches!(written, Ok(true)) {
            self.script.begin();
        } else if !owed {
            self.script.settle();
        }
        match written {
            Ok(_) => self.trouble = None,
            Err(error) => {
                say_once(&mut self.trouble, self.name, error.to_string());
                return false;
            }
        }
        true
    }

    /// Why file or service are not as they should be, for people.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.clone().or(self.script.trouble().map(str::to_owned))
    }
}

/// For who waits: true when something was written, and the service has taken it.
///
/// # Errors
/// Words for a person.
pub fn told(mut script: InitScript, written: Result<bool, Error>) -> Result<bool, String> {
    let written = written.map_err(|e| e.to_string())?;
    if written || script.is_owed() {
        script.begin();
        script.finish().map_err(|trouble| format!("written, but {trouble}"))?;
    }
    Ok(written)
}
