//! What a backend is told of its client before the client's own octets: the PROXY header, in the same first write.

use std::net::SocketAddr;

use crate::config::services::SendProxy;
use crate::proxy::header::v1;
use crate::proxy::header::v2::{self, ClientCertificate, Extras, Tls, Transport};
use crate::proxy::tls::session::Agreed;

/// A client as its backend may know it.
#[derive(Debug)]
pub(super) struct Introduced<'c> {
    pub(super) client: SocketAddr,
    pub(super) went_to: SocketAddr,
    pub(super) server_name: Option<String>,
    /// None: it speaks no TLS with us.
    pub(super) agreed: Option<&'c Agreed>,
}

impl Introduced<'_> {
    /// Puts the header before what the client has said.
    pub(super) fn write(&self, version: SendProxy, pop: &str, first: &mut Vec<u8>) {
        let mut header = Vec::new();
        match version {
            SendProxy::Off => return,
            SendProxy::V1 => v1::encode(self.client, self.went_to, &mut header),
            SendProxy::V2 => self.encode(pop, None, &mut header),
        }
        header.append(first);
        *first = header;
    }

    /// The same for the ingress of another POP, which learns from it where to take the client.
    pub(super) fn write_to_pop(&self, pop: &str, service: &str, backend: &str, first: &mut Vec<u8>) {
        let mut header = Vec::new();
        self.encode(pop, Some((service, backend)), &mut header);
        header.append(first);
        *first = header;
    }

    fn encode(&self, pop: &str, target: Option<(&str, &str)>, header: &mut Vec<u8>) {
        let extras = Extras {
            alpn: self.agreed.and_then(|agreed| agreed.alpn.as_deref()),
            authority: self.server_name.as_deref(),
            tls: self.agreed.map(tls),
            pop: Some(pop),
            target,
            ..Extras::default()
        };
        v2::encode(Transport::Tcp, self.client, self.went_to, &extras, header);
    }
}

fn tls(agreed: &Agreed) -> Tls<'_> {
    let certificate = match (&agreed.client, agreed.is_resumed) {
        (None, _) => ClientCertificate::None,
        (Some(_), false) => ClientCertificate::Now,
        (Some(_), true) => ClientCertificate::Before,
    };
    Tls {
        version: if agreed.is_v13 { "TLSv1.3" } else { "TLSv1.2" },
        certificate,
        cipher: Some(agreed.cipher),
        common_name: agreed.client.as_ref().and_then(|client| client.common_name.as_deref()),
    }
}
