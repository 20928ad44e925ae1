//! The words of the backhaul that differ, and those of one peer.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Word, Words};
use crate::config::backhaul::{Backhaul, Peer, Probe, key_text};

/// The words that a reload changes, and those that it cannot: what packets inside are made of and where they come in.
pub(in crate::config::diff) fn section(
    old: Option<&Arc<Backhaul>>,
    new: Option<&Arc<Backhaul>>,
) -> (Vec<Word>, Vec<Word>) {
    let (mut words, mut restart) = (Words::default(), Words::default());
    let (Some(old), Some(new)) = (old, new) else {
        let set = |it: &Option<&Arc<Backhaul>>| {
            it.map_or("off".to_owned(), |it| format!("{} at {}", it.fleet, it.place))
        };
        restart.compare("backhaul", &old, &new, set);
        return (words.done(), restart.done());
    };
    let Backhaul {
        fleet,
        place,
        private_key_file,
        next_private_key_file,
        backend,
        interface,
        listen,
        mtu,
        offload_tun,
        offload_udp,
        ingress,
        // It is said by another section.
        replication: _,
        relay,
        probe,
        from_fleet,
        peers: _,
    } = &**old;
    restart.text("backhaul.fleet", fleet, &new.fleet);
    restart.text("backhaul.number", place, &new.place);
    restart.text("backhaul.backend", backend, &new.backend);
    restart.text("backhaul.interface", interface, &new.interface);
    restart.text("backhaul.listen", listen, &new.listen);
    let auto = |it: &Option<u16>| it.map_or("auto".to_owned(), |mtu| mtu.to_string());
    restart.compare("backhaul.mtu", mtu, &new.mtu, auto);
    restart.text("backhaul.offload.tun", offload_tun, &new.offload_tun);
    restart.text("backhaul.offload.udp", offload_udp, &new.offload_udp);
    let off = |it: &Option<u16>| it.map_or("off".to_owned(), |port| port.to_string());
    restart.compare("backhaul.ingress", ingress, &new.ingress, off);
    let Probe { interval, timeout, port } = probe;
    restart.text("backhaul.probe.port", port, &new.probe.port);

    words.debug("backhaul.probe.interval", interval, &new.probe.interval);
    words.debug("backhaul.probe.timeout", timeout, &new.probe.timeout);
    words.text("backhaul.relay", relay, &new.relay);
    words.text("backhaul.from_fleet", from_fleet, &new.from_fleet);
    let file = |it: &PathBuf| it.display().to_string();
    words.compare("backhaul.private_key_file", private_key_file, &new.private_key_file, file);
    let next = |it: &Option<PathBuf>| it.as_ref().map_or("none".to_owned(), file);
    words.compare("backhaul.next_private_key_file", next_private_key_file, &new.next_private_key_file, next);
    (words.done(), restart.done())
}

/// The words of a peer that differ.
pub(in crate::config::diff) fn peer(old: &Peer, new: &Peer) -> Vec<Word> {
    let Peer {
        pop: _,
        region,
        place,
        public_key,
        next_public_key,
        preshared,
        endpoints,
        ingress,
        keepalive,
        allow,
    } = old;
    let mut words = Words::default();
    words.text("region", region, &new.region);
    words.text("number", place, &new.place);
    words.compare("public_key", public_key, &new.public_key, key_text);
    let next = |it: &Option<[u8; 32]>| it.as_ref().map_or("none".to_owned(), key_text);
    words.compare("next_public_key", next_public_key, &new.next_public_key, next);
    words.hidden("preshared_key_file", preshared.as_ref(), new.preshared.as_ref());
    words.list("endpoints", endpoints, &new.endpoints);
    words.text("ingress", ingress, &new.ingress);
    words.or_off("keepalive", keepalive.unwrap_or_default(), new.keepalive.unwrap_or_default());
    words.list("allow", allow, &new.allow);
    words.done()
}
