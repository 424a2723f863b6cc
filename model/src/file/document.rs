//! A TOML document whose every key and value knows its place, and which collects problems.
//!
//! A reader walks it by hand: it takes each key that it knows from a [`Table`] and turns the
//! [`Value`] into what it means. Whatever is wrong is noted in the document and the walk goes on,
//! so one run finds all. [`Table::finish`] reports the keys that nobody took.

use core::{cell::RefCell, fmt, ops::RangeInclusive};
use std::{
    borrow::ToOwned,
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Outcome,
    position::LineIndex,
    problem::{Complaint, Problem, Severity},
    suggest::closest,
};

/// A parsed text and the problems found in it so far.
pub struct Document<'t> {
    root: DeTable<'t>,
    notes: Notes<'t>,
}

struct Notes<'t> {
    lines: LineIndex<'t>,
    /// Lines with a syntax error: what else is found there is a consequence of it.
    broken_lines: BTreeSet<u32>,
    found: RefCell<Vec<Found>>,
}

/// A [`Problem`] at a byte. Ordered by that first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    byte: usize,
    severity: Severity,
    message: String,
    suggestion: Option<String>,
}

impl<'t> Document<'t> {
    /// Reads a text. Where it is not TOML that is noted, and as much as possible is kept.
    #[must_use]
    pub fn parse(text: &'t str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let lines = LineIndex::of(text);
        let mut broken_lines = BTreeSet::new();
        let mut found = Vec::new();
        for error in errors {
            let byte = error.span().map_or(0, |span| span.start);
            // One slip confuses the rest of its line; the first message is the useful one.
            if broken_lines.insert(lines.line(byte)) {
                found.push(Found {
                    byte,
                    severity: Severity::Error,
                    message: error.message().to_owned(),
                    suggestion: None,
                });
            }
        }
        Self {
            root: root.into_inner(),
            notes: Notes {
                lines,
                broken_lines,
                found: RefCell::new(found),
            },
        }
    }

    /// The table that the whole document is.
    #[must_use]
    pub fn root(&self) -> Table<'_> {
        Table {
            entries: Some(&self.root),
            notes: &self.notes,
            start: 0,
            name: String::new(),
            known: Vec::new(),
            announced: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// What reading came to: `value`, unless an error was noted.
    #[must_use]
    pub fn finish<T>(self, value: Option<T>) -> Outcome<T> {
        let mut found = self.notes.found.into_inner();
        found.sort();
        found.dedup();
        let places: Vec<(u32, u32)> = self
            .notes
            .lines
            .positions(found.iter().map(|found| found.byte))
            .collect();
        let problems: Vec<Problem> = found
            .into_iter()
            .zip(places)
            .map(|(found, (line, column))| Problem {
                line,
                column,
                severity: found.severity,
                message: found.message,
                suggestion: found.suggestion,
            })
            .collect();
        let failed = problems
            .iter()
            .any(|problem| problem.severity == Severity::Error);
        debug_assert!(value.is_some() || failed, "no value, and nothing says why");
        Outcome {
            value: value.filter(|_| !failed),
            problems,
        }
    }
}

impl Notes<'_> {
    fn note(&self, byte: usize, severity: Severity, complaint: Complaint) {
        if self.broken_lines.contains(&self.lines.line(byte)) {
            return;
        }
        self.found.borrow_mut().push(Found {
            byte,
            severity,
            message: complaint.message,
            suggestion: complaint.suggestion,
        });
    }
}

/// A table and the keys of it that a reader knows.
pub struct Table<'d> {
    /// `None` if the file does not have it.
    entries: Option<&'d DeTable<'d>>,
    notes: &'d Notes<'d>,
    /// The byte where it begins.
    start: usize,
    /// As in the file: `[fleet]`; empty for the document itself.
    name: String,
    known: Vec<&'static str>,
    /// Keys that the language has, and that are not built yet or belong elsewhere.
    announced: Vec<&'static str>,
    /// Keys that must be there and are not.
    missing: Vec<(&'static str, Complaint)>,
}

impl<'d> Table<'d> {
    /// The value of a key that may be absent.
    pub fn optional(&mut self, key: &'static str) -> Option<Value<'d>> {
        self.known.push(key);
        self.find(key)
    }

    fn find(&self, key: &'static str) -> Option<Value<'d>> {
        let (spelt, value) = self.entries?.get_key_value(key)?;
        Some(Value {
            key,
            key_start: spelt.span().start,
            value,
            notes: self.notes,
        })
    }

    /// The value of a key that must be there; if it is not, [`Table::finish`] notes it, with an
    /// example.
    pub fn required(&mut self, key: &'static str, example: &str) -> Option<Value<'d>> {
        let value = self.optional(key);
        // A key that the parser lost to a syntax error is not missing.
        if value.is_none() && self.notes.broken_lines.is_empty() {
            let place = match self.name.as_str() {
                "" => "the file".to_string(),
                name => name.to_string(),
            };
            let complaint = Complaint::new(format!("{place} has no `{key}`"));
            let complaint = complaint.suggest(format!("add `{key} = {example}`"));
            self.missing.push((key, complaint));
        }
        value
    }

    /// Notes that a key is there although its meaning is not built yet.
    pub fn not_supported_yet(&mut self, keys: &[&'static str]) {
        for key in keys {
            self.announced.push(key);
            if let Some(value) = self.find(key) {
                value.key_error(
                    Complaint::new(format!("`{key}` is not supported yet")).suggest("remove it"),
                );
            }
        }
    }

    /// Notes keys that are there although they belong elsewhere: each with its place.
    pub fn misplaced(&mut self, keys: &[(&'static str, &str)]) {
        for (key, place) in keys {
            self.announced.push(key);
            if let Some(value) = self.find(key) {
                let here = match self.name.as_str() {
                    "" => "outside every table".to_string(),
                    name => format!("in {name}"),
                };
                value.key_error(
                    Complaint::new(format!("`{key}` does not belong {here}"))
                        .suggest(format!("write it in {place}")),
                );
            }
        }
    }

    /// The table of a key that may be absent.
    pub fn table(&mut self, key: &'static str) -> Option<Table<'d>> {
        self.optional(key)?.table()
    }

    /// The table of a key, as if it were there and empty if it is absent; `None` if it is
    /// something else.
    pub fn table_or_empty(&mut self, key: &'static str) -> Option<Table<'d>> {
        match self.optional(key) {
            Some(value) => value.table(),
            None => Some(Table {
                entries: None,
                notes: self.notes,
                start: self.start,
                name: format!("[{key}]"),
                known: Vec::new(),
                announced: Vec::new(),
                missing: Vec::new(),
            }),
        }
    }

    /// The tables of a `[[key]]` that may be absent; `None` if it is something else.
    pub fn tables(&mut self, key: &'static str) -> Option<Vec<Table<'d>>> {
        let Some(value) = self.optional(key) else {
            return Some(Vec::new());
        };
        let DeValue::Array(elements) = value.value.get_ref() else {
            value.error(
                Complaint::new(format!(
                    "`{key}` is a {}, expected one table or more",
                    kind(value.value.get_ref())
                ))
                .suggest(format!("write `[[{key}]]` above each")),
            );
            return None;
        };
        let name = format!("[[{key}]]");
        let tables = elements
            .iter()
            .filter_map(|element| value.sibling(element).table_named(&name));
        Some(tables.collect())
    }

    /// Whether reading this table and what follows can still give a value: false after syntax
    /// errors, which may have swallowed keys.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.notes.broken_lines.is_empty()
    }

    /// Notes an error at the table's beginning.
    pub fn error(&self, complaint: Complaint) {
        self.notes.note(self.start, Severity::Error, complaint);
    }

    /// Notes a warning at the table's beginning.
    pub fn warning(&self, complaint: Complaint) {
        self.notes.note(self.start, Severity::Warning, complaint);
    }

    /// Notes the keys that nobody asked for, and those that are missing, unless one of the former
    /// is one of the latter, misspelt.
    pub fn finish(self) {
        let keys = || self.known.iter().chain(&self.announced).copied();
        let mut meant_keys = Vec::new();
        for key in self.entries.iter().flat_map(|entries| entries.keys()) {
            let word = key.get_ref().as_ref();
            if keys().any(|key| key == word) {
                continue;
            }
            let place = match self.name.as_str() {
                "" => String::new(),
                name => format!(" in {name}"),
            };
            let complaint = Complaint::new(format!("unknown key `{word}`{place}"));
            let meant = closest(word, keys());
            meant_keys.extend(meant);
            let complaint = match meant {
                Some(meant) => complaint.suggest(format!("did you mean `{meant}`?")),
                None => complaint.suggest(format!("known here: {}", self.known.join(", "))),
            };
            self.notes
                .note(key.span().start, Severity::Error, complaint);
        }
        for (key, complaint) in self.missing {
            if !meant_keys.contains(&key) {
                self.notes.note(self.start, Severity::Error, complaint);
            }
        }
    }
}

/// A value of a document, and the key that it is for.
#[derive(Clone)]
pub struct Value<'d> {
    key: &'static str,
    key_start: usize,
    value: &'d Spanned<DeValue<'d>>,
    notes: &'d Notes<'d>,
}

impl<'d> Value<'d> {
    /// The text of a string.
    #[must_use]
    pub fn string(&self) -> Option<&'d str> {
        let string = self.value.get_ref().as_str();
        if string.is_none() {
            self.expected("a string");
        }
        string
    }

    /// What `read` makes of a string.
    pub fn parsed<T>(&self, read: impl FnOnce(&'d str) -> Result<T, Complaint>) -> Option<T> {
        match read(self.string()?) {
            Ok(value) => Some(value),
            Err(complaint) => {
                self.error(complaint);
                None
            }
        }
    }

    /// What the string stands for, as one of a few words.
    pub fn one_of<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let key = self.key;
        self.parsed(|found| {
            words
                .iter()
                .find_map(|(word, meaning)| (*word == found).then_some(*meaning))
                .ok_or_else(|| {
                    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                    let complaint = Complaint::new(format!(
                        "`{key}` is \"{}\", expected {}",
                        found.escape_debug(),
                        alternatives(&known)
                    ));
                    match closest(found, known) {
                        Some(meant) => complaint.suggest(format!("did you mean \"{meant}\"?")),
                        None => complaint,
                    }
                })
        })
    }

    /// An integer within bounds.
    #[must_use]
    pub fn integer(&self, bounds: RangeInclusive<u64>) -> Option<u64> {
        let expected = match (bounds.start(), bounds.end()) {
            (least, most) if least == most => format!("{least}"),
            (least, most) => format!("{least} to {most}"),
        };
        let DeValue::Integer(found) = self.value.get_ref() else {
            self.expected(&format!("the number {expected}"));
            return None;
        };
        let within = u64::from_str_radix(found.as_str(), found.radix())
            .ok()
            .filter(|number| bounds.contains(number));
        if within.is_none() {
            self.error(Complaint::new(format!(
                "`{}` is {found}, expected {expected}",
                self.key
            )));
        }
        within
    }

    /// A boolean.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        let boolean = self.value.get_ref().as_bool();
        if boolean.is_none() {
            self.expected("true or false");
        }
        boolean
    }

    /// The elements of a list of at most `most`.
    #[must_use]
    pub fn list(&self, most: usize) -> Option<Vec<Value<'d>>> {
        let Some(elements) = self.value.get_ref().as_array() else {
            self.expected("a list, like [ … ]");
            return None;
        };
        if elements.len() > most {
            self.error(Complaint::new(format!(
                "`{}` has {} entries, expected at most {most}",
                self.key,
                elements.len()
            )));
            return None;
        }
        Some(
            elements
                .iter()
                .map(|element| self.sibling(element))
                .collect(),
        )
    }

    /// A table.
    #[must_use]
    pub fn table(&self) -> Option<Table<'d>> {
        self.table_named(&format!("[{}]", self.key))
    }

    /// Whether the value is an integer: for keys that take a number or a string.
    #[must_use]
    pub fn is_integer(&self) -> bool {
        self.value.get_ref().is_integer()
    }

    /// Whether the value is a string.
    #[must_use]
    pub fn is_string(&self) -> bool {
        self.value.get_ref().is_str()
    }

    /// Whether the value is a list: for keys that take one value or several.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.value.get_ref().is_array()
    }

    /// Notes an error at the value.
    pub fn error(&self, complaint: Complaint) {
        self.remark(Severity::Error, complaint);
    }

    /// Notes a warning at the value.
    pub fn warning(&self, complaint: Complaint) {
        self.remark(Severity::Warning, complaint);
    }

    /// Notes something at the value, as bad as it is said to be.
    pub fn remark(&self, severity: Severity, complaint: Complaint) {
        self.notes
            .note(self.value.span().start, severity, complaint);
    }

    /// Whether an error was noted so far, anywhere in the document.
    pub(super) fn is_among_errors(&self) -> bool {
        let found = self.notes.found.borrow();
        found.iter().any(|found| found.severity == Severity::Error)
    }

    /// Notes an error at the key.
    pub fn key_error(&self, complaint: Complaint) {
        self.notes.note(self.key_start, Severity::Error, complaint);
    }

    /// The line that the value is on, from 1.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.notes.lines.line(self.value.span().start)
    }

    fn table_named(&self, name: &str) -> Option<Table<'d>> {
        let Some(entries) = self.value.get_ref().as_table() else {
            self.expected("a table");
            return None;
        };
        Some(Table {
            entries: Some(entries),
            notes: self.notes,
            start: self.value.span().start,
            name: name.to_string(),
            known: Vec::new(),
            announced: Vec::new(),
            missing: Vec::new(),
        })
    }

    /// An element of this value, under the same key.
    fn sibling(&self, element: &'d Spanned<DeValue<'d>>) -> Self {
        Self {
            value: element,
            ..self.clone()
        }
    }

    /// Notes that the value is of the wrong kind.
    pub fn expected(&self, expected: &str) {
        self.error(Complaint::new(format!(
            "`{}` is a {}, expected {expected}",
            self.key,
            kind(self.value.get_ref())
        )));
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?}", self.key, self.value.get_ref())
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "whole number",
        DeValue::Float(_) => "decimal number",
        DeValue::Boolean(_) => "truth value",
        DeValue::Datetime(_) => "date",
        DeValue::Array(_) => "list",
        DeValue::Table(_) => "table",
    }
}

/// `"a", "b" or "c"`.
fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
