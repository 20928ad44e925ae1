//! Runs a scenario's steps and says what came of them.

mod actions;
mod attack;
mod backhaul;
mod expectations;
mod explain;
mod fleet;
mod flows;
mod histogram;
mod measures;
mod mesh;
mod processes;
mod soak;
mod trial;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::figures::Figure;
use crate::lab::Lab;
use crate::load::Spin;
use crate::machine::{self, Ticks};
use crate::moment::Moment;
use crate::process::Process;
use crate::scenario::{Scenario, Spanned, Step};
use crate::traffic::{Attack, Client, EchoServer, FlowClient};

/// How long a shell command of a step may take.
const COMMAND: Duration = Duration::from_secs(30);

/// What came of a scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub scenario: String,
    pub pass: bool,
    pub figures: BTreeMap<String, Figure>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    pub seconds: f64,
    /// Of the routers in it.
    pub versions: BTreeMap<String, String>,
    /// How much processor time the hypervisor gave to others meanwhile, in percent.
    pub stolen_percent: f64,
}

/// A scenario that runs.
pub struct Runner<'a> {
    scenario: &'a Scenario,
    lab: Lab,
    figures: BTreeMap<String, Figure>,
    samples: BTreeMap<String, Vec<f64>>,
    marks: BTreeMap<String, Moment>,
    traffic: BTreeMap<String, Client>,
    flows: BTreeMap<String, FlowClient>,
    /// With how many attempts each makes.
    attacks: BTreeMap<String, (Attack, usize)>,
    sinks: BTreeMap<String, EchoServer>,
    background: Vec<Process>,
    busy: Option<Spin>,
    deadline: Instant,
    verbose: bool,
    /// Which step runs: numbers and lines from the outermost inwards.
    place: Vec<(usize, u64)>,
}

/// Runs one scenario in a fresh lab under `work`.
#[must_use]
pub fn run(scenario: &Scenario, work: &Path, verbose: bool) -> Report {
    let start = Instant::now();
    let mut report = Report {
        scenario: scenario.scenario.clone(),
        pass: false,
        figures: BTreeMap::new(),
        failure: None,
        seconds: 0.0,
        versions: machine::versions(scenario),
        stolen_percent: 0.0,
    };
    let before = Ticks::now();
    match Lab::build(scenario, work) {
        Err(error) => report.failure = Some(format!("the lab could not be built: {error}")),
        Ok(lab) => {
            let mut runner = Runner {
                scenario,
                lab,
                figures: BTreeMap::new(),
                samples: BTreeMap::new(),
                marks: BTreeMap::from([("start".to_owned(), Moment::ZERO)]),
                traffic: BTreeMap::new(),
                flows: BTreeMap::new(),
                attacks: BTreeMap::new(),
                sinks: BTreeMap::new(),
                background: Vec::new(),
                busy: None,
                deadline: start + scenario.deadline,
                verbose,
                place: Vec::new(),
            };
            match runner.steps(&scenario.steps) {
                Ok(()) => report.pass = true,
                Err(why) => {
                    let mut words = format!("{}: {why}", place(&runner.place));
                    let _ = write!(words, "\n{}", runner.lab.tails(16));
                    report.failure = Some(words);
                }
            }
            // Traffic ends before the network that it runs in: captures read what still arrives.
            runner.traffic.clear();
            runner.flows.clear();
            runner.attacks.clear();
            runner.sinks.clear();
            runner.background.clear();
            report.figures = runner.figures;
        }
    }
    report.seconds = start.elapsed().as_secs_f64();
    report.stolen_percent = Ticks::now().stolen_since(before);
    report
}

impl Runner<'_> {
    fn steps(&mut self, steps: &[Spanned<Step>]) -> Result<(), String> {
        for (number, step) in steps.iter().enumerate() {
            self.place.push((number + 1, step.referenced.line()));
            if Instant::now() > self.deadline {
                let seconds = self.scenario.deadline.as_secs();
                return Err(format!("the scenario's deadline of {seconds} s is over"));
            }
            self.step(&step.value)?;
            self.place.pop();
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Say(words) => {
                self.tell(words);
                Ok(())
            }
            Step::Do(action) => self.act(action).map(drop),
            Step::Expect(expect) => self.expect(expect),
            Step::Repeat { times, steps } => {
                for _ in 0..*times {
                    self.steps(steps)?;
                }
                Ok(())
            }
            Step::Measure(measure) => self.measure(measure),
            Step::Ratio(ratio) => self.ratio(ratio),
            Step::Cpu { figure, of } => self.cpu(figure, of),
            Step::Share(share) => self.share(share),
            Step::Silence(silence) => self.silence(silence),
            Step::Loss(loss) => self.loss(loss),
            Step::Mesh(step) => self.mesh(step),
            Step::Fleet(step) => self.fleet(step),
            Step::Updates(updates) => self.update_figure(updates),
            Step::Histogram(histogram) => self.histogram(histogram),
            Step::Flows(figure) => self.flow_figure(figure),
            Step::Soak(soak) => self.soak(soak),
            Step::Trial(trial) => self.trial(trial),
            Step::Race(race) => self.race(race),
            Step::Idle(idle) => self.idle(idle),
            Step::Memory(memory) => self.memory(memory),
            Step::Latency(latency) => self.latency(latency),
        }
    }

    #[expect(clippy::print_stderr, reason = "progress is for people; standard output is for JSON")]
    fn tell(&self, words: &str) {
        if self.verbose {
            eprintln!("   {words}");
        }
    }

    /// Calls `look` until it answers or the time is over; `look` says what it sees instead.
    fn poll<T>(
        &mut self,
        within: Duration,
        mut look: impl FnMut(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let end = (Instant::now() + within).min(self.deadline);
        let mut pause = Duration::from_millis(2);
        loop {
            match look(self) {
                Ok(value) => return Ok(value),
                Err(why) if Instant::now() >= end => {
                    return Err(format!("not within {} ms: {why}", within.as_millis()));
                }
                Err(_) => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn mark(&self, name: &str) -> Result<Moment, String> {
        self.marks.get(name).copied().ok_or_else(|| format!("there is no mark {name}"))
    }
}

/// `step 3.2 (line 40)`: the numbers of all, the line of the innermost.
fn place(place: &[(usize, u64)]) -> String {
    let numbers: Vec<_> = place.iter().map(|(number, _)| number.to_string()).collect();
    let line = place.last().map_or(0, |(_, line)| *line);
    format!("step {} (line {line})", numbers.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_names_all_numbers_and_the_innermost_line() {
        assert_eq!(place(&[(3, 38), (2, 40)]), "step 3.2 (line 40)");
    }
}
