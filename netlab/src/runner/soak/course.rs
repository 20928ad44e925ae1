//! The faults of a soak, brought about and healed in their time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::edgeproxy::EdgeProxy;
use crate::moment::Moment;
use crate::runner::Runner;
use crate::scenario::{Action, SetService, Soak};
use crate::soak::fault::{Done, Entry, Fault};
use crate::soak::growth::Look;
use crate::soak::plan::{Dice, Planned};

/// Between two looks at edgeproxy's memory and descriptors.
const LOOK: Duration = Duration::from_secs(1);
/// How long a reload by signal may take to show.
const RELOAD: Duration = Duration::from_secs(3);

/// What happened so far.
pub(super) struct Course {
    pub(super) start: Moment,
    pub(super) entries: Vec<Entry>,
    pub(super) looks: Vec<Look>,
    /// What heals an entry, by its time.
    healing: BTreeMap<(Moment, usize), Action>,
    /// The configuration before any reload.
    base: String,
    reloads: u64,
    dice: Dice,
}

impl Course {
    pub(super) fn new(seed: u64, base: String, start: Moment) -> Self {
        Self {
            start,
            entries: Vec::new(),
            looks: Vec::new(),
            healing: BTreeMap::new(),
            base,
            reloads: 0,
            dice: Dice::new(seed),
        }
    }

    /// That of the configuration in force: the first one is 1.
    pub(super) fn generation(&self) -> u64 {
        self.reloads + 1
    }

    /// Seconds after the start.
    pub(super) fn seconds(&self, at: Moment) -> f64 {
        at.ms_after(self.start) / 1e3
    }

    fn is_under_fault(&self, target: &str) -> bool {
        self.healing.keys().any(|(_, entry)| self.entries[*entry].target == target)
    }

    /// Another valid configuration: each change of the list is made or not.
    fn next_configuration(&mut self, soak: &Soak) -> String {
        self.reloads += 1;
        let mut text =
            self.base.replacen("generation: 1\n", &format!("generation: {}\n", self.generation()), 1);
        for change in &soak.reloads {
            if self.dice.below(2) == 1 {
                text = text.replacen(&change.from, &change.to, 1);
            }
        }
        text
    }
}

impl Runner<'_> {
    pub(super) fn run_course(
        &mut self,
        soak: &Soak,
        plan: &[Planned],
        length: Duration,
        course: &mut Course,
    ) -> Result<(), String> {
        for change in &soak.reloads {
            if course.base.matches(&change.from).count() != 1 {
                return Err(format!(
                    "{:?} is not exactly once in the configuration of {}",
                    change.from, soak.at
                ));
            }
        }
        let end = course.start + length;
        let mut plan = plan.iter().peekable();
        let mut look = course.start;
        loop {
            let fault = plan.peek().map_or(Moment::MAX, |planned| course.start + planned.at);
            let heal = course.healing.keys().next().map_or(Moment::MAX, |(at, _)| *at);
            let next = fault.min(heal).min(look).min(end);
            if let Some(left) = next.after(Moment::now()) {
                std::thread::sleep(left);
            }
            if next == end {
                break;
            }
            if next == heal {
                self.heal_next(course)?;
            } else if next == fault {
                let planned = plan.next().ok_or("a plan that was looked at has gone")?;
                self.bring_about(soak, planned, course)?;
            } else {
                look = look + LOOK;
                self.look(soak, course)?;
            }
        }
        while !course.healing.is_empty() {
            self.heal_next(course)?;
        }
        Ok(())
    }

    fn bring_about(&mut self, soak: &Soak, planned: &Planned, course: &mut Course) -> Result<(), String> {
        let Planned { target, fault, lasts, .. } = planned;
        if course.is_under_fault(target) {
            return Ok(());
        }
        let before = Moment::now();
        let name = || target.clone();
        let (done, healing) = match fault {
            Fault::Kill => self.begin(&Action::Kill(name()), Action::Start(name())),
            Fault::Stop => self.begin(&Action::Stop(name()), Action::Cont(name())),
            Fault::Error => self.begin(&status(target, 500), status(target, 200)),
            Fault::Hang => self.begin(&hang(target, true), hang(target, false)),
            Fault::Down => self.begin(&link(target, false), link(target, true)),
            Fault::Reload => (self.reload(soak, course), None),
            Fault::Broken => (self.refuse(soak, course), None),
        };
        done.map_err(|why| format!("{:.3} s, {target} {fault}: {why}", course.seconds(before)))?;
        let after = Moment::now();
        if let Some(heal) = healing {
            course.healing.insert((after + *lasts, course.entries.len()), heal);
        }
        let begun = Done { before, after };
        course.entries.push(Entry { target: target.clone(), fault: *fault, begun, healed: None });
        Ok(())
    }

    /// Does the one now; the other is to follow.
    fn begin(&mut self, action: &Action, healing: Action) -> (Result<(), String>, Option<Action>) {
        (self.act(action).map(drop), Some(healing))
    }

    fn heal_next(&mut self, course: &mut Course) -> Result<(), String> {
        let Some(((_, number), action)) = course.healing.pop_first() else { return Ok(()) };
        let before = Moment::now();
        let entry = &mut course.entries[number];
        self.act(&action).map_err(|why| format!("healing {}: {why}", entry.line(course.start)))?;
        entry.healed = Some(Done { before, after: Moment::now() });
        Ok(())
    }

    /// A valid configuration must be taken, whichever way it is told.
    fn reload(&mut self, soak: &Soak, course: &mut Course) -> Result<(), String> {
        let text = course.next_configuration(soak);
        let (generation, by_signal) = (course.generation(), course.dice.below(2) == 1);
        let edgeproxy = self.edgeproxy(&soak.at)?;
        let words = |error: std::io::Error| error.to_string();
        edgeproxy.rewrite(&text).map_err(words)?;
        if by_signal {
            edgeproxy.reload_by_signal().map_err(words)?;
            let taken = |status: &serde_json::Value| status["process"]["generation"] == generation;
            edgeproxy.wait_status(&format!("generation {generation}"), RELOAD, taken).map_err(words)?;
        } else {
            let told = edgeproxy.reload_by_command().map_err(words)?;
            told.map_err(|refusal| format!("a valid configuration was refused: {refusal}\n{text}"))?;
        }
        self.lab.node_mut(&soak.at).map_err(words)?.yaml = text;
        Ok(())
    }

    /// A broken file must be refused and change nothing.
    fn refuse(&mut self, soak: &Soak, course: &mut Course) -> Result<(), String> {
        let good = self.lab.node(&soak.at).map_err(|error| error.to_string())?.yaml.clone();
        let broken = match course.dice.below(4) {
            0 => good[..good.len() / 2].to_owned(),
            1 => good.clone() + "nobody_knows_this: 1\n",
            2 => good.replacen("generation: ", "generation: -", 1),
            _ => "\u{0}\u{1}garbage: [".to_owned(),
        };
        let edgeproxy = self.edgeproxy(&soak.at)?;
        let words = |error: std::io::Error| error.to_string();
        edgeproxy.rewrite_as_is(&broken).map_err(words)?;
        let told = edgeproxy.reload_by_command().map_err(words)?;
        // A later start must find the good one.
        edgeproxy.rewrite(&good).map_err(words)?;
        if told.is_ok() {
            return Err(format!("a broken file was accepted:\n{broken}"));
        }
        let status = edgeproxy.status().map_err(words)?;
        if status["process"]["generation"] == course.generation() {
            return Ok(());
        }
        Err(format!("a refused file changed the generation to {}", status["process"]["generation"]))
    }

    /// Notes memory and descriptors, and whether edgeproxy lives at all unless it was killed.
    fn look(&mut self, soak: &Soak, course: &mut Course) -> Result<(), String> {
        if course.is_under_fault(&soak.at) {
            return Ok(());
        }
        let edgeproxy = self.edgeproxy(&soak.at)?;
        let look = edgeproxy.pid().and_then(Look::at);
        let ended = || format!("edgeproxy ended by itself before {:.3} s", course.seconds(Moment::now()));
        course.looks.push(look.ok_or_else(ended)?);
        Ok(())
    }

    pub(super) fn edgeproxy(&mut self, host: &str) -> Result<&mut EdgeProxy, String> {
        let node = self.lab.node_mut(host).map_err(|error| error.to_string())?;
        node.edgeproxy.as_mut().ok_or_else(|| format!("{host} runs no edgeproxy"))
    }
}

fn status(service: &str, status: u16) -> Action {
    let service = service.to_owned();
    Action::Set(SetService {
        service,
        status: Some(status),
        refuse: None,
        hang: None,
        cut: None,
        delay: None,
    })
}

fn hang(service: &str, hang: bool) -> Action {
    let service = service.to_owned();
    Action::Set(SetService { service, status: None, refuse: None, hang: Some(hang), cut: None, delay: None })
}

fn link(interface: &str, up: bool) -> Action {
    Action::Link { interface: interface.to_owned(), up }
}
