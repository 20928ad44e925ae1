//! The configuration as an operator meets it: files go in, a configuration or all its problems come out.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use edgeproxy::config::load::{LoadError, load};
use edgeproxy::config::problem::Problems;

#[path = "config/certificates.rs"]
mod certificates;
#[path = "config/defaults.rs"]
mod defaults;
#[path = "config/differences.rs"]
mod differences;
#[path = "config/fleet.rs"]
mod fleet;
#[path = "config/hostile.rs"]
mod hostile;
#[path = "config/secrets.rs"]
mod secrets;

/// Where something is wrong, and words that the message or its hint must hold.
#[derive(Debug)]
struct Expected {
    path: String,
    place: String,
    words: String,
}

#[test]
fn every_example_loads() {
    let examples = files("config");
    assert!(examples.len() >= 2);
    for example in examples {
        if let Err(error) = load(&example) {
            panic!("{}\n{error}", example.display());
        }
    }
}

#[test]
fn every_broken_file_is_refused_with_exactly_its_problems() {
    let broken = files("tests/config/broken");
    assert!(broken.len() >= 30, "only {} broken files", broken.len());
    let wrong: Vec<String> = broken.iter().filter_map(|file| disagreement(file)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What differs between the problems of a file and those that its head expects.
fn disagreement(file: &Path) -> Option<String> {
    let expected = expectations(file);
    assert!(!expected.is_empty(), "{} expects nothing", file.display());
    let problems = problems(file);
    let mut left: Vec<_> = problems.list().iter().collect();
    let mut missing = Vec::new();
    for expected in expected {
        let found = left.iter().position(|problem| {
            problem.path == expected.path
                && format!("{}:{}", problem.line, problem.column) == expected.place
                && format!("{}\n{}", problem.message, problem.hint).contains(&expected.words)
        });
        match found {
            Some(index) => drop(left.remove(index)),
            None => missing.push(expected),
        }
    }
    (!missing.is_empty() || !left.is_empty())
        .then(|| format!("{}\n  missing: {missing:#?}\n  found:\n{problems}", file.display()))
}

fn expectations(file: &Path) -> Vec<Expected> {
    let text = std::fs::read_to_string(file).unwrap();
    let expectations = text.lines().filter_map(|line| line.strip_prefix("# expect: "));
    expectations
        .map(|line| {
            let mut parts = line.splitn(3, ' ').map(str::to_owned);
            let mut part = || parts.next().expect("PATH LINE:COLUMN words");
            let path = part();
            Expected { path: if path == "-" { String::new() } else { path }, place: part(), words: part() }
        })
        .collect()
}

/// The problems of a file that must not load.
fn problems(file: &Path) -> Problems {
    match load(file) {
        Err(LoadError::Invalid(problems)) => problems,
        other => panic!("{}: {other:?}", file.display()),
    }
}

fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
