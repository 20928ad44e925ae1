//! What is read of certificates besides their use: when they end, and whom they name (RFC 5280 §4.1).
//!
//! A few fields at known places, and webpki has judged all the rest: that needs no parser of everything.

use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};

const INTEGER: u8 = 0x02;
const OBJECT: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// Field 0 of the certificate, its version.
const VERSION: u8 = 0xa0;
/// UTF8String, PrintableString, IA5String.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];
/// id-at-commonName, 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// ub-common-name (RFC 5280 §A.1).
const MOST_NAME: usize = 64;

/// When a DER certificate ends. None: it is none, or has ended before 1970.
#[must_use]
pub fn not_after(der: &[u8]) -> Option<SystemTime> {
    let mut validity = fields(der)?.validity;
    validity.next()?;
    let (kind, text) = validity.next()?;
    let seconds = seconds(kind, text)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The common name of its subject: printable, at most 64 characters.
#[must_use]
pub fn common_name(der: &[u8]) -> Option<String> {
    let found = fields(der)?.subject.find_map(|(kind, set)| {
        let (inner, attribute) = Der(set).next().filter(|_| kind == SET)?;
        let mut attribute = Der(attribute);
        let is_name = inner == SEQUENCE && attribute.next()? == (OBJECT, &COMMON_NAME);
        let (kind, text) = attribute.next().filter(|_| is_name)?;
        TEXTS.contains(&kind).then_some(text)
    });
    let name = std::str::from_utf8(found?).ok()?;
    let fits = (1..=MOST_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    fits.then(|| name.to_owned())
}

/// SHA-256 over the whole of it, as `openssl x509 -fingerprint -sha256` shows it.
#[must_use]
pub fn fingerprint(der: &[u8]) -> [u8; 32] {
    digest(&SHA256, der).as_ref().try_into().expect("SHA-256 has 32 octets")
}

struct Fields<'d> {
    validity: Der<'d>,
    subject: Der<'d>,
}

fn fields(der: &[u8]) -> Option<Fields<'_>> {
    let mut to_be_signed = Der(Der(Der(der).of(SEQUENCE)?).of(SEQUENCE)?);
    if to_be_signed.0.first() == Some(&VERSION) {
        to_be_signed.next()?;
    }
    to_be_signed.of(INTEGER)?;
    to_be_signed.of(SEQUENCE)?;
    // The issuer.
    to_be_signed.of(SEQUENCE)?;
    Some(Fields { validity: Der(to_be_signed.of(SEQUENCE)?), subject: Der(to_be_signed.of(SEQUENCE)?) })
}

/// Elements one behind the other: tag and content.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// The next one's content, if it is of this kind.
    fn of(&mut self, kind: u8) -> Option<&'d [u8]> {
        self.next().filter(|(found, _)| *found == kind).map(|(_, content)| content)
    }
}

impl<'d> Iterator for Der<'d> {
    type Item = (u8, &'d [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[kind, first], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((kind, content))
    }
}

/// Seconds since 1970 of `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5).
fn seconds(kind: u8, text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let two = |at: usize| {
        digits.get(at..at + 2).map(|two| u64::from(two[0] - b'0') * 10 + u64::from(two[1] - b'0'))
    };
    let (year, at) = match (kind, digits.len()) {
        (UTC_TIME, 12) => (two(0)? + if two(0)? < 50 { 2_000 } else { 1_900 }, 2),
        (GENERALIZED_TIME, 14) => (two(0)? * 100 + two(2)?, 4),
        _ => return None,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|field| two(at + field));
    let (month, day, hour, minute, second) = (month?, day?, hour?, minute?, second?);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let index = usize::try_from(month).ok()?.checked_sub(1)?;
    let fits = (1..=*months.get(index)?).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if year < 1970 || !fits {
        return None;
    }
    let leaps = |before: u64| (before - 1) / 4 - (before - 1) / 100 + (before - 1) / 400;
    let days =
        (year - 1970) * 365 + leaps(year) - leaps(1970) + months[..index].iter().sum::<u64>() + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn certificate(year: i32, name: &str) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 3, 1);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Example");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_and_the_name_of_a_certificate() {
        let since = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400);
        // As `date -u -d 2027-03-01 +%s` says, over 86,400.
        for (year, days) in [(2027, 20_878), (2028, 21_244), (2049, 28_914), (2050, 29_279), (2101, 47_906)] {
            assert_eq!(not_after(&certificate(year, "x")), Some(since(days)), "{year}");
        }
        assert_eq!(common_name(&certificate(2027, "Ána / 7")), Some("Ána / 7".to_owned()));
        assert_eq!(common_name(&certificate(2027, "line\nbreak")), None);
        assert_eq!(common_name(&certificate(2027, &"x".repeat(65))), None);
    }

    #[test]
    fn times_that_are_none() {
        assert_eq!(seconds(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(seconds(GENERALIZED_TIME, b"20240229235959Z"), Some(1_709_251_199));
        for text in
            [&b"230229000000Z"[..], b"231301000000Z", b"230001000000Z", b"230100000000Z", b"23010100000Z"]
        {
            assert_eq!(seconds(UTC_TIME, text), None, "{text:?}");
        }
        for text in [&b"20230101000000"[..], b"20230101240000Z", b"230101000000Z", b"2023010100000+Z"] {
            assert_eq!(seconds(GENERALIZED_TIME, text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(octets in vec(any::<u8>(), 0..80), at in 0_usize..400, to: u8) {
            let mut der = certificate(2030, "x");
            let at = at % der.len();
            der[at] = to;
            for der in [&octets, &der] {
                let _ = (not_after(der), common_name(der));
            }
        }
    }
}
