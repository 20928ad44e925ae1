//! The forecast as a screen for people.

use std::fmt;

use super::{Action, Forecast, NeighborForecast, Route};
use crate::config::diff::{Change, NeighborChange, Word};

impl fmt::Display for Forecast {
    /// A line for each prefix, neighbor, service and peer, and under a neighbor each route that changes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} → {}", self.generation.old, self.generation.new)?;
        for it in &self.prefixes {
            let dark = if it.darkened { " [goes dark]" } else { "" };
            if it.now == it.then {
                write!(f, "\nprefix    {} stays {}{dark}: {}", it.prefix, it.now, it.why)?;
            } else {
                write!(f, "\nprefix    {} {} → {}{dark}: {}", it.prefix, it.now, it.then, it.why)?;
            }
        }
        for neighbor in &self.neighbors {
            self::neighbor(f, neighbor)?;
        }
        for (kind, changes) in [("service", &self.services), ("peer", &self.peers)] {
            for (name, change) in changes {
                match change {
                    Change::Added => write!(f, "\n{kind:<9} {name} add")?,
                    Change::Removed => write!(f, "\n{kind:<9} {name} remove")?,
                    Change::Keep => write!(f, "\n{kind:<9} {name} keep")?,
                    Change::Changed(words) => write!(f, "\n{kind:<9} {name} change: {}", joined(words))?,
                }
            }
        }
        for word in &self.process {
            write!(f, "\nprocess   {word}")?;
        }
        for word in &self.restart {
            write!(f, "\nrestart   {word} (kept until the process is restarted)")?;
        }
        Ok(())
    }
}

fn neighbor(f: &mut fmt::Formatter<'_>, neighbor: &NeighborForecast) -> fmt::Result {
    let name = &neighbor.name;
    match &neighbor.change {
        NeighborChange::Added => write!(f, "\nneighbor  {name} add")?,
        NeighborChange::Removed => write!(f, "\nneighbor  {name} remove")?,
        NeighborChange::Keep => write!(f, "\nneighbor  {name} keep")?,
        NeighborChange::Soft(words) => write!(f, "\nneighbor  {name} soft: {}", joined(words))?,
        NeighborChange::Reset(words) => write!(f, "\nneighbor  {name} reset: {}", joined(words))?,
    }
    let kept = |route: &&Route| route.action == Action::Keep;
    for Route { prefix, action, why, .. } in neighbor.routes.iter().filter(|route| !kept(route)) {
        let action = match action {
            Action::Announce => "announce",
            Action::Withdraw => "withdraw",
            Action::Attributes => "attributes",
            Action::Keep => "keep",
            Action::Again => "again",
        };
        write!(f, "\n          {action} {prefix}: {why}")?;
    }
    match neighbor.routes.iter().filter(kept).count() {
        0 => Ok(()),
        1 => write!(f, "\n          keep 1 route"),
        kept => write!(f, "\n          keep {kept} routes"),
    }
}

fn joined(words: &[Word]) -> String {
    words.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
