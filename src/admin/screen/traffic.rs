//! The data plane as screens for people.

use std::fmt::Write;

use super::{age, shown};
use crate::admin::Connections;
use crate::admin::table::Table;
use crate::observe::status::traffic::{ProxyStatus, TrafficStatus};

/// The doors, and each service with what its backends carry.
#[must_use]
pub fn backends(proxy: &ProxyStatus, wanted: Option<&str>) -> String {
    let mut doors = Table::new(["DOOR", "SERVICES", "OPEN", "WORKERS", "PROBLEM"]);
    for door in &proxy.doors {
        doors.row([
            &door.door,
            &door.services.join(", "),
            &door.open.to_string(),
            &format!("{}/{}", door.listening, proxy.workers),
            door.error.as_deref().unwrap_or_default(),
        ]);
    }
    let mut screen = shown(&doors, "No service listens: nothing is forwarded.");
    for service in proxy.services.iter().filter(|it| wanted.is_none_or(|wanted| it.service == wanted)) {
        let _ = write!(screen, "\n{}", self::service(service));
    }
    screen
}

fn service(it: &TrafficStatus) -> String {
    let mut table = Table::new([
        "BACKEND", "ADDRESS", "REGION", "STATE", "OPEN", "LIMITS", "SERVED", "FAILED", "UP", "DOWN",
    ]);
    for backend in &it.backends {
        let state = match backend.ejected_ms {
            Some(left) => format!("{} ({} left)", backend.state, age(left)),
            None => backend.state.clone(),
        };
        table.row([
            &backend.id,
            &backend.address,
            &backend.region,
            &state,
            &backend.open.to_string(),
            &format!("{}/{}", backend.soft_limit, backend.hard_limit),
            &backend.connections.to_string(),
            &backend.failures.to_string(),
            &octets(backend.up_bytes),
            &octets(backend.down_bytes),
        ]);
    }
    let ends: Vec<_> = it.ends.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    format!(
        "{}: {} open, {} in all, {} up, {} down{}{}\n{table}",
        it.service,
        it.open,
        it.connections,
        octets(it.up_bytes),
        octets(it.down_bytes),
        if ends.is_empty() { "" } else { "; ended: " },
        ends.join(", ")
    )
}

/// Open connections, the oldest first.
#[must_use]
pub fn connections(answer: &Connections) -> String {
    let mut table =
        Table::new(["CLIENT", "DOOR", "SERVICE", "BACKEND", "AGE", "IDLE", "UP", "DOWN", "WORKER"]);
    for it in &answer.connections {
        table.row([
            &it.client,
            &it.door,
            it.service.as_deref().unwrap_or_default(),
            it.backend.as_deref().unwrap_or_default(),
            &age(it.age_ms),
            &age(it.idle_ms),
            &octets(it.up_bytes),
            &octets(it.down_bytes),
            &it.worker.to_string(),
        ]);
    }
    let mut screen = shown(&table, "No connections are open.");
    for worker in &answer.silent_workers {
        let _ = writeln!(screen, "Worker {worker} does not answer: its connections are not listed.");
    }
    screen
}

/// A count of octets in the unit that fits.
fn octets(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_in_their_unit() {
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(octets(count), text);
        }
    }
}
