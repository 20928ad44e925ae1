//! Which room names which outside crate, so that replacing one touches one room.

use super::scan::{line_of, words};
use super::{Source, complaints};

/// Outside crates and the rooms that may name them. Crates not listed, such as tokio, serde and tracing, are
/// everybody's.
const CRATES: [(&str, &[&str]); 28] = [
    ("rustbgpd_wire", &["bgp"]),
    ("rustbgpd_fsm", &["bgp"]),
    ("prometheus", &["observe"]),
    ("tracing_subscriber", &["observe"]),
    ("hyper", &["admin", "health"]),
    ("hyper_util", &["admin", "health"]),
    ("http_body_util", &["admin", "health"]),
    ("saphyr_parser", &["config"]),
    ("ring", &["backhaul", "config", "proxy", "replication"]),
    ("rustls", &["config", "proxy", "replication"]),
    ("webpki", &["config", "replication"]),
    ("rcgen", &["proxy", "replication"]),
    ("maxminddb", &["catalog"]),
    ("rtnetlink", &["sys"]),
    // Safe edges of the operating system: the rooms that own sockets, files and signals.
    ("libc", &["backhaul", "health", "sys"]),
    ("nix", &["admin", "backhaul", "main", "supervise", "sys"]),
    ("socket2", &["backhaul", "bgp", "health", "proxy", "replication", "sys"]),
    ("clap", &["main"]),
    ("anyhow", &["main"]),
    ("blake3", &["replication"]),
    ("foca", &["replication"]),
    ("lz4_flex", &["replication"]),
    ("stateright", &[]),
    ("quinn", &["replication"]),
    ("rusqlite", &["replication"]),
    ("boringtun", &["backhaul"]),
    ("quinn_udp", &["backhaul"]),
    // Not here yet, but its room is known.
    ("hickory_proto", &["dns"]),
];

pub(super) fn outside_crates_have_one_room(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for (name, rooms) in CRATES.iter().filter(|(_, rooms)| !rooms.contains(&source.room())) {
            let path = |at: &usize| {
                let after = source.live[at + name.len()..].trim_start();
                let named = after.starts_with("::")
                    || (source.live[..*at].ends_with("use ") && after.starts_with(';'));
                // `crate::observe::prometheus` and `self::hyper` are ours.
                named && !source.live[..*at].ends_with("::")
            };
            if let Some(at) = words(&source.live, name).find(path) {
                let message = format!("names the crate `{name}`, which belongs to {}", rooms.join(" and "));
                complaints.push(source.complain(line_of(&source.live, at), &message));
            }
        }
    }
    complaints
}

/// The rest of the house is safe; its lint says so too, but a lint can be allowed.
pub(super) fn unsafe_is_in_sys(sources: &[Source]) -> Vec<String> {
    let elsewhere = sources.iter().filter(|source| source.room() != "sys");
    let first = |source: &Source| words(&source.code, "unsafe").next().map(|at| line_of(&source.code, at));
    elsewhere
        .filter_map(|source| Some(source.complain(first(source)?, "`unsafe` outside src/sys/")))
        .collect()
}

#[test]
fn a_crate_in_the_wrong_room_is_seen() {
    for text in
        ["use hyper::Request;", "fn f() { hyper::f() }", "use hyper;", "use ::hyper as h;\nuse hyper::x;"]
    {
        assert_eq!(complaints(outside_crates_have_one_room, &[("announce/x.rs", text)]).len(), 1, "{text}");
    }
    let fine = [
        ("admin/server.rs", "use hyper::Request;"),
        ("bgp/x.rs", "use rustbgpd_wire::Message;"),
        ("bgp/y.rs", "// hyper::x\nlet hyper = 1; crate::hyper::z"),
    ];
    assert_eq!(complaints(outside_crates_have_one_room, &fine), Vec::<String>::new());
}

#[test]
fn unsafe_outside_sys_is_seen() {
    assert_eq!(
        complaints(unsafe_is_in_sys, &[("bgp/x.rs", "fn f() {\n unsafe { g() }\n}")]),
        ["src/bgp/x.rs:2: `unsafe` outside src/sys/"]
    );
    let fine = [("sys/ttl.rs", "unsafe { g() }"), ("lib.rs", "#![deny(unsafe_code)] // unsafe")];
    assert_eq!(complaints(unsafe_is_in_sys, &fine), Vec::<String>::new());
}
