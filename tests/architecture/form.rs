//! How a file begins, what it is called, how long it is.

use super::{Source, complaints};

const MOST_LINES: usize = 450;
const NO_NAMES: [&str; 9] = [
    "mod.rs",
    "utils.rs",
    "util.rs",
    "common.rs",
    "types.rs",
    "helpers.rs",
    "helper.rs",
    "manager.rs",
    "service.rs",
];

/// `//! One sentence.`, possibly over several lines.
pub(super) fn files_begin_with_a_sentence(sources: &[Source]) -> Vec<String> {
    let begins = |source: &&Source| {
        let paragraph: Vec<&str> = source
            .text
            .lines()
            .map_while(|line| line.strip_prefix("//! "))
            .take_while(|line| !line.is_empty())
            .collect();
        paragraph.last().is_some_and(|line| line.ends_with('.'))
    };
    let wrong = sources.iter().filter(|source| !begins(source) && !source.path.ends_with("/tests.rs"));
    wrong
        .map(|source| source.complain(1, "begins with `//! ` and a sentence that ends with a full stop"))
        .collect()
}

/// Files and folders are named after what they hold, not after what they are.
pub(super) fn names_come_from_the_field(sources: &[Source]) -> Vec<String> {
    // In the catalog a service is a thing of the field, like a backend.
    let nameless = |source: &&Source| {
        source.path != "catalog/service.rs"
            && source.path.split('/').any(|part| {
                NO_NAMES.contains(&part) || NO_NAMES.iter().any(|name| name.strip_suffix(".rs") == Some(part))
            })
    };
    sources.iter().filter(nameless).map(|source| source.complain(1, "a name that says nothing")).collect()
}

/// A file is read in one sitting.
pub(super) fn files_are_short(sources: &[Source]) -> Vec<String> {
    let long = sources.iter().map(|source| (source, source.text.lines().count()));
    long.filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(source, lines)| {
            source.complain(lines, &format!("{lines} lines; at most {MOST_LINES}: split it"))
        })
        .collect()
}

#[test]
fn a_file_without_a_sentence_is_seen() {
    for text in ["fn f() {}", "//! No full stop\n", "//!No space.\n", "// A comment.\n", ""] {
        assert_eq!(complaints(files_begin_with_a_sentence, &[("bgp/x.rs", text)]).len(), 1, "{text}");
    }
    for text in ["//! One sentence.\n\nfn f() {}", "//! One sentence\n//! on two lines.\n//!\n//! More\n"] {
        assert_eq!(complaints(files_begin_with_a_sentence, &[("bgp/x.rs", text)]).len(), 0, "{text}");
    }
}

#[test]
fn a_name_that_says_nothing_is_seen() {
    let nameless =
        [("bgp/mod.rs", ""), ("utils.rs", ""), ("health/common/x.rs", ""), ("proxy/service.rs", "")];
    assert_eq!(complaints(names_come_from_the_field, &nameless).len(), nameless.len());
    let named = [("catalog/services.rs", ""), ("bgp/message.rs", "")];
    assert_eq!(complaints(names_come_from_the_field, &named).len(), 0);
}

#[test]
fn a_long_file_is_seen() {
    assert_eq!(complaints(files_are_short, &[("bgp/x.rs", &"\n".repeat(MOST_LINES))]).len(), 0);
    assert_eq!(complaints(files_are_short, &[("bgp/x.rs", &"\n".repeat(MOST_LINES + 1))]).len(), 1);
}
