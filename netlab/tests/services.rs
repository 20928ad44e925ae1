//! The services and the router of the lab as real processes in real namespaces, with a collector as the neighbor.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use netlab::load;
use netlab::namespace::Namespace;
use netlab::service::{Kind, Service, ServiceConfig};
use netlab::sys::namespace::is_root;
use netlab::traffic::http;

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
fn busy_processes_end_with_their_owner() {
    let spin = load::spin(1).unwrap();
    let pid = spin.pids()[0];
    assert!(PathBuf::from(format!("/proc/{pid}")).exists());
    drop(spin);
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
}
