//! What a step does to the lab.

use std::io;
use std::process::{Command, Output};
use std::time::Duration;

use super::processes::{Signal, split};
use super::{COMMAND, Runner};
use crate::lab::Node;
use crate::load;
use crate::moment::Moment;
use crate::process;
use crate::scenario::{Action, Flap, NewConfig, SetService, Traffic};
use crate::traffic::Client;

impl Runner<'_> {
    /// Does it; the answer is the moment right before it took effect.
    pub(super) fn act(&mut self, action: &Action) -> Result<Moment, String> {
        let words = |error: io::Error| error.to_string();
        match action {
            Action::Kill(target) => self.signal(target, Signal::Kill).map_err(words),
            Action::KillAll(host) => self.kill_all(host).map_err(words),
            Action::Stop(target) => self.signal(target, Signal::Stop).map_err(words),
            Action::Cont(target) => self.signal(target, Signal::Cont).map_err(words),
            Action::HangThread { at, thread } => {
                let node = self.lab.node_mut(at).map_err(words)?;
                let edgeproxy = node.edgeproxy.as_mut().ok_or_else(|| format!("{at} runs no edgeproxy"))?;
                edgeproxy.hang(thread).map_err(words)
            }
            Action::Release(at) => {
                let node = self.lab.node_mut(at).map_err(words)?;
                let edgeproxy = node.edgeproxy.as_mut().ok_or_else(|| format!("{at} runs no edgeproxy"))?;
                edgeproxy.release().map_err(words)
            }
            Action::Start(target) => {
                self.start(target).map_err(words)?;
                Ok(Moment::now())
            }
            Action::Terminate { at, code, wait } => self.terminate(at, wait.then_some(*code)),
            Action::Set(set) => self.set(set).map_err(words),
            Action::Flap(flap) => self.flap(flap).map_err(words),
            Action::Link { interface, up } => {
                let (host, interface) =
                    interface.split_once('/').ok_or("an interface is named HOST/INTERFACE")?;
                let at = Moment::now();
                let state = if *up { "up" } else { "down" };
                let node = self.lab.node(host).map_err(words)?;
                node.namespace.ip(&["link", "set", interface, state]).map_err(words)?;
                Ok(at)
            }
            Action::Restart { at, environment, descriptors } => {
                self.restart(at, environment, *descriptors).map_err(words)
            }
            Action::Config(new) => self.configure(new),
            Action::RefuseAll { at, directory } => self.refuse_all(at, directory),
            Action::Busy(count) => {
                self.busy = None;
                if *count > 0 {
                    self.busy = Some(load::spin(*count as usize).map_err(words)?);
                }
                Ok(Moment::now())
            }
            Action::Wait(time) => {
                std::thread::sleep(*time);
                Ok(Moment::now())
            }
            Action::Endure { time, full } => {
                let is_full = std::env::var_os("EDGEPROXY_FULL").is_some();
                std::thread::sleep(if is_full { *full } else { *time });
                Ok(Moment::now())
            }
            Action::Mark(name) => {
                let now = Moment::now();
                self.marks.insert(name.clone(), now);
                Ok(now)
            }
            Action::Run { at, command } => {
                let output = self.shell(at, command)?;
                if output.status.success() {
                    return Ok(Moment::now());
                }
                Err(format!("{at}: {command}: {}", String::from_utf8_lossy(&output.stderr).trim()))
            }
            Action::Background { at, command: line } => {
                let node = self.lab.node(at).map_err(words)?;
                let directory = self.lab.work.join(at);
                let mut command = node.namespace.command("sh");
                environment(node, &mut command);
                command.args(["-c", line]).current_dir(&directory).stdin(std::process::Stdio::null());
                let log = directory.join("commands.log");
                self.background.push(process::Process::start(at, command, &log).map_err(words)?);
                Ok(Moment::now())
            }
            Action::CutPath(cut) => self.cut_path(cut),
            Action::HealPath(between) => self.heal_path(between),
            Action::Emulate(emulate) => self.emulate(emulate),
            Action::Wg(wg) => self.wg(wg),
            Action::Sink(sink) => self.sink(sink),
            Action::Replay(replay) => self.replay(replay),
            Action::EveryLength(lengths) => self.every_length(lengths),
            Action::Traffic(traffic) => self.traffic(traffic),
            Action::Attack(attack) => self.attack(attack),
            Action::Calm(name) => {
                self.attacks.remove(name).ok_or_else(|| format!("there is no attack {name}"))?;
                Ok(Moment::now())
            }
            Action::Flows(flows) => self.start_flows(flows),
            Action::Show { at, prefix } => self.show(at, prefix),
            Action::Where(traffic) => self.whereabouts(traffic),
        }
    }

    /// Runs a shell command in a host.
    pub(super) fn shell(&self, at: &str, line: &str) -> Result<Output, String> {
        let node = self.lab.node(at).map_err(|error| error.to_string())?;
        let mut command = node.namespace.short_command("sh");
        environment(node, &mut command);
        command.args(["-c", line]).current_dir(self.lab.work.join(at));
        process::output(command, COMMAND).map_err(|error| format!("{at}: {line}: {error}"))
    }

    fn set(&mut self, set: &SetService) -> io::Result<Moment> {
        let (host, name) = split(&set.service);
        let name = name.ok_or_else(|| io::Error::other("a service is named HOST/SERVICE"))?;
        let node = self.lab.node_mut(host)?;
        let service = node
            .services
            .get_mut(name)
            .ok_or_else(|| io::Error::other(format!("there is no service {}", set.service)))?;
        let at = Moment::now();
        if let Some(status) = set.status {
            service.status(status)?;
        }
        if let Some(refuse) = set.refuse {
            service.refuse(refuse)?;
        }
        if let Some(delay) = set.delay {
            service.delay(delay)?;
        }
        if let Some(cut) = set.cut {
            service.cut(cut)?;
        }
        if let Some(hang) = set.hang {
            service.hang(hang)?;
        }
        Ok(at)
    }

    fn flap(&mut self, flap: &Flap) -> io::Result<Moment> {
        let from = Moment::now();
        let halves = (flap.lasts.as_secs_f64() * flap.hertz).ceil() as u32 * 2;
        for half in 0..halves {
            let refuse = Some(half % 2 == 0);
            let service = flap.service.clone();
            self.set(&SetService { service, refuse, status: None, hang: None, cut: None, delay: None })?;
            // By the clock and not by sleeping: what the orders take must not slow the flapping down.
            let next = Duration::from_secs_f64(f64::from(half + 1) / (2.0 * flap.hertz));
            std::thread::sleep(next.saturating_sub(Moment::now().since(from)));
        }
        Ok(from)
    }

    fn configure(&mut self, new: &NewConfig) -> Result<Moment, String> {
        let node = self.lab.node_mut(&new.at).map_err(|error| error.to_string())?;
        let edgeproxy = node.edgeproxy.as_mut().ok_or_else(|| format!("{} runs no edgeproxy", new.at))?;
        let mut text = node.yaml.clone();
        for change in &new.replace {
            if text.matches(&change.from).count() != 1 {
                return Err(format!(
                    "{:?} is not exactly once in the configuration of {}",
                    change.from, new.at
                ));
            }
            text = text.replace(&change.from, &change.to);
        }
        if new.next {
            text = next_generation(&text).ok_or("the configuration names no generation")?;
        }
        edgeproxy.rewrite(&text).map_err(|error| error.to_string())?;
        node.yaml = text;
        let at = Moment::now();
        match new.by.as_str() {
            "signal" => drop(edgeproxy.reload_by_signal().map_err(|error| error.to_string())?),
            "command" => {
                let told = edgeproxy.reload_by_command().map_err(|error| error.to_string())?;
                let told = told.map_err(|refusal| format!("the configuration was refused: {refusal}"))?;
                self.tell(&told);
            }
            "none" => {}
            other => {
                return Err(format!("a configuration is told by signal, command or none, not by {other}"));
            }
        }
        Ok(at)
    }

    /// Every broken file must be refused with a place and a remedy, and change nothing.
    fn refuse_all(&mut self, at: &str, directory: &str) -> Result<Moment, String> {
        let moment = Moment::now();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        let directory = root.join(directory);
        let listing = std::fs::read_dir(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        let mut files: Vec<_> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        files.sort();
        let node = self.lab.node_mut(at).map_err(|error| error.to_string())?;
        let edgeproxy = node.edgeproxy.as_mut().ok_or_else(|| format!("{at} runs no edgeproxy"))?;
        let good = node.yaml.clone();
        let before = steady(&edgeproxy.status().map_err(|error| error.to_string())?);
        for file in &files {
            let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
            edgeproxy.rewrite_as_is(&text).map_err(|error| error.to_string())?;
            let told = edgeproxy.reload_by_command().map_err(|error| error.to_string())?;
            let Err(refusal) = told else {
                return Err(format!("{} was accepted", file.display()));
            };
            let line = refusal.lines().any(|line| {
                let mut parts = line.rsplit(".yaml:").next().unwrap_or("").split(':');
                parts.next().is_some_and(|n| n.parse::<u32>().is_ok())
            });
            if !line || !refusal.contains("hint:") {
                return Err(format!("{}: refused without a line and a hint: {refusal}", file.display()));
            }
            let after = steady(&edgeproxy.status().map_err(|error| error.to_string())?);
            if after != before {
                return Err(format!("{} changed the running state: {before} became {after}", file.display()));
            }
        }
        edgeproxy.rewrite(&good).map_err(|error| error.to_string())?;
        let figure = crate::figures::Figure::single(files.len() as f64, "files", files.len());
        self.figures.insert("refused_files".to_owned(), figure);
        Ok(moment)
    }

    fn show(&mut self, at: &str, prefix: &str) -> Result<Moment, String> {
        let node = self.lab.node_mut(at).map_err(|error| error.to_string())?;
        let router = node.router.as_mut().ok_or_else(|| format!("{at} runs no router"))?;
        let routes = router.routes(Some(prefix)).map_err(|error| error.to_string())?;
        let mut lines: Vec<_> = routes
            .iter()
            .map(|route| {
                let best = if route.best { "*" } else { " " };
                let med = route.med.map_or_else(String::new, |med| format!("  MED {med}"));
                format!(
                    "  {best} {prefix} via {}{med}  path {:?}  {}",
                    route.next_hop,
                    route.as_path,
                    route.communities.join(" ")
                )
            })
            .collect();
        if lines.is_empty() {
            lines.push(format!("    {prefix} is not in the table"));
        }
        self.tell(&format!("{at}:\n   {}", lines.join("\n   ")));
        Ok(Moment::now())
    }

    fn whereabouts(&mut self, name: &str) -> Result<Moment, String> {
        let now = Moment::now();
        let since = self.marks.insert(format!("where {name}"), now).unwrap_or(Moment::ZERO);
        let client = self.traffic.get(name).ok_or_else(|| format!("there is no traffic {name}"))?;
        let by_pop = client.look(|record| record.by_pop(since, now));
        let words: Vec<_> = by_pop.iter().map(|(pop, answers)| format!("{pop} {answers}")).collect();
        self.tell(&format!("{name}: answers since the last look: {}", words.join(", ")));
        Ok(now)
    }

    fn traffic(&mut self, traffic: &Traffic) -> Result<Moment, String> {
        let Some(from) = &traffic.from else {
            let client = self.traffic.remove(&traffic.name);
            client.ok_or_else(|| format!("there is no traffic {}", traffic.name))?.stop();
            return Ok(Moment::now());
        };
        let target = traffic.target.ok_or("traffic needs a target")?;
        let node = self.lab.node(from).map_err(|error| error.to_string())?;
        let client = node
            .namespace
            .run(|| Client::start(target, &traffic.sources, traffic.rate))
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        self.traffic.insert(traffic.name.clone(), client);
        Ok(Moment::now())
    }
}

use std::path::Path;

/// What a refused configuration must leave alone: everything but ages and counters.
fn steady(status: &serde_json::Value) -> serde_json::Value {
    let pick = |list: &serde_json::Value, keys: &[&str]| -> serde_json::Value {
        let items = list.as_array().cloned().unwrap_or_default();
        let chosen = |item: &serde_json::Value| -> serde_json::Map<String, serde_json::Value> {
            keys.iter().map(|key| ((*key).to_owned(), item[*key].clone())).collect()
        };
        items.iter().map(|item| serde_json::Value::Object(chosen(item))).collect()
    };
    let announced: Vec<_> = status["neighbors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|neighbor| pick(&neighbor["announced"], &["prefix", "communities", "med", "next_hop"]))
        .collect();
    serde_json::json!({
        "generation": status["process"]["generation"],
        "neighbors": pick(&status["neighbors"], &["name", "state", "established_count", "updates_out"]),
        "announced": announced,
        "prefixes": pick(&status["prefixes"], &["prefix", "state", "reason"]),
        "services": pick(&status["services"], &["service", "state", "healthy_weight"]),
    })
}

/// The same text with `generation: N` counted up.
fn next_generation(text: &str) -> Option<String> {
    let (before, rest) = text.split_once("generation: ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let number: u64 = rest[..digits].parse().ok()?;
    Some(format!("{before}generation: {}{}", number + 1, &rest[digits..]))
}

/// `$EDGEPROXY` is the command line of the edgeproxy that runs in a host, for shell commands there.
fn environment(node: &Node, command: &mut Command) {
    if let Some(edgeproxy) = &node.edgeproxy {
        command.env("EDGEPROXY", edgeproxy.binary()).env("EDGEPROXY_SOCKET", edgeproxy.socket());
        command.env_remove("EDGEPROXY_BIN");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_counted_up() {
        let next = |text| next_generation(text);
        assert_eq!(
            next("a: 1\ngeneration: 9\npop: {}\n").as_deref(),
            Some("a: 1\ngeneration: 10\npop: {}\n")
        );
        assert_eq!(next("pop: {}\n"), None);
    }
}
