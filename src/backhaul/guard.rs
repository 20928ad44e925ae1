//! The packet filter around the 6PN: who may use its addresses, and which of our ports peers may reach.
//!
//! One table of nftables, the same for both planes, written whole in one transaction.

use std::fmt::Write;

use crate::config::backhaul::{Backhaul, Port, RELAY_PORT};
use crate::config::listen::Protocol;

/// The table's name, for operators who look: `nft list table inet edgeproxy_6pn`.
pub const TABLE: &str = "edgeproxy_6pn";

/// What `nft -f -` is given. Everything that is not named is denied.
#[must_use]
pub fn rules(backhaul: &Backhaul) -> String {
    let Backhaul { fleet, place, interface, ingress, replication, probe, peers, .. } = backhaul;
    let ours = fleet.subnet(*place);
    // The first line makes the table if there is none, so that the second can take it away.
    let mut text = format!("table inet {TABLE} {{}}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    // Before routing and before local delivery: a source of the fleet comes out of a tunnel, or from this machine.
    line("  chain source {\n    type filter hook prerouting priority raw; policy accept;".to_owned());
    line(format!("    iifname != {{ \"{interface}\", \"lo\" }} ip6 saddr {fleet} counter drop"));
    line("  }\n  chain infrastructure {".to_owned());
    line("    ct state established,related accept".to_owned());
    line("    meta l4proto 58 accept".to_owned());
    line(format!("    udp dport {} accept", probe.port));
    line(format!("    udp dport {RELAY_PORT} accept"));
    if let Some(ingress) = ingress {
        line(format!("    tcp dport {ingress} accept"));
    }
    if let Some(replication) = replication {
        line(format!("    udp dport {replication} accept"));
    }
    for peer in peers.iter().filter(|peer| !peer.allow.is_empty()) {
        let from = fleet.subnet(peer.place);
        for Port { protocol, port } in &peer.allow {
            let protocol = if *protocol == Protocol::Tcp { "tcp" } else { "udp" };
            line(format!("    ip6 saddr {from} {protocol} dport {port} accept"));
        }
    }
    line("    counter drop\n  }".to_owned());
    line("  chain input {\n    type filter hook input priority filter; policy accept;".to_owned());
    let infrastructure = ipnetwork::Ipv6Network::new(ours.network(), 64).map_or(ours, |net| net);
    line(format!("    iifname \"{interface}\" ip6 daddr {infrastructure} jump infrastructure"));
    // The plane lets in only sources of peers, but what they want is for our subnet or for nobody.
    line(format!("    iifname \"{interface}\" ip6 daddr != {ours} counter drop"));
    line("  }\n  chain forward {\n    type filter hook forward priority mangle; policy accept;".to_owned());
    line(format!("    oifname \"{interface}\" tcp flags syn / syn,rst tcp option maxseg size set rt mtu"));
    line(format!("    iifname \"{interface}\" tcp flags syn / syn,rst tcp option maxseg size set rt mtu"));
    // Peers do not reach each other through us: what is carried between them is sealed (see `relay`).
    line(format!("    iifname \"{interface}\" oifname \"{interface}\" counter drop"));
    line(format!("    iifname \"{interface}\" ip6 daddr != {ours} counter drop"));
    line("  }\n}".to_owned());
    text
}

/// What takes the table away.
#[must_use]
pub fn removal() -> String {
    format!("table inet {TABLE} {{}}\ndelete table inet {TABLE}\n")
}
