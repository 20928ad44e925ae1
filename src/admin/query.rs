//! The query part of a request target: percent-encoding both ways.

use std::fmt::Write;

/// The decoded value of the first `key=…` in a query; None if it is absent or not UTF-8.
#[must_use]
pub fn value(query: &str, key: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key).and_then(|(_, value)| decode(value))
}

/// A value as it may stand in a query.
#[must_use]
pub fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        // RFC 3986 §2.3, and those of §3.4 that have no meaning in our queries.
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high << 4 | low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_and_decodes() {
        assert_eq!(value("prefix=198.51.100.0/24", "prefix").as_deref(), Some("198.51.100.0/24"));
        assert_eq!(value("a=1&prefix=2001:db8::%2F32", "prefix").as_deref(), Some("2001:db8::/32"));
        assert_eq!(value("a=1", "prefix"), None);
        assert_eq!(value("prefix=%f", "prefix"), None);
        assert_eq!(value("prefix=%ff", "prefix"), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(text in ".*") {
            let encoded = encode(&text);
            prop_assert!(encoded.is_ascii() && !encoded.contains(['&', ' ', '#', '?']));
            let query = format!("x=1&key={encoded}&y=2");
            prop_assert_eq!(value(&query, "key"), Some(text));
        }

        #[test]
        fn anything_may_be_asked(query in ".*") {
            let _ = value(&query, "prefix");
        }
    }
}
