//! Who a POP is: certificates of the fleet's own authorities, for connections and for what a POP has written.
//!
//! A certificate names its POP in a URI, `spiffe://FLEET/pop/ID`, and an authority of the fleet has signed it itself;
//! there is nothing between. Two authorities may be good at once, so that one can take the other's place.

mod issue;
mod verifier;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::signature::Ed25519KeyPair;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, TrustAnchor, UnixTime};
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use super::head::{Head, MOST_CERTIFICATE, SIGNATURE, Signed};
use super::replica::Trust;
use super::version::Origin;
use crate::config::x509;
pub use issue::{Authority, Invitation, IssueError, request};
use verifier::Verifier;

/// What both sides of a connection say they speak.
const ALPN: &[u8] = b"edgeproxy-replication/1";
/// How long after its end a certificate still serves: a renewal that is late is alarmed, not an outage.
pub const GRACE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Authorities at once, each with the certificates of its file.
pub const MOST_AUTHORITIES: usize = 8;
/// Certificates of origins that are remembered to be good.
const MOST_REMEMBERED: usize = 8_192;

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
    Early(Origin),
    #[error("the certificate of {0} has expired, and the time of grace is over")]
    Expired(Origin),
    #[error("the certificate is that of {found}, not of {wanted}")]
    Another { wanted: Origin, found: Origin },
    #[error("the signature is not that of {0}")]
    Signature(Origin),
}

/// Why these files are no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("{0} is no certificate of an authority: {1}")]
    Authority(usize, String),
    #[error("there are {0} certificates of authorities; 1 to {MOST_AUTHORITIES} are expected")]
    Authorities(usize),
    #[error("{0}")]
    Untrusted(#[from] Untrusted),
    #[error("the private key is none of Ed25519 in PKCS #8: {0}")]
    Key(String),
    #[error("the private key is not that of the certificate")]
    Mismatch,
    #[error("the certificate is longer than {MOST_CERTIFICATE} octets")]
    Long,
    #[error("TLS refuses them: {0}")]
    Tls(String),
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
    pub fn new(fleet: &str, certificates: &[Vec<u8>]) -> Result<Self, IdentityError> {
        if certificates.is_empty() || certificates.len() > MOST_AUTHORITIES {
            return Err(IdentityError::Authorities(certificates.len()));
        }
        let anchor = |(at, der): (usize, &Vec<u8>)| {
            webpki::anchor_from_trusted_cert(&CertificateDer::from(der.as_slice()))
                .map(|anchor| anchor.to_owned())
                .map_err(|error| IdentityError::Authority(at + 1, error.to_string()))
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
    pub fn pop_of(&self, der: &[u8], at: Option<UnixTime>) -> Result<Origin, Untrusted> {
        let der = CertificateDer::from(der);
        let malformed = |error: webpki::Error| Untrusted::Malformed(error.to_string());
        let certificate = EndEntityCert::try_from(&der).map_err(malformed)?;
        let end = seconds(x509::not_after(&der)).ok_or_else(|| Untrusted::Malformed("no end".to_owned()))?;
        let algorithms = algorithms();
        // Judged at a moment inside its time; what time it is comes after the rest.
        let judged = at.map_or(end, |at| at.as_secs().min(end));
        let time = UnixTime::since_unix_epoch(Duration::from_secs(judged));
        let judged =
            certificate.verify_for_usage(algorithms.all, &self.anchors, &[], time, AnyUsage, None, None);
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

    fn name_of(&self, certificate: &EndEntityCert<'_>) -> Result<Origin, Untrusted> {
        let mut names = certificate.valid_uri_names();
        let (Some(name), None) = (names.next(), names.next()) else { return Err(Untrusted::Nameless) };
        let path = name.strip_prefix("spiffe://").and_then(|rest| rest.split_once("/pop/"));
        match path {
            Some((fleet, pop)) if fleet == &*self.fleet => {
                Origin::new(pop).ok_or_else(|| Untrusted::Elsewhere(printable(name)))
            }
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

/// Who we are.
pub struct Identity {
    origin: Origin,
    authorities: Arc<Authorities>,
    certificate: Arc<[u8]>,
    key: PrivatePkcs8KeyDer<'static>,
    signer: Ed25519KeyPair,
}

impl Identity {
    /// `certificate` in DER, `key` in PKCS #8.
    ///
    /// # Errors
    /// When they do not belong together, or not to this fleet.
    pub fn new(authorities: Arc<Authorities>, certificate: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        if certificate.len() > MOST_CERTIFICATE {
            return Err(IdentityError::Long);
        }
        let origin = authorities.pop_of(certificate, None)?;
        let signer = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key)
            .map_err(|error| IdentityError::Key(error.to_string()))?;
        let key = PrivatePkcs8KeyDer::from(key.to_vec());
        let identity = Self { origin, authorities, certificate: certificate.into(), key, signer };
        // One proof for both: what it signs must be what its certificate confirms.
        let text = b"edgeproxy: does this key fit this certificate?";
        let signature = identity.signer.sign(text);
        confirm(certificate, text, signature.as_ref()).ok_or(IdentityError::Mismatch)?;
        identity.try_server_config()?;
        Ok(identity)
    }

    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    #[must_use]
    pub fn authorities(&self) -> &Arc<Authorities> {
        &self.authorities
    }

    /// When our certificate ends.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        x509::not_after(&self.certificate)
    }

    /// For connections that come in: both sides are proven, and nothing is said before that.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.try_server_config().expect("it was made once, when the identity was")
    }

    fn try_server_config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let refused = |error: rustls::Error| IdentityError::Tls(error.to_string());
        let verifier = Arc::new(Verifier::new(Arc::clone(&self.authorities), None));
        let (chain, key) = self.chain_and_key();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refused)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(refused)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // No early data, and no tickets: every connection is proven anew.
        config.max_early_data_size = 0;
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// For a connection to this POP and no other.
    #[must_use]
    pub fn client_config(&self, peer: &Origin) -> Arc<ClientConfig> {
        let verifier = Arc::new(Verifier::new(Arc::clone(&self.authorities), Some(peer.clone())));
        let (chain, key) = self.chain_and_key();
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider was good for a server of the same version")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(chain, key)
            .expect("the key was good for a server");
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_early_data = false;
        Arc::new(config)
    }

    fn chain_and_key(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from(self.certificate.to_vec());
        (vec![certificate], PrivateKeyDer::Pkcs8(self.key.clone_key()))
    }
}

/// Signs our heads and judges those of others.
pub struct Notary {
    identity: Arc<Identity>,
    /// Certificates that were found good, by their hash, and whose they are.
    good: HashMap<[u8; 32], Origin>,
}

impl Notary {
    #[must_use]
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity, good: HashMap::new() }
    }

    /// Other certificates from now on.
    pub fn renew(&mut self, identity: Arc<Identity>) {
        *self = Self::new(identity);
    }

    fn pop_of(&mut self, certificate: &[u8]) -> Result<Origin, Untrusted> {
        let hash = x509::fingerprint(certificate);
        if let Some(pop) = self.good.get(&hash) {
            return Ok(pop.clone());
        }
        let pop = self.identity.authorities.pop_of(certificate, None)?;
        if self.good.len() >= MOST_REMEMBERED {
            self.good.clear();
        }
        self.good.insert(hash, pop.clone());
        Ok(pop)
    }

    /// Whether a head is its origin's.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&mut self, signed: &Signed) -> Result<(), Untrusted> {
        let (found, wanted) = (self.pop_of(&signed.certificate)?, signed.head.origin.clone());
        if found != wanted {
            return Err(Untrusted::Another { wanted, found });
        }
        let text = signed.head.signed_text(self.identity.authorities.fleet());
        confirm(&signed.certificate, &text, &signed.signature).ok_or(Untrusted::Signature(wanted))
    }
}

impl Trust for Notary {
    fn verify(&mut self, signed: &Signed) -> Result<(), String> {
        self.judge(signed).map_err(|why| why.to_string())
    }

    fn sign(&self, head: Head) -> Signed {
        let identity = &self.identity;
        let text = head.signed_text(identity.authorities.fleet());
        let mut signature = [0; SIGNATURE];
        signature.copy_from_slice(identity.signer.sign(&text).as_ref());
        Signed { head, certificate: Arc::clone(&identity.certificate), signature }
    }
}

/// Whether the key of a certificate has signed a text (RFC 8032).
fn confirm(certificate: &[u8], text: &[u8], signature: &[u8]) -> Option<()> {
    let der = CertificateDer::from(certificate);
    let certificate = EndEntityCert::try_from(&der).ok()?;
    let mapping = algorithms().mapping;
    let (_, ed25519) = mapping.iter().find(|(scheme, _)| *scheme == SignatureScheme::ED25519)?;
    certificate.verify_signature(*ed25519.first()?, text, signature).ok()
}

/// That of the process.
fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().map_or_else(|| Arc::new(rustls::crypto::ring::default_provider()), Arc::clone)
}

fn algorithms() -> rustls::crypto::WebPkiSupportedAlgorithms {
    rustls::crypto::ring::default_provider().signature_verification_algorithms
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

#[cfg(test)]
mod tests;
