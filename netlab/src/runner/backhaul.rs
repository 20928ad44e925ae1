//! Tunnels: paths cut and made bad, what others' tunnels know, what arrived and what was lost.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::Runner;
use crate::figures::Figure;
use crate::moment::Moment;
use crate::process;
use crate::scenario::{
    CutPath, Emulate, EveryLength, ExpectArrivals, ExpectTraffic, ExpectWireguard, Loss, Replay, Silence,
    Sink, Wg,
};
use crate::traffic::attack::replay;
use crate::traffic::record::Record;
use crate::traffic::{EchoServer, lengths};

/// How long `nft` may take; both cores may be busy.
const NFT: Duration = Duration::from_secs(15);
/// What was sent in so short a time may still be answered.
const UNDER_WAY: Duration = Duration::from_millis(500);

impl Runner<'_> {
    /// Dropped where it arrives: whoever sends it sees nothing, as on a real path.
    pub(super) fn cut_path(&mut self, cut: &CutPath) -> Result<Moment, String> {
        let [a, b] = &cut.between;
        let ways = [(a, b), (b, a)];
        let table = table(&cut.between);
        let at = Moment::now();
        for (from, to) in ways.iter().take(if cut.one_way { 1 } else { 2 }) {
            let sources = self.outside(from);
            if sources.is_empty() {
                return Err(format!("{from} has no address on any link"));
            }
            let mut rules =
                format!("table inet {table} {{\nchain path {{\ntype filter hook prerouting priority -400\n");
            for source in &sources {
                let family = if source.is_ipv6() { "ip6" } else { "ip" };
                if cut.udp.is_empty() {
                    let _ = writeln!(rules, "{family} saddr {source} drop");
                }
                for port in &cut.udp {
                    let _ = writeln!(rules, "{family} saddr {source} udp dport {port} drop");
                    let _ = writeln!(rules, "{family} saddr {source} udp sport {port} drop");
                }
            }
            self.nft(to, &format!("{rules}}}\n}}\n"))?;
        }
        Ok(at)
    }

    pub(super) fn heal_path(&mut self, between: &[String; 2]) -> Result<Moment, String> {
        let table = table(between);
        let at = Moment::now();
        let healed =
            between.iter().filter(|host| self.nft(host, &format!("delete table inet {table}")).is_ok());
        // A path that was cut one way has a table at one end.
        if healed.count() == 0 {
            return Err(format!("the path between {} and {} is not cut", between[0], between[1]));
        }
        Ok(at)
    }

    /// Addresses of a host on links: those outside its tunnels.
    fn outside(&self, host: &str) -> Vec<IpAddr> {
        let ends = self.scenario.links.iter().flat_map(|link| &link.ends).filter(|end| end.host == host);
        let addresses = ends.flat_map(|end| &end.addresses);
        addresses.filter_map(|text| text.split('/').next()?.parse().ok()).collect()
    }

    fn nft(&self, host: &str, rules: &str) -> Result<(), String> {
        let node = self.lab.node(host).map_err(|error| error.to_string())?;
        let mut command = node.namespace.short_command("nft");
        command.arg(rules);
        let output = process::output(command, NFT).map_err(|error| format!("{host}: nft: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{host}: nft {rules}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    pub(super) fn emulate(&mut self, wanted: &Emulate) -> Result<Moment, String> {
        let name = &wanted.name;
        let emulator = self.lab.emulators.get(name).ok_or_else(|| format!("there is no emulator {name}"))?;
        emulator.set(wanted.with);
        Ok(Moment::now())
    }

    pub(super) fn wg(&mut self, wg: &Wg) -> Result<Moment, String> {
        let node = self.lab.node(&wg.at).map_err(|error| error.to_string())?;
        let tunnel = node.tunnel.as_ref().ok_or_else(|| format!("{} runs no tunnel of others", wg.at))?;
        let at = Moment::now();
        let said = tunnel.wg(&wg.arguments.split_whitespace().collect::<Vec<_>>());
        let said = said.map_err(|error| error.to_string())?;
        if !said.is_empty() {
            self.tell(said.trim_end());
        }
        Ok(at)
    }

    pub(super) fn sink(&mut self, sink: &Sink) -> Result<Moment, String> {
        let node = self.lab.node(&sink.at).map_err(|error| error.to_string())?;
        let start = || EchoServer::start(&sink.name, &sink.listen);
        let server = node.namespace.run(start).map_err(|error| error.to_string())?;
        self.sinks.insert(sink.name.clone(), server.map_err(|error| error.to_string())?);
        Ok(Moment::now())
    }

    pub(super) fn replay(&mut self, wanted: &Replay) -> Result<Moment, String> {
        let node = self.lab.node(&wanted.at).map_err(|error| error.to_string())?;
        let Replay { interface, udp, time, times, .. } = wanted;
        let run = || replay::run(interface, *udp, *time, *times);
        let replayed = node.namespace.run(run).and_then(|done| done).map_err(|error| error.to_string())?;
        self.tell(&format!("{} datagrams captured, {} sent again", replayed.captured, replayed.sent));
        if replayed.captured == 0 {
            return Err(format!("nothing sealed for port {udp} passed {}/{interface}", wanted.at));
        }
        Ok(Moment::now())
    }

    pub(super) fn every_length(&mut self, wanted: &EveryLength) -> Result<Moment, String> {
        let namespace = |host: &str| {
            self.lab.node(host).map(|node| node.namespace.clone()).map_err(|error| error.to_string())
        };
        let (from, to) = (namespace(&wanted.from)?, namespace(&wanted.to)?);
        let at = Moment::now();
        lengths::every((&from, wanted.source), (&to, wanted.target), wanted.up_to)
            .map_err(|error| error.to_string())?;
        Ok(at)
    }

    pub(super) fn wireguard(&mut self, wanted: &ExpectWireguard) -> Result<(), String> {
        let node = self.lab.node(&wanted.at).map_err(|error| error.to_string())?;
        let tunnel = node.tunnel.as_ref().ok_or_else(|| format!("{} runs no tunnel of others", wanted.at))?;
        let state = tunnel.peer(&wanted.peer).map_err(|error: io::Error| error.to_string())?;
        let age = state.handshake_age;
        let fits = wanted.handshake.is_none_or(|any| any == age.is_some())
            && wanted.handshake_age.is_none_or(|most| age.is_some_and(|age| age <= most))
            && wanted.received.is_none_or(|least| state.received >= least)
            && wanted.sent.is_none_or(|least| state.sent >= least)
            && wanted.endpoint.is_none_or(|endpoint| state.endpoint == Some(endpoint));
        if fits { Ok(()) } else { Err(format!("{}: {state:?}; wanted: {wanted:?}", wanted.at)) }
    }

    pub(super) fn came_to(&mut self, wanted: &ExpectTraffic) -> Result<(), String> {
        let since = self.since(wanted.since.as_deref())?;
        let end = Moment::now() - UNDER_WAY;
        let (sent, answered, duplicates, reordered) = self.record_of(&wanted.name, |record| {
            (record.sent(since, end), record.answered(since, end), record.duplicates, record.reordered)
        })?;
        let lost = sent - answered;
        let fits = wanted.answered.is_none_or(|least| answered >= least)
            && wanted.lost.is_none_or(|most| lost <= most)
            && wanted.duplicates.is_none_or(|most| duplicates <= most)
            && wanted.reordered.is_none_or(|most| reordered <= most);
        if fits {
            return Ok(());
        }
        Err(format!(
            "{}: {sent} sent, {lost} lost, {duplicates} answered twice, {reordered} overtaken; wanted: {wanted:?}",
            wanted.name
        ))
    }

    pub(super) fn arrivals(&mut self, wanted: &ExpectArrivals) -> Result<(), String> {
        let sink = self.sinks.get(&wanted.sink).ok_or_else(|| format!("there is no sink {}", wanted.sink))?;
        let arrived = sink.arrived(wanted.from);
        if arrived >= wanted.at_least && wanted.at_most.is_none_or(|most| arrived <= most) {
            return Ok(());
        }
        Err(format!("{arrived} datagrams arrived; wanted: {wanted:?}"))
    }

    /// The longest time without any answer.
    pub(super) fn silence(&mut self, wanted: &Silence) -> Result<(), String> {
        let since = self.mark(&wanted.since)?;
        let now = Moment::now();
        let gap = self.record_of(&wanted.traffic, |record| record.longest_gap(since, now))?;
        let from = gap.start.ms_after(since);
        let length = gap.length.as_secs_f64() * 1e3;
        self.tell(&format!(
            "{}: silent for {length:.1} ms, {from:.1} ms after {}",
            wanted.traffic, wanted.since
        ));
        self.record(&wanted.figure, Figure::single(length, "ms", 1), wanted.goal.as_deref())?;
        if gap.length <= wanted.most {
            return Ok(());
        }
        Err(format!("{} had no answer for {length:.0} ms, from {from:.0} ms on", wanted.traffic))
    }

    /// How many of a client's datagrams nobody answered.
    pub(super) fn loss(&mut self, wanted: &Loss) -> Result<(), String> {
        let since = self.since(wanted.since.as_deref())?;
        let end = Moment::now() - UNDER_WAY;
        let traffic = &wanted.traffic;
        let (sent, answered) =
            self.record_of(traffic, |record| (record.sent(since, end), record.answered(since, end)))?;
        let lost = sent - answered;
        self.tell(&format!("{traffic}: {sent} sent, {lost} lost"));
        let figure = Figure::single(lost as f64, "packets", sent as usize);
        self.record(&wanted.figure, figure, wanted.goal.as_deref())?;
        if lost <= wanted.most && sent > 0 {
            return Ok(());
        }
        Err(format!("{lost} of {sent} datagrams of {traffic} were lost, at most {} may be", wanted.most))
    }

    fn since(&self, mark: Option<&str>) -> Result<Moment, String> {
        mark.map_or(Ok(Moment::ZERO), |mark| self.mark(mark))
    }

    fn record_of<T>(&self, traffic: &str, with: impl FnOnce(&Record) -> T) -> Result<T, String> {
        let client = self.traffic.get(traffic).ok_or_else(|| format!("there is no traffic {traffic}"))?;
        Ok(client.look(with))
    }
}

/// The same for both orders of the two.
fn table(between: &[String; 2]) -> String {
    let mut names = between.clone();
    names.sort();
    let clean = |name: &String| name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("netlab_cut_{}_{}", clean(&names[0]), clean(&names[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_has_one_name_whoever_is_named_first() {
        let name = |a: &str, b: &str| table(&[a.to_owned(), b.to_owned()]);
        assert_eq!(name("gru1", "fra-1"), "netlab_cut_fra_1_gru1");
        assert_eq!(name("fra-1", "gru1"), name("gru1", "fra-1"));
    }
}
