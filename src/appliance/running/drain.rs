//! A drain from the operator's word to its order: with voters in the fleet, most of them must agree first.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Appliance;
use crate::admin::Told;
use crate::config::anycast::AnycastPrefix;
use crate::observe::journal::{CauseId, Event};
use crate::replication::replicator::PermitRequest;
use crate::replication::voters::{Ask, Permits};

/// What an operator wants drained.
#[derive(Debug)]
pub(in crate::appliance) struct Wish {
    pub(in crate::appliance) prefix: String,
    pub(in crate::appliance) deadline: Option<Duration>,
    pub(in crate::appliance) reason: String,
    /// Whatever the fleet says.
    pub(in crate::appliance) force: bool,
    pub(in crate::appliance) cause: CauseId,
}

/// Whom to answer.
pub(super) type Reply = oneshot::Sender<Result<Told, String>>;

/// A wish that the voters were asked about, and what they say.
pub(super) type Asked = (Wish, Reply, Result<Permits, String>);

const FORCE: &str =
    "\n  hint: `edgeproxy fleet` shows who announces what; `edgeproxy drain --force` drains all the same";

impl Appliance {
    /// Drains at once, or asks the voters.
    pub(super) fn drain(&mut self, wish: Wish, reply: Reply) {
        let config = self.transactions.in_force().config();
        let prefixes = match self.drains.find(config, &wish.prefix) {
            Ok(prefixes) => prefixes,
            Err(why) => return drop(reply.send(Err(why))),
        };
        let has_voters =
            config.replication.as_ref().is_some_and(|replication| !replication.voters.is_empty());
        let ask = |prefix: &AnycastPrefix| {
            let min_announcers = config.anycast.get(prefix)?.min_announcers;
            let needs = min_announcers > 0 && !self.drains.is_permitted(prefix);
            needs.then(|| Ask { prefix: prefix.network(), min_announcers })
        };
        let asks: Vec<Ask> = prefixes.iter().filter_map(ask).collect();
        if wish.force || !has_voters || asks.is_empty() {
            let told = self.drains.drain(config, &wish, &BTreeMap::new());
            return drop(reply.send(told));
        }
        if !self.asking.is_empty() {
            return self.refuse(
                &wish,
                reply,
                "another drain waits for the voters; try again in some seconds",
            );
        }
        let desk = self.desk.borrow().clone();
        let (done, answer) = oneshot::channel();
        let request = PermitRequest { number: self.drains.next_request(), asks, done };
        if desk.is_none_or(|desk| desk.permits.try_send(request).is_err()) {
            return self.refuse(
                &wish,
                reply,
                "no quorum: replication does not run here, and nobody can be asked",
            );
        }
        self.asking.spawn(async move {
            let ended = "no quorum: replication has ended while the voters were asked";
            let result = answer.await.unwrap_or_else(|_| Err(ended.to_owned()));
            (wish, reply, result)
        });
    }

    /// The voters have answered.
    pub(super) fn voted(&mut self, (wish, reply, result): Asked) {
        match result {
            Ok(permits) => {
                let config = self.transactions.in_force().config();
                let told = self.drains.drain(config, &wish, &permits);
                // Whatever became of it: what was granted is held on to, or given back.
                self.drains.handle_answer();
                drop(reply.send(told));
            }
            Err(why) => {
                self.drains.handle_answer();
                self.refuse(&wish, reply, &why);
            }
        }
    }

    fn refuse(&self, wish: &Wish, reply: Reply, why: &str) {
        let words = format!("{}: {why}", wish.prefix);
        let event = Event::Operator { command: "drain".to_owned(), words, accepted: false };
        self.journal.note(Some(wish.cause), event);
        drop(reply.send(Err(format!("{why}{FORCE}"))));
    }
}
