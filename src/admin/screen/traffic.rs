//! The data plane as screens for people.

use std::fmt::Write;

use super::{age, shown};
use crate::admin::Connections;
use crate::admin::table::Table;
use crate::observe::status::traffic::{CertificateStatus, ProxyStatus, TrafficStatus};

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
    let certificates = certificates(proxy, wanted);
    if !certificates.is_empty() {
        let _ = write!(screen, "\n{certificates}");
    }
    for service in proxy.services.iter().filter(|it| wanted.is_none_or(|wanted| it.service == wanted)) {
        let _ = write!(screen, "\n{}", self::service(service));
    }
    screen
}

fn certificates(proxy: &ProxyStatus, wanted: Option<&str>) -> Table {
    let mut table = Table::new(["CERTIFICATE OF", "LISTENER", "NAMES", "LEFT", "PROBLEM"]);
    for it in proxy.certificates.iter().filter(|it| wanted.is_none_or(|wanted| it.service == wanted)) {
        let left = match it.left_s {
            Some(left @ 0..) => age(left as u64 * 1_000),
            Some(_) => "none".to_owned(),
            None => String::new(),
        };
        let problem = it.problem.as_deref().unwrap_or_default();
        table.row([&it.service, &it.listener, &names(it), &left, problem]);
    }
    table
}

/// What is wrong with certificates, one sentence for each that has something.
pub fn troubles(certificates: &[CertificateStatus]) -> impl Iterator<Item = String> {
    certificates.iter().filter_map(|it| {
        let problem = it.problem.as_ref()?;
        Some(format!("the certificate of {} at {} ({}): {problem}", it.service, it.listener, names(it)))
    })
}

/// The same on the screen of all; with too many of them it would be a screen of nothing else.
pub(super) fn warnings(certificates: &[CertificateStatus]) -> String {
    const MOST: usize = 5;
    let all: Vec<_> = troubles(certificates).collect();
    let mut screen = if all.is_empty() { String::new() } else { "\n".to_owned() };
    for trouble in all.iter().take(MOST) {
        let _ = writeln!(screen, "Warning: {trouble}.");
    }
    if all.len() > MOST {
        let more = all.len() - MOST;
        let _ = writeln!(screen, "Warning: {more} more certificates; `edgeproxy backends` shows all.");
    }
    screen
}

/// Three fit a line.
fn names(it: &CertificateStatus) -> String {
    let first: Vec<_> = it.names.iter().take(3).map(String::as_str).collect();
    match it.names.len() {
        0 => "any name".to_owned(),
        1..=3 => first.join(", "),
        many => format!("{} and {} more", first.join(", "), many - 3),
    }
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
        Table::new(["CLIENT", "DOOR", "SERVICE", "BACKEND", "WHY", "AGE", "IDLE", "UP", "DOWN", "WORKER"]);
    for it in &answer.connections {
        table.row([
            &it.client,
            &it.door,
            it.service.as_deref().unwrap_or_default(),
            it.backend.as_deref().unwrap_or_default(),
            it.why.as_deref().unwrap_or_default(),
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
    use crate::observe::samples::certificates;

    #[test]
    fn certificates_with_their_ends() {
        let mut proxy = ProxyStatus { certificates: certificates(), ..ProxyStatus::default() };
        let screen = backends(&proxy, Some("web"));
        for line in [
            "CERTIFICATE OF  LISTENER          NAMES                   LEFT    PROBLEM",
            "web             198.51.100.1:443  a.example, *.a.example  40d 0h  -",
            "web             198.51.100.1:443  b.example, *.b.example  1d 0h   ends in 1 day: renew it",
            "web             198.51.100.1:443  c.example, *.c.example  none    ended 2 hours ago",
            "web             198.51.100.1:443  d.example, *.d.example  -       self-signed",
        ] {
            assert!(screen.lines().any(|found| found == line), "{line:?} is missing in\n{screen}");
        }
        assert!(!backends(&proxy, Some("api")).contains("CERTIFICATE"));
        let said = warnings(&proxy.certificates);
        let first =
            "\nWarning: the certificate of web at 198.51.100.1:443 (b.example, *.b.example): ends in 1 day";
        assert!(said.starts_with(first) && said.lines().count() == 4, "{said}");
        proxy.certificates.extend([certificates(), certificates()].concat());
        let said = warnings(&proxy.certificates);
        assert!(said.lines().count() == 7 && said.contains("4 more certificates"), "{said}");
        proxy.certificates.truncate(1);
        assert_eq!(warnings(&proxy.certificates), "");
        let mut many = proxy.certificates.remove(0);
        many.names = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        assert_eq!(names(&many), "a, b, c and 2 more");
        many.names.clear();
        assert_eq!(names(&many), "any name");
    }

    #[test]
    fn octets_in_their_unit() {
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(octets(count), text);
        }
    }
}
