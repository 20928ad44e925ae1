//! Status documents for tests: one POP with every kind of thing in it.

use std::sync::Arc;

use super::journal::recent::Recent;
use super::journal::{Entry, Event, Route};
use super::status::backhaul::{BackhaulStatus, PeerStatus};
use super::status::choice::{AffinityStatus, CandidateStatus, ChoiceStatus};
use super::status::traffic::CertificateStatus;
use super::status::{
    AddressStatus, BackendStatus, DampingStatus, DrainStatus, LeaseStatus, LeasesStatus, NeighborStatus,
    PrefixStatus, ProcessStatus, SentRoute, ServiceStatus,
};

pub(crate) fn process() -> ProcessStatus {
    ProcessStatus {
        version: "0.1.0".into(),
        pop: "gru1".into(),
        region: "sa".into(),
        generation: 7,
        uptime_ms: 93_784_000,
        pid: 4242,
        phase: "running".into(),
        refused_reload: None,
        hung_threads: Vec::new(),
        pending: None,
        undone: None,
        leases: Some(LeasesStatus {
            lease_us: 60_000,
            jitter_us: vec![(0.5, 12), (0.9999, 1_279)],
            age_us: vec![Some(7_000), None],
        }),
    }
}

pub(crate) fn neighbors() -> Vec<Arc<NeighborStatus>> {
    let established = NeighborStatus {
        announced: vec![sent("198.51.100.0/24")],
        ..neighbor("transit-a", "192.0.2.1", "Established", None)
    };
    let problem = Some("connection refused: is BGP running there?");
    [established, neighbor("transit-b", "192.0.2.2", "Active", problem)].map(Arc::new).into()
}

pub(crate) fn prefixes() -> Vec<PrefixStatus> {
    vec![
        prefix("198.51.100.0/24", "announced"),
        prefix("2001:db8:100::/48", "withdrawn"),
        prefix("2001:db8:100:1::/64", "held"),
    ]
}

pub(crate) fn services() -> Vec<ServiceStatus> {
    vec![ServiceStatus {
        service: "web".into(),
        state: "up".into(),
        since_ms: 61_000,
        healthy_weight: 2,
        total_weight: 6,
        low: 1,
        high: 2,
        degrade: Some(3),
        backends: vec![
            backend("web-1", "up", None),
            backend("web-2", "down", Some("connection refused")),
            backend("web-3", "unproven", None),
        ],
    }]
}

/// A client that is bound, and a backend of every kind.
pub(crate) fn choice() -> ChoiceStatus {
    let candidate = |number: u8, verdict: &str, why_not: Option<&str>| CandidateStatus {
        id: format!("web-{number}"),
        address: format!("10.0.0.{number}:8080"),
        region: "sa".into(),
        verdict: verdict.into(),
        since_ms: Some(302_000),
        error: (verdict == "down").then(|| "connection refused".into()),
        rtt_us: (verdict == "up").then_some(500),
        ejected_ms: None,
        open: 1,
        soft_limit: 100,
        hard_limit: 150,
        weight: 2,
        weight_now: 2.0,
        slow_start_ms: None,
        geo: 100,
        far: 0,
        load: 0.005,
        score: 100.005,
        chance: if why_not.is_none() { 1.0 } else { 0.0 },
        why: why_not.is_none().then(|| "bound".into()),
        why_not: why_not.map(str::to_owned),
    };
    let mut backends = vec![
        candidate(1, "up", None),
        candidate(2, "down", Some("down")),
        candidate(3, "unproven", Some("ejected")),
        candidate(4, "up", Some("bound-elsewhere")),
    ];
    (backends[0].weight_now, backends[0].slow_start_ms) = (0.5, Some(7_500));
    backends[2].ejected_ms = Some(8_000);
    let affinity = AffinityStatus { ttl_ms: 600_000, backend: Some("web-1".into()), left_ms: Some(552_000) };
    ChoiceStatus {
        service: "web".into(),
        client: "203.0.113.7".into(),
        source: "203.0.113.7".into(),
        has_geo: true,
        country: Some("br".into()),
        region: Some("sa".into()),
        pop_region: "sa".into(),
        listens: true,
        panic: false,
        attempts: 3,
        affinity: Some(affinity),
        backends,
    }
}

/// One that is well, one that ends soon, one that is over, and one of our own.
pub(crate) fn certificates() -> Vec<CertificateStatus> {
    let certificate = |name: &str, left_s: Option<i64>, problem: Option<&str>| CertificateStatus {
        service: "web".into(),
        listener: "198.51.100.1:443".into(),
        names: vec![name.into(), format!("*.{name}")],
        self_signed: left_s.is_none(),
        not_after: left_s.map(|left| (1_795_391_941 + left) as u64),
        left_s,
        problem: problem.map(str::to_owned),
    };
    vec![
        certificate("a.example", Some(40 * 86_400), None),
        certificate("b.example", Some(86_400), Some("ends in 1 day: renew it")),
        certificate("c.example", Some(-7_200), Some("ended 2 hours ago")),
        certificate("d.example", None, Some("self-signed")),
    ]
}

fn neighbor(name: &str, address: &str, state: &str, problem: Option<&str>) -> NeighborStatus {
    NeighborStatus {
        name: name.into(),
        address: address.into(),
        asn: 64500,
        state: state.into(),
        in_state_ms: 312_000,
        problem: problem.map(str::to_owned),
        last_error: None,
        local_address: Some("192.0.2.10".into()),
        remote_id: None,
        hold_time_s: Some(90),
        families: vec!["ipv4".into()],
        established_count: 1,
        messages_in: 20,
        messages_out: 21,
        updates_in: 3,
        updates_out: 1,
        prefixes_received: 900_000,
        prefixes_withdrawn: 4,
        treated_as_withdraw: 0,
        announced: Vec::new(),
    }
}

fn sent(prefix: &str) -> SentRoute {
    SentRoute {
        prefix: prefix.into(),
        route: Arc::new(Route {
            next_hop: "192.0.2.10".into(),
            as_path: vec![64512, 64512],
            med: Some(50),
            communities: vec!["64512:100".into()],
            large_communities: Vec::new(),
        }),
        sent_ms_ago: 310_000,
    }
}

fn prefix(prefix: &str, state: &str) -> PrefixStatus {
    PrefixStatus {
        prefix: prefix.into(),
        state: state.into(),
        reason: "healthy".into(),
        why: "all its services are up".into(),
        change: "web falling to weight 1 or less withdraws it".into(),
        since_ms: 310_000,
        addresses: vec![AddressStatus {
            address: "198.51.100.1".into(),
            device: "lo".into(),
            state: if state == "held" { "missing".into() } else { "ours".into() },
            error: (state == "held").then(|| "no such device".into()),
        }],
        cause: None,
        services: vec!["web".into()],
        drain: (state == "draining").then(|| DrainStatus {
            step: "de-preferred".into(),
            words: "new fan".into(),
            begun_ms: 5_000,
            step_ms: 5_000,
            deadline_ms: Some(295_000),
            open_flows: Some(12),
            new_flows_per_second: Some(3.5),
        }),
        damping: (state == "withdrawn").then_some(DampingStatus {
            failures: 3,
            dwell_ms: 4_000,
            left_ms: Some(2_500),
        }),
        lease: (state != "announced").then(|| LeaseStatus {
            state: if state == "withdrawn" { "expired".into() } else { "valid".into() },
            oldest_ms: Some(if state == "withdrawn" { 4_084 } else { 12 }),
            lease_ms: 60,
            what: (state == "withdrawn")
                .then(|| "worker 1 has served nothing for 60 ms (lease 60 ms)".into()),
        }),
    }
}

fn backend(id: &str, verdict: &str, error: Option<&str>) -> BackendStatus {
    BackendStatus {
        id: id.into(),
        target: "10.0.0.5:8080".into(),
        region: "sa".into(),
        weight: 2,
        verdict: verdict.into(),
        since_ms: 61_000,
        error: error.map(str::to_owned),
        rtt_us: (verdict == "up").then_some(1_250),
        last_probe_ms_ago: Some(400),
        probes: 61,
        failures: 3,
        held_connection: "open".into(),
    }
}

pub(crate) fn entry(seq: u64, cause: Option<&str>, event: Event) -> Entry {
    // 2026-11-22T23:59:01.123Z
    Entry { seq, at_ms: 1_795_391_941_123, cause: cause.map(|id| id.parse().unwrap()), event }
}

/// A backend's end, what followed from it, and another prefix.
pub(crate) fn recent() -> Recent {
    let mut recent = Recent::default();
    for entry in [
        entry(11, Some("69220f3a000010"), verdict("web-1", "down")),
        entry(12, Some("69220f3a000010"), decision("198.51.100.0/24", "withdrawn")),
        entry(13, Some("69220f3a000018"), decision("2001:db8:100::/48", "withdrawn")),
        entry(14, None, Event::Stopped),
    ] {
        recent.push(entry);
    }
    recent
}

pub(crate) fn verdict(backend: &str, verdict: &str) -> Event {
    Event::Verdict {
        service: "web".into(),
        backend: backend.into(),
        target: "10.0.0.5:8080".into(),
        verdict: verdict.into(),
        error: (verdict == "down").then(|| "connection refused".into()),
    }
}

pub(crate) fn decision(prefix: &str, state: &str) -> Event {
    Event::Decision {
        prefix: prefix.into(),
        state: state.into(),
        before: if state == "announced" { "withdrawn".into() } else { "announced".into() },
        reason: "below-watermark".into(),
        why: "service web has 0 of 6 weight healthy".into(),
    }
}

/// A backhaul with one peer.
pub(crate) fn backhaul() -> BackhaulStatus {
    let peer = PeerStatus {
        pop: "fra1".to_owned(),
        state: "up".to_owned(),
        way: "direct".to_owned(),
        endpoint: Some("192.0.2.7:51820".to_owned()),
        last_handshake_ms: Some(12_000),
        rx_bytes: 5_000_000,
        rtt_us: Some(20_400),
        drops: [("replayed".to_owned(), 3)].into(),
        ..PeerStatus::default()
    };
    BackhaulStatus {
        backend: "userspace".to_owned(),
        interface: "edge6pn".to_owned(),
        node: "fd5a:1c7e:92b4:3010::1".to_owned(),
        offloads: vec!["tso".to_owned(), "gso".to_owned()],
        mtu: 1420,
        drops: [("bad_mac".to_owned(), 2)].into(),
        peers: vec![peer],
        ..BackhaulStatus::default()
    }
}
