//! The other end of the Unix socket, for the command line.
#![expect(clippy::disallowed_methods, reason = "driver: bounds a conversation in time")]

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::AdminError;

/// Longer than the server takes for anything.
const ANSWER_TIME: Duration = Duration::from_secs(12);
/// The longest answer that is read.
const ANSWER_BYTES: usize = 256 << 20;

/// Who talks to the process behind one socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Connects only when it is asked something.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The body of the answer to a GET, which is JSON.
    pub async fn get(&self, target: &str) -> Result<String, AdminError> {
        self.ask("GET", target, String::new()).await
    }

    /// The body of the answer to a POST, which is JSON.
    pub async fn post(&self, target: &str, body: String) -> Result<String, AdminError> {
        self.ask("POST", target, body).await
    }

    /// An answer as the document that it is.
    pub fn read<T: DeserializeOwned>(&self, answer: &str) -> Result<T, AdminError> {
        serde_json::from_str(answer).map_err(|error| {
            self.not_understood(&format!("{error}; are the command and the process of the same version?"))
        })
    }

    async fn ask(&self, method: &str, target: &str, body: String) -> Result<String, AdminError> {
        match timeout(ANSWER_TIME, self.converse(method, target, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(AdminError::NoAnswer(self.socket.clone(), ANSWER_TIME.as_secs())),
        }
    }

    async fn converse(&self, method: &str, target: &str, body: String) -> Result<String, AdminError> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|error| unreachable(&self.socket, &error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.not_understood(&error))?;
        let request = hyper::Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, "edgeproxy")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.not_understood(&error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| self.not_understood(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| self.not_understood(&error))?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        // The connection moves the answer's bytes, so it is driven beside it; when it ends first, all
        // bytes are there already.
        let drive = async {
            let _ = connection.await;
        };
        let (answered, ()) = {
            tokio::pin!(answer, drive);
            tokio::select! {
                answered = &mut answer => (answered, ()),
                () = &mut drive => (answer.await, ()),
            }
        };
        let (status, body) = answered?;
        if status.is_success() {
            return Ok(body);
        }
        let document: Option<serde_json::Value> = serde_json::from_str(&body).ok();
        let words = document.as_ref().and_then(|document| document["error"].as_str());
        Err(AdminError::Refused(words.map_or_else(|| format!("{status}: {}", body.trim()), str::to_owned)))
    }

    fn not_understood(&self, why: &dyn fmt::Display) -> AdminError {
        AdminError::NotUnderstood { socket: self.socket.clone(), why: why.to_string() }
    }
}

fn unreachable(socket: &Path, error: &io::Error) -> AdminError {
    let socket = socket.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => AdminError::NotRunning { socket, why: "no socket" },
        io::ErrorKind::ConnectionRefused => AdminError::NotRunning { socket, why: "nobody answers" },
        io::ErrorKind::PermissionDenied => AdminError::Permission(socket),
        _ => AdminError::NotUnderstood { socket, why: error.to_string() },
    }
}
