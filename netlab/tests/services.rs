//! The services and the router of the lab as real processes in real namespaces, with a collector as the neighbor.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use netlab::collector::{Collector, Options};
use netlab::edgeproxy::EdgeProxy;
use netlab::link::{End, connect};
use netlab::load;
use netlab::moment::Moment;
use netlab::namespace::Namespace;
use netlab::service::{Kind, Service, ServiceConfig};
use netlab::sys::namespace::is_root;
use netlab::traffic::{Client, http};

/// A short path, because a Unix socket's may have 107 octets; gone when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("netlab-hosts-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether the test can run here; says so loudly if not.
fn is_skipped(test: &str) -> bool {
    if !is_root() {
        println!("SKIPPED {test}: it needs root for network namespaces");
    }
    !is_root()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn config(kind: Kind, listen: &[&str]) -> ServiceConfig {
    let listen = listen.iter().map(|text| address(text)).collect();
    ServiceConfig { kind, name: "web-1".to_owned(), listen }
}

fn ask(namespace: &Namespace, target: &str) -> Result<String, String> {
    let options =
        http::Options { timeout: Duration::from_millis(300), ..http::Options::new(address(target)) };
    namespace.run(|| http::ask(&options)).unwrap()
}

#[test]
fn an_http_service_does_as_told() {
    if is_skipped("an_http_service_does_as_told") {
        return;
    }
    let (directory, host) = (Directory::new(), Namespace::create("host").unwrap());
    // The second address does not exist yet, as an anycast address before its router binds it.
    let listen = ["127.0.0.1:80", "[2001:db8::80]:80"];
    let mut service = Service::start(&host, &config(Kind::Http, &listen), &directory.0).unwrap();
    let name = Ok("web-1".to_owned());
    let refused = Err("connection refused".to_owned());
    assert_eq!(ask(&host, listen[0]), name);
    host.ip(&["addr", "add", "2001:db8::80/128", "dev", "lo", "nodad"]).unwrap();
    assert_eq!(ask(&host, listen[1]), name);

    service.status(500).unwrap();
    assert_eq!(ask(&host, listen[0]), Err("status 500".to_owned()));
    service.status(200).unwrap();
    assert_eq!(ask(&host, listen[0]), name);

    service.hang(true).unwrap();
    assert_eq!(ask(&host, listen[0]), Err("no answer in time".to_owned()));
    service.hang(false).unwrap();
    assert_eq!(ask(&host, listen[0]), name);

    let delay = Duration::from_millis(100);
    service.delay(delay).unwrap();
    let before = Instant::now();
    assert_eq!(ask(&host, listen[0]), name);
    assert!(before.elapsed() >= delay, "{:?}", before.elapsed());
    service.delay(Duration::ZERO).unwrap();

    let mut held = host.run(|| TcpStream::connect(address(listen[0]))).unwrap().unwrap();
    held.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    for _ in 0..2 {
        held.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").unwrap();
        let mut answer = [0; 200];
        let count = held.read(&mut answer).unwrap();
        assert!(answer[..count].ends_with(b"\r\n\r\nweb-1\n"));
    }
    service.refuse(true).unwrap();
    assert_eq!(held.read(&mut [0]).unwrap_or(0), 0, "the held connection ends");
    assert_eq!(ask(&host, listen[0]), refused);
    service.refuse(false).unwrap();
    assert_eq!(ask(&host, listen[1]), name);

    service.stop().unwrap();
    assert_eq!(ask(&host, listen[0]), Err("no answer in time".to_owned()));
    assert!(service.status(204).unwrap_err().to_string().contains("stopped"));
    service.cont().unwrap();
    service.status(200).unwrap();
    assert_eq!(ask(&host, listen[0]), name, "the late word about the order before is not taken for this one");

    service.kill().unwrap();
    assert!(!service.is_running());
    assert_eq!(ask(&host, listen[0]), refused);
    service.restart().unwrap();
    assert_eq!(ask(&host, listen[0]), name);

    let taken = Service::start(&host, &config(Kind::Tcp, &listen), &directory.0).unwrap_err();
    assert!(taken.to_string().contains("127.0.0.1:80"), "{taken}");
}

#[test]
fn two_thousand_idle_connections_do_not_slow_a_service() {
    if is_skipped("two_thousand_idle_connections_do_not_slow_a_service") {
        return;
    }
    let (directory, host) = (Directory::new(), Namespace::create("host").unwrap());
    let target = "127.0.0.1:80";
    let mut service = Service::start(&host, &config(Kind::Http, &[target]), &directory.0).unwrap();
    // Each side holds a descriptor per connection; the test's own limit may be 1,024.
    let limit = nix::sys::resource::Resource::RLIMIT_NOFILE;
    let (_, hard) = nix::sys::resource::getrlimit(limit).unwrap();
    nix::sys::resource::setrlimit(limit, hard.min(8192), hard).unwrap();
    let idle: Vec<_> = host
        .run(|| (0..2000).map(|_| TcpStream::connect(address(target))).collect::<Result<_, _>>())
        .unwrap()
        .unwrap();
    for _ in 0..50 {
        assert_eq!(ask(&host, target), Ok("web-1".to_owned()));
    }
    service.kill().unwrap();
    drop::<Vec<TcpStream>>(idle);
}

#[test]
fn a_udp_service_answers_with_its_name_until_told_otherwise() {
    if is_skipped("a_udp_service_answers_with_its_name_until_told_otherwise") {
        return;
    }
    let (directory, host) = (Directory::new(), Namespace::create("host").unwrap());
    let target = "127.0.0.1:9";
    let mut service = Service::start(&host, &config(Kind::UdpEcho, &[target]), &directory.0).unwrap();
    let answered = || {
        let client = host.run(|| Client::start(address(target), &[address("127.0.0.1:0")], 1000)).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let record = client.unwrap().stop();
        record.by_pop(Moment::ZERO, Moment::MAX).get("web-1").copied().unwrap_or(0)
    };
    assert!(answered() > 10);
    service.hang(true).unwrap();
    assert_eq!(answered(), 0);
    service.refuse(true).unwrap();
    assert_eq!(answered(), 0);
    service.refuse(false).unwrap();
    assert!(answered() > 10);
    assert!(service.status(500).unwrap_err().to_string().contains("no status"));
}

#[test]
fn busy_processes_end_with_their_owner() {
    let spin = load::spin(1).unwrap();
    let pid = spin.pids()[0];
    assert!(PathBuf::from(format!("/proc/{pid}")).exists());
    drop(spin);
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
}

const LONG: Duration = Duration::from_secs(20);
const ROUNDS: usize = 20;

const ROUTER: &str = "
generation: 1
pop: { id: gru1, region: sa }
bgp:
  asn: 64512
  router_id: 10.0.0.2
  shutdown: { graceful: 100ms }
  neighbors:
    - { name: upstream, address: 10.0.0.1, asn: 64500, connect_retry: 1s }
anycast:
  - { prefix: 198.51.100.0/24, addresses: [198.51.100.1], services: [web], damping: off }
services:
  - name: web
    backends: [{ id: web-1, address: 10.0.0.2, port: 8080 }]
    health: { http: {}, interval: 10ms, fast_interval: 10ms, timeout: 15ms, rise: 2, fall: 2 }
";

/// A POP with its backend in one host, its neighbor in another.
struct Pop {
    // Dropped in this order.
    collector: Collector,
    router: EdgeProxy,
    service: Service,
    upstream: Namespace,
    directory: Directory,
}

impl Pop {
    /// The service is there, the router is not yet started.
    fn new() -> Self {
        let directory = Directory::new();
        let (pop, upstream) = (Namespace::create("pop").unwrap(), Namespace::create("upstream").unwrap());
        let (ours, theirs) = (["10.0.0.2/24".to_owned()], ["10.0.0.1/24".to_owned()]);
        connect(
            &End { host: &pop, interface: "to-up", addresses: &ours },
            &End { host: &upstream, interface: "to-pop", addresses: &theirs },
        )
        .unwrap();
        let options = Options::listen(64500, Ipv4Addr::new(10, 0, 0, 1), address("10.0.0.1:179"));
        let collector = upstream.run(|| Collector::start(options)).unwrap().unwrap();
        let listen = ["10.0.0.2:8080", "198.51.100.1:80"];
        let service = Service::start(&pop, &config(Kind::Http, &listen), &directory.0).unwrap();
        let router = EdgeProxy::new(&pop, &directory.0, ROUTER, &BTreeMap::new()).unwrap();
        Self { collector, router, service, upstream, directory }
    }

    fn prefix() -> IpNetwork {
        "198.51.100.0/24".parse().unwrap()
    }

    fn announced(&self, after: Moment) -> Moment {
        self.collector.wait_announce(Self::prefix(), after, LONG).unwrap_or_else(|e| self.fail(&e)).at
    }

    fn withdrawn(&self, after: Moment) -> Moment {
        self.collector.wait_withdraw(Self::prefix(), after, LONG).unwrap_or_else(|e| self.fail(&e)).at
    }

    fn fail(&self, error: &dyn std::fmt::Display) -> ! {
        panic!("{error}\n{}\n{:#}", self.router.tail(30), self.router.status().unwrap_or_default())
    }
}

#[test]
fn a_prefix_comes_and_goes_with_its_service() {
    if is_skipped("a_prefix_comes_and_goes_with_its_service") {
        return;
    }
    let mut pop = Pop::new();
    pop.service.kill().unwrap();
    let at = pop.router.start().unwrap();
    pop.collector.wait_established(LONG).unwrap_or_else(|e| pop.fail(&e));
    let web = |state: &str| format!("/services/0/state is {state}");
    pop.router.wait_status(&web("down"), LONG, |status| status["services"][0]["state"] == "down").unwrap();
    assert!(pop.collector.routes().is_empty(), "nothing is announced before it is proven");

    let at = pop.service.restart().unwrap().max(at);
    let up = pop.announced(at);
    println!("start -> announce {:.1} ms", up.ms_after(at));
    pop.upstream.ip(&["route", "add", "198.51.100.0/24", "via", "10.0.0.2"]).unwrap();
    assert_eq!(ask(&pop.upstream, "198.51.100.1:80"), Ok("web-1".to_owned()));

    let mut after_kill = Vec::new();
    for round in 0..ROUNDS {
        let status = pop.router.status().unwrap();
        let held = status["services"][0]["backends"][0]["held_connection"].clone();
        let killed = pop.service.kill().unwrap();
        let down = pop.withdrawn(killed);
        after_kill.push(down.ms_after(killed));
        println!("round {round}: kill -> withdraw {:.2} ms, held connection {held}", down.ms_after(killed));
        let back = pop.service.restart().unwrap();
        pop.announced(back);
    }
    after_kill.sort_by(f64::total_cmp);
    println!(
        "kill -> withdraw over {ROUNDS} rounds: min {:.2} ms, p50 {:.2} ms, max {:.2} ms",
        after_kill[0],
        after_kill[ROUNDS / 2],
        after_kill[ROUNDS - 1]
    );

    type Switch = fn(&mut Service, bool) -> std::io::Result<Moment>;
    let switches: [(&str, Switch); 2] = [("hang", Service::hang), ("refuse", Service::refuse)];
    for (what, switch) in switches {
        let at = switch(&mut pop.service, true).unwrap();
        println!("{what} -> withdraw {:.1} ms", pop.withdrawn(at).ms_after(at));
        let at = switch(&mut pop.service, false).unwrap();
        println!("{what} over -> announce {:.1} ms", pop.announced(at).ms_after(at));
    }
    let at = pop.service.status(500).unwrap();
    println!("500 -> withdraw {:.1} ms", pop.withdrawn(at).ms_after(at));
    let at = pop.service.status(200).unwrap();
    pop.announced(at);
    let at = pop.service.stop().unwrap();
    println!("SIGSTOP -> withdraw {:.1} ms", pop.withdrawn(at).ms_after(at));
    let at = pop.service.cont().unwrap();
    println!("SIGCONT -> announce {:.1} ms", pop.announced(at).ms_after(at));
    assert_eq!(pop.collector.sessions(), 1, "all of it in one session");

    let at = pop.router.terminate().unwrap();
    assert_eq!(pop.router.wait_exit(LONG).unwrap(), Some(0));
    println!("SIGTERM -> withdraw {:.1} ms", pop.withdrawn(at).ms_after(at));
    pop.collector.wait_notification(at, LONG).unwrap();
}

#[test]
fn a_router_is_told_and_asked() {
    if is_skipped("a_router_is_told_and_asked") {
        return;
    }
    let mut pop = Pop::new();
    pop.router.start().unwrap();
    assert!(pop.router.start().unwrap_err().to_string().contains("runs already"));
    let out = pop.router.cli(&["status", "--json"]).unwrap();
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(told["process"]["pid"].as_u64(), pop.router.pid().map(u64::from));

    pop.router.rewrite(&ROUTER.replace("generation: 1", "generation: 2")).unwrap();
    println!("reload: {}", pop.router.reload_by_command().unwrap().unwrap());
    pop.router.rewrite(&ROUTER.replace("generation: 1", "generation: 3")).unwrap();
    pop.router.reload_by_signal().unwrap();
    pop.router.wait_status("generation 3", LONG, |status| status["process"]["generation"] == 3).unwrap();
    pop.router.rewrite("generation: 4\n").unwrap();
    let refusal = pop.router.reload_by_command().unwrap().unwrap_err();
    assert!(refusal.starts_with("422: "), "{refusal}");

    pop.router.stop().unwrap();
    let silent = pop.router.status().unwrap_err();
    assert_eq!(silent.kind(), std::io::ErrorKind::TimedOut, "{silent}");
    pop.router.cont().unwrap();
    pop.router.status().unwrap();
    pop.router.kill().unwrap();
    assert!(pop.router.pid().is_none());
    // With what it confirmed before it would start all the same.
    std::fs::remove_dir_all(pop.router.state()).unwrap();
    pop.router.rewrite("generation: 4\n").unwrap();
    let refused = pop.router.start().unwrap_err().to_string();
    assert!(refused.contains("ended at once") && refused.contains("edgeproxy.yaml"), "{refused}");
    assert_eq!(pop.router.wait_exit(LONG).unwrap(), Some(64));
    assert!(pop.directory.0.join("edgeproxy.log").exists());
}

/// A fresh router each round: one whose backend died often is slow to hold a connection to it again.
fn held_round(pop: &mut Pop) -> f64 {
    let at = pop.router.start().unwrap();
    pop.announced(at);
    let held = |status: &serde_json::Value| {
        status["services"][0]["backends"][0]["held_connection"] == "open"
            && !status["neighbors"][0]["announced"].as_array().is_none_or(Vec::is_empty)
    };
    pop.router.wait_status("a held connection", LONG, held).unwrap();
    let killed = pop.service.kill().unwrap();
    let down = pop.withdrawn(killed);
    let died = pop.router.kill().unwrap();
    pop.collector.wait_closed(died, LONG).unwrap();
    pop.service.restart().unwrap();
    down.ms_after(killed)
}

#[test]
fn a_held_connection_makes_the_withdrawal_quick() {
    if is_skipped("a_held_connection_makes_the_withdrawal_quick") {
        return;
    }
    let mut pop = Pop::new();
    for busy in [0, 2] {
        let load = load::spin(busy).unwrap();
        let mut times: Vec<_> = (0..ROUNDS).map(|_| held_round(&mut pop)).collect();
        drop(load);
        times.sort_by(f64::total_cmp);
        println!(
            "held, {busy} busy processes: kill -> withdraw min {:.2} ms, p50 {:.2} ms, max {:.2} ms",
            times[0],
            times[ROUNDS / 2],
            times[ROUNDS - 1]
        );
        assert!(times[ROUNDS / 2] < 100.0, "{times:?}");
    }
}
