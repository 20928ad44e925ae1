//! The client's side of a handshake with ourselves.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::proxy::desk::Proof;
use crate::proxy::tls::provider::provider;

/// Shakes hands, and then waits for what the worker found out.
pub(super) async fn shake(
    stream: &TcpStream,
    name: Option<&str>,
    mut proof: oneshot::Receiver<Proof>,
) -> Result<Proof, String> {
    // A name is sent if there is one; an address never is (RFC 6066 §3).
    let name = name.unwrap_or("127.0.0.1").to_owned();
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let mut client = ClientConnection::new(config(), name).map_err(|error| error.to_string())?;
    let lost = |_| "the worker dropped the connection".to_owned();
    while client.is_handshaking() || client.wants_write() {
        if let Ok(proof) = proof.try_recv() {
            return Ok(proof);
        }
        let io = |error: io::Error| format!("handshake: {error}");
        if client.wants_write() {
            stream.writable().await.map_err(io)?;
            match client.write_tls(&mut Writes(stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => drop(done.map_err(io)?),
            }
            continue;
        }
        tokio::select! {
            proof = &mut proof => return proof.map_err(lost),
            readable = stream.readable() => readable.map_err(io)?,
        }
        match client.read_tls(&mut Reads(stream)) {
            Ok(0) => return proof.await.map_err(lost),
            Ok(_) => {
                client.process_new_packets().map_err(|error| format!("handshake: {error}"))?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The worker knows better why.
            Err(_) => return proof.await.map_err(lost),
        }
    }
    proof.await.map_err(lost)
}

fn config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let make = || {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider's suites are those of both versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Ours))
            .with_no_client_auth();
        // Every handshake whole: the certificate's key is a part of what is proven.
        config.resumption = Resumption::disabled();
        Arc::new(config)
    };
    Arc::clone(CONFIG.get_or_init(make))
}

/// Any certificate will do, for nobody else answers here; but its key must sign.
#[derive(Debug)]
struct Ours;

impl ServerCertVerifier for Ours {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

struct Reads<'s>(&'s TcpStream);

impl io::Read for Reads<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

struct Writes<'s>(&'s TcpStream);

impl io::Write for Writes<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.try_write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
