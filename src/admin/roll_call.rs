//! The open connections, as the workers of the proxy have them at the moment of asking.
#![expect(clippy::disallowed_methods, reason = "driver: waits for workers no longer than it may")]

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::routes::{Answer, WantedConnections};
use super::{Connections, Inputs};
use crate::observe::status::traffic::{ConnectionStatus, RollCall};

/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is asked of each worker when only some of its connections are wanted.
const SEARCHED: usize = 200_000;

/// Asks every worker.
pub(super) async fn connections(inputs: &Inputs, wanted: &WantedConnections) -> Answer {
    let is_all = wanted.service.is_none() && wanted.client.is_none();
    let most = if is_all { wanted.most } else { SEARCHED };
    let answers = inputs.roll_calls.iter().map(|worker| async move {
        let (reply, answer) = oneshot::channel();
        worker.try_send(RollCall { most, reply }).ok()?;
        timeout(PATIENCE, answer).await.ok()?.ok()
    });
    let answers = join_all(answers).await;
    let silent = answers.iter().enumerate().filter(|(_, answer)| answer.is_none());
    let silent_workers = silent.map(|(worker, _)| worker).collect();
    let all = answers.into_iter().flatten().flatten();
    let mut connections: Vec<_> = all.filter(|connection| is_wanted(connection, wanted)).collect();
    connections.sort_by_key(|connection| std::cmp::Reverse(connection.age_ms));
    connections.truncate(wanted.most);
    Answer::json(&Connections { connections, silent_workers })
}

fn is_wanted(connection: &ConnectionStatus, wanted: &WantedConnections) -> bool {
    let address = |text: &str| text.parse::<SocketAddr>().ok().map(|client| client.ip());
    let is_service = wanted.service.is_none() || connection.service == wanted.service;
    let is_client =
        wanted.client.as_deref().is_none_or(|client| address(&connection.client) == client.parse().ok());
    is_service && is_client
}
