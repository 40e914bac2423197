//! A reader for OpenWrt's configuration format: the same files, and the same tree, as libuci.
//!
//! Why our own is in docs/decisions.md; that it agrees with libuci is tested against the real one
//! in tests/uci-oracle. It differs on purpose in three things: zero bytes are refused, sizes are
//! bounded ([`MAX_BYTES`], [`MAX_SECTIONS`], [`MAX_VALUES`]), and uncommitted changes (/tmp/.uci)
//! are not read.

mod command;
mod edit;

use std::collections::BTreeMap;
use std::fmt;

pub use command::{Command, Commands, Placed};
pub use edit::{EditError, Loan, NewSection, NewValue, lend, own, replace};

/// A router's own files have some ten kilobytes; this keeps a hostile one from taking its memory.
pub const MAX_BYTES: usize = 1024 * 1024;
/// A file of one-letter sections would otherwise cost a hundred times its size.
pub const MAX_SECTIONS: usize = 8192;
/// Options and list items in one file.
pub const MAX_VALUES: usize = 65536;

/// A file's sections, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Package {
    pub sections: Vec<Section>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The word after `config`: what libuci calls the type.
    pub kind: String,
    /// The name; for an anonymous section the one that libuci makes up (`cfg01e48a`).
    pub name: String,
    pub anonymous: bool,
    /// Where the section first begins, from 1.
    pub line: usize,
    pub options: Vec<Entry>,
}

impl Section {
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.options.iter().find(|entry| entry.name == name)
    }

    /// Of an option; None for a list, and for what is no UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        match &self.get(name)?.value {
            Value::Text(item) => String::from_utf8(item.bytes.clone()).ok(),
            Value::List(_) => None,
        }
    }
}

/// An option or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(Item),
    List(Vec<Item>),
}

/// One value, any bytes but zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub bytes: Vec<u8>,
    /// From 1.
    pub line: usize,
}

/// Why a file cannot be read, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct Fault {
    /// From 1.
    pub line: usize,
    pub reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    UnknownCommand,
    MissingArgument,
    TooManyArguments,
    BadName,
    BadKind,
    OpenQuote,
    BeforeFirstSection,
    OtherKind,
    ZeroByte,
    TooLarge,
    TooMany,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownCommand => "starts with no UCI word; config, option or list is needed",
            Self::MissingArgument => "ends too early; a type or a name is missing",
            Self::TooManyArguments => "has a word too many; put quotes around a value that holds spaces",
            Self::BadName => "has a name with other characters than A-Z a-z 0-9 _",
            Self::BadKind => "has a section type with a space or an unprintable character",
            Self::OpenQuote => "opens a quote that is never closed",
            Self::BeforeFirstSection => "has an option before the first config line",
            Self::OtherKind => "repeats a section's name with another type",
            Self::ZeroByte => "has a zero byte; the file is damaged",
            Self::TooLarge => "goes beyond 1 MiB, the most that is read",
            Self::TooMany => "goes beyond 8192 sections or 65536 values, the most that is read",
        })
    }
}

/// Reads a file's bytes.
///
/// # Errors
/// The first place that libuci would refuse, too, or that exceeds a limit of ours.
pub fn parse(data: &[u8]) -> Result<Package, Fault> {
    if data.len() > MAX_BYTES {
        let line = 1 + data.iter().take(MAX_BYTES).filter(|&&b| b == b'\n').count();
        return Err(Fault { line, reason: Reason::TooLarge });
    }
    let mut tree = Tree::default();
    for placed in Commands::new(data) {
        let placed = placed?;
        tree.add(placed.command, placed.value_line).map_err(|reason| Fault { line: placed.line, reason })?;
    }
    Ok(tree.finish())
}

/// The number of no section (there are at most [`MAX_SECTIONS`]).
const SECTIONS: usize = usize::MAX;

/// Sections under construction. libuci moves a changed option to its section's end; here the old
/// place stays as a hole until the end, so that a hostile file costs no quadratic time.
#[derive(Default)]
struct Tree {
    sections: Vec<Section>,
    holes: Vec<Vec<Option<Entry>>>,
    /// Where each option of each section stands in `holes`; by [`SECTIONS`], the first section of each name, which is
    /// the one that libuci finds. One tree for both: each type of tree is some kilobytes of a router's flash.
    places: BTreeMap<(usize, String), usize>,
    current: Option<usize>,
    values: usize,
}

impl Tree {
    fn add(&mut self, command: Command, line: usize) -> Result<(), Reason> {
        match command {
            Command::Package => Ok(()),
            Command::Config { kind, name } => self.section(kind, name, line),
            Command::Option { name, value } => {
                let section = self.current.ok_or(Reason::BeforeFirstSection)?;
                // libuci: an empty option changes nothing, not even an earlier value.
                if value.is_empty() {
                    return Ok(());
                }
                self.count()?;
                self.option(section, name, Item { bytes: value, line });
                Ok(())
            }
            Command::List { name, value } => {
                let section = self.current.ok_or(Reason::BeforeFirstSection)?;
                self.count()?;
                self.list(section, name, Item { bytes: value, line });
                Ok(())
            }
        }
    }

    fn count(&mut self) -> Result<(), Reason> {
        self.values += 1;
        if self.values > MAX_VALUES { Err(Reason::TooMany) } else { Ok(()) }
    }

    fn section(&mut self, kind: String, name: Option<String>, line: usize) -> Result<(), Reason> {
        if let Some(&at) = name.as_ref().and_then(|name| self.places.get(&(SECTIONS, name.clone()))) {
            if self.sections.get(at).is_some_and(|section| section.kind != kind) {
                return Err(Reason::OtherKind);
            }
            self.current = Some(at);
            return Ok(());
        }
        let at = self.sections.len();
        if at >= MAX_SECTIONS {
            return Err(Reason::TooMany);
        }
        let anonymous = name.is_none();
        let name = name.unwrap_or_else(|| made_up_name(&kind, at + 1));
        self.places.entry((SECTIONS, name.clone())).or_insert(at);
        self.sections.push(Section { kind, name, anonymous, line, options: Vec::new() });
        self.holes.push(Vec::new());
        self.current = Some(at);
        Ok(())
    }

    fn slot(&mut self, section: usize, name: &str) -> Option<&mut Option<Entry>> {
        let place = *self.places.get(&(section, name.to_owned()))?;
        self.holes.get_mut(section)?.get_mut(place)
    }

    fn append(&mut self, section: usize, entry: Entry) {
        if let Some(holes) = self.holes.get_mut(section) {
            self.places.insert((section, entry.name.clone()), holes.len());
            holes.push(Some(entry));
        }
    }

    fn option(&mut self, section: usize, name: String, item: Item) {
        if let Some(slot) = self.slot(section, &name) {
            if let Some(Entry { value: Value::Text(old), .. }) = slot {
                if old.bytes == item.bytes {
                    return;
                }
            }
            *slot = None;
        }
        self.append(section, Entry { name, value: Value::Text(item) });
    }

    fn list(&mut self, section: usize, name: String, item: Item) {
        let mut items = Vec::new();
        if let Some(slot) = self.slot(section, &name) {
            if let Some(Entry { value: Value::List(items), .. }) = slot {
                items.push(item);
                return;
            }
            if let Some(Entry { value: Value::Text(first), .. }) = slot.take() {
                items.push(first);
            }
        }
        items.push(item);
        self.append(section, Entry { name, value: Value::List(items) });
    }

    fn finish(self) -> Package {
        let mut sections = self.sections;
        for (section, entries) in sections.iter_mut().zip(self.holes) {
            section.options = entries.into_iter().flatten().collect();
        }
        Package { sections }
    }
}

/// The name that libuci gives the `count`-th section when it has none: a counter, and D. J.
/// Bernstein's hash of the type (list.c, uci_fixup_section; the options are not there yet).
fn made_up_name(kind: &str, count: usize) -> String {
    let hash = kind.bytes().fold(5381_u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(u32::from(byte)));
    format!("cfg{count:02x}{:04x}", hash & 0xffff)
}

#[cfg(test)]
mod tests;
