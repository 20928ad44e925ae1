//! A certificate for first steps: no client trusts it, and it says so itself.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::config::listen::ServerName;

/// Whoever looks at the certificate sees this.
const WHO: &str = "edgeproxy self-signed: not for production";

/// A fresh certificate and its key, for these names, or for `localhost`.
///
/// # Errors
/// In words.
pub(super) fn self_signed(
    names: &[ServerName],
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), String> {
    let mut names: Vec<_> = names.iter().map(|ServerName(name)| name.clone()).collect();
    if names.is_empty() {
        names.push("localhost".to_owned());
    }
    let make = || {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, WHO);
        let certificate = params.self_signed(&key)?;
        Ok::<_, rcgen::Error>((certificate, key))
    };
    let (certificate, key) =
        make().map_err(|error| format!("no certificate of our own can be made: {error}"))?;
    Ok((certificate.der().clone(), PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))))
}
