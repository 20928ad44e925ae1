//! A fleet of POPs: made, started, told things, and looked at from outside.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Runner;
use crate::figures::Figure;
use crate::moment::Moment;
use crate::scenario::{Fleet, FleetFigure, FleetStep};

/// How long a note may take to be written.
const WRITE: Duration = Duration::from_secs(9);
const ASK: Duration = Duration::from_secs(2);

impl Runner<'_> {
    pub(super) fn fleet(&mut self, step: &FleetStep) -> Result<(), String> {
        let fleet = self.scenario.fleet.ok_or("the scenario has no fleet")?;
        match step {
            FleetStep::Start(figure) => {
                self.invite(fleet)?;
                let mut last = Moment::now();
                for name in fleet.names() {
                    last = self.pop(&name)?.start().map_err(|error| error.to_string())?;
                }
                let equal = self.poll(figure.most, |runner| runner.equal(fleet, true))?;
                self.took(figure, &[equal.ms_after(last)])
            }
            FleetStep::Notes { count, writers, figure } => self.notes(fleet, *count, *writers, figure),
            FleetStep::Equal(figure) => {
                let since = Moment::now();
                let equal = self.poll(figure.most, |runner| runner.equal(fleet, false))?;
                self.took(figure, &[equal.ms_after(since)])
            }
            FleetStep::Note { pop, text } => self.write(pop, text).map(drop),
            FleetStep::Knows { pop, of, note } => {
                let known = self.note_of(pop, of)?;
                if known.as_deref() == Some(note) {
                    return Ok(());
                }
                Err(format!("{pop} knows of {of}: {known:?}, not {note}"))
            }
            FleetStep::Kill { pop, forget } => {
                let edgeproxy = self.pop(pop)?;
                edgeproxy.kill().map_err(|error| error.to_string())?;
                if *forget {
                    std::fs::remove_dir_all(edgeproxy.state()).map_err(|error| error.to_string())?;
                }
                Ok(())
            }
            FleetStep::Revive { pop } => self.pop(pop)?.start().map(drop).map_err(|error| error.to_string()),
        }
    }

    fn pop(&mut self, name: &str) -> Result<&mut crate::edgeproxy::EdgeProxy, String> {
        let node = self.lab.node_mut(name).map_err(|error| error.to_string())?;
        node.edgeproxy.as_mut().ok_or_else(|| format!("{name} has no edgeproxy"))
    }

    /// Makes the fleet as an operator does, with the command line.
    fn invite(&mut self, fleet: Fleet) -> Result<(), String> {
        let cli = |edgeproxy: &crate::edgeproxy::EdgeProxy, arguments: &[&str]| {
            let output = edgeproxy.cli(arguments).map_err(|error| error.to_string())?;
            if output.status.success() {
                return Ok(());
            }
            Err(format!("edgeproxy {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
        };
        let mut authority = None;
        for name in fleet.names() {
            let edgeproxy = self.pop(&name)?;
            let folder = edgeproxy.file().parent().unwrap_or(std::path::Path::new("/")).to_owned();
            let path = |name: &str| folder.join(name).display().to_string();
            if authority.is_none() {
                cli(edgeproxy, &["fleet", "init", "--fleet", "example", "--out", &path("ca")])?;
            }
            let ca = authority.get_or_insert_with(|| path("ca")).clone();
            let invitation = path("invitation");
            let invite =
                ["fleet", "invite", &name, "--fleet", "example", "--authority", &ca, "--out", &invitation];
            cli(edgeproxy, &invite)?;
            cli(edgeproxy, &["fleet", "join", &invitation, "--out", &path("id")])?;
        }
        Ok(())
    }

    fn fleet_status(&mut self, pop: &str) -> Result<Value, String> {
        let asked = self.pop(pop)?.ask("GET", "/v1/fleet", ASK);
        let (_, body) = asked.map_err(|error| error.to_string())?;
        serde_json::from_str(&body).map_err(|error| error.to_string())
    }

    /// When everybody who runs had the same of everybody, and `all`: was connected with all.
    fn equal(&mut self, fleet: Fleet, all: bool) -> Result<Moment, String> {
        let mut seen: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for name in fleet.names() {
            if self.pop(&name)?.pid().is_none() {
                continue;
            }
            let status = self.fleet_status(&name)?;
            let members = status["members"].as_array().cloned().unwrap_or_default();
            if all
                && members.iter().filter(|member| member["connected"] == true).count() + 1
                    < usize::from(fleet.pops)
            {
                return Err(format!("{name} is not connected with all: {status}"));
            }
            let point = |value: &Value| value["point"].as_str().unwrap_or("nothing").to_owned();
            let mut points: BTreeMap<String, String> = members
                .iter()
                .map(|member| (member["pop"].as_str().unwrap_or_default().to_owned(), point(member)))
                .collect();
            points.insert(name.clone(), point(&status));
            seen.insert(name, points);
        }
        let now = Moment::now();
        let (first, points) = seen.first_key_value().ok_or("no POP runs")?;
        match seen.iter().find(|(_, other)| *other != points) {
            None => Ok(now),
            Some((name, other)) => Err(format!("{first} has {points:?}, {name} has {other:?}")),
        }
    }

    fn write(&mut self, pop: &str, text: &str) -> Result<Moment, String> {
        let target = format!("/v1/fleet/note?text={text}");
        let (status, body) = self.pop(pop)?.ask("POST", &target, WRITE).map_err(|error| error.to_string())?;
        if status == 200 { Ok(Moment::now()) } else { Err(format!("{pop}: {body}")) }
    }

    fn note_of(&mut self, pop: &str, of: &str) -> Result<Option<String>, String> {
        let status = self.fleet_status(pop)?;
        let members = status["members"].as_array().cloned().unwrap_or_default();
        let member = members.iter().find(|member| member["pop"] == of);
        let own = (pop == of).then_some(&status);
        Ok(own.or(member).and_then(|member| member["note"].as_str()).map(str::to_owned))
    }

    fn notes(
        &mut self,
        fleet: Fleet,
        count: u32,
        writers: Option<usize>,
        figure: &FleetFigure,
    ) -> Result<(), String> {
        let names = fleet.names();
        let writers = writers.unwrap_or(names.len()).clamp(1, names.len());
        let mut took = Vec::new();
        for number in 0..count {
            let writer = &names[number as usize % writers];
            let text = format!("note-{number}");
            let written = self.write(writer, &text)?;
            let end = Instant::now() + figure.most;
            let mut last = written;
            for reader in names.iter().filter(|reader| *reader != writer) {
                while self.note_of(reader, writer)?.as_deref() != Some(&text) {
                    if Instant::now() > end {
                        return Err(format!("{reader} does not know {text} of {writer}"));
                    }
                }
                last = last.max(Moment::now());
            }
            took.push(last.ms_after(written));
        }
        self.took(figure, &took)
    }

    fn took(&mut self, figure: &FleetFigure, milliseconds: &[f64]) -> Result<(), String> {
        let made = Figure::from_samples(milliseconds, "ms").ok_or("nothing was measured")?;
        self.record(&figure.figure, made, figure.goal.as_deref())
    }
}
