//! A POP that knows nothing joins a fleet of a hundred thousand rows, and two whose knowledge has diverged meet: real
//! processes on the loopback.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that measures"
)]

#[allow(dead_code, reason = "the bench of replication uses more of it")]
#[path = "bench/pen.rs"]
mod pen;

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use edgeproxy::replication::frame::pack;
use edgeproxy::replication::identity::Authority;
use edgeproxy::replication::merge::Offer;
use edgeproxy::replication::store::{self, Work};
use pen::Pen;
use serde_json::Value;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const ORIGINS: u64 = 10;
const ROWS: u64 = 10_000;

struct Pop {
    name: &'static str,
    folder: PathBuf,
    process: Child,
    started: Instant,
}

impl Drop for Pop {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn binary() -> PathBuf {
    std::env::var_os("EDGEPROXY_BIN").map_or_else(|| env!("CARGO_BIN_EXE_edgeproxy").into(), PathBuf::from)
}

fn say(arguments: &[&str]) -> String {
    let output = Command::new(binary()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A port that nobody has, at least now.
fn free() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Certificate, key and configuration of a POP.
fn configure(folder: &Path, authority: &Authority, name: &str, port: u16, peer: (&str, u16)) {
    let invitation = authority.invite(name, 30, OffsetDateTime::from(SystemTime::now())).unwrap();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("ca.pem"), authority.certificate()).unwrap();
    fs::write(folder.join("pop.pem"), invitation.certificate).unwrap();
    let key = folder.join("pop.key");
    fs::write(&key, invitation.key.unwrap()).unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = format!(
        "generation: 1
pop: {{ id: {name}, region: eu }}
bgp: {{ asn: 64512, router_id: 192.0.2.1, listen: [\"127.0.0.1:{tcp}\"], neighbors: [{{ name: up, address: 127.0.0.9, asn: 64500 }}] }}
proxy: {{ workers: 1 }}
admin: {{ socket: {socket} }}
observe: {{ metrics: \"off\", log: {{ level: warn }} }}
anycast: [{{ prefix: 198.51.100.0/24, services: [web] }}]
services: [{{ name: web, backends: [{{ id: web-1, address: 127.0.0.1, port: 9 }}] }}]
fleet: {{ name: example }}
replication:
  listen: \"127.0.0.1:{port}\"
  certificate: pop.pem
  key: pop.key
  authorities: [ca.pem]
  peers: [{{ pop: {peer_name}, region: eu, address: \"127.0.0.1:{peer_port}\" }}]
",
        tcp = free(),
        socket = folder.join("edgeproxy.sock").display(),
        peer_name = peer.0,
        peer_port = peer.1,
    );
    fs::write(folder.join("edgeproxy.yaml"), text).unwrap();
}

/// The rows of POPs that are not here, on the disk of one that is.
fn remember(folder: &Path, offers: impl Iterator<Item = Offer>) {
    let (store, _) = store::open(&folder.join("state/replication")).unwrap();
    let ((sender, receiver), stop) = (mpsc::channel(4), CancellationToken::new());
    let until = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let clerk = thread::spawn(move || runtime.block_on(store.run(receiver, until)));
    for Offer { head, after, rows } in offers {
        let work = Work::Remote { head, rows, whole: after == Some(0), gone: Vec::new() };
        sender.blocking_send(work).unwrap();
    }
    drop(sender);
    stop.cancel();
    clerk.join().unwrap().unwrap();
}

impl Pop {
    fn start(name: &'static str, folder: &Path) -> Self {
        let process = Command::new(binary())
            .arg("run")
            .arg(folder.join("edgeproxy.yaml"))
            .arg("--state")
            .arg(folder.join("state"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { name, folder: folder.to_owned(), process, started: Instant::now() }
    }

    fn fleet(&self) -> Option<Value> {
        let asked = Command::new(binary())
            .args(["fleet", "--json"])
            .env("EDGEPROXY_SOCKET", self.folder.join("edgeproxy.sock"))
            .stderr(Stdio::null())
            .output()
            .unwrap();
        serde_json::from_slice(&asked.stdout).ok()
    }

    /// How long after its start it had all rows.
    fn has_all(&mut self) -> Duration {
        loop {
            let rows = self.fleet().and_then(|fleet| fleet["rows"].as_u64()).unwrap_or_default();
            let since = self.started.elapsed();
            if rows >= ORIGINS * ROWS {
                return since;
            }
            assert!(since < Duration::from_secs(60), "{} has {rows} rows: {:?}", self.name, self.fleet());
            assert!(self.process.try_wait().unwrap().is_none(), "{} has ended", self.name);
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where everybody else stands, as far as it knows.
    fn points(&self) -> BTreeMap<String, String> {
        let fleet = self.fleet().unwrap_or_default();
        let members = fleet["members"].as_array().cloned().unwrap_or_default();
        let point = |member: &Value| {
            let text = |field: &str| Some(member[field].as_str()?.to_owned());
            text("pop").zip(text("point")).filter(|(pop, _)| pop.starts_with("pop"))
        };
        members.iter().filter_map(point).collect()
    }

    /// What it knows of its connection to another.
    fn link(&self, to: &str) -> Option<Value> {
        let fleet = self.fleet()?;
        fleet["members"].as_array()?.iter().find(|member| member["pop"] == to).cloned()
    }

    /// The most that it had in memory at once, in MB.
    fn most_memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1_024.0 / 1e6
    }
}

#[test]
fn a_hundred_thousand_rows_are_there_soon() {
    let disk = TempDir::new().unwrap();
    let authority = Authority::new("example", OffsetDateTime::from(SystemTime::now())).unwrap();
    let (old, new) = (disk.path().join("gru1"), disk.path().join("fra1"));
    let ports = (free(), free());
    configure(&old, &authority, "gru1", ports.0, ("fra1", ports.1));
    configure(&new, &authority, "fra1", ports.1, ("gru1", ports.0));
    remember(&old, (0..ORIGINS).map(|number| Pen::signing(number, &authority).write(0..ROWS, 0).unwrap()));
    let mut gru1 = Pop::start("gru1", &old);
    let loaded = gru1.has_all();
    let mut fra1 = Pop::start("fra1", &new);
    let joined = fra1.has_all();
    println!(
        "{{\"lab\": \"join\", \"rows\": {}, \"joined_s\": {:.2}, \"goal_s\": 10, \"most_memory_mb\": {:.0}, \"goal_mb\": 200, \
         \"loaded_s\": {:.2}, \"sender_memory_mb\": {:.0}}}",
        ORIGINS * ROWS,
        joined.as_secs_f64(),
        fra1.most_memory(),
        loaded.as_secs_f64(),
        gru1.most_memory()
    );
    // What one knows is taken to a third, which reaches nobody, and believed there.
    let third = disk.path().join("sin1");
    configure(&third, &authority, "sin1", free(), ("gru1", free()));
    let (file, state) = (disk.path().join("fleet.dump"), |of: &Path| of.join("state").display().to_string());
    let file = file.to_str().unwrap();
    // The disk comes after the memory.
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let dumped = say(&["fleet", "dump", "--state", &state(&new), "--out", file]);
        if dumped.contains("rows of 12 POPs") {
            break;
        }
        assert!(Instant::now() < until, "{dumped}");
        fs::remove_file(file).unwrap();
        thread::sleep(Duration::from_millis(200));
    }
    let config = third.join("edgeproxy.yaml").display().to_string();
    let restored = say(&["fleet", "restore", file, "--config", &config, "--state", &state(&third)]);
    assert!(restored.contains("rows of 12 POPs"), "{restored}");
    Pop::start("sin1", &third).has_all();
    // Goals are 10 s and 200 MB; what always holds is that it comes to an end.
    assert!(joined < Duration::from_secs(30) && fra1.most_memory() < 400.0);
}

/// As rows are brought: what has to cross the wire at least.
fn packed(offer: &Offer) -> usize {
    let mut rest = offer.rows.iter().peekable();
    std::iter::from_fn(|| pack(&mut rest)).map(|block| block.len()).sum()
}

#[test]
fn what_diverged_is_equal_soon() {
    const NEW: u64 = 1_000;
    let disk = TempDir::new().unwrap();
    let authority = Authority::new("example", OffsetDateTime::from(SystemTime::now())).unwrap();
    let (one, other) = (disk.path().join("gru1"), disk.path().join("fra1"));
    let ports = (free(), free());
    configure(&one, &authority, "gru1", ports.0, ("fra1", ports.1));
    configure(&other, &authority, "fra1", ports.1, ("gru1", ports.0));
    // Both know the same of everybody; then each heard the half of them for an hour, and the other half was silent.
    let mut pens: Vec<Pen> = (0..ORIGINS).map(|number| Pen::signing(number, &authority)).collect();
    let before: Vec<Offer> = pens.iter_mut().map(|pen| pen.write(0..ROWS, 0).unwrap()).collect();
    let since: Vec<Offer> = pens.iter_mut().map(|pen| pen.write(500..500 + NEW, 0).unwrap()).collect();
    let least: usize = since.iter().map(packed).sum();
    for (folder, half) in [(&one, &since[..5]), (&other, &since[5..])] {
        remember(folder, before.iter().chain(half).cloned());
    }
    let mut gru1 = Pop::start("gru1", &one);
    gru1.has_all();
    let mut fra1 = Pop::start("fra1", &other);
    fra1.has_all();
    let met = loop {
        if fra1.link("gru1").is_some_and(|link| link["connected"] == true) {
            break Instant::now();
        }
        assert!(fra1.started.elapsed() < Duration::from_secs(60), "{:?}", fra1.fleet());
    };
    let all = |points: &BTreeMap<String, String>| {
        let end = format!(".{}", ROWS + NEW);
        points.len() == ORIGINS as usize && points.values().all(|point| point.ends_with(&end))
    };
    while !all(&gru1.points()) || !all(&fra1.points()) {
        assert!(met.elapsed() < Duration::from_secs(60), "{:?} {:?}", gru1.points(), fra1.points());
    }
    let equal = met.elapsed();
    assert_eq!(gru1.points(), fra1.points());
    let link = fra1.link("gru1").unwrap();
    let octets = link["tx_bytes"].as_u64().unwrap() + link["rx_bytes"].as_u64().unwrap();
    println!(
        "{{\"lab\": \"diverged\", \"rows\": {}, \"equal_s\": {:.2}, \"goal_s\": 5, \"octets\": {octets}, \"least\": {least}, \
         \"ratio\": {:.2}, \"goal_ratio\": 1.3}}",
        ORIGINS * NEW,
        equal.as_secs_f64(),
        octets as f64 / least as f64
    );
    // Goals are 5 s and 1.3; what always holds is that it is not all rows that are sent.
    assert!(octets < 3 * least as u64, "{octets} octets for {least}");
}
