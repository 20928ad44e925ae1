//! What is said to a peer on a connection: rows unasked, and questions with their answers.

use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, RecvStream};
use tokio::time::timeout;

use crate::replication::frame::{Answer, MOST_MESSAGE, MOST_PACKED, Request, read_known, unpack};
use crate::replication::head::Signed;
use crate::replication::merge::{Limits, Offer};
use crate::replication::replica::Fetched;
use crate::replication::version::{Known, Origin, Point};

/// How long an answer, or the next part of it, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a peer is left alone that does not answer, or answers nonsense.
const LEFT_ALONE: Duration = Duration::from_secs(2);
/// Of pushes, before questions: what was just written comes first.
const FIRST: i32 = 1;

/// Tells rows; whether they arrive is found out by comparing.
pub async fn push(connection: Connection, octets: Arc<[u8]>) {
    let sent = async {
        let mut stream = connection.open_uni().await.ok()?;
        let _ = stream.set_priority(FIRST);
        stream.write_all(&octets).await.ok()?;
        stream.finish().ok()
    };
    let _ = timeout(PATIENCE, sent).await;
}

/// Where we differ; none if it did not say.
pub async fn compare(connection: Connection, request: Request) -> Option<Vec<(Origin, Known)>> {
    let octets = exchange(&connection, &request).await?;
    read_known(&octets).ok()
}

/// A word to a voter, or from one; its answer.
pub async fn permit(connection: Connection, word: Vec<u8>) -> Option<Vec<u8>> {
    exchange(&connection, &Request::Permit(word)).await
}

async fn exchange(connection: &Connection, request: &Request) -> Option<Vec<u8>> {
    let exchanged = async {
        let (mut send, mut receive) = connection.open_bi().await.ok()?;
        send.write_all(&request.octets()).await.ok()?;
        send.finish().ok()?;
        receive.read_to_end(MOST_MESSAGE).await.ok()
    };
    timeout(PATIENCE, exchanged).await.ok()?
}

/// The rows of an origin that we lack.
pub async fn fetch(connection: Connection, origin: Origin, have: Option<Point>, limits: Limits) -> Fetched {
    let Some((answer, mut stream)) = question(&connection, &Request::Fetch { origin, have }).await else {
        return Fetched::Later(LEFT_ALONE);
    };
    match answer {
        Answer::Busy(time) => Fetched::Later(time),
        Answer::Nothing => Fetched::Nothing,
        Answer::Rows { head, after } => {
            let fetched = rows(&mut stream, *head, after, limits).await;
            if !matches!(fetched, Fetched::Rows(_)) {
                let _ = stream.stop(1u32.into());
            }
            fetched
        }
    }
}

async fn question(connection: &Connection, request: &Request) -> Option<(Answer, RecvStream)> {
    let asked = async {
        let (mut send, mut receive) = connection.open_bi().await.ok()?;
        send.write_all(&request.octets()).await.ok()?;
        send.finish().ok()?;
        let answer = part(&mut receive, MOST_MESSAGE).await??;
        Some((Answer::read(&answer).ok()?, receive))
    };
    timeout(PATIENCE, asked).await.ok()?
}

/// No more than the head says and than we would keep.
async fn rows(stream: &mut RecvStream, head: Signed, after: Option<u64>, limits: Limits) -> Fetched {
    let (mut rows, mut weight) = (Vec::new(), 0);
    let most_rows = head.head.rows.min(limits.rows) as usize;
    let most_weight = head.head.weight.min(limits.weight) as usize;
    loop {
        let block = match part(stream, MOST_PACKED).await {
            Some(Some(block)) => block,
            Some(None) => return Fetched::Rows(Offer { head, after, rows }),
            None => return Fetched::Part(Offer { head, after, rows }),
        };
        let took = unpack(&block, |row| {
            weight += row.weight();
            rows.push(Arc::new(row));
        });
        if took.is_err() || rows.len() > most_rows || weight > most_weight {
            return Fetched::Later(LEFT_ALONE);
        }
        // Others of this thread first: unpacking takes a moment.
        tokio::task::yield_now().await;
    }
}

/// The next part of an answer; none within at its end.
async fn part(stream: &mut RecvStream, most: usize) -> Option<Option<Vec<u8>>> {
    let read = async {
        let mut length = [0; 4];
        match stream.read_exact(&mut length).await {
            Ok(()) => {}
            Err(quinn::ReadExactError::FinishedEarly(0)) => return Some(None),
            Err(_) => return None,
        }
        let length = usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= most)?;
        let mut octets = vec![0; length];
        stream.read_exact(&mut octets).await.ok()?;
        Some(Some(octets))
    };
    timeout(PATIENCE, read).await.ok()?
}
