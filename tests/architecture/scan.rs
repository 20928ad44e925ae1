//! Rust text without its comments and literals, and without its tests.

/// Blanks comments, strings and character literals; every other character keeps its line and column.
pub(super) fn blank(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < letters.len() {
        let end = match letters[at] {
            '/' if letters.get(at + 1) == Some(&'/') => end_of_line(&letters, at),
            '/' if letters.get(at + 1) == Some(&'*') => end_of_block(&letters, at),
            '"' => end_of_string(&letters, at + 1, raw_hashes(&letters, at)),
            '\'' => end_of_character(&letters, at),
            _ => at,
        };
        if end == at {
            code.push(letters[at]);
            at += 1;
        } else {
            code.extend(letters[at..end].iter().map(|&letter| if letter == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Drops what stands under `#[cfg(test)]`, keeping line numbers.
pub(super) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut live = String::new();
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        live.push_str(&rest[..start]);
        let item = &rest[start..];
        let end = end_of_item(&item[MARK.len()..]) + MARK.len();
        live.extend(item[..end].chars().filter(|&letter| letter == '\n'));
        rest = &item[end..];
    }
    live + rest
}

/// The names that follow `prefix` in code, one level deep, with their lines: `crate::{a::b, c}` names a and c.
pub(super) fn names_after<'c>(code: &'c str, prefix: &str) -> Vec<(usize, &'c str)> {
    let mut names = Vec::new();
    for (start, _) in code.match_indices(prefix) {
        if code[..start].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':')
        {
            continue;
        }
        let line = line_of(code, start);
        let rest = &code[start + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let inside: &str = &group[..group
                .find(|letter| {
                    depth += i32::from(letter == '{') - i32::from(letter == '}');
                    depth < 0
                })
                .unwrap_or(group.len())];
            let mut depth = 0;
            let separate = |letter: char| {
                depth += i32::from(letter == '{') - i32::from(letter == '}');
                depth == 0 && letter == ','
            };
            names.extend(inside.split(separate).map(|part| (line, name(part.trim()))));
        } else {
            names.push((line, name(rest)));
        }
    }
    names.retain(|(_, name)| !name.is_empty());
    names
}

/// The line, from 1, of a position.
pub(super) fn line_of(code: &str, position: usize) -> usize {
    code[..position].matches('\n').count() + 1
}

/// Whether a word stands in code by itself at these positions.
pub(super) fn words<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = usize> + 'c {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(word)
        .map(|(start, _)| start)
        .filter(move |&start| !code[..start].ends_with(part) && !code[start + word.len()..].starts_with(part))
}

fn name(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len());
    &text[..end]
}

fn end_of_item(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, letter) in code.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(letter, '}' | ';') {
            return at + 1;
        }
    }
    code.len()
}

fn end_of_line(letters: &[char], at: usize) -> usize {
    letters[at..].iter().position(|&letter| letter == '\n').map_or(letters.len(), |length| at + length)
}

fn end_of_block(letters: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < letters.len() {
        let pair = (letters[at], letters.get(at + 1).copied().unwrap_or(' '));
        match pair {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    letters.len()
}

/// How many `#` stand before a quote, if it opens a raw string.
fn raw_hashes(letters: &[char], quote: usize) -> Option<usize> {
    let hashes = letters[..quote].iter().rev().take_while(|&&letter| letter == '#').count();
    (quote > hashes && letters[quote - hashes - 1] == 'r').then_some(hashes)
}

fn end_of_string(letters: &[char], from: usize, raw: Option<usize>) -> usize {
    let mut at = from;
    while at < letters.len() {
        match (letters[at], raw) {
            ('\\', None) => at += 2,
            ('"', None) => return at + 1,
            ('"', Some(hashes))
                if letters[at + 1..].iter().take_while(|&&it| it == '#').count() >= hashes =>
            {
                return at + 1 + hashes;
            }
            _ => at += 1,
        }
    }
    letters.len()
}

/// A character literal ends after its quote; a lifetime is left as it is.
fn end_of_character(letters: &[char], at: usize) -> usize {
    match (letters.get(at + 1), letters.get(at + 2)) {
        (Some('\\'), _) => {
            let end = letters.iter().skip(at + 3).position(|&letter| letter == '\'');
            end.map_or(letters.len(), |length| at + 3 + length + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

#[test]
fn comments_and_literals_are_blanked() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("\"a\\\"b\" c", "       c"),
        ("r#\"a\"b\"# c", "r#       c"),
        ("'{' b", "    b"),
        ("'\\'' b", "     b"),
        ("&'a str", "&'a str"),
        ("\"a\nb\" c", "  \n   c"),
    ] {
        assert_eq!(blank(text), code, "{text}");
    }
}

#[test]
fn tests_are_dropped_and_lines_are_kept() {
    let code = "a\n#[cfg(test)]\nmod tests {\n  fn f() { g() }\n}\nb\n#[cfg(test)]\nmod t;\nc\n";
    assert_eq!(without_tests(code), "a\n\n\n\n\nb\n\n\nc\n");
}

#[test]
fn names_are_found_in_paths_and_groups() {
    let code = "use crate::a::B;\nuse crate::{c::{d, E}, f};\nlet x = crate::g(); mycrate::h";
    let names: Vec<_> = names_after(code, "crate::");
    assert_eq!(names, [(1, "a"), (2, "c"), (2, "f"), (3, "g")]);
    assert_eq!(words("unsafe_code unsafe {", "unsafe").collect::<Vec<_>>(), [12]);
}
