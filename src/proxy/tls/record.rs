//! TLS records, sealed and opened where they lie (RFC 8446 §5, RFC 5246 §6.2.3.3, RFC 5288, RFC 7905).
//!
//! The handshake is rustls's; what follows it is the bulk of all work, so its octets are neither copied nor is anything
//! allocated for them. Pure: slices in, slices out.

use std::ops::Range;

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;

/// The most plaintext of one record (RFC 8446 §5.1).
pub const MOST_PLAIN: usize = 1 << 14;
/// The header of a record.
pub const HEADER: usize = 5;
/// The most that may follow a header (RFC 8446 §5.2, RFC 5246 §6.2.3).
const MOST_SEALED: usize = MOST_PLAIN + 256;
const MOST_SEALED_V12: usize = MOST_PLAIN + 2_048;
const TAG: usize = 16;
/// What TLS 1.2 sends of a GCM nonce (RFC 5288 §3).
const EXPLICIT: usize = 8;
/// Records under one AES-GCM key (RFC 8446 §5.5: 2^24.5 full-sized ones), less than that to be sure.
const MOST_RECORDS: u64 = 1 << 24;

/// What a record carries (RFC 8446 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Content {
    Alert = 21,
    Handshake = 22,
    Application = 23,
}

/// Why a record is not taken. The names are those of the alerts that it is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("a record was altered on its way, or sealed with another key")]
    BadRecordMac,
    #[error("a record is longer than TLS allows")]
    RecordOverflow,
    #[error("a record of a kind that has no place here")]
    UnexpectedMessage,
}

impl RecordError {
    /// The alert's description (RFC 8446 §6).
    #[must_use]
    pub fn alert(self) -> u8 {
        match self {
            Self::BadRecordMac => 20,
            Self::RecordOverflow => 22,
            Self::UnexpectedMessage => 10,
        }
    }
}

/// How a version and a cipher lay out their records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    V13,
    /// TLS 1.2 with AES-GCM: part of the nonce is in the record.
    V12Explicit,
    /// TLS 1.2 with ChaCha20-Poly1305.
    V12,
}

/// One direction's key and count.
struct Half {
    key: LessSafeKey,
    iv: [u8; 12],
    count: u64,
    form: Form,
    most: u64,
}

impl Half {
    fn new((count, secrets): (u64, ConnectionTrafficSecrets), is_v13: bool) -> Option<Self> {
        let (algorithm, key, iv, form): (&'static Algorithm, _, _, _) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv, Form::V12Explicit),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv, Form::V12Explicit),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&CHACHA20_POLY1305, key, iv, Form::V12)
            }
            _ => return None,
        };
        let most = if *algorithm == CHACHA20_POLY1305 { u64::MAX } else { MOST_RECORDS };
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).ok()?),
            iv: iv.as_ref().try_into().ok()?,
            count,
            form: if is_v13 { Form::V13 } else { form },
            most: count.saturating_add(most),
        })
    }

    /// RFC 8446 §5.3; RFC 7905 §2 for TLS 1.2. A count is never used twice.
    fn nonce(&self, count: u64) -> [u8; 12] {
        let mut nonce = self.iv;
        for (octet, with) in nonce[4..].iter_mut().zip(count.to_be_bytes()) {
            *octet ^= with;
        }
        nonce
    }

    /// RFC 5246 §6.2.3.3.
    fn v12_data(count: u64, content: u8, length: usize) -> [u8; 13] {
        let mut data = [0; 13];
        data[..8].copy_from_slice(&count.to_be_bytes());
        data[8] = content;
        data[9..11].copy_from_slice(&[3, 3]);
        data[11..].copy_from_slice(&(length as u16).to_be_bytes());
        data
    }
}

/// Seals what we send.
pub struct Sealer(Half);

impl Sealer {
    /// From the secrets of a handshake. None for a cipher that we do not know.
    #[must_use]
    pub fn new(secrets: (u64, ConnectionTrafficSecrets), is_v13: bool) -> Option<Self> {
        Half::new(secrets, is_v13).map(Self)
    }

    /// What a record needs before its plaintext.
    #[must_use]
    pub fn before(&self) -> usize {
        if self.0.form == Form::V12Explicit { HEADER + EXPLICIT } else { HEADER }
    }

    /// What it needs behind it.
    #[must_use]
    pub fn behind(&self) -> usize {
        if self.0.form == Form::V13 { TAG + 1 } else { TAG }
    }

    /// Whether another key is due.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.0.count >= self.0.most
    }

    /// As after the last record that its key may seal.
    #[cfg(test)]
    pub(super) fn wear_out(&mut self) {
        self.0.most = self.0.count;
    }

    /// Seals a record in place: `record` has [`before`](Self::before) octets of room, the plaintext, at most
    /// [`MOST_PLAIN`], and [`behind`](Self::behind) octets of room.
    pub fn seal(&mut self, content: Content, record: &mut [u8]) {
        let before = self.before();
        let plain = record.len() - before - self.behind();
        let half = &mut self.0;
        let count = half.count;
        half.count += 1;
        let sealed = record.len() - HEADER;
        let (outer, nonce) = match half.form {
            Form::V13 => (Content::Application as u8, half.nonce(count)),
            _ => (content as u8, half.nonce(count)),
        };
        record[..3].copy_from_slice(&[outer, 3, 3]);
        record[3..HEADER].copy_from_slice(&(sealed as u16).to_be_bytes());
        let (head, body) = record.split_at_mut(before);
        let nonce_value = Nonce::assume_unique_for_key(nonce);
        let tag = match half.form {
            Form::V13 => {
                body[plain] = content as u8;
                let data: [u8; HEADER] = head[..HEADER].try_into().expect("a header has five octets");
                half.key.seal_in_place_separate_tag(nonce_value, Aad::from(data), &mut body[..=plain])
            }
            form => {
                if form == Form::V12Explicit {
                    head[HEADER..].copy_from_slice(&nonce[4..]);
                }
                let data = Half::v12_data(count, content as u8, plain);
                half.key.seal_in_place_separate_tag(nonce_value, Aad::from(data), &mut body[..plain])
            }
        };
        let tag = tag.expect("a record is far under the limits of its cipher");
        let at = body.len() - TAG;
        body[at..].copy_from_slice(tag.as_ref());
    }

    /// A whole record of a few octets, at the end of `out`.
    pub fn seal_small(&mut self, content: Content, plain: &[u8], out: &mut Vec<u8>) {
        let at = out.len();
        out.resize(at + self.before(), 0);
        out.extend_from_slice(plain);
        out.resize(out.len() + self.behind(), 0);
        self.seal(content, &mut out[at..]);
    }
}

/// One record that was opened: where its plaintext lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub content: Content,
    pub plain: Range<usize>,
    /// Where the next record begins.
    pub next: usize,
}

/// Opens what we receive.
pub struct Opener(Half);

impl Opener {
    /// From the secrets of a handshake. None for a cipher that we do not know.
    #[must_use]
    pub fn new(secrets: (u64, ConnectionTrafficSecrets), is_v13: bool) -> Option<Self> {
        Half::new(secrets, is_v13).map(Self)
    }

    /// Opens the record that begins at `at`, in place. `Ok(None)`: it is not whole yet.
    ///
    /// # Errors
    /// [`RecordError`]; nothing more can be read then.
    pub fn open(&mut self, octets: &mut [u8], at: usize) -> Result<Option<Opened>, RecordError> {
        let Some(&[outer, _, _, high, low]) = octets.get(at..).and_then(|rest| rest.first_chunk::<HEADER>())
        else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let most = if self.0.form == Form::V13 { MOST_SEALED } else { MOST_SEALED_V12 };
        if length > most {
            return Err(RecordError::RecordOverflow);
        }
        let begin = at + HEADER;
        let next = begin + length;
        if octets.len() < next {
            return Ok(None);
        }
        let half = &mut self.0;
        let count = half.count;
        half.count += 1;
        let body = &mut octets[begin..next];
        let bad = |_| RecordError::BadRecordMac;
        let (content, plain) = match half.form {
            Form::V13 => {
                if outer != Content::Application as u8 {
                    return Err(RecordError::UnexpectedMessage);
                }
                let nonce = Nonce::assume_unique_for_key(half.nonce(count));
                let data = [outer, 3, 3, high, low];
                let inner = half.key.open_in_place(nonce, Aad::from(data), body).map_err(bad)?;
                // RFC 8446 §5.4: the content's type is the last octet that is not zero.
                let end =
                    inner.iter().rposition(|&octet| octet != 0).ok_or(RecordError::UnexpectedMessage)?;
                (inner[end], begin..begin + end)
            }
            Form::V12Explicit => {
                let overhead = EXPLICIT + TAG;
                let plain = body.len().checked_sub(overhead).ok_or(RecordError::BadRecordMac)?;
                let mut nonce = half.iv;
                nonce[4..].copy_from_slice(&body[..EXPLICIT]);
                let data = Half::v12_data(count, outer, plain);
                let nonce = Nonce::assume_unique_for_key(nonce);
                half.key.open_in_place(nonce, Aad::from(data), &mut body[EXPLICIT..]).map_err(bad)?;
                (outer, begin + EXPLICIT..begin + EXPLICIT + plain)
            }
            Form::V12 => {
                let plain = body.len().checked_sub(TAG).ok_or(RecordError::BadRecordMac)?;
                let nonce = Nonce::assume_unique_for_key(half.nonce(count));
                let data = Half::v12_data(count, outer, plain);
                half.key.open_in_place(nonce, Aad::from(data), body).map_err(bad)?;
                (outer, begin..begin + plain)
            }
        };
        if plain.len() > MOST_PLAIN {
            return Err(RecordError::RecordOverflow);
        }
        let content = match content {
            21 => Content::Alert,
            22 => Content::Handshake,
            23 => Content::Application,
            _ => return Err(RecordError::UnexpectedMessage),
        };
        Ok(Some(Opened { content, plain, next }))
    }
}
