//! The prober against real sockets on loopback.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use edgeproxy::config::health::Health;
use edgeproxy::config::services::{
    Backend, Check, Forwarding, HttpProbe, Level, Probe, Service, StatusSet, Watermark,
};
use edgeproxy::health::{HealthError, HealthPlan, HealthView, Position, Prober, ServiceHealth};
use edgeproxy::observe::journal::{CauseIds, Journal};
use edgeproxy::observe::status::{BackendStatus, ServiceStatus};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Far more than anything here takes, on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(10);

// ---- held connections

#[tokio::test]
async fn the_end_of_the_held_connection_is_a_verdict_at_once() {
    let backend = Server::start(LOCALHOST, keep());
    let mut prober = Running::start(plan(rare(), &[backend.address]));
    prober.until_backend(|backend| backend.held_connection == "open").await;
    assert_eq!(prober.service().position, Position::Full);

    let killed_at = backend.kill(Order::ListenerFirst);
    let health = prober.until(|health| health.position == Position::Low).await;
    let cause = health.cause.expect("a service that fell has a cause");
    assert!(cause.failed_at - killed_at < millis(100), "{:?}", cause.failed_at - killed_at);
    assert_eq!(
        (cause.error.as_str(), cause.proven, cause.backend.as_str()),
        ("connection refused", true, "b0")
    );
}

/// A dying process may close its connections before its listener: the probe then still gets through.
#[tokio::test]
async fn a_listener_that_outlives_its_connections_is_noticed_too() {
    let backend = Server::start(LOCALHOST, keep());
    // No timer helps here: only the connection opened after that probe, which ends with the listener.
    let check = Check { rise: 1, fast_interval: Duration::from_secs(30), ..rare() };
    let mut prober = Running::on_a_thread(plan(check, &[backend.address]));
    prober.until_backend(|backend| backend.held_connection == "open").await;
    let killed_at = backend.kill(Order::ConnectionsFirst);
    let health = prober.until(|health| health.position == Position::Low).await;
    let cause = health.cause.expect("a service that fell has a cause");
    assert!(cause.failed_at - killed_at < millis(200), "{:?}", cause.failed_at - killed_at);
    assert!(cause.proven);
}

/// Many servers close connections that say nothing: that must neither flap nor become a storm.
#[tokio::test]
async fn a_server_that_closes_idle_connections_stays_up() {
    let backend = Server::start(LOCALHOST, |_| None);
    let mut prober = Running::start(plan(rare(), &[backend.address]));
    prober.until(|health| health.position == Position::Full).await;
    tokio::time::sleep(millis(500)).await;
    assert_eq!(prober.service().position, Position::Full);
    let probes = prober.backend().probes;
    assert!(probes < 20, "{probes} probes in half a second");
}

/// A server that serves one connection at a time waits for ours to speak, and hears nobody else.
#[tokio::test]
async fn a_server_made_deaf_by_the_held_connection_is_let_go() {
    let answer = http_answer(200, "ok");
    let backend = Server::start(LOCALHOST, move |mut stream| {
        let _gone = converse(&mut stream, &answer);
        None
    });
    let check = Check { timeout: millis(100), ..http(probe(None)) };
    let mut prober = Running::start(plan(check, &[backend.address]));
    prober.until(|health| health.position == Position::Full).await;
    let since = prober.service().since;
    prober.until_backend(|backend| backend.failures > 0).await;
    let probes = prober.backend().probes;
    prober.until_backend(|backend| backend.probes > probes + 20).await;
    assert_eq!((prober.service().position, prober.service().since), (Position::Full, since));
    assert_eq!(prober.backend().held_connection, "closed");
}

// ---- verdicts

#[tokio::test]
async fn nobody_there_is_proven_at_once_and_a_return_is_seen() {
    let backend = Server::start(LOCALHOST, keep());
    let address = backend.address;
    backend.kill(Order::ListenerFirst);
    let mut prober = Running::start(plan(Check { fall: 100, ..tcp() }, &[address]));
    let health = prober.until(|health| health.proven).await;
    assert_eq!(health.position, Position::Low);
    assert!(health.cause.is_some_and(|cause| cause.proven && cause.target == address));

    let _back = Server::start_at(address, keep());
    let health = prober.until(|health| health.position == Position::Full).await;
    assert_eq!((health.cause, health.healthy_weight), (None, 2));
}

#[tokio::test]
async fn a_backend_that_falls_silent_is_down_soon_but_not_proven() {
    let silent = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&silent);
    let backend = Server::start(LOCALHOST, move |stream| {
        // As a stopped process: the kernel still accepts.
        if !told.load(Ordering::Acquire) {
            answering(stream.try_clone().ok()?, http_answer(200, ""));
        }
        Some(stream)
    });
    let check = Check {
        interval: millis(10),
        timeout: millis(15),
        fall: 2,
        held_connection: false,
        ..http(probe(None))
    };
    let mut prober = Running::start(plan(check, &[backend.address]));
    prober.until(|health| health.position == Position::Full).await;
    let from = Instant::now();
    silent.store(true, Ordering::Release);
    let cause = prober.until(|health| health.position == Position::Low).await.cause.expect("fell");
    assert!(cause.failed_at - from < millis(500), "{:?}", cause.failed_at - from);
    assert_eq!((cause.error.as_str(), cause.proven), ("no answer within 15ms", false));
}

#[tokio::test]
async fn http_answers_are_judged() {
    let long = |before: usize| format!("{}needle", "x".repeat(before));
    let giant = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(2_000));
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nnee\r\n3\r\ndle\r\n0\r\n\r\n";
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nno";
    // answer, wanted text, error or None for up
    let table: Vec<(Vec<u8>, Option<&str>, Option<&str>)> = vec![
        (http_answer(200, ""), None, None),
        (http_answer(204, ""), None, None),
        (http_answer(500, "needle"), Some("needle"), Some("status 500 (expected 2xx)")),
        (http_answer(301, ""), None, Some("status 301 (expected 2xx)")),
        (http_answer(200, "hay, needle, hay"), Some("needle"), None),
        (http_answer(200, "hay"), Some("needle"), Some("body lacks \"needle\"")),
        (http_answer(200, &long(60_000)), Some("needle"), None),
        (http_answer(200, &long(65_530)), Some("needle"), None),
        (http_answer(200, &long(65_531)), Some("needle"), Some("body lacks \"needle\"")),
        (http_answer(200, &long(500_000)), None, None),
        (chunked.into(), Some("needle"), None),
        (cut.into(), Some("needle"), Some("connection closed before an answer")),
        (Vec::new(), None, Some("connection closed before an answer")),
        (b"HTTP/1.1 20".to_vec(), None, Some("connection closed before an answer")),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), None, Some("malformed answer")),
        (giant.into(), None, Some("answer too large")),
        (many.into(), None, Some("answer too large")),
    ];
    for (answer, text, error) in table {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(60)]).into_owned();
        let backend = Server::start(LOCALHOST, move |stream| {
            answering(stream, answer.clone());
            None
        });
        let check = Check { held_connection: false, ..http(probe(text)) };
        let mut prober = Running::start(plan(check, &[backend.address]));
        let status = prober.until_backend(|backend| backend.verdict != "unproven").await;
        match error {
            None => assert_eq!((status.verdict.as_str(), &status.error), ("up", &None), "{shown}"),
            Some(words) => {
                assert_eq!(status.verdict, "down", "{shown}");
                assert!(
                    status.error.as_ref().is_some_and(|error| error.starts_with(words)),
                    "{shown}: {status:?}"
                );
            }
        }
        assert_eq!(status.rtt_us.is_some(), error.is_none(), "{shown}");
    }
}

#[tokio::test]
async fn an_answer_that_trickles_meets_the_deadline_of_the_whole_probe() {
    let backend = Server::start(LOCALHOST, |mut stream| {
        std::thread::spawn(move || {
            for byte in b"HTTP/1.1 200 OK\r\n".iter().cycle() {
                std::thread::sleep(millis(10));
                if stream.write_all(&[*byte]).is_err() {
                    break;
                }
            }
        });
        None
    });
    let check = Check { timeout: millis(80), held_connection: false, ..http(probe(None)) };
    let mut prober = Running::start(plan(check, &[backend.address]));
    let status = prober.until_backend(|backend| backend.verdict == "down").await;
    assert_eq!(status.error.as_deref(), Some("no answer within 80ms"));
}

#[tokio::test]
async fn the_request_is_what_was_configured() {
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let backend = Server::start(LOCALHOST, move |mut stream| {
        let mut request = vec![0; 2000];
        let length = stream.read(&mut request).unwrap_or(0);
        request.truncate(length);
        let _only_the_first = told.try_send((request, stream.peer_addr().expect("connected").ip()));
        None
    });
    let asked = HttpProbe {
        method: "HEAD".into(),
        path: "/health?deep=1".into(),
        host: Some("example.net".into()),
        ..probe(None)
    };
    let source = Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)));
    let _prober = Running::start(plan(Check { source, ..http(asked) }, &[backend.address]));
    let (request, from) =
        tokio::time::timeout(PATIENCE, heard.recv()).await.expect("in time").expect("heard");
    let request = String::from_utf8(request).expect("a request is text").to_lowercase();
    assert!(request.starts_with("head /health?deep=1 http/1.1\r\n"), "{request}");
    for line in ["host: example.net\r\n", "user-agent: edgeproxy-health\r\n", "connection: close\r\n"] {
        assert!(request.contains(line), "{request}");
    }
    assert_eq!(Some(from), source);
}

#[tokio::test]
async fn a_source_that_is_not_here_is_our_fault_and_no_verdict() {
    let backend = Server::start(LOCALHOST, keep());
    let source = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    let mut prober = Running::start(plan(Check { source, ..tcp() }, &[backend.address]));
    let status = prober.until_backend(|backend| backend.failures > 5).await;
    assert_eq!(status.verdict, "unproven");
    let words = "cannot probe from here: the source address is not on this machine";
    assert_eq!(status.error.as_deref(), Some(words));
}

#[tokio::test]
async fn ipv6_is_probed_alike() {
    for check in [tcp(), http(probe(Some("ok")))] {
        let backend = Server::start(IpAddr::V6(Ipv6Addr::LOCALHOST), |stream| {
            answering(stream.try_clone().ok()?, http_answer(200, "ok"));
            Some(stream)
        });
        let mut prober = Running::start(plan(check, &[backend.address]));
        prober.until_backend(|backend| backend.held_connection == "open").await;
        backend.kill(Order::ListenerFirst);
        assert!(
            prober
                .until(|health| health.position == Position::Low)
                .await
                .cause
                .is_some_and(|cause| cause.proven)
        );
    }
}

// ---- the whole

#[tokio::test]
async fn two_thousand_backends_are_proven_sixty_four_at_a_time() {
    // One listener on all of 127.0.0.0/8 is as many backends as wanted.
    let server = Server::start(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |_| None);
    let address = |number: u16| Ipv4Addr::new(127, 1, (number >> 8) as u8, number as u8);
    let backends: Vec<SocketAddr> =
        (0..2000).map(|number| SocketAddr::from((address(number), server.address.port()))).collect();
    let check = Check { interval: Duration::from_secs(1), fast_interval: millis(50), ..tcp() };
    let mut plan = plan(Check { held_connection: false, ..check }, &backends);
    plan.limits.max_concurrent = 64;
    let mut prober = Running::start(plan);
    let health =
        prober.until(|health| health.healthy_weight == health.total_weight && health.total_weight > 0).await;
    assert_eq!((health.total_weight, health.proven, health.position), (4000, true, Position::Full));
    prober.until_backend(|backend| backend.probes > 3).await;
    assert_eq!(prober.service().healthy_weight, 4000);
}

#[tokio::test]
async fn a_new_plan_keeps_what_still_holds() {
    let (first, second) = (Server::start(LOCALHOST, keep()), Server::start(LOCALHOST, keep()));
    let mut prober = Running::start(plan(tcp(), &[first.address]));
    let since = prober.until(|health| health.position == Position::Full).await.since;

    let check = Check { interval: Duration::from_secs(60), rise: 50, fall: 9, timeout: millis(900), ..tcp() };
    let mut changed = plan(check.clone(), &[first.address, second.address]);
    prober.plan.send_replace(Arc::new(changed.clone()));
    let health = prober.until(|health| health.total_weight == 4).await;
    assert_eq!((health.position, health.healthy_weight, health.since), (Position::Full, 2, since));

    // Another port is another question.
    changed = plan(Check { port: Some(second.address.port()), ..check }, &[first.address]);
    prober.plan.send_replace(Arc::new(changed.clone()));
    let health = prober.until(|health| health.total_weight == 2).await;
    assert_eq!((health.position, health.proven), (Position::Low, false));

    changed.services.clear();
    prober.plan.send_replace(Arc::new(changed));
    let gone = prober.view.wait_for(|view| view.services.is_empty());
    tokio::time::timeout(PATIENCE, gone).await.expect("in time").expect("the prober lives");
}

#[tokio::test]
async fn watermarks_count_weight() {
    let mut servers: Vec<Server> = (0..4).map(|_| Server::start(LOCALHOST, keep())).collect();
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let mut plan = plan(tcp(), &addresses);
    let service = plan.services.get_mut("web").expect("planned");
    let levels = (Level::Weight(2), Level::Percent(50), Some(Level::Percent(75)));
    service.watermark = Watermark { low: levels.0, high: levels.1, degrade: levels.2 };
    let mut prober = Running::start(plan);
    prober.until(|health| health.position == Position::Full && health.healthy_weight == 8).await;
    for (weight, position) in [(6, Position::Full), (4, Position::BrownOut), (2, Position::Low)] {
        servers.pop().expect("one is left").kill(Order::ListenerFirst);
        let health = prober.until(|health| health.healthy_weight == weight).await;
        assert_eq!(health.position, position);
        assert_eq!(health.cause.map(|cause| cause.backend), (weight < 6).then(|| format!("b{}", weight / 2)));
    }
}

#[tokio::test]
async fn the_view_shows_that_the_prober_lives_and_the_prober_ends_with_its_owners() {
    let mut quiet = plan(rare(), &[SocketAddr::from((LOCALHOST, 1))]);
    quiet.limits.max_age = millis(400);
    let mut prober = Running::start(quiet.clone());
    let first = prober.until(|health| health.proven).await.since;
    let moved = prober.view.wait_for(|view| view.as_of > first + millis(300));
    tokio::time::timeout(PATIENCE, moved).await.expect("in time").expect("the prober lives");
    prober.stop.cancel();
    assert_eq!(prober.task.join_next().await.expect("one task").expect("no panic"), Ok(()));

    let Running { plan, mut task, .. } = Running::start(quiet);
    drop(plan);
    assert_eq!(task.join_next().await.expect("one task").expect("no panic"), Err(HealthError::PlanGone));
}

// ---- figures: `cargo test --release --test health -- --ignored --nocapture`

#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn figure_from_end_to_view() {
    for order in [Order::ListenerFirst, Order::ConnectionsFirst] {
        let mut took = Vec::new();
        for _ in 0..200 {
            let backend = Server::start(LOCALHOST, keep());
            let mut prober = Running::on_a_thread(plan(rare(), &[backend.address]));
            prober.until_backend(|backend| backend.held_connection == "open").await;
            let killer = std::thread::spawn(move || backend.kill(order));
            prober.until(|health| health.position == Position::Low).await;
            let seen = Instant::now();
            took.push(seen.saturating_duration_since(killer.join().expect("killed")));
            prober.stop.cancel();
        }
        report(&format!("end to view, {order:?}"), took);
    }
}

#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn figure_from_silence_to_view() {
    let mut took = Vec::new();
    for round in 0..100 {
        let silent = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&silent);
        let backend = Server::start(LOCALHOST, move |stream| {
            if !told.load(Ordering::Acquire) {
                answering(stream.try_clone().ok()?, http_answer(200, ""));
            }
            Some(stream)
        });
        let check = Check { interval: millis(10), timeout: millis(15), ..http(probe(None)) };
        let mut prober = Running::on_a_thread(plan(check, &[backend.address]));
        prober.until(|health| health.position == Position::Full).await;
        // At any moment between two probes.
        tokio::time::sleep(millis(20) + Duration::from_micros(110) * round).await;
        let from = Instant::now();
        silent.store(true, Ordering::Release);
        prober.until(|health| health.position == Position::Low).await;
        took.push(from.elapsed());
        prober.stop.cancel();
        backend.kill(Order::ListenerFirst);
    }
    report("silence to view, 10 ms probes, 15 ms timeout, fall 2", took);
}

#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn figure_cpu_per_probe() {
    for check in [tcp(), http(probe(None)), http(probe(Some("ok")))] {
        let name = if check.probe == Probe::Tcp { "TCP" } else { "HTTP" };
        let server = Server::start(IpAddr::V4(Ipv4Addr::UNSPECIFIED), move |mut stream| {
            if name == "HTTP" {
                let _gone = converse(&mut stream, &http_answer(200, "ok"));
            }
            None
        });
        let backends: Vec<SocketAddr> = (0..200)
            .map(|number| SocketAddr::from((Ipv4Addr::new(127, 1, 0, number), server.address.port())))
            .collect();
        let check = Check { interval: millis(100), held_connection: false, ..check };
        let mut prober = Running::on_a_thread(plan(check, &backends));
        prober.until(|health| health.healthy_weight == 400).await;
        let count =
            |status: &[ServiceStatus]| status[0].backends.iter().map(|backend| backend.probes).sum::<u64>();
        let (before, cpu_before) = (count(&prober.status.borrow()), cpu_of_thread("prober"));
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (after, cpu_after) = (count(&prober.status.borrow()), cpu_of_thread("prober"));
        let probes = after - before;
        println!(
            "{name}: {probes} probes in 5 s, {:?} of CPU each",
            (cpu_after - cpu_before) / probes as u32
        );
        prober.stop.cancel();
    }
}

/// CPU time of the thread of that name, by the scheduler's own count in nanoseconds.
fn cpu_of_thread(name: &str) -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    let path = tasks
        .map(|task| task.expect("procfs").path())
        .filter(|path| std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name));
    let stat = std::fs::read_to_string(path.last().expect("running").join("schedstat")).expect("procfs");
    Duration::from_nanos(stat.split(' ').next().expect("first").parse().expect("a number"))
}

#[expect(clippy::print_stdout, reason = "a figure is for reading")]
fn report(name: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |share: f64| took[(took.len() as f64 * share) as usize];
    println!("{name}: p50 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), took[took.len() - 1]);
}

// ---- the prober under test

struct Running {
    plan: watch::Sender<Arc<HealthPlan>>,
    view: watch::Receiver<Arc<HealthView>>,
    status: watch::Receiver<Arc<Vec<ServiceStatus>>>,
    stop: CancellationToken,
    task: JoinSet<Result<(), HealthError>>,
}

impl Running {
    fn start(plan: HealthPlan) -> Self {
        let (mut running, prober) = Self::build(plan);
        running.task.spawn(prober.run(running.stop.clone()));
        running
    }

    /// On a thread and runtime of its own, as in the process.
    fn on_a_thread(plan: HealthPlan) -> Self {
        let (running, prober) = Self::build(plan);
        let stop = running.stop.clone();
        let run = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(prober.run(stop))
        };
        std::thread::Builder::new().name("prober".into()).spawn(run).expect("a thread");
        running
    }

    fn build(plan: HealthPlan) -> (Self, Prober) {
        let (plan, plan_in) = watch::channel(Arc::new(plan));
        let (view_out, view) = watch::channel(Arc::new(HealthView::empty(Instant::now())));
        let (status_out, status) = watch::channel(Arc::new(Vec::new()));
        let running = Self { plan, view, status, stop: CancellationToken::new(), task: JoinSet::new() };
        (
            running,
            Prober::new(
                plan_in,
                view_out,
                status_out,
                tokio::sync::watch::channel(Default::default()).0,
                tokio::sync::mpsc::channel(1).1,
                tokio::sync::watch::channel(Default::default()).1,
                Journal::new(1).0,
                CauseIds::new(1, 0),
            ),
        )
    }

    fn service(&self) -> ServiceHealth {
        self.view.borrow().services["web"].clone()
    }

    /// The first backend.
    fn backend(&self) -> BackendStatus {
        self.status.borrow()[0].backends[0].clone()
    }

    /// Waits for the service to look like that.
    async fn until(&mut self, wanted: impl Fn(&ServiceHealth) -> bool) -> ServiceHealth {
        let mut found = None;
        let look = |view: &Arc<HealthView>| {
            found = view.services.get("web").filter(|health| wanted(health)).cloned();
            found.is_some()
        };
        let waited = tokio::time::timeout(PATIENCE, self.view.wait_for(look))
            .await
            .map(|view| drop(view.expect("lives")));
        assert!(waited.is_ok(), "not in time: {:#?}", self.status.borrow());
        found.expect("found")
    }

    /// Waits for the first backend to look like that.
    async fn until_backend(&mut self, wanted: impl Fn(&BackendStatus) -> bool) -> BackendStatus {
        let mut found = None;
        let look = |status: &Arc<Vec<ServiceStatus>>| {
            found =
                status.first().map(|service| &service.backends[0]).filter(|backend| wanted(backend)).cloned();
            found.is_some()
        };
        let waited =
            tokio::time::timeout(PATIENCE, self.status.wait_for(look)).await.map(|s| drop(s.expect("lives")));
        assert!(waited.is_ok(), "not in time: {:#?}", self.status.borrow());
        found.expect("found")
    }
}

// ---- plans

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn tcp() -> Check {
    Check {
        probe: Probe::Tcp,
        interval: millis(20),
        fast_interval: millis(5),
        timeout: Duration::from_secs(2),
        rise: 2,
        fall: 2,
        source: None,
        port: None,
        held_connection: true,
    }
}

/// Polled so rarely that only the held connection can notice anything.
fn rare() -> Check {
    Check { interval: Duration::from_secs(30), fast_interval: millis(20), ..tcp() }
}

fn http(probe: HttpProbe) -> Check {
    Check { probe: Probe::Http(probe), ..tcp() }
}

fn probe(body: Option<&str>) -> HttpProbe {
    HttpProbe {
        method: "GET".into(),
        path: "/".into(),
        host: None,
        expect: StatusSet(vec![(200, 299)]),
        body: body.map(str::to_owned),
    }
}

/// One service `web` with backends `b0`, `b1`, … of weight 2.
fn plan(check: Check, backends: &[SocketAddr]) -> HealthPlan {
    let backends = backends.iter().enumerate().map(|(number, address)| Backend {
        id: format!("b{number}"),
        address: address.ip(),
        port: address.port(),
        pop: None,
        via_ingress: false,
        region: "sa".into(),
        weight: 2,
        soft_limit: 100,
        hard_limit: 150,
        country: None,
        drain: false,
    });
    let service = Service {
        name: "web".into(),
        watermark: Watermark::default(),
        backends: backends.collect(),
        from_fleet: false,
        check,
        listen: Vec::new(),
        forwarding: Forwarding::default(),
    };
    HealthPlan { limits: Health::default(), services: BTreeMap::from([("web".into(), service)]) }
}

// ---- backends, on threads of their own

/// A listener that treats connections as it was told, and ends as the kernel ends a process.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    listener: TcpListener,
    thread: JoinHandle<Vec<TcpStream>>,
}

/// In which order the sockets of a killed process close; both happen.
#[derive(Debug, Clone, Copy)]
enum Order {
    ListenerFirst,
    ConnectionsFirst,
}

impl Server {
    /// `treat` takes each connection and gives back what stays open until the end.
    fn start(address: IpAddr, treat: impl FnMut(TcpStream) -> Option<TcpStream> + Send + 'static) -> Self {
        Self::start_at((address, 0).into(), treat)
    }

    fn start_at(
        address: SocketAddr,
        mut treat: impl FnMut(TcpStream) -> Option<TcpStream> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, accepting) = (Arc::clone(&stop), listener.try_clone().expect("a descriptor"));
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in accepting.incoming() {
                if stopped.load(Ordering::Acquire) {
                    break;
                }
                kept.extend(stream.ok().and_then(&mut treat));
            }
            kept
        });
        Self { address, stop, listener, thread }
    }

    /// Ends it; gives the moment from which on nobody listens.
    fn kill(self, order: Order) -> Instant {
        self.stop.store(true, Ordering::Release);
        let _wakes_accept = TcpStream::connect(self.address);
        let kept = self.thread.join().expect("the backend's thread");
        let listener = self.listener;
        match order {
            Order::ListenerFirst => {
                let now = Instant::now();
                drop(listener);
                kept.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
                now
            }
            Order::ConnectionsFirst => {
                kept.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
                std::thread::sleep(millis(20));
                let now = Instant::now();
                drop(listener);
                now
            }
        }
    }
}

/// Accepts and says nothing.
fn keep() -> impl FnMut(TcpStream) -> Option<TcpStream> + Send + 'static {
    Some
}

/// Answers one request, on a thread of its own so that a silent connection holds up nobody.
fn answering(mut stream: TcpStream, answer: Vec<u8>) {
    std::thread::spawn(move || converse(&mut stream, &answer));
}

fn converse(stream: &mut TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    stream.write_all(answer)?;
    stream.shutdown(Shutdown::Write)
}

fn http_answer(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Words\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
