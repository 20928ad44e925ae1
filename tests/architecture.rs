//! The rules of the house that no compiler knows: floors, purity, names, first sentences, sizes.
//!
//! Sources are scanned as text with comments and strings blanked out. Every rule is a function from
//! sources to complaints, and is shown to complain about a made-up source.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[path = "architecture/crates.rs"]
mod crates;
#[path = "architecture/floors.rs"]
mod floors;
#[path = "architecture/form.rs"]
mod form;
#[path = "architecture/purity.rs"]
mod purity;
#[path = "architecture/scan.rs"]
mod scan;

/// Takes all sources and says what is wrong with them.
type Rule = fn(&[Source]) -> Vec<String>;

/// One file under `src/`.
struct Source {
    /// From `src/` on: `bgp/peer.rs`.
    path: String,
    text: String,
    /// The text with comments and literals blanked, line by line.
    code: String,
    /// The code without what is compiled for tests only.
    live: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = scan::blank(text);
        let only_for_tests = path.ends_with("/tests.rs") || path.contains("/tests/");
        let live = if only_for_tests { String::new() } else { scan::without_tests(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), code, live }
    }

    /// The first folder or file: `bgp`.
    fn room(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    /// The file opts out of the purity lint, or a file it is a part of does: levels of lints reach into
    /// submodules. A whole room is never a driver.
    fn is_driver(&self, sources: &[Source]) -> bool {
        let ancestors =
            self.path.match_indices('/').skip(1).map(|(end, _)| format!("{}.rs", &self.path[..end]));
        let mut files: Vec<String> = ancestors.collect();
        files.push(self.path.clone());
        sources.iter().any(|source| files.contains(&source.path) && source.driver_attribute().is_some())
    }

    /// The attribute that opts out, without line breaks.
    fn driver_attribute(&self) -> Option<String> {
        let flat = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let attribute = |start: usize| flat[start..].split_once(")]").map(|(inside, _)| inside.to_owned());
        flat.match_indices("#![expect(")
            .filter_map(|(start, _)| attribute(start))
            .find(|inside| inside.contains("clippy::disallowed_methods"))
    }

    fn complain(&self, line: usize, message: &str) -> String {
        format!("src/{}:{line}: {message}", self.path)
    }
}

/// Every file under `src/`, in order.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    let named = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| Source::new(&named(path), &fs::read_to_string(path).unwrap())).collect()
}

/// What a rule says about made-up sources.
fn complaints(rule: Rule, sources: &[(&str, &str)]) -> Vec<String> {
    rule(&sources.iter().map(|(path, text)| Source::new(path, text)).collect::<Vec<_>>())
}

#[test]
fn the_house_stands_by_its_rules() {
    let sources = sources();
    assert!(sources.len() > 10, "the sources were not found");
    let rules: [Rule; 10] = [
        floors::arrows_go_down,
        floors::paths_say_where_they_go,
        form::files_begin_with_a_sentence,
        form::names_come_from_the_field,
        form::files_are_short,
        purity::cores_are_pure,
        purity::drivers_say_what_they_drive,
        purity::tasks_die_with_their_owner,
        crates::outside_crates_have_one_room,
        crates::unsafe_is_in_sys,
    ];
    let complaints: Vec<String> = rules.iter().flat_map(|rule| rule(&sources)).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}
