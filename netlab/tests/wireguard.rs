//! The tools for tunnels on tunnels of others: two wireguard-go, a path between them that is cut and made bad, attacks.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use netlab::bench::backhaul::packets::{self, Offered};
use netlab::bench::backhaul::pair::Pair;
use netlab::bench::backhaul::peer::Peer;
use netlab::bench::backhaul::stream;
use netlab::runner;
use netlab::scenario::Scenario;
use netlab::sys::namespace::is_root;
use netlab::wireguard::{KeyPair, Program, program};

fn is_skipped(test: &str) -> bool {
    let missing = Program::WireguardGo.find().and(program::tools()).err();
    match (is_root(), missing) {
        (true, None) => return false,
        (false, _) => println!("SKIPPED {test}: it needs root for network namespaces"),
        (true, Some(why)) => println!("SKIPPED {test}: {why}"),
    }
    true
}

/// Two hosts behind a router in which an attacker sits; a tunnel between them.
const NETWORK: &str = r#"
scenario: tunnels
about: the tools for tunnels
hosts:
  a:
    routes: ["10.2.0.0/24 via 10.1.0.1", "2001:db8:2::/64 via 2001:db8:1::1", "2001:db8:9::/48 via 2001:db8:1::1"]
    loopback: ["fd5a:1c7e:92b4:1011::1/128"]
    wireguard:
      private_key: "{{private a}}"
      peers: [{ name: b, public_key: "{{public b}}", allowed_ips: ["fd5a:1c7e:92b4:1020::/60"], endpoint: "10.2.0.2:51820" }]
  b:
    routes: ["10.1.0.0/24 via 10.2.0.1", "2001:db8:1::/64 via 2001:db8:2::1", "2001:db8:9::/48 via 2001:db8:2::1"]
    loopback: ["fd5a:1c7e:92b4:1021::1/128"]
    wireguard:
      private_key: "{{private b}}"
      peers: [{ name: a, public_key: "{{public a}}", allowed_ips: ["fd5a:1c7e:92b4:1010::/60"] }]
    services:
      - { name: b, kind: udp-echo, listen: ["[fd5a:1c7e:92b4:1021::1]:7"] }
  core:
    forward: true
    routes: ["local 2001:db8:9::/48 dev lo"]
links:
  - ends:
      - { host: a, interface: core0, addresses: [10.1.0.2/24, "2001:db8:1::2/64"] }
      - { host: core, interface: a0, addresses: [10.1.0.1/24, "2001:db8:1::1/64"] }
  - ends:
      - { host: b, interface: core0, addresses: [10.2.0.2/24, "2001:db8:2::2/64"] }
      - { host: core, interface: b0, addresses: [10.2.0.1/24, "2001:db8:2::1/64"] }
emulators:
  bad: { at: core, listen: "10.1.0.1:4500", to: "10.2.0.2:51820" }
steps:
"#;

fn passes(steps: &str) {
    let scenario = Scenario::read(&format!("{NETWORK}{steps}")).unwrap();
    let name = format!("netlab-{}-tunnels-{}", std::process::id(), steps.len());
    let work = std::env::temp_dir().join(name);
    let report = runner::run(&scenario, &work, true);
    let _ = std::fs::remove_dir_all(&work);
    assert!(report.pass, "{}", report.failure.unwrap_or_default());
}

#[test]
fn a_path_is_cut_and_healed_and_what_is_lost_is_counted() {
    if is_skipped("a_path_is_cut_and_healed_and_what_is_lost_is_counted") {
        return;
    }
    passes(
        r#"
  - do: { traffic: { name: stream, from: a, target: "[fd5a:1c7e:92b4:1021::1]:7", sources: ["[fd5a:1c7e:92b4:1011::1]:0"], rate: 500 } }
  - expect: { wireguard: { at: a, peer: b, handshake: true, received: 1000, sent: 1000 }, within: 10s }
  - expect: { wireguard: { at: b, peer: a, handshake_age: 60s, endpoint: "10.1.0.2:51820" } }
  - expect: { traffic: { name: stream, answered: 100 }, within: 10s }
  - do: { mark: whole }
  - do: { wait: 1500ms }
  - loss: { figure: lost_whole, traffic: stream, since: whole, most: 0 }
  - expect: { traffic: { name: stream, duplicates: 0, reordered: 0 } }
  - do: { mark: cut }
  - do: { cut_path: { between: [b, a], udp: [51820] } }
  - do: { wait: 1s }
  - do: { heal_path: [a, b] }
  - do: { wait: 1s }
  - silence: { figure: silence, traffic: stream, since: cut, most: 1500ms }
  - do: { run: { at: a, command: "! nft list ruleset | grep drop" } }
  - do: { every_length: { from: a, source: "[fd5a:1c7e:92b4:1011::1]:99", to: b, target: "[fd5a:1c7e:92b4:1021::1]:99", up_to: 200 } }
  - do: { kill: b }
  - do: { mark: killed }
  - do: { start: b }
  - do: { wg: { at: a, arguments: "set wg0 listen-port 51999" } }
  - expect: { wireguard: { at: b, peer: a, handshake: true, endpoint: "10.1.0.2:51999" }, within: 30s }
"#,
    );
}

#[test]
fn what_a_cut_loses_is_seen() {
    if is_skipped("what_a_cut_loses_is_seen") {
        return;
    }
    let why = passes_not(
        r#"
  - do: { traffic: { name: stream, from: a, target: "[fd5a:1c7e:92b4:1021::1]:7", sources: ["[fd5a:1c7e:92b4:1011::1]:0"], rate: 500 } }
  - expect: { traffic: { name: stream, answered: 100 }, within: 10s }
  - do: { cut_path: { between: [a, b], one_way: true } }
  - do: { mark: cut }
  - do: { wait: 1s }
  - loss: { figure: lost, traffic: stream, since: cut, most: 100 }
"#,
    );
    assert!(why.contains("at most 100 may be"), "{why}");
}

#[test]
fn a_bad_path_loses_doubles_and_reorders() {
    if is_skipped("a_bad_path_loses_doubles_and_reorders") {
        return;
    }
    passes(
        r#"
  - do: { wg: { at: a, arguments: "set wg0 peer {{public b}} endpoint 10.1.0.1:4500" } }
  - do: { traffic: { name: stream, from: a, target: "[fd5a:1c7e:92b4:1021::1]:7", sources: ["[fd5a:1c7e:92b4:1011::1]:0"], rate: 1000 } }
  - expect: { traffic: { name: stream, answered: 100, duplicates: 0 }, within: 10s }
  - do: { mark: whole }
  - do: { wait: 1s }
  - loss: { figure: lost_whole, traffic: stream, since: whole, most: 0 }
  - do: { emulate: { name: bad, with: { loss: 10, duplicate: 20, reorder: 20, delay_ms: 1 } } }
  - do: { mark: bad }
  - do: { wait: 2s }
  - do: { run: { at: core, command: "true" } }
  - do: { emulate: { name: bad, with: {} } }
  # The tunnel drops what comes twice: its replay window works.
  - expect: { traffic: { name: stream, since: bad, duplicates: 0, answered: 500 } }
  - share: { figure: through_a_bad_path, traffic: stream, since: bad, least: 60 }
  - do: { run: { at: core, command: "true" } }
"#,
    );
    let much = passes_not(
        r#"
  - do: { wg: { at: a, arguments: "set wg0 peer {{public b}} endpoint 10.1.0.1:4500" } }
  - do: { traffic: { name: stream, from: a, target: "[fd5a:1c7e:92b4:1021::1]:7", sources: ["[fd5a:1c7e:92b4:1011::1]:0"], rate: 1000 } }
  - expect: { traffic: { name: stream, answered: 100 }, within: 10s }
  - do: { emulate: { name: bad, with: { loss: 10, reorder: 20 } } }
  - do: { mark: bad }
  - do: { wait: 1500ms }
  - expect: { traffic: { name: stream, since: bad, lost: 10, reordered: 0 }, within: 10ms }
"#,
    );
    assert!(much.contains("overtaken"), "{much}");
}

fn passes_not(steps: &str) -> String {
    let scenario = Scenario::read(&format!("{NETWORK}{steps}")).unwrap();
    let work = std::env::temp_dir().join(format!("netlab-{}-tunnels-{}", std::process::id(), steps.len()));
    let report = runner::run(&scenario, &work, true);
    let _ = std::fs::remove_dir_all(&work);
    assert!(!report.pass);
    report.failure.unwrap_or_default()
}

#[test]
fn forged_replayed_and_spoofed_datagrams_come_to_nothing() {
    if is_skipped("forged_replayed_and_spoofed_datagrams_come_to_nothing") {
        return;
    }
    passes(
        r#"
  - do: { sink: { name: inside, at: b, listen: ["[fd5a:1c7e:92b4:1021::1]:8"] } }
  - do: { traffic: { name: stream, from: a, target: "[fd5a:1c7e:92b4:1021::1]:8", sources: ["[fd5a:1c7e:92b4:1011::1]:0"], rate: 500 } }
  - expect: { traffic: { name: stream, answered: 100 }, within: 10s }
  - do: { mark: attacks }
  # From an address that this peer may not use.
  - do: { traffic: { name: spoof, from: a, target: "[fd5a:1c7e:92b4:1021::1]:8", sources: ["[fd5a:1c7e:92b4:1031::1]:0"], rate: 500 } }
  - do: { replay: { at: core, interface: a0, udp: 51820, for: 500ms, times: 2 } }
  - do: { attack: { name: forged, from: core, target: "[2001:db8:2::2]:51820", kind: { forged_handshakes: { public_key: "{{public b}}", sources: "2001:db8:9::" } }, count: 2000, rate: 1000 } }
  - expect: { attack: { name: forged }, within: 20s }
  # Faster than wireguard-go looks at them: those with a right MAC1 get a cookie.
  - do: { attack: { name: burst, from: core, target: "[2001:db8:2::2]:51820", kind: { forged_handshakes: { public_key: "{{public b}}", sources: "2001:db8:9::" } }, count: 10000, rate: 1000000 } }
  - expect: { attack: { name: burst, cookies: 1 }, within: 20s }
  - expect: { arrivals: { sink: inside, from: "fd5a:1c7e:92b4:1011::1", at_least: 200 } }
  - expect: { arrivals: { sink: inside, from: "fd5a:1c7e:92b4:1031::1", at_most: 0 } }
  - expect: { traffic: { name: stream, duplicates: 0 } }
  # After a replay from elsewhere the peer is still where it was.
  - expect: { wireguard: { at: b, peer: a, endpoint: "10.1.0.2:51820" } }
"#,
    );
}

#[test]
fn every_column_of_the_bench_works() {
    if is_skipped("every_column_of_the_bench_works") {
        return;
    }
    let work = std::env::temp_dir().join(format!("netlab-{}-tunnels-bench", std::process::id()));
    let window = Duration::from_millis(300);
    let pair = Pair::start(Peer::WireguardGo, &work, None).unwrap();
    let streamed = stream::measure(&pair, window).unwrap();
    assert!(streamed.work > 0.0 && streamed.cpu > 0.0 && streamed.retransmits.is_some(), "{streamed:?}");
    let steady = packets::measure(&pair, Offered::steady(500), window).unwrap();
    assert!(steady.work > 50.0 && steady.cpu > 0.0 && steady.resident_kib > 1_000.0, "{steady:?}");
    drop(pair);
    let pair = Pair::start(Peer::WireguardGo, &work, None).unwrap();
    let flood = packets::measure(&pair, Offered::flood(20_000), window).unwrap();
    assert!(flood.work > 0.0 && flood.sent >= flood.work * 0.9, "{flood:?}");
    drop(pair);
    let _ = std::fs::remove_dir_all(work);
}

#[test]
fn every_scenario_can_be_read() {
    for folder in ["scenarios", "benches"] {
        let listing = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
        for entry in listing {
            Scenario::load(&entry.unwrap().path()).unwrap();
        }
    }
}

#[test]
fn our_keys_are_those_of_wg() {
    if is_skipped("our_keys_are_those_of_wg") {
        return;
    }
    let pair = KeyPair::generate().unwrap();
    let line = format!("echo '{}' | wg pubkey", pair.private());
    let said = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap().trim(), pair.public());
}
