//! One TLS session of a client: rustls's handshake, and then our own records.

use std::ops::Range;
use std::sync::Arc;

use rustls::kernel::KernelConnection;
use rustls::server::{ServerConfig, ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{HandshakeKind, ProtocolVersion};

use super::record::{Content, Opener, RecordError, Sealer};
use crate::config::x509;

/// What a client may send before its handshake is done.
pub const MOST_HANDSHAKE: usize = 64 << 10;
/// Alerts, key updates and empty records with nothing between them: without end a way to keep us busy.
const MOST_SMALL: u32 = 32;

/// Why a session cannot go on. An alert has been put into what is to be sent, where there is one.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{0}")]
    Handshake(#[from] rustls::Error),
    #[error("the handshake is longer than {MOST_HANDSHAKE} octets")]
    TooLong,
    #[error("{0}")]
    Record(#[from] RecordError),
    #[error("the client sent the alert {0}")]
    Alert(u8),
    #[error("the cipher is not one of ours")]
    Cipher,
    #[error("the client sends nothing but small messages")]
    Busy,
}

/// What was agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    pub alpn: Option<Vec<u8>>,
    pub is_v13: bool,
    /// Its name in the IANA's registry.
    pub cipher: &'static str,
    /// The group of the key exchange, by its name in the IANA's registry.
    pub group: &'static str,
    pub is_resumed: bool,
    /// The certificate that the client has shown, now or in the session that is resumed; our CAs signed it.
    pub client: Option<ClientIdentity>,
}

/// Who a client has proven to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// SHA-256 of its certificate.
    pub fingerprint: [u8; 32],
    pub common_name: Option<String>,
}

/// A handshake in progress.
pub struct Handshake {
    connection: UnbufferedServerConnection,
    /// The client has said everything behind its handshake already.
    is_closed: bool,
}

impl Handshake {
    /// The first step; the configuration must allow the extraction of secrets.
    ///
    /// # Errors
    /// [`TlsError::Handshake`] where the configuration cannot serve.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        Ok(Self { connection: UnbufferedServerConnection::new(config)?, is_closed: false })
    }

    /// Takes what the client has said so far off the front of `incoming`; appends what is to be sent to `out`, and
    /// what the client said right behind its handshake to `plain`.
    ///
    /// # Errors
    /// [`TlsError`]; what is in `out` should be sent all the same.
    pub fn advance(
        mut self: Box<Self>,
        incoming: &mut Vec<u8>,
        out: &mut Vec<u8>,
        plain: &mut Vec<u8>,
    ) -> Result<Step, TlsError> {
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(incoming);
            let mut is_done = false;
            match state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out)?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    let mut more = 0;
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        plain.extend_from_slice(record.payload);
                        more += record.discard;
                    }
                    incoming.drain(..discard + more);
                    continue;
                }
                Ok(ConnectionState::WriteTraffic(_)) => is_done = true,
                Ok(ConnectionState::PeerClosed) => self.is_closed = true,
                Ok(_) => {
                    incoming.drain(..discard);
                    // Not one record of a handshake is that long, and no client needs so many.
                    return if incoming.len() > MOST_HANDSHAKE {
                        Err(TlsError::TooLong)
                    } else {
                        Ok(Step::More(self))
                    };
                }
                Err(error) => {
                    self.say_why(out);
                    return Err(error.into());
                }
            }
            incoming.drain(..discard);
            if is_done {
                return self.finish();
            }
        }
    }

    /// The alert that rustls has queued with its error.
    fn say_why(&mut self, out: &mut Vec<u8>) {
        // INVARIANT: only while there is something to send. Without, it would look at the client's octets again, and it
        // panics both when they are gone and when they make it raise a second alert.
        while self.connection.wants_write() {
            let state = self.connection.process_tls_records(&mut []).state;
            let Ok(ConnectionState::EncodeTlsData(data)) = state else { return };
            if encode(data, out).is_err() {
                return;
            }
        }
    }

    fn finish(self: Box<Self>) -> Result<Step, TlsError> {
        let Self { connection, is_closed } = *self;
        let version = connection.protocol_version();
        let agreed = Agreed {
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            is_v13: version == Some(ProtocolVersion::TLSv1_3),
            cipher: connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("-"),
            group: connection
                .negotiated_key_exchange_group()
                .and_then(|group| group.name().as_str())
                .unwrap_or("-"),
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            client: connection.peer_certificates().and_then(<[_]>::first).map(|leaf| ClientIdentity {
                fingerprint: x509::fingerprint(leaf),
                common_name: x509::common_name(leaf),
            }),
        };
        let (secrets, keys) = connection.dangerous_into_kernel_connection()?;
        let session = Session {
            sealer: Sealer::new(secrets.tx, agreed.is_v13).ok_or(TlsError::Cipher)?,
            opener: Opener::new(secrets.rx, agreed.is_v13).ok_or(TlsError::Cipher)?,
            keys,
            is_v13: agreed.is_v13,
            small: 0,
            is_asked: false,
            is_closed,
        };
        Ok(Step::Done(Box::new(session), agreed))
    }
}

fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) -> Result<(), TlsError> {
    let at = out.len();
    let mut room = 4_096;
    loop {
        out.resize(at + room, 0);
        match data.encode(&mut out[at..]) {
            Ok(written) => {
                out.truncate(at + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(size)) if size.required_size > room => {
                room = size.required_size;
            }
            Err(_) => {
                out.truncate(at);
                return Err(TlsError::Cipher);
            }
        }
    }
}

/// How far a handshake has come.
pub enum Step {
    /// The client has to say more.
    More(Box<Handshake>),
    Done(Box<Session>, Agreed),
}

/// A session after its handshake.
pub struct Session {
    sealer: Sealer,
    opener: Opener,
    keys: KernelConnection<ServerConnectionData>,
    is_v13: bool,
    /// Small messages in a row.
    small: u32,
    /// The client waits for another key of ours.
    is_asked: bool,
    is_closed: bool,
}

const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
const WARNING: u8 = 1;
const FATAL: u8 = 2;
/// RFC 8446 §4.6.3.
const KEY_UPDATE: u8 = 24;

impl Session {
    /// Opens the whole records in `octets`, in place; `plain` gets where the client's octets lie. What is to be sent in
    /// answer is appended to `out`. The answer is how many octets of the front are done with: what is behind them is a
    /// part of the next record.
    ///
    /// # Errors
    /// [`TlsError`]: what came before the error is in `plain`, an alert is in `out`, and nothing more can be read.
    pub fn open(
        &mut self,
        octets: &mut [u8],
        plain: &mut Vec<Range<usize>>,
        out: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        let mut at = 0;
        // What follows a close_notify is to be ignored (RFC 8446 §6.1).
        while !self.is_closed {
            let opened = match self.opener.open(octets, at) {
                Ok(Some(opened)) => opened,
                Ok(None) => return Ok(at),
                Err(error) => return Err(self.refuse(error, out)),
            };
            at = opened.next;
            match opened.content {
                Content::Application if opened.plain.is_empty() => self.count_small()?,
                Content::Application => {
                    self.small = 0;
                    plain.push(opened.plain);
                }
                Content::Alert => {
                    self.count_small()?;
                    match octets[opened.plain] {
                        [_, CLOSE_NOTIFY] => self.is_closed = true,
                        [_, USER_CANCELED] => {}
                        [WARNING, _] if !self.is_v13 => {}
                        [_, description] => return Err(TlsError::Alert(description)),
                        _ => return Err(self.refuse(RecordError::UnexpectedMessage, out)),
                    }
                }
                Content::Handshake => {
                    self.count_small()?;
                    match octets[opened.plain] {
                        [KEY_UPDATE, 0, 0, 1, asks @ (0 | 1)] if self.is_v13 => {
                            self.opener =
                                Opener::new(self.keys.update_rx_secret()?, true).ok_or(TlsError::Cipher)?;
                            self.is_asked |= asks == 1;
                        }
                        // TLS 1.2 would begin anew here, which we never do.
                        _ => return Err(self.refuse(RecordError::UnexpectedMessage, out)),
                    }
                }
            }
        }
        Ok(octets.len())
    }

    /// Whether the client has said that it sends no more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The room that a record of ours needs before and behind its plaintext.
    #[must_use]
    pub fn margins(&self) -> (usize, usize) {
        (self.sealer.before(), self.sealer.behind())
    }

    /// Seals one record in place, see [`Sealer::seal`].
    pub fn seal(&mut self, record: &mut [u8]) {
        self.sealer.seal(Content::Application, record);
    }

    /// Changes our key when it has served long enough, or when the client wants that: the latter is due before the next
    /// record, and once for many wishes (RFC 8446 §4.6.3). To be asked before records are sealed.
    ///
    /// # Errors
    /// [`TlsError::Cipher`]: TLS 1.2 has no way to do that, and the session is at its end.
    pub fn renew(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        if !self.is_asked && !self.sealer.is_worn() {
            return Ok(());
        }
        if !self.is_v13 {
            return Err(TlsError::Cipher);
        }
        self.is_asked = false;
        self.sealer.seal_small(Content::Handshake, &[KEY_UPDATE, 0, 0, 1, 0], out);
        self.sealer = Sealer::new(self.keys.update_tx_secret()?, true).ok_or(TlsError::Cipher)?;
        Ok(())
    }

    /// Says that we send no more.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.sealer.seal_small(Content::Alert, &[WARNING, CLOSE_NOTIFY], out);
    }

    fn refuse(&mut self, error: RecordError, out: &mut Vec<u8>) -> TlsError {
        self.sealer.seal_small(Content::Alert, &[FATAL, error.alert()], out);
        error.into()
    }

    fn count_small(&mut self) -> Result<(), TlsError> {
        self.small += 1;
        if self.small > MOST_SMALL { Err(TlsError::Busy) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("is_v13", &self.is_v13).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod client;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;
