//! Certificates of POPs: which POP one names, judged by the authorities of the fleet.
//!
//! A certificate names its POP in a URI, `spiffe://FLEET/pop/ID`, and an authority of the fleet has signed it itself;
//! there is nothing between. Two authorities may be good at once, so that one can take the other's place.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use super::x509;

/// How long after its end a certificate still serves: a renewal that is late is alarmed, not an outage.
pub const GRACE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Certificates of authorities at once.
pub const MOST_AUTHORITIES: usize = 8;

/// Why a certificate proves nothing here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    #[error("no certificate of a POP: {0}")]
    Malformed(String),
    #[error("no authority of this fleet has signed the certificate: {0}")]
    Stranger(String),
    #[error("the certificate names {0}, which is no POP of this fleet")]
    Elsewhere(String),
    #[error("the certificate names no POP, or more than one")]
    Nameless,
    #[error("the certificate of {0} is not valid yet: is this machine's clock right?")]
    Early(String),
    #[error("the certificate of {0} has expired, and the time of grace is over")]
    Expired(String),
    #[error("the certificate is that of {found}, not of {wanted}")]
    Another { wanted: String, found: String },
    #[error("the signature is not that of {0}")]
    Signature(String),
}

/// Why somebody cannot be an authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAuthority {
    #[error("certificate {0} is not that of an authority: {1}")]
    Unfit(usize, String),
    #[error("there are {0} certificates of authorities; 1 to {MOST_AUTHORITIES} are expected")]
    Count(usize),
}

/// Whom a fleet believes.
#[derive(Debug)]
pub struct Authorities {
    fleet: Arc<str>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl Authorities {
    /// From certificates in DER.
    ///
    /// # Errors
    /// When one is no certificate of an authority, or they are too many.
    pub fn new(fleet: &str, certificates: &[Vec<u8>]) -> Result<Self, NoAuthority> {
        if certificates.is_empty() || certificates.len() > MOST_AUTHORITIES {
            return Err(NoAuthority::Count(certificates.len()));
        }
        let anchor = |(at, der): (usize, &Vec<u8>)| {
            webpki::anchor_from_trusted_cert(&CertificateDer::from(der.as_slice()))
                .map(|anchor| anchor.to_owned())
                .map_err(|error| NoAuthority::Unfit(at + 1, error.to_string()))
        };
        let anchors = certificates.iter().enumerate().map(anchor).collect::<Result<_, _>>()?;
        Ok(Self { fleet: fleet.into(), anchors })
    }

    #[must_use]
    pub fn fleet(&self) -> &str {
        &self.fleet
    }

    /// The POP that a certificate is of. `at`: when it must serve, for connections; without, dates do not matter:
    /// what was written once stays written when its certificate ends.
    ///
    /// # Errors
    /// [`Untrusted`].
    pub fn pop_of(&self, der: &[u8], at: Option<UnixTime>) -> Result<String, Untrusted> {
        let der = CertificateDer::from(der);
        let malformed = |error: webpki::Error| Untrusted::Malformed(error.to_string());
        let certificate = EndEntityCert::try_from(&der).map_err(malformed)?;
        let end = seconds(x509::not_after(&der)).ok_or_else(|| Untrusted::Malformed("no end".to_owned()))?;
        // Judged at a moment inside its time; what time it is comes after the rest.
        let judged = at.map_or(end, |at| at.as_secs().min(end));
        let time = UnixTime::since_unix_epoch(Duration::from_secs(judged));
        let judged =
            certificate.verify_for_usage(algorithms().all, &self.anchors, &[], time, AnyUsage, None, None);
        match judged.map(drop) {
            Ok(()) => {}
            Err(webpki::Error::CertNotValidYet { .. }) => {
                return Err(Untrusted::Early(self.name_of(&certificate)?));
            }
            Err(error) => return Err(Untrusted::Stranger(error.to_string())),
        }
        let pop = self.name_of(&certificate)?;
        match at {
            Some(at) if at.as_secs() > end + GRACE.as_secs() => Err(Untrusted::Expired(pop)),
            _ => Ok(pop),
        }
    }

    fn name_of(&self, certificate: &EndEntityCert<'_>) -> Result<String, Untrusted> {
        let mut names = certificate.valid_uri_names();
        let (Some(name), None) = (names.next(), names.next()) else { return Err(Untrusted::Nameless) };
        let path = name.strip_prefix("spiffe://").and_then(|rest| rest.split_once("/pop/"));
        match path {
            Some((fleet, pop)) if fleet == &*self.fleet => Some(pop)
                .filter(|pop| is_pop(pop))
                .map(str::to_owned)
                .ok_or_else(|| Untrusted::Elsewhere(printable(name))),
            _ => Err(Untrusted::Elsewhere(printable(name))),
        }
    }
}

/// The name of a POP as certificates have it.
#[must_use]
pub fn uri(fleet: &str, pop: &str) -> String {
    format!("spiffe://{fleet}/pop/{pop}")
}

/// What comes from elsewhere is shown short and without control characters.
fn printable(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(128).collect()
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::ring::default_provider().signature_verification_algorithms
}

/// Whether a POP may be called this (see `pop.id`).
fn is_pop(name: &str) -> bool {
    let inside = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
    name.len() <= 32
        && name.starts_with(|letter: char| letter.is_ascii_lowercase())
        && name.bytes().all(inside)
}

/// Whether the key of a certificate has signed a text (RFC 8032).
#[must_use]
pub fn has_signed(certificate: &[u8], text: &[u8], signature: &[u8]) -> bool {
    let der = CertificateDer::from(certificate);
    let Ok(certificate) = EndEntityCert::try_from(&der) else { return false };
    let mut mapping = algorithms().mapping.iter();
    let ed25519 = mapping.find(|(scheme, _)| *scheme == SignatureScheme::ED25519);
    ed25519
        .and_then(|(_, algorithms)| algorithms.first())
        .is_some_and(|ed25519| certificate.verify_signature(*ed25519, text, signature).is_ok())
}

fn seconds(time: Option<SystemTime>) -> Option<u64> {
    Some(time?.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// One certificate serves for both sides of a connection, whatever it says of its use.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}
