//! One measurement: one column, one peer, one window.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::backend::Counters;
use super::column::Column;
use super::cores;
use super::frame::Ask;
use super::link::Target;
use super::load::bulk::Bulk;
use super::load::exchange::Exchanges;
use super::load::open::OpenLoop;
use super::load::{Broken, Load, idle};
use super::peer::Setting;
use super::usage::Tree;

/// Idle connections whose memory is measured.
pub const IDLE: usize = 5_000;
/// Opened before, so that what a proxy sets up once is not counted.
const IDLE_BEFORE: usize = 200;
/// After the last exchange: pools are trimmed, buffers given back.
const REST: Duration = Duration::from_millis(1_500);
/// Connections of the closed loops that make them anew.
const RACERS: usize = 64;
/// Connections of the open loop.
const OPEN: usize = 64;

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub outcome: Outcome,
    pub broken: Broken,
}

/// In the column's own terms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// Counts (connections, requests, octets), seconds on the wall, processor seconds of the proxy.
    Work { work: f64, wall: f64, cpu: f64 },
    /// Kilobytes (1,000 octets) of resident memory that one idle connection added.
    Memory { kilobytes: f64 },
    /// Microseconds, and the share of a processor that the proxy used, in percent.
    Latency { p50: f64, p99: f64, cpu_percent: f64 },
}

/// How it is done.
#[derive(Debug, Clone)]
pub struct Method {
    /// The processor of the load.
    pub cpu: usize,
    pub window: Duration,
    pub client: Arc<ClientConfig>,
    pub counters: Arc<Counters>,
    /// Requests a second of the open loop.
    pub rate: f64,
}

impl Method {
    /// Measures, on the calling thread, which must be in the namespace and is bound to the load's processor.
    ///
    /// # Errors
    /// When there can be no load: the proxy refuses, or the kernel does.
    pub fn measure(&self, column: Column, setting: &Setting, pid: u32) -> io::Result<Sample> {
        cores::pin(self.cpu)?;
        let target = match column.is_tls() {
            true => Target { address: setting.tls, tls: Some(Arc::clone(&self.client)) },
            false => Target { address: setting.plain, tls: None },
        };
        let tree = Tree::of(pid);
        let bulk = |ask, transfers| Bulk::new(&target, ask, transfers, &self.counters);
        match column {
            Column::Connections | Column::TlsHandshakes => {
                self.work(&mut Exchanges::new(&target, Ask::Close, RACERS)?, &tree)
            }
            Column::Small64 => self.work(&mut Exchanges::new(&target, Ask::Keep, 64)?, &tree),
            Column::Small512 => self.work(&mut Exchanges::new(&target, Ask::Keep, 512)?, &tree),
            Column::Download1 | Column::TlsDownload1 => self.work(&mut bulk(Ask::Download, 1)?, &tree),
            Column::Download8 | Column::TlsDownload8 => self.work(&mut bulk(Ask::Download, 8)?, &tree),
            Column::Upload1 => self.work(&mut bulk(Ask::Upload, 1)?, &tree),
            Column::Upload8 => self.work(&mut bulk(Ask::Upload, 8)?, &tree),
            Column::Idle | Column::IdleTls => memory(&target, &tree),
            Column::Latency => self.latency(&mut OpenLoop::new(&target, OPEN, self.rate)?, &tree),
        }
    }

    fn warm(&self) -> Duration {
        (self.window / 4).clamp(Duration::from_millis(200), Duration::from_millis(500))
    }

    fn work(&self, load: &mut dyn Load, tree: &Tree) -> io::Result<Sample> {
        load.run(Instant::now() + self.warm())?;
        let (began, cpu, work) = (Instant::now(), tree.seconds(), load.work());
        load.run(began + self.window)?;
        let (wall, cpu) = (began.elapsed().as_secs_f64(), tree.seconds() - cpu);
        let outcome = Outcome::Work { work: load.work() - work, wall, cpu };
        Ok(Sample { outcome, broken: load.broken().clone() })
    }

    fn latency(&self, load: &mut OpenLoop, tree: &Tree) -> io::Result<Sample> {
        load.run(Instant::now() + self.warm())?;
        load.forget();
        let (began, cpu) = (Instant::now(), tree.seconds());
        load.run(began + self.window)?;
        let cpu_percent = 100.0 * (tree.seconds() - cpu) / began.elapsed().as_secs_f64();
        let mut latencies = load.latencies();
        latencies.sort_by(f64::total_cmp);
        let at = |percent| {
            crate::figures::nearest_rank(&latencies, percent)
                .ok_or_else(|| io::Error::other("no answer at all"))
        };
        let outcome = Outcome::Latency { p50: at(50.0)?, p99: at(99.0)?, cpu_percent };
        Ok(Sample { outcome, broken: load.broken().clone() })
    }
}

fn memory(target: &Target, tree: &Tree) -> io::Result<Sample> {
    let first = idle::open(target, IDLE_BEFORE)?;
    thread::sleep(REST);
    let before = tree.resident_kib();
    let all = idle::open(target, IDLE)?;
    thread::sleep(REST);
    let grown = tree.resident_kib().saturating_sub(before);
    let kilobytes = grown as f64 * 1.024 / IDLE as f64;
    drop((first, all));
    Ok(Sample { outcome: Outcome::Memory { kilobytes }, broken: Broken::default() })
}
