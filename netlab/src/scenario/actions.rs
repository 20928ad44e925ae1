//! What a step does to the lab.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::{CutPath, Emulate, EveryLength, Flows, Replay, Sink, Wg};
use crate::traffic::attack::Kind;

use super::values::{duration, some_duration, yes};

/// Something done to the lab.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// SIGKILL; `HOST` is its router or edgeproxy, `HOST/SERVICE` a service.
    Kill(String),
    /// SIGKILL to everything in a host at once, as when its power fails.
    KillAll(String),
    /// SIGSTOP and SIGCONT.
    Stop(String),
    Cont(String),
    /// Stops one thread of edgeproxy, by its name; it goes on only when its process is started again.
    HangThread {
        at: String,
        thread: String,
    },
    /// Lets go on what `hang_thread` stopped.
    Release(String),
    /// Starts again what ended.
    Start(String),
    /// SIGTERM to edgeproxy; waits for its exit code, unless told not to.
    Terminate {
        at: String,
        #[serde(default)]
        code: i32,
        #[serde(default = "yes")]
        wait: bool,
    },
    /// How a service behaves from here on.
    Set(SetService),
    /// A service that refuses and serves in turn, this many times a second for a while; it serves in the end.
    Flap(Flap),
    /// Interface `HOST/INTERFACE` down or up.
    Link {
        interface: String,
        up: bool,
    },
    /// SIGKILL to edgeproxy if it runs still, and a start with these variables besides its own.
    Restart {
        at: String,
        #[serde(default)]
        environment: BTreeMap<String, String>,
        /// How many descriptors it may have, hard limit and all. Default: as many as netlab itself.
        descriptors: Option<u64>,
    },
    Config(NewConfig),
    /// Gives edgeproxy every file of a directory; each must be refused whole, naming a line.
    RefuseAll {
        at: String,
        directory: String,
    },
    /// This many processes that only burn processor time, until changed.
    Busy(u32),
    #[serde(deserialize_with = "duration")]
    Wait(Duration),
    /// Waits, for longer in the full form (`EDGEPROXY_FULL`).
    Endure {
        #[serde(rename = "for", deserialize_with = "duration")]
        time: Duration,
        #[serde(deserialize_with = "duration")]
        full: Duration,
    },
    /// Remembers the moment under a name.
    Mark(String),
    /// Runs a shell command in a host; it must succeed.
    Run {
        at: String,
        command: String,
    },
    /// Starts a shell command in a host and does not wait for it; what it says is in `commands.log`. It ends with the
    /// scenario at the latest.
    Background {
        at: String,
        command: String,
    },
    CutPath(CutPath),
    /// What `cut_path` did to these two.
    HealPath([String; 2]),
    Emulate(Emulate),
    Wg(Wg),
    Sink(Sink),
    Replay(Replay),
    EveryLength(EveryLength),
    Traffic(Traffic),
    Attack(Attack),
    /// Ends an attack.
    Calm(String),
    Flows(Flows),
    /// Prints what a router's table holds for a prefix.
    Show {
        at: String,
        prefix: String,
    },
    /// Prints who answered a client since it was last asked.
    Where(String),
}

/// A flapping service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flap {
    pub service: String,
    pub hertz: f64,
    #[serde(deserialize_with = "duration")]
    pub lasts: Duration,
}

/// A service's behaviour.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetService {
    pub service: String,
    pub status: Option<u16>,
    pub refuse: Option<bool>,
    pub hang: Option<bool>,
    /// Resets whoever connects.
    pub cut: Option<bool>,
    /// Before each answer.
    #[serde(default, deserialize_with = "some_duration")]
    pub delay: Option<Duration>,
}

/// A new configuration for edgeproxy, and how it is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewConfig {
    pub at: String,
    /// Replaced in the text in force, each exactly once; nothing else changes.
    pub replace: Vec<Replace>,
    /// Counts the generation up as well.
    #[serde(default)]
    pub next: bool,
    /// `signal`, `command`, or `none` (the file only).
    pub by: String,
}

/// One textual change.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    pub from: String,
    pub to: String,
}

/// Strangers that begin to do what they do.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    pub name: String,
    pub from: String,
    pub target: SocketAddr,
    pub kind: Kind,
    pub count: usize,
    /// In the full form (`EDGEPROXY_FULL`). Default: `count`.
    pub full: Option<usize>,
    /// Attempts in a second.
    pub rate: u32,
}

/// A datagram client, started or stopped.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    pub name: String,
    /// Starts it in this host; without it the client is stopped.
    pub from: Option<String>,
    pub target: Option<SocketAddr>,
    #[serde(default)]
    pub sources: Vec<SocketAddr>,
    #[serde(default)]
    pub rate: u32,
}
