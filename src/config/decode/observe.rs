//! Reads the `observe` section.

use crate::config::observe::{Log, LogFormat, LogLevel, Observe};
use crate::config::read::Spot;

const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];
const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

pub(super) fn decode(spot: &Spot<'_>) -> Option<Observe> {
    let mut fields = spot.fields()?;
    let default = Observe::default();
    let metrics = match fields.get("metrics") {
        None => default.metrics,
        Some(spot) if spot.text()? == "off" => None,
        Some(spot) => spot.socket(),
    };
    let log = fields.get("log").and_then(|spot| log(&spot, default.log)).unwrap_or(default.log);
    fields.close(&[]);
    Some(Observe { metrics, log })
}

fn log(spot: &Spot<'_>, default: Log) -> Option<Log> {
    let mut fields = spot.fields()?;
    let level = fields.get("level").and_then(|spot| spot.choice(&LEVELS));
    let format = fields.get("format").and_then(|spot| spot.choice(&FORMATS));
    fields.close(&[]);
    Some(Log { level: level.unwrap_or(default.level), format: format.unwrap_or(default.format) })
}
