//! One neighbor, sans IO: up to two connections, their arbiter, idle hold, and the routes it was sent.
//!
//! The driver tells it what happened (`handle_*`), asks what to do (`poll_*`), writes what is in
//! [`Peer::out`], and wakes at [`Peer::next_deadline`].

mod connection;
mod report;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::connection::{Connection, Expired};
use self::report::Report;
use super::adj_rib_out::{AdjRibOut, Change};
use super::backoff::Backoff;
use super::collision::{self, Origin, Speaker};
use super::fsm::{self, State};
use super::message::{Malformed, Message, Open, Update};
use super::notification::Notification;
use super::origin::OriginSet;
use super::received::Received;
use super::update::{self, Export};
use crate::config::bgp::{Asn, Neighbor};

/// No more UPDATEs are queued while this much waits to be written.
const ENOUGH_QUEUED: usize = 64 * 1024;
/// A session that lived this long wipes the failures before it out.
const PROVEN: Duration = Duration::from_secs(30);
/// A neighbor that announced too much is left alone at least this long.
const MAX_PREFIXES_HOLD: Duration = Duration::from_secs(60);
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
    /// UPDATEs were queued.
    Sent {
        withdrawn: usize,
        announced: usize,
    },
    /// An UPDATE was taken as a withdrawal (RFC 7606).
    TreatedAsWithdraw(String),
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

    /// Octets came.
    pub fn handle_octets(&mut self, origin: Origin, octets: &[u8], now: Instant) {
        let Some(connection) = &mut self.connections[origin as usize] else { return };
        connection.decoder.push(octets);
        loop {
            let Some(connection) = &mut self.connections[origin as usize] else { return };
            if connection.is_closing() {
                return;
            }
            match connection.decoder.poll() {
                Ok(None) => return,
                Ok(Some(message)) => self.handle_message(origin, message, now),
                Err(malformed) => self.handle_malformed(origin, malformed, now),
            }
        }
    }

    fn handle_message(&mut self, origin: Origin, message: Message, now: Instant) {
        self.report.messages_in += 1;
        match message {
            Message::Open(open) => self.handle_open(origin, open, now),
            Message::Keepalive => self.event(origin, fsm::Event::Keepalive, None, now),
            Message::Update(update) => self.handle_update(origin, &update, now),
            Message::Notification(notification) => {
                let words = format!("the neighbor closed the session: {notification}");
                self.event(origin, fsm::Event::Notification, Some(words), now);
            }
            Message::RouteRefresh(family) => {
                let Some(family) = family else {
                    // RFC 2918 §4: a family that was not agreed on is ignored.
                    return self.event(origin, fsm::Event::Keepalive, None, now);
                };
                self.event(origin, fsm::Event::RouteRefresh(family), None, now);
                if self.is_established(origin) {
                    self.rib.refresh(family);
                    self.synced = None;
                }
            }
        }
    }

    fn handle_open(&mut self, origin: Origin, open: Open, now: Instant) {
        let (id, asn) = (open.id(), open.asn());
        if let Some(connection) = &mut self.connections[origin as usize] {
            connection.remote = Some((id, asn));
        }
        // Judged before the state machine answers with a KEEPALIVE: a neighbor must not see a
        // session come up that is closed with the next message.
        if let Some(other) = &self.connections[origin.other() as usize] {
            let local = Speaker { id: self.local.id, asn: self.local.asn };
            let loser = collision::loser(local, Speaker { id, asn }, origin, other.progress());
            if let Some(loser) = loser {
                self.close_quietly(loser, &Notification::collision(), now);
                if loser == origin {
                    return;
                }
            }
        }
        let words = (asn != self.neighbor.asn).then(|| {
            format!(
                "the neighbor says it is AS {asn}, the configuration says AS {}: \
                 correct bgp.neighbors[{}].asn here or the AS number there",
                self.neighbor.asn, self.neighbor.name
            )
        });
        self.event(origin, fsm::Event::Open(open), words, now);
    }

    fn handle_update(&mut self, origin: Origin, update: &Update, now: Instant) {
        let Some(negotiated) = self.connections[origin as usize].as_ref().and_then(|c| c.negotiated.as_ref())
        else {
            return self.event(origin, fsm::Event::Update, None, now);
        };
        self.report.updates_in += 1;
        let four_octet_as = negotiated.four_octet_as;
        match update.parse(four_octet_as, self.is_internal()) {
            Err(notification) => {
                let words = format!("the neighbor sent an UPDATE that cannot be followed: {notification}");
                self.event(origin, fsm::Event::BadUpdate(notification), Some(words), now);
            }
            Ok(routes) => {
                if let Some(what) = &routes.treated_as_withdraw {
                    self.push_event(PeerEvent::TreatedAsWithdraw(what.clone()));
                }
                let counted = self.received.count(&routes);
                self.event(origin, fsm::Event::Update, None, now);
                if let Err(over) = counted {
                    let words = format!(
                        "the neighbor announced more than max_prefixes ({}): session closed; \
                         raise the limit or ask the neighbor to filter",
                        over.0
                    );
                    self.close(origin, &Notification::max_prefixes(), words, now);
                }
            }
        }
    }

    fn handle_malformed(&mut self, origin: Origin, malformed: Malformed, now: Instant) {
        let words = format!("the neighbor sent what is not BGP: {}", malformed.notification());
        self.event(origin, fsm::Event::Malformed(malformed), Some(words), now);
    }

    /// The connection ended, or an error ended it; `words` say how.
    pub fn handle_closed(&mut self, origin: Origin, words: String, now: Instant) {
        let Some(connection) = self.connections[origin as usize].take() else { return };
        if !connection.is_closing() {
            let was_established = connection.state() == State::Established;
            self.lost(&connection, was_established, words, false, now);
        }
    }

    /// Whether the driver must close this connection's socket now. True once.
    pub fn poll_close(&mut self, origin: Origin, now: Instant) -> bool {
        let finished = self.connections[origin as usize].as_ref().is_some_and(|c| c.is_finished(now));
        if finished {
            self.connections[origin as usize] = None;
        }
        finished
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
            attributes: self.neighbor.export.clone(),
        };
        let wanted: BTreeMap<_, _> = self
            .wanted
            .routes()
            .filter(|(prefix, _)| negotiated.families.contains(&prefix.family()))
            .filter_map(|(prefix, route)| Some((prefix, export.render(prefix, route)?)))
            .collect();
        let four_octet_as = negotiated.four_octet_as;
        let (mut withdrawn, mut announced) = (0, 0);
        for change in self.rib.sync(&wanted, now) {
            match &change {
                Change::Withdraw(prefixes) => withdrawn += prefixes.len(),
                Change::Announce(_, prefixes) => announced += prefixes.len(),
            }
            for octets in update::pack(&change, four_octet_as) {
                connection.queue_update(&octets);
            }
        }
        connection.queued_up_to(self.wanted.revision());
        self.synced = Some(self.wanted.revision());
        if withdrawn + announced > 0 {
            self.push_event(PeerEvent::Sent { withdrawn, announced });
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

    /// Closes a connection that lost against the other one: not a failure of the neighbor.
    fn close_quietly(&mut self, origin: Origin, notification: &Notification, now: Instant) {
        if let Some(connection) = &mut self.connections[origin as usize] {
            connection.close_with(notification, now);
        }
    }

    fn close(&mut self, origin: Origin, notification: &Notification, words: String, now: Instant) {
        let Some(connection) = &mut self.connections[origin as usize] else { return };
        if connection.is_closing() {
            return;
        }
        let before = connection.state();
        connection.close_with(notification, now);
        let penal = *notification == Notification::max_prefixes();
        self.closed_by_us(origin, before, words, penal, now);
        if penal {
            let until = now + MAX_PREFIXES_HOLD;
            self.refuse_until = self.refuse_until.max(Some(until));
            if let Dial::At(at) = &mut self.dial {
                *at = until.max(*at);
            }
        }
    }

    fn closed_by_us(&mut self, origin: Origin, before: State, words: String, penal: bool, now: Instant) {
        let Some(connection) = self.connections[origin as usize].take() else { return };
        self.lost(&connection, before == State::Established, words, penal, now);
        // It stays until its last words are written.
        self.connections[origin as usize] = Some(connection);
    }

    /// A connection is no more. Without another one under way, the next attempt is planned.
    fn lost(
        &mut self,
        connection: &Connection,
        was_established: bool,
        words: String,
        penal: bool,
        now: Instant,
    ) {
        if was_established {
            self.rib.clear();
            self.synced = None;
            if now.duration_since(connection.since) >= PROVEN {
                self.backoff.reset();
            }
        }
        self.report.add(connection);
        let others_live = self.connections.iter().flatten().any(|other| !other.is_closing());
        if others_live && !was_established {
            return;
        }
        self.ended(words, was_established, now);
        if self.stopped {
            return;
        }
        let wait = self.backoff.fail();
        if penal {
            self.refuse_until = Some(now + wait);
        }
        self.redial(wait, now);
    }

    fn redial(&mut self, wait: Duration, now: Instant) {
        if !self.neighbor.passive && !self.stopped && self.dial != Dial::InProgress {
            self.dial = Dial::At(now + wait);
        }
    }

    fn ended(&mut self, words: String, was_established: bool, now: Instant) {
        self.report.ended(words.clone(), now);
        self.push_event(PeerEvent::Ended { words, was_established });
    }

    fn push_event(&mut self, event: PeerEvent) {
        if self.events.len() < MOST_EVENTS {
            self.events.push_back(event);
        }
    }
}

#[cfg(test)]
mod tests;
