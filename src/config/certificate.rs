//! Certificates, keys and OCSP responses: from PEM and DER files to what the proxy presents.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use webpki::EndEntityCert;

use super::listen::{PrivateKey, ServerName};
use super::secret::{Reader, Refusal, octets, refusal};

/// The largest file.
const MOST_OCTETS: usize = 1 << 20;
/// All files of one configuration together.
const MOST_IN_ALL: usize = 64 << 20;
/// Certificates of one chain: clients give up far earlier.
const MOST_IN_CHAIN: usize = 16;
/// Certificates of CAs for the clients of one listener.
const MOST_CAS: usize = 1024;

/// Reads the files that one configuration names, up to a bound over all of them.
pub(super) struct Files<'b> {
    base: &'b Path,
    left: Cell<usize>,
}

impl<'b> Files<'b> {
    /// `base` is where relative paths begin.
    pub(super) fn new(base: &'b Path) -> Self {
        Self { base, left: Cell::new(MOST_IN_ALL) }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// A chain of certificates, the leaf first.
    pub(super) fn chain(&self, name: &str) -> Result<Vec<Vec<u8>>, Refusal> {
        let certificates = self.certificates(name, MOST_IN_CHAIN)?;
        EndEntityCert::try_from(&CertificateDer::from(certificates[0].as_slice())).map_err(|error| {
            let message = format!("the first certificate in {} cannot be used: {error}", self.shown(name));
            refusal(
                message,
                "the certificate of the server comes first, X.509 version 3, the others after it",
            )
        })?;
        Ok(certificates)
    }

    /// The CAs that clients' certificates are checked against.
    pub(super) fn authorities(&self, name: &str) -> Result<Vec<Vec<u8>>, Refusal> {
        let certificates = self.certificates(name, MOST_CAS)?;
        for (number, certificate) in certificates.iter().enumerate() {
            webpki::anchor_from_trusted_cert(&CertificateDer::from(certificate.as_slice())).map_err(
                |error| {
                    let number = number + 1;
                    let message =
                        format!("certificate {number} in {} cannot be used: {error}", self.shown(name));
                    refusal(message, "only certificates of CAs belong here")
                },
            )?;
        }
        Ok(certificates)
    }

    /// A private key that nobody else can read.
    pub(super) fn key(&self, name: &str) -> Result<PrivateKey, Refusal> {
        let shown = self.shown(name);
        let text = self.octets(name, Reader::Us)?;
        // PKCS #8 says so in its label, the older forms in a header below it (RFC 1421 §4.6.1.1).
        let mut encrypted = contains(&text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----");
        encrypted |= contains(&text, b"Proc-Type: 4,ENCRYPTED");
        if encrypted {
            let hint = format!(
                "nobody is there to type a passphrase: `openssl pkey -in {shown} -out KEY` decrypts it"
            );
            return Err(refusal(format!("the key in {shown} is encrypted"), hint));
        }
        let mut keys = Vec::new();
        for section in sections(&text, &shown)? {
            match section {
                (SectionKind::PrivateKey, der) => keys.push(PrivateKey::Pkcs8(der)),
                (SectionKind::RsaPrivateKey, der) => keys.push(PrivateKey::Pkcs1(der)),
                (SectionKind::EcPrivateKey, der) => keys.push(PrivateKey::Sec1(der)),
                _ => {}
            }
        }
        match (keys.pop(), keys.len()) {
            (Some(key), 0) => Ok(key),
            (None, _) => Err(refusal(
                format!("no private key in {shown}"),
                no_pem(&text, "-----BEGIN PRIVATE KEY-----"),
            )),
            (Some(_), more) => {
                Err(refusal(format!("{} private keys in {shown}", more + 1), "one: that of the certificate"))
            }
        }
    }

    /// An OCSP response.
    pub(super) fn ocsp(&self, name: &str) -> Result<Vec<u8>, Refusal> {
        let shown = self.shown(name);
        let der = self.octets(name, Reader::Everybody)?;
        if der.starts_with(b"-----BEGIN") {
            return Err(refusal(format!("{shown} is PEM"), "DER, as `openssl ocsp -respout` writes it"));
        }
        // RFC 6960 §4.2.1: a SEQUENCE that begins with the ENUMERATED status.
        let status = sequence(&der).and_then(|inside| match inside {
            [0x0a, 1, status, ..] => Some(*status),
            _ => None,
        });
        match status {
            Some(0) => Ok(der),
            Some(status) => Err(refusal(
                format!("the OCSP response in {shown} carries the error {status} instead of an answer"),
                "ask the CA's responder again, or leave `ocsp` out",
            )),
            None => Err(refusal(
                format!("no OCSP response in {shown}"),
                "DER, as `openssl ocsp -respout` writes it",
            )),
        }
    }

    fn certificates(&self, name: &str, most: usize) -> Result<Vec<Vec<u8>>, Refusal> {
        let shown = self.shown(name);
        let text = self.octets(name, Reader::Everybody)?;
        let certificates: Vec<_> = sections(&text, &shown)?
            .into_iter()
            .filter_map(|(kind, der)| (kind == SectionKind::Certificate).then_some(der))
            .collect();
        match certificates.len() {
            0 => Err(refusal(
                format!("no certificate in {shown}"),
                no_pem(&text, "-----BEGIN CERTIFICATE-----"),
            )),
            many if many > most => {
                Err(refusal(format!("{many} certificates in {shown}"), format!("at most {most} are taken")))
            }
            _ => Ok(certificates),
        }
    }

    fn octets(&self, name: &str, reader: Reader) -> Result<Vec<u8>, Refusal> {
        let octets = octets(&self.path(name), reader, MOST_OCTETS + 1)?;
        if octets.len() > MOST_OCTETS {
            return Err(refusal(
                format!("{} is larger than 1 MiB", self.shown(name)),
                "is it the right file?",
            ));
        }
        let left = self.left.get().checked_sub(octets.len()).ok_or_else(|| {
            refusal(
                "the files of this configuration are larger than 64 MiB in all",
                "use fewer or shorter ones",
            )
        })?;
        self.left.set(left);
        Ok(octets)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// Whether a key is that of the first certificate of a chain.
pub(super) fn belongs(chain: &[Vec<u8>], key: &PrivateKey) -> Result<(), Refusal> {
    let der = match key {
        PrivateKey::Pkcs8(der) => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.as_slice())),
        PrivateKey::Pkcs1(der) => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der.as_slice())),
        PrivateKey::Sec1(der) => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der.as_slice())),
    };
    let key = any_supported_type(&der).map_err(|_| {
        let hint = "ECDSA on P-256 or P-384, Ed25519, or RSA of 2,048 to 8,192 bits";
        refusal("the key is of no kind that is taken here", hint)
    })?;
    let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    match CertifiedKey::new(chain, key).keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(refusal(
            "the key does not belong to the certificate",
            "`openssl pkey -in KEY -pubout` and `openssl x509 -in CERTIFICATE -pubkey -noout` show the same key",
        )),
        _ => Ok(()),
    }
}

/// The DNS names that a certificate is for, without repetitions.
pub(super) fn names(certificate: &[u8]) -> Vec<ServerName> {
    let certificate = CertificateDer::from(certificate);
    let Ok(certificate) = EndEntityCert::try_from(&certificate) else { return Vec::new() };
    let mut names: Vec<ServerName> = Vec::new();
    for name in certificate.valid_dns_names().filter_map(ServerName::read) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn sections(text: &[u8], shown: &str) -> Result<Vec<(SectionKind, Vec<u8>)>, Refusal> {
    let sections: Result<Vec<_>, pem::Error> = <(SectionKind, Vec<u8>)>::pem_slice_iter(text).collect();
    // The error's own words may hold a line of a key.
    sections.map_err(|error| {
        let what = match error {
            pem::Error::MissingSectionEnd { .. } => "its last part has no END line",
            pem::Error::IllegalSectionStart { .. } => "a BEGIN line is not whole",
            pem::Error::Base64Decode(_) => "what stands between BEGIN and END is no base64",
            _ => "its parts cannot be told",
        };
        refusal(format!("{shown} is no PEM file: {what}"), "copy it again; it may be torn")
    })
}

/// What to say to a file without the part that was looked for.
fn no_pem(text: &[u8], label: &str) -> String {
    match text {
        [] => "the file is empty".to_owned(),
        [0x30, ..] => {
            "it looks like DER: `openssl x509 -inform DER` or `openssl pkey -inform DER` turns it into PEM"
                .to_owned()
        }
        _ => format!("PEM, with a line `{label}`"),
    }
}

/// The inside of a DER SEQUENCE that is all there is.
fn sequence(der: &[u8]) -> Option<&[u8]> {
    let (&[0x30, first], rest) = der.split_first_chunk::<2>()? else { return None };
    let (length, inside) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (octets, inside) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), inside)
        }
        _ => return None,
    };
    (inside.len() == length).then_some(inside)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_whole_or_none() {
        let long = [[0x30, 0x82, 0x01, 0x00].as_slice(), &[7; 256]].concat();
        assert_eq!(sequence(&long).map(<[u8]>::len), Some(256));
        assert_eq!(sequence(&[0x30, 3, 0x0a, 1, 0]), Some(&[0x0a, 1, 0][..]));
        for der in [
            &[][..],
            &[0x30],
            &[0x30, 3, 0x0a, 1],
            &[0x30, 0x80, 0, 0],
            &[0x31, 0],
            &[0x30, 0x81],
            &[0x30, 0, 0],
        ] {
            assert_eq!(sequence(der), None, "{der:?}");
        }
    }
}
