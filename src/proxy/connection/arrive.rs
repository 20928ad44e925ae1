//! The arrival of a client: what it must say before it is taken anywhere, within one deadline.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::proxy::end::{End, Kind};
use crate::proxy::header::{self, Decoded, Header};
use crate::proxy::plan::{Door, Entrance};
use crate::proxy::stream::Stream;
use crate::proxy::tls::hello::{Hello, alert};
use crate::proxy::tls::session::{Agreed, Handshake, Session, Step};
use crate::proxy::tls::store::{Names, Route, Terminate};
use crate::proxy::totals::Count;
use crate::proxy::worker::Shared;

/// What is read at once while a client arrives.
const READ: usize = 4_096;
/// RFC 6066 §3.
const UNRECOGNIZED_NAME: u8 = 112;
/// RFC 7301 §3.2.
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// A client that may be taken to its service.
pub(super) struct Arrived {
    pub(super) service: Arc<str>,
    /// What it has said already that the backend is to be told.
    pub(super) first: Vec<u8>,
    pub(super) tls: Option<Arrival>,
    pub(super) server_name: Option<String>,
    /// Where it is taken, and nowhere else.
    pub(super) only: Only,
}

/// What narrows the choice of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Only {
    Anywhere,
    /// To this address, whatever the service says.
    To(SocketAddr),
    /// Another POP brings it: to this backend or another one that is here, so that nothing goes in circles.
    Here(String),
}

/// A session, and what the client sent behind its handshake.
pub(super) struct Arrival {
    pub(super) session: Box<Session>,
    pub(super) unopened: Vec<u8>,
    pub(super) agreed: Agreed,
}

/// Who need not say anything, at a door that leads to one service.
pub(super) fn at_once(service: &Arc<str>, first: Vec<u8>) -> Arrived {
    Arrived { service: Arc::clone(service), first, tls: None, server_name: None, only: Only::Anywhere }
}

/// Waits for what the client must say; `said` is what it has said already.
pub(super) async fn arrive(
    shared: &Shared,
    door: &Door,
    client: &Stream,
    said: Vec<u8>,
    target: Option<(String, String)>,
) -> Result<Arrived, End> {
    match (&door.entrance, target) {
        (Entrance::Service(service), _) => Ok(at_once(service, said)),
        (Entrance::Ingress, Some((service, backend))) => {
            Ok(Arrived { only: Only::Here(backend), ..at_once(&service.into(), said) })
        }
        (Entrance::Ingress, None) => {
            Err(End::because(Kind::HeaderRefused, "it does not say which backend it wants"))
        }
        (Entrance::Named(names), _) => by_name(shared, names, client, said).await,
    }
}

/// Reads the PROXY header of who speaks for others; what came behind it is left in `said`.
pub(super) async fn header(client: &Stream, said: &mut Vec<u8>) -> Result<Header, End> {
    loop {
        read(client, said).await?;
        match header::decode(said) {
            Decoded::NeedMore => {}
            Decoded::Header(header) => {
                said.drain(..header.consumed);
                return Ok(header);
            }
            Decoded::Refused(why) => return Err(End::because(Kind::HeaderRefused, why)),
        }
    }
}

/// The answer of `work`, unless the time is over before.
pub(super) async fn in_time<T>(
    shared: &Shared,
    within: Duration,
    work: impl Future<Output = Result<T, End>>,
) -> Result<T, End> {
    let slot = shared.wheel.slot();
    slot.set(within);
    let mut work = pin!(work);
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Pending if slot.is_over(context) => {
            Poll::Ready(Err(End::because(Kind::ClientSilent, "no whole handshake in time")))
        }
        polled => polled,
    })
    .await
}

async fn by_name(shared: &Shared, names: &Names, client: &Stream, said: Vec<u8>) -> Result<Arrived, End> {
    let limit = shared.plan.borrow().limits.handshakes;
    let Some(_place) = shared.totals.take(Count::Handshakes, limit) else {
        return Err(End::because(Kind::Overloaded, "proxy.handshakes is used up"));
    };
    let (hello, said) = hello(client, said).await?;
    let Some(Route { service, terminate }) = names.find(hello.server_name.as_deref()) else {
        tell(client, &alert(UNRECOGNIZED_NAME)).await;
        let name = hello.server_name.unwrap_or_else(|| "none".to_owned());
        return Err(End::because(Kind::NameUnknown, format!("the client asks for the name {name}")));
    };
    let service = Arc::clone(service);
    let server_name = hello.server_name.clone();
    match terminate {
        None => Ok(Arrived { service, first: said, tls: None, server_name, only: Only::Anywhere }),
        Some(Terminate { acme, .. }) if hello.is_acme() => match acme {
            Some(to) => Ok(Arrived { service, first: said, tls: None, server_name, only: Only::To(*to) }),
            None => {
                tell(client, &alert(NO_APPLICATION_PROTOCOL)).await;
                Err(End::because(Kind::TlsRefused, "a TLS-ALPN-01 challenge, and no `acme` is configured"))
            }
        },
        Some(terminate) => {
            let handshake =
                Handshake::new(Arc::clone(terminate.config(&hello))).map_err(|error| refused(&error))?;
            let mut first = Vec::new();
            let tls = shake(client, Box::new(handshake), said, &mut first).await?;
            Ok(Arrived { service, first, tls: Some(tls), server_name, only: Only::Anywhere })
        }
    }
}

/// The ClientHello, and all octets that were read for it.
async fn hello(client: &Stream, mut said: Vec<u8>) -> Result<(Hello, Vec<u8>), End> {
    loop {
        match Hello::read(&said) {
            Ok(None) => read(client, &mut said).await?,
            Ok(Some(hello)) => return Ok((hello, said)),
            Err(error) => {
                if let Some(alert) = error.alert() {
                    tell(client, &alert).await;
                }
                return Err(refused(&error));
            }
        }
    }
}

async fn shake(
    client: &Stream,
    mut handshake: Box<Handshake>,
    mut incoming: Vec<u8>,
    plain: &mut Vec<u8>,
) -> Result<Arrival, End> {
    let mut out = Vec::new();
    loop {
        let step = handshake.advance(&mut incoming, &mut out, plain);
        if !out.is_empty() {
            // What ends our part of TLS 1.3 are tickets, which nobody waits for: they travel with the first octets of
            // the backend, or after the kernel's 200 ms (tcp(7), MSG_MORE).
            let may_wait = matches!(&step, Ok(Step::Done(_, agreed)) if agreed.is_v13);
            let sent = send(client, &out, may_wait).await;
            out.clear();
            if step.is_ok() {
                sent?;
            }
        }
        match step.map_err(|error| refused(&error))? {
            Step::More(more) => handshake = more,
            Step::Done(session, agreed) => {
                incoming.shrink_to_fit();
                return Ok(Arrival { session, unopened: incoming, agreed });
            }
        }
        read(client, &mut incoming).await?;
    }
}

fn refused(error: &dyn std::fmt::Display) -> End {
    End::because(Kind::TlsRefused, error.to_string())
}

/// Reads at least one octet more.
async fn read(client: &Stream, said: &mut Vec<u8>) -> Result<(), End> {
    let at = said.len();
    said.resize(at + READ, 0);
    let got = poll_fn(|context| client.poll_receive(context, &mut said[at..])).await;
    said.truncate(at + got.as_ref().copied().unwrap_or(0));
    match got {
        Ok(0) => Err(End::of(Kind::ClientLeft)),
        Ok(_) => Ok(()),
        Err(error) => Err(End::because(Kind::ClientReset, error.to_string())),
    }
}

async fn send(client: &Stream, octets: &[u8], more: bool) -> Result<(), End> {
    let mut sent = 0;
    while sent < octets.len() {
        let more = poll_fn(|context| client.poll_send(context, &octets[sent..], more)).await;
        sent += more.map_err(|error: io::Error| End::because(Kind::ClientReset, error.to_string()))?;
    }
    Ok(())
}

/// A last word; whether it arrives does not matter.
async fn tell(client: &Stream, octets: &[u8]) {
    let _ = send(client, octets, false).await;
}
