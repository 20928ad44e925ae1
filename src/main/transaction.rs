//! Conversations about a new configuration: its text goes to the process, with its signature.

use std::path::Path;
use std::time::Duration;

use edgeproxy::admin::client::Client;
use edgeproxy::admin::{Told, query};
use edgeproxy::appliance::transaction::CONFIRM_WITHIN;
use edgeproxy::config::duration;
use edgeproxy::config::load;

use super::{Failure, line, tell};

/// What a file would change in the running configuration.
pub(super) async fn diff(client: &Client, file: &Path, json: bool) -> Result<String, Failure> {
    let (query, text) = offer(file)?;
    tell(client, &format!("/v1/diff?{query}"), text, json).await
}

/// What a file would do, and a failure if it would be refused.
pub(super) async fn plan(client: &Client, file: &Path, json: bool) -> Result<String, Failure> {
    let (query, text) = offer(file)?;
    let answer = client.post(&format!("/v1/plan?{query}"), text).await?;
    let told: Told = client.read(&answer)?;
    let shown = if json { line(&told.document) } else { format!("{}\n", told.text.trim_end()) };
    if told.document["refused"].is_null() { Ok(shown) } else { Err(Failure::Answered(shown)) }
}

/// Puts a file in force.
pub(super) async fn apply(
    client: &Client,
    file: &Path,
    confirm_within: Option<Duration>,
    allow_withdraw: bool,
    json: bool,
) -> Result<String, Failure> {
    let (mut query, text) = offer(file)?;
    if let Some(within) = confirm_within {
        query += &format!("&confirm_within_ms={}", within.as_millis());
    }
    if allow_withdraw {
        query += "&allow_withdraw=1";
    }
    tell(client, &format!("/v1/apply?{query}"), text, json).await
}

/// The request to go back.
pub(super) fn rollback(generation: Option<u64>, allow_withdraw: bool) -> String {
    let to = generation.map(|generation| format!("to={generation}"));
    let words: Vec<_> = to.into_iter().chain(allow_withdraw.then(|| "allow_withdraw=1".to_owned())).collect();
    format!("/v1/rollback?{}", words.join("&"))
}

/// A time to confirm, as on the command line.
pub(super) fn confirm_within(text: &str) -> Result<Duration, String> {
    let within = duration::parse(text).map_err(|why| why.to_string())?;
    if CONFIRM_WITHIN.contains(&within) { Ok(within) } else { Err("from 1s to 24h".to_owned()) }
}

/// The query that describes a file, and its text. Bad configuration is found here, with all its problems;
/// then the process is asked.
fn offer(file: &Path) -> Result<(String, String), Failure> {
    load::load(file)?;
    let source = load::read(file)?;
    // The process may stand elsewhere: files named in the configuration are beside it.
    let mut query = format!("base={}", query::encode(&source.base.to_string_lossy()));
    if let Some(signature) = source.signature {
        query += &format!("&signature={}", query::encode(&signature.text()));
    }
    Ok((query, source.text))
}
