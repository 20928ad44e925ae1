//! A client in memory, of rustls's own making, and a server of ours that it talks to.

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, SupportedProtocolVersion};

use super::*;
use crate::config::listen::{ClientCertificates, Identity, PrivateKey, ServerName, Tls, TlsVersion};
use crate::proxy::tls::hello::Hello;
use crate::proxy::tls::provider::{Preference, preferring};
use crate::proxy::tls::store::Terminate;
use crate::proxy::tls::tickets::Tickets;

pub(super) const NAME: &str = "www.example.net";
pub(super) const HOUR: Duration = Duration::from_hours(1);

/// Everybody's CA, and leaves that it signed.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) der: Vec<u8>,
}

pub(super) static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test CA");
    let key = KeyPair::generate().unwrap();
    let der = params.self_signed(&key).unwrap().der().to_vec();
    Authority { issuer: Issuer::new(params, key), der }
});

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ecdsa,
    Rsa,
}

/// A leaf and its PKCS #8 key.
pub(super) fn leaf(name: &str, kind: Kind) -> (Vec<u8>, Vec<u8>) {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    static RSA: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        AsDer::<Pkcs8V1Der<'_>>::as_der(&key).unwrap().as_ref().to_vec()
    });
    let key = match kind {
        Kind::Ecdsa => KeyPair::generate().unwrap(),
        Kind::Rsa => KeyPair::try_from(&PrivatePkcs8KeyDer::from(RSA.as_slice())).unwrap(),
    };
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, &AUTHORITY.issuer).unwrap();
    (certificate.der().to_vec(), key.serialize_der())
}

/// A section of the configuration for [`NAME`].
pub(super) fn section(kind: Kind) -> Tls {
    let (certificate, key) = leaf(NAME, kind);
    Tls {
        identity: Identity::Files {
            chain: vec![certificate],
            key: PrivateKey::Pkcs8(key),
            ocsp: Some(b"\x30\x03\x0a\x01\x00".to_vec()),
        },
        names: vec![ServerName(NAME.into())],
        alpn: vec!["h2".into(), "http/1.1".into()],
        minimum: TlsVersion::V1_2,
        clients: ClientCertificates::Off,
        acme: None,
    }
}

/// A server with tickets of its own.
pub(super) struct Server {
    pub(super) tickets: Arc<Tickets>,
    pub(super) began: Instant,
    terminate: Terminate,
}

impl Server {
    pub(super) fn new(tls: &Tls) -> Self {
        let began = Instant::now();
        let tickets = Tickets::default();
        tickets.set_interval(HOUR);
        tickets.handle_time(began);
        Self::with(tls, Arc::new(tickets), began)
    }

    pub(super) fn with(tls: &Tls, tickets: Arc<Tickets>, began: Instant) -> Self {
        let terminate = Terminate::new(tls, &tickets).unwrap();
        Self { tickets, began, terminate }
    }

    /// A handshake with a client that has not said anything.
    pub(super) fn handshake(&self) -> Handshake {
        let hello =
            Hello { server_name: None, alpn: Box::default(), versions: Vec::new(), prefers_chacha: false };
        Handshake::new(Arc::clone(self.terminate.config(&hello))).unwrap()
    }
}

pub(super) static V12: &SupportedProtocolVersion = &TLS12;
pub(super) static V13: &SupportedProtocolVersion = &TLS13;

/// A client that trusts the authority, and may have a certificate of it.
pub(super) fn client(
    version: &'static SupportedProtocolVersion,
    preference: Preference,
    certificate: Option<(Vec<u8>, Vec<u8>)>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(AUTHORITY.der.clone())).unwrap();
    let builder = ClientConfig::builder_with_provider(preferring(preference));
    let builder = builder.with_protocol_versions(&[version]).unwrap().with_root_certificates(roots);
    let mut config = match certificate {
        Some((leaf, key)) => {
            builder.with_client_auth_cert(vec![leaf.into()], PrivatePkcs8KeyDer::from(key).into()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::in_memory_sessions(8);
    config
}

/// Both ends of a session.
pub(super) struct Pair {
    pub(super) client: ClientConnection,
    pub(super) session: Box<Session>,
    pub(super) agreed: Agreed,
    /// What the client has sent and the session has not taken.
    pub(super) incoming: Vec<u8>,
}

/// A handshake that failed, as both saw it.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) server: Option<TlsError>,
    pub(super) client: Option<rustls::Error>,
}

/// A handshake in which the server gets the client's octets in parts of `part`.
#[expect(clippy::result_large_err, reason = "a test looks at all of it")]
pub(super) fn shake(server: &Server, config: &Arc<ClientConfig>, part: usize) -> Result<Pair, Failed> {
    let name = rustls::pki_types::ServerName::try_from(NAME).unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut said = Vec::new();
    client.write_tls(&mut said).unwrap();
    let hello = Hello::read(&said).unwrap().expect("it is whole");
    assert_eq!(hello.server_name, Some(NAME.to_owned()));
    let mut hand = Box::new(Handshake::new(Arc::clone(server.terminate.config(&hello))).unwrap());
    let (mut incoming, mut plain) = (Vec::new(), Vec::new());
    loop {
        assert!(!said.is_empty(), "both wait");
        let taken = said.len().min(part);
        incoming.extend(said.drain(..taken));
        let mut out = Vec::new();
        let step = hand.advance(&mut incoming, &mut out, &mut plain);
        let heard = hear(&mut client, &out);
        let step = match (step, heard) {
            (Ok(step), Ok(())) => step,
            (step, heard) => return Err(Failed { server: step.err(), client: heard.err() }),
        };
        client.write_tls(&mut said).unwrap();
        hand = match step {
            Step::More(hand) => hand,
            Step::Done(session, agreed) => {
                assert!(plain.is_empty());
                incoming.append(&mut said);
                return Ok(Pair { client, session, agreed, incoming });
            }
        };
    }
}

/// The client takes what the server has sent.
pub(super) fn hear(client: &mut ClientConnection, mut octets: &[u8]) -> Result<(), rustls::Error> {
    while !octets.is_empty() {
        client.read_tls(&mut octets).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

impl Pair {
    /// What the client has to send goes to the session, in parts of `part`. The answer is the plaintext.
    pub(super) fn up(&mut self, part: usize) -> Result<Vec<u8>, TlsError> {
        let mut said = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut said).unwrap();
        }
        let mut plain = Vec::new();
        for part in said.chunks(part) {
            self.incoming.extend_from_slice(part);
            let (mut places, mut out) = (Vec::new(), Vec::new());
            let opened = self.session.open(&mut self.incoming, &mut places, &mut out);
            plain.extend(places.into_iter().flat_map(|place| self.incoming[place].to_vec()));
            let heard = hear(&mut self.client, &out);
            self.incoming.drain(..opened?);
            heard.expect("the session answers well");
        }
        Ok(plain)
    }

    /// The client says this, and the session hears it.
    pub(super) fn send_up(&mut self, octets: &[u8], part: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        for some in octets.chunks(40_000) {
            self.client.writer().write_all(some).unwrap();
            heard.extend(self.up(part).unwrap());
        }
        heard
    }

    /// One record of the session's.
    pub(super) fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let (before, behind) = self.session.margins();
        let mut record = [&vec![0; before], plain, &vec![0; behind]].concat();
        self.session.seal(&mut record);
        record
    }

    /// The session says this in records of at most `most` octets, and the client hears it.
    pub(super) fn send_down(&mut self, octets: &[u8], most: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        for some in octets.chunks(most) {
            let mut update = Vec::new();
            self.session.renew(&mut update).unwrap();
            hear(&mut self.client, &update).unwrap();
            let record = self.seal(some);
            hear(&mut self.client, &record).unwrap();
            let mut buffer = [0; 1 << 14];
            let got = self.client.reader().read(&mut buffer).unwrap();
            heard.extend_from_slice(&buffer[..got]);
        }
        heard
    }
}
