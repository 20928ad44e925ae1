//! One peer's link: which way its datagrams go, and what is known of it. Told the time, owns no socket.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::plane::Name;
use super::quality::{Averages, Quality};

/// With more lost than this, of the last few dozen, a path carries probes and not clients.
const MOST_LOSS: f64 = 0.25;
/// Where nothing has ever come through, another way is tried after this.
const FIRST: Duration = Duration::from_secs(2);
/// For so long a peer that never answered is not looked for through others.
const START: Duration = Duration::from_secs(10);
/// Answers from outside, one after the other, before the direct way is believed again.
const PROOF: u32 = 5;
/// How long the direct way is left alone after the tunnel failed there while its probes went through; doubles.
const REST: Duration = Duration::from_secs(5);
const MOST_REST: Duration = Duration::from_secs(300);

/// How datagrams get to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// To this address; None: to wherever it calls from.
    Direct(Option<SocketAddr>),
    /// Through a third POP.
    Relay(Name),
}

/// What a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing has ever come through.
    Starting,
    Up,
    /// It answers, but too much is lost.
    Lossy,
    /// The peer answers outside and not inside.
    TunnelBroken,
    /// Neither: it is dead, or the path is.
    Silent,
}

impl State {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Lossy => "lossy",
            Self::TunnelBroken => "tunnel-broken",
            Self::Silent => "silent",
        }
    }
}

/// A question to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    Inside(u64),
    Outside(SocketAddr, u64),
}

/// One peer's link.
#[derive(Debug)]
pub struct Link {
    way: Way,
    /// Counts choices; the plane follows each of them once.
    turn: u64,
    chosen: Instant,
    made: Instant,
    inside: Quality,
    outside: Vec<(SocketAddr, Quality)>,
    ever: bool,
    rest: Duration,
    rested: Option<Instant>,
}

impl Link {
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            way: Way::Direct(None),
            turn: 0,
            chosen: now,
            made: now,
            inside: Quality::default(),
            outside: Vec::new(),
            ever: false,
            rest: REST,
            rested: None,
        }
    }

    /// The addresses where the peer may be, the best first. What is known of those that stay is kept.
    pub fn set_addresses(&mut self, addresses: &[SocketAddr], now: Instant) {
        let mut before = std::mem::take(&mut self.outside);
        for address in addresses {
            let known = before.iter().position(|(known, _)| known == address);
            let quality = known.map(|at| before.swap_remove(at).1).unwrap_or_default();
            self.outside.push((*address, quality));
        }
        if let Way::Direct(at) = self.way
            && !at.is_some_and(|at| addresses.contains(&at))
            && at != addresses.first().copied()
        {
            self.choose(Way::Direct(addresses.first().copied()), now);
        }
    }

    /// The questions of one round.
    pub fn ask(&mut self, now: Instant) -> Vec<Question> {
        let inside = Question::Inside(self.inside.handle_question(now));
        let outside =
            self.outside.iter_mut().map(|(at, quality)| Question::Outside(*at, quality.handle_question(now)));
        std::iter::once(inside).chain(outside).collect()
    }

    /// An authentic answer to a question inside.
    pub fn handle_inside(&mut self, number: u64, now: Instant) {
        if self.inside.handle_answer(number, now).is_some() {
            self.ever = true;
        }
    }

    /// An authentic answer from an address outside.
    pub fn handle_outside(&mut self, from: SocketAddr, number: u64, now: Instant) {
        if let Some((_, quality)) = self.outside.iter_mut().find(|(at, _)| at.ip() == from.ip()) {
            quality.handle_answer(number, now);
        }
    }

    /// Where the plane really sends: authentic packets may have come from elsewhere. `relay`: through whom, if that is a
    /// relay's socket.
    pub fn handle_roaming(&mut self, to: SocketAddr, relay: Option<Name>) {
        match (&self.way, relay) {
            (Way::Relay(known), Some(relay)) if *known == relay => {}
            (_, Some(relay)) => self.way = Way::Relay(relay),
            (Way::Direct(at), None) if *at == Some(to) => {}
            (_, None) => self.way = Way::Direct(Some(to)),
        }
    }

    /// Looks at the time and chooses another way if this one has failed, or the direct one if that is back. `relays` are
    /// peers that reach it, the nearest first. True: the plane must be told.
    pub fn decide(&mut self, interval: Duration, timeout: Duration, relays: &[Name], now: Instant) -> bool {
        self.inside.handle_time(now, timeout);
        for (_, quality) in &mut self.outside {
            quality.handle_time(now, timeout);
        }
        let limit = self.limit(interval);
        let silent = self.inside.silence(now) >= limit;
        let since = now.saturating_duration_since(self.chosen);
        // Where a session has been, an answer takes a round trip. Where none has, there must be time for a handshake.
        let patience = if self.ever { limit } else { FIRST };
        match &self.way {
            Way::Direct(at) if silent && since >= patience => {
                let at = *at;
                let alive = |(address, quality): &&(SocketAddr, Quality)| {
                    Some(*address) != at
                        && self.ever
                        && quality.heard().is_some()
                        && quality.silence(now) < limit
                };
                // Another address of the same POP is better than a third one.
                if let Some((address, _)) = self.outside.iter().find(alive) {
                    let address = *address;
                    return self.choose(Way::Direct(Some(address)), now);
                }
                // Who never answered may not have started yet, as long as its machine answers outside.
                let starts = !self.ever && (now < self.made + START || self.is_outside_alive(now, limit));
                if let Some(relay) = relays.first().filter(|_| !starts) {
                    let tunnel_alone = self.is_outside_alive(now, limit);
                    self.rested = tunnel_alone.then_some(now);
                    return self.choose(Way::Relay(relay.clone()), now);
                }
                let next =
                    self.outside.iter().position(|(address, _)| Some(*address) == at).map_or(0, |at| at + 1);
                let next = self.outside.get(next).or(self.outside.first()).map(|(address, _)| *address);
                if since < FIRST {
                    return false;
                }
                if next == at {
                    // Chosen again: its plane begins a handshake, should the peer have lost its session.
                    self.turn += 1;
                    self.chosen = now;
                    return true;
                }
                self.choose(Way::Direct(next), now)
            }
            Way::Relay(relay) => {
                let proven = |(_, quality): &&(SocketAddr, Quality)| {
                    quality.answers_in_a_row() >= PROOF && quality.silence(now) < limit
                };
                let rested =
                    self.rested.is_none_or(|since| now.saturating_duration_since(since) >= self.rest);
                if let Some((address, _)) = self.outside.iter().find(proven).filter(|_| rested) {
                    if self.rested.is_some() {
                        self.rest = (self.rest * 2).min(MOST_REST);
                    } else {
                        self.rest = REST;
                    }
                    let address = *address;
                    return self.choose(Way::Direct(Some(address)), now);
                }
                // The relay has failed as well, or says that it no longer reaches the peer.
                if (silent && since >= patience) || !relays.contains(relay) {
                    let other = relays.iter().find(|other| *other != relay).cloned();
                    let first = self.outside.first().map(|(address, _)| *address);
                    return match other {
                        Some(other) => self.choose(Way::Relay(other), now),
                        None if silent && since >= patience => self.choose(Way::Direct(first), now),
                        None => false,
                    };
                }
                false
            }
            Way::Direct(_) => false,
        }
    }

    fn choose(&mut self, way: Way, now: Instant) -> bool {
        self.way = way;
        self.turn += 1;
        self.chosen = now;
        self.inside.forget();
        true
    }

    /// Silence from which on a path has failed: three questions, and time for an answer.
    fn limit(&self, interval: Duration) -> Duration {
        let answer = self.inside.averages().rtt.map_or(Duration::ZERO, |rtt| rtt * 2);
        interval * 3 + answer.min(Duration::from_secs(2))
    }

    fn is_outside_alive(&self, now: Instant, limit: Duration) -> bool {
        self.outside.iter().any(|(_, quality)| quality.heard().is_some() && quality.silence(now) < limit)
    }

    #[must_use]
    pub fn state(&self, interval: Duration, now: Instant) -> State {
        let limit = self.limit(interval);
        let heard = self.inside.heard().is_some();
        if heard && self.inside.silence(now) < limit {
            return if self.inside.averages().loss > MOST_LOSS { State::Lossy } else { State::Up };
        }
        match (self.ever, self.is_outside_alive(now, limit)) {
            (_, true) if self.inside.silence(now) >= limit => State::TunnelBroken,
            (false, _) => State::Starting,
            (true, _) => State::Silent,
        }
    }

    /// How long nothing has come through the tunnel that was asked for.
    #[must_use]
    pub fn silence(&self, now: Instant) -> Duration {
        self.inside.silence(now)
    }

    #[must_use]
    pub fn way(&self) -> &Way {
        &self.way
    }

    #[must_use]
    pub fn turn(&self) -> u64 {
        self.turn
    }

    /// Of the way inside.
    #[must_use]
    pub fn inside(&self) -> Averages {
        self.inside.averages()
    }

    /// Of the address outside that is used, or of the best.
    #[must_use]
    pub fn outside(&self) -> Option<Averages> {
        let used = self.outside.iter().find(|(at, _)| self.way == Way::Direct(Some(*at)));
        used.or(self.outside.first()).map(|(_, quality)| quality.averages())
    }
}

#[cfg(test)]
mod tests;
