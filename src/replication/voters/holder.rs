//! A POP that drains: it asks the voters one prefix after the other, and tells them what it holds.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

use super::super::version::Origin;
use super::{PermitId, Reply, Word};

/// How long voters may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A question: may we drain this?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    pub prefix: IpNetwork,
    pub min_announcers: u32,
}

/// Permits by prefix.
pub type Permits = BTreeMap<IpNetwork, PermitId>;

/// What is held on to, and how many requests for permits have been answered and heeded in that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    pub answered: u64,
    pub permits: Permits,
}

/// What one POP holds and asks for.
#[derive(Debug)]
pub struct Holder {
    voters: Vec<Origin>,
    held: Permits,
    last: PermitId,
    request: Option<Request>,
    /// Granted, and not seen in what is held.
    given: Option<(u64, Permits)>,
    poll: Option<Poll>,
    done: Option<Result<Permits, String>>,
}

/// All of these, or none.
#[derive(Debug)]
struct Request {
    number: u64,
    asks: VecDeque<Ask>,
    granted: Permits,
}

#[derive(Debug)]
struct Poll {
    ask: Ask,
    permit: PermitId,
    /// None: granted.
    replies: BTreeMap<Origin, Option<String>>,
    until: Instant,
}

impl Holder {
    /// `incarnation`: of this process. `held`: what it has held on to since an earlier one.
    #[must_use]
    pub fn new(voters: Vec<Origin>, incarnation: u64, held: Permits) -> Self {
        Self {
            voters,
            held,
            last: PermitId { incarnation, number: 0 },
            request: None,
            given: None,
            poll: None,
            done: None,
        }
    }

    /// Other POPs are voters now.
    pub fn handle_voters(&mut self, voters: Vec<Origin>) {
        self.voters = voters;
    }

    /// These permits are held on to.
    pub fn handle_held(&mut self, held: &Held) {
        self.held = held.permits.clone();
        self.given = self.given.take().filter(|(number, _)| *number > held.answered);
    }

    /// Asks for all of these, one after the other; the answer comes out of [`poll_done`](Self::poll_done). `number`:
    /// of the request, from 1. False if another one is not answered yet.
    pub fn handle_request(&mut self, number: u64, asks: Vec<Ask>) -> bool {
        if self.request.is_some() || self.given.is_some() {
            return false;
        }
        self.request = Some(Request { number, asks: asks.into(), granted: Permits::new() });
        self.go_on();
        true
    }

    /// A voter has answered a question; None: it cannot be reached.
    pub fn handle_reply(&mut self, from: &Origin, permit: PermitId, reply: Option<Reply>) {
        let Some(poll) = self.poll.as_mut().filter(|poll| poll.permit == permit) else { return };
        let said = match reply {
            Some(Reply::Granted) => None,
            Some(Reply::Refused(why)) => Some(why),
            Some(Reply::Noted) => Some("its answer means nothing".to_owned()),
            None => Some("it is not reached".to_owned()),
        };
        if self.voters.contains(from) {
            poll.replies.insert(from.clone(), said);
        }
        self.count();
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll.as_ref().is_some_and(|poll| poll.until <= now) {
            self.refuse();
        }
    }

    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.poll.as_ref().map(|poll| poll.until)
    }

    /// The next question and whom it is for, when the one before is answered.
    pub fn poll_ask(&mut self, now: Instant) -> Option<(Word, PermitId, Vec<Origin>)> {
        if self.poll.is_some() {
            return None;
        }
        let ask = self.request.as_mut()?.asks.pop_front()?;
        self.last.number += 1;
        let permit = self.last;
        self.poll = Some(Poll { ask, permit, replies: BTreeMap::new(), until: now + PATIENCE });
        let Ask { prefix, min_announcers } = ask;
        Some((Word::Ask { prefix, permit, min_announcers }, permit, self.voters.clone()))
    }

    /// What became of a request. Permits that were granted are kept until what is held has been heard of again.
    pub fn poll_done(&mut self) -> Option<Result<Permits, String>> {
        self.done.take()
    }

    /// What voters are told from time to time, and when it changes.
    #[must_use]
    pub fn holds(&self) -> Word {
        let (mut permits, mut up_to) = (self.held.clone(), self.last);
        permits.extend(self.given.iter().flat_map(|(_, given)| given));
        permits.extend(self.request.iter().flat_map(|request| &request.granted));
        if let Some(poll) = &self.poll {
            up_to.number -= 1;
            permits.insert(poll.ask.prefix, poll.permit);
        }
        Word::Holds { up_to, permits }
    }

    fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    fn count(&mut self) {
        let Some(poll) = &self.poll else { return };
        let granted = poll.replies.values().filter(|said| said.is_none()).count();
        if granted >= self.majority() {
            if let Some(request) = &mut self.request {
                request.granted.insert(poll.ask.prefix, poll.permit);
            }
            self.poll = None;
            self.go_on();
        } else if self.voters.len() - (poll.replies.len() - granted) < self.majority() {
            self.refuse();
        }
    }

    /// The request is done when nothing is left to ask.
    fn go_on(&mut self) {
        if let Some(request) = self.request.take_if(|request| request.asks.is_empty()) {
            self.given = Some((request.number, request.granted.clone()));
            self.done = Some(Ok(request.granted));
        }
    }

    fn refuse(&mut self) {
        let Some(poll) = self.poll.take() else { return };
        self.request = None;
        let granted = poll.replies.values().filter(|said| said.is_none()).count();
        let said = |voter: &Origin| match poll.replies.get(voter) {
            Some(None) => None,
            Some(Some(why)) => Some(format!("{voter}: {why}")),
            None => Some(format!("{voter}: it has not answered")),
        };
        let against: Vec<String> = self.voters.iter().filter_map(said).collect();
        self.done = Some(Err(format!(
            "no quorum for {}: {granted} of {} voters agree, and {} must. {}",
            poll.ask.prefix,
            self.voters.len(),
            self.majority(),
            against.join("; ")
        )));
    }
}
