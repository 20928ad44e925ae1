//! What must have been true while faults came and went: who was certainly served, who certainly not, and who was told otherwise.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::fault::{Entry, Fault};
use super::held::{Change, Held, held};
use super::spans::{Span, Spans};
use crate::bgp_stream::Event;
use crate::moment::Moment;

/// A prefix, and the backends of which one that answers is enough.
#[derive(Debug, Clone)]
pub struct Prefix {
    pub prefix: IpNetwork,
    /// Targets of faults: `HOST/SERVICE`.
    pub backends: Vec<String>,
}

/// A neighbor, and what can be done to it.
#[derive(Debug, Clone)]
pub struct Neighbor {
    /// The target of faults of its process.
    pub host: String,
    pub address: IpAddr,
    /// The target of faults of its link: `HOST/INTERFACE`.
    pub link: String,
}

/// The log of faults, read as what it means. A fault without an end lasts to the end of the whole.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    /// The target that is edgeproxy itself.
    pub pop: &'a str,
    pub entries: &'a [Entry],
    pub whole: Span,
}

impl Model<'_> {
    /// When certainly nobody served: all backends were unable to answer, or edgeproxy was dead. A dead edgeproxy cannot
    /// withdraw: its routes must go with its sessions.
    #[must_use]
    pub fn unserved(&self, prefix: &Prefix) -> Spans {
        let all = Spans::one(self.whole.from, self.whole.until);
        let unable = prefix.backends.iter().fold(all, |common, backend| common.and(&self.certainly(backend)));
        unable.or(&self.certainly(self.pop))
    }

    /// When certainly somebody did: a backend was left alone, and edgeproxy ran.
    #[must_use]
    pub fn served(&self, prefix: &Prefix) -> Spans {
        let able = prefix.backends.iter().map(|backend| self.perhaps(backend).outside(self.whole));
        let able = able.fold(Spans::default(), |either, one| either.or(&one));
        able.and(&self.perhaps(self.pop).outside(self.whole))
    }

    /// What a neighbor held. Whatever is not known counts against edgeproxy: routes end late and come back early.
    #[must_use]
    pub fn held(&self, neighbor: &Neighbor, events: &[Event]) -> Held {
        let mut changes: Vec<(Moment, Change)> = Vec::new();
        for entry in self.entries {
            if entry.target == neighbor.host && entry.fault == Fault::Kill {
                changes.push((entry.begun.after, Change::Died));
            }
            if entry.target == neighbor.link {
                changes.push((entry.begun.after, Change::LinkDown));
                changes.extend(entry.healed.map(|healed| (healed.before, Change::LinkUp)));
            }
        }
        held(neighbor.address, events, &changes, self.whole.until)
    }

    /// When a neighbor had the route and certainly nobody served it.
    #[must_use]
    pub fn announced_not_served(&self, prefix: &Prefix, held: &Held) -> Spans {
        let routes = held.routes.get(&prefix.prefix).cloned().unwrap_or_default();
        routes.and(&self.unserved(prefix))
    }

    /// When a neighbor with a session had no route though somebody served it.
    #[must_use]
    pub fn served_not_announced(&self, prefix: &Prefix, held: &Held) -> Spans {
        let routes = held.routes.get(&prefix.prefix).cloned().unwrap_or_default();
        self.served(prefix).and(&held.sessions).and(&routes.outside(self.whole))
    }

    /// When a neighbor, its link and edgeproxy were left alone and yet had no session: the time that reconnecting takes.
    #[must_use]
    pub fn without_session(&self, neighbor: &Neighbor, held: &Held) -> Spans {
        let hindered = [&neighbor.host, &neighbor.link].map(|target| self.perhaps(target));
        hindered[0].or(&hindered[1]).or(&self.perhaps(self.pop)).or(&held.sessions).outside(self.whole)
    }

    /// While a fault was in place beyond doubt.
    fn certainly(&self, target: &str) -> Spans {
        let faults = self.lasting(target);
        faults.map(|e| (e.begun.after, e.healed.map_or(self.whole.until, |h| h.before))).collect()
    }

    /// While a fault may have been in place.
    fn perhaps(&self, target: &str) -> Spans {
        let faults = self.lasting(target);
        faults.map(|e| (e.begun.before, e.healed.map_or(self.whole.until, |h| h.after))).collect()
    }

    fn lasting(&self, target: &str) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |e| e.target == target && !e.fault.is_over_at_once())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::fault::Done;

    const WHOLE: Span = Span { from: Moment(0), until: Moment(1000) };

    /// A fault whose beginning and healing take ten nanoseconds each.
    fn entry(target: &str, fault: Fault, from: u64, until: Option<u64>) -> Entry {
        let done = |at| Done { before: Moment(at), after: Moment(at + 10) };
        Entry { target: target.to_owned(), fault, begun: done(from), healed: until.map(done) }
    }

    fn prefix(backends: &[&str]) -> Prefix {
        Prefix {
            prefix: "198.51.100.0/24".parse().unwrap(),
            backends: backends.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn shown(spans: &Spans) -> Vec<(u64, u64)> {
        spans.iter().map(|span| (span.from.0, span.until.0)).collect()
    }

    #[test]
    fn all_backends_or_edgeproxy_must_be_out_and_only_what_is_certain_counts() {
        let entries = [
            entry("pop/a", Fault::Stop, 100, Some(300)),
            entry("pop/b", Fault::Error, 200, Some(400)),
            entry("pop", Fault::Reload, 500, None),
            entry("pop", Fault::Kill, 600, Some(700)),
            entry("pop/b", Fault::Kill, 900, None),
        ];
        let model = Model { pop: "pop", entries: &entries, whole: WHOLE };
        let (both, one) = (prefix(&["pop/a", "pop/b"]), prefix(&["pop/b"]));
        assert_eq!(shown(&model.unserved(&both)), [(210, 300), (610, 700)]);
        assert_eq!(shown(&model.served(&both)), [(0, 200), (310, 600), (710, 1000)]);
        assert_eq!(shown(&model.unserved(&one)), [(210, 400), (610, 700), (910, 1000)]);
        assert_eq!(shown(&model.served(&one)), [(0, 200), (410, 600), (710, 900)]);
    }

    #[test]
    fn what_was_told_is_held_against_what_was_served() {
        let entries = [entry("pop/a", Fault::Kill, 100, Some(500))];
        let model = Model { pop: "pop", entries: &entries, whole: WHOLE };
        let prefix = prefix(&["pop/a"]);
        let held = Held {
            routes: [(
                prefix.prefix,
                [(50, 130), (560, 1000)].map(|(a, b)| (Moment(a), Moment(b))).into_iter().collect(),
            )]
            .into(),
            sessions: Spans::one(Moment(20), Moment(1000)),
            ..Held::default()
        };
        assert_eq!(shown(&model.announced_not_served(&prefix, &held)), [(110, 130)]);
        assert_eq!(shown(&model.served_not_announced(&prefix, &held)), [(20, 50), (510, 560)]);
    }

    #[test]
    fn a_link_and_a_process_end_what_their_neighbor_holds() {
        let neighbor = Neighbor {
            host: "up".to_owned(),
            address: "10.0.0.1".parse().unwrap(),
            link: "pop/up0".to_owned(),
        };
        let update = crate::bgp_stream::Update {
            announced: vec!["198.51.100.0/24".parse().unwrap()],
            ..crate::bgp_stream::Update::default()
        };
        let told = |at| {
            let kind = crate::bgp_stream::Kind::Update(Box::new(update.clone()));
            Event::between(
                Moment(at),
                "10.0.0.2:179".parse().unwrap(),
                "10.0.0.1:5000".parse().unwrap(),
                kind,
            )
        };
        for (target, fault) in [("up", Fault::Kill), ("pop/up0", Fault::Down)] {
            let entries = [entry(target, fault, 100, Some(300)), entry("else", fault, 20, Some(40))];
            let model = Model { pop: "pop", entries: &entries, whole: WHOLE };
            let held = model.held(&neighbor, &[told(10)]);
            assert_eq!(shown(&held.routes[&update.announced[0]]), [(10, 110)], "{target}");
            let held = Held { sessions: Spans::one(Moment(50), Moment(110)), ..held };
            assert_eq!(shown(&model.without_session(&neighbor, &held)), [(0, 50), (310, 1000)], "{target}");
        }
    }
}
