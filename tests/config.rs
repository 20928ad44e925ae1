//! The configuration as an operator meets it: files go in, a configuration or all its problems come out.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use edgeproxy::config::load::load;

fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
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
