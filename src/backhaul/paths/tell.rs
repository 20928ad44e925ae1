//! The status document of the backhaul.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backhaul::fabric::{Fabric, View};
use crate::backhaul::link::{State, Way};
use crate::backhaul::plane::{Keys, Report};
use crate::backhaul::tunnel::{Drops, PrivateKey, Reason};
use crate::catalog::tunnels::{Tunnel, Tunnels};
use crate::config::backhaul::{Backhaul, key_text};
use crate::observe::status::backhaul::{BackhaulStatus, PeerStatus};

/// Of all peers.
pub(super) fn tunnels(config: &Backhaul, fabric: &Fabric, now: Instant) -> Tunnels {
    let tunnel = |view: View<'_>| Tunnel {
        node: config.fleet.node(view.peer.place),
        up: view.state == State::Up,
        rtt: view.link.inside().rtt,
    };
    fabric.views(now).map(|(name, view)| (Arc::clone(name), tunnel(view))).collect()
}

pub(super) fn status(
    config: &Backhaul,
    keys: &Keys,
    report: &Report,
    fabric: &Fabric,
    now: Instant,
) -> BackhaulStatus {
    let key = |key: &PrivateKey| key_text(&key.public().0);
    let micros = |time: Duration| time.as_micros() as u64;
    let millis = |time: Duration| time.as_millis() as u64;
    let peers = fabric.views(now).map(|(name, view)| {
        let plane = report.peers.get(name).copied().unwrap_or_default();
        let (inside, outside) = (view.link.inside(), view.link.outside());
        PeerStatus {
            pop: name.to_string(),
            state: view.state.word().to_owned(),
            way: match view.link.way() {
                Way::Direct(_) => "direct".to_owned(),
                Way::Relay(relay) => format!("via {relay}"),
            },
            endpoint: plane.endpoint.map(|at| at.to_string()),
            node: config.fleet.node(view.peer.place).to_string(),
            mtu: view.mtu,
            last_handshake_ms: plane.last_handshake.map(|at| millis(now.saturating_duration_since(at))),
            handshakes_failed: plane.handshakes_failed,
            rx_packets: plane.rx_packets,
            rx_bytes: plane.rx_octets,
            tx_packets: plane.tx_packets,
            tx_bytes: plane.tx_octets,
            rtt_us: inside.rtt.map(micros),
            jitter_us: micros(inside.jitter),
            loss: rounded(inside.loss),
            underlay_rtt_us: outside.and_then(|outside| outside.rtt).map(micros),
            underlay_loss: outside.map(|outside| rounded(outside.loss)),
            told_ms: view.told.map(millis),
            drops: drops(&plane.drops),
        }
    });
    BackhaulStatus {
        backend: report.kind.word().to_owned(),
        interface: config.interface.clone(),
        fleet: config.fleet.to_string(),
        node: config.node().to_string(),
        public_key: key(&keys.present),
        next_public_key: keys.next.as_ref().map(key),
        offloads: report.offloads.iter().map(|word| (*word).to_owned()).collect(),
        under_load: report.under_load,
        cookies: report.cookies,
        unreachable: report.unreachable,
        too_big: report.too_big,
        drops: drops(&report.drops),
        peers: peers.collect(),
        ..BackhaulStatus::default()
    }
}

fn drops(drops: &Drops) -> BTreeMap<String, u64> {
    let counted = Reason::ALL.into_iter().map(|reason| (reason.word().to_owned(), drops.of(reason)));
    counted.filter(|(_, count)| *count > 0).collect()
}

fn rounded(share: f64) -> f64 {
    (share * 1000.0).round() / 1000.0
}
