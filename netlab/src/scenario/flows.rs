//! Long TCP flows in a scenario: what a client does, what its flows must come to, and figures of them.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::{Error, IntoDeserializer};
use serde::{Deserialize, Deserializer};

use super::values::duration;
use crate::traffic::flows::{Counts, Plan};

/// `do: flows:` starts a client of many flows. One of the same name that runs already is ended first.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flows {
    pub name: String,
    /// The host that they come from.
    pub from: String,
    /// A `tcp` service, or what leads to one.
    pub target: SocketAddr,
    /// Default 1,000.
    #[serde(default = "a_thousand")]
    pub count: usize,
    /// They are opened evenly over this time. Default `0s`: all at once.
    #[serde(default, deserialize_with = "duration")]
    pub over: Duration,
    /// How long each lasts, at random between two lengths: `1s..15s`; or `5s`.
    #[serde(deserialize_with = "lengths")]
    pub lasts: RangeInclusive<Duration>,
    /// From one request of a flow to its next. Default `250ms`.
    #[serde(default = "a_quarter", deserialize_with = "duration")]
    pub every: Duration,
    #[serde(default)]
    pub seed: u64,
    /// Over TLS, to a server of this name, whose certificate may be anybody's.
    pub tls: Option<String>,
}

/// `expect: flows:`: what happened between two marks, as `do: flows:` counts it. What is not named is not looked at.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectFlows {
    pub name: String,
    /// A mark. Default: the beginning.
    pub since: Option<String>,
    /// A mark. Default: now.
    pub until: Option<String>,
    pub opened: Option<Wanted>,
    pub completed: Option<Wanted>,
    /// Told by close_notify to end, before their time was over.
    pub notified: Option<Wanted>,
    pub reset: Option<Wanted>,
    pub refused: Option<Wanted>,
    pub broken: Option<Wanted>,
    /// At the end of that time.
    pub open: Option<Wanted>,
}

/// A number of flows: `1000`, `{ least: 900 }`, `{ most: 3 }`, or both.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "a number of flows is written 1000, { least: 900 } or { most: 3 }")]
pub enum Wanted {
    Exactly(usize),
    Between(Bounds),
}

/// Both included.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    #[serde(default)]
    pub least: usize,
    #[serde(default = "without_end")]
    pub most: usize,
}

/// `flows:` makes a figure: how many flows did `what` between two marks, out of all.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowFigure {
    pub figure: String,
    pub name: String,
    pub what: What,
    pub since: Option<String>,
    pub until: Option<String>,
    pub goal: Option<String>,
}

/// What flows do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Opened,
    Completed,
    Notified,
    Reset,
    Refused,
    Broken,
    Open,
}

impl Flows {
    /// What the client is told.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan {
            target: self.target,
            count: self.count,
            over: self.over,
            lasts: self.lasts.clone(),
            every: self.every,
            seed: self.seed,
            tls: self.tls.clone(),
        }
    }
}

impl ExpectFlows {
    /// Whether all of it is so.
    #[must_use]
    pub fn is_met(&self, counts: &Counts) -> bool {
        let wanted = [
            (self.opened, What::Opened),
            (self.completed, What::Completed),
            (self.notified, What::Notified),
            (self.reset, What::Reset),
            (self.refused, What::Refused),
            (self.broken, What::Broken),
            (self.open, What::Open),
        ];
        wanted.into_iter().all(|(wanted, what)| wanted.is_none_or(|wanted| wanted.holds(what.of(counts))))
    }
}

impl Wanted {
    fn holds(self, count: usize) -> bool {
        match self {
            Self::Exactly(wanted) => count == wanted,
            Self::Between(Bounds { least, most }) => (least..=most).contains(&count),
        }
    }
}

impl What {
    /// How many did.
    #[must_use]
    pub fn of(self, counts: &Counts) -> usize {
        match self {
            Self::Opened => counts.opened,
            Self::Completed => counts.completed,
            Self::Notified => counts.notified,
            Self::Reset => counts.reset,
            Self::Refused => counts.refused,
            Self::Broken => counts.all_broken(),
            Self::Open => counts.open,
        }
    }
}

fn a_thousand() -> usize {
    1000
}

fn a_quarter() -> Duration {
    Duration::from_millis(250)
}

fn without_end() -> usize {
    usize::MAX
}

fn lengths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RangeInclusive<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let (least, most) = text.split_once("..").unwrap_or((&text, &text));
    let (least, most) = (duration(least.into_deserializer())?, duration(most.into_deserializer())?);
    if least > most {
        return Err(D::Error::custom(format!("{text:?} begins with the longer time")));
    }
    Ok(least..=most)
}

#[cfg(test)]
mod tests {
    use super::super::{Expect, Step};
    use super::*;

    fn expected(text: &str) -> Result<ExpectFlows, String> {
        let expect: Expect = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        expect.flows.ok_or_else(|| "no flows".to_owned())
    }

    #[test]
    fn a_client_is_told_in_words() {
        let step = |words: &str| {
            let text =
                format!("do: {{ flows: {{ name: long, from: client, target: \"192.0.2.1:80\", {words} }} }}");
            serde_yaml::from_str::<Step>(&text).map_err(|error| error.to_string())
        };
        let plan = |words: &str| match step(words) {
            Ok(Step::Do(super::super::Action::Flows(flows))) => flows.plan(),
            other => panic!("{other:?}"),
        };
        let (second, quarter) = (Duration::from_secs(1), Duration::from_millis(250));
        let told = plan("lasts: 250ms..15s");
        assert_eq!((told.count, told.over, told.every, told.seed), (1000, Duration::ZERO, quarter, 0));
        assert_eq!(told.lasts, quarter..=15 * second);
        let told = plan("lasts: 1s, count: 5, over: 1s, every: 2s, seed: 3");
        assert_eq!((told.count, told.over, told.every, told.seed), (5, second, 2 * second, 3));
        assert_eq!(told.lasts, second..=second);
        for wrong in ["lasts: 2s..1s", "lasts: 1..2", "lasts: 1s..2s..3s", "count: 3", "lasts: 1s, more: 1"] {
            assert!(step(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_named_must_hold_and_nothing_else() {
        let counts = Counts { opened: 10, completed: 7, reset: 1, open: 2, ..Counts::default() };
        let rows = [
            ("", true),
            ("opened: 10, completed: 7, reset: 1, refused: 0, broken: 0, open: 2", true),
            ("completed: { least: 7 }, reset: { most: 1 }, open: { least: 1, most: 2 }", true),
            ("opened: 9", false),
            ("completed: { least: 8 }", false),
            ("reset: { most: 0 }", false),
            ("refused: 1", false),
            ("broken: { least: 1 }", false),
            ("open: { least: 3, most: 4 }", false),
        ];
        for (words, met) in rows {
            let wanted = expected(&format!("{{ flows: {{ name: long, {words} }}, within: 1s }}")).unwrap();
            assert_eq!(wanted.is_met(&counts), met, "{words}");
        }
        for wrong in ["reset: few", "reset: { mots: 1 }", "lost: 1", "reset: -1"] {
            assert!(expected(&format!("flows: {{ name: long, {wrong} }}")).is_err(), "{wrong}");
        }
    }
}
