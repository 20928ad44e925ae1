//! Long flows to services that live, die and refuse, and the words of a scenario about them.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use netlab::moment::Moment;
use netlab::namespace::Namespace;
use netlab::runner;
use netlab::scenario::Scenario;
use netlab::service::{Kind, Service, ServiceConfig};
use netlab::sys::namespace::is_root;
use netlab::traffic::FlowClient;
use netlab::traffic::flows::{Counts, Plan};

const TARGET: &str = "127.0.0.1:9000";

/// Gone when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("netlab-{name}-{}", std::process::id()));
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

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn start(host: &Namespace, count: usize, over: Duration, lasts: RangeInclusive<Duration>) -> FlowClient {
    let plan =
        Plan { target: TARGET.parse().unwrap(), count, over, lasts, every: ms(50), seed: 1, tls: None };
    host.run(|| FlowClient::start(plan)).unwrap().unwrap()
}

fn counts(client: &FlowClient) -> Counts {
    client.look(|record| record.counts(Moment::ZERO, Moment::MAX))
}

fn wait(client: &FlowClient, what: &str, wanted: impl Fn(&Counts) -> bool) -> Counts {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let counts = counts(client);
        if wanted(&counts) {
            return counts;
        }
        assert!(Instant::now() < end, "{what}: {counts}");
        std::thread::sleep(ms(5));
    }
}

#[test]
fn flows_end_in_the_way_that_they_were_ended() {
    if is_skipped("flows_end_in_the_way_that_they_were_ended") {
        return;
    }
    let (directory, host) = (Directory::new("flows"), Namespace::create("host").unwrap());
    let config =
        ServiceConfig { kind: Kind::Tcp, name: "echo".to_owned(), listen: vec![TARGET.parse().unwrap()] };
    let mut service = Service::start(&host, &config, &directory.0).unwrap();

    let begun = Instant::now();
    let thousand = start(&host, 1000, ms(0), ms(200)..=ms(2000));
    let done = wait(&thousand, "a thousand at once", |counts| counts.completed == 1000);
    assert_eq!((done.opened, done.reset, done.refused, done.all_broken()), (1000, 0, 0, 0), "{done}");
    println!("a thousand at once: {done} after {:?}", begun.elapsed());
    assert!(begun.elapsed() >= ms(1500), "each lasts its own time");
    assert!(thousand.look(netlab::traffic::flows::FlowRecord::is_over));

    // Spread over time: at no moment are all of them open.
    let stream = start(&host, 100, ms(1000), ms(100)..=ms(100));
    wait(&stream, "some of a stream", |counts| counts.completed >= 10);
    assert!(counts(&stream).opened < 100);
    let done = wait(&stream, "a stream", |counts| counts.completed == 100);
    assert_eq!(done.open, 0);

    // The other side closes: it is neither a reset nor what was wanted.
    let closed = start(&host, 20, ms(0), ms(60_000)..=ms(60_000));
    wait(&closed, "twenty", |counts| counts.open == 20);
    let at = service.refuse(true).unwrap();
    let ended = wait(&closed, "twenty that are closed early", |counts| counts.open == 0);
    assert_eq!(ended.all_broken() + ended.reset, 20, "{ended}");
    println!("closed by the service: {ended}");
    assert_eq!(closed.look(|record| record.counts(Moment::ZERO, at)).open, 20, "ends have their moment");

    let refused = start(&host, 20, ms(0), ms(100)..=ms(100));
    let ended = wait(&refused, "twenty that are refused", |counts| counts.refused == 20);
    assert_eq!(ended.opened, 0);
    service.refuse(false).unwrap();

    // A process that dies with requests unread resets its connections.
    let reset = start(&host, 20, ms(0), ms(60_000)..=ms(60_000));
    wait(&reset, "twenty more", |counts| counts.open == 20);
    service.stop().unwrap();
    std::thread::sleep(ms(500));
    service.kill().unwrap();
    let ended = wait(&reset, "twenty that are reset", |counts| counts.open == 0);
    assert_eq!(ended.reset, 20, "{ended}");

    service.restart().unwrap();
    let silent = start(&host, 20, ms(0), ms(60_000)..=ms(60_000));
    wait(&silent, "twenty that speak", |counts| counts.open == 20);
    service.hang(true).unwrap();
    let ended = wait(&silent, "twenty that hear nothing", |counts| counts.open == 0);
    assert_eq!(ended.broken.get("it was not echoed"), Some(&20), "{ended}");

    let unreachable = Plan { target: "192.0.2.1:9000".parse().unwrap(), ..plan_of_one() };
    let unreachable = host.run(|| FlowClient::start(unreachable)).unwrap().unwrap();
    let ended = wait(&unreachable, "one without a route", |counts| counts.all_broken() == 1);
    assert_eq!(ended.broken.get("the target was unreachable"), Some(&1), "{ended}");
    assert!(FlowClient::start(Plan { count: 16_001, ..plan_of_one() }).is_err());
}

fn plan_of_one() -> Plan {
    Plan {
        target: TARGET.parse().unwrap(),
        count: 1,
        over: ms(0),
        lasts: ms(10)..=ms(10),
        every: ms(10),
        seed: 0,
        tls: None,
    }
}

const SCENARIO: &str = r#"
scenario: flows
about: Flows to a service that is killed in between.
hosts:
  server:
    services: [{ name: echo, kind: tcp, listen: ["10.0.0.1:9000"] }]
  client: {}
links:
  - ends:
      - { host: server, interface: c0, addresses: [10.0.0.1/24] }
      - { host: client, interface: s0, addresses: [10.0.0.2/24] }
steps:
  - do: { flows: { name: short, from: client, target: "10.0.0.1:9000", count: 300, lasts: 100ms..1s, every: 50ms, seed: 7 } }
  - do: { flows: { name: long, from: client, target: "10.0.0.1:9000", count: 10, lasts: 1m } }
  - expect: { flows: { name: short, opened: 300, completed: 300, reset: 0, refused: 0, broken: 0, open: 0 }, within: 20s }
  - expect: { flows: { name: long, opened: 10, open: 10 } }
  - do: { mark: killed }
  - do: { kill: server/echo }
  - expect: { flows: { name: long, since: killed, open: 0, opened: 0 } }
  - expect: { flows: { name: long, until: killed, reset: 0, broken: { most: 0 }, open: { least: 10 } } }
  - do: { mark: after }
  - do: { flows: { name: late, from: client, target: "10.0.0.1:9000", count: 5, lasts: 1s } }
  - expect: { flows: { name: late, since: after, refused: 5, opened: 0 } }
  - flows: { figure: flows_completed, name: short, what: completed, until: killed, goal: "= 300" }
  - flows: { figure: flows_reset, name: short, what: reset, goal: "= 0 flows" }
"#;

#[test]
fn a_scenario_speaks_of_flows() {
    if is_skipped("a_scenario_speaks_of_flows") {
        return;
    }
    let directory = Directory::new("flow-words");
    let run = |text: &str| {
        let file = directory.0.join("flows.yaml");
        std::fs::write(&file, text).unwrap();
        runner::run(&Scenario::load(&file).unwrap(), &directory.0.join("lab"), false)
    };
    let report = run(SCENARIO);
    assert!(report.pass, "{:?}", report.failure);
    let completed = &report.figures["flows_completed"];
    assert_eq!((completed.value, completed.n, completed.met), (300.0, 300, Some(true)));
    assert_eq!((report.figures["flows_reset"].value, report.figures["flows_reset"].met), (0.0, Some(true)));

    let wrong =
        SCENARIO.replace("refused: 5, opened: 0", "refused: 4").replace("lasts: 100ms..1s", "lasts: 100ms");
    let failure = run(&wrong).failure.unwrap();
    assert!(failure.contains("late: 0 opened") && failure.contains("5 refused"), "{failure}");
}
