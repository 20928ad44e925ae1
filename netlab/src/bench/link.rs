//! One connection of a load, plain or TLS, nonblocking.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use socket2::{Domain, Protocol, Socket, Type};

use super::backend::again;

/// Where a load goes.
#[derive(Debug, Clone)]
pub struct Target {
    pub address: SocketAddr,
    /// TLS, if set.
    pub tls: Option<Arc<ClientConfig>>,
}

/// The connection.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Link {
    /// Begins to connect.
    ///
    /// # Errors
    /// The kernel's; a refusal may show only when octets are sent.
    pub fn dial(target: &Target) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&target.address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let tls = match &target.tls {
            None => None,
            Some(config) => {
                let name = ServerName::try_from(super::certificate::NAME).map_err(io::Error::other)?;
                let tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                Some(Box::new(tls))
            }
        };
        Ok(Self { stream: socket.into(), tls })
    }

    /// Sends what the socket takes. Behind TLS everything is taken, and goes when the handshake lets it.
    ///
    /// # Errors
    /// A broken connection's.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => Ok(again(self.stream.write(octets).map_err(connecting))?.unwrap_or(0)),
            Some(tls) => {
                tls.writer().write_all(octets)?;
                flush(tls, &mut self.stream)?;
                Ok(octets.len())
            }
        }
    }

    /// Receives; `None` when there is nothing yet, 0 at the end. Carries the handshake on.
    ///
    /// # Errors
    /// A broken connection's, or TLS that makes no sense.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(tls) = &mut self.tls else { return again(self.stream.read(buffer)) };
        loop {
            match tls.reader().read(buffer) {
                // Some peers end without close_notify: what was asked for has come, or has not.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(0)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done.map(Some),
            }
            let read = again(tls.read_tls(&mut self.stream))?;
            tls.process_new_packets().map_err(io::Error::other)?;
            flush(tls, &mut self.stream)?;
            if read.is_none() {
                return Ok(None);
            }
        }
    }

    /// Whether the other side said that it sends no more (close_notify). Some then wait for ours before
    /// they close, and there is no event to wait for.
    #[must_use]
    pub fn has_said_goodbye(&mut self) -> bool {
        let state = self.tls.as_mut().and_then(|tls| tls.process_new_packets().ok());
        state.is_some_and(|state| state.peer_has_closed())
    }

    /// Ends it as a client should: with close_notify behind TLS.
    pub fn close(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // Whoever is gone already does not miss it.
            let _ = flush(tls, &mut self.stream);
        }
    }

    /// Gives TLS up: what comes from now on is ciphertext that nobody reads. It keeps the load cheaper than
    /// any proxy that it measures.
    #[must_use]
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Sends, and waits until as many octets came back.
    ///
    /// # Errors
    /// `TimedOut`, or a broken connection's, also when something else came back.
    pub fn exchange(&mut self, octets: &[u8], within: Duration) -> io::Result<()> {
        let deadline = Instant::now() + within;
        let (mut sent, mut answer) = (0, Vec::new());
        let mut buffer = [0; 4096];
        while answer.len() < octets.len() {
            if sent < octets.len() {
                sent += self.send(&octets[sent..])?;
            }
            match self.receive(&mut buffer)? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(count) => answer.extend_from_slice(&buffer[..count]),
                None if Instant::now() >= deadline => return Err(io::ErrorKind::TimedOut.into()),
                None => {
                    let flags = if sent < octets.len() { PollFlags::POLLOUT } else { PollFlags::POLLIN };
                    poll(&mut [PollFd::new(self.stream.as_fd(), flags)], PollTimeout::from(100_u8))?;
                }
            }
        }
        if answer == octets { Ok(()) } else { Err(io::Error::other("the answer is not the request")) }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// TLS 1.3 with X25519, which every peer speaks, and never a resumption. Signatures are not checked: that
/// would cost the load's processor time and none of the proxy's.
///
/// # Errors
/// Never in practice: the provider supports TLS 1.3.
pub fn client_config() -> Result<Arc<ClientConfig>, Error> {
    let mut provider = ring::default_provider();
    provider.kx_groups = vec![ring::kx_group::X25519];
    let provider = Arc::new(provider);
    let unchecked = Arc::new(Unchecked(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(unchecked)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn flush(tls: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        if again(tls.write_tls(stream).map_err(connecting))?.is_none() {
            break;
        }
    }
    Ok(())
}

/// A socket that is not connected yet takes nothing, which is no fault.
fn connecting(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::NotConnected { io::ErrorKind::WouldBlock.into() } else { error }
}
