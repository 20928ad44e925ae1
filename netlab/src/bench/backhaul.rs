//! `netlab bench backhaul`: the tunnel between two POPs beside wireguard-go and boringtun, interleaved in one run.
//!
//! Two hosts on one link of 1,500 octets, a tunnel process on each, addresses of a 6PN inside. Each host has one
//! processor for its tunnel and its load, as a small VM has, unless `--unpinned` says otherwise. Work is compared by
//! the processor seconds of both tunnel processes, and on the wall.

pub mod column;
pub mod packets;
pub mod pair;
pub mod peer;
pub mod results;
pub mod stream;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cores::Cores;
use super::{BenchReport, Options};
use crate::machine::Ticks;
use crate::runner::Report;
use column::Column;
use packets::Offered;
use pair::Pair;
use peer::{Found, Peer};
use results::{Results, Sample};

/// What it is about, for lists.
pub const ABOUT: &str = "The backhaul beside Debian's wireguard-go and boringtun-cli: one TCP stream, 64-byte packets, retransmits, memory, processor seconds of both tunnel processes; interleaved in one run.";
/// What absolute figures are worth.
pub const NOTE: &str = "Each end has one processor for its tunnel and its load (both processors with --unpinned): figures on the wall are what that machine reached. Memory is of one process, edgeproxy's with all its other subsystems.";

/// Of one stream: retransmits are told in five seconds of it.
const STREAM: Duration = Duration::from_secs(5);
/// Of the packets.
const PACKETS: Duration = Duration::from_secs(2);
/// More than any of them carries.
const FLOOD: u32 = 400_000;
/// Packets a second, of which the first that everybody carries is offered to all.
const RATES: [u32; 7] = [60_000, 40_000, 30_000, 20_000, 10_000, 5_000, 2_000];
/// How long each is tried.
const CALIBRATION: Duration = Duration::from_secs(1);

/// Runs it; its files are under `work`. What fails on the way is in the report.
///
/// # Errors
/// When it cannot begin: wrong options, one processor, no peer.
pub fn run(options: &Options, work: &Path, verbose: bool) -> Result<BenchReport, String> {
    let columns = column::chosen(&options.only)?;
    let rounds = options.rounds.unwrap_or(5);
    if rounds == 0 || !options.seconds.is_none_or(|seconds| (0.1..=600.0).contains(&seconds)) {
        return Err("--rounds is at least 1, --seconds from 0.1 to 600".to_owned());
    }
    let (found, missing) = find(&peer::chosen(&options.peers)?, work);
    if found.is_empty() {
        return Err("no peer can take part".to_owned());
    }
    let cores = Cores::choose().map_err(|error| error.to_string())?;
    let mut bench = Bench {
        found,
        work: work.to_owned(),
        cores: (!options.unpinned).then_some(cores),
        seconds: options.seconds.map(Duration::from_secs_f64),
        rate: 0,
        results: Results::default(),
        failures: Vec::new(),
        verbose,
    };
    let (start, before) = (Instant::now(), Ticks::now());
    for round in 0..rounds {
        bench.round(round, &columns);
    }
    let versions = bench.found.iter().map(|(peer, found)| (peer.to_string(), found.version.clone()));
    let failure = (!bench.failures.is_empty()).then(|| bench.failures.join("\n"));
    let report = Report {
        scenario: "bench-backhaul".to_owned(),
        pass: failure.is_none(),
        figures: bench.results.figures(),
        failure,
        seconds: start.elapsed().as_secs_f64(),
        versions: versions.collect(),
        stolen_percent: Ticks::now().stolen_since(before),
    };
    let (best, table) = (bench.results.best(), bench.results.table());
    Ok(BenchReport { report, best, missing, note: NOTE, table })
}

/// Those that can take part, and loud words about those that cannot.
#[expect(clippy::print_stderr, reason = "a missing peer makes every goal easier: it must be seen")]
fn find(peers: &[Peer], work: &Path) -> (BTreeMap<Peer, Found>, BTreeMap<String, String>) {
    let (mut found, mut missing) = (BTreeMap::new(), BTreeMap::new());
    for peer in peers {
        match peer.find(work) {
            Ok(one) => {
                found.insert(*peer, one);
            }
            Err(why) => {
                eprintln!("\n!! {peer} DID NOT RUN: {why}\n");
                missing.insert(peer.to_string(), why);
            }
        }
    }
    (found, missing)
}

struct Bench {
    found: BTreeMap<Peer, Found>,
    work: PathBuf,
    /// Of the two ends; none: wherever the kernel puts them.
    cores: Option<Cores>,
    /// Of every measurement, if asked for.
    seconds: Option<Duration>,
    /// Packets a second that all can carry; 0 until it is known.
    rate: u32,
    results: Results,
    failures: Vec<String>,
    verbose: bool,
}

impl Bench {
    /// Every column, and in each the peers one right after the other: what the machine does meanwhile, it does to
    /// neighbors alike. Who begins changes with the round.
    fn round(&mut self, round: usize, columns: &[Column]) {
        for column in columns {
            let mut peers: Vec<Peer> = self.found.keys().copied().collect();
            let first = round % peers.len();
            peers.rotate_left(first);
            if *column == Column::Packets && self.rate == 0 {
                self.calibrate(&peers);
            }
            for peer in peers {
                let words = format!("round {}, {column}, {peer}", round + 1);
                // A peer that loses packets on a bad moment of the machine gets a second one; we do not.
                let mut measured = self.measure(*column, peer);
                if let (Err(error), true) = (&measured, peer != Peer::EdgeProxy) {
                    self.tell(&format!("{words}: once more after: {error}"));
                    measured = self.measure(*column, peer);
                }
                match measured {
                    Ok(sample) => {
                        self.tell(&format!("{words}: {sample:?}"));
                        self.results.add(*column, peer, round, sample);
                    }
                    Err(error) => self.fail(format!("{words}: {error}")),
                }
            }
        }
    }

    /// One step under the most of a few rates that everybody carries whole, so that a slow moment of the machine is
    /// survived. What they carry under a flood would not do: some come to a standstill under one.
    fn calibrate(&mut self, peers: &[Peer]) {
        let carried = |rate: u32, peer: Peer| {
            let pair = Pair::start(peer, &self.work, self.cores)?;
            packets::measure(&pair, Offered::steady(rate), CALIBRATION)
        };
        for (at, rate) in RATES.into_iter().enumerate() {
            match peers.iter().find_map(|peer| Some((peer, carried(rate, *peer).err()?))) {
                None => {
                    self.rate = RATES.get(at + 1).copied().unwrap_or(rate);
                    self.results.offered = Some(self.rate);
                    return self.tell(&format!("{} packets a second are offered to all", self.rate));
                }
                Some((peer, error)) => self.tell(&format!("{rate} packets a second: {peer}: {error}")),
            }
        }
        self.rate = RATES[RATES.len() - 1];
        self.fail(format!("not everybody carries {} packets a second", self.rate));
    }

    /// A fresh pair for each: none inherits the heap of the column before.
    fn measure(&self, column: Column, peer: Peer) -> io::Result<Sample> {
        let pair = Pair::start(peer, &self.work, self.cores)?;
        let window = |usual: Duration| self.seconds.unwrap_or(usual);
        let measured = match column {
            Column::Stream => stream::measure(&pair, window(STREAM)),
            Column::Packets => packets::measure(&pair, Offered::steady(self.rate), window(PACKETS)),
            Column::Flood => packets::measure(&pair, Offered::flood(FLOOD), window(PACKETS)),
        };
        measured.map_err(|error| io::Error::new(error.kind(), format!("{error}\n{}", pair.tails())))
    }

    #[expect(clippy::print_stderr, reason = "progress is for people; standard output is for JSON")]
    fn tell(&self, words: &str) {
        if self.verbose {
            eprintln!("   {words}");
        }
    }

    #[expect(clippy::print_stderr, reason = "a long run must not keep this to itself")]
    fn fail(&mut self, words: String) {
        eprintln!("!! {words}");
        self.failures.push(words);
    }
}
