//! Scalars as what a field wants them to be: text, words, numbers, durations, addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::{Spot, meant, shown};
use crate::config::tree::Value;
use crate::config::{duration, size};

/// The letters a name is made of, as they are told to the operator.
#[derive(Clone, Copy)]
pub(in crate::config) enum Letters {
    /// `a-z 0-9`.
    Plain,
    /// `a-z 0-9 -`, a letter first.
    Label,
    /// `a-z 0-9 . -`, a letter first.
    Domain,
    /// `a-z A-Z 0-9 . _ -`.
    Loose,
}

impl<'a> Spot<'a> {
    /// Any text, quoted or not.
    pub(in crate::config) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, .. } if !self.node.is_nothing() => Some(text),
            _ => {
                self.refuse_kind("text");
                None
            }
        }
    }

    /// Text of at most `most` octets in which nothing is invisible.
    pub(in crate::config) fn line(&self, most: usize) -> Option<&'a str> {
        let text = self.text()?;
        if text.len() > most {
            self.refuse(format!("{} octets, but at most {most} are taken", text.len()), "shorten it");
            return None;
        }
        if text.chars().any(char::is_control) {
            self.refuse("a control character in the text", "write it in one line");
            return None;
        }
        Some(text)
    }

    /// A name of a length in characters.
    pub(in crate::config) fn name(&self, letters: Letters, length: RangeInclusive<usize>) -> Option<String> {
        let text = self.text()?;
        let (allowed, said): (fn(char) -> bool, _) = match letters {
            Letters::Plain => (|c| c.is_ascii_lowercase() || c.is_ascii_digit(), "a-z 0-9"),
            Letters::Label => {
                (|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-', "a-z 0-9 -, a letter first")
            }
            Letters::Domain => (
                |c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c),
                "a-z 0-9 . -, a letter first",
            ),
            Letters::Loose => (|c| c.is_ascii_alphanumeric() || ".-_".contains(c), "a-z A-Z 0-9 . _ -"),
        };
        let first = !matches!(letters, Letters::Label | Letters::Domain)
            || text.starts_with(|c: char| c.is_ascii_lowercase());
        if !first || !length.contains(&text.len()) || !text.chars().all(allowed) {
            let hint = format!("{} to {} characters of {said}", length.start(), length.end());
            self.refuse(format!("{} cannot be a name here", shown(text)), hint);
            return None;
        }
        Some(text.to_owned())
    }

    /// A whole number in a range.
    pub(in crate::config) fn number<T: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        let text = self.plain(&expected())?;
        let Some(number) = whole(text) else {
            let hint = match text.replace('_', "") {
                bare if bare != text && whole(&bare).is_some() => format!("write `{bare}`"),
                _ => format!("write {}", expected()),
            };
            self.refuse(format!("expected {}, found {}", expected(), shown(text)), hint);
            return None;
        };
        let fitting = T::try_from(number).ok().filter(|_| range.contains(&number));
        if fitting.is_none() {
            self.refuse(format!("{number} is out of range"), format!("{} to {}", range.start(), range.end()));
        }
        fitting
    }

    /// Degrees and the like.
    pub(in crate::config) fn decimal(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let text = self.plain(&expected)?;
        let number = text.parse::<f64>().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.refuse(
                format!("expected {expected}, found {}", shown(text)),
                "degrees; north and east are positive",
            );
        }
        number
    }

    /// `true` or `false`.
    pub(in crate::config) fn switch(&self) -> Option<bool> {
        match self.plain("`true` or `false`")? {
            "true" => Some(true),
            "false" => Some(false),
            other => {
                let hint = match other.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "true" | "y" | "1" => "write `true`",
                    "no" | "off" | "false" | "n" | "0" => "write `false`",
                    _ => "write one of the two",
                };
                self.refuse(format!("expected `true` or `false`, found {}", shown(other)), hint);
                None
            }
        }
    }

    /// A duration with its unit: `50ms`, `1s`, `5m`, `1h`.
    pub(in crate::config) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.duration_or(range, "")
    }

    /// A duration, or `off`, which is none at all.
    pub(in crate::config) fn duration_or_off(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        if self.is_off() { Some(Duration::ZERO) } else { self.duration_or(range, ", or `off`") }
    }

    /// `more` is what else may stand here, for the hints.
    fn duration_or(&self, range: RangeInclusive<Duration>, more: &str) -> Option<Duration> {
        let text = self.text()?;
        let duration = match duration::parse(text) {
            Ok(duration) => Some(duration).filter(|it| range.contains(it)),
            Err(why) => {
                self.refuse(format!("expected a duration, found {}", shown(text)), format!("{why}{more}"));
                return None;
            }
        };
        if duration.is_none() {
            let hint = format!("{:?} to {:?}{more}", range.start(), range.end());
            self.refuse(format!("{} is out of range", shown(text)), hint);
        }
        duration
    }

    /// Memory with its unit: `64KiB`, `512MiB`, `2GiB`. In octets.
    pub(in crate::config) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let text = self.text()?;
        let octets = match size::parse(text) {
            Ok(octets) => Some(octets).filter(|it| range.contains(it)),
            Err(why) => {
                self.refuse(format!("expected a size, found {}", shown(text)), why.to_string());
                return None;
            }
        };
        if octets.is_none() {
            let hint = format!("{} to {}", size::written(*range.start()), size::written(*range.end()));
            self.refuse(format!("{} is out of range", shown(text)), hint);
        }
        octets
    }

    /// A share of the whole: `0%` to `100%`.
    pub(in crate::config) fn percent(&self) -> Option<u8> {
        let text = self.text()?;
        let share = text.strip_suffix('%').and_then(whole).filter(|&share| share <= 100);
        if share.is_none() {
            let hint = match whole(text) {
                Some(bare) if bare <= 100 => format!("write `{bare}%`"),
                _ => "`0%` to `100%`, without a fraction".to_owned(),
            };
            self.refuse(format!("expected a share, found {}", shown(text)), hint);
        }
        share.map(|share| share as u8)
    }

    /// Whether the word `off` stands here.
    pub(in crate::config) fn is_off(&self) -> bool {
        matches!(&self.node.value, Value::Scalar { text, .. } if text == "off")
    }

    /// One of some words.
    pub(in crate::config) fn choice<T: Copy>(&self, known: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let chosen = known.iter().find(|(word, _)| *word == text).map(|&(_, value)| value);
        if chosen.is_none() {
            let words: Vec<&str> = known.iter().map(|&(word, _)| word).collect();
            self.refuse(format!("{} is none of the words known here", shown(text)), meant(text, &words));
        }
        chosen
    }

    /// An address of either family, without port or length.
    pub(in crate::config) fn address(&self) -> Option<IpAddr> {
        self.parsed("an IPv4 or IPv6 address")
    }

    pub(in crate::config) fn ipv4(&self) -> Option<Ipv4Addr> {
        self.parsed("an IPv4 address")
    }

    pub(in crate::config) fn ipv6(&self) -> Option<Ipv6Addr> {
        self.parsed("an IPv6 address")
    }

    /// An address with a port that is not 0.
    pub(in crate::config) fn socket(&self) -> Option<SocketAddr> {
        let text = self.text()?;
        if let Ok(socket) = text.parse::<SocketAddr>()
            && socket.port() > 0
        {
            return Some(socket);
        }
        self.refuse(
            format!("expected an address with a port, found {}", shown(text)),
            "`192.0.2.10:179` or `\"[2001:db8::10]:179\"`",
        );
        None
    }

    fn parsed<T: FromStr>(&self, expected: &str) -> Option<T> {
        let text = self.text()?;
        let value = text.parse().ok();
        if value.is_none() {
            let hint = match text {
                _ if text.contains('/') => "an address here, not a prefix",
                _ if text.contains('%') => "link-local addresses with an interface are not taken",
                _ if text.chars().any(|c| c.is_ascii_alphabetic() && !c.is_ascii_hexdigit()) => {
                    "names are not resolved: write the address"
                }
                _ => "",
            };
            self.refuse(format!("expected {expected}, found {}", shown(text)), hint);
        }
        value
    }

    /// A scalar without quotes.
    fn plain(&self, expected: &str) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { quoted: true, text } => {
                self.refuse(
                    format!("expected {expected}, found the quoted text {}", shown(text)),
                    "remove the quotes",
                );
                None
            }
            Value::Scalar { text, .. } if !self.node.is_nothing() => Some(text),
            _ => {
                self.refuse_kind(expected);
                None
            }
        }
    }
}

/// Decimal digits and nothing else. A leading zero is no number: half of the YAML readers take it for octal.
pub(in crate::config) fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}
