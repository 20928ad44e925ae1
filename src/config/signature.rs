//! The operator's signature over a configuration: Ed25519 (RFC 8032), detached, over the octets of the file.

use std::fmt;

use ring::signature::{ED25519, UnparsedPublicKey};

use super::base64;

/// The most octets of a signature file that are looked at: 64 in base64 and some white space.
pub(super) const MOST_OCTETS: usize = 256;
/// What stands before the key in a SubjectPublicKeyInfo (RFC 8410 §4).
const BEFORE_KEY: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An Ed25519 public key: who may change the configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OperatorKey([u8; 32]);

impl OperatorKey {
    /// From base64: the 32 octets of the key, or the 44 of a SubjectPublicKeyInfo, which is the middle line
    /// of a PEM file.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let octets = base64::decode(text)?;
        let key = octets.strip_prefix(&BEFORE_KEY).unwrap_or(&octets);
        key.try_into().ok().map(Self)
    }

    /// Whether the owner of the key has signed this very text.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(&self, text: &str, signature: Option<&Signature>) -> Result<(), SignatureError> {
        let Signature(octets) = signature.ok_or(SignatureError::Missing)?;
        if octets.len() != 64 {
            return Err(SignatureError::Malformed);
        }
        let key = UnparsedPublicKey::new(&ED25519, self.0);
        key.verify(text.as_bytes(), octets).map_err(|_| SignatureError::Wrong)
    }
}

impl fmt::Display for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::encode(&self.0))
    }
}

impl fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorKey({self})")
    }
}

/// A detached signature as it was found; whether it is one is only known when it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature(Vec<u8>);

impl Signature {
    /// From the octets of a file: 64 octets as openssl writes them, or the same in base64.
    #[must_use]
    pub fn read(octets: &[u8]) -> Self {
        let text = str::from_utf8(octets).ok().filter(|_| octets.len() != 64);
        Self(text.and_then(base64::decode).unwrap_or_else(|| octets.to_vec()))
    }

    /// In base64.
    #[must_use]
    pub fn text(&self) -> String {
        base64::encode(&self.0)
    }
}

/// Why a text does not count as signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error(
        "the configuration is not signed, and admin.operator_key asks for it\n  hint: `openssl pkeyutl -sign -rawin -inkey KEY.pem -in FILE -out FILE.sig`"
    )]
    Missing,
    #[error("the signature is no Ed25519 signature: 64 octets, raw or in base64, are expected in FILE.sig")]
    Malformed,
    #[error(
        "the signature does not fit: the file was changed after it was signed, or signed by another key than admin.operator_key"
    )]
    Wrong,
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    fn pair() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn key() -> OperatorKey {
        OperatorKey::read(&base64::encode(pair().public_key().as_ref())).unwrap()
    }

    #[test]
    fn a_key_is_read_raw_or_as_the_middle_line_of_a_pem() {
        let spki = [&BEFORE_KEY[..], pair().public_key().as_ref()].concat();
        assert_eq!(OperatorKey::read(&base64::encode(&spki)), Some(key()));
        assert_eq!(OperatorKey::read(&key().to_string()), Some(key()));
        for wrong in [&spki[1..], &spki[..43], b"", &[1; 31]] {
            assert_eq!(OperatorKey::read(&base64::encode(wrong)), None);
        }
        assert_eq!(OperatorKey::read("-----BEGIN PUBLIC KEY-----"), None);
    }

    #[test]
    fn only_this_text_under_this_key_is_signed() {
        let text = "generation: 8\n";
        let raw = pair().sign(text.as_bytes());
        let signature = Signature::read(raw.as_ref());
        let in_lines = base64::encode(raw.as_ref()).replacen("A", "A\n", 1) + "\n";
        assert_eq!(Signature::read(in_lines.as_bytes()), signature);
        assert_eq!(Signature::read(signature.text().as_bytes()), signature);

        let other = OperatorKey::read(&base64::encode(&[9; 32])).unwrap();
        let mut bent = raw.as_ref().to_vec();
        bent[3] ^= 1;
        let table = [
            (key(), text, Some(signature.clone()), Ok(())),
            (key(), text, None, Err(SignatureError::Missing)),
            (key(), "generation: 9\n", Some(signature.clone()), Err(SignatureError::Wrong)),
            (other, text, Some(signature), Err(SignatureError::Wrong)),
            (key(), text, Some(Signature(bent)), Err(SignatureError::Wrong)),
            (key(), text, Some(Signature::read(b"")), Err(SignatureError::Malformed)),
            (key(), text, Some(Signature::read(b"signed, honestly")), Err(SignatureError::Malformed)),
        ];
        for (key, text, signature, expected) in table {
            assert_eq!(key.verify(text, signature.as_ref()), expected, "{signature:?}");
        }
    }
}
