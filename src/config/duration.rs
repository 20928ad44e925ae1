//! Durations as operators write them: a whole number and a unit.

use std::time::Duration;

use super::read::whole;

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Why a text is no duration; the words help to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDuration {
    #[error("a unit is missing: `{0}s`, `{0}ms`, `{0}m` or `{0}h`")]
    Bare(u64),
    #[error("a whole number and a unit: `50ms`, `1s`, `5m`, `1h`")]
    Unreadable,
}

/// Reads `50ms`, `1s`, `5m` or `1h`. What is longer than a clock can count is the longest one.
///
/// # Errors
/// [`NoDuration`].
pub fn parse(text: &str) -> Result<Duration, NoDuration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (count, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|&(_, factor)| factor);
    match (whole(count), factor) {
        (Some(count), Some(factor)) => Ok(Duration::from_millis(count.saturating_mul(factor))),
        _ => Err(whole(text).map_or(NoDuration::Unreadable, NoDuration::Bare)),
    }
}

/// A duration as an operator would write it: in the largest unit that leaves nothing over.
#[must_use]
pub fn written(duration: Duration) -> String {
    let millis = duration.as_millis();
    let fits = |(_, factor): &&(&str, u64)| millis.is_multiple_of(u128::from(*factor));
    match UNITS.iter().rev().find(fits) {
        Some((unit, factor)) if millis > 0 => format!("{}{unit}", millis / u128::from(*factor)),
        _ => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_it_reads() {
        for text in ["0s", "50ms", "1500ms", "90s", "5m", "24h"] {
            assert_eq!(written(parse(text).unwrap()), text);
        }
        assert_eq!(written(Duration::from_secs(300)), "5m");
    }

    #[test]
    fn reads_what_operators_write() {
        let table = [("50ms", 50), ("1s", 1_000), ("5m", 300_000), ("2h", 7_200_000), ("0s", 0)];
        for (text, millis) in table {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("5"), Err(NoDuration::Bare(5)));
        for text in ["", "s", "5 m", "1d", "-1s", "1.5s", "05s", "18446744073709551616s"] {
            assert_eq!(parse(text), Err(NoDuration::Unreadable), "{text}");
        }
        assert!(parse("18446744073709551615h").is_ok());
    }
}
