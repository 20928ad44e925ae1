//! The fleet as a screen: who is there, and who lacks what.

use std::fmt::Write;

use super::age;
use crate::admin::table::Table;
use crate::observe::status::fleet::FleetStatus;

/// The whole of it.
#[must_use]
pub fn fleet(it: &FleetStatus) -> String {
    let mut screen = String::new();
    if let Some(error) = &it.error {
        let _ = writeln!(screen, "Replication does not run: {error}\n");
    }
    if it.pop.is_empty() {
        return screen;
    }
    let _ = writeln!(
        screen,
        "{} of fleet {}, at version {}; {} rows of {} POPs, certificate for {}",
        it.pop,
        it.fleet,
        it.point,
        it.rows,
        it.members.iter().filter(|member| member.point.is_some()).count() + 1,
        left(it.certificate_days),
    );
    if it.silenced {
        screen +=
            "Another machine writes under this POP's name and was there first: nothing is written here.\n";
    }
    if let Some(vanished) = it.vanished {
        let _ = writeln!(
            screen,
            "ALARM: {vanished} POPs vanished within a minute. Rather this POP is cut off: what they said last counts on."
        );
    }
    if it.behind > 0 {
        let _ = writeln!(screen, "Of {} POPs somebody knows more than we.", it.behind);
    }
    let mut table = Table::new([
        "POP",
        "REGION",
        "STATE",
        "RTT",
        "VERSION",
        "LACKS",
        "ROWS",
        "OCTETS",
        "ANNOUNCES",
        "CERTIFICATE",
    ]);
    for member in &it.members {
        let state = match (&member.error, member.standing.as_deref()) {
            (_, Some("suspect")) if member.connected => "connected, suspect",
            (_, Some("down")) if member.connected => "connected, comes back",
            _ if member.connected && member.inside => "connected inside",
            _ if member.connected => "connected",
            (_, Some("alive")) => "alive, not from here",
            (_, Some("suspect")) => "suspect",
            (_, Some("down")) => "down",
            (Some(_), _) => "unreached",
            (None, _) => "unknown",
        };
        table.row([
            &member.pop,
            &member.region,
            state,
            &member.rtt_us.map_or("-".to_owned(), |us| format!("{:.1} ms", us as f64 / 1e3)),
            member.point.as_deref().unwrap_or("-"),
            &member.lacks.map_or("-".to_owned(), |lacks| lacks.to_string()),
            &member.rows.to_string(),
            &member.octets.to_string(),
            &if member.announces.is_empty() { "-".to_owned() } else { member.announces.join(" ") },
            &member.certificate_days.map_or("-".to_owned(), left),
        ]);
    }
    screen += &super::shown(&table, "No other POP is known: name one in `replication.peers`.");
    let ours = it.note.iter().map(|note| (&it.pop, note));
    for (pop, note) in
        ours.chain(it.members.iter().filter_map(|member| Some((&member.pop, member.note.as_ref()?))))
    {
        let _ = writeln!(screen, "{pop} says: {note}");
    }
    let unreached = it.members.iter().filter_map(|member| Some((&member.pop, member.error.as_ref()?)));
    for (pop, error) in unreached {
        let _ = writeln!(screen, "{pop} is not reached: {error}");
    }
    if !it.voters.is_empty() {
        let _ = writeln!(screen, "Voters: {}.", it.voters.join(", "));
    }
    for promise in &it.promises {
        let _ =
            writeln!(screen, "{} may drain {} (permit {}).", promise.holder, promise.prefix, promise.permit);
    }
    if !it.unheard.is_empty() {
        let _ = writeln!(
            screen,
            "This voter has lost its promises, and grants no permit before {} said what they hold.",
            it.unheard.join(", ")
        );
    }
    for alarm in &it.alarms {
        let by = alarm.by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
        let _ = writeln!(screen, "ALARM {} ({} ago{by}): {}", alarm.pop, age(alarm.age_ms), alarm.words);
    }
    screen
}

fn left(days: i64) -> String {
    match days {
        ..0 => format!("EXPIRED {} days ago", -days),
        0..30 => format!("only {days} days"),
        _ => format!("{days} days"),
    }
}
