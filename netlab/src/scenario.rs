//! The words of a scenario file: hosts, links, captures, and steps.

mod actions;
mod backhaul;
mod expectations;
mod explain;
mod fleet;
mod flows;
mod histogram;
mod measures;
mod mesh;
mod soak;
mod topology;
mod trial;
mod values;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::wireguard::fill;
pub use actions::{Action, Attack, Flap, NewConfig, Replace, SetService, Traffic};
pub use backhaul::{
    CutPath, Emulate, EmulatorConfig, EveryLength, ExpectArrivals, ExpectTraffic, ExpectWireguard, Loss,
    Replay, Silence, Sink, Wg,
};
pub use expectations::{
    Expect, ExpectAttack, ExpectCommand, ExpectRoute, ExpectSession, ExpectStatus, ExpectUpdates, Happening,
    Order,
};
pub use explain::ExpectExplanation;
pub use fleet::{Fleet, FleetFigure, FleetStep};
pub use flows::{ExpectFlows, FlowFigure, Flows};
pub use histogram::Histogram;
pub use measures::{CollectorSees, LastPacket, Measure, Outcome, Ratio, Share, Updates};
pub use mesh::{Mesh, MeshStep, MeshUp, inside};
/// A step with its place in the file.
pub use serde_yaml::Spanned;
pub use soak::{Soak, SoakFaults, SoakNeighbor, SoakPrefix};
pub use topology::{Capture, CollectorConfig, EdgeProxyConfig, ExabgpConfig, Host, Link, LinkEnd};
pub use trial::{End, Idle, Latency, Memory, Path, Race, Shows, Trial};
use values::{duration, three_minutes};

/// A whole scenario, or a topology when it has no steps.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub scenario: String,
    /// What it shows, in a sentence or two.
    pub about: String,
    /// After this the scenario has failed. Default 3 min.
    #[serde(default = "three_minutes", deserialize_with = "duration")]
    pub deadline: Duration,
    #[serde(default)]
    pub hosts: BTreeMap<String, Host>,
    /// Hosts that are all alike, besides.
    pub mesh: Option<Mesh>,
    /// The same, of one fleet.
    pub fleet: Option<Fleet>,
    #[serde(default)]
    pub links: Vec<Link>,
    #[serde(default)]
    pub captures: BTreeMap<String, Capture>,
    /// Ways of UDP that can be made bad.
    #[serde(default)]
    pub emulators: BTreeMap<String, EmulatorConfig>,
    /// Ways through the proxy whose both ends the lab holds.
    #[serde(default)]
    pub paths: BTreeMap<String, Path>,
    #[serde(default)]
    pub steps: Vec<Spanned<Step>>,
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// Words with the place of the first mistake.
    pub fn load(path: &std::path::Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::read(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads a scenario's text. `{{private NAME}}` and `{{public NAME}}` in it are the halves of key pairs, made anew
    /// each time, in base64.
    ///
    /// # Errors
    /// As [`load`](Self::load), without the file.
    pub fn read(text: &str) -> Result<Self, String> {
        let text = fill(text, &mut BTreeMap::new())?;
        let mut scenario: Self = serde_yaml::from_str(&text).map_err(|error| error.to_string())?;
        if let Some(mesh) = scenario.mesh {
            mesh.expand(&mut scenario)?;
        }
        if let Some(fleet) = scenario.fleet {
            fleet.expand(&mut scenario)?;
        }
        Ok(scenario)
    }
}

/// One step; one of its words.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Printed.
    Say(String),
    Do(Action),
    Expect(Box<Expect>),
    /// Runs its steps several times.
    Repeat {
        times: u32,
        steps: Vec<Spanned<Step>>,
    },
    Measure(Box<Measure>),
    Ratio(Ratio),
    /// Processor seconds that the router or edgeproxy of a host has used, with all its children.
    Cpu {
        figure: String,
        of: String,
    },
    /// One figure over what a traffic client sent.
    Share(Share),
    Silence(Silence),
    Loss(Loss),
    Mesh(MeshStep),
    Fleet(FleetStep),
    /// One figure: how many UPDATEs named a prefix.
    Updates(Updates),
    /// What edgeproxy measures of its withdrawals beside what captures see of them.
    Histogram(Box<Histogram>),
    /// One figure over what a client's flows did.
    Flows(FlowFigure),
    Soak(Box<Soak>),
    /// Behaviours of the path through the proxy.
    Trial(Trial),
    Race(Race),
    Memory(Memory),
    Idle(Idle),
    Latency(Latency),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_know_their_lines() {
        let text = "scenario: a\nabout: b\nhosts: {}\nsteps:\n  - say: one\n  # not a step\n  - repeat:\n      times: 2\n      steps:\n        - do: { wait: 1s }\n";
        let scenario: Scenario = serde_yaml::from_str(text).unwrap();
        let lines = |steps: &[Spanned<Step>]| steps.iter().map(|s| s.referenced.line()).collect::<Vec<_>>();
        assert_eq!(lines(&scenario.steps), [5, 7]);
        let Step::Repeat { steps, .. } = &scenario.steps[1].value else { panic!("not a repeat") };
        assert_eq!(lines(steps), [10]);
    }
}
