//! What `netlab bench replication` runs: `replication_bench COLUMN FOLDER` does one kind of work and tells what it cost.
//!
//! One line of JSON on standard output. A process of its own for each, with the allocator of the router, so that
//! memory and processor time are those of the work.
#![allow(clippy::disallowed_methods, clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod pen;

use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use edgeproxy::replication::digest::Sum;
use edgeproxy::replication::head::{Head, SIGNATURE, Signed};
use edgeproxy::replication::identity::Authority;
use edgeproxy::replication::merge::{Ledger, Offer};
use edgeproxy::replication::record::{Row, Value};
use edgeproxy::replication::replica::Trust;
use edgeproxy::replication::store::{self, Work};
use edgeproxy::replication::version::Point;
use nix::time::{ClockId, clock_gettime};
use pen::{BODY, LIMITS, Pen, key, notary, origin, pushed, read};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Those that write in turn, and the rows that each has.
const ORIGINS: u64 = 16;
const KEYS: u64 = 5_000;
/// Rows that are pushed.
const PUSHED: u64 = 65_536;
/// Of these, one in so many is a deletion.
const GRAVE: u64 = 16;
/// Rows of a snapshot, and in memory in all.
const MANY: u64 = 100_000;
/// Heads that are judged: a signature costs more than a row.
const JUDGED: u64 = 4_096;

/// What a column came to.
#[derive(serde::Serialize)]
struct Told {
    /// Rows that were done.
    rows: u64,
    /// Processor seconds of the process.
    cpu: f64,
    /// Seconds on the wall.
    wall: f64,
    /// Octets by which the process grew, where that is what is measured, and what quotas count for them.
    octets: Option<u64>,
    weight: Option<u64>,
    version: &'static str,
    sqlite: &'static str,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [column, folder] = &arguments[..] else {
        eprintln!("usage: replication_bench COLUMN FOLDER; it is run by `netlab bench replication`");
        return ExitCode::from(2);
    };
    let told = match column.as_str() {
        "push_1" => push(1),
        "push_16" => push(16),
        "push_256" => push(256),
        "snapshot" => snapshot(None),
        "snapshot_again" => snapshot(Some(10)),
        "signed_1" => signed(1),
        "signed_16" => signed(16),
        "sqlite_push" => behind(Path::new(folder), ORIGINS, 256),
        "sqlite_snapshot" => behind(Path::new(folder), 1, MANY),
        "memory" => memory(),
        _ => {
            eprintln!("there is no column {column:?}");
            return ExitCode::from(2);
        }
    };
    println!("{}", serde_json::to_string(&told).unwrap());
    ExitCode::SUCCESS
}

/// Since when.
struct Begun {
    cpu: Duration,
    wall: Instant,
}

impl Begun {
    fn now() -> Self {
        Self { cpu: used(), wall: Instant::now() }
    }

    fn told(&self, rows: u64) -> Told {
        let (cpu, wall) = ((used() - self.cpu).as_secs_f64(), self.wall.elapsed().as_secs_f64());
        let (version, sqlite) = (env!("CARGO_PKG_VERSION"), rusqlite::version());
        Told { rows, cpu, wall, octets: None, weight: None, version, sqlite }
    }
}

/// All threads together.
fn used() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap())
}

/// Pushes of origins that write in turn, taken by somebody who has their rows: each replaces others.
fn push(rows: u64) -> Told {
    let mut pens: Vec<Pen> = (0..ORIGINS).map(Pen::new).collect();
    let mut ledger = with_rows(&mut pens);
    let offers: Vec<Offer> = pushes(&mut pens, rows, PUSHED).iter().map(|octets| read(octets)).collect();
    drop(pens);
    let begun = Begun::now();
    let done = offers.into_iter().map(|offer| apply(&mut ledger, offer)).sum();
    begun.told(done)
}

/// The same from the wire on: read, the signature proven, taken.
fn signed(rows: u64) -> Told {
    let authority = Authority::new("example", std::time::SystemTime::now().into()).unwrap();
    let mut pens: Vec<Pen> = (0..ORIGINS).map(|number| Pen::signing(number, &authority)).collect();
    let mut ledger = with_rows(&mut pens);
    let heads = pushes(&mut pens, rows, JUDGED * rows);
    drop(pens);
    let mut judge = notary(&authority, "judge");
    let begun = Begun::now();
    let mut done = 0;
    for octets in heads {
        let offer = read(&octets);
        judge.verify(&offer.head).unwrap();
        done += apply(&mut ledger, offer);
    }
    begun.told(done)
}

fn with_rows(pens: &mut [Pen]) -> Ledger {
    let mut ledger = Ledger::new(LIMITS);
    for pen in pens {
        pen.write(0..KEYS, 0);
        ledger.take(pen.whole()).unwrap();
    }
    ledger
}

/// In octets, so that none of them lies in memory like rows do.
fn pushes(pens: &mut [Pen], rows: u64, in_all: u64) -> Vec<Vec<u8>> {
    let mut state = 7_u64;
    let mut next = |index: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (pen, first) = (&mut pens[(index % ORIGINS) as usize], state >> 33);
        pen.write((first..first + rows).map(|number| number % KEYS), GRAVE).map(|offer| pushed(&offer))
    };
    (0..in_all / rows).filter_map(&mut next).collect()
}

fn apply(ledger: &mut Ledger, offer: Offer) -> u64 {
    let applied = ledger.take(offer).unwrap().expect("it was not known");
    black_box(applied).rows.len() as u64
}

/// All rows of one origin, by somebody who has none, or has had all but one in so many.
fn snapshot(different: Option<usize>) -> Told {
    let (mut pen, mut ledger) = (Pen::new(0), Ledger::new(LIMITS));
    pen.write(0..MANY, 0);
    if let Some(step) = different {
        ledger.take(pen.whole()).unwrap();
        pen.write((0..MANY).step_by(step), 0);
    }
    let whole = pen.whole();
    drop(pen);
    let begun = Begun::now();
    let changed = black_box(ledger.take(whole)).unwrap().expect("it was not known").rows.len();
    assert_eq!(changed as u64, different.map_or(MANY, |step| MANY / step as u64));
    // All of them were counted.
    begun.told(MANY)
}

/// Rows of others to the disk: from the first that is sent until the last is there.
fn behind(folder: &Path, origins: u64, rows: u64) -> Told {
    let folder = folder.join("replication");
    let mut pens: Vec<Pen> = (0..origins).map(Pen::new).collect();
    let mut works = Vec::new();
    // Every row once: of one that is written twice, the store would write the last alone.
    for first in (0..MANY).step_by(rows as usize) {
        let pen = &mut pens[(first / rows % origins) as usize];
        let offer = pen.write(first..MANY.min(first + rows), 0).expect("rows without deletions");
        let whole = rows == MANY;
        works.push(Work::Remote { head: offer.head, rows: offer.rows, whole, gone: Vec::new() });
    }
    let lasts: Vec<Signed> = pens.iter().map(|pen| pen.whole().head).collect();
    let (store, _) = store::open(&folder).unwrap();
    let ((sender, receiver), stop) = (mpsc::channel(64), CancellationToken::new());
    let until = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let clerk = thread::spawn(move || runtime.block_on(store.run(receiver, until)));

    let begun = Begun::now();
    for work in works {
        sender.blocking_send(work).unwrap();
    }
    // Who writes under the name of another has what it said before written first, and is told when it is on the disk.
    let heads = lasts.iter().cloned();
    let told: Vec<_> = heads
        .map(|head| {
            let (done, told) = oneshot::channel();
            sender.blocking_send(Work::Own { head, rows: Vec::new(), gone: Vec::new(), done }).unwrap();
            told
        })
        .collect();
    for told in told {
        told.blocking_recv().unwrap().unwrap();
    }
    let told = begun.told(MANY);
    stop.cancel();
    clerk.join().unwrap().unwrap();

    let (_, loaded) = store::open(&folder).unwrap();
    let found: usize = loaded.origins.iter().map(|(_, rows)| rows.len()).sum();
    let same = lasts.iter().all(|last| loaded.origins.iter().any(|(head, _)| head == last));
    assert!(same && found as u64 == MANY && loaded.damaged.is_empty(), "{found} rows are there");
    told
}

/// The rows of a hundred POPs. The writers never were in this process: what they freed would be used again unseen.
fn memory() -> Told {
    let (origins, each) = (100, MANY / 100);
    let row = |number: u64| {
        let (key, version) = (key(number), number + 1);
        Arc::new(Row { key, version, value: Value::new(1, 1, &[0x2e; BODY]) })
    };
    let heads: Vec<Signed> = (0..origins)
        .map(|number| {
            let (origin, mut sum, mut weight) = (origin(number), Sum::default(), 0);
            for row in (0..each).map(row) {
                sum.add(&origin, &row);
                weight += row.weight() as u64;
            }
            let head = Head {
                origin,
                point: Point::new(1 << 20, each),
                floor: 0,
                born: 1 << 20,
                instance: 7,
                lineage: Vec::new(),
                rows: each,
                weight,
                digest: sum.digest(),
            };
            Signed { head, certificate: [4; 420].into(), signature: [5; SIGNATURE] }
        })
        .collect();
    let mut ledger = Ledger::new(LIMITS);
    let before = resident();
    let begun = Begun::now();
    for head in heads {
        let rows = (0..each).map(row).collect();
        black_box(ledger.take(Offer { head, after: None, rows })).unwrap();
    }
    let grown = resident() - before;
    let (rows, weight) = ledger.size();
    Told { octets: Some(grown), weight: Some(weight), ..begun.told(rows) }
}

/// Octets in memory, exact: proc_pid_smaps(5), `Rss:   1234 kB`.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1_024
}
