//! Benches that are programs. `netlab bench proxy`: the data plane beside HAProxy, nginx, Envoy and copy_bidirectional, interleaved in one run.
//!
//! The proxy has one processor, the load and the backend share another. Which of the two is the narrower
//! one depends on the column, so absolute figures say what the pair reached. What is compared is work per
//! processor second of the proxy, which holds whoever waits for whom.

pub mod backend;
pub mod backhaul;
pub mod certificate;
mod choice;
pub mod column;
pub mod cores;
pub mod frame;
pub mod link;
pub mod load;
pub mod measure;
pub mod peer;
pub mod replication;
pub mod results;
pub mod usage;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::machine::Ticks;
use crate::namespace::Namespace;
use crate::runner::Report;
use crate::sys::descriptors;
use backend::Backend;
use certificate::Certificate;
use column::Column;
use cores::Cores;
use measure::{IDLE, Method, Sample};
use peer::{Found, Peer, Running, Setting};
use results::Results;

/// What it is about, for lists.
pub const ABOUT: &str = "The data plane beside HAProxy with and without splice, nginx stream, Envoy and copy_bidirectional: work per processor second, memory, latency; interleaved in one run.";
/// What absolute figures are worth.
pub const NOTE: &str = "The load and the backend share one processor, often the narrower one: figures on the wall are what the pair reached. Ratios are of work per processor second of the proxy and hold whoever waits.";
/// How long the rate of the open loop is looked for.
const CALIBRATION: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Only these columns, by the beginning of their names.
    #[arg(long, value_delimiter = ',', value_name = "COLUMN")]
    only: Vec<String>,
    /// Only these. `proxy`: edgeproxy haproxy_splice haproxy_nosplice nginx envoy copy. `backhaul`: edgeproxy
    /// wireguard_go boringtun.
    #[arg(long, value_delimiter = ',', value_name = "PEER")]
    peers: Vec<String>,
    /// How often each is measured. Default 5.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each measurement takes. Default 2, of a stream through the backhaul 5.
    #[arg(long)]
    seconds: Option<f64>,
    /// `backhaul`: the kernel chooses who runs on which processor.
    #[arg(long)]
    unpinned: bool,
}

impl Options {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        let Self { only, peers, rounds, seconds, unpinned } = self;
        only.is_empty() && peers.is_empty() && rounds.is_none() && seconds.is_none() && !unpinned
    }
}

/// The house's report, and what is particular to a bench.
#[derive(Debug, Serialize)]
pub struct BenchReport {
    #[serde(flatten)]
    pub report: Report,
    /// Of each column, the peer that ratios are against.
    pub best: BTreeMap<String, String>,
    /// Peers that should have taken part, and why they did not.
    pub missing: BTreeMap<String, String>,
    pub note: &'static str,
    #[serde(skip)]
    pub table: String,
}

/// Runs it; its files are under `work`. What fails on the way is in the report.
///
/// # Errors
/// When it cannot begin: wrong options, one processor, no namespace.
pub fn run(options: &Options, work: &Path, verbose: bool) -> Result<BenchReport, String> {
    let columns = column::chosen(&options.only)?;
    let (rounds, seconds) = (options.rounds.unwrap_or(5), options.seconds.unwrap_or(2.0));
    if rounds == 0 || !(0.1..=600.0).contains(&seconds) {
        return Err("--rounds is at least 1, --seconds from 0.1 to 600".to_owned());
    }
    let (found, missing) = find(&chosen_peers(&options.peers)?);
    if found.is_empty() {
        return Err("no peer can take part".to_owned());
    }
    let told = |error: io::Error| error.to_string();
    let mut bench = Bench::new(found, work, Duration::from_secs_f64(seconds), verbose).map_err(told)?;
    let (start, before) = (Instant::now(), Ticks::now());
    for round in 0..rounds {
        bench.round(round, &columns);
    }
    let versions = bench.found.iter().map(|(peer, found)| (peer.to_string(), found.version.clone()));
    let figures = bench.results.figures();
    for words in bench.results.breakages() {
        bench.tell(&words);
    }
    let failures = (!bench.failures.is_empty()).then(|| bench.failures.join("\n"));
    let report = Report {
        scenario: "bench-proxy".to_owned(),
        pass: failures.is_none(),
        figures,
        failure: failures,
        seconds: start.elapsed().as_secs_f64(),
        versions: versions.collect(),
        stolen_percent: Ticks::now().stolen_since(before),
    };
    let (best, table) = (bench.results.best(), bench.results.table());
    Ok(BenchReport { report, best, missing, note: NOTE, table })
}

fn chosen_peers(words: &[String]) -> Result<Vec<Peer>, String> {
    if words.is_empty() {
        return Ok(Peer::ALL.to_vec());
    }
    let known = || Peer::ALL.map(Peer::word).join(", ");
    let one = |word: &String| {
        Peer::from_word(word).ok_or_else(|| format!("there is no peer {word:?}; there are {}", known()))
    };
    words.iter().map(one).collect()
}

/// Those that can take part, and loud words about those that cannot.
#[expect(clippy::print_stderr, reason = "a missing peer makes every goal easier: it must be seen")]
fn find(peers: &[Peer]) -> (BTreeMap<Peer, Found>, BTreeMap<String, String>) {
    let (mut found, mut missing) = (BTreeMap::new(), BTreeMap::new());
    for peer in peers {
        match peer.find() {
            Ok(one) => {
                found.insert(*peer, one);
            }
            Err(why) => {
                eprintln!("\n!! {peer} DOES NOT TAKE PART: {why}\n");
                missing.insert(peer.to_string(), why);
            }
        }
    }
    (found, missing)
}

struct Bench {
    namespace: Namespace,
    cores: Cores,
    certificate: Certificate,
    work: std::path::PathBuf,
    found: BTreeMap<Peer, Found>,
    method: Method,
    results: Results,
    failures: Vec<String>,
    verbose: bool,
    /// Ends with the bench.
    _backend: Backend,
}

impl Bench {
    fn new(found: BTreeMap<Peer, Found>, work: &Path, window: Duration, verbose: bool) -> io::Result<Self> {
        // Each idle connection has two sockets here; a proxy, which inherits the bound, has two as well.
        descriptors::allow(2 * IDLE + 2_000)?;
        let cores = Cores::choose()?;
        let namespace = Namespace::create("bench")?;
        // Tens of thousands of connections a second leave as many in TIME_WAIT: ports must not run out.
        namespace.sysctl("net/ipv4/ip_local_port_range", "10000 65535")?;
        let backend = Backend::start(&namespace, cores.load)?;
        let client = link::client_config().map_err(io::Error::other)?;
        let counters = Arc::clone(&backend.counters);
        Ok(Self {
            certificate: Certificate::make(work)?,
            work: work.to_owned(),
            method: Method { cpu: cores.load, window, client, counters, rate: 0.0 },
            namespace,
            cores,
            found,
            results: Results::default(),
            failures: Vec::new(),
            verbose,
            _backend: backend,
        })
    }

    /// Every column, and in each the peers one right after the other: what the machine does meanwhile, it
    /// does to neighbors alike. Who begins changes with the round.
    fn round(&mut self, round: usize, columns: &[Column]) {
        for column in columns {
            let mut peers: Vec<Peer> = self.found.keys().copied().collect();
            let first = round % peers.len();
            peers.rotate_left(first);
            if *column == Column::Latency && self.method.rate == 0.0 {
                self.calibrate(&peers);
            }
            for peer in peers.into_iter().filter(|peer| column.includes(*peer)) {
                match self.measure(*column, peer, self.method.window) {
                    Ok(sample) => {
                        self.tell(&format!("round {}, {column}, {peer}: {:?}", round + 1, sample.outcome));
                        self.results.add(*column, peer, round, sample);
                    }
                    Err(error) => self.fail(format!("round {}, {column}, {peer}: {error}", round + 1)),
                }
            }
        }
    }

    /// Half of what HAProxy carries on 64 connections; of whoever is there if HAProxy is not.
    fn calibrate(&mut self, peers: &[Peer]) {
        let haproxy = [Peer::HaproxyNosplice, Peer::HaproxySplice];
        let Some(peer) = haproxy.iter().chain(peers).find(|peer| peers.contains(peer)).copied() else {
            return;
        };
        let known = self.results.per_second(Column::Small64, peer);
        let whole = known.map_or_else(
            || match self.measure(Column::Small64, peer, CALIBRATION)?.outcome {
                measure::Outcome::Work { work, wall, .. } => Ok(work / wall),
                _ => Err(io::Error::other("no work was measured")),
            },
            Ok,
        );
        match whole {
            Ok(whole) => {
                self.method.rate = whole / 2.0;
                self.tell(&format!("the open loop sends {:.0} requests a second", self.method.rate));
            }
            Err(error) => self.fail(format!("calibration with {peer}: {error}")),
        }
    }

    /// A fresh process for each: none inherits the heap of the column before.
    fn measure(&self, column: Column, peer: Peer, window: Duration) -> io::Result<Sample> {
        let found = &self.found[&peer];
        let setting = Setting::of(peer, &self.certificate, &self.work)?;
        let start = || Running::start(peer, found, &setting, &self.namespace);
        let mut running = cores::pinned(self.cores.proxy, start)??;
        let pid = running.pid();
        let method = Method { window, ..self.method.clone() };
        let measured = self.namespace.run(|| method.measure(column, &setting, pid))?;
        measured.map_err(|error| io::Error::new(error.kind(), format!("{error}\n{}", running.tail())))
    }

    #[expect(clippy::print_stderr, reason = "progress is for people; standard output is for JSON")]
    fn tell(&self, words: &str) {
        if self.verbose {
            eprintln!("   {words}");
        }
    }

    #[expect(clippy::print_stderr, reason = "a run of half an hour must not keep this to itself")]
    fn fail(&mut self, words: String) {
        eprintln!("!! {words}");
        self.failures.push(words);
    }
}
