//! A mesh of POPs: started, one of them restarted, and its links watched from inside.

use std::time::Duration;

use super::Runner;
use crate::figures::Figure;
use crate::moment::Moment;
use crate::scenario::{Mesh, MeshStep, MeshUp, inside};
use crate::traffic::Client;

/// Datagrams a second over each link in each direction.
const RATE: u32 = 20;
/// Before a fault: what is lost then has nothing to do with it.
const CALM: Duration = Duration::from_secs(1);
/// After it; the last half second of every client is not looked at.
const AFTER: Duration = Duration::from_millis(1_500);

impl Runner<'_> {
    pub(super) fn mesh(&mut self, step: &MeshStep) -> Result<(), String> {
        let mesh = self.scenario.mesh.ok_or("the scenario has no mesh")?;
        match step {
            MeshStep::Start(up) => {
                let mut last = Moment::now();
                let words = |error: std::io::Error| error.to_string();
                self.watch_links(mesh)?;
                for name in mesh.names() {
                    let edgeproxy = self.lab.node_mut(&name).map_err(words)?.edgeproxy.as_mut();
                    last = edgeproxy.ok_or("a POP without edgeproxy")?.start().map_err(words)?;
                }
                self.until_up(mesh, None, last, up)
            }
            MeshStep::Restart { pop, up } => {
                let words = |error: std::io::Error| error.to_string();
                std::thread::sleep(CALM);
                let before = Moment::now();
                let edgeproxy = self.lab.node_mut(pop).map_err(words)?.edgeproxy.as_mut();
                let edgeproxy = edgeproxy.ok_or("a POP without edgeproxy")?;
                edgeproxy.kill().map_err(words)?;
                let started = edgeproxy.start().map_err(words)?;
                self.until_up(mesh, Some(pop), started, up)?;
                std::thread::sleep(AFTER);
                self.nothing_lost(mesh, pop, before)
            }
        }
    }

    /// A client for each link and direction.
    fn watch_links(&mut self, mesh: Mesh) -> Result<(), String> {
        for (number, from) in (1..).zip(mesh.names()) {
            for (other, to) in (1..).zip(mesh.names()).filter(|(other, _)| *other != number) {
                let node = self.lab.node(&from).map_err(|error| error.to_string())?;
                let (target, source) = ((inside(other), 7).into(), (inside(number), 0).into());
                let client = node.namespace.run(|| Client::start(target, &[source], RATE));
                let client = client.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
                self.traffic.insert(link(&from, &to), client);
            }
        }
        Ok(())
    }

    /// Until every link, or every one of a POP, had an answer after that moment.
    fn until_up(&mut self, mesh: Mesh, of: Option<&str>, after: Moment, up: &MeshUp) -> Result<(), String> {
        let last = self.poll(up.most, |runner| {
            let mut last = after;
            for (from, to) in pairs(mesh).filter(|(from, to)| of.is_none_or(|pop| from == pop || to == pop)) {
                let client = runner.traffic.get(&link(&from, &to)).ok_or("start the mesh first")?;
                let answer = client.look(|record| record.first_answer(&to, after));
                last = last.max(answer.ok_or_else(|| format!("{to} does not answer {from}"))?);
            }
            Ok(last)
        })?;
        let links = pairs(mesh).count() / 2;
        let figure = Figure::single(last.ms_after(after), "ms", if of.is_some() { 1 } else { links });
        self.record(&up.figure, figure, up.goal.as_deref())
    }

    fn nothing_lost(&self, mesh: Mesh, except: &str, since: Moment) -> Result<(), String> {
        let end = Moment::now() - Duration::from_millis(500);
        let mut words = Vec::new();
        for (from, to) in pairs(mesh).filter(|(from, to)| from != except && to != except) {
            let client = self.traffic.get(&link(&from, &to)).ok_or("start the mesh first")?;
            let (sent, answered) =
                client.look(|record| (record.sent(since, end), record.answered(since, end)));
            if answered < sent {
                words.push(format!("{from} to {to}: {} of {sent}", sent - answered));
            }
        }
        if words.is_empty() {
            return Ok(());
        }
        Err(format!("links that have nothing to do with {except} lost datagrams: {}", words.join(", ")))
    }
}

fn link(from: &str, to: &str) -> String {
    format!("{from} to {to}")
}

/// Every link in both directions.
fn pairs(mesh: Mesh) -> impl Iterator<Item = (String, String)> {
    let names = mesh.names();
    let others = names.clone();
    let pairs = names.into_iter().flat_map(move |from| {
        let others = others.clone();
        others.into_iter().map(move |to| (from.clone(), to))
    });
    pairs.filter(|(from, to)| from != to)
}
