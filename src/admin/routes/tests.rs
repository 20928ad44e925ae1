//! Requests as a table: what comes back, at which door, and what is refused in which words.

use serde_json::Value;

use super::*;

fn snapshot() -> Snapshot {
    let status = Status::sample();
    let proxy = ProxyStatus { certificates: status.certificates, ..ProxyStatus::default() };
    Snapshot {
        process: Arc::new(status.process),
        neighbors: Arc::new(status.neighbors),
        prefixes: Arc::new(status.prefixes),
        services: Arc::new(status.services),
        proxy: Arc::new(proxy),
        backhaul: None,
        fleet: None,
        events: Arc::new(crate::observe::samples::recent()),
        ages: ["the process", "bgp", "the decision", "health"].map(|name| (name, Duration::from_millis(700))),
    }
}

fn ask(door: Door, method: &str, target: &str, now: &Snapshot) -> Route {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    route(door, Request { method, path, query, body: b"generation: 8\n" }, now, &Recorder::new())
}

fn answer(method: &str, target: &str) -> Answer {
    match ask(Door::Operator, method, target, &snapshot()) {
        Route::Answer(answer) => answer,
        other => panic!("{method} {target}: {other:?}"),
    }
}

fn document(target: &str) -> Value {
    let answer = answer("GET", target);
    assert_eq!(answer.status, 200, "{target}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

#[test]
fn every_path_has_one_method_and_one_door() {
    #[rustfmt::skip]
    let table = [
        // path, method, other method's status, at the metrics door
        ("/v1/status",    "GET",  405, 404),
        ("/v1/neighbors", "GET",  405, 404),
        ("/v1/prefixes",  "GET",  405, 404),
        ("/v1/services",  "GET",  405, 404),
        ("/v1/events",    "GET",  405, 404),
        ("/v1/reload",    "POST", 405, 404),
        ("/v1/diff",      "POST", 405, 404),
        ("/v1/plan",      "POST", 405, 404),
        ("/v1/apply",     "POST", 405, 404),
        ("/v1/confirm",   "POST", 405, 404),
        ("/v1/rollback",  "POST", 405, 404),
        ("/metrics",      "GET",  405, 200),
        ("/healthz",      "GET",  405, 200),
        ("/",             "-",    404, 404),
        ("/v1/status/",   "-",    404, 404),
    ];
    let status = |route: Route| match route {
        Route::Answer(answer) | Route::Await(answer) => answer.status,
        Route::Command(_) | Route::Connections(_) | Route::Choice(_) => 200,
    };
    for (path, method, wrong, at_metrics) in table {
        for asked in ["GET", "POST", "HEAD", "DELETE"] {
            let right = asked == method || (asked == "HEAD" && method == "GET");
            let expected = if right { 200 } else { wrong };
            assert_eq!(status(ask(Door::Operator, asked, path, &snapshot())), expected, "{asked} {path}");
        }
        assert_eq!(status(ask(Door::Metrics, "GET", path, &snapshot())), at_metrics, "{path}");
    }
}

#[test]
fn documents_are_the_snapshots() {
    let status: Status = serde_json::from_str(&answer("GET", "/v1/status").body).unwrap();
    assert_eq!(status, Status::sample());
    assert_eq!(document("/v1/neighbors")[0]["name"], "transit-a");
    assert_eq!(document("/v1/prefixes")[0]["state"], "announced");
    assert_eq!(document("/v1/services")[0]["backends"][0]["id"], "web-1");
}

#[test]
fn commands_are_handed_over_with_what_they_carry() {
    assert_eq!(ask(Door::Operator, "POST", "/v1/reload", &snapshot()), Route::Command(Ask::Reload));
    assert_eq!(
        ask(Door::Operator, "POST", "/v1/diff?base=/etc/edge%20proxy", &snapshot()),
        Route::Command(Ask::Diff { text: "generation: 8\n".to_owned(), base: "/etc/edge proxy".into() })
    );
}

#[test]
fn transactions_carry_their_conditions() {
    let offered = |signature: Option<&str>| Offered {
        text: "generation: 8\n".to_owned(),
        base: "/etc".into(),
        signature: signature.map(str::to_owned),
    };
    let within = Some(Duration::from_millis(1500));
    let table = [
        ("/v1/plan?base=/etc", Ask::Plan(offered(None))),
        (
            "/v1/apply?base=/etc",
            Ask::Apply { offered: offered(None), confirm_within: None, allow_withdraw: false },
        ),
        (
            "/v1/apply?base=/etc&confirm_within_ms=1500&allow_withdraw=1&signature=Zg%3D%3D",
            Ask::Apply { offered: offered(Some("Zg==")), confirm_within: within, allow_withdraw: true },
        ),
        ("/v1/confirm", Ask::Confirm),
        ("/v1/rollback", Ask::Rollback { to: None, allow_withdraw: false }),
        ("/v1/rollback?to=7&allow_withdraw=1", Ask::Rollback { to: Some(7), allow_withdraw: true }),
    ];
    for (target, expected) in table {
        assert_eq!(ask(Door::Operator, "POST", target, &snapshot()), Route::Command(expected), "{target}");
    }
    for target in ["/v1/rollback?to=seven", "/v1/apply?confirm_within_ms=-1"] {
        let refused = answer("POST", target);
        assert_eq!(refused.status, 400);
        assert!(refused.body.contains("is no whole number"), "{}", refused.body);
    }
}

#[test]
fn a_diff_of_no_text_is_refused() {
    let request = Request { method: "POST", path: "/v1/diff", query: "", body: &[0xff] };
    assert!(matches!(
        route(Door::Operator, request, &snapshot(), &Recorder::new()),
        Route::Answer(Answer { status: 400, .. })
    ));
}

#[test]
fn a_history_has_causes_before_their_effects() {
    use crate::observe::journal::Event;
    use crate::observe::journal::recent::Recent;
    use crate::observe::samples::{decision, entry, verdict};

    let prefix = "198.51.100.0/24";
    let mut recent = Recent::default();
    let update = Event::Update { neighbor: "a".into(), prefix: prefix.into(), route: None };
    for (seq, cause, event) in [
        (1, "a", verdict("web-1", "up")),
        (2, "a", decision(prefix, "announced")),
        (3, "b", decision(prefix, "withdrawn")),
        (4, "b", update),
        (5, "b", verdict("web-1", "down")),
        (6, "c", verdict("web-1", "up")),
        (7, "c", decision(prefix, "announced")),
    ] {
        recent.push(entry(seq, Some(cause), event));
    }
    let history = events::history(&recent, prefix);
    assert_eq!(history.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 5, 3, 4, 6, 7]);
}

#[test]
fn a_prefix_is_explained_by_any_of_its_names() {
    for name in ["198.51.100.0/24", "198.51.100.7/24", "198.51.100.1", " 198.51.100.0/24 "] {
        let explained = document(&format!("/v1/explain?prefix={}", query::encode(name)));
        assert_eq!(explained["prefix"]["prefix"], "198.51.100.0/24", "{name}");
        assert_eq!(explained["services"][0]["service"], "web", "{name}");
        assert_eq!(explained["neighbors"][0]["sent"]["med"], 50, "{name}");
        assert!(explained["neighbors"][1]["sent"].is_null(), "{name}");
        assert_eq!(explained["history"][0]["event"], "verdict", "{name}");
    }
    // The longest prefix around an address.
    assert_eq!(document("/v1/explain?prefix=2001:db8:100:1::9")["prefix"]["prefix"], "2001:db8:100:1::/64");
    assert_eq!(document("/v1/explain?prefix=2001:db8:100:2::9")["prefix"]["prefix"], "2001:db8:100::/48");
}

#[test]
fn a_prefix_or_a_client_with_a_service_is_explained() {
    let asked = ask(Door::Operator, "GET", "/v1/explain?client=2001:DB8::7&service=a%26b", &snapshot());
    let wanted = WantedChoice { client: "2001:db8::7".parse().unwrap(), service: "a&b".into() };
    assert_eq!(asked, Route::Choice(wanted));
    for (query, words) in [
        ("", "client=203.0.113.7&service=web"),
        ("client=203.0.113.7", "say which service"),
        ("service=web", "say which client"),
        ("client=203.0.113.7&service=web&prefix=198.51.100.0/24", "not both"),
        ("client=203.0.113.7/24&service=web", "`203.0.113.7/24` is no address of a client"),
        ("client=0.0.0.0&service=web", "no client comes from there"),
    ] {
        let refused = answer("GET", &format!("/v1/explain?{query}"));
        assert!(refused.status == 400 && refused.body.contains(words), "{query}: {}", refused.body);
    }
    let refused = ask(Door::Metrics, "GET", "/v1/explain?client=203.0.113.7&service=web", &snapshot());
    assert!(matches!(refused, Route::Answer(Answer { status: 404, .. })));
}

#[test]
fn an_unknown_prefix_is_answered_with_those_there_are() {
    for name in ["203.0.113.0/24", "198.51.100.0/25", "203.0.113.1", "web", ""] {
        let answer = answer("GET", &format!("/v1/explain?prefix={name}"));
        assert_eq!(answer.status, 404, "{name}");
        assert!(answer.body.contains("198.51.100.0/24, 2001:db8:100::/48"), "{}", answer.body);
    }
    assert_eq!(answer("GET", "/v1/explain").status, 400);
}

#[test]
fn health_means_running_and_heard() {
    let health = |change: fn(&mut Snapshot)| {
        let mut now = snapshot();
        change(&mut now);
        match ask(Door::Metrics, "GET", "/healthz", &now) {
            Route::Answer(answer) => (answer.status, answer.body),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(health(|_| ()), (200, "running\n".to_owned()));
    assert_eq!(health(|now| Arc::make_mut(&mut now.process).phase = "stopping".into()).0, 200);
    let (status, words) = health(|now| Arc::make_mut(&mut now.process).phase = "starting".into());
    assert_eq!((status, words.as_str()), (503, "the process is starting\n"));
    let (status, words) = health(|now| now.ages[1].1 = Duration::from_secs(9));
    assert_eq!((status, words.as_str()), (503, "bgp reported nothing for 9 s\n"));
}

#[test]
fn events_are_the_newest_or_those_after_a_number() {
    #[rustfmt::skip]
    let table: &[(&str, &[u64], u64)] = &[
        ("",                                   &[11, 12, 13, 14], 14),
        ("limit=2",                            &[13, 14],         14),
        ("limit=0",                            &[],               14),
        ("after=0",                            &[11, 12, 13, 14], 14),
        ("after=11&limit=2",                   &[12, 13],         13),
        ("after=13&wait=1",                    &[14],             14),
        ("after=14",                           &[],               14),
        // The numbers began anew: the asker learns it at once.
        ("after=15&wait=1",                    &[],               14),
        ("prefix=198.51.100.0/24",             &[11, 12],         14),
        ("prefix=198.51.100.7&limit=1",        &[12],             14),
        ("prefix=2001:db8:100:0::/48",         &[13],             14),
        ("prefix=203.0.113.7/24",              &[],               14),
        ("prefix=198.51.100.0/24&after=11",    &[11, 12],         14),
        ("prefix=198.51.100.0/24&after=12",    &[],               14),
        // The verdict is late; whatever the limit, the asker gets on.
        ("prefix=198.51.100.0/24&after=11&limit=1", &[12],        12),
    ];
    for (query, expected, seq) in table {
        let found = document(&format!("/v1/events?{query}"));
        let seqs: Vec<_> =
            found["entries"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
        assert_eq!((seqs.as_slice(), found["seq"].as_u64()), (*expected, Some(*seq)), "{query}");
    }
}

#[test]
fn only_nothing_new_is_waited_for() {
    let waits = |target: &str| matches!(ask(Door::Operator, "GET", target, &snapshot()), Route::Await(_));
    assert!(waits("/v1/events?after=14&wait=1"));
    assert!(waits("/v1/events?after=12&wait=1&prefix=198.51.100.0/24"));
    for target in ["after=14", "after=14&wait=0", "after=13&wait=1", "wait=1", "after=15&wait=1"] {
        assert!(!waits(&format!("/v1/events?{target}")), "{target}");
    }
}

#[test]
fn a_question_for_events_that_makes_no_sense_is_refused() {
    for (query, words) in [
        ("after=x", "after is"),
        ("after=-1", "after is"),
        ("limit=1001", "at most 1000"),
        ("limit=all", "at most 1000"),
        ("limit=99999999999999999999", "at most 1000"),
        ("prefix=web", "web is no prefix"),
        ("prefix=203.0.113.7/33", "is no prefix"),
    ] {
        let answer = answer("GET", &format!("/v1/events?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.body.contains(words), "{query}: {}", answer.body);
    }
}
