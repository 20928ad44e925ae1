//! From one desired set of peers to the next: what to change, and nothing else.

use super::plane::{Name, PeerWanted, Wanted};

/// One change of a plane. Removals come first, so that a prefix or a key can move from one peer to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Remove(Name),
    Add(Name, PeerWanted),
    /// The same peer, otherwise: sessions of keys that stay are kept.
    Update(Name, PeerWanted),
}

/// What makes `want` of `have`. Peers that are the same in both are not mentioned.
#[must_use]
pub fn changes(have: &Wanted, want: &Wanted) -> Vec<Change> {
    let removed =
        have.peers.keys().filter(|name| !want.peers.contains_key(*name)).cloned().map(Change::Remove);
    let others = want.peers.iter().filter_map(|(name, peer)| match have.peers.get(name) {
        Some(same) if same == peer => None,
        Some(_) => Some(Change::Update(name.clone(), peer.clone())),
        None => Some(Change::Add(name.clone(), peer.clone())),
    });
    removed.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::super::plane::Endpoint;
    use super::super::tunnel::{Pair, PublicKey};
    use super::*;

    fn peer(number: u8) -> PeerWanted {
        PeerWanted {
            keys: Pair::only(PublicKey([number; 32])),
            preshared: None,
            allowed: format!("fd00:1:2:10{number:x}0::/60").parse().unwrap(),
            keepalive: None,
            endpoint: None,
            mtu: 1420,
        }
    }

    fn set(peers: &[(&str, PeerWanted)]) -> Wanted {
        Wanted { peers: peers.iter().map(|(name, peer)| (Name::from(*name), peer.clone())).collect() }
    }

    #[test]
    fn only_what_differs_is_changed() {
        let have = set(&[("a", peer(1)), ("b", peer(2)), ("c", peer(3))]);
        assert_eq!(changes(&have, &have), []);
        let mut moved = peer(2);
        moved.endpoint = Some(Endpoint { address: "192.0.2.1:51820".parse().unwrap(), turn: 1 });
        let want = set(&[("a", peer(1)), ("b", moved.clone()), ("d", peer(3))]);
        let expected =
            [Change::Remove("c".into()), Change::Update("b".into(), moved), Change::Add("d".into(), peer(3))];
        assert_eq!(changes(&have, &want), expected);
    }
}
