//! The backhaul's metrics: the plane, and the link to each peer.

use prometheus::proto::MetricFamily;

use super::{counter, flag, gauge, micros, sample, seconds};
use crate::observe::status::backhaul::{BackhaulStatus, PeerStatus};

const STATES: [&str; 5] = ["starting", "up", "lossy", "tunnel-broken", "silent"];

pub(super) fn of_backhaul(it: &BackhaulStatus) -> Vec<MetricFamily> {
    let one = |name, help, value: f64| gauge(name, help, [sample(&[], value)]);
    let total = |name, help, value: u64| counter(name, help, [sample(&[], value as f64)]);
    let mut families = vec![
        gauge(
            "edgeproxy_backhaul_info",
            "Always 1; its labels say who carries packets, and with which offloads.",
            [sample(
                &[
                    ("backend", &it.backend),
                    ("offloads", &it.offloads.join(" ")),
                    ("interface", &it.interface),
                ],
                1.0,
            )],
        ),
        one(
            "edgeproxy_backhaul_up",
            "1 while packets are carried and the packet filter is in place.",
            flag(it.error.is_none()),
        ),
        one("edgeproxy_backhaul_mtu_bytes", "The longest packet inside.", f64::from(it.mtu)),
        one(
            "edgeproxy_backhaul_under_load",
            "1 while strangers must prove their address before a handshake.",
            flag(it.under_load),
        ),
        total("edgeproxy_backhaul_cookies_total", "Proofs of address that were asked for.", it.cookies),
        total(
            "edgeproxy_backhaul_unreachable_packets_total",
            "Packets to addresses that no peer has.",
            it.unreachable,
        ),
        total(
            "edgeproxy_backhaul_too_big_packets_total",
            "Packets longer than their path, answered with its MTU.",
            it.too_big,
        ),
        total(
            "edgeproxy_backhaul_carried_datagrams_total",
            "Sealed datagrams of two others that were carried.",
            it.carried,
        ),
        counter(
            "edgeproxy_backhaul_dropped_datagrams_total",
            "Datagrams that are of no peer, by reason.",
            it.drops.iter().map(|(reason, count)| sample(&[("reason", reason)], *count as f64)),
        ),
    ];
    families.extend(of_peers(&it.peers));
    families
}

fn of_peers(peers: &[PeerStatus]) -> Vec<MetricFamily> {
    let total = |name, help, read: fn(&PeerStatus) -> u64| {
        counter(name, help, peers.iter().map(move |it| sample(&[("peer", &it.pop)], read(it) as f64)))
    };
    let known = |name, help, read: fn(&PeerStatus) -> Option<f64>| {
        gauge(name, help, peers.iter().filter_map(move |it| Some(sample(&[("peer", &it.pop)], read(it)?))))
    };
    vec![
        gauge(
            "edgeproxy_backhaul_peer_state",
            "1 for the state that the link to a peer is in.",
            peers.iter().flat_map(|it| {
                STATES.map(|state| sample(&[("peer", &it.pop), ("state", state)], flag(it.state == state)))
            }),
        ),
        known("edgeproxy_backhaul_peer_relayed", "1 while a third POP carries the datagrams.", |it| {
            Some(flag(it.way != "direct"))
        }),
        known("edgeproxy_backhaul_peer_last_handshake_age_seconds", "Since the last handshake.", |it| {
            it.last_handshake_ms.map(seconds)
        }),
        known("edgeproxy_backhaul_peer_rtt_seconds", "Round trip inside the tunnel, averaged.", |it| {
            it.rtt_us.map(micros)
        }),
        known("edgeproxy_backhaul_peer_jitter_seconds", "Its variation (RFC 3550).", |it| {
            it.rtt_us.map(|_| micros(it.jitter_us))
        }),
        known(
            "edgeproxy_backhaul_peer_loss_ratio",
            "Probes lost inside the tunnel, averaged, 0 to 1.",
            |it| Some(it.loss),
        ),
        known(
            "edgeproxy_backhaul_peer_underlay_rtt_seconds",
            "Round trip outside the tunnel, averaged.",
            |it| it.underlay_rtt_us.map(micros),
        ),
        known(
            "edgeproxy_backhaul_peer_underlay_loss_ratio",
            "Probes lost outside the tunnel, averaged, 0 to 1.",
            |it| it.underlay_loss,
        ),
        known("edgeproxy_backhaul_peer_mtu_bytes", "The longest packet that gets to the peer.", |it| {
            Some(f64::from(it.mtu))
        }),
        total(
            "edgeproxy_backhaul_peer_received_bytes_total",
            "Octets of packets that came from the peer.",
            |it| it.rx_bytes,
        ),
        total("edgeproxy_backhaul_peer_received_packets_total", "Packets that came from the peer.", |it| {
            it.rx_packets
        }),
        total("edgeproxy_backhaul_peer_sent_bytes_total", "Octets of packets sealed for the peer.", |it| {
            it.tx_bytes
        }),
        total("edgeproxy_backhaul_peer_sent_packets_total", "Packets sealed for the peer.", |it| {
            it.tx_packets
        }),
        total(
            "edgeproxy_backhaul_peer_handshakes_failed_total",
            "Handshakes begun that found no answer.",
            |it| it.handshakes_failed,
        ),
        counter(
            "edgeproxy_backhaul_peer_dropped_packets_total",
            "Packets and datagrams of the peer that were dropped, by reason.",
            peers.iter().flat_map(|it| {
                it.drops
                    .iter()
                    .map(|(reason, count)| sample(&[("peer", &it.pop), ("reason", reason)], *count as f64))
            }),
        ),
    ]
}
