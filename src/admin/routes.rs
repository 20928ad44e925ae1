//! What each request is answered with, from snapshots: a pure function of both.

pub mod choice;
mod events;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::Serialize;

pub use self::choice::WantedChoice;
use super::{Ask, Explanation, Offered, Status, TellsNeighbor, query};
use crate::observe::journal::recent::Recent;
use crate::observe::metrics::{self, Recorder};
use crate::observe::status::backhaul::BackhaulStatus;
use crate::observe::status::fleet::FleetStatus;
use crate::observe::status::traffic::ProxyStatus;
use crate::observe::status::{NeighborStatus, PrefixStatus, ProcessStatus, ServiceStatus};

/// A subsystem that has published nothing for this long is taken for hung.
pub const STALE_AFTER: Duration = Duration::from_secs(5);

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The Unix socket: everything.
    Operator,
    /// The TCP address: `/metrics` and `/healthz` only.
    Metrics,
}

/// A request, whole and within its bounds.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub body: &'a [u8],
}

/// What is known at the time of the request.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub process: Arc<ProcessStatus>,
    pub neighbors: Arc<Vec<Arc<NeighborStatus>>>,
    pub prefixes: Arc<Vec<PrefixStatus>>,
    pub services: Arc<Vec<ServiceStatus>>,
    pub proxy: Arc<ProxyStatus>,
    pub backhaul: Option<Arc<BackhaulStatus>>,
    pub fleet: Option<Arc<FleetStatus>>,
    pub events: Arc<Recent>,
    /// How long ago each of them was published, by the publisher's name.
    pub ages: [(&'static str, Duration); 4],
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Route {
    Answer(Answer),
    /// The answer for now; the request is to be routed again when there are new events.
    Await(Answer),
    Command(Ask),
    /// The workers have to be asked.
    Connections(WantedConnections),
    /// The data plane has to be asked.
    Choice(WantedChoice),
}

/// Which connections somebody wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedConnections {
    /// At most so many.
    pub most: usize,
    pub service: Option<String>,
    /// An address, without a port.
    pub client: Option<String>,
}

/// The most connections that one answer lists.
const MOST_CONNECTIONS: usize = 10_000;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

impl Answer {
    /// 200 with a document.
    #[must_use]
    pub fn json<T: Serialize>(document: &T) -> Self {
        match serde_json::to_string_pretty(document) {
            Ok(body) => Self { status: 200, content_type: "application/json", body: body + "\n" },
            Err(error) => Self::refusal(500, &format!("the answer cannot be written: {error}")),
        }
    }

    /// A refusal in words.
    #[must_use]
    pub fn refusal(status: u16, why: &str) -> Self {
        let body = format!("{:#}\n", serde_json::json!({ "error": why }));
        Self { status, content_type: "application/json", body }
    }

    fn text(status: u16, body: String) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body }
    }
}

/// Decides on one request.
#[must_use]
pub fn route(door: Door, request: Request<'_>, now: &Snapshot, recorder: &Recorder) -> Route {
    let Some(method) = method_of(door, request.path) else {
        return Route::Answer(Answer::refusal(404, known_paths(door)));
    };
    // A HEAD is a GET whose body the server leaves out (RFC 9110 §9.3.2).
    if request.method != method && !(method == "GET" && request.method == "HEAD") {
        return Route::Answer(Answer::refusal(405, &format!("use {method} for {}", request.path)));
    }
    Route::Answer(match request.path {
        "/metrics" => Answer {
            status: 200,
            content_type: metrics::CONTENT_TYPE,
            body: recorder.render(
                &now.process,
                &now.neighbors,
                &now.prefixes,
                &now.services,
                &now.proxy,
                now.backhaul.as_deref(),
                now.fleet.as_deref(),
                now.events.status,
            ),
        },
        "/healthz" => health(now),
        "/v1/status" => Answer::json(&Status {
            process: (*now.process).clone(),
            neighbors: (*now.neighbors).clone(),
            prefixes: (*now.prefixes).clone(),
            services: (*now.services).clone(),
            certificates: now.proxy.certificates.clone(),
            backhaul: now.backhaul.clone(),
            fleet: now.fleet.clone(),
        }),
        "/v1/neighbors" => Answer::json(&*now.neighbors),
        "/v1/prefixes" => Answer::json(&*now.prefixes),
        "/v1/services" => Answer::json(&*now.services),
        "/v1/backends" => Answer::json(&*now.proxy),
        "/v1/backhaul" => match &now.backhaul {
            Some(backhaul) => Answer::json(&**backhaul),
            None => {
                Answer::refusal(404, "there is no backhaul: add the section `backhaul` to the configuration")
            }
        },
        "/v1/fleet" => match &now.fleet {
            Some(fleet) => Answer::json(&**fleet),
            None => Answer::refusal(
                404,
                "this POP belongs to no fleet: add the sections `fleet` and `replication` to the configuration",
            ),
        },
        "/v1/connections" => match connections(request.query) {
            Ok(wanted) => return Route::Connections(wanted),
            Err(why) => Answer::refusal(400, why),
        },
        "/v1/explain" => match (choice::wanted(request.query), query::value(request.query, "prefix")) {
            (Ok(Some(wanted)), _) => return Route::Choice(wanted),
            (Err(why), _) => Answer::refusal(400, &why),
            (Ok(None), Some(prefix)) => explain(&prefix, now),
            (Ok(None), None) => Answer::refusal(
                400,
                "say which prefix: /v1/explain?prefix=198.51.100.0/24, or which client of which service: \
                 /v1/explain?client=203.0.113.7&service=web",
            ),
        },
        "/v1/events" => return events::events(request.query, now),
        _ => match command(request) {
            Ok(ask) => return Route::Command(ask),
            Err(why) => Answer::refusal(400, &why),
        },
    })
}

/// What a POST asks for.
fn command(request: Request<'_>) -> Result<Ask, String> {
    let Request { path, query, body, .. } = request;
    let number = |key: &str| {
        let given = query::value(query, key);
        let number = |text: String| text.parse().map_err(|_| format!("{key}={text} is no whole number"));
        given.map(number).transpose()
    };
    let allow_withdraw = query::value(query, "allow_withdraw").is_some_and(|word| word == "1");
    Ok(match path {
        "/v1/reload" => Ask::Reload,
        "/v1/confirm" => Ask::Confirm,
        "/v1/rollback" => Ask::Rollback { to: number("to")?, allow_withdraw },
        "/v1/drain" | "/v1/undrain" => drain(request)?,
        "/v1/fleet/note" => note(request)?,
        _ => {
            let text = str::from_utf8(body).map_err(|_| "the configuration is not UTF-8 text")?.to_owned();
            let base = query::value(query, "base").unwrap_or_else(|| "/".to_owned()).into();
            let offered = Offered { text, base, signature: query::value(query, "signature") };
            match path {
                "/v1/plan" => Ask::Plan(offered),
                "/v1/apply" => {
                    let confirm_within = number("confirm_within_ms")?.map(Duration::from_millis);
                    Ask::Apply { offered, confirm_within, allow_withdraw }
                }
                _ => Ask::Diff { text: offered.text, base: offered.base },
            }
        }
    })
}

/// The method of a path that exists at this door.
fn method_of(door: Door, path: &str) -> Option<&'static str> {
    match (door, path) {
        (_, "/metrics" | "/healthz") => Some("GET"),
        (Door::Metrics, _) => None,
        (_, "/v1/status" | "/v1/neighbors" | "/v1/prefixes" | "/v1/services") => Some("GET"),
        (
            _,
            "/v1/explain" | "/v1/events" | "/v1/backends" | "/v1/backhaul" | "/v1/fleet" | "/v1/connections",
        ) => Some("GET"),
        (_, "/v1/reload" | "/v1/diff" | "/v1/plan" | "/v1/apply" | "/v1/confirm" | "/v1/rollback") => {
            Some("POST")
        }
        (_, "/v1/drain" | "/v1/undrain" | "/v1/fleet/note") => Some("POST"),
        _ => None,
    }
}

fn known_paths(door: Door) -> &'static str {
    match door {
        Door::Metrics => "only /metrics and /healthz are served here; the rest is on the Unix socket",
        Door::Operator => {
            "there are: GET /v1/status /v1/neighbors /v1/prefixes /v1/services /v1/explain?prefix=… \
             /v1/explain?client=…&service=… /v1/backends /v1/backhaul /v1/fleet /v1/connections?limit=N&service=S&client=A \
             /v1/events?after=SEQ&limit=N&prefix=P&wait=1 /metrics /healthz, POST /v1/reload /v1/diff /v1/plan \
             /v1/apply?confirm_within_ms=…&allow_withdraw=1 /v1/confirm /v1/rollback?to=… \
             /v1/drain?prefix=… /v1/undrain?prefix=… /v1/fleet/note?text=…"
        }
    }
}

fn connections(text: &str) -> Result<WantedConnections, &'static str> {
    let most = match query::value(text, "limit") {
        Some(limit) => limit.parse().map_err(|_| "limit is a whole number")?,
        None => 100,
    };
    Ok(WantedConnections {
        most: most.min(MOST_CONNECTIONS),
        service: query::value(text, "service"),
        client: query::value(text, "client"),
    })
}

/// The longest reason that an operator may give.
const REASON_BYTES: usize = 256;

fn note(request: Request<'_>) -> Result<Ask, &'static str> {
    let text = query::value(request.query, "text").unwrap_or_default();
    if text.len() > REASON_BYTES || text.chars().any(char::is_control) {
        return Err("a note is one line of at most 256 octets");
    }
    Ok(Ask::Note { text })
}

fn drain(request: Request<'_>) -> Result<Ask, &'static str> {
    let prefix = query::value(request.query, "prefix").ok_or("say which prefix, or `prefix=all`")?;
    if request.path == "/v1/undrain" {
        return Ok(Ask::Undrain { prefix });
    }
    let deadline = match query::value(request.query, "deadline_ms") {
        Some(ms) => Some(Duration::from_millis(ms.parse().map_err(|_| "deadline_ms is a whole number")?)),
        None => None,
    };
    let reason = query::value(request.query, "reason").unwrap_or_default();
    if reason.len() > REASON_BYTES || reason.chars().any(char::is_control) {
        return Err("a reason is one line of at most 256 octets");
    }
    let force = query::value(request.query, "force").is_some_and(|force| force == "true");
    Ok(Ask::Drain { prefix, deadline, reason, force })
}

/// Well means: running (or stopping as planned), and every subsystem still reports.
fn health(now: &Snapshot) -> Answer {
    let mut ills = Vec::new();
    let phase = now.process.phase.as_str();
    if !matches!(phase, "running" | "stopping") {
        ills.push(format!("the process is {phase}"));
    }
    for (name, age) in now.ages {
        if age > STALE_AFTER {
            ills.push(format!("{name} reported nothing for {} s", age.as_secs()));
        }
    }
    if ills.is_empty() {
        Answer::text(200, format!("{phase}\n"))
    } else {
        Answer::text(503, ills.join("\n") + "\n")
    }
}

fn explain(wanted: &str, now: &Snapshot) -> Answer {
    let Some(prefix) = find(wanted, &now.prefixes) else {
        let known: Vec<_> = now.prefixes.iter().map(|p| p.prefix.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Answer::refusal(
            404,
            &format!("{wanted} is no prefix of the configuration; there are: {known}"),
        );
    };
    let services = now.services.iter().filter(|s| prefix.services.contains(&s.service)).cloned().collect();
    let neighbors = now.neighbors.iter().map(|n| TellsNeighbor {
        name: n.name.clone(),
        address: n.address.clone(),
        state: n.state.clone(),
        problem: n.problem.clone(),
        sent: n.announced.iter().find(|route| route.prefix == prefix.prefix).cloned(),
    });
    let neighbors = neighbors.collect();
    let history = events::history(&now.events, &prefix.prefix);
    Answer::json(&Explanation { prefix: prefix.clone(), services, neighbors, history })
}

/// By its text, by another spelling of the same network, or by the longest prefix around an address.
fn find<'a>(wanted: &str, prefixes: &'a [PrefixStatus]) -> Option<&'a PrefixStatus> {
    let wanted = wanted.trim();
    if let Some(exact) = prefixes.iter().find(|p| p.prefix == wanted) {
        return Some(exact);
    }
    let networks = || prefixes.iter().filter_map(|p| Some((p, p.prefix.parse::<IpNetwork>().ok()?)));
    if let Ok(address) = wanted.parse::<IpAddr>() {
        return networks()
            .filter(|(_, n)| n.contains(address))
            .max_by_key(|(_, n)| n.prefix())
            .map(|(p, _)| p);
    }
    let wanted: IpNetwork = wanted.parse().ok()?;
    networks().find(|(_, n)| n.prefix() == wanted.prefix() && n.network() == wanted.network()).map(|(p, _)| p)
}

#[cfg(test)]
mod tests;
