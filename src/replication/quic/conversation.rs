//! What a peer says on one connection, told within bounds: requests are read whole, and answered.

use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Heard, Served};
use crate::replication::frame::{Answer, MOST_MESSAGE, Request, pack, put_known};
use crate::replication::merge::Offer;
use crate::replication::version::Origin;

/// How long a request may take to arrive, and its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests and pushes of one peer a second, and how many at once: more than all its rows need. Beyond that it waits.
const RATE: f64 = 2_000.0;
const BURST: f64 = 4_000.0;

/// Reads everything until the connection ends.
pub(super) async fn run(peer: Origin, connection: Connection, heard: mpsc::Sender<Heard>) {
    let id = connection.stable_id();
    // A stream of one kind is under way for each that the transport allows: that is the bound.
    let mut streams = JoinSet::new();
    let mut allowance = Allowance { left: BURST, at: Instant::now() };
    let why = loop {
        while streams.try_join_next().is_some() {}
        sleep_until(allowance.free_at()).await;
        tokio::select! {
            stream = connection.accept_uni() => match stream {
                Ok(stream) => {
                    streams.spawn(told(peer.clone(), stream, heard.clone()));
                }
                Err(error) => break error,
            },
            stream = connection.accept_bi() => match stream {
                Ok((send, receive)) => {
                    streams.spawn(asked(peer.clone(), send, receive, heard.clone()));
                }
                Err(error) => break error,
            },
            datagram = connection.read_datagram() => match datagram {
                Ok(octets) => {
                    if heard.send(Heard::Datagram { peer: peer.clone(), id, octets }).await.is_err() {
                        return;
                    }
                }
                Err(error) => break error,
            },
        }
        allowance.take();
    };
    let _ = heard.send(Heard::Closed { peer, id, why: why.to_string() }).await;
}

/// A token bucket.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn take(&mut self) {
        let now = Instant::now();
        self.left = (self.left + RATE * now.duration_since(self.at).as_secs_f64()).min(BURST) - 1.0;
        self.at = now;
    }

    fn free_at(&self) -> Instant {
        self.at + Duration::from_secs_f64((1.0 - self.left).max(0.0) / RATE)
    }
}

async fn read(stream: &mut RecvStream) -> Option<Request> {
    let octets = timeout(PATIENCE, stream.read_to_end(MOST_MESSAGE)).await.ok()?.ok()?;
    Request::read(&octets).ok()
}

/// Rows, unasked.
async fn told(peer: Origin, mut stream: RecvStream, heard: mpsc::Sender<Heard>) {
    if let Some(Request::Push { spread, offer }) = read(&mut stream).await {
        let _ = heard.send(Heard::Push { peer, spread, offer }).await;
    }
}

/// A question.
async fn asked(peer: Origin, mut send: SendStream, mut receive: RecvStream, heard: mpsc::Sender<Heard>) {
    let answered = match read(&mut receive).await {
        Some(request @ Request::Compare { .. }) => {
            let (answer, answered) = oneshot::channel();
            let _ = heard.send(Heard::Compare { peer, request, answer }).await;
            match answered.await {
                Ok(known) => write(&mut send, &put_known(&known)).await,
                Err(_) => None,
            }
        }
        Some(request @ Request::Fetch { .. }) => {
            let (answer, answered) = oneshot::channel();
            let _ = heard.send(Heard::Fetch { peer, request, answer }).await;
            match answered.await {
                Ok(Ok(Some(Served { offer, room }))) => {
                    let brought = bring(&mut send, offer).await;
                    drop(room);
                    brought
                }
                Ok(Ok(None)) => put(&mut send, &Answer::Nothing.octets()).await,
                Ok(Err(time)) => put(&mut send, &Answer::Busy(time).octets()).await,
                Err(_) => None,
            }
        }
        Some(Request::Permit(word)) => {
            let (answer, answered) = oneshot::channel();
            let _ = heard.send(Heard::Permit { peer, word, answer }).await;
            match answered.await {
                Ok(word) => write(&mut send, &word).await,
                Err(_) => None,
            }
        }
        Some(Request::Push { .. }) | None => None,
    };
    let _ = match answered {
        Some(()) => send.finish(),
        None => send.reset(VarInt::from_u32(1)),
    };
}

/// Rows, in blocks. Each waits until the last one is taken, so that only as many are made as are read.
async fn bring(send: &mut SendStream, offer: Offer) -> Option<()> {
    let rows = Answer::Rows { head: Box::new(offer.head), after: offer.after };
    put(send, &rows.octets()).await?;
    let mut rest = offer.rows.iter().peekable();
    while let Some(block) = pack(&mut rest) {
        put(send, &block).await?;
    }
    Some(())
}

/// Octets after their number, in four octets.
async fn put(send: &mut SendStream, octets: &[u8]) -> Option<()> {
    let length = u32::try_from(octets.len()).ok()?;
    write(send, &length.to_be_bytes()).await?;
    write(send, octets).await
}

async fn write(send: &mut SendStream, octets: &[u8]) -> Option<()> {
    timeout(PATIENCE, send.write_all(octets)).await.ok()?.ok()
}
