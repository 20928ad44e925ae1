//! A soak: faults come and go as planned, everything heals, and what was captured is judged.

mod course;
mod verdict;

use std::time::Duration;

use super::Runner;
use crate::moment::Moment;
use crate::scenario::Soak;
use crate::soak::plan::{Trouble, plan};
use course::Course;

/// How long everything may take to be well again: routers wait between attempts.
const RECOVERY: Duration = Duration::from_secs(90);

impl Runner<'_> {
    pub(super) fn soak(&mut self, soak: &Soak) -> Result<(), String> {
        let seed = match std::env::var("NETLAB_SEED") {
            Ok(text) => text.parse().map_err(|_| format!("NETLAB_SEED={text} is no number"))?,
            Err(_) => soak.seed,
        };
        let is_full = std::env::var_os("EDGEPROXY_FULL").is_some();
        let minutes = if is_full { soak.full_minutes } else { soak.minutes };
        let length = Duration::from_secs(60) * minutes;
        self.tell(&format!("{minutes} minutes of faults; NETLAB_SEED={seed} repeats them"));
        let troubles: Vec<Trouble> = soak
            .faults
            .iter()
            .map(|faults| Trouble {
                target: faults.target.clone(),
                faults: faults.any_of.clone(),
                gap: faults.gap,
                lasts: faults.lasts,
                until: length * faults.until_percent.min(100) / 100,
            })
            .collect();
        let base = self.lab.node(&soak.at).map_err(|error| error.to_string())?.yaml.clone();
        let mut course = Course::new(seed, base, Moment::now());
        let ran = self.run_course(soak, &plan(seed, &troubles), length, &mut course);
        // Everything that was seen is worth showing, above all when the course broke off.
        let recovered = ran.and_then(|()| self.recover(soak, &course));
        let judged = self.judge(soak, &course);
        recovered.map_err(|why| format!("{why} (NETLAB_SEED={seed})"))?;
        judged.map_err(|why| format!("{why} (NETLAB_SEED={seed})"))
    }

    /// Waits until every session is up and every prefix is announced.
    fn recover(&mut self, soak: &Soak, course: &Course) -> Result<(), String> {
        let generation = course.generation();
        let began = Moment::now();
        self.poll(RECOVERY, |runner| {
            let status = runner.edgeproxy(&soak.at)?.status().map_err(|error| error.to_string())?;
            let list = |key: &str| status[key].as_array().cloned().unwrap_or_default();
            let sessions = list("neighbors").iter().filter(|n| n["state"] == "Established").count();
            let prefixes = list("prefixes").iter().filter(|p| p["state"] == "announced").count();
            let told = list("neighbors");
            let told = told.iter().filter(|n| n["announced"].as_array().map(Vec::len) == Some(soak.prefixes.len()));
            let wanted = (soak.neighbors.len(), soak.prefixes.len(), soak.neighbors.len());
            if (sessions, prefixes, told.count()) == wanted && status["process"]["generation"] == generation {
                return Ok(());
            }
            Err(format!("{sessions} sessions are up and {prefixes} prefixes announced, generation {generation}: {status:#}"))
        })
        .map_err(|why| format!("all faults are healed, but not all is well: {why}"))?;
        self.tell(&format!(
            "well again {:.3} s after the last fault",
            Moment::now().since(began).as_secs_f64()
        ));
        // What was sent must have arrived before it is judged.
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    }
}
