//! Status documents for tests: one POP with every kind of thing in it.

use super::status::{
    AddressStatus, BackendStatus, NeighborStatus, PrefixStatus, ProcessStatus, SentRoute, ServiceStatus,
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
        pending: None,
        undone: None,
    }
}

pub(crate) fn neighbors() -> Vec<NeighborStatus> {
    vec![
        NeighborStatus {
            announced: vec![sent("198.51.100.0/24")],
            ..neighbor("transit-a", "192.0.2.1", "Established", None)
        },
        neighbor("transit-b", "192.0.2.2", "Active", Some("connection refused: is BGP running there?")),
    ]
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
        next_hop: "192.0.2.10".into(),
        as_path: vec![64512, 64512],
        med: Some(50),
        communities: vec!["64512:100".into()],
        large_communities: Vec::new(),
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
        services: vec!["web".into()],
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
