//! What others send: whom we believe, what we take, and what we tell them of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::head::{Head, Signed};
use super::super::merge::{Offer, Refusal};
use super::super::version::Origin;
use super::{BLAMED, Effect, FORGOTTEN, FORGOTTEN_OF_ONE, Fetched, Replica, Trust};

impl<T: Trust> Replica<T> {
    /// Rows that somebody tells us unasked.
    pub fn handle_push(&mut self, from: &Origin, spread: bool, offer: Offer, now: Instant) {
        let (origin, point) = (offer.head.head.origin.clone(), offer.head.head.point);
        // Most of what comes is known from somebody else: no signature is worked out for it.
        if self.ledger.head(&origin).is_some_and(|known| known.head.point >= point)
            && origin != *self.origin()
        {
            self.counts.known += 1;
            return;
        }
        if self.is_blamed(from) {
            return;
        }
        if let Some(wait) = self.rates.wait(&origin, now) {
            self.counts.hurried += 1;
            let words = format!("it writes too fast, and is heard again in {} ms", wait.as_millis());
            return self.alarm(origin, Some(from.clone()), words, now);
        }
        if !self.believes(from, &offer.head, now) {
            return;
        }
        if origin == *self.origin() {
            return self.meet_own(from, &offer.head.head, now);
        }
        let told = Arc::new(offer);
        match self.take(Some(from), (*told).clone(), now) {
            Ok(true) if spread => self.push(&told, Some(from)),
            Ok(_) => {}
            Err(Refusal::Gap { .. } | Refusal::Fork) => self.lack(from, &origin, point, now),
            Err(_) => {}
        }
        self.fetch_next(now);
    }

    /// What became of [`Effect::Fetch`]: rows, nothing, or not now.
    pub fn handle_fetched(&mut self, from: &Origin, origin: &Origin, fetched: Fetched, now: Instant) {
        self.counts.fetched += 1;
        let rest = match fetched {
            Fetched::Later(time) => Some(time),
            Fetched::Nothing => {
                self.parts.forget(origin);
                self.fetches.handle_less(from, origin);
                None
            }
            Fetched::Part(part) => self.cut_off(from, origin, part, now),
            Fetched::Rows(offer) => self.fetched(from, origin, offer, now),
        };
        self.fetches.handle_end(from, origin, rest, now);
        self.fetch_next(now);
    }

    /// How long the peer is left alone with this origin, if it brought nothing of use.
    fn fetched(&mut self, from: &Origin, origin: &Origin, offer: Offer, now: Instant) -> Option<Duration> {
        if offer.head.head.origin != *origin || !self.believes(from, &offer.head, now) {
            return Some(BLAMED);
        }
        if origin == self.origin() {
            self.adopt(from, offer, now);
            return None;
        }
        let (offer, joined) = self.parts.join(offer);
        let (whole, point) = (offer.after.is_none(), offer.head.head.point);
        if joined {
            // Of two peers nobody knows whose rows do not fit: all are asked for again.
            match self.take(None, offer, now) {
                Ok(_) => drop(self.whole.remove(origin)),
                Err(_) => self.lack(from, origin, point, now),
            }
            return None;
        }
        match self.take(Some(from), offer, now) {
            Ok(_) => {
                self.whole.remove(origin);
                None
            }
            Err(Refusal::Gap { .. } | Refusal::Fork) if !whole => {
                self.whole.insert(origin.clone());
                self.lack(from, origin, point, now);
                None
            }
            Err(_) => Some(BLAMED),
        }
    }

    /// The same for an answer that did not come to its end.
    fn cut_off(&mut self, from: &Origin, origin: &Origin, part: Offer, now: Instant) -> Option<Duration> {
        if part.head.head.origin != *origin || !self.believes(from, &part.head, now) {
            return Some(BLAMED);
        }
        // Of ourselves everything is looked at as one.
        if origin != self.origin() {
            self.parts.keep(part, now);
        }
        Some(Duration::ZERO)
    }

    /// `from`: who is to blame for it.
    pub(super) fn take(
        &mut self,
        from: Option<&Origin>,
        offer: Offer,
        now: Instant,
    ) -> Result<bool, Refusal> {
        let (head, whole) = (offer.head.clone(), offer.after.is_none());
        let origin = head.head.origin.clone();
        let last = self.ledger.head(&origin).map(|last| &last.head);
        let known = last.is_some();
        let forgets = last.is_some_and(|last| whole && !head.head.holds(last.point));
        let last = if forgets { self.ledger.lacking(&origin, None) } else { None };
        match self.ledger.take(offer) {
            Ok(None) => {
                self.counts.known += 1;
                Ok(false)
            }
            Ok(Some(applied)) => {
                self.counts.taken += 1;
                self.counts.rows += applied.rows.len() as u64;
                // Who is new here has written all of it some time ago.
                if known {
                    self.rates.handle_taken(&origin, applied.rows.len(), now);
                }
                self.fetches.handle_have(&origin, head.head.point);
                self.alarms.remove(&origin);
                self.remember(&head.head, last);
                let gone = applied.gone.iter().map(|row| row.key.clone()).collect();
                self.effects.push_back(Effect::Keep { head, whole, rows: applied.rows.clone(), gone });
                self.effects.push_back(Effect::Changed { origin, applied });
                Ok(true)
            }
            Err(refusal) => {
                if !matches!(refusal, Refusal::Gap { .. } | Refusal::Fork) {
                    self.counts.refused += 1;
                    self.alarm(origin, from.cloned(), refusal.to_string(), now);
                    if let (Some(from), Refusal::Unproven(_) | Refusal::Disorder(_)) = (from, &refusal) {
                        self.blame(from, now);
                    }
                }
                Err(refusal)
            }
        }
    }

    /// Keeps for an origin what its new head does not know any more, until one does.
    fn remember(&mut self, head: &Head, last: Option<Offer>) {
        let origin = &head.origin;
        if let Some(histories) = self.forgotten.get_mut(origin) {
            histories.retain(|history| !head.is_past(history.head.head.point));
            if histories.is_empty() {
                self.forgotten.remove(origin);
            }
        }
        let Some(last) = last else { return };
        if self.forgotten.values().map(Vec::len).sum::<usize>() < FORGOTTEN {
            let histories = self.forgotten.entry(origin.clone()).or_default();
            if histories.len() < FORGOTTEN_OF_ONE {
                histories.push(last);
            }
        }
        self.remind(&origin.clone());
    }

    /// Tells an origin that it has said more than it remembers: the head alone, and it asks for the rows.
    pub(super) fn remind(&mut self, origin: &Origin) {
        let history = self.forgotten.get(origin).and_then(|histories| histories.first());
        if let (Some(offer), true) = (history, self.peers.contains_key(origin)) {
            let after = Some(offer.head.head.point.version);
            let offer = Arc::new(Offer { head: offer.head.clone(), after, rows: Vec::new() });
            self.effects.push_back(Effect::Push { to: origin.clone(), spread: false, offer });
        }
    }

    pub(super) fn believes(&mut self, from: &Origin, head: &Signed, now: Instant) -> bool {
        let Err(why) = self.trust.verify(head) else { return true };
        self.counts.unverified += 1;
        self.blame(from, now);
        self.alarm(head.head.origin.clone(), Some(from.clone()), why, now);
        false
    }

    pub(super) fn blame(&mut self, peer: &Origin, now: Instant) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.blamed_until = Some(now + BLAMED);
        }
    }

    pub(super) fn is_blamed(&self, peer: &Origin) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.blamed_until.is_some())
    }
}
