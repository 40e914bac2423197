//! Writing: puts sections into an existing file's text and leaves every other byte as it was,
//! comments included (libuci's own `uci commit` drops them).

use std::ops::Range;

use super::{Commands, Entry, Fault, Item, Package, Section, Tree, Value, parse};

/// A section to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSection {
    pub kind: &'static str,
    /// UCI's rules for names: `[A-Za-z0-9_]`.
    pub name: Option<String>,
    /// In the order to be written; an empty text or list is left out, as UCI cannot hold it.
    pub options: Vec<(&'static str, NewValue)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewValue {
    Text(String),
    List(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    #[error("cannot be read, so nothing was written into it: {0}")]
    Unreadable(#[from] Fault),
    #[error("line {0} holds commands of several sections; put each on a line of its own first")]
    MixedLine(usize),
    #[error("would not read back as wanted with the new section '{0}', so it was left as it is")]
    Differs(String),
}

/// What becomes of a section that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fate {
    #[default]
    Stays,
    /// The new section of this number takes its place.
    Becomes(usize),
    Goes,
}

/// Writes each section of `new` in the place of the sections that `replaces` names for it
/// (judging `(new, existing)`), or at the end where there is none. Comments within replaced
/// sections stay.
///
/// # Errors
/// When `text` is no valid file, when a line cannot be taken out without touching another
/// section, or when the outcome does not read back as wanted. `text` then stands as it was.
pub fn replace(
    text: &[u8],
    new: &[NewSection],
    replaces: impl Fn(&NewSection, &Section) -> bool,
) -> Result<Vec<u8>, EditError> {
    let before = parse(text)?;
    let successor = |old: &Section| new.iter().position(|section| replaces(section, old));
    let fates: Vec<Fate> =
        before.sections.iter().map(|old| successor(old).map_or(Fate::Stays, Fate::Becomes)).collect();
    rewrite(text, &before, &fates, new)
}

/// Has the sections that are `owned` be those of `new`, in this order, at the end of the file. None:
/// they are, wherever they stand. With an empty `new` the text becomes what it was without them, down to the
/// empty lines before them.
///
/// # Errors
/// As [`replace`].
pub fn own(
    text: &[u8],
    new: &[NewSection],
    owned: impl Fn(&Section) -> bool,
) -> Result<Option<Vec<u8>>, EditError> {
    let before = parse(text)?;
    let present = before.sections.iter().filter(|section| owned(section)).map(shape);
    if present.eq(new.iter().map(shape_of_new)) {
        return Ok(None);
    }
    let fate = |section| if owned(section) { Fate::Goes } else { Fate::Stays };
    let fates: Vec<Fate> = before.sections.iter().map(fate).collect();
    rewrite(text, &before, &fates, new).map(Some)
}

/// An option that vpnd adds to sections of the owner's, and takes back. Beside it stands a marker of the same
/// value: the file itself says what was added, from the same write on, after `uci commit`, and without vpnd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loan {
    /// `option` or `list`.
    pub word: &'static str,
    pub name: &'static str,
    pub marker: &'static str,
    pub value: &'static str,
}

impl Loan {
    #[must_use]
    pub fn is_in(&self, section: &Section) -> bool {
        section.get(self.marker).is_some()
    }

    /// The section's values that were added: the marker's, and the option's unless somebody changed it.
    fn lent<'a>(&self, section: &'a Section) -> Vec<&'a Item> {
        let Some([marker]) = section.get(self.marker).map(|entry| items(&entry.value)) else {
            return Vec::new();
        };
        let option = section.get(self.name).map(|entry| items(&entry.value)).unwrap_or_default();
        let same = option.len() == 1;
        let unchanged = option.iter().filter(|item| same && item.bytes == marker.bytes);
        std::iter::once(marker).chain(unchanged).collect()
    }

    /// The section as its owner wrote it.
    fn without(&self, section: &Section) -> Shape {
        let lent: Vec<usize> = self.lent(section).iter().map(|item| item.line).collect();
        let theirs = |entry: &&Entry| {
            let named = entry.name == self.marker || entry.name == self.name;
            !named || !items(&entry.value).iter().all(|item| lent.contains(&item.line))
        };
        let options = section.options.iter().filter(theirs).cloned().collect();
        shape(&Section { options, ..section.clone() })
    }
}

/// Has the sections that `wanted` names have the option, where they have none of their own, and no other section
/// what was added before. None: they are so. Every other byte stays, and what is taken back leaves none behind.
///
/// # Errors
/// As [`replace`].
pub fn lend(
    text: &[u8],
    loan: &Loan,
    wanted: impl Fn(&Section) -> bool,
) -> Result<Option<Vec<u8>>, EditError> {
    let before = parse(text)?;
    let lines = lines(text)?;
    let line = |number: usize| lines.iter().find(|line| line.number == number);
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for section in &before.sections {
        match (loan.is_in(section), wanted(section)) {
            (true, false) => {
                for item in loan.lent(section) {
                    let own = line(item.line).filter(|line| line.sections.len() == 1);
                    let own = own.ok_or(EditError::MixedLine(item.line))?;
                    edits.push((own.span.clone(), String::new()));
                }
            }
            (false, true) if section.get(loan.name).is_none() => {
                let whole = |line: &&Line| {
                    line.sections.iter().all(|at| Some(at) == line.sections.first())
                        && text.get(..line.span.end).is_some_and(|text| text.ends_with(b"\n"))
                };
                let header = line(section.line).filter(whole).ok_or(EditError::MixedLine(section.line))?;
                let Loan { word, name, marker, value } = loan;
                let end = header.span.end;
                edits.push((end..end, format!("\t{word} {name} '{value}'\n\toption {marker} '{value}'\n")));
            }
            _ => {}
        }
    }
    if edits.is_empty() {
        return Ok(None);
    }
    edits.sort_by_key(|(span, _)| span.start);
    let (mut out, mut copied) = (Vec::with_capacity(text.len() + 128), 0);
    for (span, new) in edits {
        out.extend_from_slice(text.get(copied..span.start).unwrap_or_default());
        out.extend_from_slice(new.as_bytes());
        copied = span.end;
    }
    out.extend_from_slice(text.get(copied..).unwrap_or_default());
    let same = parse(&out).is_ok_and(|after| {
        after.sections.len() == before.sections.len()
            && before.sections.iter().zip(&after.sections).all(|(old, new)| {
                let due = wanted(old) && (loan.is_in(old) || old.get(loan.name).is_none());
                loan.without(old) == loan.without(new) && loan.is_in(new) == due
            })
    });
    if same { Ok(Some(out)) } else { Err(EditError::Differs(loan.name.to_owned())) }
}

fn items(value: &Value) -> &[Item] {
    match value {
        Value::Text(item) => std::slice::from_ref(item),
        Value::List(items) => items,
    }
}

fn rewrite(text: &[u8], before: &Package, fates: &[Fate], new: &[NewSection]) -> Result<Vec<u8>, EditError> {
    let mut out = Vec::with_capacity(text.len() + 512);
    let mut written = vec![false; new.len()];
    let mut copied = 0;
    for line in lines(text)? {
        let fate = line.fate(fates)?;
        if fate == Fate::Stays {
            continue;
        }
        out.extend_from_slice(text.get(copied..line.span.start).unwrap_or_default());
        copied = line.span.end;
        let Fate::Becomes(at) = fate else {
            // The empty line that was put before the section.
            if out.ends_with(b"\n\n") {
                out.pop();
            }
            continue;
        };
        if let (Some(flag), Some(section)) = (written.get_mut(at), new.get(at)) {
            if !*flag {
                *flag = true;
                out.extend_from_slice(render(section).as_bytes());
            }
        }
    }
    out.extend_from_slice(text.get(copied..).unwrap_or_default());
    for (section, _) in new.iter().zip(&written).filter(|(_, done)| !**done) {
        if !out.is_empty() {
            out.extend_from_slice(if out.ends_with(b"\n") { b"\n" } else { b"\n\n" });
        }
        out.extend_from_slice(render(section).as_bytes());
    }
    verify(&out, before, fates, new)?;
    Ok(out)
}

/// A line (with those joined to it) and the sections its commands belong to.
struct Line {
    span: Range<usize>,
    number: usize,
    sections: Vec<usize>,
}

impl Line {
    /// That of all its sections.
    fn fate(&self, fates: &[Fate]) -> Result<Fate, EditError> {
        let mut fates = self.sections.iter().map(|&at| fates.get(at).copied().unwrap_or_default());
        let first = fates.next().unwrap_or_default();
        if fates.all(|fate| fate == first) { Ok(first) } else { Err(EditError::MixedLine(self.number)) }
    }
}

fn lines(text: &[u8]) -> Result<Vec<Line>, EditError> {
    let mut tree = Tree::default();
    let mut lines: Vec<Line> = Vec::new();
    let mut commands = Commands::new(text);
    while let Some(placed) = commands.next() {
        let placed = placed?;
        tree.add(placed.command, placed.value_line).map_err(|reason| Fault { line: placed.line, reason })?;
        let span = commands.line_span();
        let section = tree.current;
        match lines.last_mut().filter(|line| line.span.start == span.start) {
            Some(line) => {
                line.span = span;
                line.sections.extend(section);
            }
            None => lines.push(Line { span, number: placed.line, sections: section.into_iter().collect() }),
        }
    }
    Ok(lines)
}

fn render(section: &NewSection) -> String {
    let mut out = format!("config {}", section.kind);
    if let Some(name) = &section.name {
        out.push(' ');
        out.push_str(&quote(name));
    }
    out.push('\n');
    for (name, value) in &section.options {
        match value {
            NewValue::Text(text) if text.is_empty() => {}
            NewValue::Text(text) => out.push_str(&format!("\toption {name} {}\n", quote(text))),
            NewValue::List(items) => {
                for item in items {
                    out.push_str(&format!("\tlist {name} {}\n", quote(item)));
                }
            }
        }
    }
    out
}

/// As libuci quotes: everything in single quotes is literal but the quote itself.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn verify(out: &[u8], before: &Package, fates: &[Fate], new: &[NewSection]) -> Result<(), EditError> {
    let differs = || EditError::Differs(new.first().map_or_else(String::new, title));
    let after = parse(out).map_err(|_| differs())?;
    let wanted: Vec<Shape> = new.iter().map(shape_of_new).collect();
    let kept: Vec<Shape> = before
        .sections
        .iter()
        .zip(fates)
        .filter(|(_, fate)| **fate == Fate::Stays)
        .map(|(section, _)| shape(section))
        .collect();
    let (mut new_seen, mut kept_seen) = (0, Vec::new());
    for section in after.sections.iter().map(shape) {
        if wanted.contains(&section) && !kept.contains(&section) {
            new_seen += 1;
        } else {
            kept_seen.push(section);
        }
    }
    let duplicates = wanted.iter().filter(|section| kept.contains(section)).count();
    if duplicates == 0 && new_seen == wanted.len() && kept_seen == kept { Ok(()) } else { Err(differs()) }
}

fn title(section: &NewSection) -> String {
    match &section.name {
        Some(name) => format!("{} {name}", section.kind),
        None => section.kind.to_owned(),
    }
}

/// A section without what may change by being moved: lines, and the names that libuci makes up.
type Shape = (String, Option<String>, Vec<(String, bool, Vec<Vec<u8>>)>);

fn shape(section: &Section) -> Shape {
    let options = section
        .options
        .iter()
        .map(|entry| match &entry.value {
            Value::Text(item) => (entry.name.clone(), false, vec![item.bytes.clone()]),
            Value::List(items) => {
                (entry.name.clone(), true, items.iter().map(|item| item.bytes.clone()).collect())
            }
        })
        .collect();
    (section.kind.clone(), (!section.anonymous).then(|| section.name.clone()), options)
}

fn shape_of_new(section: &NewSection) -> Shape {
    let options = section
        .options
        .iter()
        .map(|(name, value)| match value {
            NewValue::Text(text) => ((*name).to_owned(), false, vec![text.clone().into_bytes()]),
            NewValue::List(items) => {
                ((*name).to_owned(), true, items.iter().map(|item| item.clone().into_bytes()).collect())
            }
        })
        .filter(|(_, list, values)| {
            !values.is_empty() && (*list || values.iter().all(|value| !value.is_empty()))
        })
        .collect();
    (section.kind.to_owned(), section.name.clone(), options)
}
