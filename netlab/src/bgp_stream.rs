//! BGP read off the wire: packets in, one event per BGP message out, with the time of the packet that completed it.

pub mod framing;
pub mod message;
pub mod reassembly;
pub mod segment;
pub mod timeline;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

pub use message::{Attributes, Notification, Open, Update};
pub use timeline::Timeline;

use crate::moment::Moment;
use framing::Frame;
use reassembly::{Flow, Step};
use segment::Segment;

/// The port of RFC 4271 §8.
pub const BGP_PORT: u16 = 179;
/// Flows followed at once; the one unheard of for longest makes room.
const MAX_FLOWS: usize = 512;

/// One thing that happened on a BGP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When the packet (or the read) that completed it was taken.
    pub at: Moment,
    pub from: IpAddr,
    pub to: IpAddr,
    pub from_port: u16,
    pub to_port: u16,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `from` dials `to`: the first SYN of a connection.
    Connect,
    Open(Open),
    Update(Box<Update>),
    Keepalive,
    Notification(Notification),
    RouteRefresh {
        afi: u16,
        safi: u8,
    },
    /// Bytes that are no BGP message, and why.
    Malformed(String),
    /// Bytes are missing from what was seen; reading went on at the next marker.
    Lost,
    /// `from` ended its side, by FIN or by RST.
    Closed {
        reset: bool,
    },
}

/// Every BGP connection seen at one place. Told packets and times; owns no socket.
#[derive(Debug, Default)]
pub struct Streams {
    flows: BTreeMap<Direction, Flow>,
}

/// One direction of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Direction {
    from: SocketAddr,
    to: SocketAddr,
}

impl Streams {
    pub fn new() -> Streams {
        Streams::default()
    }

    /// Takes one TCP segment, taken at `at`, and adds what it completes to `events`, in order.
    pub fn handle_segment(&mut self, at: Moment, segment: &Segment<'_>, events: &mut Vec<Event>) {
        let direction = Direction { from: segment.from, to: segment.to };
        if segment.rst {
            // Only a connection that was seen can be reset; a dead host repeats its RST.
            let seen = self.flows.remove(&direction).is_some();
            if self.flows.remove(&direction.reversed()).is_some() || seen {
                events.push(direction.event(at, Kind::Closed { reset: true }));
            }
            return;
        }
        if !self.flows.contains_key(&direction) {
            // A bare acknowledgement does not open a flow: nothing is known about its bytes yet.
            if segment.payload.is_empty() && !segment.syn && !segment.fin {
                return;
            }
            self.make_room();
            self.flows.insert(direction, Flow::new());
        }
        // RFC 6793 §4.1: four-octet AS numbers are used when both sides offered them.
        let other_offers_as4 = self.flows.get(&direction.reversed()).and_then(|flow| flow.offers_as4);
        let flow = self.flows.get_mut(&direction).expect("inserted above if it was missing");
        for step in flow.handle_segment(at, segment) {
            match step {
                Step::Started => {
                    if !segment.ack {
                        events.push(direction.event(at, Kind::Connect));
                    }
                }
                Step::Lost => events.push(direction.event(at, Kind::Lost)),
                Step::Ended => events.push(direction.event(at, Kind::Closed { reset: false })),
                Step::Frame(Frame::Bad(why)) => events.push(direction.event(at, Kind::Malformed(why))),
                Step::Frame(Frame::Message(bytes)) => {
                    let as4 = flow.offers_as4.unwrap_or(true) && other_offers_as4.unwrap_or(true);
                    let kind = message::decode(&bytes, as4);
                    if let Kind::Open(open) = &kind {
                        flow.offers_as4 = Some(open.offers_as4);
                    }
                    events.push(direction.event(at, kind));
                }
            }
        }
    }

    fn make_room(&mut self) {
        while self.flows.len() >= MAX_FLOWS {
            let Some(oldest) =
                self.flows.iter().min_by_key(|(_, flow)| flow.last_heard).map(|(direction, _)| *direction)
            else {
                return;
            };
            self.flows.remove(&oldest);
        }
    }
}

impl Direction {
    fn reversed(self) -> Direction {
        Direction { from: self.to, to: self.from }
    }

    fn event(self, at: Moment, kind: Kind) -> Event {
        Event::between(at, self.from, self.to, kind)
    }
}

impl Event {
    /// An event of the connection between two endpoints, caused by `from`.
    pub fn between(at: Moment, from: SocketAddr, to: SocketAddr, kind: Kind) -> Event {
        Event { at, from: from.ip(), to: to.ip(), from_port: from.port(), to_port: to.port(), kind }
    }

    /// The UPDATE, if it is one.
    pub fn update(&self) -> Option<&Update> {
        match &self.kind {
            Kind::Update(update) => Some(update),
            _ => None,
        }
    }

    pub fn announces(&self, prefix: IpNetwork) -> bool {
        self.update().is_some_and(|update| update.announced.contains(&prefix))
    }

    /// Withdraws it and does not announce it again in the same UPDATE.
    pub fn withdraws(&self, prefix: IpNetwork) -> bool {
        self.update()
            .is_some_and(|update| update.withdrawn.contains(&prefix) && !update.announced.contains(&prefix))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {} {}", self.at, self.from, self.to, self.kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Connect => f.write_str("connects"),
            Kind::Open(open) => write!(f, "OPEN AS{} hold {} id {}", open.asn, open.hold_s, open.router_id),
            Kind::Update(update) => write!(f, "{update}"),
            Kind::Keepalive => f.write_str("KEEPALIVE"),
            Kind::Notification(notification) => write!(f, "{notification}"),
            Kind::RouteRefresh { afi, safi } => write!(f, "ROUTE-REFRESH {afi}/{safi}"),
            Kind::Malformed(why) => write!(f, "malformed: {why}"),
            Kind::Lost => f.write_str("(bytes not seen)"),
            Kind::Closed { reset: true } => f.write_str("RST"),
            Kind::Closed { reset: false } => f.write_str("FIN"),
        }
    }
}
