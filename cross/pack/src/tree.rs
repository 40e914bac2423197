//! The files of a package, in memory and in order. Owners and times of the staged files are not
//! read: in the package all is root's, and of one time. Modes are the install recipe's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::Error;

/// The longest path that a tar header holds, `./` before it and `/` behind it.
const LONGEST: usize = 97;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Permission bits.
    pub mode: u32,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File(Vec<u8>),
    /// A symbolic link to this.
    Link(String),
}

/// By path, without a slash before it; the root is "". A folder is there for everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, Node>);

impl Default for Tree {
    fn default() -> Self {
        Self(BTreeMap::from([(String::new(), Node { mode: 0o755, kind: Kind::Folder })]))
    }
}

impl Tree {
    /// # Errors
    /// What cannot be read, or does not belong into a package: devices, sockets, names that the
    /// lists of files cannot hold, and modes that would open a router's folders to others.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let mut tree = Self(BTreeMap::new());
        tree.walk(folder, "")?;
        Ok(tree)
    }

    fn walk(&mut self, at: &Path, path: &str) -> Result<(), Error> {
        let about = fs::symlink_metadata(at).map_err(|error| Error::io("reading", at, error))?;
        let kind = if about.is_dir() {
            Kind::Folder
        } else if about.is_file() {
            Kind::File(fs::read(at).map_err(|error| Error::io("reading", at, error))?)
        } else if about.is_symlink() {
            let target = fs::read_link(at).map_err(|error| Error::io("reading", at, error))?;
            Kind::Link(
                target.into_os_string().into_string().map_err(|_| Error::path(path, "links to no text"))?,
            )
        } else {
            return Err(Error::path(path, "is neither a file nor a folder nor a link"));
        };
        let is_folder = kind == Kind::Folder;
        self.insert(path, Node { mode: about.permissions().mode() & 0o7777, kind })?;
        if is_folder {
            for entry in fs::read_dir(at).map_err(|error| Error::io("listing", at, error))? {
                let name = entry.map_err(|error| Error::io("listing", at, error))?.file_name();
                let name = name.to_str().ok_or_else(|| Error::path(path, "holds a name that is no text"))?;
                let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                self.walk(&at.join(name), &below)?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, path: &str, mut node: Node) -> Result<(), Error> {
        let plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control());
        match &node.kind {
            // A package manager gives the mode to a folder that is there already, `/` among them.
            Kind::Folder if node.mode != 0o755 => {
                return Err(Error::path(path, format!("folder of mode {:o}, not 755", node.mode)));
            }
            Kind::File(_) if node.mode & 0o7022 != 0 || node.mode & 0o400 == 0 => {
                return Err(Error::path(
                    path,
                    format!("file of mode {:o}: others could write it", node.mode),
                ));
            }
            Kind::Link(target) if target.len() > LONGEST || !plain(target) => {
                return Err(Error::path(path, format!("links to '{target}', too long or with spaces")));
            }
            Kind::Link(_) => node.mode = 0o777,
            _ => {}
        }
        if path.len() > LONGEST || !plain(path) {
            return Err(Error::path(path, "too long, or with spaces"));
        }
        self.0.insert(path.to_owned(), node);
        Ok(())
    }

    /// Puts a file of mode 644, in place of one that is there, and the folders above it.
    ///
    /// # Errors
    /// If its path cannot be: a file where a folder should be, or a folder in its place.
    pub fn put(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), Error> {
        for (end, _) in path.match_indices('/') {
            let above = &path[..end];
            match self.0.get(above) {
                None => self.insert(above, Node { mode: 0o755, kind: Kind::Folder })?,
                Some(node) if node.kind == Kind::Folder => {}
                Some(_) => return Err(Error::path(above, "is no folder, but something must lie in it")),
            }
        }
        if matches!(self.0.get(path), Some(Node { kind: Kind::Folder | Kind::Link(_), .. })) {
            return Err(Error::path(path, "is no file, but must be one"));
        }
        self.insert(path, Node { mode: 0o644, kind: Kind::File(bytes) })
    }

    /// The content of a regular file; None where there is none.
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        match &self.0.get(path)?.kind {
            Kind::File(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// By path, as bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Each folder with what lies in it directly, folders excepted; both by name, as bytes.
    pub fn by_folder(&self) -> Vec<(&str, Vec<(&str, &Node)>)> {
        let mut folders: BTreeMap<&str, Vec<(&str, &Node)>> = BTreeMap::new();
        for (path, node) in self.iter() {
            if node.kind == Kind::Folder {
                folders.entry(path).or_default();
            } else {
                let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                folders.entry(folder).or_default().push((name, node));
            }
        }
        for entries in folders.values_mut() {
            entries.sort_by_key(|(name, _)| *name);
        }
        folders.into_iter().collect()
    }
}
