//! The known word that a wrong one was probably meant to be.

/// Longer words are not compared: nobody misspells them by accident.
const MOST_CHARS: usize = 40;

/// The nearest of `known`, if it is near enough: one slip in three letters, the first on a tie.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let letters: Vec<char> = word.chars().take(MOST_CHARS + 1).collect();
    if letters.len() > MOST_CHARS {
        return None;
    }
    let candidates = known.iter().map(|&candidate| (distance(&letters, candidate), candidate));
    let near = |&(slips, candidate): &(usize, &str)| {
        slips <= candidate.chars().count().max(letters.len()).div_ceil(3).min(3) && slips < candidate.len()
    };
    candidates.filter(near).min_by_key(|&(slips, _)| slips).map(|(_, candidate)| candidate)
}

/// How many letters must be added, dropped, changed or swapped with the next one.
fn distance(word: &[char], known: &str) -> usize {
    let known: Vec<char> = known.chars().map(plain).collect();
    let word: Vec<char> = word.iter().copied().map(plain).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=known.len()).collect();
    for (row, &letter) in word.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, &other) in known.iter().enumerate() {
            let change = last[column] + usize::from(letter != other);
            let mut best = change.min(last[column + 1] + 1).min(current[column] + 1);
            let swapped = row > 0 && column > 0 && letter == known[column - 1] && word[row - 1] == other;
            if swapped {
                best = best.min(before_last[column - 1] + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[known.len()]
}

/// Capitals and hyphens are slips that cost nothing.
fn plain(letter: char) -> char {
    if letter == '-' { '_' } else { letter.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["name", "address", "port", "families", "hold_time", "asn", "med"];
        let cases = [
            ("adress", Some("address")),
            ("nmae", Some("name")),
            ("hold-time", Some("hold_time")),
            ("Port", Some("port")),
            ("family", Some("families")),
            ("as", Some("asn")),
            ("holdtime", Some("hold_time")),
            ("colour", None),
            ("x", None),
            ("", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
    }

    #[test]
    fn a_long_word_costs_nothing() {
        assert_eq!(nearest(&"n".repeat(1 << 20), &["name"]), None);
    }
}
