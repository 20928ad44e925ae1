//! A running process as its operator meets it: the real binary, without root and without routers.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// One POP on loopback whose only neighbor never answers.
struct Pop {
    process: Child,
    folder: TempDir,
    backend: SocketAddr,
    metrics: SocketAddr,
    bgp: SocketAddr,
    systemd: UnixDatagram,
}

impl Pop {
    /// Starts it and waits until it answers.
    fn start(backend: SocketAddr) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), backend)
    }

    fn start_in(folder: TempDir, backend: SocketAddr) -> Self {
        let (metrics, bgp) = (free(), free());
        let file = folder.path().join("edgeproxy.yaml");
        fs::write(&file, configuration(&folder, 1, backend, metrics, bgp)).unwrap();
        let systemd = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        let process = run(&folder);
        let pop = Self { process, folder, backend, metrics, bgp, systemd };
        pop.until("it answers", || pop.ask(&["status"]).status.success());
        pop
    }

    /// Kills it and starts it again.
    fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = run(&self.folder);
        self.until("it answers again", || self.ask(&["status"]).status.success());
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("edgeproxy.sock")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("edgeproxy.yaml")
    }

    /// Writes the configuration anew, with more words at its end.
    fn write(&self, generation: u64, more: &str) {
        fs::write(self.file(), self.text(generation) + more).unwrap();
    }

    fn text(&self, generation: u64) -> String {
        configuration(&self.folder, generation, self.backend, self.metrics, self.bgp)
    }

    /// Writes another file beside the configuration; its path.
    fn another(&self, text: &str) -> String {
        let path = self.folder.path().join("another.yaml");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn generation(&self) -> u64 {
        self.json(&["status"])["process"]["generation"].as_u64().unwrap()
    }

    /// The words of a command that is refused with exit code 1.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {words}");
        words
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_edgeproxy"))
            .args(arguments)
            .env("EDGEPROXY_SOCKET", self.socket())
            .env("EDGEPROXY_STATE", self.folder.path().join("state"))
            .output()
            .unwrap()
    }

    fn words(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.words(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// The starts and planned stops in the journal, in which numbers grow by one.
    fn lives(&self) -> Vec<String> {
        let words = self.words(&["events", "--json", "--last", "1000"]);
        let entries: Vec<Value> = words.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let seqs: Vec<_> = entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, Vec::from_iter(1..=seqs.len() as u64), "{words}");
        let names = entries.iter().map(|entry| entry["event"].as_str().unwrap().to_owned());
        names.filter(|name| ["started", "stopped"].contains(&name.as_str())).collect()
    }

    fn prefix_state(&self) -> String {
        self.json(&["status"])["prefixes"][0]["state"].as_str().unwrap().to_owned()
    }

    /// Waits for something that takes milliseconds, on any machine at most 20 s.
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(Instant::now() < deadline, "never: {what}\n{}", log());
            sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), signal).unwrap();
    }
}

/// Starts the process of a folder; its log goes on.
fn run(folder: &TempDir) -> Child {
    let log = fs::File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_edgeproxy"))
        .arg("run")
        .arg(folder.path().join("edgeproxy.yaml"))
        .arg("--state")
        .arg(folder.path().join("state"))
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .env("WATCHDOG_USEC", "400000")
        .env_remove("WATCHDOG_PID")
        .stderr(Stdio::from(log))
        .spawn()
        .unwrap()
}

impl Drop for Pop {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration(
    folder: &TempDir,
    generation: u64,
    backend: SocketAddr,
    metrics: SocketAddr,
    bgp: SocketAddr,
) -> String {
    let (socket, port) = (folder.path().join("edgeproxy.sock"), backend.port());
    format!(
        "generation: {generation}
pop: {{ id: gru1, region: sa }}
bgp:
  asn: 64512
  router_id: 192.0.2.10
  listen: [\"{bgp}\"]
  shutdown: {{ graceful: 0s }}
  neighbors: [{{ name: transit-a, address: 127.0.0.9, asn: 64500, passive: true }}]
anycast: [{{ prefix: 198.51.100.0/24, addresses: [], services: [web] }}]
services:
  - name: web
    backends: [{{ id: web-1, address: 127.0.0.1, port: {port} }}]
    health: {{ tcp: {{}}, interval: 50ms }}
admin: {{ socket: {} }}
observe: {{ metrics: \"{metrics}\" }}
",
        socket.display()
    )
}

/// A port that nobody had a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_backends_life_and_death_are_seen_on_every_screen() {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let pop = Pop::start(backend.local_addr().unwrap());
    pop.until("announced", || pop.prefix_state() == "announced");
    assert!(pop.words(&["status"]).contains("198.51.100.0/24  announced"));
    assert!(pop.words(&["neighbors"]).contains("transit-a"));
    assert!(pop.words(&["health", "web"]).contains("web-1"));
    assert!(pop.words(&["explain", "198.51.100.7"]).contains("why:"));
    assert!(get(pop.metrics, "/healthz").starts_with("HTTP/1.1 200"));
    let one = "edgeproxy_prefix_announced{prefix=\"198.51.100.0/24\"} 1";
    pop.until("announced in metrics", || get(pop.metrics, "/metrics").contains(one));

    drop(backend);
    pop.until("withdrawn", || pop.prefix_state() == "withdrawn");
    let explained = pop.words(&["explain", "198.51.100.0/24"]);
    assert!(explained.contains("connection refused"), "{explained}");
    assert!(pop.words(&["status"]).contains("web-1 (connection refused)"));

    let output = pop.ask(&["health", "mail"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there are: web"));
}

#[test]
fn a_client_goes_where_it_is_said_to_go() {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let pop = Pop::start(backend.local_addr().unwrap());
    let (door, tls, nobody) = (free(), free(), free());
    let listen = format!(
        "affinity: 600s
    listen:
      - {{ address: 127.0.0.1, port: {} }}
      - {{ address: 127.0.0.1, port: {}, tls: {{ self_signed: true }} }}
    backends: [{{ id: gone, address: 127.0.0.1, port: {} }}, ",
        door.port(),
        tls.port(),
        nobody.port()
    );
    let text = pop.text(2).replace("backends: [", &listen).replace("{ tcp: {}, interval: 50ms }", "off");
    let file = pop.another(&text);
    assert!(pop.words(&["check", &file]).contains("warning: the certificate of web at 127.0.0.1:"));
    assert!(pop.json(&["check", &file])["warnings"][0].as_str().unwrap().contains("self-signed"));
    fs::write(pop.file(), &text).unwrap();
    pop.words(&["reload"]);

    let explain = || pop.json(&["explain", "--client", "127.0.0.2", "--service", "web"]);
    pop.until("it listens", || explain()["listens"] == true && TcpStream::connect(door).is_ok());
    let before = explain();
    assert!(before["affinity"]["backend"].is_null() && before["backends"][0]["chance"] != 0.0, "{before}");

    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    client.connect(&door.into()).unwrap();
    let connections = || pop.json(&["connections", "--client", "127.0.0.2"])["connections"].clone();
    pop.until("it is served", || connections()[0]["why"].as_str().is_some_and(|why| why.starts_with("best")));
    assert_eq!(connections()[0]["backend"], "web-1");
    // The other one refuses everybody, and may be out for that by now.
    let after = explain();
    assert_eq!(
        (&after["affinity"]["backend"], &after["backends"][0]["why"]),
        (&"web-1".into(), &"bound".into())
    );
    assert!(["bound-elsewhere", "ejected"].contains(&after["backends"][1]["why_not"].as_str().unwrap()));
    let words = pop.words(&["explain", "--client", "127.0.0.2", "--service", "web"]);
    assert!(words.starts_with("web would take 127.0.0.2 to web-1: it is bound to that one\n"), "{words}");
    drop(client);
    pop.until("status warns", || pop.words(&["status"]).contains("self-signed"));
    let metrics = get(pop.metrics, "/metrics");
    assert!(metrics.contains("edgeproxy_certificate_self_signed{service=\"web\""), "{metrics}");

    let refused = pop.refused(&["explain", "--client", "127.0.0.2", "--service", "wev"]);
    assert!(refused.contains("there is no service wev; there are: web"), "{refused}");
}

#[test]
fn a_reload_is_whole_or_not_at_all() {
    let pop = Pop::start(free());
    let generation = || pop.json(&["status"])["process"]["generation"].as_u64();
    assert_eq!(generation(), Some(1));

    pop.write(2, "");
    let said = pop.words(&["diff", pop.file().to_str().unwrap()]);
    assert!(said.contains("transit-a") && said.contains("keep"), "{said}");
    assert_eq!(generation(), Some(1), "a diff changes nothing");
    assert!(pop.words(&["reload"]).contains("transit-a"));
    assert_eq!(generation(), Some(2));

    pop.write(3, "speed: 11\n");
    let output = pop.ask(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("nothing changed") && said.contains("speed: unknown key"), "{said}");
    assert_eq!(generation(), Some(2));
    pop.until("status tells of it", || pop.words(&["status"]).contains("The last reload was refused"));

    pop.write(3, "");
    pop.signal(Signal::SIGHUP);
    pop.until("SIGHUP reloads", || generation() == Some(3));
    pop.until("it is forgiven", || !pop.words(&["status"]).contains("refused;"));
}

#[test]
fn systemd_is_told_of_the_start_the_life_and_the_stop() {
    let pop = Pop::start(free());
    pop.systemd.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let told = || {
        let mut words = [0; 64];
        let length = pop.systemd.recv(&mut words).unwrap();
        String::from_utf8_lossy(&words[..length]).into_owned()
    };
    assert_eq!(told(), "READY=1");
    for _ in 0..5 {
        assert_eq!(told(), "WATCHDOG=1");
    }
    pop.signal(Signal::SIGTERM);
    while told() != "STOPPING=1" {}
}

#[test]
fn what_is_not_confirmed_is_undone_and_what_is_survives() {
    let mut pop = Pop::start(free());
    let file = pop.another(&pop.text(2).replace("asn: 64500", "asn: 64501"));
    let said = pop.words(&["plan", &file]);
    assert!(said.contains("neighbor  transit-a reset: asn 64500 → 64501"), "{said}");
    assert_eq!(pop.generation(), 1, "a plan changes nothing");

    let said = pop.words(&["apply", &file, "--confirm-within", "1s"]);
    assert!(said.contains("generation 1 comes back by itself"), "{said}");
    assert_eq!(pop.generation(), 2);
    assert!(pop.refused(&["apply", &file]).contains("waits for its confirmation"));
    assert!(pop.refused(&["reload"]).contains("waits for its confirmation"));
    pop.until("undone", || pop.generation() == 1);
    let said = pop.words(&["status"]);
    assert!(said.contains("Undone: generation 2 was not confirmed within 1s"), "{said}");

    pop.words(&["apply", &file, "--confirm-within", "24h"]);
    pop.until("status tells", || pop.json(&["status"])["process"]["pending"]["back_to"] == 1);
    pop.restart();
    assert_eq!(pop.generation(), 1, "a restart drops what is pending");
    pop.words(&["apply", &file, "--confirm-within", "5m"]);
    assert_eq!(pop.words(&["confirm"]), "generation 2 is confirmed\n");
    pop.restart();
    assert_eq!(pop.generation(), 2);
    let log = fs::read_to_string(pop.folder.path().join("log")).unwrap();
    assert!(log.contains("differs from the confirmed generation 2"), "{log}");

    assert!(pop.words(&["rollback"]).contains("the next file needs a generation over 2"));
    assert_eq!(pop.generation(), 1);
    pop.words(&["rollback", "2"]);
    fs::remove_file(pop.file()).unwrap();
    pop.restart();
    assert_eq!(pop.generation(), 2, "also without its file");
}

#[test]
fn a_drain_outlives_a_configuration_that_is_undone() {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let pop = Pop::start(backend.local_addr().unwrap());
    pop.until("announced", || pop.prefix_state() == "announced");
    pop.words(&["drain", "--deadline", "0s", "--reason", "new disks"]);
    pop.until("drained", || pop.prefix_state() == "withdrawn");
    let without = pop.text(2).replace("198.51.100.0/24", "203.0.113.0/24");
    let file = pop.another(&without);
    for end in ["its time", "an operator"] {
        let within = if end == "its time" { "1s" } else { "5m" };
        pop.words(&["apply", &file, "--confirm-within", within]);
        pop.until("the other is announced", || pop.prefix_state() == "announced");
        if end == "an operator" {
            pop.words(&["rollback"]);
        }
        pop.until("undone", || pop.json(&["status"])["prefixes"][0]["prefix"] == "198.51.100.0/24");
        sleep(Duration::from_secs(1));
        let prefix = &pop.json(&["status"])["prefixes"][0];
        assert_eq!(
            (&prefix["state"], &prefix["reason"]),
            (&"withdrawn".into(), &"drained".into()),
            "{prefix}"
        );
    }
    pop.words(&["apply", &file]);
    assert!(!fs::read_to_string(pop.folder.path().join("state/drains.json")).unwrap().contains("198.51.100"));
}

#[test]
fn what_is_drained_is_not_announced_before_a_slow_disk_tells_so() {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    // It is read when somebody writes it.
    let slow = state.join("drains.json");
    nix::unistd::mkfifo(&slow, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let disk = std::thread::spawn(move || {
        sleep(Duration::from_secs(2));
        let order = r#"{ "prefix": "198.51.100.0/24", "reason": "", "begun_ms": 0, "deadline_ms": 0 }"#;
        fs::write(slow, format!("[{order}]")).unwrap();
    });
    let pop = Pop::start_in(folder, backend.local_addr().unwrap());
    disk.join().unwrap();
    pop.until("drained", || pop.json(&["status"])["prefixes"][0]["reason"] == "drained");
    let told = pop.words(&["events", "--last", "100", "--json"]);
    assert!(!told.contains(r#""state":"announced""#), "{told}");
}

#[test]
fn a_process_that_cannot_remember_announces_and_promises_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("state"), "a file where the directory should be").unwrap();
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let pop = Pop::start_in(folder, backend.local_addr().unwrap());
    pop.until("announced", || pop.prefix_state() == "announced");
    let log = fs::read_to_string(pop.folder.path().join("log")).unwrap();
    assert!(log.contains("generation 1 is used but not remembered over a restart"), "{log}");
    let file = pop.another(&pop.text(2));
    assert!(pop.refused(&["apply", &file]).contains("cannot be written"));
    assert!(pop.refused(&["rollback"]).contains("nothing to go back to"));
    pop.write(2, "");
    pop.words(&["reload"]);
    assert_eq!(pop.generation(), 2, "the file is there for the next start");
}

#[test]
fn what_must_not_come_into_force_is_refused_by_every_command_and_changes_nothing() {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let pop = Pop::start(backend.local_addr().unwrap());
    pop.until("announced", || pop.prefix_state() == "announced");
    let dark = pop.text(2).replace("services: [web] }]", "services: [web], state: down }]");
    let table = [
        (pop.text(1) + "# other\n", "generation 1 is in force already, with other content"),
        (dark.clone(), "1 of the announced prefixes would go dark (198.51.100.0/24)"),
    ];
    for (text, words) in table {
        let file = pop.another(&text);
        for command in [&["apply", &file][..], &["apply", &file, "--confirm-within", "5m"]] {
            let said = pop.refused(command);
            assert!(said.contains(words) && said.contains("hint: "), "{said}");
        }
        let planned = pop.ask(&["plan", &file]);
        assert_eq!(planned.status.code(), Some(1));
        let said = String::from_utf8(planned.stdout).unwrap();
        assert!(said.contains("it would be refused") && said.contains(words), "{said}");
        fs::write(pop.file(), text).unwrap();
        let said = pop.refused(&["reload"]);
        assert!(said.contains("not reloaded, nothing changed") && said.contains(words), "{said}");
        assert_eq!((pop.generation(), pop.prefix_state().as_str()), (1, "announced"));
    }
    let file = pop.another("generation: 2\n");
    for command in ["plan", "apply"] {
        assert_eq!(pop.ask(&[command, &file]).status.code(), Some(64), "{command}");
    }
    assert_eq!(pop.ask(&["apply", &file, "--confirm-within", "999ms"]).status.code(), Some(2));

    let file = pop.another(&dark);
    pop.words(&["apply", &file, "--allow-withdraw"]);
    pop.until("withdrawn", || pop.prefix_state() == "withdrawn");
    pop.words(&["rollback"]);
    pop.until("announced again", || pop.prefix_state() == "announced");
    assert!(pop.refused(&["rollback", "2"]).contains("would go dark"));
}

#[test]
fn only_the_operator_that_holds_the_key_changes_the_configuration() {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut pop = Pop::start(free());
    let key = pop.folder.path().join("ops.pem");
    let key = key.to_str().unwrap();
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", key]);
    let public = openssl(&["pkey", "-in", key, "-pubout"]);
    let keyed = |generation| {
        let text = pop.text(generation);
        let line = public.lines().nth(1).unwrap();
        text.replace("admin: { ", &format!("admin: {{ operator_key: \"{line}\", "))
    };
    let [two, three] = [keyed(2), keyed(3)];
    let sign = |file: &str, signature: &str| {
        openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", file, "-out", signature]);
    };

    // Nobody has a key yet, so nobody needs one.
    let file = pop.another(&two);
    pop.words(&["apply", &file]);
    let file = pop.another(&three);
    let signature = format!("{file}.sig");
    assert!(pop.refused(&["apply", &file]).contains("the configuration is not signed"));
    fs::write(pop.file(), &three).unwrap();
    assert!(pop.refused(&["reload"]).contains("the configuration is not signed"));
    sign(&file, &signature);
    fs::write(&file, three.clone() + "# changed after it was signed\n").unwrap();
    assert!(pop.refused(&["apply", &file]).contains("the signature does not fit"));
    assert_eq!(pop.generation(), 2);
    pop.restart();
    assert_eq!(pop.generation(), 2, "a restart does not take it either");
    fs::write(&file, &three).unwrap();
    pop.words(&["apply", &file]);
    assert_eq!(pop.generation(), 3);
    pop.restart();
    assert_eq!(pop.generation(), 3);
}

#[test]
fn a_planned_stop_exits_0_and_leaves_nothing() {
    let mut pop = Pop::start(free());
    pop.signal(Signal::SIGTERM);
    assert_eq!(pop.process.wait().unwrap().code(), Some(0));
    assert!(!pop.socket().exists());
    assert_eq!(pop.ask(&["status"]).status.code(), Some(1));
}

#[test]
fn a_second_process_on_the_same_socket_is_refused_and_harms_nothing() {
    let pop = Pop::start(free());
    let output = pop.ask(&["run", pop.file().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another edgeproxy already answers"));
    pop.words(&["status"]);
    assert_eq!(pop.lives(), ["started"], "it left the journal alone");
}

#[test]
fn a_killed_process_leaves_a_socket_that_the_next_one_replaces() {
    let mut pop = Pop::start(free());
    pop.process.kill().unwrap();
    pop.process.wait().unwrap();
    assert!(pop.socket().exists());
    let said = String::from_utf8(pop.ask(&["status"]).stderr).unwrap();
    assert!(said.contains("nobody answers"), "{said}");
    pop.process = run(&pop.folder);
    pop.until("it answers again", || pop.ask(&["status"]).status.success());
}

#[test]
fn a_taken_bgp_port_ends_the_process_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let bgp = taken.local_addr().unwrap();
    let file = folder.path().join("edgeproxy.yaml");
    fs::write(&file, configuration(&folder, 1, free(), free(), bgp)).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_edgeproxy"))
        .arg("run")
        .arg(&file)
        .arg("--state")
        .arg(folder.path().join("state"))
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{words}");
    assert!(words.contains(&format!("cannot accept BGP sessions on {bgp}")), "{words}");
    assert!(!words.contains("panicked"), "{words}");
}

#[test]
fn the_journal_lasts_over_restarts_of_every_kind() {
    let mut pop = Pop::start(free());
    pop.until("its start is told", || pop.lives() == ["started"]);
    pop.write(2, "");
    pop.words(&["reload"]);
    pop.restart();
    pop.until("both starts are told", || pop.lives() == ["started", "started"]);

    pop.signal(Signal::SIGTERM);
    assert_eq!(pop.process.wait().unwrap().code(), Some(0));
    // What a process leaves that is killed in the middle of a line.
    let file = pop.folder.path().join("state/journal/000001.jsonl");
    fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"{\"seq\":4,\"at").unwrap();
    pop.process = run(&pop.folder);
    let all = ["started", "started", "stopped", "started"];
    pop.until("the stop is told too", || pop.ask(&["status"]).status.success() && pop.lives() == all);
    let words = pop.words(&["events"]);
    assert!(words.contains("Z -              edgeproxy stopped as planned\n"), "{words}");
    assert!(words.contains("started with generation 2\n"), "{words}");
    let metrics = get(pop.metrics, "/metrics");
    assert!(!metrics.contains("edgeproxy_journal_written_entries_total 0\n"), "{metrics}");
    assert!(metrics.contains("edgeproxy_journal_lost_entries_total 0\n"), "{metrics}");
    let refused = pop.ask(&["events", "--prefix", "web"]);
    assert_eq!(refused.status.code(), Some(1));
}

#[test]
fn who_follows_events_outlasts_a_restart_and_is_told_once() {
    let mut pop = Pop::start(free());
    let (told, aside) = (pop.folder.path().join("told"), pop.folder.path().join("aside"));
    let mut follower = Command::new(env!("CARGO_BIN_EXE_edgeproxy"))
        .args(["events", "--follow", "--json"])
        .env("EDGEPROXY_SOCKET", pop.socket())
        .stdout(fs::File::create(&told).unwrap())
        .stderr(fs::File::create(&aside).unwrap())
        .spawn()
        .unwrap();
    let starts = || fs::read_to_string(&told).unwrap().matches(r#""event":"started""#).count();
    pop.until("the first start is told", || starts() == 1);
    pop.restart();
    pop.until("the second start is told", || starts() == 2);
    kill(Pid::from_raw(follower.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    follower.wait().unwrap();
    assert_eq!(starts(), 2);
    let aside = fs::read_to_string(&aside).unwrap();
    assert_eq!(aside.matches("waiting until it answers again").count(), 1, "{aside}");
}

#[test]
fn a_journal_that_cannot_be_written_harms_nothing_and_is_written_later() {
    let mut pop = Pop::start(free());
    let journal = pop.folder.path().join("state/journal");
    pop.process.kill().unwrap();
    pop.process.wait().unwrap();
    fs::remove_dir_all(&journal).unwrap();
    fs::write(&journal, "in the way").unwrap();
    pop.process = run(&pop.folder);
    pop.until("it answers without a disk", || pop.ask(&["status"]).status.success());
    pop.until("its start is told", || pop.lives() == ["started"]);
    let log = fs::read_to_string(pop.folder.path().join("log")).unwrap();
    assert_eq!(log.matches("the journal cannot be written to").count(), 1, "{log}");

    fs::remove_file(&journal).unwrap();
    let written = || fs::read_to_string(journal.join("000001.jsonl")).unwrap_or_default();
    pop.until("its start is written", || written().contains("\"seq\":1,"));
    pop.restart();
    pop.until("both starts are told", || pop.lives() == ["started", "started"]);
}
