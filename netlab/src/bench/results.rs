//! From samples to figures: medians, ratios of the same round, goals, and the table for people. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::column::{Column, Rival};
use super::measure::{Outcome, Sample};
use super::peer::Peer;
use crate::figures::{Figure, Goal, nearest_rank};

/// All samples of a run, by round.
#[derive(Debug, Default)]
pub struct Results {
    samples: BTreeMap<(Column, Peer), BTreeMap<usize, Sample>>,
}

/// Which number of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    PerCpu,
    PerWall,
    Kilobytes,
    P50,
    P99,
    Cpu,
}

impl Results {
    /// Takes one.
    pub fn add(&mut self, column: Column, peer: Peer, round: usize, sample: Sample) {
        self.samples.entry((column, peer)).or_default().insert(round, sample);
    }

    /// Every figure: `COLUMN_PEER…` for all, and edgeproxy's ratios with their goals.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<String, Figure> {
        let mut figures = BTreeMap::new();
        for (column, peer) in self.samples.keys() {
            self.measured(*column, *peer, &mut figures);
        }
        for column in self.columns() {
            self.compared(column, &mut figures);
        }
        let mut broken: BTreeMap<Peer, (u64, usize)> = BTreeMap::new();
        for ((_, peer), rounds) in &self.samples {
            let (sum, n) = broken.entry(*peer).or_default();
            *sum += rounds.values().map(|sample| sample.broken.count).sum::<u64>();
            *n += rounds.len();
        }
        for (peer, (sum, n)) in broken {
            let goal = (peer == Peer::EdgeProxy).then_some("= 0");
            put(&mut figures, format!("broken_{peer}"), Figure::single(sum as f64, "connections", n), goal);
        }
        figures
    }

    /// The best peer of each column.
    #[must_use]
    pub fn best(&self) -> BTreeMap<String, String> {
        let best = |column: Column| Some((column.to_string(), self.best_of(column)?.to_string()));
        self.columns().into_iter().filter_map(best).collect()
    }

    /// What a peer reached in the column so far, per second on the wall: the median.
    #[must_use]
    pub fn per_second(&self, column: Column, peer: Peer) -> Option<f64> {
        self.median(column, peer, View::PerWall)
    }

    /// The first words about a broken connection of each peer.
    #[must_use]
    pub fn breakages(&self) -> Vec<String> {
        let mut words = Vec::new();
        for ((column, peer), rounds) in &self.samples {
            let count: u64 = rounds.values().map(|sample| sample.broken.count).sum();
            let first = rounds.values().find_map(|sample| sample.broken.first.as_ref());
            if let Some(first) = first {
                words.push(format!("{column}, {peer}: {count} broken, the first: {first}"));
            }
        }
        words
    }

    /// Columns down, peers across: medians per processor second of the proxy, and per second on the wall.
    #[must_use]
    pub fn table(&self) -> String {
        let peers: Vec<Peer> =
            Peer::ALL.into_iter().filter(|peer| self.samples.keys().any(|(_, one)| one == peer)).collect();
        let mut text = String::new();
        for (title, views) in [
            ("per processor second of the proxy", &[View::PerCpu][..]),
            ("per second on the wall", &[View::PerWall]),
            ("at rest and at half load", &[View::Kilobytes, View::P50, View::P99, View::Cpu]),
        ] {
            let mut rows = Vec::new();
            for column in self.columns() {
                for view in views {
                    let cells: Vec<_> = peers.iter().map(|peer| self.median(column, *peer, *view)).collect();
                    if cells.iter().any(Option::is_some) {
                        rows.push((row_name(column, *view), cells));
                    }
                }
            }
            if rows.is_empty() {
                continue;
            }
            let _ = write!(text, "{title:<34}");
            for peer in &peers {
                let _ = write!(text, "{:>17}", peer.word());
            }
            text.push('\n');
            for (name, cells) in rows {
                let _ = write!(text, "  {name:<32}");
                for cell in cells {
                    let shown = cell.map_or_else(|| "-".to_owned(), short);
                    let _ = write!(text, "{shown:>17}");
                }
                text.push('\n');
            }
        }
        text
    }

    fn columns(&self) -> Vec<Column> {
        Column::ALL.into_iter().filter(|column| self.samples.keys().any(|(one, _)| one == column)).collect()
    }

    fn measured(&self, column: Column, peer: Peer, figures: &mut BTreeMap<String, Figure>) {
        let (unit, _) = column.unit();
        let views: [(View, &str, String); 6] = [
            (View::PerCpu, "per_cpu", format!("{unit}/cpu-s")),
            (View::PerWall, "per_wall", format!("{unit}/s")),
            (View::Kilobytes, "memory", "KB".to_owned()),
            (View::P50, "p50", "µs".to_owned()),
            (View::P99, "p99", "µs".to_owned()),
            (View::Cpu, "cpu", "%".to_owned()),
        ];
        for (view, suffix, unit) in views {
            let goal = match view {
                View::Kilobytes if peer == Peer::EdgeProxy => column.memory_goal(),
                _ => None,
            };
            if let Some(figure) = Figure::from_samples(&self.values(column, peer, view), &unit) {
                put(figures, format!("{column}_{peer}_{suffix}"), figure, goal);
            }
        }
    }

    /// Edgeproxy against its rivals, each round against the same round.
    fn compared(&self, column: Column, figures: &mut BTreeMap<String, Figure>) {
        for (rival, goal) in column.goals() {
            let (peer, name) = match rival {
                Rival::Best => (self.best_of(column), "best".to_owned()),
                Rival::Of(peer) => (Some(peer), peer.to_string()),
            };
            let ratios = peer.map(|peer| self.ratios(column, peer, View::PerCpu)).unwrap_or_default();
            if let Some(figure) = Figure::from_samples(&ratios, "×") {
                put(figures, format!("{column}_over_{name}"), figure, Some(goal));
            }
        }
        if column == Column::Latency {
            let best = self.best_of(column).map(|peer| self.ratios(column, peer, View::P50));
            // The HAProxy that needs less.
            let haproxy = self.lowest(column, View::Cpu, Peer::is_haproxy);
            let haproxy = haproxy.map(|peer| self.ratios(column, peer, View::Cpu));
            for (name, ratios, goal) in
                [("p50_over_best", best, "<= 1.05 x"), ("cpu_over_haproxy", haproxy, "<= 0.85 x")]
            {
                if let Some(figure) = Figure::from_samples(&ratios.unwrap_or_default(), "×") {
                    put(figures, format!("{column}_{name}"), figure, Some(goal));
                }
            }
        }
    }

    fn best_of(&self, column: Column) -> Option<Peer> {
        match column {
            Column::Idle | Column::IdleTls => self.lowest(column, View::Kilobytes, |_| true),
            Column::Latency => self.lowest(column, View::P50, |_| true),
            _ => {
                let median = |peer: &Peer| self.median(column, *peer, View::PerCpu).unwrap_or(0.0);
                let rivals = Peer::ALL.into_iter().filter(|peer| *peer != Peer::EdgeProxy);
                rivals.filter(|peer| median(peer) > 0.0).max_by(|a, b| median(a).total_cmp(&median(b)))
            }
        }
    }

    /// The rival with the lowest median.
    fn lowest(&self, column: Column, view: View, among: impl Fn(Peer) -> bool) -> Option<Peer> {
        let rivals = Peer::ALL.into_iter().filter(|peer| *peer != Peer::EdgeProxy && among(*peer));
        let medians = rivals.filter_map(|peer| Some((peer, self.median(column, peer, view)?)));
        medians.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(peer, _)| peer)
    }

    fn ratios(&self, column: Column, rival: Peer, view: View) -> Vec<f64> {
        let rounds = |peer: Peer| self.samples.get(&(column, peer));
        let (Some(ours), Some(theirs)) = (rounds(Peer::EdgeProxy), rounds(rival)) else { return Vec::new() };
        let ratio = |(round, sample): (&usize, &Sample)| {
            Some(view.of(column, &sample.outcome)? / view.of(column, &theirs.get(round)?.outcome)?)
        };
        ours.iter().filter_map(ratio).collect()
    }

    fn median(&self, column: Column, peer: Peer, view: View) -> Option<f64> {
        let mut values = self.values(column, peer, view);
        values.sort_by(f64::total_cmp);
        nearest_rank(&values, 50.0)
    }

    fn values(&self, column: Column, peer: Peer, view: View) -> Vec<f64> {
        let rounds = self.samples.get(&(column, peer)).into_iter().flat_map(BTreeMap::values);
        rounds.filter_map(|sample| view.of(column, &sample.outcome)).collect()
    }
}

impl View {
    fn of(self, column: Column, outcome: &Outcome) -> Option<f64> {
        let (_, counts) = column.unit();
        match (self, *outcome) {
            (View::PerCpu, Outcome::Work { work, cpu, .. }) => Some(work / counts / cpu.max(1e-9)),
            (View::PerWall, Outcome::Work { work, wall, .. }) => Some(work / counts / wall.max(1e-9)),
            (View::Kilobytes, Outcome::Memory { kilobytes }) => Some(kilobytes),
            (View::P50, Outcome::Latency { p50, .. }) => Some(p50),
            (View::P99, Outcome::Latency { p99, .. }) => Some(p99),
            (View::Cpu, Outcome::Latency { cpu_percent, .. }) => Some(cpu_percent),
            _ => None,
        }
    }
}

fn row_name(column: Column, view: View) -> String {
    match view {
        View::PerCpu | View::PerWall => format!("{column} ({})", column.unit().0),
        View::Kilobytes => format!("{column} (KB a connection)"),
        View::P50 => format!("{column} p50 (µs)"),
        View::P99 => format!("{column} p99 (µs)"),
        View::Cpu => format!("{column} (% of a processor)"),
    }
}

pub(super) fn short(value: f64) -> String {
    match value.abs() {
        huge if huge >= 1000.0 => format!("{value:.0}"),
        large if large >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub(super) fn put(figures: &mut BTreeMap<String, Figure>, name: String, figure: Figure, goal: Option<&str>) {
    let judged = goal.and_then(|goal| {
        let goal: Goal = goal.parse().ok()?;
        figure.clone().with_goal(goal).ok()
    });
    figures.insert(name, judged.unwrap_or(figure));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::Broken;

    fn work(per_cpu: f64) -> Sample {
        let outcome = Outcome::Work { work: per_cpu * 0.5, wall: 1.0, cpu: 0.5 };
        Sample { outcome, broken: Broken::default() }
    }

    fn results(columns: &[(Column, Peer, &[f64])]) -> Results {
        let mut results = Results::default();
        for (column, peer, values) in columns {
            for (round, value) in values.iter().enumerate() {
                results.add(*column, *peer, round, work(*value));
            }
        }
        results
    }

    #[test]
    fn ratios_are_of_the_same_round_and_against_the_best_median() {
        let column = Column::Connections;
        let results = results(&[
            // The machine halves its speed in the second round: the ratio does not see it.
            (column, Peer::EdgeProxy, &[240.0, 120.0, 240.0]),
            (column, Peer::Nginx, &[200.0, 100.0, 200.0]),
            (column, Peer::Envoy, &[100.0, 900.0, 100.0]),
        ]);
        let figures = results.figures();
        let ratio = &figures["connections_over_best"];
        assert_eq!((ratio.min, ratio.max, ratio.n), (Some(1.2), Some(1.2), 3));
        assert_eq!(ratio.met, Some(true));
        assert_eq!(results.best()["connections"], "nginx");
        assert_eq!(figures["connections_nginx_per_wall"].value, 100.0);
        assert_eq!(figures["broken_edgeproxy"].met, Some(true));
        assert_eq!(figures["broken_nginx"].met, None);
        assert!(results.table().contains("nginx"));
    }

    #[test]
    fn a_round_that_one_of_them_lacks_is_left_out() {
        let column = Column::Small64;
        let mut results =
            results(&[(column, Peer::EdgeProxy, &[150.0]), (column, Peer::HaproxySplice, &[100.0])]);
        results.add(column, Peer::EdgeProxy, 1, work(7.0));
        let figures = results.figures();
        assert_eq!(figures["small_64_over_haproxy_splice"].n, 1);
        assert_eq!(figures["small_64_over_haproxy_splice"].value, 1.5);
        assert!(!figures.contains_key("small_64_over_haproxy_nosplice"));
    }

    #[test]
    fn latency_is_judged_by_the_lowest_p50_and_the_thriftier_haproxy() {
        let mut results = Results::default();
        for (peer, p50, cpu_percent) in [
            (Peer::EdgeProxy, 40.0, 20.0),
            (Peer::HaproxySplice, 50.0, 30.0),
            (Peer::HaproxyNosplice, 60.0, 25.0),
            (Peer::Copy, 39.0, 80.0),
        ] {
            let outcome = Outcome::Latency { p50, p99: 100.0, cpu_percent };
            let broken = Broken { count: 1, first: Some("reset".to_owned()) };
            results.add(Column::Latency, peer, 0, Sample { outcome, broken });
        }
        let figures = results.figures();
        assert_eq!(figures["latency_cpu_over_haproxy"].value, 0.8);
        assert_eq!(figures["latency_p50_over_best"].value, 40.0 / 39.0);
        assert_eq!(figures["broken_edgeproxy"].met, Some(false));
        assert_eq!(results.breakages().len(), 4);
    }
}
