//! The lexer: bytes of a UCI file -> commands, one at a time, exactly as libuci cuts them.
//!
//! libuci (file.c) reads a line into a buffer and unquotes it in place; some of what it accepts
//! follows from that and is reproduced here because the router's other programs see it that way:
//!
//! - `p`, `c`, `o`, `l` stand for `package`, `config`, `option`, `list`; a command word ends only
//!   at a space or tab;
//! - quotes may open and close inside a word (`'it'\''s'`), and quoted text may hold line breaks;
//! - an unquoted `#` starts a comment even in the middle of a word;
//! - a `;` after a word that holds a quote or backslash, or after a space, ends the command and
//!   another may follow; directly after a plain word it drops the rest of the line;
//! - a backslash at the end of a line joins the next line to it.

use std::ops::Range;

use super::{Fault, Reason};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Checked, then ignored: the file's name decides, as in `uci_load`.
    Package,
    Config {
        kind: String,
        name: Option<String>,
    },
    Option {
        name: String,
        value: Vec<u8>,
    },
    List {
        name: String,
        value: Vec<u8>,
    },
}

/// A command and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub command: Command,
    /// Counted from 1; where the command's word stands.
    pub line: usize,
    /// Where the command's last argument begins (it may follow a joined or quoted line break).
    pub value_line: usize,
    /// Offset of the first byte of the line (or joined lines) that holds the command.
    pub starts: usize,
}

/// Reads commands from a file's bytes. Uses constant memory beside the current command.
pub struct Commands<'a> {
    data: &'a [u8],
    pos: usize,
    /// End of what the current line shows: libuci's terminating zero.
    end: usize,
    /// End of what was loaded so far: the next line begins here.
    loaded: usize,
    line: usize,
    line_starts: usize,
    within_line: bool,
    failed: bool,
}

impl<'a> Commands<'a> {
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, pos: 0, end: 0, loaded: 0, line: 0, line_starts: 0, within_line: false, failed: false }
    }

    /// The bytes of the line (with those joined to it) that the last command came from. Its end is
    /// final only once the next command was asked for.
    #[must_use]
    pub fn line_span(&self) -> Range<usize> {
        self.line_starts..self.loaded
    }

    fn fault(&self, reason: Reason) -> Fault {
        Fault { line: self.line, reason }
    }

    fn current(&self) -> Option<u8> {
        if self.pos < self.end { self.data.get(self.pos).copied() } else { None }
    }

    /// Appends the next line to the current one; false at the end of the file.
    fn load(&mut self) -> Result<bool, Fault> {
        let rest = self.data.get(self.loaded..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(false);
        }
        let length = rest.iter().position(|&b| b == b'\n').map_or(rest.len(), |at| at + 1);
        self.line += 1;
        // libuci's fgets loop glues the next line to what stood before a zero byte.
        if rest.iter().take(length).any(|&b| b == 0) {
            return Err(self.fault(Reason::ZeroByte));
        }
        self.loaded += length;
        self.end = self.loaded;
        Ok(true)
    }

    fn skip_space(&mut self) {
        while self.current().is_some_and(is_space) {
            self.pos += 1;
        }
    }

    /// Called on a backslash. True: the byte it stands before is meant literally; false: it joined
    /// the next line.
    fn backslash(&mut self) -> Result<bool, Fault> {
        self.pos += 1;
        let carriage_return = self.data.get(self.pos..self.end).is_some_and(|rest| rest == b"\r\n");
        match self.current() {
            Some(byte) if byte != b'\n' && !carriage_return => Ok(true),
            _ => {
                self.pos = self.end;
                self.load()?;
                Ok(false)
            }
        }
    }

    fn quoted(&mut self, quote: u8, out: &mut Vec<u8>) -> Result<(), Fault> {
        let opened = self.line;
        self.pos += 1;
        loop {
            match self.current() {
                None => {
                    if !self.load()? {
                        return Err(Fault { line: opened, reason: Reason::OpenQuote });
                    }
                }
                Some(byte) if byte == quote => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(b'\\') if quote == b'"' => {
                    if self.backslash()? {
                        self.push(out);
                    }
                }
                Some(_) => self.push(out),
            }
        }
    }

    fn push(&mut self, out: &mut Vec<u8>) {
        if let Some(byte) = self.current() {
            out.push(byte);
            self.pos += 1;
        }
    }

    fn argument(&mut self) -> Result<Vec<u8>, Fault> {
        self.skip_space();
        if self.current() == Some(b';') {
            self.pos += 1;
            return Ok(Vec::new());
        }
        let mut out = Vec::new();
        let mut plain = true;
        loop {
            match self.current() {
                None => return Ok(out),
                Some(b'#') => {
                    self.end = self.pos;
                    return Ok(out);
                }
                Some(b';') => {
                    if plain {
                        // libuci terminates the word in place, which erases the semicolon.
                        self.end = self.pos;
                    }
                    return Ok(out);
                }
                Some(quote @ (b'\'' | b'"')) => {
                    plain = false;
                    self.quoted(quote, &mut out)?;
                }
                Some(b'\\') => {
                    plain = false;
                    if self.backslash()? {
                        self.push(&mut out);
                    }
                }
                Some(_) => self.push(&mut out),
            }
            match self.current() {
                None => return Ok(out),
                Some(byte) if is_space(byte) => {
                    self.pos += 1;
                    return Ok(out);
                }
                Some(_) => {}
            }
        }
    }

    fn required(&mut self) -> Result<Vec<u8>, Fault> {
        let out = self.argument()?;
        if out.is_empty() { Err(self.fault(Reason::MissingArgument)) } else { Ok(out) }
    }

    fn name(&mut self, package: bool) -> Result<String, Fault> {
        let name = self.required()?;
        self.checked(name, |b| b.is_ascii_alphanumeric() || b == b'_' || (package && b == b'-'))
            .ok_or_else(|| self.fault(Reason::BadName))
    }

    fn checked(&self, text: Vec<u8>, allowed: impl Fn(u8) -> bool) -> Option<String> {
        if text.iter().all(|&b| allowed(b)) { String::from_utf8(text).ok() } else { None }
    }

    fn end_of_command(&mut self) -> Result<(), Fault> {
        if self.argument()?.is_empty() { Ok(()) } else { Err(self.fault(Reason::TooManyArguments)) }
    }

    /// The command word at the cursor; None where the line has no more.
    fn word(&mut self) -> Option<&'a [u8]> {
        while self.current().is_some_and(|b| b == b' ' || b == b'\t') {
            self.pos += 1;
        }
        let rest = self.data.get(self.pos..self.end).unwrap_or_default();
        let length = rest.iter().position(|&b| b == b' ' || b == b'\t').unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default();
        if word.is_empty() || word.first() == Some(&b'#') {
            return None;
        }
        self.pos += length;
        Some(word)
    }

    fn command(&mut self, word: &[u8]) -> Result<Placed, Fault> {
        let line = self.line;
        let known: [&[u8]; 8] = [b"p", b"package", b"c", b"config", b"o", b"option", b"l", b"list"];
        if !known.contains(&word) {
            return Err(self.fault(Reason::UnknownCommand));
        }
        if self.current().is_none() {
            return Err(self.fault(Reason::MissingArgument));
        }
        self.pos += 1;
        let mut value_line = line;
        let command = match word.first() {
            Some(b'p') => {
                self.name(true)?;
                Command::Package
            }
            Some(b'c') => {
                let kind = self.required()?;
                let kind = self
                    .checked(kind, |b| (33..=126).contains(&b))
                    .ok_or_else(|| self.fault(Reason::BadKind))?;
                let name = self.argument()?;
                let name = self
                    .checked(name, |b| b.is_ascii_alphanumeric() || b == b'_')
                    .ok_or_else(|| self.fault(Reason::BadName))?;
                Command::Config { kind, name: Some(name).filter(|name| !name.is_empty()) }
            }
            first => {
                let name = self.name(false)?;
                value_line = self.line;
                let value = self.argument()?;
                if first == Some(&b'l') {
                    Command::List { name, value }
                } else {
                    Command::Option { name, value }
                }
            }
        };
        self.end_of_command()?;
        Ok(Placed { command, line, value_line, starts: self.line_starts })
    }

    fn advance(&mut self) -> Result<Option<Placed>, Fault> {
        loop {
            if !self.within_line {
                self.pos = self.loaded;
                self.line_starts = self.loaded;
                if !self.load()? {
                    return Ok(None);
                }
                self.skip_space();
                self.within_line = true;
            }
            match self.word() {
                None => self.within_line = false,
                Some(word) => return self.command(word).map(Some),
            }
        }
    }
}

impl Iterator for Commands<'_> {
    type Item = Result<Placed, Fault>;

    /// After a fault there is nothing more: libuci refuses the whole file, too.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.advance();
        self.failed = next.is_err();
        next.transpose()
    }
}

/// C's isspace() in the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}
