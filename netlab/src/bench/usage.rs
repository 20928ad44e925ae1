//! What a process and its descendants used: processor time to the nanosecond, and memory.

use std::fs;

/// A process with its descendants, as they were when it was looked at.
#[derive(Debug, Clone)]
pub struct Tree {
    pids: Vec<u32>,
}

impl Tree {
    /// The process and all that descend from it.
    #[must_use]
    pub fn of(root: u32) -> Self {
        let mut pids = vec![root];
        let mut next = 0;
        while let Some(pid) = pids.get(next).copied() {
            next += 1;
            for task in tasks(pid) {
                let children =
                    fs::read_to_string(format!("/proc/{pid}/task/{task}/children")).unwrap_or_default();
                let children = children.split_whitespace().filter_map(|child| child.parse::<u32>().ok());
                pids.extend(children);
            }
        }
        Self { pids }
    }

    /// Processor seconds of all threads that live: run time as the scheduler counts it, not sampled by
    /// ticks (the first field of `/proc/PID/task/TID/schedstat`, nanoseconds). Time stolen by the hypervisor
    /// is not in it.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        let of_thread = |pid: u32, task: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/task/{task}/schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        let mut nanoseconds = 0;
        for pid in &self.pids {
            nanoseconds += tasks(*pid).into_iter().filter_map(|task| of_thread(*pid, task)).sum::<u64>();
        }
        nanoseconds as f64 / 1e9
    }

    /// Resident memory in KiB, exact (`smaps_rollup`; the counters in `statm` lag by pages per processor).
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        self.pids
            .iter()
            .filter_map(|pid| resident(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?))
            .sum()
    }
}

fn tasks(pid: u32) -> Vec<u32> {
    let listing = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    listing.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// proc_pid_smaps(5): `Rss:   1234 kB`.
fn resident(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("Rss:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_use_is_seen() {
        let tree = Tree::of(std::process::id());
        let before = tree.seconds();
        let mut sum = 0u64;
        while tree.seconds() <= before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(tree.resident_kib() > 100);
        assert_eq!(resident("7f00-8000 ---p\nRss:    1234 kB\nPss: 1 kB\n"), Some(1234));
        assert_eq!(resident(""), None);
    }
}
