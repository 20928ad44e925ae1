//! One backend as the choice sees it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::live::Live;

/// What its checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Not proven yet.
    #[default]
    Unproven,
    Up,
    Down,
}

impl Verdict {
    /// `unproven up down`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unproven => "unproven",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What health knows of one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    pub verdict: Verdict,
    /// When the verdict became that.
    pub since: Option<Instant>,
    /// Round trip of the last successful probe.
    pub rtt: Option<Duration>,
}

/// One backend.
#[derive(Debug, Clone)]
pub struct Backend {
    pub id: Arc<str>,
    pub address: SocketAddr,
    pub region: Arc<str>,
    /// How far its region is, in tenths of a step of `geo`, 0 to 9: the shortest round trip that checks have seen to
    /// any backend of the service there, one for every 20 ms. 0 for this POP's own region, and when nothing was
    /// measured anywhere else; 9 for a region without a measurement beside others that have one. At least 1 at another POP.
    pub far: u8,
    /// Two lower-case letters.
    pub country: Option<[u8; 2]>,
    /// 1 to 1000.
    pub weight: u32,
    pub soft_limit: u32,
    /// 0: none.
    pub hard_limit: u32,
    /// Gets nothing new.
    pub drain: bool,
    pub known: Known,
    /// The POP that owns it. None: ours.
    pub pop: Option<Arc<str>>,
    /// `address` is the ingress of that POP, which takes connections to it.
    pub via_ingress: bool,
    pub live: Arc<Live>,
}
