//! Rounds that are timed, and shares that are counted.

use std::time::Duration;

use super::Runner;
use crate::bgp_stream::Timeline;
use crate::figures::Figure;
use crate::machine;
use crate::moment::Moment;
use crate::node::router::Router;
use crate::scenario::{CollectorSees, LastPacket, Measure, Outcome, Ratio, Share, Updates};

impl Runner<'_> {
    pub(super) fn measure(&mut self, measure: &Measure) -> Result<(), String> {
        for round in 1..=measure.rounds {
            let in_round = |why: String| format!("round {round} of {}: {why}", measure.rounds);
            let from = self.act(&measure.from).map_err(in_round)?;
            for outcome in &measure.outcomes {
                let until = self.outcome(outcome, from).map_err(in_round)?;
                let samples = self.samples.entry(outcome.figure.clone()).or_default();
                samples.push(until.ms_after(from).max(0.0));
            }
            self.steps(&measure.restore).map_err(in_round)?;
        }
        // Samples of the same figure add up, so that benches can interleave their rounds.
        for outcome in &measure.outcomes {
            let samples = self.samples.get(&outcome.figure).map_or(&[][..], Vec::as_slice);
            let figure = Figure::from_samples(samples, "ms").ok_or("no rounds, no figure")?;
            self.record(&outcome.figure, figure, outcome.goal.as_deref())?;
        }
        Ok(())
    }

    /// What the process under test of a host has used, and every child of it that ended or still runs.
    pub(super) fn cpu(&mut self, figure: &str, host: &str) -> Result<(), String> {
        let node = self.lab.node_mut(host).map_err(|error| error.to_string())?;
        let exabgp = node.exabgp.as_mut().and_then(|exabgp| Some(exabgp.process_mut().ok()?.pid()));
        let edgeproxy = node.edgeproxy.as_mut().and_then(crate::edgeproxy::EdgeProxy::pid);
        let router = node.router.as_mut().and_then(|router| Some(router.process_mut().ok()?.pid()));
        let pid = edgeproxy.or(exabgp).or(router).ok_or_else(|| format!("{host} runs nothing"))?;
        self.record(figure, Figure::single(machine::seconds_of(pid), "s", 1), None)
    }

    /// How many times one figure is another.
    pub(super) fn ratio(&mut self, ratio: &Ratio) -> Result<(), String> {
        let quantile_of = |name: &str| {
            let figure = self.figures.get(name).ok_or_else(|| format!("there is no figure {name}"))?;
            let quantile = if ratio.p99 { figure.p99 } else { figure.p50 };
            Ok::<_, String>((quantile.unwrap_or(figure.value), figure.n))
        };
        let ((of, of_n), (over, over_n)) = (quantile_of(&ratio.of)?, quantile_of(&ratio.over)?);
        let figure = Figure::single(of / over, "x", of_n.min(over_n));
        self.record(&ratio.figure, figure, ratio.goal.as_deref())
    }

    fn outcome(&mut self, outcome: &Outcome, from: Moment) -> Result<Moment, String> {
        let within = outcome.within;
        match (&outcome.withdrawn, &outcome.announced, &outcome.last_packet) {
            (Some(sees), None, None) => self.sees(sees, false, from, within),
            (None, Some(sees), None) => self.sees(sees, true, from, within),
            (None, None, Some(last)) => self.last_packet(last, from, within),
            _ => Err("an outcome needs one of: withdrawn announced last_packet".to_owned()),
        }
    }

    fn sees(
        &mut self,
        sees: &CollectorSees,
        announced: bool,
        from: Moment,
        within: Duration,
    ) -> Result<Moment, String> {
        let node = self.lab.node_mut(&sees.at).map_err(|error| error.to_string())?;
        if let Some(router) = &node.router {
            return table_has(router.as_ref(), &sees.prefix.to_string(), announced, within);
        }
        let collector = node.collector.as_ref().ok_or_else(|| format!("{} runs no router", sees.at))?;
        let event = if announced {
            collector.wait_announce(sees.prefix, from, within)
        } else {
            collector.wait_withdraw(sees.prefix, from, within)
        };
        event.map(|event| event.at).map_err(|error| error.to_string())
    }

    fn last_packet(&mut self, last: &LastPacket, from: Moment, within: Duration) -> Result<Moment, String> {
        self.poll(within, |runner| {
            let capture = runner.lab.capture(&last.capture).map_err(|error| error.to_string())?;
            let now = Moment::now();
            let latest = capture.look(|seen| seen.tally.last(from, Moment::MAX)).unwrap_or(from);
            if now.since(latest) >= last.quiet {
                return Ok(latest);
            }
            Err(format!("packets still arrive at {}", last.capture))
        })
    }

    /// The share of a client's datagrams that anybody answered.
    pub(super) fn share(&mut self, share: &Share) -> Result<(), String> {
        let traffic = &share.traffic;
        let since = share.since.as_ref().map_or(Ok(Moment::ZERO), |mark| self.mark(mark))?;
        let client = self.traffic.get(traffic).ok_or_else(|| format!("there is no traffic {traffic}"))?;
        // What was sent in the last moments may still be answered.
        let end = Moment::now() - Duration::from_millis(500);
        let (sent, percent, by_pop) = client.look(|record| {
            (
                record.sent(since, end),
                record.percent_answered(since, end).unwrap_or(0.0),
                record.by_pop(since, end),
            )
        });
        self.tell(&format!("{traffic}: {sent} sent, {percent:.4} % answered, by {by_pop:?}"));
        self.record(&share.figure, Figure::single(percent, "%", sent as usize), share.goal.as_deref())?;
        if percent < share.least {
            let least = share.least;
            return Err(format!(
                "only {percent:.3} % of {traffic} were answered, at least {least} % must be"
            ));
        }
        Ok(())
    }

    /// How many UPDATEs named a prefix.
    pub(super) fn update_figure(&mut self, updates: &Updates) -> Result<(), String> {
        let since = self.mark(&updates.since)?;
        let capture = self.lab.capture(&updates.capture).map_err(|error| error.to_string())?;
        let count = capture
            .look(|seen| Timeline::new(&seen.events).updates(updates.prefix, None, since, Moment::MAX));
        self.record(&updates.figure, Figure::single(count as f64, "UPDATEs", 1), updates.goal.as_deref())
    }

    pub(super) fn record(&mut self, name: &str, figure: Figure, goal: Option<&str>) -> Result<(), String> {
        let figure = match goal {
            Some(goal) => {
                let goal = goal.parse().map_err(|error: crate::figures::GoalError| error.to_string())?;
                figure.with_goal(goal).map_err(|error| error.to_string())?
            }
            None => figure,
        };
        self.figures.insert(name.to_owned(), figure);
        Ok(())
    }
}

/// Asks a router for a prefix until its table has it or has it no more: right after the answer that says so.
fn table_has(router: &dyn Router, prefix: &str, wanted: bool, within: Duration) -> Result<Moment, String> {
    let end = Moment::now() + within;
    loop {
        let routes = router.routes(Some(prefix)).map_err(|error| error.to_string())?;
        let now = Moment::now();
        if routes.is_empty() != wanted {
            return Ok(now);
        }
        if now >= end {
            return Err(format!("not within {} ms: the table has {routes:?}", within.as_millis()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
