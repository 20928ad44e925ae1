//! The same flows over TLS, one thread each: handshakes are long, and the lab's are few.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, Stream};
use socket2::{Domain, Protocol, Socket, Type};

use super::super::{HEADER, header, lock};
use super::flow::{PATIENCE, end_by};
use super::{End, MAX_SLEEP, Plan, Shared};
use crate::moment::Moment;

/// Flows at once; those that are due meanwhile begin late, and it shows in their latency.
const AT_ONCE: usize = 512;
const STACK: usize = 256 << 10;

/// Opens the flows one after another until all have ended.
pub(super) fn run(shared: &Arc<Shared>, plan: &Plan, name: &ServerName<'static>, begun: Moment) {
    let Ok(config) = config() else { return };
    let config = Arc::new(config);
    let stops = || shared.stop.load(Ordering::Acquire);
    thread::scope(|scope| {
        let mut living: Vec<thread::ScopedJoinHandle<'_, ()>> = Vec::new();
        for index in 0..plan.count {
            let due = begun + plan.opens_after(index);
            while !stops() && (Moment::now() < due || living.len() >= AT_ONCE) {
                living.retain(|one| !one.is_finished());
                thread::sleep(due.since(Moment::now()).clamp(Duration::from_millis(1), MAX_SLEEP));
            }
            if stops() {
                return;
            }
            let config = Arc::clone(&config);
            let life = move || {
                let end = live(shared, plan, index, due, config, name.clone());
                lock(&shared.record).handle_end(index, Moment::now(), end);
            };
            match thread::Builder::new().stack_size(STACK).spawn_scoped(scope, life) {
                Ok(one) => living.push(one),
                Err(_) => {
                    lock(&shared.record).handle_end(index, Moment::now(), End::Broken("it had no thread"));
                }
            }
        }
    });
}

fn config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let trust = Arc::new(Anyone(Arc::clone(&provider)));
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(versions.dangerous().with_custom_certificate_verifier(trust).with_no_client_auth())
}

fn live(
    shared: &Shared,
    plan: &Plan,
    index: usize,
    due: Moment,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> End {
    let mut answered = false;
    let life = || -> Result<End, End> {
        let mut socket = connect(plan).map_err(|error| end_by(&error))?;
        let mut tls =
            ClientConnection::new(config, name).map_err(|_| End::Broken("it could not speak TLS"))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).map_err(|error| in_handshake(&error))?;
        }
        let opened = Moment::now();
        lock(&shared.record).handle_opened(index, opened);
        let over = opened + plan.length(index);
        let mut number = 0;
        loop {
            let asked_at = Moment::now();
            let request = header(index as u32, number);
            let mut stream = Stream::new(&mut tls, &mut socket);
            let mut echo = [0; HEADER];
            stream
                .write_all(&request)
                .and_then(|()| stream.read_exact(&mut echo))
                .map_err(|error| early(&error))?;
            if echo != request {
                return Err(End::Broken("it was echoed wrongly"));
            }
            if !answered {
                lock(&shared.record).handle_answered(index, due, Moment::now());
                answered = true;
            }
            number += 1;
            let next = (asked_at + plan.every).min(over);
            wait(shared, &mut tls, &mut socket, next)?;
            if shared.stop.load(Ordering::Acquire) {
                return Err(End::Broken("its client was stopped"));
            }
            if Moment::now() >= over {
                return finish(&mut tls, &mut socket);
            }
        }
    };
    life().unwrap_or_else(|end| end)
}

fn connect(plan: &Plan) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(plan.target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect_timeout(&plan.target.into(), PATIENCE)?;
    Ok(socket.into())
}

/// Until then nothing may come.
fn wait(
    shared: &Shared,
    tls: &mut ClientConnection,
    socket: &mut TcpStream,
    until: Moment,
) -> Result<(), End> {
    while let Some(left) = until.after(Moment::now()) {
        if shared.stop.load(Ordering::Acquire) {
            break;
        }
        let patience = left.clamp(Duration::from_millis(1), 5 * MAX_SLEEP);
        socket.set_read_timeout(Some(patience)).map_err(|error| end_by(&error))?;
        match Stream::new(tls, socket).read(&mut [0; HEADER]) {
            Ok(0) => return Err(End::Notified),
            Ok(_) => return Err(End::Broken("it was echoed wrongly")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(early(&error)),
        }
    }
    socket.set_read_timeout(Some(PATIENCE)).map_err(|error| end_by(&error))
}

/// Says that it is all, and hears the same.
fn finish(tls: &mut ClientConnection, socket: &mut TcpStream) -> Result<End, End> {
    tls.send_close_notify();
    while tls.wants_write() {
        tls.write_tls(socket).map_err(|error| end_by(&error))?;
    }
    match Stream::new(tls, socket).read(&mut [0; HEADER]) {
        Ok(0) => Ok(End::Completed),
        Ok(_) => Err(End::Broken("it was echoed wrongly")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(End::Broken("its close_notify was answered by none"))
        }
        Err(error) => Err(early(&error)),
    }
}

fn in_handshake(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => End::Broken("it was closed in its handshake"),
        io::ErrorKind::InvalidData => End::Broken("its handshake failed"),
        io::ErrorKind::WouldBlock => End::Broken("its handshake was not answered"),
        _ => end_by(error),
    }
}

fn early(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => End::Broken("it was closed early without close_notify"),
        io::ErrorKind::InvalidData => End::Broken("what came was not TLS"),
        io::ErrorKind::WouldBlock => End::Broken("it was not echoed"),
        _ => end_by(error),
    }
}

/// Takes any certificate: whose it is, the lab asks elsewhere. What is signed with it must be right.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
