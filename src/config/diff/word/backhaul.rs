//! The words of the backhaul that differ.

use std::collections::{BTreeMap, BTreeSet};

use super::{Word, Words};
use crate::config::backhaul::{Backhaul, Offload, Peer, Probe};

/// The words that a reload changes, and those that it cannot: the interface and the port are made at the start.
pub(in crate::config::diff) fn backhaul(
    old: Option<&Backhaul>,
    new: Option<&Backhaul>,
) -> (Vec<Word>, Vec<Word>) {
    let mut restart = Words::default();
    let (mut words, there) = (Words::default(), |it: &bool| if *it { "there" } else { "none" }.to_owned());
    restart.compare("backhaul", &old.is_some(), &new.is_some(), there);
    let (Some(old), Some(new)) = (old, new) else { return (words.done(), restart.done()) };
    let Backhaul {
        fleet,
        place,
        private_key_file,
        next_private_key_file,
        backend,
        interface,
        listen,
        mtu,
        offload,
        ingress,
        relay,
        probe,
        peers,
    } = old;
    restart.text("backhaul.fleet", fleet, &new.fleet);
    restart.text("backhaul.number", place, &new.place);
    restart.debug("backhaul.backend", backend, &new.backend);
    restart.text("backhaul.interface", interface, &new.interface);
    restart.text("backhaul.listen", listen, &new.listen);
    let Offload { tun, udp } = offload;
    restart.text("backhaul.offload.tun", tun, &new.offload.tun);
    restart.text("backhaul.offload.udp", udp, &new.offload.udp);

    let path = |it: &Option<std::path::PathBuf>| {
        it.as_ref().map_or("none".to_owned(), |it| it.display().to_string())
    };
    words.compare("backhaul.private_key_file", private_key_file, &new.private_key_file, path);
    words.compare("backhaul.next_private_key_file", next_private_key_file, &new.next_private_key_file, path);
    words.compare("backhaul.mtu", mtu, &new.mtu, |it| it.map_or("auto".to_owned(), |it| it.to_string()));
    words.compare("backhaul.ingress", ingress, &new.ingress, |it| {
        it.map_or("off".to_owned(), |it| it.to_string())
    });
    words.text("backhaul.relay", relay, &new.relay);
    let Probe { interval, timeout, port } = probe;
    words.debug("backhaul.probe.interval", interval, &new.probe.interval);
    words.debug("backhaul.probe.timeout", timeout, &new.probe.timeout);
    restart.text("backhaul.probe.port", port, &new.probe.port);

    let by_pop = |peers: &[Peer]| -> BTreeMap<String, Peer> {
        peers.iter().map(|peer| (peer.pop.clone(), peer.clone())).collect()
    };
    let (old, new) = (by_pop(peers), by_pop(&new.peers));
    for pop in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let word = format!("backhaul.peers.{pop}");
        match (old.get(pop), new.get(pop)) {
            (Some(old), Some(new)) => peer(&mut words, &word, old, new),
            (old, new) => words.compare(&word, &old.is_some(), &new.is_some(), there),
        }
    }
    (words.done(), restart.done())
}

fn peer(words: &mut Words, word: &str, old: &Peer, new: &Peer) {
    let Peer {
        pop: _,
        region,
        place,
        public_key,
        next_public_key,
        preshared_key,
        endpoints,
        ingress,
        keepalive,
        allow,
    } = old;
    words.text(&format!("{word}.region"), region, &new.region);
    words.text(&format!("{word}.number"), place, &new.place);
    words.hidden(&format!("{word}.public_key"), Some(public_key), Some(&new.public_key));
    words.hidden(&format!("{word}.next_public_key"), next_public_key.as_ref(), new.next_public_key.as_ref());
    words.hidden(&format!("{word}.preshared_key_file"), preshared_key.as_ref(), new.preshared_key.as_ref());
    words.list(&format!("{word}.endpoints"), endpoints, &new.endpoints);
    words.text(&format!("{word}.ingress"), ingress, &new.ingress);
    let off =
        |it: &Option<std::time::Duration>| it.map_or("off".to_owned(), crate::config::duration::written);
    words.compare(&format!("{word}.keepalive"), keepalive, &new.keepalive, off);
    words.list(&format!("{word}.allow"), allow, &new.allow);
}
