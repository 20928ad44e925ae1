//! The backhaul as a screen: what carries packets, and the link to each peer.

use std::fmt::Write;

use super::age;
use crate::admin::table::Table;
use crate::observe::status::backhaul::{BackhaulStatus, PeerStatus};

/// The whole of it.
#[must_use]
pub fn backhaul(it: &BackhaulStatus) -> String {
    let mut screen = String::new();
    if let Some(error) = &it.error {
        let _ = writeln!(screen, "The backhaul is not in order: {error}\n");
    }
    if it.backend.is_empty() {
        return screen;
    }
    let with = if it.offloads.is_empty() { "no offload".to_owned() } else { it.offloads.join(" ") };
    let _ = writeln!(
        screen,
        "{} on {} in {} ({with}), MTU {}, public key {}",
        it.node, it.interface, it.backend, it.mtu, it.public_key
    );
    if let Some(next) = &it.next_public_key {
        let _ = writeln!(screen, "Keys rotate: the next public key is {next}");
    }
    if it.under_load {
        screen += "So many handshakes come that strangers must prove their address first.\n";
    }
    let mut table = Table::new([
        "PEER",
        "STATE",
        "WAY",
        "ENDPOINT",
        "RTT",
        "LOSS",
        "HANDSHAKE",
        "RECEIVED",
        "SENT",
        "DROPPED",
    ]);
    for peer in &it.peers {
        table.row([
            &peer.pop,
            &peer.state,
            &peer.way,
            peer.endpoint.as_deref().unwrap_or("-"),
            &peer.rtt_us.map_or("-".to_owned(), rtt),
            &format!("{:.0} %", peer.loss * 100.0),
            &peer.last_handshake_ms.map_or("never".to_owned(), |ms| format!("{} ago", age(ms))),
            &size(peer.rx_bytes),
            &size(peer.tx_bytes),
            &dropped(peer),
        ]);
    }
    screen += &super::shown(&table, "No peers are configured.");
    screen
}

fn rtt(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1000.0)
}

fn size(octets: u64) -> String {
    match octets {
        0..10_000 => format!("{octets} B"),
        10_000..10_000_000 => format!("{} kB", octets / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", octets / 1_000_000),
        _ => format!("{} GB", octets / 1_000_000_000),
    }
}

fn dropped(peer: &PeerStatus) -> String {
    let words: Vec<_> = peer.drops.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    words.join(", ")
}
