//! The state machine's facade: one connection from its OPEN on (RFC 4271 §8.2.2).
//!
//! `rustbgpd-fsm` decides the states of one connection; dialling, idle hold and the second
//! connection are [`super::peer`]'s.

use std::net::Ipv4Addr;
use std::time::Duration;

use rustbgpd_fsm as library;
use rustbgpd_wire as wire;

use super::capability;
use super::message::{Malformed, Open};
use super::notification::Notification;
use crate::config::bgp::{Asn, Family};

/// The states of RFC 4271 §8.2.2, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Idle,
    Connect,
    Active,
    OpenSent,
    OpenConfirm,
    Established,
}

impl State {
    /// The RFC's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

/// What the state machine needs to know of both ends.
#[derive(Debug, Clone)]
pub struct Settings {
    pub local_asn: Asn,
    pub local_id: Ipv4Addr,
    pub remote_asn: Asn,
    /// Whole seconds.
    pub hold_time: Duration,
    pub families: Vec<Family>,
}

/// What happened to the connection.
#[derive(Debug)]
pub enum Event {
    Connected,
    Open(Open),
    Keepalive,
    Update,
    RouteRefresh(Family),
    Notification,
    Malformed(Malformed),
    /// An UPDATE that ends the session (RFC 7606 §3 j).
    BadUpdate(Notification),
    HoldExpired,
    KeepaliveDue,
    Closed,
}

/// What must be done, in this order.
#[derive(Debug)]
pub enum Action {
    SendOpen(Open),
    SendKeepalive,
    SendNotification(Notification),
    /// Restart the timer with this time, or stop it.
    Hold(Option<Duration>),
    Keepalive(Option<Duration>),
    Established(Negotiated),
    Close,
}

/// What both ends agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    pub remote_id: Ipv4Addr,
    /// Seconds; 0 is none.
    pub hold_time: u16,
    pub families: Vec<Family>,
    pub four_octet_as: bool,
}

/// One connection's state machine.
#[derive(Debug)]
pub struct Fsm(library::Session);

impl Fsm {
    /// A connection that is being formed.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let mut config =
            library::PeerConfig::new(settings.local_asn.0, settings.remote_asn.0, settings.local_id);
        config.hold_time = settings.hold_time.as_secs() as u16;
        config.families =
            settings.families.iter().map(|family| (afi(*family), wire::Safi::Unicast)).collect();
        // Without this, a neighbor that offers no IPv4 would be taken to carry it (RFC 4760 §8).
        config.disable_ipv4_unicast = !settings.families.contains(&Family::Ipv4);
        let mut session = library::Session::new(config);
        session.handle_event(library::Event::ManualStart);
        Self(session)
    }

    /// The state by now.
    #[must_use]
    pub fn state(&self) -> State {
        match self.0.state() {
            library::SessionState::Idle => State::Idle,
            library::SessionState::Connect => State::Connect,
            library::SessionState::Active => State::Active,
            library::SessionState::OpenSent => State::OpenSent,
            library::SessionState::OpenConfirm => State::OpenConfirm,
            library::SessionState::Established => State::Established,
        }
    }

    /// Takes an event and answers what to do.
    pub fn handle(&mut self, event: Event) -> Vec<Action> {
        let before = self.state();
        let actions = self.0.handle_event(match event {
            Event::Connected => library::Event::TcpConnectionConfirmed,
            Event::Open(open) => library::Event::OpenReceived(open.0),
            Event::Keepalive => library::Event::KeepaliveReceived,
            Event::Update => library::Event::UpdateReceived,
            Event::RouteRefresh(family) => {
                library::Event::RouteRefreshReceived { afi: afi(family), safi: wire::Safi::Unicast }
            }
            // Its content changes nothing in the state machine; the peer keeps it for people.
            Event::Notification => library::Event::NotificationReceived(wire::NotificationMessage::new(
                wire::NotificationCode::Cease,
                0,
                bytes::Bytes::new(),
            )),
            Event::Malformed(malformed) => library::Event::DecodeError(malformed.0),
            Event::BadUpdate(n) => library::Event::UpdateValidationError(wire::NotificationMessage::new(
                wire::NotificationCode::from_u8(n.code),
                n.subcode,
                n.data,
            )),
            Event::HoldExpired => library::Event::HoldTimerExpires,
            Event::KeepaliveDue => library::Event::KeepaliveTimerExpires,
            Event::Closed => library::Event::TcpConnectionFails,
        });
        actions.into_iter().filter_map(|action| translate(action, before)).collect()
    }
}

fn translate(action: library::Action, before: State) -> Option<Action> {
    let seconds = |s: u32| Some(Duration::from_secs(u64::from(s)));
    Some(match action {
        library::Action::SendOpen(open) => Action::SendOpen(Open(open).offering_only(&capability::OFFERED)),
        library::Action::SendKeepalive => Action::SendKeepalive,
        library::Action::SendNotification(n) => Action::SendNotification(Notification {
            code: n.code.as_u8(),
            subcode: match (n.code.as_u8(), n.subcode) {
                (5, 0) => unexpected_message_in(before),
                (_, subcode) => subcode,
            },
            data: n.data,
        }),
        library::Action::StartTimer(library::TimerType::Hold, s) => Action::Hold(seconds(s)),
        library::Action::StopTimer(library::TimerType::Hold) => Action::Hold(None),
        library::Action::StartTimer(library::TimerType::Keepalive, s) => Action::Keepalive(seconds(s)),
        library::Action::StopTimer(library::TimerType::Keepalive) => Action::Keepalive(None),
        library::Action::SessionEstablished(n) => Action::Established(Negotiated {
            remote_id: n.peer_router_id,
            hold_time: n.hold_time,
            families: n.negotiated_families.iter().filter_map(|&(afi, safi)| family(afi, safi)).collect(),
            four_octet_as: n.four_octet_as,
        }),
        library::Action::CloseTcpConnection => Action::Close,
        _ => return None,
    })
}

/// RFC 6608 §3.
fn unexpected_message_in(state: State) -> u8 {
    match state {
        State::OpenSent => 1,
        State::OpenConfirm => 2,
        State::Established => 3,
        State::Idle | State::Connect | State::Active => 0,
    }
}

fn afi(family: Family) -> wire::Afi {
    match family {
        Family::Ipv4 => wire::Afi::Ipv4,
        Family::Ipv6 => wire::Afi::Ipv6,
    }
}

fn family(afi: wire::Afi, safi: wire::Safi) -> Option<Family> {
    match (afi, safi) {
        (wire::Afi::Ipv4, wire::Safi::Unicast) => Some(Family::Ipv4),
        (wire::Afi::Ipv6, wire::Safi::Unicast) => Some(Family::Ipv6),
        _ => None,
    }
}
