//! YAML text as a tree whose keys and values know their line and column.
//!
//! Only the part of YAML that cannot surprise anybody is taken: one document of maps with text
//! keys, lists and scalars. Scalars stay text, because only the field that reads one knows what it
//! should be: `no` is a fine region and `1e3` a fine name. The parser is the only outside code
//! that sees the text, and it is asked for events, so that depth and size stay in our hands.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::problem::{Problem, Problems};

/// The largest text that is read.
pub(super) const MOST_BYTES: usize = 1 << 20;
/// How deep maps and lists may lie in each other.
pub(super) const MOST_DEPTH: usize = 32;

/// A place in the text: line and column from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    /// The first character of the file.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// A value and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Text as written, and whether quotes (or a block style) stood around it.
    Scalar {
        text: String,
        quoted: bool,
    },
    List(Vec<Node>),
    /// In the order of the file, keys unique.
    Map(Vec<Entry>),
    /// Something that was refused already: nobody complains about it twice.
    Refused,
}

/// One key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Place,
    pub(super) node: Node,
}

impl Node {
    /// Nothing was written: an empty value, `~` or `null`.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, quoted: false }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// Reads the text. What is wrong with it as YAML is added to `problems`; None if it cannot be
/// read any further, or if nothing is in it.
pub(super) fn read(text: &str, problems: &mut Problems) -> Option<Node> {
    let mut builder = Builder { text, parser: Parser::new_from_str(text), problems };
    if text.len() > MOST_BYTES {
        builder.refuse("", Place::START, "the file is larger than 1 MiB", "remove what is not configuration");
        return None;
    }
    builder.document()
}

struct Builder<'t, 'p> {
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    problems: &'p mut Problems,
}

impl<'t> Builder<'t, '_> {
    fn document(&mut self) -> Option<Node> {
        let mut root = None;
        loop {
            let (event, at) = self.next("")?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    self.refuse(
                        "",
                        at,
                        "a second document starts here",
                        "keep one document in a file: remove `---`",
                    );
                    return None;
                }
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                content => root = Some(self.node(content, at, "", 0)?),
            }
        }
        if root.as_ref().is_none_or(Node::is_nothing) {
            self.refuse("", Place::START, "the file is empty", "start from config/minimal.yaml");
            return None;
        }
        root
    }

    /// One value with everything in it. None if reading cannot go on.
    fn node(&mut self, event: Event<'t>, at: Place, path: &str, depth: usize) -> Option<Node> {
        if depth > MOST_DEPTH {
            self.refuse(
                path,
                at,
                format!("nested deeper than {MOST_DEPTH} levels"),
                "close the brackets, or correct the indentation",
            );
            return None;
        }
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                if self.decorated(anchor, tag.as_deref(), path, at) {
                    Value::Refused
                } else {
                    Value::Scalar { text: text.into_owned(), quoted: style != ScalarStyle::Plain }
                }
            }
            Event::SequenceStart(anchor, tag) => {
                let refused = self.decorated(anchor, tag.as_deref(), path, at);
                let list = self.list(path, depth)?;
                if refused { Value::Refused } else { Value::List(list) }
            }
            Event::MappingStart(anchor, tag) => {
                let refused = self.decorated(anchor, tag.as_deref(), path, at);
                let map = self.map(path, depth)?;
                if refused { Value::Refused } else { Value::Map(map) }
            }
            Event::Alias(_) => {
                self.refuse(path, at, "an alias (`*name`) is not taken", "write the value out");
                Value::Refused
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                self.refuse(path, at, "a value is missing here", "write a value, or remove the key");
                return None;
            }
        };
        Some(Node { at, value })
    }

    fn list(&mut self, path: &str, depth: usize) -> Option<Vec<Node>> {
        let mut list = Vec::new();
        loop {
            let (event, at) = self.next(path)?;
            if event == Event::SequenceEnd {
                return Some(list);
            }
            let path = format!("{path}[{}]", list.len());
            list.push(self.node(event, at, &path, depth + 1)?);
        }
    }

    fn map(&mut self, path: &str, depth: usize) -> Option<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut seen: BTreeMap<String, Place> = BTreeMap::new();
        loop {
            let (event, key_at) = self.next(path)?;
            if event == Event::MappingEnd {
                return Some(entries);
            }
            let key = self.node(event, key_at, path, depth + 1)?;
            let nothing = key.is_nothing();
            let key = match key.value {
                Value::Scalar { text, .. } if !nothing => text,
                Value::Refused => String::new(),
                _ => {
                    self.refuse(path, key_at, "a key must be a word", "write a plain key before the colon");
                    String::new()
                }
            };
            let path = join(path, &key);
            let (event, at) = self.next(&path)?;
            let node = self.node(event, at, &path, depth + 1)?;
            if key.is_empty() {
                continue;
            }
            if let Some(first) = seen.get(&key) {
                let message = format!("the key is here twice; the first one is on line {}", first.line);
                self.refuse(&path, key_at, message, "remove one of them");
                continue;
            }
            seen.insert(key.clone(), key_at);
            entries.push(Entry { key, key_at, node });
        }
    }

    /// The next event and its place; None, with the problem told, if the text is not YAML.
    fn next(&mut self, path: &str) -> Option<(Event<'t>, Place)> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Some((event, place(&span))),
            Some(Err(error)) => {
                let at = place(&Span::empty(*error.marker()));
                // The parser names the place where the value before the tab began.
                match error.info().contains("tab").then(|| tab_after(self.text, at)).flatten() {
                    Some(tab) => self.refuse(path, tab, "a tab in the indentation", "indent with spaces"),
                    None => self.refuse(path, at, format!("not YAML: {}", error.info()), HINT),
                }
                None
            }
            None => Some((Event::StreamEnd, Place::START)),
        }
    }

    /// Tells whether an anchor or a tag stands before a value, which is refused.
    fn decorated(&mut self, anchor: usize, tag: Option<&Tag>, path: &str, at: Place) -> bool {
        if let Some(tag) = tag {
            self.refuse(path, at, format!("a tag (`{tag}`) is not taken"), "write the plain value");
        } else if anchor > 0 {
            self.refuse(
                path,
                at,
                "an anchor (`&name`) is not taken",
                "write the value out where it is needed",
            );
        }
        tag.is_some() || anchor > 0
    }

    fn refuse(&mut self, path: &str, at: Place, message: impl Into<String>, hint: &str) {
        self.problems.add(Problem {
            path: path.to_owned(),
            line: at.line,
            column: at.column,
            message: message.into(),
            hint: hint.to_owned(),
        });
    }
}

/// The path of a key inside the map at `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    let key: String = key.chars().take(64).collect();
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn place(span: &Span) -> Place {
    // The parser counts lines from 1 and columns from 0.
    Place { line: span.start.line().max(1), column: span.start.col() + 1 }
}

const HINT: &str = "a quote, a bracket, a colon or the indentation is wrong here or just before";

/// The first tab in the indentation of a line, from a place on.
fn tab_after(text: &str, from: Place) -> Option<Place> {
    text.lines().enumerate().skip(from.line - 1).find_map(|(index, line)| {
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        let column = line[..indentation].find('\t')?;
        Some(Place { line: index + 1, column: column + 1 })
    })
}
