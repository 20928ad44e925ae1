//! What a service listens on: addresses, ports, TLS and the bounds of each.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;

/// One listener of a service. Several services may share address and port when all of them tell their clients apart
/// by server name (`tls` or `passthrough`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// An anycast address of this POP, or any other of the machine.
    pub address: IpAddr,
    /// One or more, never empty; at most 1,024. Default 8080, with TLS 8443.
    pub ports: RangeInclusive<u16>,
    pub protocol: Protocol,
    pub security: Security,
    /// Sources that must begin with a PROXY header (v1 or v2); from others a header is the client's own data.
    pub proxy_from: Vec<IpNetwork>,
    pub limits: Limits,
    pub socket: SocketOptions,
}

/// What is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

/// What is done about TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Security {
    /// Octets are passed on as they are.
    Plain,
    /// TLS ends here.
    Terminate(Arc<Tls>),
    /// The ClientHello names the service; TLS ends at the backend. Without names: whatever no other listener here
    /// claims.
    Passthrough { names: Vec<ServerName> },
}

/// A lower-case DNS name, or `*.` and one: a wildcard stands for exactly one label (RFC 9525 §6.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(pub String);

impl ServerName {
    /// Reads a name in letters of either case; None if no client could ask for it.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let letters =
            |label: &str| label.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_');
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && letters(label)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // RFC 1035 §2.3.4. RFC 6066 §3: an address is no server name.
        let fits = text.len() <= 253 && name.split('.').all(label);
        let address = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|it| it.is_ascii_digit()));
        (fits && !address).then(|| Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// TLS that ends at the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub identity: Identity,
    /// Names that lead here, at most 256. Default: those of the certificate. Empty: whatever no other listener here claims.
    pub names: Vec<ServerName>,
    /// Offered protocols, by preference, at most 16. Default none: ALPN is not answered.
    pub alpn: Vec<String>,
    pub minimum: TlsVersion,
    pub clients: ClientCertificates,
    /// Where handshakes of TLS-ALPN-01 (RFC 8737) go. Default: nowhere, they are refused.
    pub acme: Option<SocketAddr>,
}

/// Who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Identity {
    /// Read from files when the configuration was.
    Files {
        /// DER, the leaf first.
        chain: Vec<Vec<u8>>,
        /// DER: PKCS #8, PKCS #1 or SEC 1.
        key: PrivateKey,
        /// A DER OCSP response to staple.
        ocsp: Option<Vec<u8>>,
    },
    /// Made at the start for first steps; no client trusts it.
    SelfSigned,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files { chain, .. } => write!(f, "Files({} certificates)", chain.len()),
            Self::SelfSigned => f.write_str("SelfSigned"),
        }
    }
}

/// A private key in one of three DER forms. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum PrivateKey {
    Pkcs8(Vec<u8>),
    Pkcs1(Vec<u8>),
    Sec1(Vec<u8>),
}

/// The oldest version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    #[default]
    V1_2,
    V1_3,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    #[default]
    Off,
    /// Asked for; checked if shown. DER of the CAs.
    Optional(Vec<Vec<u8>>),
    /// Nobody comes in without. DER of the CAs.
    Required(Vec<Vec<u8>>),
}

/// Bounds of one listener; 0 is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Connections (or UDP flows) at once. 0 to 4,000,000; default 0, for UDP 65,536.
    pub connections: u32,
    /// Connections at once from one source: an IPv4 address or an IPv6 /64. 0 to 4,000,000;
    /// default 0.
    pub per_source: u32,
    /// Connections at once from one IPv6 /48, what one customer is given at most. 0, or `per_source` to 4,000,000;
    /// default: eight times `per_source`.
    pub per_site: u32,
    /// New connections a second from one source, IPv4 /32 or IPv6 /64; a /48 may have eight times that. 0 to
    /// 1,000,000; default 0.
    pub rate: u32,
    /// How many may come at once before `rate` counts. 1 to 1,000,000; default: `rate`.
    pub burst: u32,
}

/// What the kernel is told of a listener's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// Accept only with the first data (TCP_DEFER_ACCEPT): a little faster, and wrong where servers speak first.
    pub defer_accept: bool,
    /// The queue of TCP Fast Open. 0 to 65,535; 0: off, the default.
    pub fast_open: u32,
    /// Idle time before keepalive probes. 1 s to 2 h, in whole seconds; 0: off. Default 60 s.
    pub keepalive: Duration,
    /// Unacknowledged data ends the connection after this (RFC 5482). 100 ms to 1 h; 0: the kernel's. Default
    /// 30 s.
    pub user_timeout: Duration,
    /// Connections that wait for `accept`. 1 to 65,535; default 4,096.
    pub backlog: u32,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            defer_accept: false,
            fast_open: 0,
            keepalive: Duration::from_secs(60),
            user_timeout: Duration::from_secs(30),
            backlog: 4_096,
        }
    }
}
