//! What is wrong with the configuration, in words for the person who wrote it.

use std::fmt;

use serde::Serialize;

/// Stands for a key in a message: keys are never shown.
const HIDDEN: &str = "(hidden)";
/// Characters of a value that a message shows; the rest of a long one helps nobody.
const SHOWN: usize = 80;

/// One thing that is wrong (or, as a warning, odd). All texts are safe to print: control
/// characters and broken UTF-8 are escaped, long values cut, keys hidden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file's full path.
    pub file: String,
    /// From 1; None where the problem is that something is missing.
    pub line: Option<usize>,
    /// As UCI writes it, e.g. `relay 'se-got-001'` or `@zone[1]`; empty: the file as a whole.
    pub section: String,
    /// Empty: the section as a whole.
    pub option: String,
    pub value: String,
    /// What is wrong and what would be right; follows the value in a sentence.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if self.section.is_empty() {
            if let Some(line) = self.line {
                write!(f, "line {line}: ")?;
            }
        } else {
            write!(f, "{}: ", self.section)?;
        }
        match (self.option.is_empty(), self.value.is_empty()) {
            (true, _) => {}
            (false, true) => write!(f, "{}: ", self.option)?,
            (false, false) => write!(f, "{} '{}': ", self.option, self.value)?,
        }
        f.write_str(&self.message)
    }
}

/// A value as a message may show it.
#[must_use]
pub fn shown(option: &str, value: &[u8]) -> String {
    if !value.is_empty() && option.to_ascii_lowercase().ends_with("key") {
        return HIDDEN.to_owned();
    }
    let mut out = String::new();
    let mut count = 0;
    for chunk in value.utf8_chunks() {
        for char in chunk.valid().chars() {
            if count == SHOWN {
                out.push('…');
                return out;
            }
            count += 1;
            // Escapes also what turns or hides text on a terminal (U+202E and its like).
            if char == ' ' || char.is_ascii_graphic() || char.is_alphanumeric() {
                out.push(char);
            } else {
                out.extend(char.escape_default());
            }
        }
        for byte in chunk.invalid() {
            count += 1;
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Collects what is found in one file.
pub(super) struct Report {
    file: String,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// Of each sort and file; a hostile file could otherwise fill the memory with complaints.
const MOST: usize = 200;

/// Where in a file something stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub line: Option<usize>,
    pub section: &'a str,
    pub option: &'a str,
    pub value: &'a [u8],
}

impl<'a> Place<'a> {
    /// A section as a whole.
    pub fn section(section: &'a str, line: usize) -> Self {
        Self { line: Some(line), section, option: "", value: b"" }
    }
    /// Something missing.
    pub fn missing(section: &'a str, option: &'a str) -> Self {
        Self { line: None, section, option, value: b"" }
    }
}

impl Report {
    pub fn new(file: String) -> Self {
        Self { file, problems: Vec::new(), warnings: Vec::new() }
    }
    pub fn problem(&mut self, place: Place<'_>, message: impl Into<String>) {
        let problem = self.build(place, message.into());
        push(&mut self.problems, problem);
    }
    pub fn warning(&mut self, place: Place<'_>, message: impl Into<String>) {
        let warning = self.build(place, message.into());
        push(&mut self.warnings, warning);
    }
    fn build(&self, place: Place<'_>, message: String) -> Problem {
        Problem {
            file: self.file.clone(),
            line: place.line,
            section: place.section.to_owned(),
            // A key pasted in the wrong place can stand where an option's name is meant.
            option: match place.option.len() {
                0..=40 => shown("", place.option.as_bytes()),
                _ => HIDDEN.to_owned(),
            },
            value: shown(place.option, place.value),
            message,
        }
    }
}

fn push(list: &mut Vec<Problem>, problem: Problem) {
    if list.len() < MOST {
        list.push(problem);
    } else if list.len() == MOST {
        let file = problem.file;
        let message = format!("has more than {MOST} of these; the rest is not listed");
        let (section, option, value) = (String::new(), String::new(), String::new());
        list.push(Problem { file, line: None, section, option, value, message });
    }
}
