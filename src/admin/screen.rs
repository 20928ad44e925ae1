//! The status documents as screens for people.

mod backhaul;
mod choice;
mod events;
mod fleet;
mod traffic;

use std::fmt::Write;
use std::sync::Arc;

pub use self::backhaul::backhaul;
pub use self::choice::choice;
pub use self::events::event;
pub use self::fleet::fleet;
pub use self::traffic::{backends, connections, troubles};
use super::table::Table;
use super::{Explanation, Status};
use crate::observe::journal::Route;
use crate::observe::status::{
    BackendStatus, DrainStatus, LeaseStatus, NeighborStatus, PrefixStatus, SentRoute, ServiceStatus,
};

/// Everything on one screen.
#[must_use]
pub fn status(status: &Status) -> String {
    let p = &status.process;
    let mut screen = format!(
        "edgeproxy {} at {} (region {}): {}, generation {}, up {}, pid {}\n",
        p.version,
        p.pop,
        p.region,
        p.phase,
        p.generation,
        age(p.uptime_ms),
        p.pid
    );
    if let Some(refused) = &p.refused_reload {
        let problems: Vec<_> = refused.lines().map(|line| format!("  {line}\n")).collect();
        let _ = write!(
            screen,
            "\nThe last reload was refused; generation {} stays in force:\n{}",
            p.generation,
            problems.concat()
        );
    }
    if !p.hung_threads.is_empty() {
        let _ = write!(screen, "\nThese threads hang: {}.\n", p.hung_threads.join(", "));
    }
    if let Some(pending) = &p.pending {
        let _ = write!(
            screen,
            "\nGeneration {} waits for `edgeproxy confirm`; otherwise generation {} comes back in {}.\n",
            pending.generation,
            pending.back_to,
            age(pending.confirm_within_ms)
        );
    }
    if let Some(undone) = &p.undone {
        let _ = write!(screen, "\nUndone: {undone}\n");
    }
    screen += &traffic::warnings(&status.certificates);
    for part in [prefixes(&status.prefixes), neighbors(&status.neighbors), services(&status.services)] {
        let _ = write!(screen, "\n{part}");
    }
    if let Some(it) = &status.backhaul {
        let _ = write!(screen, "\n{}", backhaul(it));
    }
    if let Some(it) = &status.fleet {
        let _ = write!(screen, "\n{}", fleet(it));
    }
    screen
}

/// The prefixes as a table.
#[must_use]
pub fn prefixes(prefixes: &[PrefixStatus]) -> String {
    let mut table = Table::new(["PREFIX", "STATE", "SINCE", "WHY"]);
    for p in prefixes {
        let mut why = p.why.clone();
        for a in p.addresses.iter().filter(|a| a.state == "missing") {
            let _ = write!(why, "; {} is not on {}", a.address, a.device);
            if let Some(error) = &a.error {
                let _ = write!(why, " ({error})");
            }
        }
        table.row([&p.prefix, &p.state, &age(p.since_ms), &why]);
    }
    shown(&table, "No prefixes are configured.")
}

/// The neighbors as a table.
#[must_use]
pub fn neighbors(neighbors: &[Arc<NeighborStatus>]) -> String {
    let mut table = Table::new(["NEIGHBOR", "ADDRESS", "AS", "STATE", "SINCE", "SENT", "PROBLEM"]);
    for n in neighbors {
        table.row([
            &n.name,
            &n.address,
            &n.asn.to_string(),
            &n.state,
            &age(n.in_state_ms),
            &n.announced.len().to_string(),
            n.problem.as_deref().unwrap_or_default(),
        ]);
    }
    shown(&table, "No neighbors are configured.")
}

/// The services as a table.
#[must_use]
pub fn services(services: &[ServiceStatus]) -> String {
    let mut table = Table::new(["SERVICE", "STATE", "SINCE", "HEALTHY", "MARKS", "BACKENDS NOT UP"]);
    for s in services {
        let not_up: Vec<_> = s.backends.iter().filter(|b| b.verdict != "up").collect();
        // Three fit a line and usually say it all; `edgeproxy health` shows the others.
        let mut words: Vec<_> = not_up.iter().take(3).map(|b| brief(b)).collect();
        if not_up.len() > 3 {
            words.push(format!("and {} more", not_up.len() - 3));
        }
        table.row([
            &s.service,
            &s.state,
            &age(s.since_ms),
            &format!("{}/{}", s.healthy_weight, s.total_weight),
            &marks(s),
            &words.join(", "),
        ]);
    }
    shown(&table, "No services are configured.")
}

/// Each service with all its backends.
#[must_use]
pub fn health(services: &[ServiceStatus]) -> String {
    let screens: Vec<_> = services.iter().map(service).collect();
    if screens.is_empty() { "No services are configured.\n".to_owned() } else { screens.join("\n") }
}

fn service(s: &ServiceStatus) -> String {
    let mut table = Table::new([
        "BACKEND", "TARGET", "REGION", "WEIGHT", "VERDICT", "SINCE", "RTT", "PROBED", "FAILED", "HELD",
        "ERROR",
    ]);
    for b in &s.backends {
        table.row([
            &b.id,
            &b.target,
            &b.region,
            &b.weight.to_string(),
            &b.verdict,
            &age(b.since_ms),
            &b.rtt_us.map(round_trip).unwrap_or_default(),
            &b.last_probe_ms_ago.map(|ms| format!("{} ago", age(ms))).unwrap_or_default(),
            &format!("{}/{}", b.failures, b.probes),
            &b.held_connection,
            b.error.as_deref().unwrap_or_default(),
        ]);
    }
    format!(
        "{}: {} for {}, healthy weight {} of {} ({})\n{table}",
        s.service,
        s.state,
        age(s.since_ms),
        s.healthy_weight,
        s.total_weight,
        marks(s)
    )
}

/// Why one prefix is as it is, from the decision down to the last check.
#[must_use]
pub fn explain(explanation: &Explanation) -> String {
    let p = &explanation.prefix;
    let mut screen = format!("{} is {} for {} ({})\n", p.prefix, p.state, age(p.since_ms), p.reason);
    let _ = writeln!(screen, "  why: {}", p.why);
    if !p.change.is_empty() {
        let _ = writeln!(screen, "  what would change it: {}", p.change);
    }
    if let Some(lease) = &p.lease {
        let _ = writeln!(screen, "  {}", self::lease(lease));
    }
    if let Some(drain) = &p.drain {
        let _ = writeln!(screen, "  {}", self::drain(drain));
    }
    if let Some(damping) = &p.damping {
        let left = damping.left_ms.map_or(String::new(), |left| format!(", {} of it left", age(left)));
        let times = if damping.failures == 1 { "once" } else { &format!("{} times", damping.failures) };
        let dwell = age(damping.dwell_ms);
        let _ = writeln!(
            screen,
            "  damping: failed {times} lately, must be up for {dwell} without a break{left}"
        );
    }
    if let Some(cause) = &p.cause {
        // Other rules may have decided since, without anything to tell.
        let _ = writeln!(screen, "  cause of what neighbors were told last: {cause}, see `edgeproxy events`");
    }
    for a in &p.addresses {
        let whose = match a.state.as_str() {
            "ours" => "put there by edgeproxy".to_owned(),
            "operator" => "was there before edgeproxy, and stays".to_owned(),
            _ => format!("missing: {}", a.error.as_deref().unwrap_or("not bound")),
        };
        let _ = writeln!(screen, "  address {} on {}: {whose}", a.address, a.device);
    }
    let mut table = Table::new(["NEIGHBOR", "ADDRESS", "STATE", "TOLD"]);
    for n in &explanation.neighbors {
        let told = match (&n.sent, &n.problem) {
            (Some(route), _) => told(route),
            (None, Some(problem)) => format!("nothing: {problem}"),
            (None, None) => "nothing, or withdrawn".to_owned(),
        };
        table.row([&n.name, &n.address, &n.state, &told]);
    }
    let neighbors = shown(&table, "No neighbors are configured.");
    let _ = write!(screen, "\n{}\n{neighbors}", checks(explanation));
    if !explanation.history.is_empty() {
        let _ = writeln!(screen, "\nWhat happened:");
    }
    for entry in &explanation.history {
        let _ = writeln!(screen, "{}", event(entry));
    }
    screen
}

/// What the checks say; a prober that is silent says nothing new.
fn checks(explanation: &Explanation) -> String {
    let Explanation { prefix, services, .. } = explanation;
    let mut screens: Vec<_> = services.iter().map(service).collect();
    if prefix.reason == "health-stale" {
        screens.insert(0, "The checks are silent. The last they said, with its ages of then:\n".to_owned());
    }
    for name in prefix.services.iter().filter(|name| services.iter().all(|s| s.service != **name)) {
        screens.push(format!("{name}: no check has spoken yet\n"));
    }
    screens.join("\n")
}

fn lease(lease: &LeaseStatus) -> String {
    let mut words = format!("lease of the data path: {}", lease.state);
    if let Some(what) = &lease.what {
        let _ = write!(words, ": {what}");
    }
    if let Some(oldest) = lease.oldest_ms {
        let _ = write!(words, "; the oldest renewal was {oldest} ms ago (lease {} ms)", lease.lease_ms);
    }
    words
}

fn drain(drain: &DrainStatus) -> String {
    let mut words = format!("drain: {} for {}", drain.step, age(drain.step_ms));
    if let (Some(open), Some(new)) = (drain.open_flows, drain.new_flows_per_second) {
        let _ = write!(words, ", {open} flows open, {new:.1} new ones a second");
    }
    if let Some(deadline) = drain.deadline_ms {
        let _ = write!(words, ", deadline in {}", age(deadline));
    }
    words
}

/// An age in its two largest units: `3d 4h`, `5m 12s`, `1.2s`, `40ms`.
#[must_use]
pub fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..=9 => format!("{seconds}.{}s", milliseconds % 1_000 / 100),
        10..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{minutes}m {}s", seconds % 60),
        3_600..=86_399 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

fn round_trip(microseconds: u64) -> String {
    match microseconds {
        0..=999 => format!("{microseconds}us"),
        _ => format!("{}.{}ms", microseconds / 1_000, microseconds % 1_000 / 100),
    }
}

fn brief(backend: &BackendStatus) -> String {
    format!("{} ({})", backend.id, backend.error.as_ref().unwrap_or(&backend.verdict))
}

fn marks(service: &ServiceStatus) -> String {
    let degrade = service.degrade.map(|mark| format!(" degrade {mark}")).unwrap_or_default();
    format!("low {} high {}{degrade}", service.low, service.high)
}

fn told(route: &SentRoute) -> String {
    format!("{} ago: {}", age(route.sent_ms_ago), attributes(&route.route))
}

fn attributes(route: &Route) -> String {
    let Route { next_hop, as_path, med, communities, large_communities } = route;
    let path: Vec<_> = as_path.iter().map(u32::to_string).collect();
    let mut words = format!("next hop {next_hop}, path {}", path.join(" "));
    if let Some(med) = med {
        let _ = write!(words, ", MED {med}");
    }
    let communities: Vec<_> = communities.iter().chain(large_communities).map(String::as_str).collect();
    if !communities.is_empty() {
        let _ = write!(words, ", communities {}", communities.join(" "));
    }
    words
}

fn shown(table: &Table, empty: &str) -> String {
    if table.is_empty() { format!("{empty}\n") } else { table.to_string() }
}

#[cfg(test)]
mod tests;
