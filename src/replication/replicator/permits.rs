//! Permits of drains: this POP as a voter, and as one who asks the voters.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::Replicator;
use crate::catalog::stance::Stance;
use crate::replication::quic::{Heard, ask};
use crate::replication::store::Work;
use crate::replication::version::Origin;
use crate::replication::voters::{Ask, Holder, Known, PermitId, Permits, Reply, Voter, Word};

/// How often voters are told what is held.
const TOLD: Duration = Duration::from_secs(10);
/// Where the promises are kept.
pub(super) const SLOT: &str = "voter";
/// Words that wait for the disk.
const MOST_WAITING: usize = 1_024;

/// Somebody of this POP wants to drain.
pub struct PermitRequest {
    /// From 1; one after the other.
    pub number: u64,
    pub asks: Vec<Ask>,
    pub done: oneshot::Sender<Result<Permits, String>>,
}

/// What belongs to permits.
pub(super) struct Permitting {
    voter: Voter,
    holder: Holder,
    request: Option<oneshot::Sender<Result<Permits, String>>>,
    /// Promises that the disk is asked to keep, and the replies that wait for that.
    saving: Option<oneshot::Receiver<Result<(), String>>>,
    saved_with: Vec<(oneshot::Sender<Vec<u8>>, Reply)>,
    /// Replies whose promises came after what is being kept.
    waiting: Vec<(oneshot::Sender<Vec<u8>>, Reply)>,
    dirty: bool,
    tell_at: Instant,
}

impl Permitting {
    pub(super) fn new(voter: Voter, holder: Holder, now: Instant) -> Self {
        Self {
            voter,
            holder,
            request: None,
            saving: None,
            saved_with: Vec::new(),
            waiting: Vec::new(),
            dirty: false,
            tell_at: now,
        }
    }

    pub(super) fn next_deadline(&self) -> Instant {
        self.holder.next_deadline().map_or(self.tell_at, |deadline| deadline.min(self.tell_at))
    }

    /// What the disk says; never, if it was not asked.
    pub(super) async fn saved(&mut self) -> Result<(), String> {
        match &mut self.saving {
            Some(saving) => saving.await.unwrap_or_else(|_| Err("the disk is busy or gone".to_owned())),
            None => std::future::pending().await,
        }
    }

    /// Other POPs are voters now.
    pub(super) fn reconfigure(&mut self, voters: Vec<Origin>) {
        self.holder.handle_voters(voters);
    }

    /// What we have promised, if we are a voter.
    pub(super) fn voter(&self) -> &Voter {
        &self.voter
    }
}

impl Replicator {
    /// Somebody wants to drain.
    pub(super) fn want_permits(&mut self, request: PermitRequest) {
        if self.permitting.holder.handle_request(request.number, request.asks) {
            self.permitting.request = Some(request.done);
        } else {
            let why = "another drain waits for the voters; try again in some seconds";
            let _ = request.done.send(Err(why.to_owned()));
        }
    }

    /// What is held has changed: the voters hear of it now.
    pub(super) fn hold(&mut self, now: Instant) {
        let held = self.ends.held.borrow_and_update().clone();
        self.permitting.holder.handle_held(&held);
        self.permitting.tell_at = now;
    }

    /// A word for this POP as a voter.
    pub(super) fn vote(
        &mut self,
        from: &Origin,
        word: &[u8],
        answer: oneshot::Sender<Vec<u8>>,
        now: Instant,
    ) {
        let own = self.replica.origin();
        if !self.config.voters.iter().any(|voter| voter == own.as_str()) {
            let why = "it is no voter by its own configuration".to_owned();
            let _ = answer.send(Reply::Refused(why).octets());
            return;
        }
        let word = match Word::read(word) {
            Ok(word) => word,
            // Without an answer.
            Err(error) => return debug!(peer = %from, "a word to a voter: {error}"),
        };
        let members = self.members_of_fleet();
        let mut announcing = BTreeSet::new();
        if let Word::Ask { prefix, .. } = &word {
            announcing.extend(self.heartbeats.announcing(*prefix, now).cloned());
            if self.ends.stances.borrow().of.get(prefix) == Some(&Stance::Announced) {
                announcing.insert(own.clone());
            }
        }
        let known = Known { members: &members, announcing: &announcing };
        let heeded = self.permitting.voter.handle(from, &word, known);
        let is_free = self.permitting.waiting.len() < MOST_WAITING;
        if heeded.changed && is_free {
            self.permitting.dirty = true;
            self.permitting.waiting.push((answer, heeded.reply));
            self.save();
        } else if heeded.changed {
            self.permitting.dirty = true;
            let _ = answer.send(Reply::Refused("its disk is too slow".to_owned()).octets());
        } else {
            // What it repeats may not be on disk yet.
            match heeded.reply {
                Reply::Granted if self.permitting.saving.is_some() || self.permitting.dirty => {
                    self.permitting.waiting.push((answer, Reply::Granted));
                    self.permitting.dirty = true;
                }
                reply => drop(answer.send(reply.octets())),
            }
        }
    }

    /// The disk has kept the promises, or not.
    pub(super) fn kept(&mut self, result: &Result<(), String>) {
        self.permitting.saving = None;
        if let Err(error) = result {
            warn!("promises of this voter are not kept: {error}");
            self.permitting.dirty = true;
        }
        for (answer, reply) in self.permitting.saved_with.drain(..) {
            let reply = match (result, reply) {
                (Err(error), Reply::Granted) => {
                    Reply::Refused(format!("its disk does not keep promises: {error}"))
                }
                (_, reply) => reply,
            };
            let _ = answer.send(reply.octets());
        }
        if result.is_ok() {
            self.save();
        }
    }

    fn save(&mut self) {
        let permitting = &mut self.permitting;
        if permitting.saving.is_some() || !permitting.dirty {
            return;
        }
        let (done, saving) = oneshot::channel();
        let work = Work::Slot { name: SLOT.to_owned(), value: permitting.voter.octets(), done };
        permitting.saving = Some(saving);
        permitting.saved_with = std::mem::take(&mut permitting.waiting);
        permitting.dirty = false;
        // What cannot be sent drops `done`, and that is heard as a failure.
        if let Err(error) = self.ends.work.try_send(work) {
            debug!("the disk does not take promises: {error}");
        }
    }

    /// A voter has replied.
    pub(super) fn permitted(&mut self, from: &Origin, permit: PermitId, word: Option<&[u8]>) {
        let reply = word.and_then(|word| Reply::read(word).ok());
        self.permitting.holder.handle_reply(from, permit, reply);
    }

    /// Asks, answers and tells what is due.
    pub(super) fn permit(&mut self, now: Instant) {
        self.permitting.holder.handle_timeout(now);
        while let Some((word, permit, voters)) = self.permitting.holder.poll_ask(now) {
            for voter in voters {
                self.say_to_voter(voter, &word, Some(permit), now);
            }
        }
        if let Some(result) = self.permitting.holder.poll_done() {
            // What was granted in vain ends now.
            if result.is_err() {
                self.permitting.tell_at = now;
            }
            if let Some(request) = self.permitting.request.take() {
                let _ = request.send(result);
            }
        }
        if self.permitting.tell_at <= now {
            self.permitting.tell_at = now + TOLD;
            let word = self.permitting.holder.holds();
            for voter in voters(&self.config.voters) {
                self.say_to_voter(voter, &word, None, now);
            }
            // What the disk refused is tried again.
            self.save();
        }
    }

    /// `permit`: that is asked for, and whose reply is waited for.
    fn say_to_voter(&mut self, voter: Origin, word: &Word, permit: Option<PermitId>, now: Instant) {
        let tell = self.tell.clone();
        if voter == *self.replica.origin() {
            let (answer, answered) = oneshot::channel();
            self.vote(&voter, &word.octets(), answer, now);
            self.asked.spawn(async move { reply(tell, voter, permit, answered.await.ok()).await });
        } else if let Some(connection) = self.connection(&voter) {
            let octets = word.octets();
            self.asked.spawn(async move {
                let answered = ask::permit(connection, octets).await;
                reply(tell, voter, permit, answered).await;
            });
        } else if let Some(permit) = permit {
            self.permitting.holder.handle_reply(&voter, permit, None);
        }
    }

    /// Those that may hold permits: configured or connected, ourselves included.
    pub(super) fn members_of_fleet(&self) -> BTreeSet<Origin> {
        let configured = self.config.peers.iter().filter_map(|peer| Origin::new(&peer.pop));
        configured.chain(self.links.keys().cloned()).chain([self.replica.origin().clone()]).collect()
    }
}

async fn reply(tell: mpsc::Sender<Heard>, peer: Origin, permit: Option<PermitId>, word: Option<Vec<u8>>) {
    if let Some(permit) = permit {
        let _ = tell.send(Heard::Permitted { peer, permit, word }).await;
    }
}

/// By their names.
pub(super) fn voters(names: &[String]) -> Vec<Origin> {
    names.iter().filter_map(|name| Origin::new(name)).collect()
}
