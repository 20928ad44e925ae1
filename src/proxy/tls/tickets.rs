//! Keys of session tickets (RFC 5077, RFC 8446 §4.6.1): one ring for all threads, turned on time, or shared by POPs.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;

/// Keys that open tickets besides the one that seals them.
pub const OLDER_KEYS: usize = 2;
/// The longest that a ticket may be said to live (RFC 8446 §4.6.1).
const MOST_LIFETIME: Duration = Duration::from_hours(24 * 7);
/// How often the ring is turned when nobody says otherwise.
const EVERY: Duration = Duration::from_hours(6);
const NAME: usize = 8;
const SALT: usize = 16;
const TAG: usize = 16;

/// A secret that tickets are sealed under. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey(pub [u8; 32]);

impl TicketKey {
    /// # Errors
    /// The system has no randomness.
    pub fn random() -> Result<Self, Unspecified> {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key)?;
        Ok(Self(key))
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey")
    }
}

/// The ring.
#[derive(Debug)]
pub struct Tickets(RwLock<Ring>);

#[derive(Debug)]
struct Ring {
    /// The first seals; the others only open.
    keys: Vec<Key>,
    every: Duration,
    turned: Turned,
}

/// When a ring was turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turned {
    /// Nobody has told the time yet.
    Never,
    At(Instant),
    /// Somebody else turns it.
    Elsewhere,
}

impl Default for Tickets {
    /// One random key; its time begins when [`handle_time`](Self::handle_time) is first told. Without randomness there
    /// is none, and only full handshakes.
    fn default() -> Self {
        let keys = TicketKey::random().iter().map(Key::new).collect();
        Self(RwLock::new(Ring { keys, every: EVERY, turned: Turned::Never }))
    }
}

impl Tickets {
    /// Changes how often it turns.
    pub fn set_interval(&self, every: Duration) {
        self.write().every = every;
    }

    /// Turns the ring if it is due: a new key seals, and one older than [`OLDER_KEYS`] is forgotten. Without
    /// randomness the ring stays, and is tried again the next time. Any thread may tell the time, and as often as it
    /// likes.
    pub fn handle_time(&self, now: Instant) {
        if !self.read().is_due(now) {
            return;
        }
        let mut ring = self.write();
        // Another thread may have been faster.
        if !ring.is_due(now) {
            return;
        }
        if ring.turned == Turned::Never {
            ring.turned = Turned::At(now);
        } else if let Ok(key) = TicketKey::random() {
            ring.keys.insert(0, Key::new(&key));
            ring.keys.truncate(1 + OLDER_KEYS);
            ring.turned = Turned::At(now);
        }
    }

    /// Takes keys that several POPs share: the first seals, and at most [`OLDER_KEYS`] after it open. From now on the
    /// ring does not turn by itself. Without a key nothing changes.
    pub fn set_keys(&self, keys: &[TicketKey]) {
        if keys.is_empty() {
            return;
        }
        let mut ring = self.write();
        ring.keys = keys.iter().take(1 + OLDER_KEYS).map(Key::new).collect();
        ring.turned = Turned::Elsewhere;
    }

    /// The ring for one kind of sessions. Tickets of another `context` are not opened: a client that was let in without
    /// a certificate must not resume where one is required.
    #[must_use]
    pub fn bound_to(self: &Arc<Self>, context: [u8; 32]) -> Arc<dyn ProducesTickets> {
        Arc::new(Bound { tickets: Arc::clone(self), context })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Ring> {
        // Nothing that can panic leaves the ring half turned.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Ring> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn is_due(&self, now: Instant) -> bool {
        match self.turned {
            Turned::Never => true,
            Turned::At(turned) => now.saturating_duration_since(turned) >= self.every,
            Turned::Elsewhere => false,
        }
    }
}

/// A key as it is used.
struct Key {
    /// Goes before each ticket, so that the right key is tried and no other.
    name: [u8; NAME],
    secret: hmac::Key,
}

impl Key {
    fn new(key: &TicketKey) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &key.0);
        let tag = hmac::sign(&secret, b"edgeproxy ticket key name");
        let mut name = [0; NAME];
        name.copy_from_slice(&tag.as_ref()[..NAME]);
        Self { name, secret }
    }

    /// Each ticket has a key of its own: POPs may seal as many as they like without counting nonces together.
    fn of_ticket(&self, context: &[u8; 32], salt: &[u8]) -> Option<LessSafeKey> {
        let mut derive = hmac::Context::with_key(&self.secret);
        derive.update(b"edgeproxy ticket");
        derive.update(context);
        derive.update(salt);
        UnboundKey::new(&AES_256_GCM, derive.sign().as_ref()).ok().map(LessSafeKey::new)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:02x?})", self.name)
    }
}

/// The ring as one configuration uses it.
#[derive(Debug)]
struct Bound {
    tickets: Arc<Tickets>,
    context: [u8; 32],
}

/// The key is used for this one ticket.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

impl ProducesTickets for Bound {
    fn enabled(&self) -> bool {
        true
    }

    /// As long as the youngest ticket of a key is sure to be opened.
    fn lifetime(&self) -> u32 {
        let whole = self.tickets.read().every.saturating_mul(OLDER_KEYS as u32);
        u32::try_from(whole.min(MOST_LIFETIME).as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let ring = self.tickets.read();
        let key = ring.keys.first()?;
        let mut ticket = Vec::with_capacity(NAME + SALT + plain.len() + TAG);
        ticket.extend_from_slice(&key.name);
        ticket.resize(NAME + SALT, 0);
        SystemRandom::new().fill(&mut ticket[NAME..]).ok()?;
        let own = key.of_ticket(&self.context, &ticket[NAME..])?;
        ticket.extend_from_slice(plain);
        let tag = own.seal_in_place_separate_tag(nonce(), Aad::empty(), &mut ticket[NAME + SALT..]).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (salt, sealed) = rest.split_at_checked(SALT)?;
        let own = {
            let ring = self.tickets.read();
            ring.keys.iter().find(|key| key.name == name)?.of_ticket(&self.context, salt)?
        };
        let mut plain = sealed.to_vec();
        let length = own.open_in_place(nonce(), Aad::empty(), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn ring() -> (Arc<Tickets>, Instant) {
        let now = Instant::now();
        let tickets = Tickets::default();
        tickets.set_interval(HOUR);
        tickets.handle_time(now);
        (Arc::new(tickets), now)
    }

    #[test]
    fn two_older_keys_still_open() {
        let (tickets, now) = ring();
        let bound = tickets.bound_to([1; 32]);
        let ticket = bound.encrypt(b"state").unwrap();
        assert_ne!(bound.encrypt(b"state").unwrap(), ticket);
        tickets.handle_time(now + HOUR - Duration::from_nanos(1));
        assert_eq!(tickets.read().keys.len(), 1);
        for turn in 1..=3 {
            assert_eq!(bound.decrypt(&ticket).as_deref(), Some(&b"state"[..]), "turn {turn}");
            tickets.handle_time(now + HOUR * turn);
            tickets.handle_time(now + HOUR * turn);
        }
        assert_eq!(bound.decrypt(&ticket), None);
        assert_eq!(tickets.read().keys.len(), 3);
        assert_eq!(bound.lifetime(), 7_200);
        tickets.set_interval(Duration::from_hours(24 * 30));
        assert_eq!(bound.lifetime(), 604_800);
    }

    #[test]
    fn another_context_opens_nothing() {
        let (tickets, _) = ring();
        let ticket = tickets.bound_to([1; 32]).encrypt(b"no certificate").unwrap();
        assert_eq!(tickets.bound_to([2; 32]).decrypt(&ticket), None);
        assert!(tickets.bound_to([1; 32]).decrypt(&ticket).is_some());
    }

    #[test]
    fn pops_with_the_same_keys_open_each_others_tickets() {
        let (here, now) = ring();
        let (there, _) = ring();
        let keys: Vec<_> = (0..5).map(|octet| TicketKey([octet; 32])).collect();
        here.set_keys(&keys[1..]);
        there.set_keys(&keys);
        assert_eq!(here.read().keys.len(), 3);
        here.handle_time(now + HOUR * 9);
        let [sent, back] = [here.bound_to([0; 32]), there.bound_to([0; 32])];
        assert_eq!(back.decrypt(&sent.encrypt(b"x").unwrap()).as_deref(), Some(&b"x"[..]));
        assert_eq!(sent.decrypt(&back.encrypt(b"x").unwrap()), None, "key 0 is not known here yet");
        here.set_keys(&[]);
        assert!(sent.decrypt(&sent.encrypt(b"x").unwrap()).is_some());
    }

    proptest! {
        #[test]
        fn what_was_changed_is_refused(plain in vec(any::<u8>(), 0..90), at in 0_usize..130, by in 1_u8..) {
            let (tickets, _) = ring();
            let bound = tickets.bound_to([7; 32]);
            let mut ticket = bound.encrypt(&plain).unwrap();
            prop_assert_eq!(bound.decrypt(&ticket), Some(plain));
            let at = at % ticket.len();
            for end in [at, ticket.len() - 1] {
                prop_assert_eq!(bound.decrypt(&ticket[..end]), None);
            }
            ticket[at] ^= by;
            prop_assert_eq!(bound.decrypt(&ticket), None);
        }
    }
}
