//! Entries of the journal as lines for people.

use super::attributes;
use crate::observe::journal::{Entry, Event};

/// When, the id of the cause, and what happened: one line, without its end.
#[must_use]
pub fn event(entry: &Entry) -> String {
    let cause = entry.cause.map_or_else(|| "-".to_owned(), |cause| cause.to_string());
    // Fourteen digits are an id of this century.
    let line = format!("{} {cause:<14} {}", utc(entry.at_ms), words(&entry.event));
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn words(event: &Event) -> String {
    match event {
        Event::Started { version, generation } => {
            format!("edgeproxy {version} started with generation {generation}")
        }
        Event::Stopped => "edgeproxy stopped as planned".to_owned(),
        Event::Verdict { service, backend, verdict, error, .. } => {
            let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            format!("{service}/{backend} {verdict}{error}")
        }
        Event::Decision { prefix, state, reason, why, .. } => format!("{prefix} {state} ({reason}): {why}"),
        Event::Update { neighbor, prefix, route: None } => format!("→ {neighbor}: withdraw {prefix}"),
        Event::Update { neighbor, prefix, route: Some(route) } => {
            format!("→ {neighbor}: announce {prefix}, {}", attributes(route))
        }
        Event::Session { neighbor, up, words } => {
            format!("session with {neighbor} {}: {words}", if *up { "up" } else { "down" })
        }
        Event::Operator { command, words, accepted } => {
            format!("operator: {command}{}: {words}", if *accepted { "" } else { " refused" })
        }
        Event::Lost { entries } => format!("{entries} entries are missing here: too many at once"),
    }
}

/// A time of the Unix epoch as RFC 3339 §5.6 writes it.
fn utc(at_ms: u64) -> String {
    let (days, ms) = (at_ms / 86_400_000, at_ms % 86_400_000);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01.
fn date(days: u64) -> (u64, usize, u64) {
    // The calendar repeats itself every 400 years, which are as many days wherever they begin.
    let (mut year, mut day) = (1970 + days / 146_097 * 400, days % 146_097);
    let leap = |year: u64| {
        u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)))
    };
    while day >= 365 + leap(year) {
        day -= 365 + leap(year);
        year += 1;
    }
    let months = [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= months[month] {
        day -= months[month];
        month += 1;
    }
    (year, month + 1, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::journal::Route;
    use crate::observe::samples::{decision, entry, verdict};

    #[test]
    fn dates_are_those_of_the_calendar() {
        #[rustfmt::skip]
        let table = [
            (0,                 "1970-01-01T00:00:00.000Z"),
            (68_169_599_999,    "1972-02-28T23:59:59.999Z"),
            (68_169_600_000,    "1972-02-29T00:00:00.000Z"),
            (951_868_800_000,   "2000-03-01T00:00:00.000Z"),
            (1_735_603_200_000, "2024-12-31T00:00:00.000Z"),
            (1_795_391_941_123, "2026-11-22T23:59:01.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (u64::MAX,          "584556019-04-03T14:25:51.615Z"),
        ];
        for (at_ms, text) in table {
            assert_eq!(utc(at_ms), text);
        }
    }

    #[test]
    fn every_event_is_one_line() {
        let bird = || "bird".to_owned();
        let prefix = || "198.51.100.0/24".to_owned();
        let route = Route {
            next_hop: "192.0.2.10".into(),
            as_path: vec![64512, 64512],
            med: Some(50),
            communities: vec!["64512:100".into()],
            large_communities: vec!["64512:1:2".into()],
        };
        let (id, none) = (Some("69220f3a000012"), None);
        let operator = |accepted| Event::Operator { command: "drain".into(), words: "a\nb".into(), accepted };
        #[rustfmt::skip]
        let table = [
            (none, Event::Started { version: "0.1.0".into(), generation: 7 },
             "-              edgeproxy 0.1.0 started with generation 7"),
            (none, Event::Stopped, "-              edgeproxy stopped as planned"),
            (id, verdict("web-1", "down"), "69220f3a000012 web/web-1 down: connection refused"),
            (id, verdict("web-1", "up"), "69220f3a000012 web/web-1 up"),
            (id, decision("198.51.100.0/24", "withdrawn"),
             "69220f3a000012 198.51.100.0/24 withdrawn (below-watermark): service web has 0 of 6 weight healthy"),
            (id, Event::Update { neighbor: bird(), prefix: prefix(), route: None },
             "69220f3a000012 → bird: withdraw 198.51.100.0/24"),
            (id, Event::Update { neighbor: bird(), prefix: prefix(), route: Some(route.into()) },
             "69220f3a000012 → bird: announce 198.51.100.0/24, next hop 192.0.2.10, path 64512 64512, MED 50, \
              communities 64512:100 64512:1:2"),
            (none, Event::Session { neighbor: bird(), up: true, words: "dialled".into() },
             "-              session with bird up: dialled"),
            (none, operator(true), "-              operator: drain: a b"),
            (none, operator(false), "-              operator: drain refused: a b"),
            (none, Event::Lost { entries: 3 }, "-              3 entries are missing here: too many at once"),
        ];
        for (cause, one, line) in table {
            assert_eq!(event(&entry(1, cause, one)), format!("2026-11-22T23:59:01.123Z {line}"));
        }
    }
}
