//! Reading one section: typed values out, problems into the report, unknown options noticed.

use crate::config::problem::{Place, Report};
use crate::config::uci::{Item, Section, Value};

pub(super) struct Fields<'a> {
    section: &'a Section,
    pub title: String,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub fn new(section: &'a Section, title: String) -> Self {
        Self { section, title, known: Vec::new() }
    }

    pub fn place(&self, option: &'a str, item: &'a Item) -> Place<'_> {
        Place { line: Some(item.line), section: &self.title, option, value: &item.bytes }
    }

    /// A list, or a single option in its place.
    pub fn items(&mut self, name: &'static str) -> Vec<&'a Item> {
        self.known.push(name);
        match self.section.get(name).map(|entry| &entry.value) {
            None => Vec::new(),
            Some(Value::Text(item)) => vec![item],
            Some(Value::List(items)) => items.iter().collect(),
        }
    }

    pub fn item(&mut self, report: &mut Report, name: &'static str) -> Option<&'a Item> {
        let items = self.items(name);
        if let (Some(second), true) = (items.get(1), items.len() > 1) {
            report.problem(
                self.place(name, second),
                "is the second value; write one, as an option and not a list",
            );
        }
        items.first().copied()
    }

    pub fn read<T>(
        &self,
        report: &mut Report,
        name: &'static str,
        item: &'a Item,
        parse: &dyn Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let mut value = None;
        self.take(report, name, item, &mut |text| {
            value = Some(parse(text)?);
            Ok(())
        });
        value
    }

    /// What reading any type has in common, compiled once: `parse` keeps the value itself.
    fn take(
        &self,
        report: &mut Report,
        name: &'static str,
        item: &'a Item,
        parse: &mut dyn FnMut(&str) -> Result<(), String>,
    ) {
        let parsed = std::str::from_utf8(&item.bytes)
            .map_err(|_| "is no UTF-8 text; the file is damaged or in another encoding".to_owned())
            .and_then(parse);
        if let Err(message) = parsed {
            report.problem(self.place(name, item), message);
        }
    }

    /// As [`Self::take`], with every value.
    fn take_all(
        &mut self,
        report: &mut Report,
        name: &'static str,
        parse: &mut dyn FnMut(&str, &'a Item) -> Result<(), String>,
    ) {
        for item in self.items(name) {
            self.take(report, name, item, &mut |text| parse(text, item));
        }
    }

    pub fn one<T>(
        &mut self,
        report: &mut Report,
        name: &'static str,
        parse: &dyn Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let item = self.item(report, name)?;
        self.read(report, name, item, parse)
    }

    /// Every value that could be read, with its place in the file.
    pub fn all<T>(
        &mut self,
        report: &mut Report,
        name: &'static str,
        parse: &dyn Fn(&str) -> Result<T, String>,
    ) -> Vec<(T, &'a Item)> {
        let mut values = Vec::new();
        self.take_all(report, name, &mut |text, item| {
            values.push((parse(text)?, item));
            Ok(())
        });
        values
    }

    pub fn values<T>(
        &mut self,
        report: &mut Report,
        name: &'static str,
        parse: &dyn Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut values = Vec::new();
        self.take_all(report, name, &mut |text, _| {
            values.push(parse(text)?);
            Ok(())
        });
        values
    }

    /// Warns of options that nobody asked for. Their values are not shown: a mistyped
    /// `private_key` is one of them.
    pub fn warn_unknown(&self, report: &mut Report) {
        for entry in &self.section.options {
            if self.known.contains(&entry.name.as_str()) {
                continue;
            }
            let line = match &entry.value {
                Value::Text(item) => Some(item.line),
                Value::List(items) => items.first().map(|item| item.line),
            };
            let message = match closest(&entry.name, &self.known) {
                Some(near) => format!("is unknown and was not read; {near} was meant?"),
                None => "is unknown and was not read".to_owned(),
            };
            let place = Place { line, section: &self.title, option: &entry.name, value: b"" };
            report.warning(place, message);
        }
    }
}

/// The known option that differs least, if by no more than two letters.
fn closest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    if name.len() > 32 {
        return None;
    }
    known
        .iter()
        .map(|known| (distance(name, known), *known))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, known)| known)
}

/// Levenshtein's distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let next = (corner + usize::from(x != y)).min(left + 1).min(*cell + 1);
            corner = *cell;
            left = next;
            *cell = next;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

/// How messages name a section: `kind 'name'`, or `@kind[2]` as `uci show` does.
pub(super) fn title(section: &Section, sections: &[Section]) -> String {
    let kind = crate::config::problem::shown("", section.kind.as_bytes());
    if !section.anonymous {
        return format!("{kind} '{}'", section.name);
    }
    let at = sections
        .iter()
        .filter(|other| other.kind == section.kind)
        .position(|other| std::ptr::eq(other, section));
    format!("@{kind}[{}]", at.unwrap_or(0))
}
