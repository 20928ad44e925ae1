//! What became of every datagram: when it was sent, when and by whom it was answered, and the questions to that.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::moment::Moment;

/// Datagrams recorded: ten minutes at 5,000 a second, about 50 MB.
pub const MAX_PACKETS: usize = 3_000_000;
/// Names told apart; more than any lab has POPs.
const MAX_NAMES: usize = 250;

/// One entry per sequence number, from 0.
#[derive(Debug, Clone, Default)]
pub struct Record {
    sent: Vec<Moment>,
    /// ZERO: not answered.
    answered: Vec<Moment>,
    /// Index into `names`; meaningless where not answered.
    by: Vec<u8>,
    names: Vec<String>,
    /// Answers to what had been answered already.
    pub duplicates: u64,
    /// Answers that came after one to a later datagram.
    pub reordered: u64,
    latest: u64,
    /// Sends that the system refused (no route, ICMP unreachable): these count as sent and not answered.
    pub refused: u64,
}

/// The longest time without any answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub start: Moment,
    pub length: Duration,
}

impl Record {
    /// Notes a datagram about to leave; its sequence number, or `None` if the record is full.
    pub fn handle_sent(&mut self, at: Moment) -> Option<u64> {
        if self.sent.len() >= MAX_PACKETS {
            return None;
        }
        self.sent.push(at);
        self.answered.push(Moment::ZERO);
        self.by.push(0);
        Some(self.sent.len() as u64 - 1)
    }

    /// Notes an answer; one to a number never sent is ignored.
    pub fn handle_answer(&mut self, sequence: u64, at: Moment, name: &str) {
        let Ok(index) = usize::try_from(sequence) else { return };
        let by = match self.names.iter().position(|known| known == name) {
            Some(by) => by,
            None if self.names.len() < MAX_NAMES => {
                self.names.push(name.to_owned());
                self.names.len() - 1
            }
            None => return,
        };
        match self.answered.get_mut(index) {
            None => {}
            Some(answered) if *answered != Moment::ZERO => self.duplicates += 1,
            Some(answered) => {
                self.reordered += u64::from(sequence < self.latest);
                self.latest = self.latest.max(sequence);
                *answered = at;
                self.by[index] = by as u8;
            }
        }
    }

    /// Datagrams sent in `[after, before)`.
    pub fn sent(&self, after: Moment, before: Moment) -> u64 {
        self.rows().filter(|row| (after..before).contains(&row.sent)).count() as u64
    }

    /// Of the datagrams sent in `[after, before)`, how many were answered, whenever.
    pub fn answered(&self, after: Moment, before: Moment) -> u64 {
        let within = |row: &Row<'_>| (after..before).contains(&row.sent) && row.answer.is_some();
        self.rows().filter(within).count() as u64
    }

    /// `answered` per hundred `sent`; `None` if nothing was sent. Leave the last round trip out of the window.
    pub fn percent_answered(&self, after: Moment, before: Moment) -> Option<f64> {
        let sent = self.sent(after, before);
        (sent > 0).then(|| self.answered(after, before) as f64 * 100.0 / sent as f64)
    }

    /// Answers that arrived in `[after, before)`, by who gave them.
    pub fn by_pop(&self, after: Moment, before: Moment) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (at, name) in self.rows().filter_map(|row| row.answer) {
            if (after..before).contains(&at) {
                *counts.entry(name.to_owned()).or_default() += 1;
            }
        }
        counts
    }

    /// The arrival of the last answer by this POP at `after` or later, before `before`.
    pub fn last_answer(&self, pop: &str, after: Moment, before: Moment) -> Option<Moment> {
        self.answers(pop).map(|row| row.0).filter(|at| (after..before).contains(at)).max()
    }

    /// The sending of the last datagram, sent in `[after, before)`, that this POP answered: the last one that went there.
    pub fn last_sent_answered(&self, pop: &str, after: Moment, before: Moment) -> Option<Moment> {
        self.answers(pop).map(|row| row.1).filter(|at| (after..before).contains(at)).max()
    }

    /// The first answer by this POP at `after` or later.
    pub fn first_answer(&self, pop: &str, after: Moment) -> Option<Moment> {
        self.answers(pop).map(|row| row.0).filter(|at| *at >= after).min()
    }

    /// The longest time in `[after, before]` without an answer from anybody.
    pub fn longest_gap(&self, after: Moment, before: Moment) -> Gap {
        let mut times: Vec<Moment> = self.rows().filter_map(|row| row.answer).map(|(at, _)| at).collect();
        times.retain(|at| (after..before).contains(at));
        // Answers of different POPs overtake each other.
        times.sort_unstable();
        times.push(before.max(after));
        let mut gap = Gap { start: after, length: Duration::ZERO };
        let mut last = after;
        for at in times {
            if at.since(last) > gap.length {
                gap = Gap { start: last, length: at.since(last) };
            }
            last = at;
        }
        gap
    }

    /// Round trips of the datagrams sent in `[after, before)`, in milliseconds.
    pub fn round_trips_ms(&self, after: Moment, before: Moment) -> Vec<f64> {
        let within = self.rows().filter(|row| (after..before).contains(&row.sent));
        within.filter_map(|row| Some(row.answer?.0.ms_after(row.sent))).collect()
    }

    /// When the first and the last datagram left.
    pub fn span(&self) -> Option<(Moment, Moment)> {
        Some((*self.sent.first()?, *self.sent.last()?))
    }

    /// No more can be recorded: the client stopped sending by itself.
    pub fn is_full(&self) -> bool {
        self.sent.len() >= MAX_PACKETS
    }

    /// Arrival and sending of what this POP answered.
    fn answers(&self, pop: &str) -> impl Iterator<Item = (Moment, Moment)> {
        self.rows()
            .filter_map(move |row| row.answer.filter(|(_, name)| *name == pop).map(|(at, _)| (at, row.sent)))
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.sent.iter().zip(&self.answered).zip(&self.by).map(|((sent, answered), by)| Row {
            sent: *sent,
            answer: (*answered != Moment::ZERO).then(|| (*answered, self.names[usize::from(*by)].as_str())),
        })
    }
}

struct Row<'a> {
    sent: Moment,
    answer: Option<(Moment, &'a str)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten datagrams, one each 10 ns; `a` answers until 40, nobody 50 and 60, then `b`; each after 3 ns.
    fn failover() -> Record {
        let mut record = Record::default();
        for n in 1..=10 {
            let sequence = record.handle_sent(Moment(n * 10)).unwrap();
            match n {
                1..=4 => record.handle_answer(sequence, Moment(n * 10 + 3), "a"),
                7.. => record.handle_answer(sequence, Moment(n * 10 + 3), "b"),
                _ => {}
            }
        }
        record
    }

    #[test]
    fn a_failover_is_read_off_the_record() {
        let record = failover();
        let (all, end) = (Moment::ZERO, Moment(1000));
        assert_eq!((record.sent(all, end), record.answered(all, end)), (10, 8));
        assert_eq!(record.percent_answered(Moment(10), Moment(50)), Some(100.0));
        assert_eq!(record.percent_answered(Moment(500), end), None);
        assert_eq!(record.by_pop(all, end), BTreeMap::from([("a".into(), 4), ("b".into(), 4)]));
        assert_eq!(record.last_answer("a", Moment(35), end), Some(Moment(43)));
        assert_eq!(record.last_answer("a", Moment(44), end), None);
        assert_eq!(record.last_sent_answered("a", all, end), Some(Moment(40)));
        assert_eq!(record.first_answer("b", all), Some(Moment(73)));
        assert_eq!(record.first_answer("c", all), None);
        let gap = record.longest_gap(Moment(13), Moment(105));
        assert_eq!(gap, Gap { start: Moment(43), length: Duration::from_nanos(30) });
        assert_eq!(record.round_trips_ms(all, Moment(11)), vec![3e-6]);
    }

    #[test]
    fn a_silence_at_the_edges_is_a_gap_too() {
        let record = failover();
        assert_eq!(record.longest_gap(Moment(0), Moment(500)).start, Moment(103));
        assert_eq!(Record::default().longest_gap(Moment(5), Moment(9)).length, Duration::from_nanos(4));
    }

    #[test]
    fn an_answer_that_was_overtaken_is_counted() {
        let mut record = Record::default();
        for _ in 0..4 {
            record.handle_sent(Moment(1)).unwrap();
        }
        for sequence in [0, 2, 1, 3] {
            record.handle_answer(sequence, Moment(2), "a");
        }
        assert_eq!((record.reordered, record.duplicates), (1, 0));
    }

    #[test]
    fn answers_twice_or_to_nothing_do_not_count() {
        let mut record = failover();
        record.handle_answer(0, Moment(99), "b");
        record.handle_answer(10, Moment(99), "b");
        assert_eq!(record.duplicates, 1);
        assert_eq!(record.answered(Moment::ZERO, Moment::MAX), 8);
        assert_eq!(record.last_answer("a", Moment::ZERO, Moment(14)), Some(Moment(13)));
    }
}
