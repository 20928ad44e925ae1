//! The doors from outside: real sockets, real requests, and callers who misbehave.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::admin::client::Client;
use crate::admin::{Events, Status, Told};
use crate::observe::journal::recent::Recent;
use crate::observe::metrics::Recorder;
use crate::observe::samples::{choice, decision, entry, recent};
use crate::observe::status::choice::{ChoiceCall, ChoiceStatus, UnknownService};
use crate::observe::status::traffic::ProxyStatus;
use crate::supervise::task::Task;

struct Lab {
    client: Client,
    socket: std::path::PathBuf,
    metrics: SocketAddr,
    commands: mpsc::Receiver<Command>,
    choices: mpsc::Receiver<ChoiceCall>,
    events: watch::Sender<Arc<Recent>>,
    stop: CancellationToken,
    server: Task<Result<(), AdminError>>,
    _folder: TempDir,
}

async fn lab() -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("run/edgeproxy.sock");
    let Status { process, neighbors, prefixes, services, certificates, backhaul: _, fleet: _ } =
        Status::sample();
    let (send, commands) = mpsc::channel(1);
    let (choose, choices) = mpsc::channel(1);
    let (events, published) = watch::channel(Arc::new(recent()));
    let inputs = Inputs {
        process: watch::channel(Arc::new(process)).1,
        neighbors: watch::channel(Arc::new(neighbors)).1,
        prefixes: watch::channel(Arc::new(prefixes)).1,
        services: watch::channel(Arc::new(services)).1,
        proxy: watch::channel(Arc::new(ProxyStatus { certificates, ..ProxyStatus::default() })).1,
        backhaul: None,
        fleet: None,
        roll_calls: Vec::new(),
        choices: choose,
        events: published,
        recorder: Recorder::new(),
        commands: send,
    };
    let admin = Admin { socket: socket.clone(), ..Admin::default() };
    let server = Server::open(&admin, Some(SocketAddr::from(([127, 0, 0, 1], 0))), inputs).await.unwrap();
    let metrics = server.metrics_address().unwrap();
    let stop = CancellationToken::new();
    let server = Task::spawn("admin", server.run(stop.clone()));
    let client = Client::new(socket.clone());
    Lab { client, socket, metrics, commands, choices, events, stop, server, _folder: folder }
}

async fn raw<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &[u8]) -> String {
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_command_line_reads_what_the_process_published() {
    let lab = lab().await;
    let answer = lab.client.get("/v1/status").await.unwrap();
    assert_eq!(lab.client.read::<Status>(&answer).unwrap(), Status::sample());
    let refused = lab.client.get("/v1/explain?prefix=203.0.113.0/24").await.unwrap_err().to_string();
    assert!(refused.starts_with("203.0.113.0/24 is no prefix of the configuration"), "{refused}");
}

#[tokio::test]
async fn a_choice_is_answered_by_the_data_plane_and_the_checks() {
    let Lab { client, mut choices, server: _server, _folder, .. } = lab().await;
    let taker = Task::spawn("taker", async move {
        while let Some(ChoiceCall { service, client, reply }) = choices.recv().await {
            let answer = match service.as_str() {
                "web" => Ok(ChoiceStatus { client: client.to_string(), ..choice() }),
                "lost" => continue,
                _ => Err(UnknownService(vec!["api".to_owned(), "web".to_owned()])),
            };
            reply.send(answer).unwrap();
        }
    });
    let target = |service: &str| format!("/v1/explain?client=192.0.2.9&service={service}");
    let answer = client.get(&target("web")).await.unwrap();
    let document: ChoiceStatus = client.read(&answer).unwrap();
    assert_eq!((document.client.as_str(), document.backends[0].rtt_us), ("192.0.2.9", Some(1_250)));
    let refused = client.get(&target("wev")).await.unwrap_err().to_string();
    assert_eq!(refused, "there is no service wev; there are: api, web");
    let refused = client.get(&target("lost")).await.unwrap_err().to_string();
    assert!(refused.contains("stopping"), "{refused}");
    drop(taker);
    tokio::task::yield_now().await;
    let refused = client.get(&target("web")).await.unwrap_err().to_string();
    assert!(refused.contains("busy") || refused.contains("stopping"), "{refused}");
}

#[tokio::test]
async fn commands_are_answered_by_whoever_takes_them() {
    let Lab { client, mut commands, server: _server, _folder, .. } = lab().await;
    let taker = Task::spawn("taker", async move {
        while let Some(command) = commands.recv().await {
            let Command { ask, reply } = command;
            reply
                .send(match ask {
                    Ask::Reload => Err("f.yaml:2:1: speed: unknown".into()),
                    Ask::Drain { .. } | Ask::Undrain { .. } | Ask::Note { .. } => {
                        Err("not asked here".into())
                    }
                    Ask::Diff { text, base } => {
                        let text = format!("{text} in {}", base.display());
                        Ok(Told { text, document: serde_json::json!({ "keep": 1 }) })
                    }
                    other => Err(format!("{other:?}")),
                })
                .unwrap();
        }
    });
    let refused = client.post("/v1/reload", String::new()).await.unwrap_err().to_string();
    assert_eq!(refused, "f.yaml:2:1: speed: unknown");
    let told = client.post("/v1/diff?base=/etc/a%20b", "generation: 8".to_owned()).await.unwrap();
    let told: Told = client.read(&told).unwrap();
    assert_eq!(told.text, "generation: 8 in /etc/a b");
    drop(taker);
}

/// Asks for what is after the newest of the samples.
fn waiter(lab: &Lab, prefix: &str) -> Task<Result<Events, AdminError>> {
    let (client, target) = (lab.client.clone(), format!("/v1/events?after=14&wait=1&prefix={prefix}"));
    Task::spawn("waiter", async move { client.read(&client.get(&target).await?) })
}

#[tokio::test]
async fn who_waits_for_events_hears_of_the_first_that_concerns_him() {
    let lab = lab().await;
    let waiter = waiter(&lab, "198.51.100.0/24");
    let mut recent = recent();
    for (seq, prefix) in [(15, "2001:db8:100::/48"), (16, "198.51.100.0/24")] {
        sleep(Duration::from_millis(50)).await;
        assert!(!waiter.is_finished());
        recent.push(entry(seq, None, decision(prefix, "announced")));
        lab.events.send_replace(Arc::new(recent.clone()));
    }
    let Events { entries, seq } = waiter.await.unwrap().unwrap();
    assert_eq!((entries.len(), entries[0].seq, seq), (1, 16, 16));
}

#[tokio::test]
async fn who_waits_for_events_does_not_delay_a_stop() {
    let lab = lab().await;
    let waiter = waiter(&lab, "198.51.100.0/24");
    sleep(Duration::from_millis(50)).await;
    let asked = Instant::now();
    lab.stop.cancel();
    let Events { entries, seq } = waiter.await.unwrap().unwrap();
    assert_eq!((entries.len(), seq), (0, 14));
    assert!(lab.server.await.unwrap().is_ok());
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn who_waits_for_events_of_a_journal_that_ended_is_answered_late_not_at_once() {
    let lab = lab().await;
    let waiter = waiter(&lab, "198.51.100.0/24");
    drop(lab.events);
    sleep(Duration::from_millis(100)).await;
    assert!(!waiter.is_finished(), "he would ask again at once, for ever");
}

#[tokio::test]
async fn a_full_queue_is_told_as_busy() {
    let lab = lab().await;
    // Nobody takes commands: the first fills the queue and waits, the second is turned away.
    let (first, client) = (lab.client.clone(), lab.client.clone());
    let first = Task::spawn("first", async move { first.post("/v1/reload", String::new()).await });
    let busy = loop {
        if lab.commands.len() == 1 {
            break client.post("/v1/reload", String::new()).await.unwrap_err().to_string();
        }
        tokio::task::yield_now().await;
    };
    assert!(busy.contains("busy") && busy.contains("try again"), "{busy}");
    drop(lab.commands);
    let dropped = first.await.unwrap().unwrap_err().to_string();
    assert!(dropped.contains("stopping"), "{dropped}");
}

#[tokio::test]
async fn the_metrics_door_serves_metrics_and_nothing_of_operators() {
    let lab = lab().await;
    let ask = async |path: &str| {
        let stream = TcpStream::connect(lab.metrics).await.unwrap();
        raw(stream, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await
    };
    let metrics = ask("/metrics").await;
    assert!(metrics.contains("text/plain; version=0.0.4") && metrics.contains("edgeproxy_build_info"));
    assert!(ask("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(ask("/v1/status").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn what_is_too_large_or_no_http_is_turned_away() {
    let lab = lab().await;
    let ask = async |request: &[u8]| raw(UnixStream::connect(&lab.socket).await.unwrap(), request).await;
    let large = format!("POST /v1/diff HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", BODY_BYTES + 1);
    assert!(ask(&[large.as_bytes(), &vec![b'a'; BODY_BYTES + 1]].concat()).await.starts_with("HTTP/1.1 413"));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(2 * HEADER_BYTES));
    assert!(ask(long.as_bytes()).await.starts_with("HTTP/1.1 4"));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADERS + 1));
    assert!(ask(many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    assert!(!ask(&[0xff; 64]).await.starts_with("HTTP/1.1 2"));
    // And it still answers.
    lab.client.get("/v1/prefixes").await.unwrap();
}

#[tokio::test]
async fn silent_callers_at_one_door_do_not_close_the_other() {
    let lab = lab().await;
    let mut silent = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        silent.push(TcpStream::connect(lab.metrics).await.unwrap());
    }
    lab.client.get("/v1/status").await.unwrap();
}

#[tokio::test]
async fn a_stop_removes_the_socket() {
    let lab = lab().await;
    assert_eq!(std::fs::metadata(&lab.socket).unwrap().permissions().mode() & 0o777, 0o600);
    lab.stop.cancel();
    assert!(lab.server.await.unwrap().is_ok());
    assert!(!lab.socket.exists());
    let gone = lab.client.get("/v1/status").await.unwrap_err();
    assert!(matches!(gone, AdminError::NotRunning { .. }), "{gone}");
}

#[tokio::test]
async fn a_second_process_is_told_about_the_first() {
    let lab = lab().await;
    let (again, _file) = match socket::open(&lab.socket).await {
        Ok(opened) => opened,
        Err(error) => {
            assert!(matches!(error, AdminError::AlreadyRunning(_)), "{error}");
            return;
        }
    };
    panic!("a live socket was taken over: {again:?}");
}
