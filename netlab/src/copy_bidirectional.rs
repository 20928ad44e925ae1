//! A proxy as everybody writes it first: tokio's `copy_bidirectional`, plain and behind tokio-rustls; a peer of the bench.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

/// `LISTEN BACKEND [TLS-LISTEN CHAIN KEY]`: serves until it is killed, on one thread.
///
/// # Errors
/// Wrong arguments, taken addresses, files that cannot be read.
pub fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let address = |place: usize| {
        let word = words.get(place).map_or("", String::as_str);
        word.parse::<SocketAddr>().map_err(|_| invalid(&format!("{word:?} is no address:port")))
    };
    let (plain, backend) = (address(0)?, address(1)?);
    let secure = match words.get(3..5) {
        Some([chain, key]) => Some((address(2)?, acceptor(chain, key)?)),
        _ if words.len() > 2 => return Err(invalid("LISTEN BACKEND [TLS-LISTEN CHAIN KEY]")),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async {
        let plain = serve(listen(plain)?, backend, None);
        match secure {
            None => plain.await,
            Some((address, acceptor)) => {
                let secure = serve(listen(address)?, backend, Some(acceptor));
                tokio::select! { done = plain => done, done = secure => done }
            }
        }
    })
}

/// Accepts for ever. Errors of `accept` end it: this is no product.
async fn serve(listener: TcpListener, backend: SocketAddr, tls: Option<TlsAcceptor>) -> io::Result<()> {
    loop {
        let (client, _) = listener.accept().await?;
        let tls = tls.clone();
        spawn_local(async move {
            // A connection that fails is the client's to notice.
            let _ = carry(client, backend, tls).await;
        });
    }
}

async fn carry(mut client: TcpStream, backend: SocketAddr, tls: Option<TlsAcceptor>) -> io::Result<()> {
    client.set_nodelay(true)?;
    match tls {
        None => {
            let mut server = TcpStream::connect(backend).await?;
            server.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut server).await?;
        }
        Some(tls) => {
            let mut client = tls.accept(client).await?;
            let mut server = TcpStream::connect(backend).await?;
            server.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut server).await?;
        }
    }
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

/// No tickets and no session cache, as for every peer of the bench.
fn acceptor(chain: &str, key: &str) -> io::Result<TlsAcceptor> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .map_err(|error| invalid(&format!("{chain}: {error}")))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| invalid(&format!("{key}: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| invalid(&error.to_string()))?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn invalid(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, words.to_owned())
}
