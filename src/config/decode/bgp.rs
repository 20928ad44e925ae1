//! Reads the `bgp` section, but for each neighbor.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::neighbor::{self, Speaker};
use crate::config::bgp::{Bgp, Family, Neighbor, Shutdown};
use crate::config::read::{Spot, Unique};

const MOST_NEIGHBORS: usize = 256;
const MOST_LISTENERS: usize = 16;

/// The section as far as it could be read.
pub(super) struct Read {
    pub(super) bgp: Option<Bgp>,
    /// Nothing in it was refused.
    sound: bool,
}

impl Read {
    /// The families that some neighbor carries; None if what was refused might carry more.
    pub(super) fn carried(&self) -> Option<BTreeSet<Family>> {
        let bgp = self.bgp.as_ref().filter(|_| self.sound)?;
        Some(bgp.neighbors.iter().flat_map(|neighbor| neighbor.families.iter().copied()).collect())
    }
}

pub(super) fn decode(spot: &Spot<'_>, base: &Path) -> Option<Read> {
    let before = spot.sheet().count();
    let mut fields = spot.fields()?;
    let asn = fields.need("asn").and_then(|spot| neighbor::asn(&spot));
    let router_id = fields.need("router_id").and_then(|spot| router_id(&spot));
    let listen = fields.get("listen").map_or_else(|| Some(default_listen()), |spot| listen(&spot));
    let shutdown = fields.get("shutdown").and_then(|spot| shutdown(&spot)).unwrap_or_default();
    // Whoever cannot be read is believed to listen: one problem should not look like two.
    let speaker = Speaker { asn, listens: listen.as_ref().is_none_or(|listen| !listen.is_empty()), base };
    let neighbors = fields.need("neighbors").and_then(|spot| neighbors(&spot, &speaker));
    fields.close(&[]);
    let bgp = (|| {
        Some(Bgp { asn: asn?, router_id: router_id?, listen: listen?, shutdown, neighbors: neighbors? })
    })();
    Some(Read { bgp, sound: spot.sheet().count() == before })
}

fn router_id(spot: &Spot<'_>) -> Option<Ipv4Addr> {
    let id = spot.ipv4()?;
    if id.is_unspecified() {
        // RFC 6286 §2.1.
        spot.refuse("0.0.0.0 is no BGP identifier", "use an IPv4 address of this machine");
        return None;
    }
    Some(id)
}

fn default_listen() -> Vec<SocketAddr> {
    vec![(Ipv4Addr::UNSPECIFIED, 179).into(), (Ipv6Addr::UNSPECIFIED, 179).into()]
}

fn listen(spot: &Spot<'_>) -> Option<Vec<SocketAddr>> {
    let mut unique = Unique::default();
    let mut listen = Vec::new();
    for spot in spot.list(MOST_LISTENERS)? {
        if let Some(socket) = spot.socket()
            && unique.claim(&spot, &socket.to_string())
        {
            listen.push(socket);
        }
    }
    Some(listen)
}

fn shutdown(spot: &Spot<'_>) -> Option<Shutdown> {
    let mut fields = spot.fields()?;
    let default = Shutdown::default();
    let range = Duration::ZERO..=Duration::from_secs(600);
    let graceful = fields.get("graceful").and_then(|spot| spot.duration(range));
    // RFC 9003 would allow 255 octets; RFC 8203 speakers read 128.
    let text = fields.get("text").and_then(|spot| spot.line(128));
    fields.close(&[]);
    Some(Shutdown {
        graceful: graceful.unwrap_or(default.graceful),
        text: text.map_or(default.text, str::to_owned),
    })
}

fn neighbors(spot: &Spot<'_>, speaker: &Speaker<'_>) -> Option<Vec<Neighbor>> {
    let (mut names, mut sockets) = (Unique::default(), Unique::default());
    let list = spot.filled_list(MOST_NEIGHBORS)?;
    Some(list.iter().filter_map(|spot| neighbor::decode(spot, speaker, &mut names, &mut sockets)).collect())
}
