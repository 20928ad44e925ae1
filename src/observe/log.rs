//! Log lines to standard error, written by a thread of their own so that a reader who stalls delays nobody.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// Lines that may wait to be written; more are dropped and counted.
const WAITING_LINES: usize = 4_096;

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// For people: time, level, words, fields.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Logging as installed. It lasts as long as the process, also when this is dropped.
#[derive(Debug, Clone)]
pub struct Logs {
    level: reload::Handle<Targets, Registry>,
    lines: Lines,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the thread that writes log lines cannot be started: {0}")]
    Thread(#[from] io::Error),
    #[error("logging is already set up in this process")]
    Taken,
}

impl Logs {
    /// Sets up logging for the whole process, once: everything of `level` and worse from edgeproxy,
    /// warnings and worse from its libraries.
    pub fn install(level: Level, shape: Shape) -> Result<Self, LogError> {
        let (send, receive) = sync_channel(WAITING_LINES);
        let lines = Lines { send, dropped: Arc::default() };
        let dropped = lines.dropped.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&receive, &dropped, &mut io::stderr()))?;
        let (filter, level) = reload::Layer::new(targets(level));
        let lines_of_a_shape: Box<dyn Layer<_> + Send + Sync> = match shape {
            Shape::Text => {
                tracing_subscriber::fmt::layer().with_ansi(false).with_writer(lines.clone()).boxed()
            }
            Shape::Json => {
                tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(lines.clone()).boxed()
            }
        };
        tracing_subscriber::registry()
            .with(lines_of_a_shape.with_filter(filter))
            .try_init()
            .map_err(|_| LogError::Taken)?;
        Ok(Self { level, lines })
    }

    /// Logging that nobody has set up, for tests of those who hold it.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        let (send, _) = sync_channel(1);
        let (_, level) = reload::Layer::new(targets(Level::INFO));
        Self { level, lines: Lines { send, dropped: Arc::default() } }
    }

    /// Changes the least severity that is logged.
    pub fn set_level(&self, level: Level) {
        // It fails only after the subscriber is gone, when nobody logs any more.
        let _ = self.level.reload(targets(level));
    }

    /// Waits until the lines so far are written, at most `within`: for the last act of a process.
    pub fn flush(&self, within: Duration) {
        let (written, wait) = sync_channel(1);
        if self.lines.send.try_send(Item::Flush(written)).is_ok() {
            let _: Result<(), RecvTimeoutError> = wait.recv_timeout(within);
        }
    }
}

fn targets(level: Level) -> Targets {
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("edgeproxy", level)
        // It warns of every handshake that waits for its answer, which `status` says in its own words.
        .with_target("boringtun", LevelFilter::OFF)
}

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The sending end: takes whole lines, never waits.
#[derive(Debug, Clone)]
struct Lines {
    send: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.send.try_send(Item::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn write_lines(receive: &Receiver<Item>, dropped: &AtomicU64, to: &mut impl Write) {
    while let Ok(item) = receive.recv() {
        // Nobody can be told that telling failed.
        match item {
            Item::Line(line) => drop(to.write_all(&line)),
            Item::Flush(written) => {
                let _ = to.flush();
                let _ = written.try_send(());
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ =
                writeln!(to, "edgeproxy: {lost} log lines were dropped because nobody read them fast enough");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stalled_reader_costs_lines_not_time() {
        let (send, receive) = sync_channel(2);
        let mut lines = Lines { send, dropped: Arc::default() };
        for n in 0..5 {
            lines.write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        let dropped = lines.dropped.clone();
        drop(lines);
        let mut written = Vec::new();
        write_lines(&receive, &dropped, &mut written);
        let written = String::from_utf8(written).unwrap();
        assert!(written.starts_with("line 0\n"), "{written}");
        assert!(written.contains("log lines were dropped"), "{written}");
        assert!(!written.contains("line 4"), "{written}");
    }

    #[test]
    fn libraries_are_heard_only_when_they_warn() {
        let targets = targets(Level::DEBUG);
        assert!(targets.would_enable("edgeproxy::bgp::peer", &Level::DEBUG));
        assert!(!targets.would_enable("edgeproxy::bgp::peer", &Level::TRACE));
        assert!(targets.would_enable("hyper::proto", &Level::WARN));
        assert!(!targets.would_enable("hyper::proto", &Level::INFO));
    }
}
