//! `GoBGP`: its configuration, and what its command line client says.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::router::{self, Peering, Router, RouterConfig, Session, Site, TableRoute, misunderstood, sorted};
use crate::namespace::Namespace;
use crate::process::Process;

/// Its API listens on the loopback of its own host, so that all of them may use the same port.
const API: &str = "127.0.0.1:50051";

/// A `GoBGP`. It has no kernel table, and what it originates for IPv6 only goes to neighbors with an IPv6 address: over
/// an IPv4 session it would give a next hop that nobody takes.
#[derive(Debug)]
pub struct Gobgp {
    site: Site,
    config: RouterConfig,
    process: Option<Process>,
}

impl Gobgp {
    /// A `GoBGP` that is not yet started.
    ///
    /// # Errors
    /// As [`Site::new`] and [`RouterConfig::check`].
    pub fn new(namespace: &Namespace, dir: &Path, config: RouterConfig) -> io::Result<Self> {
        config.check()?;
        Ok(Self { site: Site::new(namespace, dir)?, config, process: None })
    }

    /// Runs the client with these arguments.
    ///
    /// # Errors
    /// The client's own words; `TimedOut` after [`router::DEADLINE`].
    pub fn ask(&self, arguments: &[&str]) -> io::Result<String> {
        let mut command = self.site.namespace.short_command("gobgp");
        command.args(arguments);
        router::ask(command)
    }

    fn ask_json(&self, arguments: &[&str]) -> io::Result<Value> {
        let text = self.ask(&[&["-j"], arguments].concat())?;
        let context =
            |error| misunderstood(format!("gobgp at {}: {}: {error}", self.name(), arguments.join(" ")));
        serde_json::from_str(&text).map_err(context)
    }
}

impl Router for Gobgp {
    fn name(&self) -> &str {
        self.site.namespace.name()
    }

    /// Also waits for its API, through which it is told what to originate.
    fn start(&mut self) -> io::Result<()> {
        if self.process.as_mut().is_some_and(Process::is_running) {
            return Ok(());
        }
        let config = self.site.write("gobgpd.toml", &configuration(&self.config))?;
        let mut command = self.site.namespace.command("gobgpd");
        command.args(["-t", "toml", "-p", "--pprof-disable", "--api-hosts", API, "-f"]).arg(config);
        let log = self.site.dir.join("gobgpd.log");
        let process = self.process.insert(Process::start(
            &format!("gobgpd {}", self.site.namespace.name()),
            command,
            &log,
        )?);
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let mut command = self.site.namespace.short_command("gobgp");
            command.arg("global");
            match router::ask(command) {
                // The API answers before the configuration was read.
                Ok(text) if text.contains("AS:") && text.contains(&self.config.asn.to_string()) => break,
                _ if process.is_running() && Instant::now() < until => {
                    thread::sleep(Duration::from_millis(5));
                }
                Ok(text) => {
                    return Err(io::Error::other(format!("{}: no configuration: {text}", process.name())));
                }
                Err(error) => {
                    return Err(io::Error::other(format!(
                        "{}: {error}: {}",
                        process.name(),
                        process.tail(5)
                    )));
                }
            }
        }
        for prefix in self.config.originated()? {
            let family = if prefix.is_ipv4() { "ipv4" } else { "ipv6" };
            self.ask(&["global", "rib", "add", "-a", family, &prefix.to_string(), "origin", "igp"])?;
        }
        Ok(())
    }

    fn process_mut(&mut self) -> io::Result<&mut Process> {
        self.process.as_mut().ok_or_else(|| io::Error::other("gobgpd was never started"))
    }

    fn routes(&self, prefix: Option<&str>) -> io::Result<Vec<TableRoute>> {
        let mut routes = Vec::new();
        for (family, v6) in [("ipv4", false), ("ipv6", true)] {
            let mut arguments = vec!["global", "rib", "-a", family];
            match prefix {
                Some(text) if text.contains(':') != v6 => continue,
                Some(text) => arguments.push(text),
                None => {}
            }
            let answer = match self.ask_json(&arguments) {
                Err(error) if error.to_string().contains("Network not in table") => continue,
                answer => answer?,
            };
            routes.extend(parse_routes(&answer));
        }
        for route in &mut routes {
            route.from = route.from.take().map(|address| self.config.neighbor_name(&address));
        }
        Ok(routes)
    }

    fn sessions(&self) -> io::Result<Vec<Session>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut sessions = parse_sessions(&self.ask_json(&["neighbor"])?, now);
        // Why a session ended is only in the log.
        let log = self.process.as_ref().map(|process| process.tail(500)).unwrap_or_default();
        for session in &mut sessions {
            session.neighbor = self.config.neighbor_name(&session.address);
            session.info = last_error(&log, &session.address);
        }
        Ok(sessions)
    }
}

fn configuration(config: &RouterConfig) -> String {
    let mut text =
        format!("[global.config]\n  as = {}\n  router-id = \"{}\"\n", config.asn, config.router_id);
    text.push_str("[global.apply-policy.config]\n  default-import-policy = \"accept-route\"\n");
    text.push_str("  default-export-policy = \"reject-route\"\n  export-policy-list = [\"originated\"]\n");
    text.push_str("[[policy-definitions]]\n  name = \"originated\"\n  [[policy-definitions.statements]]\n");
    text.push_str(
        "    name = \"originated\"\n    [policy-definitions.statements.conditions.bgp-conditions]\n",
    );
    text.push_str("      route-type = \"local\"\n    [policy-definitions.statements.actions]\n");
    text.push_str("      route-disposition = \"accept-route\"\n");
    for peering in &config.neighbors {
        neighbor(&mut text, peering);
    }
    text.push_str(config.raw.as_deref().unwrap_or_default());
    text.push('\n');
    text
}

fn neighbor(text: &mut String, peering: &Peering) {
    let _ =
        writeln!(text, "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{}\"", peering.address);
    let _ = writeln!(text, "    peer-as = {}\n    description = \"{}\"", peering.asn, peering.name);
    if let Some(password) = &peering.password {
        let _ = writeln!(text, "    auth-password = \"{password}\"");
    }
    let _ = writeln!(
        text,
        "  [neighbors.timers.config]\n    connect-retry = {}",
        peering.connect_retry.unwrap_or(1)
    );
    if let Some(hold) = peering.hold_time {
        let _ = writeln!(text, "    hold-time = {hold}\n    keepalive-interval = {}", hold / 3);
    }
    let _ = writeln!(text, "  [neighbors.transport.config]\n    passive-mode = {}", peering.passive);
    if let Some(local) = peering.local {
        let _ = writeln!(text, "    local-address = \"{local}\"");
    }
    if peering.ttl_security {
        text.push_str("  [neighbors.ttl-security.config]\n    enabled = true\n    ttl-min = 255\n");
    }
    if let Some(hops) = peering.hops() {
        let _ = writeln!(
            text,
            "  [neighbors.ebgp-multihop.config]\n    enabled = true\n    multihop-ttl = {hops}"
        );
    }
    let (v4, v6) = peering.families();
    for (family, wanted) in [("ipv4", v4), ("ipv6", v6)] {
        if wanted {
            let _ = writeln!(text, "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]");
            let _ = writeln!(text, "      afi-safi-name = \"{family}-unicast\"");
        }
    }
    text.push_str(peering.raw.as_deref().unwrap_or_default());
    text.push('\n');
}

/// Reads `gobgp -j global rib`: attributes by their numbers in the IANA registry.
fn parse_routes(answer: &Value) -> Vec<TableRoute> {
    let mut routes = Vec::new();
    for (prefix, paths) in answer.as_object().into_iter().flatten() {
        for path in paths.as_array().into_iter().flatten() {
            let mut route = TableRoute {
                prefix: prefix.clone(),
                from: path["neighbor-ip"].as_str().map(str::to_owned),
                best: path["best"].as_bool() == Some(true),
                ..TableRoute::default()
            };
            for attribute in path["attrs"].as_array().into_iter().flatten() {
                parse_attribute(&mut route, attribute);
            }
            if route.from.is_none() {
                route.next_hop.clear();
            }
            routes.push(route);
        }
    }
    routes
}

fn parse_attribute(route: &mut TableRoute, attribute: &Value) {
    let list = |key: &str| attribute[key].as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_u64().and_then(|it| u32::try_from(it).ok());
    match attribute["type"].as_u64() {
        Some(2) => {
            for segment in list("as_paths") {
                route.as_path.extend(segment["asns"].as_array().into_iter().flatten().filter_map(number));
            }
        }
        Some(3 | 14) => attribute["nexthop"].as_str().unwrap_or_default().clone_into(&mut route.next_hop),
        Some(4) => route.med = number(&attribute["metric"]),
        Some(5) => route.local_pref = number(&attribute["value"]),
        Some(8) => {
            let numbers = list("communities");
            let texts = numbers.iter().filter_map(number).map(|it| format!("{}:{}", it >> 16, it & 0xffff));
            route.communities = sorted(texts.collect());
        }
        Some(32) => {
            let texts = list("value");
            let texts =
                texts.iter().map(|it| format!("{}:{}:{}", it["ASN"], it["LocalData1"], it["LocalData2"]));
            route.large_communities = sorted(texts.collect());
        }
        _ => {}
    }
}

/// Reads `gobgp -j neighbor`.
fn parse_sessions(answer: &Value, now: u64) -> Vec<Session> {
    let mut sessions = Vec::new();
    for neighbor in answer.as_array().into_iter().flatten() {
        let address = neighbor["conf"]["neighbor_address"].as_str().unwrap_or_default();
        let state = match neighbor["state"]["session_state"].as_u64() {
            Some(1) => "Idle",
            Some(2) => "Connect",
            Some(3) => "Active",
            Some(4) => "OpenSent",
            Some(5) => "OpenConfirm",
            Some(6) => "Established",
            _ => "Unknown",
        };
        let since = neighbor["timers"]["state"]["uptime"]["seconds"].as_u64();
        sessions.push(Session {
            neighbor: address.to_owned(),
            address: address.to_owned(),
            state: state.to_owned(),
            info: String::new(),
            uptime_s: since.filter(|_| state == "Established").map(|since| now.saturating_sub(since)),
        });
    }
    sessions
}

/// The last thing in the log that speaks of a neighbor's trouble.
fn last_error(log: &str, address: &str) -> String {
    // An address with colons is quoted.
    let keys = [format!("Key={address} "), format!("Key=\"{address}\" ")];
    let trouble = |line: &&str| {
        // While it idles after a session it refuses all calls; why it idles is the older line.
        !line.contains("Closed an accepted connection")
            && keys.iter().any(|key| line.contains(key.as_str()))
            && (line.contains("level=warning") || line.contains("level=error") || line.contains("Reason="))
    };
    let last = log.lines().rev().find(trouble).unwrap_or_default();
    last.split_once("msg=").map_or(last, |(_, words)| words).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_by_attribute_number() {
        let text = r#"{"198.51.102.0/24":[{"nlri":{"prefix":"198.51.102.0/24"},"age":1795384904,"best":true,"attrs":[
            {"type":1,"value":0},{"type":2,"as_paths":[{"segment_type":2,"num":1,"asns":[64512]}]},
            {"type":3,"nexthop":"10.9.0.2"},{"type":4,"metric":7},{"type":8,"communities":[4294901760]},
            {"type":32,"value":[{"ASN":64512,"LocalData1":1,"LocalData2":2}]}],
            "stale":false,"source-id":"10.9.0.2","neighbor-ip":"10.9.0.2"}],
            "2001:db8:5::/48":[{"nlri":{"prefix":"2001:db8:5::/48"},"best":true,"attrs":[{"type":1,"value":2},
            {"type":14,"nexthop":"::","afi":2,"safi":1,"value":[{"prefix":"2001:db8:5::/48"}]}],"stale":false}]}"#;
        let routes = parse_routes(&serde_json::from_str(text).unwrap());
        let expected = TableRoute {
            prefix: "198.51.102.0/24".to_owned(),
            next_hop: "10.9.0.2".to_owned(),
            as_path: vec![64512],
            med: Some(7),
            communities: vec!["65535:0".to_owned()],
            large_communities: vec!["64512:1:2".to_owned()],
            from: Some("10.9.0.2".to_owned()),
            best: true,
            ..TableRoute::default()
        };
        assert_eq!(routes[0], expected);
        assert_eq!((routes[1].next_hop.as_str(), routes[1].from.as_deref()), ("", None));
    }

    #[test]
    fn sessions_are_read_and_their_trouble_is_found_in_the_log() {
        let text = r#"[{"conf":{"neighbor_address":"10.9.0.2"},"state":{"session_state":6},
            "timers":{"state":{"uptime":{"seconds":100},"downtime":{"seconds":90}}}},
            {"conf":{"neighbor_address":"fd09::2"},"state":{"session_state":3},"timers":{"state":{"downtime":{"seconds":90}}}}]"#;
        let sessions = parse_sessions(&serde_json::from_str(text).unwrap(), 107);
        assert_eq!((sessions[0].state.as_str(), sessions[0].uptime_s), ("Established", Some(7)));
        assert_eq!((sessions[1].state.as_str(), sessions[1].uptime_s), ("Active", None));
        let log = "time=\"t\" level=info msg=\"Peer Down\" Key=\"fd09::2\" Reason=read-failed State=BGP_FSM_ESTABLISHED
time=\"t\" level=warning msg=\"Closed an accepted connection\" Key=\"fd09::2\" State=BGP_FSM_IDLE Topic=Peer";
        assert!(last_error(log, "fd09::2").contains("Reason=read-failed"));
        assert_eq!(last_error(log, "fd09::3"), "");
    }
}
