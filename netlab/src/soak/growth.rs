//! Whether a process grows: its resident memory and open descriptors, looked at again and again.

use std::time::Duration;

use crate::moment::Moment;

/// One look at a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    pub at: Moment,
    pub pid: u32,
    pub memory_mib: f64,
    pub descriptors: u32,
}

impl Look {
    /// Looks now; `None` when the process is gone.
    #[must_use]
    pub fn at(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u32;
        Some(Self { at: Moment::now(), pid, memory_mib: kib / 1024.0, descriptors })
    }
}

/// How much the last process grew, from when it had settled to the end: MiB and descriptors, each the least of the
/// last quarter over the least of the first. `None` when it did not live for four times `settled`.
#[must_use]
pub fn growth(looks: &[Look], settled: Duration) -> Option<(f64, f64)> {
    let last = looks.last()?;
    let life: Vec<&Look> = looks.iter().filter(|look| look.pid == last.pid).collect();
    let begin = life.first()?.at + settled;
    let length = last.at.after(begin).filter(|length| *length >= 3 * settled)?;
    // Peaks come and go with the faults; what a leak lifts is the floor.
    let floor = |from: Moment, until: Moment, of: fn(&Look) -> f64| {
        let within = life.iter().filter(|look| (from..=until).contains(&look.at));
        within.map(|look| of(look)).min_by(f64::total_cmp)
    };
    let rise = |of: fn(&Look) -> f64| {
        Some(floor(last.at - length / 4, last.at, of)? - floor(begin, begin + length / 4, of)?)
    };
    Some((rise(|look| look.memory_mib)?, rise(|look| f64::from(look.descriptors))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_lifts_the_floor_and_peaks_do_not() {
        let settled = Duration::from_secs(10);
        let looks = |leak: f64| {
            let look = |second: u64| Look {
                at: Moment(second * 1_000_000_000),
                pid: if second < 20 { 1 } else { 2 },
                memory_mib: 20.0 + leak * second as f64 + if second.is_multiple_of(3) { 30.0 } else { 0.0 },
                descriptors: 12 + (second % 7) as u32,
            };
            (0..100).map(look).collect::<Vec<_>>()
        };
        assert_eq!(growth(&looks(0.0), settled), Some((0.0, 0.0)));
        let (memory, _) = growth(&looks(1.0), settled).unwrap();
        assert!((memory - 50.0).abs() < 5.0, "{memory}");
        assert_eq!(growth(&looks(1.0)[..40], settled), None);
        let own = Look::at(std::process::id()).unwrap();
        assert!(own.memory_mib > 1.0 && own.descriptors > 2);
    }
}
