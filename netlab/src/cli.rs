//! The command line: scenarios and benches by name, topologies to look around in.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the command line speaks")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::bench;
use crate::figures;
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::runner::{self, Report};
use crate::scenario::Scenario;
use crate::sys::descriptors;
use crate::sys::namespace::{is_root, signal};

/// Networks of real routers in namespaces.
///
/// Exit codes: 0 all passed; 1 a scenario failed, or with --strict missed a goal; 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "netlab", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Name the scenarios and benches.
    List,
    /// Build the network of a scenario and keep it until Ctrl-C or `netlab down`.
    Up { topology: String },
    /// End the network that `netlab up` keeps.
    Down,
    /// Run scenarios; each is a name or a file.
    Run {
        #[arg(required = true)]
        scenarios: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Run a bench: peers side by side in one run, interleaved.
    Bench {
        name: String,
        #[command(flatten)]
        options: bench::Options,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, clap::Args)]
struct Output {
    /// Write the reports as a JSON array; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A missed goal fails too.
    #[arg(long)]
    strict: bool,
    /// Say what happens.
    #[arg(long, short)]
    verbose: bool,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    match obey(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("netlab: {why}");
            ExitCode::from(1)
        }
    }
}

fn obey(command: Command) -> Result<bool, String> {
    match command {
        Command::List => {
            for folder in ["scenarios", "benches"] {
                println!("{folder}:");
                for path in files(folder)? {
                    let scenario = Scenario::load(&path)?;
                    println!("  {:<14} {}", scenario.scenario, scenario.about.trim());
                }
                if folder == "benches" {
                    println!("  {PROXY:<14} {}", bench::ABOUT);
                    println!("  {BACKHAUL:<14} {}", bench::backhaul::ABOUT);
                    println!("  {REPLICATION:<14} {}", bench::replication::ABOUT);
                }
            }
            Ok(true)
        }
        Command::Up { topology } => up(&topology).map(|()| true),
        Command::Down => {
            let none = || "no network is up".to_owned();
            let file = std::fs::File::open(PID_FILE).map_err(|_| none())?;
            // Whoever keeps a network holds the lock; without one the pid may be anybody's by now.
            if file.try_lock().is_ok() {
                return Err(none());
            }
            let text = std::io::read_to_string(file).map_err(|error| format!("{PID_FILE}: {error}"))?;
            let pid = text.trim().parse().map_err(|_| format!("{PID_FILE} holds no pid"))?;
            signal(pid, libc::SIGTERM).map_err(|error| error.to_string())?;
            let _ = std::fs::remove_file(PID_FILE);
            Ok(true)
        }
        Command::Run { scenarios, output } => run("scenarios", &scenarios, &output),
        Command::Bench { name, options, output } if name == PROXY => {
            bench_program(PROXY, bench::ABOUT, &output, |work| bench::run(&options, work, output.verbose))
        }
        Command::Bench { name, options, output } if name == BACKHAUL => {
            let run = |work: &Path| bench::backhaul::run(&options, work, output.verbose);
            bench_program(BACKHAUL, bench::backhaul::ABOUT, &output, run)
        }
        Command::Bench { name, options, output } if name == REPLICATION => {
            let run = |work: &Path| bench::replication::run(&options, work, output.verbose);
            bench_program(REPLICATION, bench::replication::ABOUT, &output, run)
        }
        Command::Bench { options, .. } if !options.is_default() => Err(format!(
            "--only, --peers, --rounds and --seconds are of `netlab bench {PROXY}`, `{BACKHAUL}` and `{REPLICATION}`"
        )),
        Command::Bench { name, output, .. } => run("benches", &[name], &output),
    }
}

/// The benches that are programs rather than scenarios.
const PROXY: &str = "proxy";
const BACKHAUL: &str = "backhaul";
const REPLICATION: &str = "replication";

/// For 20,000 connections through a proxy.
const DESCRIPTORS: usize = 45_000;
/// Where `up` says who keeps the network.
const PID_FILE: &str = "/run/netlab.pid";

fn up(topology: &str) -> Result<(), String> {
    needs_root()?;
    let told = |error: std::io::Error| format!("{PID_FILE}: {error}");
    let mut keeper =
        std::fs::File::options().create(true).write(true).truncate(false).open(PID_FILE).map_err(told)?;
    if keeper.try_lock().is_err() {
        return Err("a network is up already; `netlab down` ends it".to_owned());
    }
    keeper.set_len(0).and_then(|()| write!(keeper, "{}", std::process::id())).map_err(told)?;
    let scenario = Scenario::load(&find("scenarios", topology)?)?;
    let work = work_directory(&scenario.scenario)?;
    let mut lab = Lab::build(&scenario, &work).map_err(|error| error.to_string())?;
    println!("{} is up, its files are in {}", scenario.scenario, work.display());
    for (name, node) in &mut lab.nodes {
        if let Some(pid) = node.any_pid() {
            println!("  {name:<10} {}", Namespace::enter_line(pid));
        }
        if let Some(edgeproxy) = &node.edgeproxy {
            println!("  {:<10} edgeproxy --socket {} status", "", edgeproxy.socket().display());
        }
    }
    println!("Ctrl-C, or `netlab down`, ends it.");
    // Every process of the lab dies with this one; there is nothing to do but to be there.
    loop {
        std::thread::park();
    }
}

fn run(folder: &str, names: &[String], output: &Output) -> Result<bool, String> {
    needs_root()?;
    // What a lab starts inherits it; where more is not allowed, it is done with less.
    let _ = descriptors::allow(DESCRIPTORS);
    let mut reports = Vec::new();
    for name in names {
        let scenario = Scenario::load(&find(folder, name)?)?;
        let work = work_directory(&scenario.scenario)?;
        eprintln!("== {}: {}", scenario.scenario, scenario.about.trim());
        let report = runner::run(&scenario, &work, output.verbose);
        show(&report, &work);
        reports.push(report);
    }
    write(&reports, output)?;
    Ok(reports.iter().all(|report| report.pass && !(output.strict && missed(report))))
}

fn bench_program(
    name: &str,
    about: &str,
    output: &Output,
    run: impl FnOnce(&Path) -> Result<bench::BenchReport, String>,
) -> Result<bool, String> {
    needs_root()?;
    let work = work_directory(&format!("bench-{name}"))?;
    eprintln!("== bench-{name}: {about}");
    let bench = run(&work)?;
    eprint!("{}", bench.table);
    let judged = bench.report.figures.iter().filter(|(_, figure)| figure.goal.is_some());
    eprint!("{}", figures::table(&judged.map(|(name, figure)| (name.clone(), figure.clone())).collect()));
    let best: Vec<_> = bench.best.iter().map(|(column, peer)| format!("{column} {peer}")).collect();
    if !best.is_empty() {
        eprintln!("   best peers: {}", best.join(", "));
    }
    eprintln!("   {}", bench.note);
    for (peer, why) in &bench.missing {
        eprintln!("!! {peer} DID NOT TAKE PART: {why}");
    }
    close(&bench.report, &work);
    let strictly = bench.missing.is_empty() && !missed(&bench.report);
    let pass = bench.report.pass && (strictly || !output.strict);
    write(&[bench], output)?;
    Ok(pass)
}

fn missed(report: &Report) -> bool {
    report.figures.values().any(|figure| figure.met == Some(false))
}

fn write(reports: &[impl serde::Serialize], output: &Output) -> Result<(), String> {
    let Some(file) = &output.json else { return Ok(()) };
    let text = serde_json::to_string_pretty(reports).map_err(|error| error.to_string())? + "\n";
    if file == Path::new("-") {
        print!("{text}");
        return Ok(());
    }
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn show(report: &Report, work: &Path) {
    if !report.figures.is_empty() {
        eprint!("{}", figures::table(&report.figures));
    }
    close(report, work);
}

/// The last lines about a run; the files of one that passed are not kept.
fn close(report: &Report, work: &Path) {
    let versions: Vec<_> =
        report.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    eprintln!(
        "   {:.1} % of the processor time was stolen by the hypervisor; {}",
        report.stolen_percent,
        versions.join(", ")
    );
    match &report.failure {
        None => {
            eprintln!("-- {} passed in {:.1} s", report.scenario, report.seconds);
            let _ = std::fs::remove_dir_all(work);
        }
        Some(why) => eprintln!(
            "-- {} FAILED after {:.1} s: {why}\n   its files are in {}",
            report.scenario,
            report.seconds,
            work.display()
        ),
    }
}

fn needs_root() -> Result<(), String> {
    if is_root() { Ok(()) } else { Err("network namespaces need root: run this with sudo".to_owned()) }
}

/// A name among our own files, or a path.
fn find(folder: &str, name: &str) -> Result<PathBuf, String> {
    if Path::new(name).is_file() {
        return Ok(name.into());
    }
    let path = root().join(folder).join(format!("{name}.yaml"));
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("there is no {name} in {folder}; `netlab list` names them"))
    }
}

fn files(folder: &str) -> Result<Vec<PathBuf>, String> {
    let directory = root().join(folder);
    let listing =
        std::fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut files: Vec<_> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    Ok(files)
}

/// The package's own folder, which holds scenarios and benches.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn work_directory(scenario: &str) -> Result<PathBuf, String> {
    let path = std::env::temp_dir().join(format!("netlab-{}-{scenario}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}
