//! The columns of the comparison: what is done, what is counted, and what edgeproxy should reach.

use std::fmt;

use super::peer::Peer;

/// One kind of work. The order is that of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Connect, one small request and its answer, the backend ends: 64 at a time.
    Connections,
    /// Small requests on 64 connections that stay.
    Small64,
    /// On 512.
    Small512,
    Download1,
    Download8,
    Upload1,
    Upload8,
    /// As `Connections`, with a full TLS 1.3 handshake each.
    TlsHandshakes,
    TlsDownload1,
    TlsDownload8,
    /// Memory of connections that were used once.
    Idle,
    IdleTls,
    /// Latency of an open loop at half of what HAProxy carries.
    Latency,
}

/// Against whom a goal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rival {
    /// Whichever peer has the best median in this run.
    Best,
    Of(Peer),
}

impl Column {
    pub const ALL: [Column; 13] = [
        Self::Connections,
        Self::Small64,
        Self::Small512,
        Self::Download1,
        Self::Download8,
        Self::Upload1,
        Self::Upload8,
        Self::TlsHandshakes,
        Self::TlsDownload1,
        Self::TlsDownload8,
        Self::Idle,
        Self::IdleTls,
        Self::Latency,
    ];

    /// Its word in figures and on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Small64 => "small_64",
            Self::Small512 => "small_512",
            Self::Download1 => "download_1",
            Self::Download8 => "download_8",
            Self::Upload1 => "upload_1",
            Self::Upload8 => "upload_8",
            Self::TlsHandshakes => "tls_handshakes",
            Self::TlsDownload1 => "tls_download_1",
            Self::TlsDownload8 => "tls_download_8",
            Self::Idle => "idle",
            Self::IdleTls => "idle_tls",
            Self::Latency => "latency",
        }
    }

    /// What a unit of work is called and how many counts make one.
    #[must_use]
    pub fn unit(self) -> (&'static str, f64) {
        match self {
            Self::Connections | Self::TlsHandshakes => ("connections", 1.0),
            Self::Small64 | Self::Small512 | Self::Latency => ("requests", 1.0),
            _ => ("MB", 1e6),
        }
    }

    /// Whether clients speak TLS.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::TlsHandshakes | Self::TlsDownload1 | Self::TlsDownload8 | Self::IdleTls)
    }

    /// Whether a peer takes part: splice changes nothing behind TLS.
    #[must_use]
    pub fn includes(self, peer: Peer) -> bool {
        !(self.is_tls() && peer == Peer::HaproxySplice)
    }

    /// What edgeproxy's work per processor second should be, as a multiple of a rival's.
    #[must_use]
    pub fn goals(self) -> Vec<(Rival, &'static str)> {
        let best = |goal| vec![(Rival::Best, goal)];
        let small = || {
            let haproxy = ">= 1.3 x";
            vec![
                (Rival::Best, ">= 1.05 x"),
                (Rival::Of(Peer::HaproxySplice), haproxy),
                (Rival::Of(Peer::HaproxyNosplice), haproxy),
            ]
        };
        match self {
            Self::Connections => best(">= 1.1 x"),
            Self::Small64 | Self::Small512 => small(),
            Self::Download1 | Self::Download8 => best(">= 1.0 x"),
            Self::Upload1 | Self::Upload8 => best(">= 1.2 x"),
            Self::TlsHandshakes => best(">= 1.6 x"),
            Self::TlsDownload1 | Self::TlsDownload8 => best(">= 1.05 x"),
            Self::Idle | Self::IdleTls | Self::Latency => Vec::new(),
        }
    }

    /// What an idle connection of edgeproxy may cost.
    #[must_use]
    pub fn memory_goal(self) -> Option<&'static str> {
        match self {
            Self::Idle => Some("<= 3 KB"),
            Self::IdleTls => Some("<= 12 KB"),
            _ => None,
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
    use crate::figures::Goal;

    #[test]
    fn columns_are_chosen_by_the_beginning_of_their_words() {
        let of = |words: &[&str]| chosen(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]).unwrap().len(), Column::ALL.len());
        assert_eq!(of(&["small", "idle_tls"]).unwrap(), [Column::Small64, Column::Small512, Column::IdleTls]);
        assert!(of(&["small", "smal1"]).unwrap_err().contains("latency"));
        assert!(of(&[""]).is_err());
    }

    #[test]
    fn every_goal_can_be_read() {
        for column in Column::ALL {
            let goals = column.goals().into_iter().map(|(_, goal)| goal).chain(column.memory_goal());
            for goal in goals {
                assert!(goal.parse::<Goal>().is_ok(), "{goal}");
            }
        }
    }
}
