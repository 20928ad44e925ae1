//! Connections between POPs: QUIC, both sides proven by certificate, one connection for each pair.
#![expect(clippy::disallowed_methods, reason = "driver: owns the sockets and connections of replication")]

pub mod ask;
mod conversation;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, EndpointConfig, Incoming, TokioRuntime, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::ReplicationError;
use super::frame::Request;
use super::identity::Identity;
use super::identity::verifier::sentence;
use super::merge::Offer;
use super::replica::Fetched;
use super::version::{Known, Origin};
use super::voters::PermitId;
use crate::config::pop_certificate::Authorities;

/// Strangers whose handshake is under way. One more is not answered.
const HANDSHAKES: usize = 64;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A connection without a sign of life is over after this; a sign is asked for three times as often.
const IDLE: Duration = Duration::from_secs(6);
/// Requests that wait for an answer on one connection, and rows that are told unasked.
const REQUESTS: u32 = 8;
const PUSHES: u32 = 64;
/// Octets under way on one stream and on one connection.
const STREAM_WINDOW: u32 = 1 << 20;
const WINDOW: u32 = 4 << 20;
/// Octets of datagrams that wait on one connection.
const DATAGRAMS: usize = 1 << 16;

/// What is heard of connections and on them.
#[derive(Debug)]
pub enum Heard {
    /// `dialed`: by us.
    Connected {
        peer: Origin,
        connection: Connection,
        dialed: bool,
    },
    /// A dial came to nothing.
    Unreached {
        peer: Origin,
        address: SocketAddr,
        why: String,
    },
    Closed {
        peer: Origin,
        id: usize,
        why: String,
    },
    Push {
        peer: Origin,
        spread: bool,
        offer: Offer,
    },
    Compare {
        peer: Origin,
        request: Request,
        answer: oneshot::Sender<Vec<(Origin, Known)>>,
    },
    Fetch {
        peer: Origin,
        request: Request,
        answer: oneshot::Sender<Result<Option<Served>, Duration>>,
    },
    Permit {
        peer: Origin,
        word: Vec<u8>,
        answer: oneshot::Sender<Vec<u8>>,
    },
    Datagram {
        peer: Origin,
        id: usize,
        octets: bytes::Bytes,
    },
    /// Answers to what we asked.
    Compared {
        peer: Origin,
        known: Vec<(Origin, Known)>,
    },
    Fetched {
        peer: Origin,
        origin: Origin,
        fetched: Fetched,
    },
    Permitted {
        peer: Origin,
        permit: PermitId,
        word: Option<Vec<u8>>,
    },
}

/// Rows that are brought to somebody, with the room that this takes.
#[derive(Debug)]
pub struct Served {
    pub offer: Offer,
    pub room: OwnedSemaphorePermit,
}

/// Our door: takes connections in, and leads to others.
pub struct Door {
    endpoint: Endpoint,
    heard: mpsc::Sender<Heard>,
}

impl Door {
    /// Opens the UDP port.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn open(
        listen: SocketAddr,
        identity: &Identity,
        heard: mpsc::Sender<Heard>,
    ) -> Result<Self, ReplicationError> {
        let socket = bind(listen).map_err(|source| ReplicationError::Listen { listen, source })?;
        let server = server(identity)?;
        let endpoint = Endpoint::new(
            EndpointConfig::new(Arc::new(identity.reset_key())),
            Some(server),
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(|source| ReplicationError::Listen { listen, source })?;
        Ok(Self { endpoint, heard })
    }

    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.endpoint.local_addr().ok()
    }

    /// Other certificates, for connections from now on; those that live stay.
    ///
    /// # Errors
    /// When they are no use for QUIC.
    pub fn identify(&self, identity: &Identity) -> Result<(), ReplicationError> {
        self.endpoint.set_server_config(Some(server(identity)?));
        Ok(())
    }

    /// Takes connections in until it is dropped.
    pub fn accept(&self, authorities: Arc<Authorities>) -> impl Future<Output = ()> + Send + use<> {
        let (endpoint, heard) = (self.endpoint.clone(), self.heard.clone());
        async move {
            let mut handshakes = JoinSet::new();
            while let Some(incoming) = endpoint.accept().await {
                while handshakes.try_join_next().is_some() {}
                // An address is proven before anything is worked out for it, by an answer that is smaller than the
                // question: nobody is flooded through us.
                if !incoming.remote_address_validated() {
                    drop(incoming.retry());
                } else if handshakes.len() >= HANDSHAKES {
                    incoming.ignore();
                } else {
                    handshakes.spawn(greet(incoming, Arc::clone(&authorities), heard.clone()));
                }
            }
        }
    }

    /// Connects to a peer, or says why not.
    ///
    /// # Errors
    /// When our own certificates are no use for QUIC.
    pub fn dial(
        &self,
        peer: &Origin,
        address: SocketAddr,
        identity: &Identity,
    ) -> Result<impl Future<Output = ()> + Send + use<>, ReplicationError> {
        let crypto = QuicClientConfig::try_from(identity.client_config(peer)).map_err(unfit)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(transport());
        let (endpoint, heard, peer) = (self.endpoint.clone(), self.heard.clone(), peer.clone());
        Ok(async move {
            let connecting = match endpoint.connect_with(config, address, peer.as_str()) {
                Ok(connecting) => connecting,
                Err(error) => return unreached(&heard, peer, address, error.to_string()).await,
            };
            match timeout(HANDSHAKE, connecting).await {
                // Its name was judged in the handshake.
                Ok(Ok(connection)) => {
                    let _ = heard.send(Heard::Connected { peer, connection, dialed: true }).await;
                }
                Ok(Err(error)) => {
                    let why = sentence(&error.to_string()).to_owned();
                    unreached(&heard, peer, address, why).await;
                }
                Err(_) => unreached(&heard, peer, address, "no answer".to_owned()).await,
            }
        })
    }

    /// What is to be done with a connection while it lives: everything that its peer says is told.
    pub fn converse(&self, peer: Origin, connection: Connection) -> impl Future<Output = ()> + Send + use<> {
        conversation::run(peer, connection, self.heard.clone())
    }

    /// Ends all connections and waits until everybody knows.
    pub async fn close(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"this POP stops");
        let _ = timeout(Duration::from_millis(300), self.endpoint.wait_idle()).await;
    }
}

async fn unreached(heard: &mpsc::Sender<Heard>, peer: Origin, address: SocketAddr, why: String) {
    let _ = heard.send(Heard::Unreached { peer, address, why }).await;
}

async fn greet(incoming: Incoming, authorities: Arc<Authorities>, heard: mpsc::Sender<Heard>) {
    let address = incoming.remote_address();
    let connected = match incoming.accept() {
        Ok(connecting) => timeout(HANDSHAKE, connecting).await,
        Err(error) => return debug!(%address, "no connection: {error}"),
    };
    match connected {
        Ok(Ok(connection)) => match peer_of(&connection, &authorities) {
            Some(peer) => {
                let _ = heard.send(Heard::Connected { peer, connection, dialed: false }).await;
            }
            None => connection.close(VarInt::from_u32(1), b"no name"),
        },
        Ok(Err(error)) => debug!(%address, "no connection: {}", sentence(&error.to_string())),
        Err(_) => debug!(%address, "no connection: the handshake took too long"),
    }
}

/// Whose certificate the handshake has judged.
fn peer_of(connection: &Connection, authorities: &Authorities) -> Option<Origin> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    Origin::new(&authorities.pop_of(chain.first()?, None).ok()?)
}

fn server(identity: &Identity) -> Result<quinn::ServerConfig, ReplicationError> {
    let crypto = QuicServerConfig::try_from(identity.server_config()).map_err(unfit)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport()).migration(true);
    config.max_incoming(HANDSHAKES).incoming_buffer_size(1 << 14).incoming_buffer_size_total(1 << 20);
    Ok(config)
}

fn unfit(error: impl std::fmt::Display) -> ReplicationError {
    ReplicationError::Identity(error.to_string())
}

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(VarInt::from_u32(PUSHES))
        .max_concurrent_bidi_streams(VarInt::from_u32(REQUESTS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW))
        .max_idle_timeout(IDLE.try_into().ok())
        .keep_alive_interval(Some(IDLE / 3))
        .datagram_receive_buffer_size(Some(DATAGRAMS))
        .datagram_send_buffer_size(DATAGRAMS)
        .initial_rtt(Duration::from_millis(100));
    Arc::new(config)
}

/// Both families on one socket, where the address asks for it.
fn bind(listen: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(listen), socket2::Type::DGRAM, None)?;
    if listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests;
