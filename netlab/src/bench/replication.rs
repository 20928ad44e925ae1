//! `netlab bench replication`: what rows of other POPs cost: to be taken, to be kept, to be written; each in a process of its own.
//!
//! The work is done by a program that is built with edgeproxy (`tests/bench/replication.rs` of its package), on one
//! processor. What it says it used is processor time: a machine that gives it less of a processor does not make it dearer.

pub mod column;
pub mod results;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::cores::{self, Cores};
use super::{BenchReport, Options};
use crate::binary;
use crate::machine::Ticks;
use crate::process;
use crate::runner::Report;
use column::Column;
use results::{Results, Sample};

/// What it is about, for lists.
pub const ABOUT: &str = "Rows of other POPs: taken as pushes and as snapshots, with and without signatures, written to SQLite, kept in memory; rows per processor second, octets per row.";
/// What absolute figures are worth.
pub const NOTE: &str = "Rows have keys of 16 octets and bodies of 64. To SQLite: into a folder under TMPDIR, until all of it is on the disk. The column CRDT's 165 µs a row were published by others for theirs.";
/// A round of a column takes a second or two; without optimization, twenty times that.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs it; its files are under `work`. What fails on the way is in the report.
///
/// # Errors
/// When it cannot begin: wrong options, or what is to be measured is not built.
pub fn run(options: &Options, work: &Path, verbose: bool) -> Result<BenchReport, String> {
    let Options { only, peers, rounds, seconds, unpinned } = options;
    if !peers.is_empty() || seconds.is_some() || *unpinned {
        return Err("`netlab bench replication` knows --only and --rounds".to_owned());
    }
    let (columns, rounds) = (column::chosen(only)?, rounds.unwrap_or(5));
    if rounds == 0 {
        return Err("--rounds is at least 1".to_owned());
    }
    let program = binary::replication_bench().map_err(|error| error.to_string())?;
    // On a machine with one processor, there is nothing to choose.
    let cpu = Cores::choose().ok().map(|cores| cores.proxy);
    let mut bench = Bench {
        program,
        cpu,
        work: work.to_owned(),
        results: Results::default(),
        failures: Vec::new(),
        versions: BTreeMap::new(),
        verbose,
    };
    let (start, before) = (Instant::now(), Ticks::now());
    for round in 0..rounds {
        columns.iter().for_each(|column| bench.measure(round, *column));
    }
    let failure = (!bench.failures.is_empty()).then(|| bench.failures.join("\n"));
    let report = Report {
        scenario: "bench-replication".to_owned(),
        pass: failure.is_none(),
        figures: bench.results.figures(),
        failure,
        seconds: start.elapsed().as_secs_f64(),
        versions: bench.versions,
        stolen_percent: Ticks::now().stolen_since(before),
    };
    let table = bench.results.table();
    Ok(BenchReport { report, best: BTreeMap::new(), missing: BTreeMap::new(), note: NOTE, table })
}

struct Bench {
    program: PathBuf,
    /// Where it runs; none: wherever the kernel puts it.
    cpu: Option<usize>,
    work: PathBuf,
    results: Results,
    failures: Vec<String>,
    versions: BTreeMap<String, String>,
    verbose: bool,
}

impl Bench {
    fn measure(&mut self, round: usize, column: Column) {
        let words = format!("round {}, {column}", round + 1);
        match self.sample(round, column) {
            Ok(sample) => {
                self.tell(&format!("{words}: {sample:?}"));
                self.versions = sample.versions();
                self.results.add(column, round, sample);
            }
            Err(error) => self.fail(format!("{words}: {error}")),
        }
    }

    /// A fresh process for each, and a folder without a database.
    fn sample(&self, round: usize, column: Column) -> io::Result<Sample> {
        let folder = self.work.join(format!("{column}-{round}"));
        std::fs::create_dir_all(&folder)?;
        let mut command = Command::new(&self.program);
        command.arg(column.word()).arg(&folder);
        let run = || process::output(command, PATIENCE);
        let output = match self.cpu {
            Some(cpu) => cores::pinned(cpu, run)?,
            None => run(),
        };
        let _ = std::fs::remove_dir_all(folder);
        let output = output?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("{}: {}", output.status, complaint.trim())));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| {
            io::Error::other(format!("{} said something else: {error}", self.program.display()))
        })
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
