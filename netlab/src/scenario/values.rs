//! Values as a scenario file writes them, and what stands where it writes none.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

pub(super) fn yes() -> bool {
    true
}

pub(super) fn three_minutes() -> Duration {
    Duration::from_secs(180)
}

pub(super) fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

pub(super) fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

pub(super) fn some_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// `5s`, `250ms`, `2m`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(serde::de::Error::custom)?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        _ => Err(serde::de::Error::custom(format!("{text:?} is not a duration such as 250ms, 5s or 2m"))),
    }
}
