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
