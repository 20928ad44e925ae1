//! Two connections with one neighbor: which one stays (RFC 4271 §6.8, RFC 6286 §2.3).

use std::net::Ipv4Addr;

use crate::config::bgp::Asn;

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// We dialled.
    Dialled,
    /// The neighbor dialled and we accepted.
    Accepted,
}

impl Origin {
    /// Both, in the order in which they are served.
    pub const BOTH: [Self; 2] = [Self::Dialled, Self::Accepted];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Dialled => Self::Accepted,
            Self::Accepted => Self::Dialled,
        }
    }
}

/// How far a connection has come, as far as the arbiter cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Its OPEN has not arrived: nothing is known about the other end.
    Unknown,
    /// OpenConfirm.
    OpenConfirm,
    Established,
}

/// One end of a session as the arbiter compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speaker {
    pub id: Ipv4Addr,
    pub asn: Asn,
}

/// Asked when the OPEN of `newer` has just been accepted while the other connection exists and is
/// in `other`. Answers which connection must close, if one must by now.
#[must_use]
pub fn loser(local: Speaker, remote: Speaker, newer: Origin, other: Progress) -> Option<Origin> {
    match other {
        // The collision is judged when the second OPEN arrives; until then both may live.
        Progress::Unknown => None,
        // RFC 4271 §6.8: a connection in Established wins over one that is being formed.
        Progress::Established => Some(newer),
        Progress::OpenConfirm => {
            // The connection opened by the speaker with the higher identifier stays; with equal
            // identifiers the higher AS number decides (RFC 6286 §2.3).
            let ours_stays = (local.id, local.asn) > (remote.id, remote.asn);
            Some(if ours_stays { Origin::Accepted } else { Origin::Dialled })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaker(id: [u8; 4], asn: u32) -> Speaker {
        Speaker { id: id.into(), asn: Asn(asn) }
    }

    #[test]
    fn the_rules_of_section_6_8() {
        let low = speaker([10, 0, 0, 1], 65001);
        let high = speaker([10, 0, 0, 2], 65002);
        let twin = speaker([10, 0, 0, 1], 65009);
        let table = [
            // (local, remote, newer, other, who must close)
            (low, high, Origin::Accepted, Progress::Unknown, None),
            (low, high, Origin::Accepted, Progress::OpenConfirm, Some(Origin::Dialled)),
            (low, high, Origin::Dialled, Progress::OpenConfirm, Some(Origin::Dialled)),
            (high, low, Origin::Accepted, Progress::OpenConfirm, Some(Origin::Accepted)),
            (high, low, Origin::Dialled, Progress::OpenConfirm, Some(Origin::Accepted)),
            (low, high, Origin::Accepted, Progress::Established, Some(Origin::Accepted)),
            (high, low, Origin::Dialled, Progress::Established, Some(Origin::Dialled)),
            (low, twin, Origin::Accepted, Progress::OpenConfirm, Some(Origin::Dialled)),
            (twin, low, Origin::Accepted, Progress::OpenConfirm, Some(Origin::Accepted)),
        ];
        for (local, remote, newer, other, expected) in table {
            assert_eq!(
                loser(local, remote, newer, other),
                expected,
                "{local:?} {remote:?} {newer:?} {other:?}"
            );
        }
    }

    #[test]
    fn both_ends_close_the_same_connection() {
        let (a, b) = (speaker([1, 1, 1, 1], 1), speaker([2, 2, 2, 2], 2));
        for newer in Origin::BOTH {
            let at_a = loser(a, b, newer, Progress::OpenConfirm).unwrap();
            let at_b = loser(b, a, newer.other(), Progress::OpenConfirm).unwrap();
            assert_eq!(at_a, at_b.other());
        }
    }
}
