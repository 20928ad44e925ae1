//! Behaviours of the proxy: tried, raced, weighed.

use std::time::Duration;

use super::Runner;
use crate::edgeproxy::EdgeProxy;
use crate::figures::Figure;
use crate::machine;
use crate::moment::Moment;
use crate::scenario::{Idle, Latency, Memory, Race, Trial};
use crate::sys::descriptors;
use crate::traffic::FlowClient;
use crate::traffic::flows::{MAX_FLOWS, Plan};
use crate::trial::{self, Path};

/// What a process needs besides the sockets of idle connections.
const BESIDES: u64 = 1024;
/// How long one that is idle is silent and stays.
const LONG: Duration = Duration::from_secs(3600);
/// Connections opened in a second.
const PACE: u32 = 4000;

impl Runner<'_> {
    pub(super) fn trial(&mut self, wanted: &Trial) -> Result<(), String> {
        let words = &wanted.path;
        let named = self.scenario.paths.get(words).ok_or_else(|| format!("there is no path {words}"))?;
        let namespace = |host: &str| {
            self.lab.node(host).map(|node| node.namespace.clone()).map_err(|error| error.to_string())
        };
        let (client, server) = (namespace(&named.client)?, namespace(&named.backend)?);
        let path = Path { client, to: named.to, server, at: named.at };
        for what in &wanted.shows {
            self.tell(&format!("{words}: {what:?}"));
            trial::shows(&path, what).map_err(|why| format!("{words}: {what:?}: {why}"))?;
        }
        Ok(())
    }

    pub(super) fn race(&mut self, wanted: &Race) -> Result<(), String> {
        let node = self.lab.node(&wanted.from).map_err(|error| error.to_string())?;
        let Race { to, racers, held, .. } = *wanted;
        let race = trial::Race { client: node.namespace.clone(), to, racers, held };
        for round in 1..=wanted.rounds {
            let served = race.run().map_err(|error| format!("round {round}: {error}"))?;
            if served != wanted.served {
                let right = wanted.served;
                return Err(format!("round {round}: {served} of {racers} racers were served, not {right}"));
            }
        }
        Ok(())
    }

    pub(super) fn idle(&mut self, wanted: &Idle) -> Result<(), String> {
        let pid = self.edgeproxy_pid(&wanted.of)?;
        let room = machine::descriptors_of(pid).ok_or_else(|| format!("process {pid} tells no limits"))?;
        let count = wanted.count.min((room.saturating_sub(BESIDES) / 2) as usize);
        if count < wanted.count {
            self.tell(&format!(
                "{room} descriptors: only {count} idle connections instead of {}",
                wanted.count
            ));
        }
        descriptors::allow(count).map_err(|error| error.to_string())?;
        let before = machine::resident_kib(pid).unwrap_or(0.0);
        let namespace = self.lab.node(&wanted.from).map_err(|error| error.to_string())?.namespace.clone();
        let mut names = Vec::new();
        let mut left = count;
        while left > 0 {
            let part = left.min(MAX_FLOWS / 2);
            left -= part;
            let plan = Plan {
                target: wanted.target,
                count: part,
                over: Duration::from_secs(part as u64) / PACE,
                lasts: LONG..=LONG,
                every: LONG,
                seed: 0,
                tls: None,
            };
            let started = namespace.run(|| FlowClient::start(plan)).map_err(|error| error.to_string())?;
            names.push(format!("{}-{}", wanted.name, names.len() + 1));
            self.flows
                .extend([(names[names.len() - 1].clone(), started.map_err(|error| error.to_string())?)]);
        }
        let all = |runner: &mut Self| {
            let of =
                |name: &String| runner.flows[name].look(|record| record.counts(Moment::ZERO, Moment::MAX));
            let counts: Vec<_> = names.iter().map(of).collect();
            let echoed: usize =
                names.iter().map(|name| runner.flows[name].look(|record| record.latencies_ms().len())).sum();
            if echoed == count && counts.iter().map(|counts| counts.open).sum::<usize>() == count {
                return Ok(());
            }
            let words: Vec<_> = counts.iter().map(ToString::to_string).collect();
            Err(format!("{count} connections should be open: {}", words.join("; ")))
        };
        self.poll(Duration::from_secs(90), all)?;
        // Nothing may have ended because nothing happens.
        std::thread::sleep(Duration::from_secs(1));
        self.poll(Duration::ZERO, all)?;
        let each = (machine::resident_kib(pid).unwrap_or(0.0) - before) / count.max(1) as f64;
        self.record(&wanted.figure, Figure::single(each, "KiB", count), wanted.goal.as_deref())?;
        match wanted.at_most {
            Some(most) if each > most => {
                Err(format!("{each:.1} KiB for each of {count}, {most} KiB at most are right"))
            }
            _ => Ok(()),
        }
    }

    fn edgeproxy_pid(&mut self, host: &str) -> Result<u32, String> {
        let node = self.lab.node_mut(host).map_err(|error| error.to_string())?;
        let pid = node.edgeproxy.as_mut().and_then(EdgeProxy::pid);
        pid.ok_or_else(|| format!("{host} runs no edgeproxy"))
    }

    pub(super) fn memory(&mut self, wanted: &Memory) -> Result<(), String> {
        let pid = self.edgeproxy_pid(&wanted.of)?;
        let now = machine::resident_kib(pid).ok_or_else(|| format!("process {pid} tells no memory"))?;
        if let Some(mark) = &wanted.mark {
            self.tell(&format!("edgeproxy of {} has {now:.0} KiB", wanted.of));
            self.samples.insert(format!("memory {mark}"), vec![now]);
        }
        let before = match &wanted.since {
            None => 0.0,
            Some(mark) => {
                let found = self.samples.get(&format!("memory {mark}")).and_then(|samples| samples.first());
                *found.ok_or_else(|| format!("memory was not marked {mark}"))?
            }
        };
        let per = wanted.per.unwrap_or(1).max(1);
        let grown = (now - before) / f64::from(per);
        if let Some(figure) = &wanted.figure {
            self.record(figure, Figure::single(grown, "KiB", per as usize), wanted.goal.as_deref())?;
        }
        match wanted.at_most {
            Some(most) if grown > most => {
                Err(format!("{grown:.1} KiB of memory, {most} KiB at most are right"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn latency(&mut self, wanted: &Latency) -> Result<(), String> {
        let name = &wanted.name;
        let client = self.flows.get(name).ok_or_else(|| format!("there are no flows {name}"))?;
        let samples = client.look(crate::traffic::flows::FlowRecord::latencies_ms);
        let figure =
            Figure::from_samples(&samples, "ms").ok_or_else(|| format!("no flow of {name} was echoed"))?;
        self.record(&wanted.figure, figure, wanted.goal.as_deref())
    }
}
