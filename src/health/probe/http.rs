//! The HTTP/1.1 probe: one request on its own connection, its status, and perhaps text in its body.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;

use super::{classify, connect};
use crate::config::services::{HttpProbe, StatusSet};
use crate::health::verdict::Failure;

/// Bound of the answer's status line and headers, in bytes.
const HEAD_BOUND: usize = 16 * 1024;
/// How much of the body is searched, in bytes.
const BODY_BOUND: usize = 64 * 1024;

/// Asks, judges the answer, and closes; gives the time from the start of the handshake to the head of
/// the answer. The body is only read if text in it is wanted.
pub(super) async fn ask(
    target: SocketAddr,
    source: Option<IpAddr>,
    probe: &HttpProbe,
) -> Result<Duration, Failure> {
    let request = request(target, probe)?;
    let start = Instant::now();
    let stream = connect(target, source).await?;
    // One small write: nothing to gain by waiting for more.
    stream.set_nodelay(true).map_err(|error| classify(&error))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_header_size(HEAD_BOUND)
        .max_buf_size(HEAD_BOUND)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| judge_error(&error))?;
    let mut connection = Driven { connection: pin!(connection), done: false };
    let answer =
        connection.while_waiting(sender.send_request(request)).await.map_err(|error| judge_error(&error))?;
    let rtt = start.elapsed();
    let status = answer.status().as_u16();
    if !probe.expect.contains(status) {
        return Err(Failure::Status { got: status, expected: words(&probe.expect) });
    }
    if let Some(text) = &probe.body {
        connection.while_waiting(search(answer.into_body(), text)).await?;
    }
    Ok(rtt)
}

/// hyper's connection future, run in the probe's own task so that it ends with the probe.
struct Driven<'a, C> {
    connection: Pin<&'a mut C>,
    done: bool,
}

impl<C: Future> Driven<'_, C> {
    /// Waits for `wanted` and runs the connection meanwhile. How the connection ends is of no interest
    /// by itself: `wanted` hears of it.
    async fn while_waiting<F: Future>(&mut self, wanted: F) -> F::Output {
        let mut wanted = pin!(wanted);
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(output) = wanted.as_mut().poll(cx) {
                    return Poll::Ready(output);
                }
                if self.done || self.connection.as_mut().poll(cx).is_pending() {
                    break;
                }
                self.done = true;
            }
            // What the connection just did may be what is waited for.
            wanted.as_mut().poll(cx)
        })
        .await
    }
}

fn request(target: SocketAddr, probe: &HttpProbe) -> Result<Request<Empty<Bytes>>, Failure> {
    let host = probe.host.clone().unwrap_or_else(|| target.to_string());
    Request::builder()
        .method(probe.method.as_str())
        .uri(probe.path.as_str())
        .header(header::HOST, host)
        .header(header::USER_AGENT, "edgeproxy-health")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|_| Failure::Local("the configured request is not valid HTTP"))
}

/// Reads until the text was found, the body ended, or enough was read.
async fn search(mut body: Incoming, text: &str) -> Result<(), Failure> {
    let text = text.as_bytes();
    let mut seen: Vec<u8> = Vec::new();
    let is_in =
        |haystack: &[u8]| text.is_empty() || haystack.windows(text.len()).any(|window| window == text);
    loop {
        // What was searched before cannot match again, but for a part at its end.
        let from = seen.len().saturating_sub(text.len());
        match body.frame().await {
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                let room = BODY_BOUND - seen.len();
                seen.extend_from_slice(&data[..data.len().min(room)]);
            }
            Some(Err(error)) => return Err(judge_error(&error)),
            None if is_in(&seen) => return Ok(()),
            None => break,
        }
        if is_in(&seen[from..]) {
            return Ok(());
        }
        if seen.len() >= BODY_BOUND {
            break;
        }
    }
    Err(Failure::BodyLacks(String::from_utf8_lossy(text).into_owned()))
}

fn judge_error(error: &hyper::Error) -> Failure {
    if error.is_parse_too_large() {
        return Failure::TooLarge { bound: HEAD_BOUND };
    }
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return classify(io);
        }
        source = inner.source();
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Failure::Closed;
    }
    if error.is_parse() {
        return Failure::Malformed(error.to_string());
    }
    Failure::Other(error.to_string())
}

/// A set of statuses in words: `2xx, 301, 400-410`.
fn words(set: &StatusSet) -> String {
    let range = |&(first, last): &(u16, u16)| match (first, last) {
        (first, last) if first == last => first.to_string(),
        (first, last) if first % 100 == 0 && last == first + 99 => format!("{}xx", first / 100),
        (first, last) => format!("{first}-{last}"),
    };
    set.0.iter().map(range).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_statuses_in_words() {
        assert_eq!(words(&StatusSet(vec![(200, 299)])), "2xx");
        assert_eq!(words(&StatusSet(vec![(200, 299), (301, 301), (400, 410)])), "2xx, 301, 400-410");
    }
}
