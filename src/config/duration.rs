//! Durations as people write them: a whole number and a unit.

use std::time::Duration;

use super::read::whole;

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Reads `50ms`, `1s`, `5m` or `1h`. One that no number holds is the longest there is.
///
/// # Errors
/// How it should be written.
pub fn read(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (count, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|&(_, factor)| factor);
    match (whole(count), factor, whole(text)) {
        (Some(count), Some(factor), _) => Ok(Duration::from_millis(count.saturating_mul(factor))),
        (_, _, Some(bare)) => {
            Err(format!("a unit is missing: `{bare}s`, `{bare}ms`, `{bare}m` or `{bare}h`"))
        }
        _ => Err("a whole number and a unit: `50ms`, `1s`, `5m`, `1h`".to_owned()),
    }
}
