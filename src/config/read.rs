//! Reads fields out of the tree and writes down every problem it meets, instead of stopping at the first.
//!
//! A decoder asks a [`Fields`] for each key it knows and closes it; each key gives a [`Spot`], a
//! value that knows its path and place. What cannot be read is written on the [`Sheet`] and
//! answered with None, so that the decoder goes on with the next key. Since one problem refuses
//! the whole file, a decoder may go on with a default in the place of a broken value.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::problem::{Problem, Problems};
use super::tree::{self, Entry, Node, Place, Value};

mod nearest;
mod scalar;

/// Keys of one map that are judged one by one; no section knows as many.
const MOST_COMPARED: usize = 256;

pub(super) use scalar::{Letters, whole};

/// Where every problem of one reading is written.
pub(super) struct Sheet(RefCell<Problems>);

impl Sheet {
    pub(super) fn new(problems: Problems) -> Self {
        Self(RefCell::new(problems))
    }

    /// How many problems there are so far.
    pub(super) fn count(&self) -> usize {
        self.0.borrow().count()
    }

    /// Writes a problem down; an empty hint is none.
    pub(super) fn add(&self, path: &str, at: Place, message: impl Into<String>, hint: impl Into<String>) {
        let hint = hint.into();
        let path = path.to_owned();
        self.0.borrow_mut().add(Problem {
            path,
            line: at.line,
            column: at.column,
            message: message.into(),
            hint,
        });
    }

    pub(super) fn into_problems(self) -> Problems {
        self.0.into_inner()
    }
}

/// One value with its path.
#[derive(Clone)]
pub(super) struct Spot<'a> {
    sheet: &'a Sheet,
    node: &'a Node,
    path: String,
    /// The key that holds the value; None in a list and at the top.
    key_at: Option<Place>,
}

impl<'a> Spot<'a> {
    /// The whole file.
    pub(super) fn top(sheet: &'a Sheet, node: &'a Node) -> Self {
        Self { sheet, node, path: String::new(), key_at: Some(Place::START) }
    }

    pub(super) fn sheet(&self) -> &'a Sheet {
        self.sheet
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Where a problem of the value belongs: the value itself, or its key if nothing is written.
    pub(super) fn at(&self) -> Place {
        if self.node.is_nothing() { self.holder_at() } else { self.node.at }
    }

    /// Where a problem of something missing inside belongs: at the key.
    fn holder_at(&self) -> Place {
        self.key_at.unwrap_or(self.node.at)
    }

    /// Writes down that the value is wrong.
    pub(super) fn refuse(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.sheet.add(&self.path, self.at(), message, hint);
    }

    /// Writes down that something is wrong with a field that is not written in the map.
    pub(super) fn refuse_absent(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.sheet.add(&tree::join(&self.path, key), self.holder_at(), message, hint);
    }

    /// A map; nothing written is an empty one, so that a section may stand with all its keys commented out.
    pub(super) fn fields(&self) -> Option<Fields<'a>> {
        let entries: &'a [Entry] = match &self.node.value {
            Value::Map(entries) => entries,
            _ if self.node.is_nothing() => &[],
            _ => {
                self.refuse_kind("a map of keys and values");
                return None;
            }
        };
        let (asked, refused, excused) = (Vec::new(), Vec::new(), Vec::new());
        Some(Fields { spot: self.clone(), entries, asked, refused, excused })
    }

    /// A list of at most `most` values.
    pub(super) fn list(&self, most: usize) -> Option<Vec<Spot<'a>>> {
        let Value::List(nodes) = &self.node.value else {
            self.refuse_kind("a list");
            return None;
        };
        if nodes.len() > most {
            self.refuse(format!("{} entries, but at most {most} are taken", nodes.len()), "remove entries");
            return None;
        }
        let spot = |(index, node)| Spot {
            sheet: self.sheet,
            node,
            path: format!("{}[{index}]", self.path),
            key_at: None,
        };
        Some(nodes.iter().enumerate().map(spot).collect())
    }

    /// A list in which something must be.
    pub(super) fn filled_list(&self, most: usize) -> Option<Vec<Spot<'a>>> {
        let list = self.list(most)?;
        if list.is_empty() {
            self.refuse("an empty list", "at least one entry is needed");
            return None;
        }
        Some(list)
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// Says that something else was expected, unless that was said already.
    fn refuse_kind(&self, expected: &str) {
        let found = match &self.node.value {
            Value::Refused => return,
            _ if self.node.is_nothing() => "nothing".to_owned(),
            Value::Scalar { text, .. } => shown(text),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        };
        self.refuse(format!("expected {expected}, found {found}"), format!("write {expected} here"));
    }
}

/// The keys of one map.
pub(super) struct Fields<'a> {
    spot: Spot<'a>,
    entries: &'a [Entry],
    asked: Vec<&'static str>,
    refused: Vec<&'static str>,
    /// Keys that are missing, and what seems to be meant by them.
    excused: Vec<(&'static str, Vec<&'a str>)>,
}

impl<'a> Fields<'a> {
    /// The map itself.
    pub(super) fn spot(&self) -> &Spot<'a> {
        &self.spot
    }

    /// A key that may be left out.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Spot<'a>> {
        self.asked.push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(self.at_entry(entry))
    }

    /// A key that must be there.
    pub(super) fn need(&mut self, key: &'static str) -> Option<Spot<'a>> {
        let found = self.get(key);
        if found.is_none() {
            // A wrongly spelt key is one problem, not two; whether it is one is known at the end.
            let entries = self.entries.iter().take(MOST_COMPARED).map(|entry| entry.key.as_str());
            let misspelt = entries.filter(|known| nearest::nearest(known, &[key]).is_some()).collect();
            self.excused.push((key, misspelt));
        }
        found
    }

    /// A key that people write, but that must never be there.
    pub(super) fn never(&mut self, key: &'static str, message: &str, hint: &str) {
        self.refused.push(key);
        if let Some(entry) = self.entries.iter().find(|entry| entry.key == key) {
            self.spot.sheet.add(&tree::join(&self.spot.path, key), entry.key_at, message, hint);
        }
    }

    /// Refuses every key that was not asked for. `later` are words of versions to come.
    pub(super) fn close(self, later: &[&str]) {
        for (key, misspelt) in &self.excused {
            if misspelt.iter().all(|written| self.asked.contains(written)) {
                let hint = format!("add `{key}: …`; config/edgeproxy.yaml explains every key");
                self.spot.refuse_absent(key, "is missing", hint);
            }
        }
        for (index, entry) in self.entries.iter().enumerate() {
            let key = entry.key.as_str();
            if self.asked.contains(&key) || self.refused.contains(&key) {
                continue;
            }
            if index >= MOST_COMPARED {
                self.spot.refuse(
                    format!("{} keys; most of them are unknown", self.entries.len()),
                    "remove them; config/edgeproxy.yaml shows the known ones",
                );
                break;
            }
            let (message, hint) = if later.contains(&key) {
                let message = format!("this version does not have `{key}` yet");
                (message, "remove it: it is a word of a later version".to_owned())
            } else {
                let message = format!("unknown key {}", shown(key));
                let hint = match nearest::nearest(key, &self.asked) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("known here: {}", self.asked.join(" ")),
                };
                (message, hint)
            };
            self.spot.sheet.add(&tree::join(&self.spot.path, key), entry.key_at, message, hint);
        }
    }

    fn at_entry(&self, entry: &'a Entry) -> Spot<'a> {
        Spot {
            sheet: self.spot.sheet,
            node: &entry.node,
            path: tree::join(&self.spot.path, &entry.key),
            key_at: Some(entry.key_at),
        }
    }
}

/// Values that may occur only once, such as names.
#[derive(Default)]
pub(super) struct Unique(BTreeMap<String, Place>);

impl Unique {
    /// Takes a value for a spot; refuses it there if it was taken before.
    pub(super) fn claim(&mut self, spot: &Spot<'_>, value: &str) -> bool {
        if let Some(first) = self.0.get(value) {
            spot.refuse(
                format!("{} is used already on line {}", shown(value), first.line),
                "each needs one of its own",
            );
            return false;
        }
        self.0.insert(value.to_owned(), spot.at());
        true
    }

    /// Whether a value was taken.
    pub(super) fn contains(&self, value: &str) -> bool {
        self.0.contains_key(value)
    }

    /// What was taken, in order.
    pub(super) fn values(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// Text of the file as it may stand in a message: short, in backticks, nothing invisible.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 48;
    let short: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    let rest = if text.chars().nth(MOST).is_some() { "…" } else { "" };
    format!("`{short}{rest}`")
}

/// A hint that names the known word nearest to a wrong one, or all of them.
pub(super) fn meant(word: &str, known: &[&str]) -> String {
    match nearest::nearest(word, known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => String::new(),
        None if known.len() > 12 => format!("known: {} and {} more", known[..12].join(" "), known.len() - 12),
        None => format!("known: {}", known.join(" ")),
    }
}
