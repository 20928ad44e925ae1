//! What a reload would do to sessions, prefixes and services.

use std::path::Path;

use edgeproxy::config::Config;
use edgeproxy::config::diff::{Change, Diff, NeighborChange, diff};
use edgeproxy::config::load::parse;

fn example() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/edgeproxy.yaml")).unwrap()
}

fn config(text: &str) -> Config {
    parse(text, Path::new("")).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The difference that replacing text in the example makes.
fn after(from: &str, to: &str) -> Diff {
    let text = example();
    assert_eq!(text.matches(from).count(), 1, "`{from}` must be in the example once");
    diff(&config(&text), &config(&text.replace(from, to)))
}

/// The change of a neighbor as a word and the words that differ.
fn change(diff: &Diff, name: &str) -> String {
    match &diff.neighbors[name] {
        NeighborChange::Added => "added".to_owned(),
        NeighborChange::Removed => "removed".to_owned(),
        NeighborChange::Keep => "keep".to_owned(),
        NeighborChange::Soft(words) => format!("soft {}", words[0]),
        NeighborChange::Reset(words) => format!("reset {}", words[0]),
    }
}

#[test]
fn the_same_changes_nothing() {
    let same = after("generation: 7", "generation: 8");
    assert!(same.is_empty());
    assert_eq!((same.generation.old, same.generation.new), (7, 8));
    assert!(same.neighbors.values().all(|change| *change == NeighborChange::Keep));
}

#[test]
fn each_word_of_a_neighbor_does_what_it_must_and_leaves_the_others_alone() {
    let table = [
        ("prepend: 1\n", "prepend: 2\n", "soft export.prepend 1 → 2"),
        ("med: 50\n", "med: 60\n", "soft export.med 50 → 60"),
        ("        med: 50\n", "", "soft export.med 50 → none"),
        ("max_prefixes: 1000000", "max_prefixes: 5", "soft max_prefixes 1000000 → 5"),
        (
            "ipv6: 2001:db8:0:1::10",
            "ipv6: 2001:db8:0:1::11",
            "soft next_hop.ipv6 2001:db8:0:1::10 → 2001:db8:0:1::11",
        ),
        ("address: 192.0.2.1\n", "address: 192.0.2.2\n", "reset address 192.0.2.1 → 192.0.2.2"),
        ("asn: 64500\n", "asn: 64502\n", "reset asn 64500 → 64502"),
        ("passive: false", "passive: true", "reset passive false → true"),
        ("families: [ipv4, ipv6]", "families: [ipv4]", "reset families [ipv4, ipv6] → [ipv4]"),
        ("ttl_security: 1 ", "ttl_security: 2 ", "reset ttl_security 1 → 2"),
        ("hold_time: 90s", "hold_time: 9s", "reset hold_time 90s → 9s"),
        ("connect_retry: 5s", "connect_retry: 1s", "reset connect_retry 5s → 1s"),
        ("source: 192.0.2.10", "source: 192.0.2.11", "reset source 192.0.2.10 → 192.0.2.11"),
    ];
    for (from, to, expected) in table {
        let diff = after(from, to);
        assert_eq!(change(&diff, "transit-a"), expected);
        assert_eq!(change(&diff, "transit-b"), "keep", "{expected}");
        assert_eq!(change(&diff, "rs1"), "keep", "{expected}");
    }
}

#[test]
fn the_speaker_itself_resets_every_session_and_says_why() {
    for (from, to, expected) in [
        ("asn: 64512\n", "asn: 64513\n", "reset bgp.asn 64512 → 64513"),
        ("router_id: 192.0.2.10", "router_id: 192.0.2.11", "reset bgp.router_id 192.0.2.10 → 192.0.2.11"),
    ] {
        let diff = after(from, to);
        for name in ["transit-a", "transit-b", "rs1"] {
            assert_eq!(change(&diff, name), expected);
        }
    }
}

#[test]
fn a_reset_names_the_soft_words_too_but_after_its_cause() {
    let text = example().replace("hold_time: 90s", "hold_time: 9s").replace("prepend: 1\n", "prepend: 2\n");
    let NeighborChange::Reset(words) = &diff(&config(&example()), &config(&text)).neighbors["transit-a"]
    else {
        panic!("a reset")
    };
    let words: Vec<_> = words.iter().map(|word| word.word.as_str()).collect();
    assert_eq!(words, ["hold_time", "export.prepend"]);
}

#[test]
fn a_renamed_neighbor_goes_and_comes() {
    let diff = after("name: rs1", "name: rs2");
    assert_eq!((change(&diff, "rs1"), change(&diff, "rs2")), ("removed".to_owned(), "added".to_owned()));
}

#[test]
fn prefixes_and_services_name_what_changes() {
    let changed = |change: &Change| match change {
        Change::Changed(words) => words[0].to_string(),
        other => format!("{other:?}"),
    };
    let diff = after("med: 500", "med: 501");
    assert_eq!(changed(&diff.prefixes["198.51.100.0/24"]), "degrade.med 500 → 501");
    assert_eq!(diff.prefixes["2001:db8:100::/48"], Change::Keep);
    let diff = after("high: 4 ", "high: 5 ");
    assert_eq!(changed(&diff.services["web"]), "watermark.high 4 → 5");
    assert_eq!(diff.services["resolver"], Change::Keep);
    let diff = after("id: dns-2", "id: dns-3");
    let words = "backends.dns-2 10.0.1.53 port 53 region sa weight 1 → none";
    assert_eq!(changed(&diff.services["resolver"]), words);
    let diff = after("2001:db8:100::/48\n    addresses: [2001:db8:100::1]", "2001:db8:200::/48");
    assert_eq!(diff.prefixes["2001:db8:100::/48"], Change::Removed);
    assert_eq!(diff.prefixes["2001:db8:200::/48"], Change::Added);
}

#[test]
fn each_word_of_the_proxy_is_named_alone() {
    let at = "listen.198.51.100.1:80";
    let table = [
        ("soft_limit: 100 ", "soft_limit: 50 ", "web", "backends.web-4.soft_limit 100 → 50".to_owned()),
        ("hard_limit: 150 ", "hard_limit: 0 ", "web", "backends.web-4.hard_limit 150 → 0".to_owned()),
        ("country: br ", "country: de ", "web", "backends.web-4.country br → de".to_owned()),
        ("drain: false ", "drain: true ", "web", "backends.web-4.drain false → true".to_owned()),
        ("weight: 4 }", "weight: 5 }", "web", "backends.web-2.weight 4 → 5".to_owned()),
        (
            "proxy_from: [10.1.0.0/16]",
            "proxy_from: [10.2.0.0/16]",
            "web",
            format!("{at}.proxy_from [10.1.0.0/16] → [10.2.0.0/16]"),
        ),
        ("connections: 100000 ", "connections: 0 ", "web", format!("{at}.limits.connections 100000 → 0")),
        ("per_source: 1000 ", "per_source: 1 ", "web", format!("{at}.limits.per_source 1000 → 1")),
        ("per_site: 8000 ", "per_site: 0 ", "web", format!("{at}.limits.per_site 8000 → 0")),
        ("rate: 200 ", "rate: 201 ", "web", format!("{at}.limits.rate 200 → 201")),
        ("burst: 400 ", "burst: 401 ", "web", format!("{at}.limits.burst 400 → 401")),
        ("defer_accept: false", "defer_accept: true", "web", format!("{at}.defer_accept false → true")),
        ("fast_open: 0 ", "fast_open: 64 ", "web", format!("{at}.fast_open 0 → 64")),
        ("keepalive: 60s", "keepalive: off", "web", format!("{at}.keepalive 1m → off")),
        ("user_timeout: 30s", "user_timeout: 5s", "web", format!("{at}.user_timeout 30s → 5s")),
        ("backlog: 4096", "backlog: 1", "web", format!("{at}.backlog 4096 → 1")),
        (
            "names: [www.example.net, \"*.example.net\"]",
            "names: []",
            "web",
            "listen.198.51.100.1:443.tls.names [*.example.net, www.example.net] → whatever is left"
                .to_owned(),
        ),
        (
            "alpn: [h2, http/1.1]",
            "alpn: [h2]",
            "web",
            "listen.198.51.100.1:443.tls.alpn [h2, http/1.1] → [h2]".to_owned(),
        ),
        (
            "minimum: \"1.2\"",
            "minimum: \"1.3\"",
            "web",
            "listen.198.51.100.1:443.tls.minimum 1.2 → 1.3".to_owned(),
        ),
        (
            "acme: 10.0.0.9:5001",
            "acme: 10.0.0.9:5002",
            "web",
            "listen.198.51.100.1:443.tls.acme 10.0.0.9:5001 → 10.0.0.9:5002".to_owned(),
        ),
        (
            "passthrough: [mail.example.org]",
            "passthrough: [imap.example.org]",
            "web",
            "listen.198.51.100.1:443#2.passthrough [mail.example.org] → [imap.example.org]".to_owned(),
        ),
        (
            "passthrough: [mail.example.org]",
            "tls: { self_signed: true }",
            "web",
            "listen.198.51.100.1:443#2 passthrough → tls".to_owned(),
        ),
        (
            "      - { address: \"2001:db8:100::1\", port: 80 }\n",
            "",
            "web",
            "listen.[2001:db8:100::1]:80 plain → none".to_owned(),
        ),
        (
            "{ connections: 65536 }",
            "{ connections: 5 }",
            "resolver",
            "listen.198.51.100.2:53/udp.limits.connections 65536 → 5".to_owned(),
        ),
        ("affinity: 600s", "affinity: off", "web", "affinity 10m → off".to_owned()),
        ("slow_start: 10s", "slow_start: 0s", "web", "slow_start 10s → 0ns".to_owned()),
        ("panic: 30%", "panic: 0%", "web", "panic 30% → 0%".to_owned()),
        ("send_proxy: v2", "send_proxy: off", "web", "send_proxy v2 → off".to_owned()),
        ("connect: 1s", "connect: 2s", "web", "timeouts.connect 1s → 2s".to_owned()),
        ("deadline: 3s", "deadline: 4s", "web", "timeouts.deadline 3s → 4s".to_owned()),
        ("handshake: 10s", "handshake: 5s", "web", "timeouts.handshake 10s → 5s".to_owned()),
        (" idle: 1h", " idle: off", "web", "timeouts.idle 1h → off".to_owned()),
        ("half_closed: 5m", "half_closed: 1m", "web", "timeouts.half_closed 300s → 60s".to_owned()),
        ("udp_idle: 30s", "udp_idle: 5s", "resolver", "timeouts.udp_idle 30s → 5s".to_owned()),
        ("attempts: 3", "attempts: 1", "web", "attempts 3 → 1".to_owned()),
        ("retry_budget: 20%", "retry_budget: 0%", "web", "retry_budget 20% → 0%".to_owned()),
        ("failures: 5", "failures: 6", "web", "ejection.failures 5 → 6".to_owned()),
        ("      time: 10s", "      time: 20s", "web", "ejection.time 10s → 20s".to_owned()),
        ("max_time: 300s", "max_time: 301s", "web", "ejection.max_time 300s → 301s".to_owned()),
        ("share: 50%", "share: 10%", "web", "ejection.share 50% → 10%".to_owned()),
    ];
    for (from, to, service, expected) in table {
        let diff = after(from, to);
        let Change::Changed(words) = &diff.services[service] else { panic!("{expected}") };
        assert_eq!(words.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        assert!(diff.process.is_empty() && diff.restart.is_empty());
        assert!(diff.neighbors.values().all(|change| *change == NeighborChange::Keep));
    }
    for (from, to, expected) in [
        ("    time: 60ms", "    time: 80ms", "proxy.lease.time 60ms → 80ms"),
        ("probe_interval: 1s", "probe_interval: 2s", "proxy.lease.probe_interval 1s → 2s"),
        ("probe_timeout: 500ms", "probe_timeout: 100ms", "proxy.lease.probe_timeout 500ms → 100ms"),
        ("probe_fall: 3", "probe_fall: 1", "proxy.lease.probe_fall 3 → 1"),
        ("connections: 500000", "connections: 1000", "proxy.connections 500000 → 1000"),
        ("handshakes: 2048", "handshakes: 1", "proxy.handshakes 2048 → 1"),
        ("memory: 512MiB", "memory: 1GiB", "proxy.memory 512MiB → 1GiB"),
        ("  drain: 10s ", "  drain: 0s ", "proxy.drain 10s → 0ns"),
        ("every: 0", "every: 100", "proxy.access_log.every 0 → 100"),
        ("    rate: 50 ", "    rate: 0 ", "proxy.access_log.rate 50 → 0"),
        ("ticket_rotation: 6h", "ticket_rotation: 1m", "proxy.ticket_rotation 6h → 1m"),
    ] {
        let diff = after(from, to);
        assert_eq!(diff.process.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        assert!(diff.restart.is_empty() && diff.services.values().all(|change| *change == Change::Keep));
    }
    let diff = after("workers: 2", "# workers: 2");
    assert_eq!(diff.restart[0].to_string(), "proxy.workers 2 → one for each processor");
}

#[test]
fn what_a_reload_cannot_change_is_named() {
    for (from, to, word) in [
        ("id: gru1", "id: gru2", "pop.id"),
        ("socket: /run/edgeproxy/edgeproxy.sock", "socket: /run/other.sock", "admin.socket"),
        ("metrics: 127.0.0.1:9090", "metrics: off", "observe.metrics"),
        ("format: text", "format: json", "observe.log.format"),
    ] {
        let diff = after(from, to);
        assert_eq!(diff.restart.iter().map(|word| word.word.as_str()).collect::<Vec<_>>(), [word]);
        assert!(diff.process.is_empty() && !diff.is_empty());
    }
    let diff = after("level: info", "level: debug");
    assert_eq!(diff.process[0].to_string(), "observe.log.level info → debug");
    let diff = after("max_darkened: 0 ", "max_darkened: 2 ");
    assert_eq!(diff.process[0].to_string(), "admin.max_darkened 0 → 2");
    let key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let diff = after("max_darkened: 0 ", &format!("operator_key: {key}\n  max_darkened: 0 "));
    assert_eq!(diff.process[0].to_string(), format!("admin.operator_key none → {key}"));
    assert!(diff.restart.is_empty());
}

#[test]
fn it_reads_as_a_table_and_as_json() {
    let diff = after("hold_time: 90s", "hold_time: 9s");
    let shown = diff.to_string();
    assert!(shown.starts_with("generation 7 → 7\n"), "{shown}");
    assert!(
        shown.lines().any(|line| line == "neighbor  transit-a         reset   hold_time 90s → 9s"),
        "{shown}"
    );
    assert!(shown.lines().any(|line| line == "neighbor  transit-b         keep"), "{shown}");
    let json = serde_json::to_value(&diff).unwrap();
    assert_eq!(json["neighbors"]["transit-a"]["change"], "reset");
    assert_eq!(json["neighbors"]["transit-a"]["words"][0]["new"], "9s");
    assert_eq!(json["neighbors"]["transit-b"]["change"], "keep");
}

#[test]
fn each_word_of_the_backhaul_is_named_alone() {
    for (from, to, expected) in [
        ("\n    interval: 100ms", "\n    interval: 300ms", "backhaul.probe.interval 100ms → 300ms"),
        (
            "timeout: 1s                   # default; or interval",
            "timeout: 2s #",
            "backhaul.probe.timeout 1s → 2s",
        ),
        ("relay: true ", "relay: false ", "backhaul.relay true → false"),
        (
            "edgeproxy/backhaul.key   #",
            "edgeproxy/b.key #",
            "backhaul.private_key_file /var/lib/edgeproxy/backhaul.key → /var/lib/edgeproxy/b.key",
        ),
        (
            "# next_private_key_file",
            "next_private_key_file",
            "backhaul.next_private_key_file none → /var/lib/edgeproxy/backhaul-next.key",
        ),
    ] {
        let diff = after(from, to);
        assert_eq!(diff.process.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        assert!(diff.restart.is_empty() && diff.peers.values().all(|change| *change == Change::Keep));
    }
    for (from, to, expected) in [
        ("number: 1                       #", "number: 9 #", "backhaul.number sa/1 → sa/9"),
        ("backend: auto", "backend: userspace", "backhaul.backend auto → userspace"),
        ("interface: edge6pn", "interface: wg0", "backhaul.interface edge6pn → wg0"),
        ("listen: 51820", "listen: 51819", "backhaul.listen 51820 → 51819"),
        ("mtu: auto", "mtu: 1400", "backhaul.mtu auto → 1400"),
        ("    tun: true", "    tun: false", "backhaul.offload.tun true → false"),
        ("    udp: true", "    udp: false", "backhaul.offload.udp true → false"),
        ("  ingress: 8082                   #", "  ingress: off #", "backhaul.ingress 8082 → off"),
        ("port: 51822", "port: 51823", "backhaul.probe.port 51822 → 51823"),
    ] {
        let diff = after(from, to);
        assert_eq!(diff.restart.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        assert!(diff.process.is_empty() && !diff.is_empty());
    }
}

#[test]
fn a_peer_is_changed_alone() {
    let words = |diff: &Diff, name: &str| match &diff.peers[name] {
        Change::Changed(words) => words.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        other => format!("{other:?}"),
    };
    for (from, to, expected) in [
        ("      ingress: 8082               #", "      ingress: 8083 #", "ingress 8082 → 8083"),
        ("keepalive: 25s", "keepalive: off", "keepalive 25s → off"),
        ("allow: [tcp/8081]", "allow: [udp/53, tcp/1]", "allow [tcp/8081] → [tcp/1, udp/53]"),
        (
            "endpoints: [\"192.0.2.71:51820\", \"[2001:db8:71::7]:51820\", \"fra1.example.net:51820\"]",
            "endpoints: []",
            "endpoints [192.0.2.71:51820, [2001:db8:71::7]:51820, fra1.example.net:51820] → []",
        ),
    ] {
        let diff = after(from, to);
        assert_eq!((words(&diff, "fra1").as_str(), words(&diff, "iad1").as_str()), (expected, "Keep"));
        assert!(diff.restart.is_empty() && diff.process.is_empty());
    }
    let diff = after("# next_public_key:", "next_public_key:");
    assert!(words(&diff, "fra1").starts_with("next_public_key none → "));
    let text = example();
    let alone = text.split("# Encrypted tunnels").next().unwrap().to_owned()
        + "admin:"
        + text.split("\nadmin:").nth(1).unwrap();
    let alone: String = alone
        .lines()
        .filter(|line| !line.contains("pop: fra1") && !line.contains("pop: iad1"))
        .map(|line| format!("{line}\n"))
        .collect();
    let diff = self::diff(&config(&text), &config(&alone));
    assert_eq!((&diff.peers["fra1"], &diff.peers["iad1"]), (&Change::Removed, &Change::Removed));
    assert_eq!(diff.restart[0].to_string(), "backhaul fd5a:1c7e:92b4::/48 at sa/1 → off");
    assert!(diff.to_string().contains("peer      fra1"), "{diff}");
}
