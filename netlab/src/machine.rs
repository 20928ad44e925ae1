//! What a report says of its circumstances: who was measured beside us, and what the machine was doing.

use std::collections::BTreeMap;
use std::process::Command;

use crate::scenario::Scenario;

/// Processor time since boot, in ticks.
#[derive(Debug, Clone, Copy)]
pub struct Ticks {
    total: u64,
    stolen: u64,
}

impl Ticks {
    /// Reads the counters; zeros where there are none.
    #[must_use]
    pub fn now() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// proc_stat(5): user nice system idle iowait irq softirq steal; guest time is in user already.
    fn parse(text: &str) -> Self {
        let line = text.lines().find(|line| line.starts_with("cpu ")).unwrap_or_default();
        let ticks: Vec<u64> =
            line.split_whitespace().skip(1).take(8).filter_map(|part| part.parse().ok()).collect();
        Self { total: ticks.iter().sum(), stolen: ticks.get(7).copied().unwrap_or(0) }
    }

    /// The share of all processor time since then that the hypervisor gave to others, in percent.
    /// Latencies of a run in which much was stolen say more about the machine than about us.
    #[must_use]
    pub fn stolen_since(self, earlier: Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total).max(1);
        100.0 * self.stolen.saturating_sub(earlier.stolen) as f64 / total as f64
    }
}

/// Processor seconds of a process, of its children that ended, and of all its descendants that run.
#[must_use]
pub fn seconds_of(pid: u32) -> f64 {
    let listing = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = listing.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let table: BTreeMap<u32, (u32, u64)> = pids.filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let is_ours = |mut one: u32| {
        // A bound, should a parent be reused while we look.
        for _ in 0..64 {
            if one == pid {
                return true;
            }
            match table.get(&one) {
                Some((parent, _)) => one = *parent,
                None => return false,
            }
        }
        false
    };
    let ticks: u64 = table.iter().filter(|(one, _)| is_ours(**one)).map(|(_, (_, ticks))| ticks).sum();
    // USER_HZ is 100 on every architecture that Debian supports.
    ticks as f64 / 100.0
}

/// Resident memory of a process, in KiB (proc_pid_status(5)).
#[must_use]
pub fn resident_kib(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How many descriptors a process may have (proc_pid_limits(5)).
#[must_use]
pub fn descriptors_of(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Whether every thread of a process is stopped by a signal (proc_pid_stat(5): state `T`).
#[must_use]
pub fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let text = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        text.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    })
}

/// The parent of a process, and its ticks with those of its children that ended (proc_pid_stat(5)).
fn stat(pid: u32) -> Option<(u32, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some((fields.get(1)?.parse().ok()?, ticks))
}

/// The versions of the routers that a scenario runs, as Debian's packages name them.
#[must_use]
pub fn versions(scenario: &Scenario) -> BTreeMap<String, String> {
    let uses = |used: fn(&crate::scenario::Host) -> bool| scenario.hosts.values().any(used);
    let packages = [
        ("bird2", uses(|host| host.bird.is_some())),
        ("frr", uses(|host| host.frr.is_some())),
        ("gobgpd", uses(|host| host.gobgp.is_some())),
        ("exabgp", uses(|host| host.exabgp.is_some())),
        ("wireguard-go", uses(|host| host.wireguard.is_some())),
    ];
    let used = packages.into_iter().filter(|(_, used)| *used);
    used.map(|(package, _)| (package.to_owned(), version(package))).collect()
}

fn version(package: &str) -> String {
    let output = Command::new("dpkg-query").args(["-W", "-f=${Version}", package]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_a_share_of_all() {
        let before = Ticks::parse("cpu  100 0 0 100 0 0 0 0 0 0\ncpu0 1 1\n");
        let after = Ticks::parse("cpu  150 0 0 130 0 0 0 20 7 0\n");
        assert_eq!(after.stolen_since(before), 20.0);
        assert_eq!(Ticks::parse("").stolen_since(Ticks::parse("")), 0.0);
    }
}
