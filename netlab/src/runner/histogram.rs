//! Rounds that edgeproxy measures itself, compared with what captures saw of them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Runner;
use crate::capture::{Note, NoteKind};
use crate::figures::Figure;
use crate::moment::Moment;
use crate::scenario::Histogram;

/// How long an answer of edgeproxy may take.
const ASK: Duration = Duration::from_secs(2);

/// Count and sum of `edgeproxy_fail_to_withdraw_seconds`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Measured {
    count: u64,
    seconds: f64,
}

impl Runner<'_> {
    pub(super) fn histogram(&mut self, wanted: &Histogram) -> Result<(), String> {
        let (mut inside, mut outside, mut apart) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=wanted.rounds {
            let in_round = |why: String| format!("round {round} of {}: {why}", wanted.rounds);
            let (measured, captured) = self.both(wanted).map_err(in_round)?;
            inside.push(measured);
            outside.push(captured);
            apart.push(captured - measured);
            self.steps(&wanted.restore).map_err(in_round)?;
        }
        let figure = |samples: &[f64]| Figure::from_samples(samples, "ms").ok_or("no rounds, no figure");
        let difference = figure(&apart)?;
        let median = difference.value;
        self.record(&wanted.figure, figure(&inside)?, wanted.goal.as_deref())?;
        self.record(&wanted.captured, figure(&outside)?, None)?;
        self.record(&wanted.apart, difference, None)?;
        if median.abs() > wanted.most.as_secs_f64() * 1e3 {
            return Err(format!("half of the rounds are {median:.3} ms apart or more: {apart:?}"));
        }
        Ok(())
    }

    /// One round in milliseconds: as edgeproxy measured it, and as it was seen on the wire.
    fn both(&mut self, wanted: &Histogram) -> Result<(f64, f64), String> {
        let before = self.measured(&wanted.at)?;
        let from = self.act(&wanted.from)?;
        let captured = self.poll(wanted.within, |runner| runner.seen(wanted, from))?;
        let after = self.poll(wanted.within, |runner| {
            let now = runner.measured(&wanted.at)?;
            if now.count > before.count { Ok(now) } else { Err("the histogram has not grown".to_owned()) }
        })?;
        if after.count != before.count + 1 {
            return Err(format!("one withdrawal was counted {} times", after.count - before.count));
        }
        Ok(((after.seconds - before.seconds) * 1e3, captured))
    }

    /// From the first refused connection to the WITHDRAW.
    fn seen(&self, wanted: &Histogram, from: Moment) -> Result<f64, String> {
        let (refused, withdrawn) = (&wanted.refused, &wanted.withdrawn);
        let probes = self.lab.capture(&refused.capture).map_err(|error| error.to_string())?;
        let begin = probes.look(|seen| first_refusal(&seen.notes, refused.port, from));
        let begin = begin.ok_or_else(|| format!("no connection to port {} was refused", refused.port))?;
        let end = self.lab.first(&withdrawn.capture, from, |e| e.withdraws(withdrawn.prefix));
        let end = end.map_err(|error| error.to_string())?;
        Ok(end.ok_or_else(|| format!("{} was not withdrawn", withdrawn.prefix))?.ms_after(begin))
    }

    fn measured(&self, host: &str) -> Result<Measured, String> {
        let node = self.lab.node(host).map_err(|error| error.to_string())?;
        let edgeproxy = node.edgeproxy.as_ref().ok_or_else(|| format!("{host} runs no edgeproxy"))?;
        let (_, text) = edgeproxy.ask("GET", "/metrics", ASK).map_err(|error| error.to_string())?;
        read(&text).ok_or_else(|| format!("{host} has no fail_to_withdraw in its metrics:\n{text}"))
    }
}

/// When a SYN was first answered with a RST. A RST of a connection that was accepted proves nothing.
fn first_refusal(notes: &[Note], port: u16, since: Moment) -> Option<Moment> {
    let mut dialled = BTreeSet::new();
    for note in notes.iter().filter(|note| note.at >= since) {
        let NoteKind::Tcp { from, to, syn, ack, rst, .. } = note.kind else { continue };
        match (syn, ack, rst) {
            (true, false, false) if to.port() == port => drop(dialled.insert((from, to))),
            (true, true, false) if from.port() == port => drop(dialled.remove(&(to, from))),
            (_, _, true) if dialled.contains(&(to, from)) => return Some(note.at),
            _ => {}
        }
    }
    None
}

fn read(metrics: &str) -> Option<Measured> {
    let value = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Some(Measured {
        count: value("edgeproxy_fail_to_withdraw_seconds_count")?.parse().ok()?,
        seconds: value("edgeproxy_fail_to_withdraw_seconds_sum")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refused_connection_is_a_refusal() {
        let note = |at: u64, from: &str, to: &str, flags: &str| {
            let has = |flag| flags.contains(flag);
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let (syn, ack, fin, rst) = (has('S'), has('A'), has('F'), has('R'));
            let kind = NoteKind::Tcp { from, to, syn, ack, fin, rst, len: 0 };
            Note { at: Moment(at), outgoing: false, kind }
        };
        let (service, held, probe) = ("127.0.0.1:80", "127.0.0.1:9001", "127.0.0.1:9002");
        let mut notes = vec![
            note(1, probe, service, "S"),
            note(2, service, probe, "AR"),
            note(5, held, service, "S"),
            note(6, service, held, "SA"),
            note(7, service, held, "AR"),
            note(8, probe, service, "S"),
        ];
        assert_eq!(first_refusal(&notes, 80, Moment(3)), None);
        notes.push(note(9, service, probe, "AR"));
        assert_eq!(first_refusal(&notes, 80, Moment(3)), Some(Moment(9)));
        assert_eq!(first_refusal(&notes, 80, Moment::ZERO), Some(Moment(2)));
        assert_eq!(first_refusal(&notes, 81, Moment(3)), None);
    }

    #[test]
    fn the_histogram_is_found_among_all_metrics() {
        let text = "edgeproxy_up 1\n# HELP edgeproxy_fail_to_withdraw_seconds x\n\
                    edgeproxy_fail_to_withdraw_seconds_bucket{le=\"0.001\"} 2\n\
                    edgeproxy_fail_to_withdraw_seconds_sum 0.0015\nedgeproxy_fail_to_withdraw_seconds_count 2\n";
        assert_eq!(read(text), Some(Measured { count: 2, seconds: 0.0015 }));
        assert_eq!(read("edgeproxy_up 1\n"), None);
    }
}
