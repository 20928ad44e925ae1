//! From samples to figures: medians, ratios of the same round, goals, and the table for people. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::column::Column;
use super::peer::Peer;
use crate::bench::results::{put, short};
use crate::figures::{Figure, nearest_rank};

/// What came of one measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Bits or packets that arrived.
    pub work: f64,
    /// Seconds on the wall.
    pub wall: f64,
    /// Processor seconds of both tunnel processes.
    pub cpu: f64,
    /// Bits or packets that were offered.
    pub sent: f64,
    /// TCP segments sent again in five seconds.
    pub retransmits: Option<f64>,
    /// Of the larger process, after the load.
    pub resident_kib: f64,
}

/// Which number of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Mbit or packets a second.
    PerSecond,
    /// Processor seconds of both processes per Gbit, or microseconds per packet.
    Cost,
    /// Segments in five seconds.
    Retransmits,
    /// MB (1,000,000 octets) of a process.
    Memory,
}

/// All samples of a run, by round.
#[derive(Debug, Default)]
pub struct Results {
    samples: BTreeMap<(Column, Peer), BTreeMap<usize, Sample>>,
    /// Packets a second that every peer was offered.
    pub offered: Option<u32>,
}

impl Results {
    /// Takes one.
    pub fn add(&mut self, column: Column, peer: Peer, round: usize, sample: Sample) {
        self.samples.entry((column, peer)).or_default().insert(round, sample);
    }

    /// Every figure: `COLUMN_PEER_…` for all, and edgeproxy's ratios with their goals.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<String, Figure> {
        let mut figures = BTreeMap::new();
        for (column, peer) in self.samples.keys() {
            for view in View::ALL {
                let values = self.values(*column, *peer, |sample| view.of(*column, sample));
                let goal = (view == View::Retransmits && *peer == Peer::EdgeProxy).then_some("<= 10");
                if let Some(figure) = Figure::from_samples(&values, view.unit(*column)) {
                    put(&mut figures, format!("{column}_{peer}_{}", view.word()), figure, goal);
                }
            }
        }
        for column in self.columns() {
            for (view, rival, goal) in column.goals() {
                let ratios = self.against(column, *rival, |ours, theirs| {
                    Some(view.of(column, ours)? / view.of(column, theirs)?)
                });
                if let Some(figure) = Figure::from_samples(&ratios, "×") {
                    put(&mut figures, format!("{column}_{}_over_{rival}", view.word()), figure, Some(goal));
                }
            }
        }
        if let Some(figure) = self.memory() {
            put(&mut figures, "memory_over_smallest".to_owned(), figure, Some("<= 15 MB"));
        }
        if let Some(rate) = self.offered {
            let figure = Figure::single(rate.into(), "packets/s", 1);
            put(&mut figures, "packets_64_offered".to_owned(), figure, None);
        }
        figures
    }

    /// Of each column, the peer with the lowest cost.
    #[must_use]
    pub fn best(&self) -> BTreeMap<String, String> {
        let cheapest = |column: Column| {
            let rivals = Peer::ALL.into_iter().filter(|peer| *peer != Peer::EdgeProxy);
            let costs = rivals.filter_map(|peer| Some((peer, self.median(column, peer, View::Cost)?)));
            let best = costs.min_by(|a, b| a.1.total_cmp(&b.1))?;
            Some((column.to_string(), best.0.to_string()))
        };
        self.columns().into_iter().filter_map(cheapest).collect()
    }

    /// Columns down, peers across: medians.
    #[must_use]
    pub fn table(&self) -> String {
        let peers: Vec<Peer> =
            Peer::ALL.into_iter().filter(|peer| self.samples.keys().any(|(_, one)| one == peer)).collect();
        let mut text = format!("{:<40}", "medians");
        for peer in &peers {
            let _ = write!(text, "{:>15}", peer.word());
        }
        text.push('\n');
        for column in self.columns() {
            for view in View::ALL {
                let cells: Vec<_> = peers.iter().map(|peer| self.median(column, *peer, view)).collect();
                if cells.iter().all(Option::is_none) {
                    continue;
                }
                let name = format!("{column} {} ({})", view.word(), view.unit(column));
                let _ = write!(text, "  {name:<38}");
                for cell in cells {
                    let _ = write!(text, "{:>15}", cell.map_or_else(|| "-".to_owned(), short));
                }
                text.push('\n');
            }
        }
        text
    }

    /// How much more one process of ours holds than one of the smallest rival, over all columns.
    fn memory(&self) -> Option<Figure> {
        let largest = |peer: Peer| {
            let medians = self.columns().into_iter().filter_map(|c| self.median(c, peer, View::Memory));
            medians.max_by(f64::total_cmp)
        };
        let rivals = Peer::ALL.into_iter().filter(|peer| *peer != Peer::EdgeProxy);
        let smallest = rivals.filter_map(largest).min_by(f64::total_cmp)?;
        let rounds = self.samples.iter().filter(|((_, peer), _)| *peer == Peer::EdgeProxy);
        let n = rounds.map(|(_, rounds)| rounds.len()).sum();
        Some(Figure::single(largest(Peer::EdgeProxy)? - smallest, "MB", n))
    }

    fn columns(&self) -> Vec<Column> {
        Column::ALL.into_iter().filter(|column| self.samples.keys().any(|(one, _)| one == column)).collect()
    }

    /// Ours with that of a rival, each round with the same round.
    fn against(
        &self,
        column: Column,
        rival: Peer,
        ratio: impl Fn(&Sample, &Sample) -> Option<f64>,
    ) -> Vec<f64> {
        let rounds = |peer: Peer| self.samples.get(&(column, peer));
        let (Some(ours), Some(theirs)) = (rounds(Peer::EdgeProxy), rounds(rival)) else { return Vec::new() };
        ours.iter().filter_map(|(round, sample)| ratio(sample, theirs.get(round)?)).collect()
    }

    fn median(&self, column: Column, peer: Peer, view: View) -> Option<f64> {
        let mut values = self.values(column, peer, |sample| view.of(column, sample));
        values.sort_by(f64::total_cmp);
        nearest_rank(&values, 50.0)
    }

    fn values(&self, column: Column, peer: Peer, of: impl Fn(&Sample) -> Option<f64>) -> Vec<f64> {
        let rounds = self.samples.get(&(column, peer)).into_iter().flat_map(BTreeMap::values);
        rounds.filter_map(of).collect()
    }
}

impl View {
    const ALL: [View; 4] = [Self::PerSecond, Self::Cost, Self::Retransmits, Self::Memory];

    fn word(self) -> &'static str {
        match self {
            Self::PerSecond => "per_wall",
            Self::Cost => "cpu",
            Self::Retransmits => "retransmits",
            Self::Memory => "memory",
        }
    }

    fn unit(self, column: Column) -> &'static str {
        match (self, column) {
            (Self::PerSecond, Column::Stream) => "Mbit/s",
            (Self::PerSecond, _) => "packets/s",
            (Self::Cost, Column::Stream) => "cpu-s/Gbit",
            (Self::Cost, _) => "cpu-µs/packet",
            (Self::Retransmits, _) => "segments in 5 s",
            (Self::Memory, _) => "MB",
        }
    }

    fn of(self, column: Column, sample: &Sample) -> Option<f64> {
        let (counts, seconds) = match column {
            Column::Stream => (1e6, 1e9),
            _ => (1.0, 1e6),
        };
        match self {
            Self::PerSecond => Some(sample.work / counts / sample.wall),
            Self::Cost => Some(sample.cpu / sample.work * seconds),
            Self::Retransmits => sample.retransmits,
            Self::Memory => Some(sample.resident_kib * 1.024 / 1e3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(work: f64, cpu: f64, resident_kib: f64, retransmits: Option<f64>) -> Sample {
        Sample { work, wall: 2.0, cpu, sent: work, retransmits, resident_kib }
    }

    #[test]
    fn ratios_are_of_the_same_round_in_the_units_of_the_goals() {
        let mut results = Results::default();
        // The machine halves its speed in the second round: the ratios do not see it.
        for (round, speed) in [1.0, 0.5].into_iter().enumerate() {
            let ours = sample(12e9 * speed, 1.5, 30_000.0, Some(4.0));
            results.add(Column::Stream, Peer::EdgeProxy, round, ours);
            let theirs = sample(2e9 * speed, 2.0, 20_000.0, Some(900.0));
            results.add(Column::Stream, Peer::WireguardGo, round, theirs);
        }
        results.add(Column::Packets, Peer::EdgeProxy, 0, sample(40_000.0, 0.1, 31_000.0, None));
        results.add(Column::Packets, Peer::Boringtun, 0, sample(40_000.0, 0.2, 9_000.0, None));
        let figures = results.figures();
        assert_eq!(figures["tcp_stream_edgeproxy_per_wall"].max, Some(6_000.0));
        assert_eq!(figures["tcp_stream_edgeproxy_cpu"].min, Some(0.125));
        let speed = &figures["tcp_stream_per_wall_over_wireguard_go"];
        assert_eq!((speed.min, speed.max, speed.met), (Some(6.0), Some(6.0), Some(true)));
        assert_eq!(figures["tcp_stream_cpu_over_wireguard_go"].met, Some(true));
        assert_eq!(figures["packets_64_edgeproxy_cpu"].value, 2.5);
        assert_eq!(figures["packets_64_cpu_over_boringtun"].value, 0.5);
        assert_eq!(figures["tcp_stream_edgeproxy_retransmits"].met, Some(true));
        assert_eq!(figures["tcp_stream_wireguard_go_retransmits"].met, None);
        // 31,000 KiB in the worst column, against boringtun's 9,000.
        assert_eq!(figures["memory_over_smallest"].met, Some(false));
        assert_eq!(results.best()["packets_64"], "boringtun");
        assert!(results.table().contains("wireguard_go"));
    }

    #[test]
    fn without_ours_there_is_nothing_to_judge() {
        let mut results = Results::default();
        results.add(Column::Stream, Peer::WireguardGo, 0, sample(1e9, 1.0, 1_000.0, Some(0.0)));
        assert!(results.figures().values().all(|figure| figure.goal.is_none()));
    }
}
