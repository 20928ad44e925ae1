//! A backend that flaps before the real roster, ledger and Adj-RIB-Out: how often neighbors hear of it.

use std::time::{Duration, Instant};

use edgeproxy::config::anycast::Damping;

use super::path::{Checked, Death, Path, Wave};

const STABLE: Duration = Duration::from_secs(60);
const FLAPPING: Duration = Duration::from_secs(600);
/// Longer than the longest dwell.
const AFTERWARDS: Duration = Duration::from_secs(400);
const RATES: [f64; 5] = [0.2, 1.0, 2.0, 10.0, 30.0];

const POLLED: Checked =
    Checked { interval: millis(1000), fast: millis(100), timeout: millis(500), held: false };
const QUICK: Checked = Checked { interval: millis(20), fast: millis(5), timeout: millis(15), held: false };
const HELD: Checked = Checked { held: true, ..POLLED };

/// UPDATEs for one prefix from the first failure to the end, where each break is noticed.
const FEW: usize = 6;
/// The same where a backend is asked once a second only: flaps that keep step with the questions look like
/// long times of peace. The dwell bounds it all the same: 1 s + 2 s + 4 s + … fit nine times in ten minutes.
const BOUNDED: usize = 2 * 9 + 2;

const CHECKS: [(&str, Checked, Death, usize); 6] = [
    ("held, refuses", HELD, Death::Refuses, FEW),
    ("held, is silent", HELD, Death::IsSilent, FEW),
    ("every 20 ms, refuses", QUICK, Death::Refuses, FEW),
    ("every 20 ms, is silent", QUICK, Death::IsSilent, FEW),
    ("every 1 s, refuses", POLLED, Death::Refuses, BOUNDED),
    ("every 1 s, is silent", POLLED, Death::IsSilent, BOUNDED),
];

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn flap() {
    let start = Instant::now();
    let mut table = format!("UPDATEs for one prefix, if it ends up/down\n{:24}", "");
    table.extend(RATES.map(|rate| format!("{:>10}", format!("{rate} Hz"))));
    for (name, checked, death, most) in CHECKS {
        table.push_str(&format!("\n{name:24}"));
        for rate in RATES {
            let [up, down] = [true, false].map(|ends_up| {
                let what = format!("{name}, {rate} Hz, ends up: {ends_up}");
                let updates = updates_of(checked, death, rate, ends_up, start, &what);
                assert!(updates <= most, "{what}: {updates} UPDATEs");
                updates
            });
            table.push_str(&format!("{:>10}", format!("{up}/{down}")));
        }
    }
    println!("{table}");
}

/// Ten minutes of flapping after one in peace, and what follows.
fn updates_of(checked: Checked, death: Death, rate: f64, ends_up: bool, start: Instant, what: &str) -> usize {
    let half = Duration::from_secs_f64(0.5 / rate);
    let (from, until) = (start + STABLE, start + STABLE + FLAPPING);
    let mut path = Path::new(checked, death, Wave { half, from, until, ends_up }, start);
    path.run(from);
    assert!(path.is_announced(), "{what}: while stable");
    path.run(until + AFTERWARDS);
    assert_eq!(path.is_announced(), ends_up, "{what}: in the end");
    let counts: Vec<usize> = path.updates_since(from).iter().map(Vec::len).collect();
    assert!(counts.windows(2).all(|pair| pair[0] == pair[1]), "{what}: both prefixes alike, {counts:?}");
    counts[0]
}

/// One failure of a backend that was stable is told at once, and is over one `min_up` after the backend is up.
#[test]
fn one_failure() {
    let start = Instant::now();
    let min_up = Damping::default().min_up;
    let mut table = "one failure".to_owned();
    for (name, checked, death, _) in CHECKS {
        let (from, half) = (start + STABLE, Duration::from_secs(5));
        let wave = Wave { half, from, until: from + half, ends_up: true };
        let mut path = Path::new(checked, death, wave, start);
        path.run(from + half * 2);
        let (down, up) = path.verdicts_since(from);
        for updates in path.updates_since(from) {
            assert_eq!(updates, [(down[0], false), (up[0] + min_up, true)], "{name}: {down:?}, {up:?}");
        }
        let (failed, back) = (down[0] - from, up[0] - from - half);
        table.push_str(&format!(
            "\n{name:24} withdrawn after {failed:.1?}, known to be back after {back:.1?}"
        ));
    }
    println!("{table}");
}
