//! The first look at a datagram: whose it is, and whether its source may cost us a handshake.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, TunnResult};
use boringtun::x25519;

use super::counters::Drops;
use super::{Kind, Pair, PrivateKey, PublicKey, Reason};
use crate::backhaul::limit::{Buckets, Limits};

/// A cookie reply is this long, and no longer than what it answers.
const COOKIE: usize = 64;

/// Shared by all peers. Its cookies are made with boringtun's clock.
pub struct Door {
    keys: Vec<Key>,
    buckets: Buckets,
    limits: Limits,
    pub drops: Drops,
    /// Cookies asked of others.
    pub cookies: u64,
}

struct Key {
    private: x25519::StaticSecret,
    public: x25519::PublicKey,
    load: RateLimiter,
}

/// Whom a datagram is for.
#[derive(Debug, PartialEq, Eq)]
pub enum Sorted<'b> {
    /// A session's: find the peer with [`super::Indexes::find`].
    Receiver(u32),
    /// The beginning of a handshake by the holder of this key.
    Initiation(PublicKey),
    /// Send this back: the source must prove its address first.
    Reply(&'b [u8]),
    Refused(Reason),
}

impl Door {
    #[must_use]
    pub fn new(keys: &Pair<PrivateKey>, limits: Limits, now: Instant) -> Self {
        let mut door = Self {
            keys: Vec::new(),
            buckets: Buckets::new(limits, now),
            limits,
            drops: Drops::default(),
            cookies: 0,
        };
        door.set_keys(keys);
        door
    }

    /// Other keys of ours. A key that stays keeps its count and its cookies.
    pub fn set_keys(&mut self, keys: &Pair<PrivateKey>) {
        let mut old = std::mem::take(&mut self.keys);
        for private in std::iter::once(&keys.present).chain(&keys.next) {
            let public = x25519::PublicKey::from(&private.0);
            let kept = old.iter().position(|key| key.public == public).map(|at| old.swap_remove(at));
            self.keys.push(kept.unwrap_or_else(|| Key {
                private: private.0.clone(),
                public,
                load: RateLimiter::new(&public, self.limits.under_load),
            }));
        }
    }

    /// Sorts a datagram. `known`: the address is the present endpoint of a peer; such a source has no bucket, so that
    /// who forges its address cannot empty it, and proves itself by a cookie under load as everybody does.
    /// `out` holds at least 64 octets.
    pub fn sort<'b>(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        known: impl Fn(IpAddr) -> bool,
        now: Instant,
        out: &'b mut [u8],
    ) -> Sorted<'b> {
        let sorted = match Kind::of(datagram) {
            Some(Kind::Response(receiver) | Kind::Cookie(receiver) | Kind::Data(receiver, _)) => {
                Ok(Sorted::Receiver(receiver))
            }
            Some(Kind::Initiation) => self.initiation(datagram, from.ip().to_canonical(), known, now, out),
            None => Err(Reason::Malformed),
        };
        sorted.unwrap_or_else(|reason| {
            self.drops.count(reason);
            Sorted::Refused(reason)
        })
    }

    /// Cheap checks first: a table, a hash, and only then Curve25519.
    fn initiation<'b>(
        &mut self,
        datagram: &[u8],
        from: IpAddr,
        known: impl Fn(IpAddr) -> bool,
        now: Instant,
        out: &'b mut [u8],
    ) -> Result<Sorted<'b>, Reason> {
        if !known(from) && !self.buckets.take(from, now) {
            return Err(Reason::RateLimited);
        }
        for key in &self.keys {
            key.load.reset_count();
            let mut cookie = [0; COOKIE];
            match key.load.verify_packet(Some(from), datagram, &mut cookie) {
                Ok(Packet::HandshakeInit(initiation)) => {
                    let half = parse_handshake_anon(&key.private, &key.public, &initiation)
                        .map_err(|_| Reason::NotAuthentic)?;
                    return Ok(Sorted::Initiation(PublicKey(half.peer_static_public)));
                }
                Err(TunnResult::WriteToNetwork(reply)) => {
                    let out = out.get_mut(..reply.len()).ok_or(Reason::Oversize)?;
                    out.copy_from_slice(reply);
                    self.cookies += 1;
                    return Ok(Sorted::Reply(out));
                }
                // It is meant for the other key, if for any.
                _ => {}
            }
        }
        Err(Reason::BadMac)
    }
}
