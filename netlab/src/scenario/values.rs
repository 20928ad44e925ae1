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

/// `5s`, `250ms`, `2m`, `1h`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// `[50ms, 5s]`, the lesser first.
pub(super) fn two_durations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[Duration; 2], D::Error> {
    let [least, most] = <[String; 2]>::deserialize(deserializer)?;
    let both = [&least, &most].map(|text| parse(text).map_err(serde::de::Error::custom));
    match both {
        [Ok(a), Ok(b)] if a <= b => Ok([a, b]),
        [Ok(_), Ok(_)] => {
            Err(serde::de::Error::custom(format!("[{least}, {most}] does not begin with the lesser")))
        }
        [Err(error), _] | [_, Err(error)] => Err(error),
    }
}

fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|error| format!("{text:?}: {error}"))?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        "h" => Ok(Duration::from_secs(3600 * number)),
        _ => Err(format!("{text:?} is not a duration such as 250ms, 5s, 2m or 1h")),
    }
}
