//! One TCP connection of a peer: its state machine, its octets in and out, its timers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use crate::bgp::collision::Progress;
use crate::bgp::fsm::{Action, Event, Fsm, Negotiated, Settings, State};
use crate::bgp::message::{self, Decoder};
use crate::bgp::notification::Notification;
use crate::config::bgp::Asn;

/// How long a closing connection may take to write its last words, and to hear the neighbor's end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long the neighbor may take to close after our last words are written.
const LAST_HEARING: Duration = Duration::from_millis(500);
/// What a neighbor may still send meanwhile: more than is ever on its way, and soon read.
const MOST_DISCARDED: usize = 16 * 1024 * 1024;
/// Over this, no keepalive is added to what the neighbor does not read: it could not be late either way.
const STUFFED: usize = 256 * 1024;
/// The least send hold time (RFC 9687 §6).
const LEAST_SEND_HOLD: Duration = Duration::from_secs(480);

/// One connection, dialled or accepted.
#[derive(Debug)]
pub struct Connection {
    fsm: Fsm,
    pub decoder: Decoder,
    out: BytesMut,
    hold: Option<Instant>,
    keepalive: Option<Instant>,
    pub negotiated: Option<Negotiated>,
    pub local_address: IpAddr,
    /// Who the neighbor's OPEN said it is.
    pub remote: Option<(Ipv4Addr, Asn)>,
    close_by: Option<Instant>,
    half_closed: bool,
    discarded: usize,
    blocked_since: Option<Instant>,
    /// The revision of the wanted set that is whole in `out` or before it, and the one that is written.
    queued: u64,
    written: u64,
    pub since: Instant,
    pub messages_out: u64,
    pub updates_out: u64,
}

/// What must be done to the socket of a connection that ends.
///
/// A socket that is closed over unread input answers with a reset, which may overtake the last words
/// or make the neighbor's system forget them. So writing ends first, and the neighbor closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// End writing; what the neighbor sends is still read.
    Half,
    /// Close it.
    Whole,
}

/// What a timer of a connection did.
#[derive(Debug, PartialEq, Eq)]
pub enum Expired {
    Hold,
    /// The neighbor has not taken a single octet for this long.
    SendHold(Duration),
}

impl Connection {
    /// A connection whose TCP handshake is done; its OPEN is queued.
    pub fn new(settings: &Settings, local_address: IpAddr, now: Instant) -> Self {
        let mut connection = Self {
            fsm: Fsm::new(settings),
            decoder: Decoder::default(),
            out: BytesMut::new(),
            hold: None,
            keepalive: None,
            negotiated: None,
            local_address,
            remote: None,
            close_by: None,
            half_closed: false,
            discarded: 0,
            blocked_since: None,
            queued: 0,
            written: 0,
            since: now,
            messages_out: 0,
            updates_out: 0,
        };
        connection.handle(Event::Connected, now, &mut |wait| wait);
        connection
    }

    /// The state of its state machine.
    #[must_use]
    pub fn state(&self) -> State {
        if self.is_closing() { State::Idle } else { self.fsm.state() }
    }

    /// Its progress as the collision arbiter sees it.
    #[must_use]
    pub fn progress(&self) -> Progress {
        match self.state() {
            State::Established => Progress::Established,
            State::OpenConfirm => Progress::OpenConfirm,
            _ => Progress::Unknown,
        }
    }

    /// Gives an event to the state machine and does what it asks. Returns the NOTIFICATION it sent, if any.
    pub fn handle(
        &mut self,
        event: Event,
        now: Instant,
        jitter: &mut dyn FnMut(Duration) -> Duration,
    ) -> Option<Notification> {
        let before = self.fsm.state();
        let mut said = None;
        for action in self.fsm.handle(event) {
            match action {
                Action::SendOpen(open) => self.queue(&message::open(&open)),
                Action::SendKeepalive => {
                    if self.out.len() < STUFFED {
                        self.queue(&message::keepalive());
                    }
                }
                Action::SendNotification(notification) => {
                    self.queue(&message::notification(&notification));
                    said = Some(notification);
                }
                Action::Hold(time) => self.hold = time.map(|time| now + time),
                Action::Keepalive(time) => self.keepalive = time.map(|time| now + jitter(time)),
                Action::Established(negotiated) => self.negotiated = Some(negotiated),
                Action::Close => self.close(now),
            }
        }
        if self.fsm.state() != before {
            self.since = now;
        }
        said
    }

    /// Says why and closes, outside of what the state machine decides.
    pub fn close_with(&mut self, notification: &Notification, now: Instant) {
        if !self.is_closing() {
            self.queue(&message::notification(notification));
            self.close(now);
        }
    }

    fn close(&mut self, now: Instant) {
        self.close_by.get_or_insert(now + LAST_WORDS);
        self.hold = None;
        self.keepalive = None;
    }

    /// Whether it only lives to write its last words.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.close_by.is_some()
    }

    /// What must be done to the socket now; each answer comes once.
    pub fn poll_close(&mut self, now: Instant) -> Option<Close> {
        let by = self.close_by?;
        if by <= now || self.discarded > MOST_DISCARDED {
            return Some(Close::Whole);
        }
        if self.half_closed || !self.out.is_empty() {
            return None;
        }
        self.half_closed = true;
        self.close_by = Some(by.min(now + LAST_HEARING));
        Some(Close::Half)
    }

    /// Octets came after the end; they count only against how long the neighbor is waited for.
    pub fn discard(&mut self, count: usize) {
        self.discarded = self.discarded.saturating_add(count);
    }

    fn queue(&mut self, octets: &[u8]) {
        self.messages_out += 1;
        self.out.extend_from_slice(octets);
    }

    /// Queues an UPDATE.
    pub fn queue_update(&mut self, octets: &[u8]) {
        self.updates_out += 1;
        self.queue(octets);
    }

    /// What waits to be written.
    #[must_use]
    pub fn out(&self) -> &[u8] {
        &self.out
    }

    /// All changes up to `revision` are queued.
    pub fn queued_up_to(&mut self, revision: u64) {
        self.queued = revision;
        if self.out.is_empty() {
            self.written = revision;
        }
    }

    /// The revision that the kernel has taken whole.
    #[must_use]
    pub fn written_up_to(&self) -> u64 {
        self.written
    }

    /// The kernel took `count` octets; 0 says that it takes none now.
    pub fn handle_written(&mut self, count: usize, now: Instant) {
        self.out.advance(count);
        if self.out.is_empty() {
            self.written = self.queued;
            self.blocked_since = None;
        } else if count > 0 || self.blocked_since.is_none() {
            self.blocked_since = Some(now);
        }
    }

    /// The time that nothing could be sent for, at which the session ends (RFC 9687 §4).
    fn send_hold(&self) -> Duration {
        let hold = self.negotiated.as_ref().map_or(0, |negotiated| u64::from(negotiated.hold_time));
        LEAST_SEND_HOLD.max(Duration::from_secs(2 * hold))
    }

    /// Runs what is due. Returns what ended the connection, with the NOTIFICATION sent for it.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        jitter: &mut dyn FnMut(Duration) -> Duration,
    ) -> Option<Expired> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.hold) {
            self.hold = None;
            self.handle(Event::HoldExpired, now, jitter);
            return Some(Expired::Hold);
        }
        if due(self.keepalive) {
            self.keepalive = None;
            self.handle(Event::KeepaliveDue, now, jitter);
        }
        let send_hold = self.send_hold();
        if !self.is_closing() && due(self.blocked_since.map(|since| since + send_hold)) {
            self.out.clear();
            self.close(now);
            return Some(Expired::SendHold(send_hold));
        }
        None
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let blocked = self.blocked_since.filter(|_| !self.is_closing()).map(|since| since + self.send_hold());
        [self.hold, self.keepalive, self.close_by, blocked].into_iter().flatten().min()
    }
}
