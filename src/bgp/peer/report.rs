//! What is told about a neighbor: counters, the last end in words, the status document.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Connection, Dial, Peer};
use crate::bgp::fsm::State;
use crate::bgp::message::PathAttributes;
use crate::bgp::received::Received;
use crate::observe::journal::Route;
use crate::observe::status::{NeighborStatus, SentRoute};

/// A suspicion that is not renewed is forgotten.
const SUSPICION_LASTS: Duration = Duration::from_secs(60);

/// Counters over all sessions, and words.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) messages_in: u64,
    pub(super) updates_in: u64,
    messages_out: u64,
    updates_out: u64,
    announced: u64,
    withdrawn: u64,
    treated_as_withdraw: u64,
    established_count: u64,
    problem: Option<String>,
    /// What was seen from outside is nearer to the cause than "no answer".
    suspicion: Option<(String, Instant)>,
    last_error: Option<String>,
    since: Instant,
}

impl Report {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            messages_in: 0,
            updates_in: 0,
            messages_out: 0,
            updates_out: 0,
            announced: 0,
            withdrawn: 0,
            treated_as_withdraw: 0,
            established_count: 0,
            problem: None,
            suspicion: None,
            last_error: None,
            since: now,
        }
    }

    pub(super) fn attempt(&mut self, now: Instant) {
        self.since = now;
    }

    pub(super) fn established(&mut self, now: Instant) {
        self.since = now;
        self.established_count += 1;
        self.problem = None;
        self.suspicion = None;
    }

    pub(super) fn suspect(&mut self, words: String, now: Instant) {
        self.suspicion = Some((words, now));
    }

    pub(super) fn ended(&mut self, words: String, now: Instant) {
        self.since = now;
        self.problem = Some(words.clone());
        self.last_error = Some(words);
    }

    pub(super) fn last_words(&self) -> &str {
        self.last_error.as_deref().unwrap_or("nothing")
    }

    /// Adds what a session received to the sums.
    pub(super) fn keep(&mut self, received: &Received) {
        self.announced += received.announced;
        self.withdrawn += received.withdrawn;
        self.treated_as_withdraw += received.treated_as_withdraw;
    }

    /// Adds what a connection sent to the sums.
    pub(super) fn add(&mut self, connection: &Connection) {
        self.messages_out += connection.messages_out;
        self.updates_out += connection.updates_out;
    }
}

impl Peer {
    /// The state an operator sees: that of the connection that has come furthest.
    #[must_use]
    pub fn state(&self, now: Instant) -> State {
        let furthest = self.connections.iter().flatten().map(Connection::state).max();
        match furthest {
            Some(state) if state > State::Idle => state,
            _ if self.stopped || self.refuse_until.is_some_and(|until| until > now) => State::Idle,
            _ if self.dial == Dial::InProgress => State::Connect,
            _ => State::Active,
        }
    }

    /// The status document.
    #[must_use]
    pub fn status(&self, now: Instant) -> NeighborStatus {
        let ms = |at: Instant| now.saturating_duration_since(at).as_millis() as u64;
        let live = self.connections.iter().flatten().filter(|c| !c.is_closing());
        let furthest = live.clone().max_by_key(|c| c.state());
        let negotiated = furthest.and_then(|c| c.negotiated.as_ref());
        let report = &self.report;
        let state = self.state(now);
        let waiting = || {
            let words =
                if self.neighbor.passive { "waiting for the neighbor to connect" } else { "connecting" };
            (state != State::Established).then(|| words.to_owned())
        };
        let suspicion =
            report.suspicion.clone().filter(|(_, at)| now.saturating_duration_since(*at) < SUSPICION_LASTS);
        let suspicion = suspicion.map(|(words, _)| words);
        let mut scribe = Scribe::default();
        NeighborStatus {
            name: self.neighbor.name.clone(),
            address: self.neighbor.address.to_string(),
            asn: self.neighbor.asn.0,
            state: state.as_str().to_owned(),
            in_state_ms: ms(furthest.map_or(report.since, |c| c.since)),
            problem: joined(report.problem.clone(), suspicion).or_else(waiting),
            last_error: report.last_error.clone(),
            local_address: furthest.map(|c| c.local_address.to_string()),
            remote_id: furthest.and_then(|c| c.remote).map(|(id, _)| id.to_string()),
            hold_time_s: negotiated.map(|n| n.hold_time),
            families: negotiated.iter().flat_map(|n| &n.families).map(ToString::to_string).collect(),
            established_count: report.established_count,
            messages_in: report.messages_in,
            messages_out: report.messages_out + live.clone().map(|c| c.messages_out).sum::<u64>(),
            updates_in: report.updates_in,
            updates_out: report.updates_out + live.map(|c| c.updates_out).sum::<u64>(),
            prefixes_received: report.announced + self.received.announced,
            prefixes_withdrawn: report.withdrawn + self.received.withdrawn,
            treated_as_withdraw: report.treated_as_withdraw + self.received.treated_as_withdraw,
            announced: self
                .rib
                .routes()
                .map(|(prefix, sent)| SentRoute {
                    prefix: prefix.to_string(),
                    route: scribe.write(&sent.attributes),
                    sent_ms_ago: ms(sent.at),
                })
                .collect(),
        }
    }
}

/// Writes path attributes as people read them: once for all routes in a row that have the same.
#[derive(Debug, Default)]
pub struct Scribe<'a> {
    last: Option<(&'a PathAttributes, Arc<Route>)>,
}

impl<'a> Scribe<'a> {
    /// The words of the next route.
    pub fn write(&mut self, attributes: &'a PathAttributes) -> Arc<Route> {
        match &self.last {
            Some((last, route)) if *last == attributes => route.clone(),
            _ => {
                let route = Arc::new(written(attributes));
                self.last = Some((attributes, route.clone()));
                route
            }
        }
    }
}

fn written(attributes: &PathAttributes) -> Route {
    Route {
        next_hop: attributes.next_hop.to_string(),
        as_path: attributes.as_path.clone(),
        med: attributes.med,
        communities: attributes.communities.iter().map(ToString::to_string).collect(),
        large_communities: attributes.large_communities.iter().map(ToString::to_string).collect(),
    }
}

/// What happened, and what was seen beside it.
fn joined(problem: Option<String>, suspicion: Option<String>) -> Option<String> {
    match (problem, suspicion) {
        (Some(problem), Some(suspicion)) => Some(format!("{problem}; {suspicion}")),
        (problem, suspicion) => problem.or(suspicion),
    }
}
