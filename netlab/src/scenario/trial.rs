//! Behaviours that a step shows of the proxy: both ends of a path in hand, many clients at once, what it costs.

use std::net::SocketAddr;

use serde::Deserialize;

/// A way through the proxy of which the lab holds both ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    /// The client's host, and what it dials.
    pub client: String,
    pub to: SocketAddr,
    /// The backend's host, and where it is to listen while something is tried: nothing else may.
    pub backend: String,
    pub at: SocketAddr,
}

/// `trial:`: each behaviour is tried once, on a connection of its own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    pub path: String,
    pub shows: Vec<Shows>,
}

/// An end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Client,
    Backend,
}

/// A behaviour.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Shows {
    /// This end finishes first, and hears the other out.
    HalfClose(End),
    /// This end resets, the other is reset.
    Reset(End),
    /// This end resets while nothing more that it writes finds room.
    ResetWhileFull(End),
    /// This end reads nothing for a while: the other is held back, other connections are not, and all of it comes.
    SlowReader(End),
    /// The backend speaks before the client.
    SpeaksFirst,
    /// So many megabytes each way at once.
    Integrity { megabytes: u64 },
    /// So many octets each way, one in a write.
    SingleOctets { octets: u32 },
    /// Without a backend the client is reset.
    Refused,
}

/// `race:`: clients that come at the same moment to a service that sends back what it reads.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Race {
    /// The host that they come from.
    pub from: String,
    pub to: SocketAddr,
    pub racers: usize,
    /// Connections that stand already.
    #[serde(default)]
    pub held: usize,
    /// So many of the racers are served each time; the others are reset.
    pub served: usize,
    pub rounds: u32,
}

/// `memory:` remembers how much resident memory edgeproxy has under a name, or makes a figure of what came to it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    pub of: String,
    pub mark: Option<String>,
    pub figure: Option<String>,
    /// What was remembered before.
    pub since: Option<String>,
    /// The figure is for one of so many, in KiB. Default: for all.
    pub per: Option<u32>,
    pub goal: Option<String>,
    /// More fails: behaviour, not a goal.
    pub at_most: Option<f64>,
}

/// `idle:` opens connections that are used once and then stay, and makes a figure of what one of them costs.
///
/// Where edgeproxy may not have two descriptors for each, there are fewer, and it is said how many.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idle {
    /// Names the client, with a number behind it: `idle-1`, `idle-2`, …
    pub name: String,
    pub from: String,
    pub target: SocketAddr,
    pub count: usize,
    /// The edgeproxy that is weighed.
    pub of: String,
    pub figure: String,
    pub goal: Option<String>,
    /// KiB; more fails: behaviour, not a goal.
    pub at_most: Option<f64>,
}

/// `latency:`: from the moment a flow was due until the first echo, over all flows of a client that were echoed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    pub figure: String,
    pub name: String,
    pub goal: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::super::Step;
    use super::*;

    #[test]
    fn behaviours_are_named_in_a_list() {
        let text = "trial: { path: plain, shows: [{ half_close: client }, speaks_first, { integrity: { megabytes: 50 } }] }";
        let Step::Trial(trial) = serde_yaml::from_str(text).unwrap() else { panic!("not a trial") };
        let wanted = [Shows::HalfClose(End::Client), Shows::SpeaksFirst, Shows::Integrity { megabytes: 50 }];
        assert_eq!(trial.shows, wanted);
        for wrong in ["half_close: nobody", "integrity: { kilobytes: 1 }", "whole_close: client"] {
            let text = format!("trial: {{ path: plain, shows: [{{ {wrong} }}] }}");
            assert!(serde_yaml::from_str::<Step>(&text).is_err(), "{wrong}");
        }
    }
}
