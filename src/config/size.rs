//! Amounts of memory as operators write them: a whole number and a unit.

use super::read::whole;

const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Why a text is no size; the words help to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSize {
    #[error("a unit is missing: `{0}MiB`, `{0}GiB` or `{0}KiB`")]
    Bare(u64),
    /// `MB` and the like: a thousand or 1,024, who knows.
    #[error("write `{0}`, which is 1,024 of the next smaller unit each time")]
    Decimal(String),
    #[error("a whole number and a unit: `64KiB`, `512MiB`, `2GiB`")]
    Unreadable,
}

/// Reads `64KiB`, `512MiB`, `2GiB` or `1TiB` as octets. What is more than can be counted is the most.
///
/// # Errors
/// [`NoSize`].
pub fn parse(text: &str) -> Result<u64, NoSize> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (count, unit) = text.split_at(digits);
    let Some(number) = whole(count) else { return Err(NoSize::Unreadable) };
    if unit.is_empty() {
        return Err(NoSize::Bare(number));
    }
    if let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) {
        return Ok(number.saturating_mul(*factor));
    }
    let short = unit.to_ascii_lowercase();
    let meant = UNITS.iter().find(|(name, _)| {
        let name = name.to_ascii_lowercase();
        short == name || short == name.replace('i', "") || short == name[..1]
    });
    Err(meant.map_or(NoSize::Unreadable, |(name, _)| NoSize::Decimal(format!("{number}{name}"))))
}

/// Octets as an operator would write them: in the largest unit that leaves nothing over.
#[must_use]
pub fn written(octets: u64) -> String {
    match UNITS.iter().rev().find(|(_, factor)| octets.is_multiple_of(*factor)) {
        Some((unit, factor)) if octets > 0 => format!("{}{unit}", octets / factor),
        _ => format!("{octets} octets"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_it_reads() {
        for (text, octets) in [
            ("64KiB", 65_536),
            ("512MiB", 512 << 20),
            ("2GiB", 2 << 30),
            ("1TiB", 1 << 40),
            ("3MiB", 3 << 20),
        ] {
            assert_eq!(parse(text), Ok(octets), "{text}");
            assert_eq!(written(octets), text);
        }
        assert_eq!(parse("1024KiB").map(written).as_deref(), Ok("1MiB"));
        assert_eq!(written(1_025), "1025 octets");
        assert_eq!(parse("18446744073709551615GiB"), Ok(u64::MAX));
    }

    #[test]
    fn a_unit_that_means_two_things_is_not_guessed() {
        assert_eq!(parse("512"), Err(NoSize::Bare(512)));
        for (text, meant) in
            [("512MB", "512MiB"), ("512M", "512MiB"), ("2g", "2GiB"), ("8kb", "8KiB"), ("1mib", "1MiB")]
        {
            assert_eq!(parse(text), Err(NoSize::Decimal(meant.to_owned())), "{text}");
        }
        for text in ["", "MiB", "1.5GiB", "-1MiB", "05MiB", "5 MiB", "5x"] {
            assert_eq!(parse(text), Err(NoSize::Unreadable), "{text}");
        }
    }
}
