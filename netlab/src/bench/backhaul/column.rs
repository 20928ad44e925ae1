//! The columns of the comparison: what is carried, and what edgeproxy should reach against whom.

use std::fmt;

use super::peer::Peer;
use super::results::View;

/// One kind of work. The order is that of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// One TCP stream from one end to the other.
    Stream,
    /// More IPv6 packets of 64 octets than can be carried.
    Flood,
    /// As many of them as all can carry.
    Packets,
}

/// A goal: of which number, against whom, how much.
pub type Goal = (View, Peer, &'static str);

impl Column {
    pub const ALL: [Column; 3] = [Self::Stream, Self::Flood, Self::Packets];

    /// Its word in figures and on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stream => "tcp_stream",
            Self::Flood => "flood_64",
            Self::Packets => "packets_64",
        }
    }

    /// What edgeproxy's number should be, as a multiple of the rival's.
    #[must_use]
    pub fn goals(self) -> &'static [Goal] {
        match self {
            Self::Stream => &[
                (View::PerSecond, Peer::WireguardGo, ">= 5 x"),
                (View::Cost, Peer::WireguardGo, "<= 0.17 x"),
            ],
            Self::Packets => &[(View::Cost, Peer::Boringtun, "<= 0.9 x")],
            Self::Flood => &[],
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The columns whose words begin as one of these do; all if there are none.
///
/// # Errors
/// With the words there are, when one fits nothing.
pub fn chosen(words: &[String]) -> Result<Vec<Column>, String> {
    crate::bench::choice::chosen(&Column::ALL, Column::word, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_chosen_by_their_beginning_and_goals_can_be_read() {
        assert_eq!(chosen(&[]).unwrap(), Column::ALL);
        assert_eq!(chosen(&["pack".to_owned()]).unwrap(), [Column::Packets]);
        assert!(chosen(&["udp".to_owned()]).unwrap_err().contains("flood_64"));
        for (_, _, goal) in Column::ALL.iter().flat_map(|column| column.goals()) {
            assert!(goal.parse::<crate::figures::Goal>().is_ok(), "{goal}");
        }
    }
}
