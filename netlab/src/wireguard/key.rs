//! Key pairs of a lab: made anew for each run, written as `wg` writes them, and put into texts by name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

use x25519_dalek::{PublicKey, StaticSecret};

/// A static key pair.
#[derive(Clone)]
pub struct KeyPair {
    private: [u8; 32],
    public: [u8; 32],
}

impl KeyPair {
    /// A fresh one.
    ///
    /// # Errors
    /// When the system gives no random octets.
    pub fn generate() -> io::Result<Self> {
        let mut private = [0; 32];
        random(&mut private)?;
        let secret = StaticSecret::from(private);
        // As `wg genkey` writes it, with the bits set that X25519 sets anyway (RFC 7748 §5).
        private[0] &= 248;
        private[31] = private[31] & 127 | 64;
        Ok(Self { private, public: PublicKey::from(&secret).to_bytes() })
    }

    /// In base64.
    #[must_use]
    pub fn private(&self) -> String {
        encode(&self.private)
    }

    /// In base64.
    #[must_use]
    pub fn public(&self) -> String {
        encode(&self.public)
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair({})", self.public())
    }
}

/// Fills a buffer with random octets.
///
/// # Errors
/// When the system gives none.
pub fn random(octets: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(octets)
}

/// Puts keys into a text: `{{private NAME}}`, `{{public NAME}}`. The first use of a name makes its pair.
///
/// # Errors
/// For braces that are never closed, other words in them, or a system without random octets.
pub fn fill(text: &str, pairs: &mut BTreeMap<String, KeyPair>) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (words, after) = after.split_once("}}").ok_or("a {{ is never closed")?;
        let (half, name) = words.trim().split_once(' ').unwrap_or((words, ""));
        if !pairs.contains_key(name) {
            let pair = KeyPair::generate().map_err(|error| error.to_string())?;
            pairs.insert(name.to_owned(), pair);
        }
        filled.push_str(before);
        filled.push_str(&match half {
            "private" if !name.is_empty() => pairs[name].private(),
            "public" if !name.is_empty() => pairs[name].public(),
            _ => {
                return Err(format!(
                    "{{{{{words}}}}} is neither {{{{private NAME}}}} nor {{{{public NAME}}}}"
                ));
            }
        });
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// RFC 4648 §4.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(key: &[u8; 32]) -> String {
    let mut text = String::with_capacity(44);
    for part in key.chunks(3) {
        let at = |index: usize| u32::from(part.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let known = place <= part.len();
            let sextet = (bits >> (18 - 6 * place) & 63) as usize;
            text.push(if known { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

/// The 32 octets of a key in base64.
///
/// # Errors
/// In words, when it is none.
pub fn decode(text: &str) -> Result<[u8; 32], String> {
    let no_key = || format!("{text:?} is not a key: 32 octets in base64, as `wg pubkey` says them");
    let digits = text.trim().strip_suffix('=').filter(|digits| digits.len() == 43).ok_or_else(no_key)?;
    let mut key = Vec::with_capacity(33);
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit).ok_or_else(no_key)?;
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            key.push((bits >> count) as u8);
        }
    }
    key.try_into().map_err(|_| no_key())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_octets_in_base64() {
        let key: [u8; 32] = std::array::from_fn(|index| (index * 37 + 5) as u8);
        assert_eq!(decode(&encode(&key)), Ok(key));
        assert_eq!(encode(&[0; 32]), format!("{}=", "A".repeat(43)));
        assert_eq!(encode(&[255; 32]), format!("{}8=", "/".repeat(42)));
        for bad in ["", "AAAA", &"A".repeat(44), &format!("{}=", "-".repeat(43))] {
            assert!(decode(bad).unwrap_err().contains("wg pubkey"), "{bad}");
        }
    }

    #[test]
    fn the_public_half_belongs_to_the_private_one_that_is_written() {
        let pair = KeyPair::generate().unwrap();
        let written = decode(&pair.private()).unwrap();
        assert_eq!(PublicKey::from(&StaticSecret::from(written)).to_bytes(), decode(&pair.public()).unwrap());
        assert_eq!((written[0] & 7, written[31] & 192), (0, 64));
        assert!(!format!("{pair:?}").contains(&pair.private()));
    }

    #[test]
    fn names_become_keys_and_one_name_is_one_key() {
        let mut pairs = BTreeMap::new();
        let text = fill("a {{public one}} b {{ private one }} c {{public two}}", &mut pairs).unwrap();
        let (one, two) = (&pairs["one"], &pairs["two"]);
        assert_eq!(text, format!("a {} b {} c {}", one.public(), one.private(), two.public()));
        assert_ne!(one.public(), two.public());
        assert_eq!(fill("{ a: { b: c } }", &mut pairs).unwrap(), "{ a: { b: c } }");
        for bad in ["{{public one", "{{public}}", "{{secret one}}"] {
            assert!(fill(bad, &mut pairs).is_err(), "{bad}");
        }
    }
}
