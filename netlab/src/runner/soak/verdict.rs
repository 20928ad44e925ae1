//! What a soak has shown: figures, the worst of it with its circumstances, and whether edgeproxy agrees.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::course::Course;
use crate::bgp_stream::{Event, Kind};
use crate::figures::Figure;
use crate::moment::Moment;
use crate::runner::Runner;
use crate::scenario::{Soak, SoakNeighbor};
use crate::soak::growth::growth;
use crate::soak::model::{Model, Neighbor, Prefix};
use crate::soak::spans::Span;

/// How many of the worst are told.
const WORST: usize = 5;
/// What is shown of the time before a wrong stretch, and after it.
const AROUND: Duration = Duration::from_secs(1);
/// A process has settled after this.
const SETTLED: Duration = Duration::from_secs(10);
/// How much the last process may have grown: behaviour, not a goal.
const MOST_MIB: f64 = 32.0;
const MOST_DESCRIPTORS: f64 = 32.0;

/// A stretch of time in which a neighbor was told wrong, or nothing.
struct Wrong<'a> {
    what: String,
    neighbor: &'a SoakNeighbor,
    span: Span,
}

impl Runner<'_> {
    /// Judges everything that was captured, and writes `soak.log` into the work directory.
    pub(super) fn judge(&mut self, soak: &Soak, course: &Course) -> Result<(), String> {
        let whole = Span { from: course.start, until: Moment::now() };
        let model = Model { pop: &soak.at, entries: &course.entries, whole };
        let (mut blackholes, mut missing, mut silent) = (Vec::new(), Vec::new(), Vec::new());
        let mut at_last = Vec::new();
        for neighbor in &soak.neighbors {
            let events = self.captured(&neighbor.capture)?;
            let known = Neighbor {
                host: neighbor.host.clone(),
                address: neighbor.address,
                link: neighbor.link.clone(),
            };
            let held = model.held(&known, &events);
            for prefix in &soak.prefixes {
                let served = Prefix { prefix: prefix.prefix, backends: prefix.served_by.clone() };
                let wrong = |span| Wrong { what: prefix.prefix.to_string(), neighbor, span };
                blackholes.extend(model.announced_not_served(&served, &held).iter().map(wrong));
                missing.extend(model.served_not_announced(&served, &held).iter().map(wrong));
            }
            let wrong = |span| Wrong { what: "no session".to_owned(), neighbor, span };
            silent.extend(model.without_session(&known, &held).iter().map(wrong));
            at_last.push((neighbor, held.at_last));
        }
        self.figures_of(soak, course, [&blackholes, &missing, &silent])?;
        let blackholes = self.worst(blackholes, course)?;
        let missing = self.worst(missing, course)?;
        let silent = self.worst(silent, course)?;
        let mut log = String::new();
        for entry in &course.entries {
            let _ = writeln!(log, "{}", entry.line(course.start));
        }
        let _ = write!(log, "\nannounced and not served for longest:\n{}", words(&blackholes));
        let _ = write!(log, "\nserved and not announced for longest:\n{}", words(&missing));
        let _ = write!(log, "\nwithout a session for longest:\n{}", words(&silent));
        let file = self.lab.work.join("soak.log");
        std::fs::write(&file, &log).map_err(|error| format!("{}: {error}", file.display()))?;
        self.tell(&format!("announced and not served for longest:\n{}", words(&blackholes)));
        if let Some((longest, circumstances)) = blackholes.first()
            && *longest > soak.most
        {
            let most = soak.most.as_millis();
            return Err(format!("announced and not served for more than {most} ms:\n{circumstances}"));
        }
        self.agree(soak, &at_last)?;
        self.sound(soak, course)
    }

    fn captured(&self, capture: &str) -> Result<Vec<Event>, String> {
        self.lab.capture(capture).map_err(|error| error.to_string())?.look(|seen| {
            if seen.dropped > 0 || seen.left_out > 0 || seen.failed.is_some() {
                return Err(format!("the capture {capture} is not whole: no figure can be made of it"));
            }
            Ok(seen.events.clone())
        })
    }

    fn figures_of(
        &mut self,
        soak: &Soak,
        course: &Course,
        [blackholes, missing, silent]: [&[Wrong<'_>]; 3],
    ) -> Result<(), String> {
        let lengths = |list: &[Wrong<'_>]| -> Vec<f64> {
            list.iter().map(|wrong| wrong.span.length().as_secs_f64() * 1e3).collect()
        };
        let faults = course.entries.len();
        self.record("faults", Figure::single(faults as f64, "faults", faults), None)?;
        let memory: Vec<f64> = course.looks.iter().map(|look| look.memory_mib).collect();
        let descriptors: Vec<f64> = course.looks.iter().map(|look| f64::from(look.descriptors)).collect();
        for (name, samples, unit) in [
            ("served_not_announced", &lengths(missing), "ms"),
            ("without_session", &lengths(silent), "ms"),
            ("memory", &memory, "MiB"),
            ("descriptors", &descriptors, "files"),
        ] {
            if let Some(figure) = Figure::from_samples(samples, unit) {
                self.record(name, figure, None)?;
            }
        }
        if let Some((memory, descriptors)) = growth(&course.looks, SETTLED) {
            let looks = course.looks.len();
            self.record("memory_growth", Figure::single(memory, "MiB", looks), None)?;
            self.record("descriptors_growth", Figure::single(descriptors, "files", looks), None)?;
        }
        let figure = Figure::from_samples(&lengths(blackholes), "ms");
        let figure =
            figure.ok_or("no prefix ever lost its service while it was announced: nothing is shown")?;
        self.record("announced_not_served", figure, Some(&soak.goal))
    }

    /// The longest with their circumstances, longest first.
    fn worst(&self, mut wrong: Vec<Wrong<'_>>, course: &Course) -> Result<Vec<(Duration, String)>, String> {
        wrong.sort_by_key(|wrong| std::cmp::Reverse(wrong.span.length()));
        wrong.truncate(WORST);
        wrong.iter().map(|wrong| Ok((wrong.span.length(), self.circumstances(wrong, course)?))).collect()
    }

    /// What was broken, and what the neighbor was told, around that time.
    fn circumstances(&self, wrong: &Wrong<'_>, course: &Course) -> Result<String, String> {
        let Wrong { what, neighbor, span } = wrong;
        let (from, until) = (span.from - AROUND, span.until + AROUND);
        let mut lines = Vec::new();
        for entry in &course.entries {
            if entry.begun.before <= until && entry.over().is_none_or(|over| over >= from) {
                lines.push((entry.begun.before, entry.line(course.start)));
            }
        }
        for event in self.captured(&neighbor.capture)? {
            if (from..=until).contains(&event.at) && event.kind != Kind::Keepalive {
                let (ports, seconds) = ((event.from_port, event.to_port), course.seconds(event.at));
                let words = format!(
                    "{seconds:9.3} {}:{} → {}:{} {}",
                    event.from, ports.0, event.to, ports.1, event.kind
                );
                lines.push((event.at, words));
            }
        }
        lines.sort_by_key(|(at, _)| *at);
        let mut text = format!(
            "{what} at {} for {:.1} ms from {:.3} s to {:.3} s\n",
            neighbor.host,
            span.length().as_secs_f64() * 1e3,
            course.seconds(span.from),
            course.seconds(span.until)
        );
        for (_, line) in lines {
            let _ = writeln!(text, "      {line}");
        }
        Ok(text)
    }

    /// What edgeproxy says that it told must be what arrived: everything.
    fn agree(&mut self, soak: &Soak, at_last: &[(&SoakNeighbor, BTreeSet<IpNetwork>)]) -> Result<(), String> {
        let all: BTreeSet<IpNetwork> = soak.prefixes.iter().map(|prefix| prefix.prefix).collect();
        let status = self.edgeproxy(&soak.at)?.status().map_err(|error| error.to_string())?;
        for (neighbor, arrived) in at_last {
            let address = neighbor.address.to_string();
            let neighbors = status["neighbors"].as_array().into_iter().flatten();
            let said = neighbors.filter(|said| said["address"] == address);
            let routes = said.flat_map(|said| said["announced"].as_array().into_iter().flatten());
            let said: BTreeSet<IpNetwork> =
                routes.filter_map(|route| route["prefix"].as_str()?.parse().ok()).collect();
            if *arrived != all || said != all {
                let host = &neighbor.host;
                return Err(format!(
                    "at the end {host} was told {arrived:?}, edgeproxy says {said:?}, and it should be {all:?}"
                ));
            }
        }
        Ok(())
    }

    /// No panic, and no growth without a bound.
    fn sound(&mut self, soak: &Soak, course: &Course) -> Result<(), String> {
        let log = self.edgeproxy(&soak.at)?.log();
        let text = std::fs::read_to_string(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        if let Some(line) = text.lines().find(|line| line.contains("panicked")) {
            return Err(format!("edgeproxy panicked: {line}"));
        }
        let Some((memory, descriptors)) = growth(&course.looks, SETTLED) else {
            return Err("no edgeproxy lived for long enough to show whether it grows".to_owned());
        };
        if memory > MOST_MIB || descriptors > MOST_DESCRIPTORS {
            return Err(format!("edgeproxy grew by {memory:.1} MiB and {descriptors} descriptors"));
        }
        Ok(())
    }
}

fn words(worst: &[(Duration, String)]) -> String {
    worst.iter().map(|(_, circumstances)| circumstances.as_str()).collect()
}
