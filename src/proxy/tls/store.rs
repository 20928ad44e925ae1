//! Server names of one door: which service each leads to, and with what certificate.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ring::digest;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, SupportedProtocolVersion};

use super::hello::Hello;
use super::provider::{Preference, preferring, provider};
use super::self_signed::self_signed;
use super::tickets::Tickets;
use crate::config::listen::{ClientCertificates, Identity, PrivateKey, ServerName, Tls, TlsVersion};
use crate::config::x509;

/// Where a name leads.
#[derive(Debug, Clone)]
pub struct Route {
    pub service: Arc<str>,
    /// None: the backend ends TLS itself.
    pub terminate: Option<Terminate>,
}

/// How TLS ends here.
#[derive(Clone)]
pub struct Terminate {
    /// By what the client prefers: AES, ChaCha20-Poly1305.
    configs: [Arc<ServerConfig>; 2],
    /// Where TLS-ALPN-01 challenges go.
    pub acme: Option<SocketAddr>,
}

impl Terminate {
    /// Makes what a section of the configuration asks for.
    ///
    /// # Errors
    /// In words: a key that does not belong to its certificate, or that is of no kind we know.
    pub fn new(tls: &Tls, tickets: &Arc<Tickets>) -> Result<Self, String> {
        let certified = certified(&tls.identity, &tls.names)?;
        let config = |preference| server_config(tls, tickets, &certified, preference);
        let configs = [config(Preference::Aes)?, config(Preference::Chacha)?];
        Ok(Self { configs, acme: tls.acme })
    }

    /// What answers this client.
    #[must_use]
    pub fn config(&self, hello: &Hello) -> &Arc<ServerConfig> {
        &self.configs[usize::from(hello.prefers_chacha)]
    }
}

impl fmt::Debug for Terminate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminate").field("acme", &self.acme).finish_non_exhaustive()
    }
}

/// The names of one door. No name is there twice: the configuration was judged for that.
#[derive(Debug, Default)]
pub struct Names {
    exact: HashMap<String, Route>,
    /// By what follows the first label, the dot with it.
    wildcards: HashMap<String, Route>,
    /// Whoever asks for nothing that is known.
    others: Option<Route>,
}

impl Names {
    /// Adds a service with the names that lead to it; none: all others.
    pub fn add(&mut self, names: &[ServerName], route: &Route) {
        if names.is_empty() {
            self.others = Some(route.clone());
        }
        for ServerName(name) in names {
            match name.strip_prefix('*') {
                Some(suffix) => self.wildcards.insert(suffix.to_owned(), route.clone()),
                None => self.exact.insert(name.clone(), route.clone()),
            };
        }
    }

    /// Where a client leads that asks for this name; None: nowhere.
    /// A wildcard stands for one label (RFC 9525 §6.3), and an exact name comes before it.
    #[must_use]
    pub fn find(&self, name: Option<&str>) -> Option<&Route> {
        let known = name.and_then(|name| {
            let suffix = || name.find('.').map(|dot| &name[dot..]);
            self.exact.get(name).or_else(|| self.wildcards.get(suffix()?))
        });
        // A door with one service takes clients that name nothing: they are known by the address alone.
        known.or(self.others.as_ref()).or_else(|| if name.is_none() { self.only() } else { None })
    }

    /// For each service whose TLS ends here, a name that leads to it.
    pub fn ways(&self) -> impl Iterator<Item = (Option<String>, Arc<str>)> {
        let mut ways = BTreeMap::new();
        let here = |route: &&Route| route.terminate.is_some();
        if let Some(route) = self.others.as_ref().filter(here) {
            ways.insert(Arc::clone(&route.service), None);
        }
        for (suffix, route) in self.wildcards.iter().filter(|(_, route)| here(route)) {
            ways.insert(Arc::clone(&route.service), Some(format!("edgeproxy{suffix}")));
        }
        for (name, route) in self.exact.iter().filter(|(_, route)| here(route)) {
            ways.insert(Arc::clone(&route.service), Some(name.clone()));
        }
        ways.into_iter().map(|(service, name)| (name, service))
    }

    /// Every service once.
    pub fn services(&self) -> impl Iterator<Item = &Route> {
        let mut all: Vec<&Route> =
            self.exact.values().chain(self.wildcards.values()).chain(&self.others).collect();
        all.sort_by(|a, b| a.service.cmp(&b.service));
        all.dedup_by(|a, b| a.service == b.service);
        all.into_iter()
    }

    fn only(&self) -> Option<&Route> {
        let mut services = self.services();
        let first = services.next()?;
        services.next().is_none().then_some(first)
    }
}

/// A server's configuration for handshakes.
fn server_config(
    tls: &Tls,
    tickets: &Arc<Tickets>,
    certified: &Arc<CertifiedKey>,
    preference: Preference,
) -> Result<Arc<ServerConfig>, String> {
    let words = |error: &dyn fmt::Display| error.to_string();
    let versions: &[&SupportedProtocolVersion] = match tls.minimum {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(preferring(preference))
        .with_protocol_versions(versions)
        .map_err(|error| words(&error))?;
    let builder = match &tls.clients {
        ClientCertificates::Off => builder.with_no_client_auth(),
        ClientCertificates::Optional(authorities) | ClientCertificates::Required(authorities) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(authorities.iter().cloned().map(CertificateDer::from));
            let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            if matches!(tls.clients, ClientCertificates::Optional(_)) {
                verifier = verifier.allow_unauthenticated();
            }
            builder.with_client_cert_verifier(verifier.build().map_err(|error| words(&error))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(Always(Arc::clone(certified))));
    config.alpn_protocols = tls.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    // The best of what both have, by our measure: what a client offers last may be there for old servers only.
    config.ignore_client_order = true;
    config.ticketer = tickets.bound_to(policy(&tls.clients));
    // A session is known by its ticket only: any worker, and any POP, can resume it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    // RFC 8446 §8: early data can be replayed.
    config.max_early_data_size = 0;
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// What is asked of clients. A session that was begun under one policy must not be resumed under another: its client
/// may have been let in without a certificate. A renewed certificate of ours changes nothing.
fn policy(clients: &ClientCertificates) -> [u8; 32] {
    let (mode, authorities) = match clients {
        ClientCertificates::Off => (0, &[][..]),
        ClientCertificates::Optional(authorities) => (1, &authorities[..]),
        ClientCertificates::Required(authorities) => (2, &authorities[..]),
    };
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(&[mode]);
    for authority in authorities {
        hash.update(&x509::fingerprint(authority));
    }
    hash.finish().as_ref().try_into().expect("SHA-256 has 32 octets")
}

/// One certificate for whoever comes: the name has been judged before.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn certified(identity: &Identity, names: &[ServerName]) -> Result<Arc<CertifiedKey>, String> {
    let (chain, key, ocsp) = match identity {
        Identity::SelfSigned => {
            let (certificate, key) = self_signed(names)?;
            (vec![certificate], key, None)
        }
        Identity::Files { chain, key, ocsp } => {
            let key = match key {
                PrivateKey::Pkcs8(der) => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.clone())),
                PrivateKey::Pkcs1(der) => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der.clone())),
                PrivateKey::Sec1(der) => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der.clone())),
            };
            (chain.iter().cloned().map(CertificateDer::from).collect(), key, ocsp.clone())
        }
    };
    let mut certified = CertifiedKey::from_der(chain, key, &provider())
        .map_err(|error| format!("certificate and key: {error}"))?;
    certified.ocsp = ocsp;
    Ok(Arc::new(certified))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_names_come_before_wildcards_and_those_before_all_others() {
        let route = |service: &str| Route { service: service.into(), terminate: None };
        let name = |text: &str| ServerName(text.to_owned());
        let mut names = Names::default();
        names.add(&[name("www.example.net"), name("*.example.net")], &route("web"));
        names.add(&[name("api.example.net")], &route("api"));
        let find =
            |names: &Names, name: Option<&str>| names.find(name).map(|route| route.service.to_string());
        for (asked, service) in [
            (Some("www.example.net"), Some("web")),
            (Some("api.example.net"), Some("api")),
            (Some("other.example.net"), Some("web")),
            (Some("a.b.example.net"), None),
            (Some("example.net"), None),
            (Some("net"), None),
            (None, None),
        ] {
            assert_eq!(find(&names, asked).as_deref(), service, "{asked:?}");
        }
        names.add(&[], &route("rest"));
        assert_eq!(find(&names, Some("example.net")).as_deref(), Some("rest"));
        assert_eq!(find(&names, None).as_deref(), Some("rest"));
        assert_eq!(names.services().count(), 3);
    }

    #[test]
    fn a_door_with_one_service_needs_no_name_but_no_wrong_one_either() {
        let mut names = Names::default();
        let route = Route { service: "web".into(), terminate: None };
        names.add(&[ServerName("www.example.net".to_owned())], &route);
        assert!(names.find(None).is_some());
        assert!(names.find(Some("example.org")).is_none());
    }
}
