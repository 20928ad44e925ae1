//! Replication's metrics: what is known, what moves, and who is reached.

use prometheus::proto::MetricFamily;

use super::{counter, flag, gauge, micros, sample};
use crate::observe::status::fleet::{FleetStatus, MemberStatus};

pub(super) fn of_fleet(it: &FleetStatus) -> Vec<MetricFamily> {
    let one = |name, help, value: f64| gauge(name, help, [sample(&[], value)]);
    let total = |name, help, value: u64| counter(name, help, [sample(&[], value as f64)]);
    let each = |name, help, read: fn(&MemberStatus) -> Option<f64>| {
        let read =
            it.members.iter().filter_map(move |member| Some(sample(&[("pop", &member.pop)], read(member)?)));
        gauge(name, help, read)
    };
    vec![
        one("edgeproxy_replication_up", "1 while replication runs.", flag(it.error.is_none())),
        one(
            "edgeproxy_replication_silenced",
            "1 while an elder process has this POP's name.",
            flag(it.silenced),
        ),
        one("edgeproxy_replication_rows", "Rows of all POPs, tombstones included.", it.rows as f64),
        one("edgeproxy_replication_memory_bytes", "What they take in memory, about.", it.octets as f64),
        one("edgeproxy_replication_behind", "POPs of which somebody has more than we.", it.behind as f64),
        one(
            "edgeproxy_replication_alarms",
            "POPs of which something needs an operator.",
            it.alarms.len() as f64,
        ),
        one(
            "edgeproxy_replication_vanished",
            "POPs that vanished at once, so that rather this one is cut off.",
            it.vanished.unwrap_or(0) as f64,
        ),
        one(
            "edgeproxy_replication_certificate_expiry_timestamp_seconds",
            "When this POP's certificate ends.",
            it.certificate_ends as f64,
        ),
        total("edgeproxy_replication_pushed_total", "Batches told to others.", it.pushed),
        total("edgeproxy_replication_taken_total", "Batches that were news.", it.taken),
        total("edgeproxy_replication_known_total", "Batches that were known already.", it.known),
        total("edgeproxy_replication_refused_total", "Batches over a limit, or not whole.", it.refused),
        total("edgeproxy_replication_hurried_total", "Batches of POPs that write too fast.", it.hurried),
        total("edgeproxy_replication_unverified_total", "Batches not signed by their origin.", it.unverified),
        total("edgeproxy_replication_fetched_total", "Answers to questions for rows.", it.fetched),
        total("edgeproxy_replication_compared_total", "Comparisons with others.", it.compared),
        each("edgeproxy_replication_peer_connected", "1 while a connection leads there.", |member| {
            Some(flag(member.connected))
        }),
        each("edgeproxy_replication_peer_alive", "0 if the whole fleet takes it for down.", |member| {
            member.standing.as_deref().map(|standing| flag(standing != "down"))
        }),
        each("edgeproxy_replication_peer_rtt_seconds", "Round trip of the connection.", |member| {
            member.rtt_us.map(micros)
        }),
        each(
            "edgeproxy_replication_peer_lacks_versions",
            "Our versions that it lacked when it asked last.",
            |member| member.lacks.map(|lacks| lacks as f64),
        ),
        each(
            "edgeproxy_replication_peer_certificate_days",
            "Until the certificate ends that it signs with.",
            |member| member.certificate_days.map(|days| days as f64),
        ),
    ]
}
