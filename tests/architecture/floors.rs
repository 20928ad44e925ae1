//! Which room may name which: arrows go down only.

use super::scan::{line_of, names_after};
use super::{Source, complaints};

/// The rooms from the ground up. Rooms that do not stand yet have their floor already.
const FLOORS: [&[&str]; 6] = [
    &["config", "observe", "supervise", "sys"],
    &["catalog"],
    &["proxy", "dns", "discovery", "replication", "backhaul", "health", "bgp", "bfd", "admin"],
    &["announce"],
    &["appliance"],
    &["main"],
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room)).map(|index| index + 1)
}

/// A room names rooms of lower floors only, and itself.
pub(super) fn arrows_go_down(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| source.path != "lib.rs") {
        let room = source.room();
        let Some(own) = floor(room) else {
            complaints.push(
                source
                    .complain(1, &format!("`{room}` has no floor: name it in tests/architecture/floors.rs")),
            );
            continue;
        };
        let inside = names_after(&source.live, "crate::").into_iter();
        // main.rs and its files see the library by its name.
        let outside = names_after(&source.live, "edgeproxy::").into_iter().filter(|_| room == "main");
        for (line, other) in inside.chain(outside).filter(|(_, other)| *other != room) {
            match floor(other) {
                Some(floor) if floor < own => {}
                Some(floor) if floor == own => {
                    let message = format!("`{room}` names its neighbour `{other}` on floor {own}");
                    complaints.push(source.complain(line, &message));
                }
                Some(floor) => {
                    let message =
                        format!("`{room}` on floor {own} names `{other}` above it, on floor {floor}");
                    complaints.push(source.complain(line, &message));
                }
                // Not a room: an item of lib.rs or of main.rs.
                None => {}
            }
        }
    }
    complaints
}

/// A path that leaves its room says `crate::`, so that the rule above sees it.
pub(super) fn paths_say_where_they_go(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| !["lib.rs", "main.rs"].contains(&source.path.as_str())) {
        let depth = source.path.split('/').count();
        let leaving = "super::".repeat(depth);
        if let Some(start) = source.live.find(&leaving) {
            let message = format!("`{leaving}` leaves the room: write `crate::`");
            complaints.push(source.complain(line_of(&source.live, start), &message));
        }
    }
    complaints
}

#[test]
fn an_arrow_up_or_across_is_seen() {
    let seen =
        complaints(arrows_go_down, &[("bgp/peer.rs", "use crate::{config::Config, announce::facts};")]);
    assert_eq!(seen, ["src/bgp/peer.rs:1: `bgp` on floor 3 names `announce` above it, on floor 4"]);
    let seen = complaints(arrows_go_down, &[("health.rs", "\nfn f() { crate::bgp::g(); }")]);
    assert_eq!(seen, ["src/health.rs:2: `health` names its neighbour `bgp` on floor 3"]);
    let seen = complaints(arrows_go_down, &[("cellar/wine.rs", "")]);
    assert_eq!(seen.len(), 1);
}

#[test]
fn an_arrow_down_and_a_comment_are_not() {
    let fine = [
        ("announce/decide.rs", "use crate::bgp::origin;\nuse crate::announce::facts;\n"),
        ("bgp/peer.rs", "/// See [`crate::announce`].\nfn f() { g(\"crate::health\") }"),
        ("bgp/fsm.rs", "#[cfg(test)]\nmod tests { use crate::health::x; }"),
        ("main.rs", "use edgeproxy::appliance;"),
        ("lib.rs", "pub mod anything;"),
    ];
    assert_eq!(complaints(arrows_go_down, &fine), Vec::<String>::new());
}

#[test]
fn a_path_that_leaves_its_room_is_seen() {
    assert_eq!(
        complaints(paths_say_where_they_go, &[("bgp/peer.rs", "use super::super::health::x;")]).len(),
        1
    );
    assert_eq!(complaints(paths_say_where_they_go, &[("bgp.rs", "use super::health::x;")]).len(), 1);
    assert_eq!(complaints(paths_say_where_they_go, &[("bgp/peer/x.rs", "use super::super::fsm;")]).len(), 0);
}
