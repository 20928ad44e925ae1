//! Cores own no socket, no clock and no task; drivers say that they do.

use super::scan::{line_of, words};
use super::{Source, complaints};

/// Rooms whose files are cores unless they declare themselves drivers.
const CORES: [&str; 4] = ["announce", "backhaul", "bgp", "health"];

/// What only drivers do.
const IMPURE: [&str; 12] = [
    "tokio::net",
    "tokio::time",
    "tokio::task",
    "tokio::spawn",
    "tokio::{",
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::thread",
    "std::env",
    "async fn",
    ".await",
];

/// Starting something that nobody owns.
const BARE: [&str; 5] =
    ["tokio::spawn", "task::spawn", "task::spawn_local", "task::spawn_blocking", "thread::spawn"];

pub(super) fn cores_are_pure(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| CORES.contains(&source.room()) && !source.is_driver(sources))
    {
        for impure in IMPURE {
            if let Some(at) = source.live.find(impure) {
                let message = format!("a core says `{impure}`: move it to a driver");
                complaints.push(source.complain(line_of(&source.live, at), &message));
            }
        }
    }
    complaints
}

/// The lint is opted out of by `expect` with a reason that names what is driven, never by `allow`.
pub(super) fn drivers_say_what_they_drive(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        if source.driver_attribute().is_some_and(|attribute| !attribute.contains("reason = \"driver: ")) {
            complaints.push(source.complain(1, "the reason of a driver begins with `driver: `"));
        }
        let flat: String = source.live.split_whitespace().collect();
        // lib.rs allows it for tests, in one place.
        if source.path != "lib.rs" && flat.contains("allow(clippy::disallowed_methods") {
            complaints
                .push(source.complain(1, "`allow(clippy::disallowed_methods)`: declare a driver instead"));
        }
    }
    complaints
}

/// Tasks and threads begin in `supervise`, which ends them with their owner.
pub(super) fn tasks_die_with_their_owner(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| source.room() != "supervise") {
        for bare in BARE {
            if let Some(at) = words(&source.live, bare).next() {
                let message = format!("a bare `{bare}`: use supervise, or a set that its owner holds");
                complaints.push(source.complain(line_of(&source.live, at), &message));
            }
        }
    }
    complaints
}

#[test]
fn an_impure_core_is_seen() {
    for text in [
        "use tokio::net::TcpStream;",
        "use tokio::{net, time};",
        "fn f() { Instant::now(); }",
        "async fn f() {}",
        "#![expect(clippy::print_stdout)]\nfn f() { std::time::Instant::now(); }",
    ] {
        assert_eq!(complaints(cores_are_pure, &[("bgp/x.rs", text)]).len(), 1, "{text}");
    }
}

#[test]
fn drivers_tests_comments_and_other_rooms_may() {
    let driver = "//! X.\n#![expect(\n    clippy::disallowed_methods,\n    reason = \"driver: owns it\"\n)]\nasync fn f() {}";
    let fine = [
        ("bgp/transport.rs", driver),
        ("bgp/transport/dial.rs", "async fn f() {}"),
        ("bgp/fsm.rs", "// No Instant::now here.\n#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }"),
        ("bgp/peer/tests.rs", "fn f() { Instant::now(); }"),
        ("admin/server.rs", "async fn f() {}"),
    ];
    assert_eq!(complaints(cores_are_pure, &fine), Vec::<String>::new());
    assert_eq!(complaints(drivers_say_what_they_drive, &fine), Vec::<String>::new());
}

#[test]
fn a_driver_without_a_reason_is_seen() {
    let wrong = [
        ("bgp/x.rs", "#![expect(clippy::disallowed_methods, reason = \"because\")]"),
        ("bgp/y.rs", "#![expect(clippy::disallowed_methods)]"),
        ("bgp/z.rs", "#![allow(clippy::disallowed_methods, reason = \"driver: x\")]"),
    ];
    assert_eq!(complaints(drivers_say_what_they_drive, &wrong).len(), wrong.len());
}

#[test]
fn a_bare_task_is_seen() {
    for text in [
        "fn f() { tokio::spawn(g()); }",
        "use tokio::task;\nfn f() { task::spawn(g()); }",
        "use std::thread::spawn;",
    ] {
        assert_eq!(complaints(tasks_die_with_their_owner, &[("bgp/x.rs", text)]).len(), 1, "{text}");
    }
    let fine = [
        ("supervise/task.rs", "fn f() { tokio::spawn(g()); }"),
        ("bgp/x.rs", "fn f() { Task::spawn(g()); }"),
    ];
    assert_eq!(complaints(tasks_die_with_their_owner, &fine), Vec::<String>::new());
}
