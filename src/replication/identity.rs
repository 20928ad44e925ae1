//! Who a POP is: certificates of the fleet's own authorities, for connections and for what a POP has written.
//!
//! What a certificate says, and whom the fleet believes, is `config/pop_certificate`'s.

mod issue;
pub(super) mod verifier;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::signature::Ed25519KeyPair;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, ServerConfig};

use super::head::{Head, MOST_CERTIFICATE, SIGNATURE, Signed};
use super::replica::Trust;
use super::version::Origin;
use crate::config::pop_certificate::{Authorities, Untrusted, has_signed};
use crate::config::x509;
pub use issue::{Authority, Invitation, IssueError, request};
use verifier::Verifier;

/// What both sides of a connection say they speak.
const ALPN: &[u8] = b"edgeproxy-replication/1";
/// Certificates of origins that are remembered to be good.
const MOST_REMEMBERED: usize = 8_192;

/// Why these files are no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
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
        let pop = authorities.pop_of(certificate, None)?;
        let origin = Origin::new(&pop).ok_or(Untrusted::Elsewhere(pop))?;
        let signer = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key)
            .map_err(|error| IdentityError::Key(error.to_string()))?;
        let key = PrivatePkcs8KeyDer::from(key.to_vec());
        let identity = Self { origin, authorities, certificate: certificate.into(), key, signer };
        // One proof for both: what it signs must be what its certificate confirms.
        let text = b"edgeproxy: does this key fit this certificate?";
        let signature = identity.signer.sign(text);
        if !has_signed(certificate, text, signature.as_ref()) {
            return Err(IdentityError::Mismatch);
        }
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

    /// What resets of connections are made with that an earlier run of this process has had (RFC 9000 §10.3): always
    /// the same, so that peers believe them and need not wait until those time out.
    #[must_use]
    pub fn reset_key(&self) -> hmac::Key {
        let mut text = b"edgeproxy replication 1 reset\0".to_vec();
        text.extend_from_slice(self.key.secret_pkcs8_der());
        hmac::Key::new(hmac::HMAC_SHA256, digest(&SHA256, &text).as_ref())
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
        let pop = Origin::new(&pop).ok_or(Untrusted::Elsewhere(pop))?;
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
            return Err(Untrusted::Another { wanted: wanted.to_string(), found: found.to_string() });
        }
        let text = signed.head.signed_text(self.identity.authorities.fleet());
        let is_signed = has_signed(&signed.certificate, &text, &signed.signature);
        if is_signed { Ok(()) } else { Err(Untrusted::Signature(wanted.to_string())) }
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

/// That of the process.
fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default()
        .map_or_else(|| Arc::new(rustls::crypto::ring::default_provider()), Arc::clone)
}

fn algorithms() -> rustls::crypto::WebPkiSupportedAlgorithms {
    rustls::crypto::ring::default_provider().signature_verification_algorithms
}

#[cfg(test)]
mod tests;
