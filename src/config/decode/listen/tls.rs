//! Reads TLS that ends at the proxy, with the files it names.

use super::names;
use crate::config::certificate::{self, Files};
use crate::config::listen::{ClientCertificates, Identity, PrivateKey, ServerName, Tls, TlsVersion};
use crate::config::read::{Fields, Spot, Unique};
use crate::config::secret::Refusal;

const MOST_PROTOCOLS: usize = 16;
const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
const REQUIRED: [(&str, bool); 2] = [("required", true), ("optional", false)];

/// Gives also the place of what its names come from.
pub(super) fn decode<'a>(spot: &Spot<'a>, files: &Files<'_>) -> Option<(Tls, Spot<'a>)> {
    let mut fields = spot.fields()?;
    let identity = identity(&mut fields, files);
    let names_at = fields.get("names");
    let names = names_at.as_ref().map(names);
    let alpn = fields.get("alpn").and_then(|spot| alpn(&spot)).unwrap_or_default();
    let minimum = fields.get("minimum").and_then(|spot| spot.choice(&VERSIONS)).unwrap_or_default();
    let clients = clients(&mut fields, files);
    let acme = fields.get("acme").and_then(|spot| spot.socket());
    fields.close(&[]);
    let identity = identity?;
    let names = match names {
        Some(names) => names?,
        None => of_certificate(&identity),
    };
    let tls = Tls { identity, names, alpn, minimum, clients: clients?, acme };
    Some((tls, names_at.unwrap_or_else(|| spot.clone())))
}

fn of_certificate(identity: &Identity) -> Vec<ServerName> {
    match identity {
        Identity::Files { chain, .. } => {
            chain.first().map(|leaf| certificate::names(leaf)).unwrap_or_default()
        }
        Identity::SelfSigned => Vec::new(),
    }
}

fn identity(fields: &mut Fields<'_>, files: &Files<'_>) -> Option<Identity> {
    let hint = "write it to a file that only edgeproxy can read, and name that with `key`";
    fields.never("private_key", "secrets never stand in the configuration", hint);
    let self_signed = fields.get("self_signed");
    if self_signed.as_ref().is_some_and(|spot| spot.switch() != Some(false)) {
        for key in ["certificate", "key", "ocsp"] {
            if let Some(spot) = fields.get(key) {
                spot.refuse(format!("`{key}` and `self_signed` exclude each other"), "remove one of them");
            }
        }
        return Some(Identity::SelfSigned);
    }
    let certificate = fields.need("certificate");
    let chain = certificate.as_ref().and_then(|spot| file(spot, |name| files.chain(name)));
    let key_at = fields.need("key");
    let key: Option<PrivateKey> = key_at.as_ref().and_then(|spot| file(spot, |name| files.key(name)));
    let ocsp = fields.get("ocsp").map(|spot| file(&spot, |name| files.ocsp(name)));
    let (chain, key) = (chain?, key?);
    if let (Err(refusal), Some(spot)) = (certificate::belongs(&chain, &key), &key_at) {
        spot.refuse(refusal.message, refusal.hint);
    }
    let ocsp = match ocsp {
        Some(ocsp) => Some(ocsp?),
        None => None,
    };
    Some(Identity::Files { chain, key, ocsp })
}

fn clients(fields: &mut Fields<'_>, files: &Files<'_>) -> Option<ClientCertificates> {
    let authorities = fields.get("client_ca");
    let required_at = fields.get("client_auth");
    let required = required_at.as_ref().and_then(|spot| spot.choice(&REQUIRED)).unwrap_or(true);
    let Some(spot) = authorities else {
        if let Some(spot) = required_at {
            let hint = "add `client_ca: FILE` with the CAs of the clients, or remove it";
            spot.refuse("`client_auth` without `client_ca`", hint);
        }
        return Some(ClientCertificates::Off);
    };
    let authorities = file(&spot, |name| files.authorities(name))?;
    Some(if required {
        ClientCertificates::Required(authorities)
    } else {
        ClientCertificates::Optional(authorities)
    })
}

/// What stands in the file that a spot names.
pub(in crate::config::decode) fn file<T>(
    spot: &Spot<'_>,
    read: impl FnOnce(&str) -> Result<T, Refusal>,
) -> Option<T> {
    if spot.text()?.starts_with("-----BEGIN") {
        spot.refuse(
            "expected the name of a file, found what belongs into it",
            "write it to a file and name that",
        );
        return None;
    }
    match read(spot.line(4096)?) {
        Ok(read) => Some(read),
        Err(refusal) => {
            spot.refuse(refusal.message, refusal.hint);
            None
        }
    }
}

/// RFC 7301 §3.1: names of 1 to 255 octets.
fn alpn(spot: &Spot<'_>) -> Option<Vec<String>> {
    let mut unique = Unique::default();
    let mut protocols = Vec::new();
    for spot in spot.filled_list(MOST_PROTOCOLS)? {
        let Some(name) = spot.line(255) else { continue };
        match name {
            "" => spot.refuse("a protocol without a name", "`h2`, `http/1.1`"),
            // RFC 8737 §4: only for validation, never for what a service speaks.
            "acme-tls/1" => {
                spot.refuse(
                    "`acme-tls/1` is not spoken by a service",
                    "`acme: ADDRESS:PORT` says where it goes",
                );
            }
            _ if unique.claim(&spot, name) => protocols.push(name.to_owned()),
            _ => {}
        }
    }
    Some(protocols)
}
