//! Keys of WireGuard: Curve25519, 32 octets.

use std::fmt;

use boringtun::x25519;

/// Ours. It never leaves the machine, and no text shows it.
#[derive(Clone)]
pub struct PrivateKey(pub(super) x25519::StaticSecret);

/// Somebody's public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

impl PrivateKey {
    #[must_use]
    pub fn new(octets: [u8; 32]) -> Self {
        Self(x25519::StaticSecret::from(octets))
    }

    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519::PublicKey::from(&self.0).to_bytes())
    }

    /// The key itself, for the kernel and nobody else.
    #[must_use]
    pub fn octets(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// What we share with the holder of a key, and nobody else knows (RFC 7748 §6.1). Not to be used as it is.
    #[must_use]
    pub fn agree(&self, theirs: &PublicKey) -> [u8; 32] {
        self.0.diffie_hellman(&x25519::PublicKey::from(theirs.0)).to_bytes()
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.public() == other.public()
    }
}

impl Eq for PrivateKey {}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {:02x?}…)", &self.public().0[..4])
    }
}

/// Keys that are in use while one is replaced by the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair<T> {
    pub present: T,
    pub next: Option<T>,
}

impl<T> Pair<T> {
    pub fn only(present: T) -> Self {
        Self { present, next: None }
    }

    /// The one to move to.
    pub fn newest(&self) -> &T {
        self.next.as_ref().unwrap_or(&self.present)
    }
}
