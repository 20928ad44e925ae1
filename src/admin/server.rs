//! The doors: a Unix socket for operators, and a TCP address for metrics.
#![expect(clippy::disallowed_methods, reason = "driver: bounds requests in time")]

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::choice;
use super::fresh::Fresh;
use super::roll_call;
use super::routes::{Answer, Door, Request, Route, Snapshot, route};
use super::socket::{self, SocketFile};
use super::{AdminError, Ask, Command, Inputs};
use crate::config::admin::Admin;

/// A connection carries one request, and is closed after this time, whatever it does.
pub const REQUEST_TIME: Duration = Duration::from_secs(10);
/// How long the answer to a command is waited for.
pub const COMMAND_TIME: Duration = Duration::from_secs(8);
/// How long a request for events waits for one.
const NEWS_TIME: Duration = Duration::from_secs(5);
/// Connections of one door at once; more wait in the listen queue.
const CONNECTIONS: usize = 64;
/// The longest body: a configuration with thousands of backends fits many times.
const BODY_BYTES: usize = 4 << 20;
const HEADER_BYTES: usize = 16 << 10;
const HEADERS: usize = 32;
/// How long open requests may take after a planned stop.
const STOP_TIME: Duration = Duration::from_secs(1);
/// Pause after a failed accept, so that running out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The doors, open but not yet answering.
#[derive(Debug)]
pub struct Server {
    operators: UnixListener,
    file: SocketFile,
    metrics: Option<TcpListener>,
    inputs: Inputs,
}

impl Server {
    /// Opens the doors. A socket file on which nobody answers is replaced. `metrics` is where
    /// `/metrics` and `/healthz` are served besides.
    pub async fn open(
        admin: &Admin,
        metrics: Option<SocketAddr>,
        inputs: Inputs,
    ) -> Result<Self, AdminError> {
        let (operators, file) = socket::open(&admin.socket).await?;
        let metrics = match metrics {
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                Some(listener.map_err(|cause| AdminError::Metrics { address, cause })?)
            }
            None => None,
        };
        Ok(Self { operators, file, metrics, inputs })
    }

    /// Where metrics are served, with the port that the kernel chose if none was given.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Answers until `stop`; then removes the socket file and lets open requests end.
    pub async fn run(self, stop: CancellationToken) -> Result<(), AdminError> {
        let Self { operators, file, metrics, inputs } = self;
        let fresh = Fresh::new();
        let operators = async {
            serve(&operators, Door::Operator, &inputs, &fresh, &stop).await;
            drop(file);
        };
        let metrics = async {
            if let Some(listener) = metrics {
                serve(&listener, Door::Metrics, &inputs, &fresh, &stop).await;
            }
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(operators, metrics) } => {}
            () = fresh.listen(inputs.clone()) => {}
        }
        Ok(())
    }
}

/// A door. A trait and not an async closure, whose future is not `Send` enough for a task.
trait Listen {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Answers at one door until `stop`. Its connections are futures of this one, so they end with it.
async fn serve<L: Listen>(
    listener: &L,
    door: Door,
    inputs: &Inputs,
    fresh: &Fresh,
    stop: &CancellationToken,
) {
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(()) = open.next() => {}
            accepted = listener.next(), if open.len() < CONNECTIONS => match accepted {
                Ok(stream) => open.push(converse(stream, door, inputs, fresh, stop)),
                Err(error) => {
                    tracing::warn!(%error, "a connection to admin was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    let _ = timeout(STOP_TIME, async { while open.next().await.is_some() {} }).await;
}

async fn converse<S>(stream: S, door: Door, inputs: &Inputs, fresh: &Fresh, stop: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer =
        service_fn(async |request| Ok::<_, Infallible>(answer(request, door, inputs, fresh, stop).await));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .keep_alive(false)
        .max_headers(HEADERS)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), answer);
    // How a conversation failed is the other side's business; it sees the connection end.
    let _ = timeout(REQUEST_TIME, connection).await;
}

async fn answer(
    request: hyper::Request<Incoming>,
    door: Door,
    inputs: &Inputs,
    fresh: &Fresh,
    stop: &CancellationToken,
) -> hyper::Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let answer = match Limited::new(body, BODY_BYTES).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            let (method, path) = (head.method.as_str(), head.uri.path());
            let query = head.uri.query().unwrap_or_default();
            let request = Request { method, path, query, body: &body };
            let (mut events, deadline) = (inputs.events.clone(), Instant::now() + NEWS_TIME);
            loop {
                events.mark_unchanged();
                match route(door, request, &snapshot(inputs, fresh), &inputs.recorder) {
                    Route::Answer(answer) => break answer,
                    Route::Await(answer) => {
                        // Nobody who publishes is no news either.
                        let news = async { events.changed().await.is_ok() || pending().await };
                        let news = stop.run_until_cancelled(timeout_at(deadline, news));
                        if !matches!(news.await, Some(Ok(_))) {
                            break answer;
                        }
                    }
                    Route::Command(ask) => break command(inputs, ask).await,
                    Route::Choice(wanted) => break choice::choice(inputs, wanted).await,
                    Route::Connections(wanted) => break roll_call::connections(inputs, &wanted).await,
                }
            }
        }
        Err(error) if error.is::<LengthLimitError>() => {
            Answer::refusal(413, &format!("the request is larger than {BODY_BYTES} bytes"))
        }
        Err(_) => Answer::refusal(400, "the request ended early"),
    };
    let mut response = hyper::Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() =
        hyper::StatusCode::from_u16(answer.status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response
}

/// Hands a command over and waits for its answer, both bounded.
async fn command(inputs: &Inputs, ask: Ask) -> Answer {
    let (reply, answer) = oneshot::channel();
    match inputs.commands.try_send(Command { ask, reply }) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => {
            return Answer::refusal(503, "busy with earlier commands: try again in a moment");
        }
        Err(TrySendError::Closed(_)) => {
            return Answer::refusal(503, "edgeproxy is stopping and takes no commands any more");
        }
    }
    match timeout(COMMAND_TIME, answer).await {
        Ok(Ok(Ok(told))) => Answer::json(&told),
        Ok(Ok(Err(why))) => Answer::refusal(422, &why),
        Ok(Err(_)) => Answer::refusal(503, "edgeproxy dropped the command: it is stopping"),
        Err(_) => Answer::refusal(
            504,
            "the command was taken but is not done yet: `edgeproxy status` will show its outcome",
        ),
    }
}

fn snapshot(inputs: &Inputs, fresh: &Fresh) -> Snapshot {
    Snapshot {
        process: inputs.process.borrow().clone(),
        neighbors: inputs.neighbors.borrow().clone(),
        prefixes: inputs.prefixes.borrow().clone(),
        services: inputs.services.borrow().clone(),
        proxy: inputs.proxy.borrow().clone(),
        backhaul: inputs.backhaul.as_ref().map(|it| it.borrow().clone()),
        fleet: inputs.fleet.as_ref().map(|it| it.borrow().clone()),
        events: inputs.events.borrow().clone(),
        ages: fresh.ages(),
    }
}

#[cfg(test)]
mod tests;
