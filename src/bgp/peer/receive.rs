//! What a neighbor says: octets to messages, and what each message means to us.

use std::time::Instant;

use super::{Peer, PeerEvent};
use crate::bgp::collision::{self, Origin, Speaker};
use crate::bgp::fsm;
use crate::bgp::message::{Malformed, Message, Open, Update};
use crate::bgp::notification::Notification;
use crate::config::bgp::Family;

impl Peer {
    /// Octets came.
    pub fn handle_octets(&mut self, origin: Origin, octets: &[u8], now: Instant) {
        let Some(connection) = &mut self.connections[origin as usize] else { return };
        if connection.is_closing() {
            return connection.discard(octets.len());
        }
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
                    // RFC 2918 §4: a family that was not agreed on is ignored, but the neighbor lives.
                    return self.event(origin, fsm::Event::RouteRefresh(Family::Ipv4), None, now);
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
                let counted = self.received.count(&routes);
                let total = self.received.treated_as_withdraw;
                // The first ones are news; a whole table with the same fault must not fill the disk.
                if let Some(what) = routes.treated_as_withdraw.clone()
                    && total.is_power_of_two()
                {
                    self.push_event(PeerEvent::TreatedAsWithdraw { what, total });
                }
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
}
