//! The words of fleet and replication that differ.

use std::sync::Arc;

use super::{Word, Words};
use crate::config::replication::{Peer, Replication};

/// The words that a reload changes, and those that it cannot.
pub(in crate::config::diff) fn replication(
    old: Option<&Arc<Replication>>,
    new: Option<&Arc<Replication>>,
) -> (Vec<Word>, Vec<Word>) {
    let (mut words, mut restart) = (Words::default(), Words::default());
    let (Some(old), Some(new)) = (old, new) else {
        let set = |it: &Option<&Arc<Replication>>| {
            it.map_or("off".to_owned(), |it| format!("fleet {} at {}", it.fleet, it.listen))
        };
        restart.compare("replication", &old, &new, set);
        return (words.done(), restart.done());
    };
    let Replication { fleet, voters, listen, advertise, certificate, key, authorities, peers, limits } =
        &**old;
    restart.text("fleet.name", fleet, &new.fleet);
    restart.text("replication.listen", listen, &new.listen);
    words.debug("fleet.voters", voters, &new.voters);
    words.debug("replication.advertise", advertise, &new.advertise);
    // What is in the files is shown nowhere: that it is another is enough.
    let file = |same: bool| if same { "as it was" } else { "another" }.to_owned();
    let files =
        |it: &Replication| (it.certificate == *certificate && it.key == *key, it.authorities == *authorities);
    let (same_identity, same_authorities) = files(new);
    words.compare("replication.certificate", &true, &same_identity, |same| file(*same));
    words.compare("replication.authorities", &true, &same_authorities, |same| file(*same));
    let names = |peers: &Vec<Peer>| {
        let shown = |peer: &Peer| match &peer.address {
            Some(address) => format!("{} {address}", peer.pop),
            None => peer.pop.clone(),
        };
        format!("[{}]", peers.iter().map(shown).collect::<Vec<_>>().join(", "))
    };
    words.compare("replication.peers", peers, &new.peers, names);
    words.debug("replication.limits", limits, &new.limits);
    (words.done(), restart.done())
}
