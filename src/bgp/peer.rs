//! One neighbor, sans IO: up to two connections, their arbiter, idle hold, and the routes it was sent.
//!
//! The driver tells it what happened (`handle_*`), asks what to do (`poll_*`), writes what is in
//! [`Peer::out`], and wakes at [`Peer::next_deadline`].

mod connection;
mod ending;
mod receive;
mod report;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

pub use self::connection::Close;
use self::connection::{Connection, Expired};
pub use self::report::Scribe;

use self::report::Report;
use super::adj_rib_out::{AdjRibOut, Change};
use super::backoff::Backoff;
use super::collision::Origin;
use super::fsm::{self, State};
use super::message::PathAttributes;
use super::notification::Notification;
use super::origin::OriginSet;
use super::received::Received;
use super::update::{self, Export};
use crate::config::anycast::AnycastPrefix;
use crate::config::bgp::{Asn, Neighbor};
use crate::observe::journal::CauseId;

/// No more UPDATEs are queued while this much waits to be written.
const ENOUGH_QUEUED: usize = 64 * 1024;
/// Things to tell the log that nobody has fetched are forgotten past this number.
const MOST_EVENTS: usize = 64;

/// Ourselves, as every neighbor sees us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    pub asn: Asn,
    pub id: Ipv4Addr,
}

/// Something an operator may want to read in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    Established {
        remote_id: Ipv4Addr,
        hold_time: u16,
    },
    /// The session or an attempt at it ended; the words say why.
    Ended {
        words: String,
        was_established: bool,
    },
    /// UPDATEs were queued: one of these for each prefix.
    Sent(Vec<Told>),
    /// An UPDATE was taken as a withdrawal (RFC 7606); told for the first, second, fourth, … of a session.
    TreatedAsWithdraw {
        what: String,
        total: u64,
    },
}

/// What a neighbor was told about one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub prefix: AnycastPrefix,
    /// None: it was withdrawn.
    pub attributes: Option<PathAttributes>,
    pub cause: Option<CauseId>,
}

/// Whether and when we dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dial {
    /// Not now: passive, connected or stopped.
    Off,
    At(Instant),
    InProgress,
}

/// How far the wanted set has come at this neighbor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    pub established: bool,
    /// The revision that the kernel has taken whole; meaningful while established.
    pub written: u64,
}

/// One neighbor.
#[derive(Debug)]
pub struct Peer {
    local: Local,
    neighbor: Neighbor,
    wanted: Arc<OriginSet>,
    connections: [Option<Connection>; 2],
    dial: Dial,
    backoff: Backoff,
    /// Until then connections are refused too: the neighbor broke the protocol or a limit.
    refuse_until: Option<Instant>,
    rib: AdjRibOut,
    /// The last set that was synced into the established session.
    synced: Option<u64>,
    received: Received,
    stopped: bool,
    report: Report,
    events: VecDeque<PeerEvent>,
}

impl Peer {
    /// A neighbor that is dialled at once, unless it is passive. `seed` decides its jitter.
    #[must_use]
    pub fn new(local: Local, neighbor: Neighbor, wanted: Arc<OriginSet>, seed: u64, now: Instant) -> Self {
        Self {
            local,
            wanted,
            connections: [None, None],
            dial: if neighbor.passive { Dial::Off } else { Dial::At(now) },
            backoff: Backoff::new(neighbor.connect_retry, seed),
            refuse_until: None,
            rib: AdjRibOut::default(),
            synced: None,
            received: Received::new(neighbor.max_prefixes),
            stopped: false,
            report: Report::new(now),
            events: VecDeque::new(),
            neighbor,
        }
    }

    /// Whom this is.
    #[must_use]
    pub fn neighbor(&self) -> &Neighbor {
        &self.neighbor
    }

    /// Whether the neighbor is in our own AS.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.local.asn == self.neighbor.asn
    }

    /// Takes the wanted set; the difference goes out with the next [`poll_updates`](Self::poll_updates).
    pub fn set_wanted(&mut self, wanted: Arc<OriginSet>) {
        self.wanted = wanted;
    }

    /// Takes a configuration that differs only in what a session survives: next hops, what is
    /// exported, the prefix limit.
    pub fn set_neighbor(&mut self, neighbor: Neighbor) {
        if neighbor.max_prefixes != self.neighbor.max_prefixes {
            // The distinct prefixes were not remembered under another limit: count from here on.
            let before = std::mem::replace(&mut self.received, Received::new(neighbor.max_prefixes));
            self.report.keep(&before);
        }
        self.neighbor = neighbor;
        self.synced = None;
    }

    fn settings(&self) -> fsm::Settings {
        fsm::Settings {
            local_asn: self.local.asn,
            local_id: self.local.id,
            remote_asn: self.neighbor.asn,
            hold_time: self.neighbor.hold_time,
            families: self.neighbor.families.clone(),
        }
    }

    /// Whether the driver must dial now. True once per attempt.
    pub fn poll_dial(&mut self, now: Instant) -> bool {
        let due = matches!(self.dial, Dial::At(at) if at <= now);
        if due {
            self.dial = Dial::InProgress;
        }
        due
    }

    /// The attempt to dial failed; `words` say how.
    pub fn handle_dial_failed(&mut self, words: String, now: Instant) {
        if self.dial != Dial::InProgress {
            return;
        }
        self.dial = Dial::Off;
        self.ended(words, false, now);
        let wait = self.backoff.miss();
        self.redial(wait, now);
    }

    /// A connection stands.
    ///
    /// # Errors
    /// The words for the log when it must be closed at once.
    pub fn handle_connected(
        &mut self,
        origin: Origin,
        local_address: IpAddr,
        now: Instant,
    ) -> Result<(), String> {
        if origin == Origin::Dialled {
            self.dial = Dial::Off;
        }
        if self.stopped {
            return Err("this neighbor is being stopped".to_owned());
        }
        if let Some(until) = self.refuse_until.filter(|until| *until > now) {
            if origin == Origin::Dialled {
                // This attempt is over; without a next one the neighbor would never be dialled again.
                self.redial(until - now, now);
            }
            let left = until.duration_since(now).as_secs() + 1;
            return Err(format!("idle hold for another {left} s after: {}", self.report.last_words()));
        }
        let settings = self.settings();
        let slot = &mut self.connections[origin as usize];
        if slot.as_ref().is_some_and(|old| old.state() == State::Established) {
            return Err("a session with this neighbor is established already".to_owned());
        }
        // A neighbor that dials again has given its older, unfinished connection up.
        *slot = Some(Connection::new(&settings, local_address, now));
        self.report.attempt(now);
        Ok(())
    }

    /// The connection ended, or an error ended it; `words` say how.
    pub fn handle_closed(&mut self, origin: Origin, words: String, now: Instant) {
        let Some(connection) = self.connections[origin as usize].take() else { return };
        if !connection.is_closing() {
            let was_established = connection.state() == State::Established;
            self.lost(&connection, was_established, words, false, now);
        }
    }

    /// What the driver must do to this connection's socket now. After [`Close::Half`] it goes on reading.
    pub fn poll_close(&mut self, origin: Origin, now: Instant) -> Option<Close> {
        let close = self.connections[origin as usize].as_mut()?.poll_close(now);
        if close == Some(Close::Whole) {
            self.connections[origin as usize] = None;
        }
        close
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for origin in Origin::BOTH {
            let Some(connection) = &mut self.connections[origin as usize] else { continue };
            let before = connection.state();
            let backoff = &mut self.backoff;
            let expired = connection.handle_timeout(now, &mut |wait| backoff.shorten(wait));
            let words = match expired {
                None => continue,
                Some(Expired::Hold) if before == State::OpenSent => {
                    "the neighbor accepted the connection but sent no OPEN".to_owned()
                }
                Some(Expired::Hold) => "the neighbor went silent: hold time expired".to_owned(),
                Some(Expired::SendHold(time)) => {
                    format!("the neighbor took nothing we sent for {} s (RFC 9687)", time.as_secs())
                }
            };
            self.closed_by_us(origin, before, words, false, now);
        }
        if self.refuse_until.is_some_and(|until| until <= now) {
            self.refuse_until = None;
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and [`poll_dial`](Self::poll_dial) at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let dial = match self.dial {
            Dial::At(at) => Some(at),
            Dial::Off | Dial::InProgress => None,
        };
        let connections = self.connections.iter().flatten().filter_map(Connection::next_deadline);
        connections.chain(dial).chain(self.refuse_until).min()
    }

    /// Queues the UPDATEs that bring the neighbor from what it was sent to what is wanted.
    pub fn poll_updates(&mut self, now: Instant) {
        if self.synced == Some(self.wanted.revision()) {
            return;
        }
        let Some(connection) =
            self.connections.iter_mut().flatten().find(|c| c.state() == State::Established)
        else {
            return;
        };
        let Some(negotiated) = &connection.negotiated else { return };
        if connection.out().len() > ENOUGH_QUEUED {
            return;
        }
        let export = Export {
            local_asn: self.local.asn,
            remote_asn: self.neighbor.asn,
            local_address: connection.local_address,
            next_hop: self.neighbor.next_hop,
            export: self.neighbor.export.clone(),
            degrade: self.neighbor.degrade.clone(),
            drain: self.neighbor.drain.clone(),
        };
        let wanted: BTreeMap<_, _> = self
            .wanted
            .routes()
            .filter(|(prefix, _)| negotiated.families.contains(&prefix.family()))
            .filter_map(|(prefix, route)| Some((prefix, export.render(prefix, route)?)))
            .collect();
        let four_octet_as = negotiated.four_octet_as;
        let mut told = Vec::new();
        for change in self.rib.sync(&wanted, now) {
            let (prefixes, attributes) = match &change {
                Change::Withdraw(prefixes) => (prefixes, None),
                Change::Announce(attributes, prefixes) => (prefixes, Some(attributes)),
            };
            told.extend(prefixes.iter().map(|prefix| Told {
                prefix: *prefix,
                attributes: attributes.cloned(),
                cause: self.wanted.cause_of(prefix),
            }));
            for octets in update::pack(&change, four_octet_as) {
                connection.queue_update(&octets);
            }
        }
        connection.queued_up_to(self.wanted.revision());
        self.synced = Some(self.wanted.revision());
        if !told.is_empty() {
            self.push_event(PeerEvent::Sent(told));
        }
    }

    /// What waits to be written on a connection.
    #[must_use]
    pub fn out(&self, origin: Origin) -> &[u8] {
        self.connections[origin as usize].as_ref().map_or(&[], Connection::out)
    }

    /// The kernel took `count` of those octets; 0 says that it takes none now.
    pub fn handle_written(&mut self, origin: Origin, count: usize, now: Instant) {
        if let Some(connection) = &mut self.connections[origin as usize] {
            connection.handle_written(count, now);
        }
    }

    /// How far the wanted set has come.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        match self.connections.iter().flatten().find(|c| c.state() == State::Established) {
            None => Delivery { established: false, written: 0 },
            Some(connection) => Delivery { established: true, written: connection.written_up_to() },
        }
    }

    /// Ends the session for good, with these last words.
    pub fn stop(&mut self, notification: &Notification, now: Instant) {
        self.stopped = true;
        self.dial = Dial::Off;
        for origin in Origin::BOTH {
            self.close(origin, notification, format!("we closed the session: {notification}"), now);
        }
    }

    /// Whether all connections are gone after [`stop`](Self::stop).
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped && self.connections.iter().all(Option::is_none)
    }

    /// Something seen from outside explains why the session does not come up.
    pub fn handle_suspicion(&mut self, words: String, now: Instant) {
        if !self.delivery().established {
            self.report.suspect(words, now);
        }
    }

    /// The next thing for the log.
    pub fn poll_event(&mut self) -> Option<PeerEvent> {
        self.events.pop_front()
    }

    fn is_established(&self, origin: Origin) -> bool {
        self.connections[origin as usize].as_ref().is_some_and(|c| c.state() == State::Established)
    }

    /// Gives an event to a connection's state machine; `words` say why, should that end it.
    fn event(&mut self, origin: Origin, event: fsm::Event, words: Option<String>, now: Instant) {
        let Some(connection) = &mut self.connections[origin as usize] else { return };
        let before = connection.state();
        let backoff = &mut self.backoff;
        let said = connection.handle(event, now, &mut |wait| backoff.shorten(wait));
        if connection.is_closing() {
            let words = words.unwrap_or_else(|| match &said {
                Some(notification) => format!("we refused what the neighbor sent: {notification}"),
                None => "the connection ended".to_owned(),
            });
            // Whom we had to refuse is not heard again at once; one that left by itself is welcome back.
            self.closed_by_us(origin, before, words, said.is_some(), now);
        } else if before != State::Established && connection.state() == State::Established {
            self.established(origin, now);
        }
    }

    fn established(&mut self, origin: Origin, now: Instant) {
        self.close_quietly(origin.other(), &Notification::collision(), now);
        self.dial = Dial::Off;
        self.rib.clear();
        self.synced = None;
        let before = std::mem::replace(&mut self.received, Received::new(self.neighbor.max_prefixes));
        self.report.keep(&before);
        self.report.established(now);
        let negotiated = self.connections[origin as usize].as_ref().and_then(|c| c.negotiated.as_ref());
        if let Some(negotiated) = negotiated {
            let (remote_id, hold_time) = (negotiated.remote_id, negotiated.hold_time);
            self.push_event(PeerEvent::Established { remote_id, hold_time });
        }
    }

    fn push_event(&mut self, event: PeerEvent) {
        if self.events.len() < MOST_EVENTS {
            self.events.push_back(event);
        }
    }
}

#[cfg(test)]
mod tests;
