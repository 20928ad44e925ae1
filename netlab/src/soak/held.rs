//! What one neighbor holds and when: read off its wire, and ended by its death and by its link.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::spans::Spans;
use crate::bgp_stream::{Event, Kind};
use crate::moment::Moment;

/// What the wire does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    LinkDown,
    LinkUp,
    /// The neighbor's process is dead, and what it knew with it.
    Died,
}

/// What a neighbor held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    pub routes: BTreeMap<IpNetwork, Spans>,
    /// When a session was established as both sides had said.
    pub sessions: Spans,
    /// The routes at the end.
    pub at_last: BTreeSet<IpNetwork>,
}

/// Follows the neighbor with this address through what was captured on its link and what was done to it, until `end`.
#[must_use]
pub fn held(neighbor: IpAddr, events: &[Event], changes: &[(Moment, Change)], end: Moment) -> Held {
    enum Either<'a> {
        Event(&'a Event),
        Change(Change),
    }
    let own = events.iter().filter(|event| event.from == neighbor || event.to == neighbor);
    let mut all: Vec<(Moment, Either<'_>)> = own.map(|event| (event.at, Either::Event(event))).collect();
    all.extend(changes.iter().map(|&(at, change)| (at, Either::Change(change))));
    all.sort_by_key(|(at, _)| *at);
    let mut book = Book::new(neighbor);
    for (at, what) in all.iter().take_while(|(at, _)| *at <= end) {
        match what {
            Either::Event(event) => book.handle_event(event),
            Either::Change(change) => book.handle_change(*at, *change),
        }
        book.note(*at);
    }
    book.close(end)
}

/// The connections of one neighbor, and what is open since when.
#[derive(Debug)]
struct Book {
    neighbor: IpAddr,
    /// By the neighbor's port and the other one.
    connections: BTreeMap<(u16, u16), Connection>,
    link_is_down: bool,
    /// When the link came up last.
    link_up: Moment,
    open: BTreeMap<IpNetwork, Moment>,
    session: Option<Moment>,
    routes: BTreeMap<IpNetwork, Vec<(Moment, Moment)>>,
    sessions: Vec<(Moment, Moment)>,
}

#[derive(Debug, Default)]
struct Connection {
    told: BTreeSet<IpNetwork>,
    /// Whether a KEEPALIVE was seen: of the neighbor, of the other side.
    kept: [bool; 2],
    /// Its link was down since the neighbor was last heard on it: most routers end such a session without a word that
    /// could be seen. One that goes on speaking has held its routes all along.
    asleep: bool,
}

impl Book {
    fn new(neighbor: IpAddr) -> Self {
        Self {
            neighbor,
            connections: BTreeMap::new(),
            link_is_down: false,
            link_up: Moment::ZERO,
            open: BTreeMap::new(),
            session: None,
            routes: BTreeMap::new(),
            sessions: Vec::new(),
        }
    }

    fn handle_event(&mut self, event: &Event) {
        let of_neighbor = event.from == self.neighbor;
        let (ours, theirs) = (event.from_port, event.to_port);
        let key = if of_neighbor { (ours, theirs) } else { (theirs, ours) };
        if matches!(event.kind, Kind::Notification(_) | Kind::Closed { .. }) {
            self.connections.remove(&key);
            return;
        }
        let connection = self.connections.entry(key).or_default();
        if of_neighbor && !self.link_is_down && std::mem::take(&mut connection.asleep) {
            for prefix in &connection.told {
                self.open.entry(*prefix).or_insert(self.link_up);
            }
        }
        match &event.kind {
            Kind::Connect => *connection = Connection::default(),
            Kind::Keepalive => connection.kept[usize::from(!of_neighbor)] = true,
            Kind::Update(update) if !of_neighbor => {
                connection.told.retain(|prefix| !update.withdrawn.contains(prefix));
                connection.told.extend(&update.announced);
            }
            _ => {}
        }
    }

    fn handle_change(&mut self, at: Moment, change: Change) {
        match change {
            Change::LinkDown => {
                self.link_is_down = true;
                self.connections.values_mut().for_each(|connection| connection.asleep = true);
            }
            Change::LinkUp => {
                self.link_is_down = false;
                self.link_up = at;
            }
            Change::Died => self.connections.clear(),
        }
    }

    /// Opens and closes spans so that they fit the connections.
    fn note(&mut self, at: Moment) {
        let awake = || self.connections.values().filter(|connection| !connection.asleep);
        let now: BTreeSet<IpNetwork> =
            awake().flat_map(|connection| connection.told.iter().copied()).collect();
        let established = awake().any(|connection| connection.kept == [true, true]);
        for prefix in self.open.keys().copied().filter(|prefix| !now.contains(prefix)).collect::<Vec<_>>() {
            let from = self.open.remove(&prefix).unwrap_or(at);
            self.routes.entry(prefix).or_default().push((from, at));
        }
        for prefix in now {
            self.open.entry(prefix).or_insert(at);
        }
        match (self.session, established) {
            (None, true) => self.session = Some(at),
            (Some(from), false) => {
                self.sessions.push((from, at));
                self.session = None;
            }
            _ => {}
        }
    }

    fn close(mut self, end: Moment) -> Held {
        let at_last = self.open.keys().copied().collect();
        for (prefix, from) in std::mem::take(&mut self.open) {
            self.routes.entry(prefix).or_default().push((from, end));
        }
        self.sessions.extend(self.session.map(|from| (from, end)));
        let routes = self.routes.into_iter().map(|(prefix, spans)| (prefix, spans.into_iter().collect()));
        Held { routes: routes.collect(), sessions: self.sessions.into_iter().collect(), at_last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp_stream::{Notification, Update};

    const ROUTER: &str = "10.0.0.1";
    const POP: &str = "10.0.0.2";
    const PREFIX: &str = "198.51.100.0/24";

    fn event(at: u64, from: &str, to: &str, ports: (u16, u16), kind: Kind) -> Event {
        let address = |text: &str, port| std::net::SocketAddr::new(text.parse().unwrap(), port);
        Event::between(Moment(at), address(from, ports.0), address(to, ports.1), kind)
    }

    /// From the router, which dials from `port`.
    fn router(at: u64, port: u16, kind: Kind) -> Event {
        event(at, ROUTER, POP, (port, 179), kind)
    }

    fn pop(at: u64, port: u16, kind: Kind) -> Event {
        event(at, POP, ROUTER, (179, port), kind)
    }

    fn update(announced: bool) -> Kind {
        let list = vec![PREFIX.parse().unwrap()];
        Kind::Update(Box::new(if announced {
            Update { announced: list, ..Update::default() }
        } else {
            Update { withdrawn: list, ..Update::default() }
        }))
    }

    /// A session on `port` that is established at `at` and told the prefix right after.
    fn session(at: u64, port: u16) -> Vec<Event> {
        vec![
            router(at - 2, port, Kind::Connect),
            pop(at - 1, port, Kind::Keepalive),
            router(at, port, Kind::Keepalive),
            pop(at + 1, port, update(true)),
        ]
    }

    fn shown(spans: &Spans) -> Vec<(u64, u64)> {
        spans.iter().map(|span| (span.from.0, span.until.0)).collect()
    }

    /// Spans of the route, and of the sessions.
    fn follow(events: &[Event], changes: &[(u64, Change)]) -> [Vec<(u64, u64)>; 2] {
        let changes: Vec<_> = changes.iter().map(|&(at, change)| (Moment(at), change)).collect();
        let held = held(ROUTER.parse().unwrap(), events, &changes, Moment(100));
        let route = held.routes.get(&PREFIX.parse().unwrap()).map(shown).unwrap_or_default();
        assert_eq!(held.at_last.len(), usize::from(route.last().is_some_and(|span| span.1 == 100)));
        [route, shown(&held.sessions)]
    }

    #[test]
    fn a_route_is_held_until_it_is_withdrawn_or_its_session_ends() {
        let cease = Kind::Notification(Notification::default());
        let ends = [
            (pop(50, 1, update(false)), 100),
            (pop(50, 1, cease.clone()), 50),
            (router(50, 1, cease), 50),
            (pop(50, 1, Kind::Closed { reset: false }), 50),
            (router(50, 1, Kind::Closed { reset: true }), 50),
        ];
        for (end, session_until) in ends {
            let events = [session(10, 1), vec![end]].concat();
            assert_eq!(follow(&events, &[]), [vec![(11, 50)], vec![(10, session_until)]], "{events:?}");
        }
        // The end of another connection changes nothing.
        let events = [session(10, 1), vec![router(50, 2, Kind::Closed { reset: false })]].concat();
        assert_eq!(follow(&events, &[]), [vec![(11, 100)], vec![(10, 100)]]);
    }

    #[test]
    fn a_dead_neighbor_holds_nothing_and_a_new_one_what_it_is_told() {
        let events = [session(10, 1), session(60, 2)].concat();
        assert_eq!(
            follow(&events, &[(30, Change::Died)]),
            [vec![(11, 30), (61, 100)], vec![(10, 30), (60, 100)]]
        );
    }

    #[test]
    fn a_link_that_is_down_holds_nothing_and_a_session_that_survives_it_held_on() {
        let flap = [(30, Change::LinkDown), (40, Change::LinkUp)];
        // The router ended the session without a word and made another.
        let replaced = [session(10, 1), session(60, 2)].concat();
        assert_eq!(follow(&replaced, &flap), [vec![(11, 30), (61, 100)], vec![(10, 30), (60, 100)]]);
        // The other side speaking proves nothing; the router itself does.
        let deaf = [session(10, 1), vec![pop(50, 1, Kind::Keepalive)]].concat();
        assert_eq!(follow(&deaf, &flap)[0], [(11, 30)]);
        let survived = [session(10, 1), vec![router(50, 1, Kind::Keepalive)]].concat();
        assert_eq!(follow(&survived, &flap)[0], [(11, 30), (40, 100)]);
    }
}
