//! NOTIFICATIONs and how they are said to people (RFC 4271 §4.5, RFC 4486, RFC 9003).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// The longest shutdown communication we send, in octets. RFC 9003 allows 255, older peers 128.
const LONGEST_TEXT: usize = 128;

/// An error code, its subcode and data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    pub code: u8,
    pub subcode: u8,
    pub data: Bytes,
}

impl Notification {
    /// Cease / Maximum Number of Prefixes Reached (RFC 4486 §4).
    #[must_use]
    pub fn max_prefixes() -> Self {
        Self::cease(1, Bytes::new())
    }

    /// Cease / Administrative Shutdown with a shutdown communication (RFC 9003 §2).
    #[must_use]
    pub fn shutdown(text: &str) -> Self {
        Self::cease(2, communication(text))
    }

    /// Cease / Peer De-configured.
    #[must_use]
    pub fn deconfigured() -> Self {
        Self::cease(3, Bytes::new())
    }

    /// Cease / Other Configuration Change.
    #[must_use]
    pub fn configuration_change() -> Self {
        Self::cease(6, Bytes::new())
    }

    /// Cease / Connection Collision Resolution (RFC 4271 §6.8).
    #[must_use]
    pub fn collision() -> Self {
        Self::cease(7, Bytes::new())
    }

    fn cease(subcode: u8, data: Bytes) -> Self {
        Self { code: 6, subcode, data }
    }

    /// The shutdown communication in it, with control characters made harmless.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        if self.code != 6 || !matches!(self.subcode, 2 | 4) {
            return None;
        }
        let (length, text) = self.data.split_first()?;
        let text = std::str::from_utf8(text.get(..usize::from(*length))?).ok()?;
        // RFC 9003 §4: shown to operators, so nothing in it may steer a terminal.
        let safe: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        (!safe.is_empty()).then_some(safe)
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, subcode) = words(self.code, self.subcode);
        match subcode {
            Some(subcode) => write!(f, "{code} / {subcode} ({}/{})", self.code, self.subcode)?,
            None => write!(f, "{code} ({}/{})", self.code, self.subcode)?,
        }
        match self.text() {
            Some(text) => write!(f, ": \"{text}\""),
            None => Ok(()),
        }
    }
}

fn communication(text: &str) -> Bytes {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut data = BytesMut::with_capacity(1 + end);
    data.put_u8(end as u8);
    data.put_slice(&text.as_bytes()[..end]);
    data.freeze()
}

/// The names of the registry "BGP Error Codes" and its subregistries.
fn words(code: u8, subcode: u8) -> (&'static str, Option<&'static str>) {
    let (name, subcodes): (_, &[&str]) = match code {
        1 => (
            "Message Header Error",
            &["Connection Not Synchronized", "Bad Message Length", "Bad Message Type"],
        ),
        2 => (
            "OPEN Message Error",
            &[
                "Unsupported Version Number",
                "Bad Peer AS",
                "Bad BGP Identifier",
                "Unsupported Optional Parameter",
                "Authentication Failure",
                "Unacceptable Hold Time",
                "Unsupported Capability",
                "",
                "",
                "",
                "Role Mismatch",
            ],
        ),
        3 => (
            "UPDATE Message Error",
            &[
                "Malformed Attribute List",
                "Unrecognized Well-known Attribute",
                "Missing Well-known Attribute",
                "Attribute Flags Error",
                "Attribute Length Error",
                "Invalid ORIGIN Attribute",
                "",
                "Invalid NEXT_HOP Attribute",
                "Optional Attribute Error",
                "Invalid Network Field",
                "Malformed AS_PATH",
            ],
        ),
        4 => ("Hold Timer Expired", &[]),
        5 => (
            "Finite State Machine Error",
            &[
                "Unexpected Message in OpenSent",
                "Unexpected Message in OpenConfirm",
                "Unexpected Message in Established",
            ],
        ),
        6 => (
            "Cease",
            &[
                "Maximum Number of Prefixes Reached",
                "Administrative Shutdown",
                "Peer De-configured",
                "Administrative Reset",
                "Connection Rejected",
                "Other Configuration Change",
                "Connection Collision Resolution",
                "Out of Resources",
                "Hard Reset",
                "BFD Down",
            ],
        ),
        7 => ("ROUTE-REFRESH Message Error", &["Invalid Message Length"]),
        8 => ("Send Hold Timer Expired", &[]),
        _ => ("unknown error", &[]),
    };
    let subcode = usize::from(subcode).checked_sub(1).and_then(|i| subcodes.get(i)).copied();
    (name, subcode.filter(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_says_its_text() {
        let notification = Notification::shutdown("maintenance until 04:00");
        assert_eq!(
            notification.to_string(),
            "Cease / Administrative Shutdown (6/2): \"maintenance until 04:00\""
        );
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let notification = Notification::shutdown(&"ü".repeat(100));
        assert_eq!(notification.data[0], 128);
        assert_eq!(notification.text().unwrap().chars().count(), 64);
    }

    #[test]
    fn hostile_texts_are_harmless() {
        let escape = Notification { code: 6, subcode: 2, data: Bytes::from_static(b"\x04\x1b[2J") };
        assert_eq!(escape.text().unwrap(), " [2J");
        for data in [&b""[..], b"\xff", b"\x05ab", b"\x01\xff"] {
            let broken = Notification { code: 6, subcode: 2, data: Bytes::copy_from_slice(data) };
            assert_eq!(broken.text(), None);
        }
    }
}
