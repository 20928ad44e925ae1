//! Real routers as nodes: they peer with one another and tell the same about a prefix.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test of real programs"
)]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use netlab::link::{End, connect};
use netlab::namespace::Namespace;
use netlab::node::exabgp::{Exabgp, HealthCheck};
use netlab::node::router::{Kind, Router, RouterConfig, TableRoute, make};
use netlab::sys::namespace::is_root;

const PATIENCE: Duration = Duration::from_secs(60);

/// A fresh directory that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("netlab-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn may_run(test: &str) -> bool {
    if !is_root() {
        eprintln!("SKIPPED {test}: it makes network namespaces, which asks for root");
        return false;
    }
    for program in ["/usr/sbin/bird", "/usr/lib/frr/bgpd", "/usr/bin/gobgpd", "/usr/sbin/exabgp"] {
        if !Path::new(program).exists() {
            eprintln!("SKIPPED {test}: {program} is not installed");
            return false;
        }
    }
    true
}

fn config(asn: u32, neighbors: &str, originate: &str) -> RouterConfig {
    let id = Ipv4Addr::new(192, 0, 2, (asn % 100) as u8);
    let text =
        format!(r#"{{"asn":{asn},"router_id":"{id}","neighbors":[{neighbors}],"originate":[{originate}]}}"#);
    serde_json::from_str(&text).unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn link(a: &Namespace, b: &Namespace, number: u8) {
    let addresses = |host: u8| [format!("10.9.{number}.{host}/24"), format!("fd09:{number}::{host}/64")];
    let (at_a, at_b) = (format!("to-{}", b.name()), format!("to-{}", a.name()));
    connect(
        &End { host: a, interface: &at_a, addresses: &addresses(1) },
        &End { host: b, interface: &at_b, addresses: &addresses(2) },
    )
    .unwrap();
}

fn the_route(router: &dyn Router, prefix: &str, from: &str) -> Option<TableRoute> {
    let routes = router.routes(Some(prefix)).unwrap();
    routes.into_iter().find(|route| route.from.as_deref() == Some(from))
}

#[test]
fn bird_frr_and_gobgp_peer_pairwise_and_see_each_others_prefixes() {
    if !may_run("routers") {
        return;
    }
    let dir = Dir::new("routers");
    let [bird, frr, gobgp] = ["bird", "frr", "gobgp"].map(|name| Namespace::create(name).unwrap());
    // 1: bird-frr with MD5, 2: bird-gobgp with GTSM, 3: frr-gobgp; the first is host 1. Each has a session per family.
    link(&bird, &frr, 1);
    link(&bird, &gobgp, 2);
    link(&frr, &gobgp, 3);
    let pair = |name: &str, link: u8, host: u8, asn: u32, more: &str| {
        format!(
            r#"{{"name":"{name}","address":"10.9.{link}.{host}","asn":{asn}{more}}},
               {{"name":"{name}-six","address":"fd09:{link}::{host}","asn":{asn}{more}}}"#
        )
    };
    let join = |a: String, b: String| format!("{a},{b}");
    let (md5, gtsm) = (r#","password":"key-1""#, r#","ttl_security":true"#);
    let mut at_bird = config(
        64501,
        &join(pair("frr", 1, 2, 64502, md5), pair("gobgp", 2, 2, 64503, gtsm)),
        r#""198.51.101.0/24","2001:db8:1::/48","198.18.2.0/24","2001:db8:12::/48""#,
    );
    at_bird.raw = Some(
        "protocol static tagged { ipv4; route 203.0.113.0/24 blackhole { \
         bgp_community.add((65535,0)); bgp_large_community.add((64501,1,2)); }; }"
            .to_owned(),
    );
    // A MED is taken off on the way to another AS, except one that the last filter sets.
    for peering in at_bird.neighbors.iter_mut().filter(|it| it.address.is_ipv4()) {
        peering.raw = Some(
            "ipv4 { import all; export filter { if source != RTS_STATIC then reject; bgp_med = 7; accept; }; };"
                .to_owned(),
        );
    }
    let at_frr = config(
        64502,
        &join(pair("bird", 1, 1, 64501, md5), pair("gobgp", 3, 2, 64503, "")),
        r#""198.51.102.0/24","2001:db8:2::/48","198.18.1.0/24","2001:db8:11::/48""#,
    );
    let at_gobgp = config(
        64503,
        &join(pair("bird", 2, 1, 64501, gtsm), pair("frr", 3, 1, 64502, "")),
        r#""198.51.103.0/24","2001:db8:3::/48","198.18.1.0/24","2001:db8:11::/48","198.18.2.0/24","2001:db8:12::/48""#,
    );
    let mut routers: Vec<Box<dyn Router>> = Vec::new();
    for (kind, host, config) in
        [(Kind::Bird, &bird, at_bird), (Kind::Frr, &frr, at_frr), (Kind::Gobgp, &gobgp, at_gobgp)]
    {
        let mut router = make(kind, host, &dir.0.join(host.name()), config).unwrap();
        router.start().unwrap();
        router.wait_ready(Duration::from_secs(10)).unwrap();
        routers.push(router);
    }
    for router in &routers {
        eventually(&format!("four sessions at {}: {:?}", router.name(), router.sessions()), || {
            let sessions = router.sessions().unwrap();
            sessions.len() == 4 && sessions.iter().all(|session| session.is_established())
        });
    }
    for (number, origin) in ["bird", "frr", "gobgp"].into_iter().enumerate() {
        for seen_at in routers.iter().filter(|router| router.name() != origin) {
            let name = seen_at.name();
            let four = format!("198.51.10{}.0/24", number + 1);
            let six = format!("2001:db8:{}::/48", number + 1);
            for (prefix, from) in [(four, origin.to_owned()), (six, format!("{origin}-six"))] {
                eventually(&format!("{prefix} at {name}: {:?}", seen_at.routes(None)), || {
                    the_route(&**seen_at, &prefix, &from)
                        .is_some_and(|it| it.best && it.in_fib == (name != "gobgp"))
                });
                let route = the_route(&**seen_at, &prefix, &from).unwrap();
                assert_eq!(route.as_path, [64501 + number as u32], "{prefix} at {name}");
                let listed = seen_at.routes(None).unwrap();
                assert!(listed.contains(&route), "{prefix} at {name}: {route:?} is not in {listed:?}");
            }
        }
    }
    for seen_at in &routers[1..] {
        let route = the_route(&**seen_at, "203.0.113.0/24", "bird").unwrap();
        assert_eq!(route.med, Some(7), "{}", seen_at.name());
        assert_eq!(
            (route.communities, route.large_communities),
            (vec!["65535:0".into()], vec!["64501:1:2".into()])
        );
        assert!(seen_at.routes(Some("192.0.2.0/24")).unwrap().is_empty());
        // Nothing learned is passed on.
        assert_eq!(seen_at.routes(Some("203.0.113.0/24")).unwrap().len(), 1);
    }
    // What two of them announce, the third forwards to both.
    for (number, prefix) in
        [(0, "198.18.1.0/24"), (0, "2001:db8:11::/48"), (1, "198.18.2.0/24"), (1, "2001:db8:12::/48")]
    {
        eventually(&format!("{prefix} over both: {:?}", routers[number].routes(Some(prefix))), || {
            let routes = routers[number].routes(Some(prefix)).unwrap();
            routes.len() == 2 && routes.iter().all(|route| route.in_fib)
        });
    }
    routers[0].process_mut().unwrap().kill().unwrap();
    for seen_at in &routers[1..] {
        eventually("what the dead one said is gone", || {
            seen_at.routes(Some("203.0.113.0/24")).unwrap().is_empty()
        });
        let sessions = seen_at.sessions().unwrap();
        let lost = sessions.iter().find(|session| session.neighbor == "bird").unwrap();
        assert!(!lost.is_established() && !lost.info.is_empty(), "{lost:?}");
    }
    routers[0].start().unwrap();
    routers[0].wait_ready(Duration::from_secs(10)).unwrap();
    eventually("it comes back at frr", || the_route(&*routers[1], "203.0.113.0/24", "bird").is_some());
}

#[test]
fn a_wrong_key_and_a_ttl_one_too_low_keep_the_session_down() {
    if !may_run("refusals") {
        return;
    }
    let dir = Dir::new("refusals");
    let kinds = [(Kind::Bird, "bird"), (Kind::Frr, "frr"), (Kind::Gobgp, "gobgp")];
    let [strict, loose] = ["strict", "loose"].map(|name| Namespace::create(name).unwrap());
    link(&strict, &loose, 1);
    let start = |kind, host: &Namespace, name: &str, asn, neighbors: &str| {
        let mut router = make(kind, host, &dir.0.join(name), config(asn, neighbors, "")).unwrap();
        router.start().unwrap();
        router.wait_ready(Duration::from_secs(10)).unwrap();
        router
    };
    let at_strict = r#"{"name":"four","address":"10.9.1.2","asn":64502,"password":"right"},
        {"name":"six","address":"fd09:1::2","asn":64502,"ttl_security":true}"#;
    for (kind, name) in kinds {
        let judge = start(Kind::Bird, &strict, &format!("judge-{name}"), 64501, at_strict);
        let at_loose = |key: &str, ttl: u8| {
            let ttl =
                if ttl == 255 { r#""ttl_security":true"#.to_owned() } else { format!(r#""ttl":{ttl}"#) };
            format!(
                r#"{{"name":"four","address":"10.9.1.1","asn":64501,"password":"{key}"}},
                   {{"name":"six","address":"fd09:1::1","asn":64501,{ttl}}}"#
            )
        };
        let wrong = start(kind, &loose, &format!("{name}-wrong"), 64502, &at_loose("wrong", 254));
        // Several times the retry.
        std::thread::sleep(Duration::from_secs(4));
        // Only the strict one knows: the other hears everything, and may believe in the session.
        let sessions = judge.sessions().unwrap();
        assert!(
            sessions.len() == 2 && !sessions.iter().any(|it| it.is_established()),
            "{name}: {sessions:?}"
        );
        drop(wrong);
        // A new judge: the old one may wait minutes for an OPEN on a connection whose every packet GTSM drops, even its end.
        drop(judge);
        let judge = start(Kind::Bird, &strict, &format!("judge-{name}-again"), 64501, at_strict);
        let _right = start(kind, &loose, &format!("{name}-right"), 64502, &at_loose("right", 255));
        eventually(&format!("{name} with the right key and TTL"), || {
            judge.sessions().unwrap().iter().all(|session| session.is_established())
        });
    }
}

#[test]
fn exabgp_announces_while_its_check_succeeds() {
    if !may_run("exabgp") {
        return;
    }
    let dir = Dir::new("exabgp");
    let [bird, exa] = ["bird", "exa"].map(|name| Namespace::create(name).unwrap());
    link(&bird, &exa, 1);
    let neighbor = r#"{"name":"exa","address":"10.9.1.2","asn":64502,"passive":true,"families":["ipv4"]}"#;
    let mut router = make(Kind::Bird, &bird, &dir.0.join("bird"), config(64501, neighbor, "")).unwrap();
    router.start().unwrap();
    router.wait_ready(Duration::from_secs(10)).unwrap();
    let well = dir.0.join("well");
    std::fs::write(&well, "").unwrap();
    let check =
        HealthCheck::tightest(&format!("test -e {}", well.display()), vec!["198.51.100.0/24".to_owned()]);
    let neighbor = r#"{"name":"bird","address":"10.9.1.1","asn":64501,"local":"10.9.1.2"}"#;
    let speaker = config(64502, neighbor, r#""203.0.113.0/24""#);
    let mut exabgp = Exabgp::new(&exa, &dir.0.join("exa"), speaker, Some(check)).unwrap();
    exabgp.start().unwrap();
    eventually("announced", || the_route(&*router, "198.51.100.0/24", "exa").is_some());
    assert!(the_route(&*router, "203.0.113.0/24", "exa").is_some());
    std::fs::remove_file(&well).unwrap();
    let failed = Instant::now();
    eventually("withdrawn", || the_route(&*router, "198.51.100.0/24", "exa").is_none());
    eprintln!("exabgp at its tightest: withdrawn after {:?}", failed.elapsed());
    assert!(the_route(&*router, "203.0.113.0/24", "exa").is_some(), "only what is checked is withdrawn");
}
