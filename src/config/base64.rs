//! Base64 (RFC 4648 §4) as openssl writes it: with padding, and line ends that mean nothing.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The octets of a text; None if it is anything but padded base64 and white space.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let letters: Vec<u8> = text.bytes().filter(|letter| !letter.is_ascii_whitespace()).collect();
    let body = letters.strip_suffix(b"==").or(letters.strip_suffix(b"=")).unwrap_or(&letters);
    if !letters.len().is_multiple_of(4) {
        return None;
    }
    let mut octets = Vec::with_capacity(body.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for letter in body {
        let value = ALPHABET.iter().position(|known| known == letter)?;
        bits = bits << 6 | value as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            octets.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    // RFC 4648 §3.5: what is left over is zero, so that every value has one spelling.
    (bits == 0).then_some(octets)
}

/// The text of some octets, in one line.
pub(super) fn encode(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let bits =
            group.iter().fold(0, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place) & 63) as usize;
            text.push(if place <= group.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_vectors_of_the_rfc() {
        // RFC 4648 §10.
        for (octets, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(octets.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(octets.as_bytes()));
        }
        assert_eq!(decode("Zm9v\r\nYmFy\n").as_deref(), Some(&b"foobar"[..]));
    }

    #[test]
    fn anything_else_is_none() {
        for text in
            ["Z", "Zg", "Zg=", "Zh==", "Zm9=", "Z===", "Zm9v=", "Zm9v====", "Zm-v", "=Zg=", "Zg==Zg=="]
        {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(octets in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decode(&encode(&octets)), Some(octets));
        }
    }
}
