//! ExaBGP of the lab as a real process: what its health check does to its neighbor, and that it leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use netlab::collector::{Collector, Options};
use netlab::link::{End, connect};
use netlab::moment::Moment;
use netlab::namespace::Namespace;
use netlab::node::exabgp::{Exabgp, HealthCheck};
use netlab::node::router::RouterConfig;
use netlab::service::{Kind, Service, ServiceConfig};
use netlab::sys::namespace::is_root;

const LONG: Duration = Duration::from_secs(30);

/// Gone when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("netlab-exabgp-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn exabgp(host: &Namespace, directory: &Path, interval: f64) -> Exabgp {
    let router: RouterConfig = serde_json::from_value(serde_json::json!({
        "asn": 64512, "router_id": "10.0.0.2",
        "neighbors": [{ "name": "up", "address": "10.0.0.1", "asn": 64500, "local": "10.0.0.2",
                        "ttl_security": true }],
    }))
    .unwrap();
    let command = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080'";
    let check = HealthCheck::tightest(command, vec!["198.51.100.0/24".to_owned()]);
    let check = HealthCheck { interval: Some(interval), ..check };
    Exabgp::new(host, directory, router, Some(check)).unwrap()
}

/// The processes of this machine whose command line names a file of the directory.
fn named_after(directory: &Path) -> Vec<String> {
    let name = directory.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&name) && line.contains("healthcheck")).collect()
}

fn nothing_is_left(directory: &Path) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while !named_after(directory).is_empty() {
        assert!(Instant::now() < deadline, "left behind: {:?}", named_after(directory));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_prefix_comes_and_goes_with_its_service_and_nothing_is_left() {
    if !is_root() {
        println!("SKIPPED exabgp: it needs root for network namespaces");
        return;
    }
    let directory = Directory::new();
    let (pop, up) = (Namespace::create("pop").unwrap(), Namespace::create("up").unwrap());
    let (ours, theirs) = (["10.0.0.2/24".to_owned()], ["10.0.0.1/24".to_owned()]);
    connect(
        &End { host: &pop, interface: "up0", addresses: &ours },
        &End { host: &up, interface: "pop0", addresses: &theirs },
    )
    .unwrap();
    let listen: SocketAddr = "127.0.0.1:8080".parse().unwrap();
    let web = ServiceConfig { kind: Kind::Http, name: "web".to_owned(), listen: vec![listen] };
    let mut web = Service::start(&pop, &web, &directory.0).unwrap();
    let mut router = exabgp(&pop, &directory.0, 0.05);
    let listen = "10.0.0.1:179".parse().unwrap();
    let options = Options { ttl: Some(255), ..Options::listen(64500, Ipv4Addr::new(10, 0, 0, 1), listen) };
    let collector = up.run(|| Collector::start(options)).unwrap().unwrap();
    let prefix: IpNetwork = "198.51.100.0/24".parse().unwrap();

    let mut at = Moment::now();
    router.start().unwrap();
    for _ in 0..3 {
        let announced = collector.wait_announce(prefix, at, LONG);
        let announced =
            announced.unwrap_or_else(|error| panic!("{error}\n{}", router.process_mut().unwrap().tail(20)));
        println!("up -> announce {:.1} ms", announced.at.ms_after(at));
        let killed = web.kill().unwrap();
        let withdrawn = collector.wait_withdraw(prefix, killed, LONG).unwrap();
        println!("kill -> withdraw {:.1} ms", withdrawn.at.ms_after(killed));
        at = web.restart().unwrap();
    }
    collector.wait_announce(prefix, at, LONG).unwrap();
    let killed = router.process_mut().unwrap().kill().unwrap();
    collector.wait_closed(killed, LONG).unwrap();
    nothing_is_left(&directory.0);

    // A check that sleeps for long would not notice by itself that it is alone.
    let mut router = exabgp(&pop, &directory.0, 600.0);
    let at = Moment::now();
    router.start().unwrap();
    collector.wait_announce(prefix, at, LONG).unwrap();
    assert_eq!(named_after(&directory.0).len(), 1, "the check runs");
    let killed = router.process_mut().unwrap().kill().unwrap();
    collector.wait_closed(killed, LONG).unwrap();
    nothing_is_left(&directory.0);
}
