//! One connection of a collector: read, stamp, decode, answer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::{MAX_EVENTS, Route, Shared, WRITE_TIMEOUT, craft, lock, set_ttl};
use crate::bgp_stream::framing::{Frame, Framer};
use crate::bgp_stream::message::{self, AFI_IPV4, AFI_IPV6, Open, SAFI_UNICAST};
use crate::bgp_stream::{Event, Kind};
use crate::moment::Moment;

const PAUSE_POLL: Duration = Duration::from_millis(5);
/// While the peer's offer is not known (RFC 4271 §8.2.2 suggests four minutes; a lab wants to see it sooner).
const WAIT_FOR_OPEN: Duration = Duration::from_secs(60);

/// Serves the connection to its end.
pub(super) fn run(shared: &Arc<Shared>, connection: TcpStream) {
    let (Ok(peer), Ok(local)) = (connection.peer_addr(), connection.local_addr()) else { return };
    let ready = connection
        .set_nodelay(true)
        .and_then(|()| connection.set_write_timeout(Some(WRITE_TIMEOUT)))
        .and_then(|()| set_ttl(&SockRef::from(&connection), peer, shared.options.ttl));
    if ready.is_err() {
        return;
    }
    let connection = Arc::new(connection);
    shared.closing.store(false, Ordering::Release);
    *lock(&shared.connection) = Some(Arc::clone(&connection));
    let mut session = Session {
        shared,
        peer,
        local,
        connection,
        framer: Framer::at_start(),
        keepalive: None,
        heard: Moment::now(),
        offers_as4: true,
        opened: false,
    };
    let reset = session.read_to_end();
    // Order matters for a reset: the socket closes when its last holder lets go, and the event comes after.
    *lock(&shared.connection) = None;
    let Session { peer, local, connection, .. } = session;
    drop(connection);
    let mut seen = shared.lock();
    seen.routes.clear();
    seen.established = None;
    if !shared.closing.load(Ordering::Acquire) && seen.events.len() < MAX_EVENTS {
        seen.events.push(Event::between(Moment::now(), peer, local, Kind::Closed { reset }));
    }
    drop(seen);
    shared.changed.notify_all();
}

struct Session<'a> {
    shared: &'a Shared,
    peer: SocketAddr,
    local: SocketAddr,
    connection: Arc<TcpStream>,
    framer: Framer,
    /// How often to send one; also the read timeout.
    keepalive: Option<Duration>,
    /// When the last bytes came, for the hold timer: three times `keepalive`.
    heard: Moment,
    offers_as4: bool,
    opened: bool,
}

impl Session<'_> {
    /// Reads until the end; whether the end was a RST.
    fn read_to_end(&mut self) -> bool {
        let mut buffer = vec![0u8; 1 << 17];
        let mut last_sent = Moment::now();
        loop {
            if self.shared.is_stopping() {
                return false;
            }
            if let Some(interval) = self.keepalive
                && Moment::now().since(last_sent) >= interval
            {
                // A failed write shows in the next read.
                let _ = (&*self.connection).write_all(&craft::keepalive());
                last_sent = Moment::now();
            }
            if self.shared.paused.load(Ordering::Acquire) {
                // Who does not listen cannot complain of silence.
                self.heard = Moment::now();
                thread::sleep(PAUSE_POLL);
                continue;
            }
            // RFC 4271 §6.5: hold timer expired.
            if self.keepalive.is_some_and(|interval| Moment::now().since(self.heard) > interval * 3) {
                let _ = (&*self.connection).write_all(&craft::notification(4, 0, &[]));
                return false;
            }
            let wait = match self.keepalive {
                Some(interval) => {
                    interval.saturating_sub(Moment::now().since(last_sent)).max(Duration::from_millis(1))
                }
                None => WAIT_FOR_OPEN,
            };
            if self.connection.set_read_timeout(Some(wait)).is_err() {
                return false;
            }
            match (&*self.connection).read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    // Taken right after the read: this is the time "read by the neighbor".
                    let at = Moment::now();
                    self.heard = at;
                    self.framer.push(&buffer[..count]);
                    self.take_messages(at);
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }

    fn take_messages(&mut self, at: Moment) {
        let mut kinds = Vec::new();
        while let Some(frame) = self.framer.poll() {
            let kind = match frame {
                Frame::Bad(why) => Kind::Malformed(why),
                Frame::Message(bytes) => message::decode(&bytes, self.offers_as4),
            };
            if let Kind::Open(open) = &kind {
                self.offers_as4 = open.offers_as4;
                self.answer_open(open);
            }
            kinds.push(kind);
        }
        let mut seen = self.shared.lock();
        for kind in kinds {
            match &kind {
                Kind::Keepalive if self.opened && seen.established.is_none() => {
                    seen.established = Some(at);
                    seen.sessions += 1;
                }
                Kind::Update(update) => {
                    for prefix in &update.withdrawn {
                        seen.routes.remove(prefix);
                    }
                    for prefix in &update.announced {
                        let route = Route { attributes: update.attributes.clone(), since: at };
                        seen.routes.insert(*prefix, route);
                    }
                }
                _ => {}
            }
            if seen.events.len() < MAX_EVENTS {
                seen.events.push(Event::between(at, self.peer, self.local, kind));
            } else {
                seen.left_out += 1;
            }
        }
        drop(seen);
        self.shared.changed.notify_all();
    }

    /// RFC 4271 §6.2 would have much to check; this neighbor accepts everybody and offers
    /// the unicast families that the peer offered.
    fn answer_open(&mut self, open: &Open) {
        if self.shared.options.mute || self.opened {
            return;
        }
        let options = &self.shared.options;
        let hold_s = options.hold_s.min(open.hold_s);
        let families: Vec<_> = open
            .families
            .iter()
            .copied()
            .filter(|family| [(AFI_IPV4, SAFI_UNICAST), (AFI_IPV6, SAFI_UNICAST)].contains(family))
            .collect();
        let mut answer = craft::open(options.asn, options.hold_s, options.router_id, &families);
        answer.extend(craft::keepalive());
        if (&*self.connection).write_all(&answer).is_ok() {
            self.opened = true;
            self.keepalive = (hold_s > 0).then(|| Duration::from_secs(hold_s.into()) / 3);
        }
    }
}
