//! Makes what an identity consists of: the fleet's authority, the keys of POPs, and their certificates.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::config::pop_certificate::uri;
use crate::replication::version::Origin;

/// How long an authority is good for.
const AUTHORITY_DAYS: i64 = 3_650;
/// Clocks of machines that have just started may be behind.
const BACKDATED: Duration = Duration::hours(1);

/// Why something could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error("{0} is no name of a POP: 1 to 32 of a-z 0-9 -, beginning with a letter")]
    Pop(String),
    #[error("{0} is no name of a fleet: 1 to 63 of a-z 0-9 . -, beginning with a letter")]
    Fleet(String),
    #[error("{0}")]
    Crypto(#[from] rcgen::Error),
    #[error("the request is of {found}, not of {wanted}")]
    Another { wanted: String, found: String },
}

/// Whether a fleet may be called this.
#[must_use]
pub fn is_fleet(name: &str) -> bool {
    let inside =
        |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || b".-".contains(&letter);
    name.len() <= 63
        && name.starts_with(|letter: char| letter.is_ascii_lowercase())
        && name.bytes().all(inside)
}

/// Who signs the certificates of a fleet. Its key stays with the operator.
pub struct Authority {
    fleet: String,
    key: KeyPair,
    /// In PEM.
    certificate: String,
}

/// What a POP needs to belong to a fleet, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    pub authority: String,
    pub certificate: String,
    /// None if the POP has made its key itself.
    pub key: Option<String>,
}

impl Authority {
    /// A new one, for a new fleet or to take another's place.
    ///
    /// # Errors
    /// When the fleet cannot be called this.
    pub fn new(fleet: &str, now: OffsetDateTime) -> Result<Self, IssueError> {
        if !is_fleet(fleet) {
            return Err(IssueError::Fleet(fleet.to_owned()));
        }
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("edgeProxy fleet {fleet}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = now - BACKDATED;
        params.not_after = now + Duration::days(AUTHORITY_DAYS);
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { fleet: fleet.to_owned(), key, certificate })
    }

    /// One that was made before, from PEM.
    ///
    /// # Errors
    /// When these are not its key and certificate.
    pub fn load(fleet: &str, key: &str, certificate: &str) -> Result<Self, IssueError> {
        let key = KeyPair::from_pem(key)?;
        Issuer::from_ca_cert_pem(certificate, &key)?;
        Ok(Self { fleet: fleet.to_owned(), key, certificate: certificate.to_owned() })
    }

    /// In PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// In PEM: secret.
    #[must_use]
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// Everything for a POP, its key included.
    ///
    /// # Errors
    /// When it cannot be called this.
    pub fn invite(&self, pop: &str, days: u32, now: OffsetDateTime) -> Result<Invitation, IssueError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let params = self.params(pop, days, now)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, &self.key)?;
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok(Invitation { authority: self.certificate.clone(), certificate, key: Some(key.serialize_pem()) })
    }

    /// The certificate for a key that the POP has made itself. Of its request nothing counts but the key, and that it
    /// is meant for this POP.
    ///
    /// # Errors
    /// When it is no request, or of another POP.
    pub fn sign(
        &self,
        pop: &str,
        request: &str,
        days: u32,
        now: OffsetDateTime,
    ) -> Result<Invitation, IssueError> {
        let mut request = CertificateSigningRequestParams::from_pem(request)?;
        let asked = request.params.subject_alt_names.iter().find_map(|name| match name {
            SanType::URI(name) => Some(name.to_string()),
            _ => None,
        });
        let wanted = uri(&self.fleet, pop);
        if asked.as_deref() != Some(&wanted) {
            let found = asked.unwrap_or_else(|| "nobody".to_owned());
            return Err(IssueError::Another { wanted, found });
        }
        request.params = self.params(pop, days, now)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, &self.key)?;
        let certificate = request.signed_by(&issuer)?.pem();
        Ok(Invitation { authority: self.certificate.clone(), certificate, key: None })
    }

    fn params(&self, pop: &str, days: u32, now: OffsetDateTime) -> Result<CertificateParams, IssueError> {
        let mut params = pop_params(&self.fleet, pop)?;
        params.not_before = now - BACKDATED;
        params.not_after = now + Duration::days(i64::from(days));
        Ok(params)
    }
}

/// A POP's own key and the request for its certificate, in PEM: (key, request). The key never leaves the machine.
///
/// # Errors
/// When POP or fleet cannot be called this.
pub fn request(fleet: &str, pop: &str) -> Result<(String, String), IssueError> {
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let request = pop_params(fleet, pop)?.serialize_request(&key)?.pem()?;
    Ok((key.serialize_pem(), request))
}

fn pop_params(fleet: &str, pop: &str) -> Result<CertificateParams, IssueError> {
    if !is_fleet(fleet) {
        return Err(IssueError::Fleet(fleet.to_owned()));
    }
    Origin::new(pop).ok_or_else(|| IssueError::Pop(pop.to_owned()))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named(pop);
    params.subject_alt_names = vec![SanType::URI(uri(fleet, pop).try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}
