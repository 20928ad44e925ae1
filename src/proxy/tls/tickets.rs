//! Session tickets (RFC 5077, RFC 8446 §4.6.1) under keys that all workers share and that are made anew now and then.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;

/// Keys that still open tickets: the one in use and the two before.
const KEPT: usize = 3;
const NAME: usize = 16;
const SECRET: usize = 32;

/// One key with the name by which tickets call it.
#[derive(Clone)]
pub struct TicketKey {
    name: [u8; NAME],
    key: Arc<LessSafeKey>,
}

impl TicketKey {
    /// A key of 32 octets with a name of 16, as POPs may share it.
    #[must_use]
    pub fn new(name: [u8; NAME], secret: &[u8; SECRET]) -> Option<Self> {
        let key = Arc::new(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret).ok()?));
        Some(Self { name, key })
    }

    fn random() -> Option<Self> {
        let (mut name, mut secret) = ([0; NAME], [0; SECRET]);
        let random = SystemRandom::new();
        random.fill(&mut name).ok()?;
        random.fill(&mut secret).ok()?;
        Self::new(name, &secret)
    }
}

/// The keys of the process.
pub struct Tickets {
    /// The newest first; never more than [`KEPT`].
    keys: RwLock<Vec<TicketKey>>,
    random: SystemRandom,
    /// How long clients may keep a ticket, in seconds.
    lifetime: u32,
}

impl Tickets {
    /// One fresh key. Without randomness there are no tickets, only full handshakes.
    #[must_use]
    pub fn new(lifetime: u32) -> Self {
        let keys = RwLock::new(TicketKey::random().into_iter().collect());
        Self { keys, random: SystemRandom::new(), lifetime }
    }

    /// A fresh key takes over; the two before still open what they have sealed.
    pub fn rotate(&self) {
        if let Some(key) = TicketKey::random() {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            keys.insert(0, key);
            keys.truncate(KEPT);
        }
    }

    /// Takes keys over from elsewhere, the newest first.
    pub fn set_keys(&self, mut fresh: Vec<TicketKey>) {
        fresh.truncate(KEPT);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let newest = self.keys.read().unwrap_or_else(PoisonError::into_inner).first().cloned()?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let tag = newest.key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(newest.name),
            &mut sealed,
        );
        Some([&newest.name[..], &nonce, &sealed, tag.ok()?.as_ref()].concat())
    }

    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.iter().find(|key| key.name == *name)?.clone();
        drop(keys);
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.key.open_in_place(nonce, Aad::from(*name), &mut sealed).ok()?;
        Some(plain.to_vec())
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        !self.keys.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn lifetime(&self) -> u32 {
        self.lifetime
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_outlives_two_rotations_and_not_three() {
        let tickets = Tickets::new(3600);
        let ticket = tickets.encrypt(b"secret of a session").unwrap();
        for _ in 0..2 {
            tickets.rotate();
            assert_eq!(tickets.decrypt(&ticket).unwrap(), b"secret of a session");
        }
        tickets.rotate();
        assert_eq!(tickets.decrypt(&ticket), None);
    }

    #[test]
    fn what_was_altered_or_is_no_ticket_does_not_open() {
        let tickets = Tickets::new(3600);
        let ticket = tickets.encrypt(b"plain").unwrap();
        for at in 0..ticket.len() {
            let mut altered = ticket.clone();
            altered[at] ^= 1;
            assert_eq!(tickets.decrypt(&altered), None, "{at}");
            assert_eq!(tickets.decrypt(&ticket[..at]), None, "{at}");
        }
    }

    #[test]
    fn pops_share_keys() {
        let key = TicketKey::new([7; 16], &[9; 32]).unwrap();
        let (here, there) = (Tickets::new(1), Tickets::new(1));
        here.set_keys(vec![key.clone()]);
        there.set_keys(vec![TicketKey::new([1; 16], &[2; 32]).unwrap(), key]);
        assert_eq!(there.decrypt(&here.encrypt(b"x").unwrap()).unwrap(), b"x");
    }
}
