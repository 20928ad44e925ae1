//! FRR: zebra and bgpd of one host, their configuration, and what bgpd says on its terminal socket.

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::router::{
    self, DEADLINE, Peering, Resolved, Router, RouterConfig, Session, Site, TableRoute, misunderstood, sorted,
};
use crate::namespace::Namespace;
use crate::process::Process;

const PROGRAMS: &str = "/usr/lib/frr";

/// An FRR: `zebra` writes into the kernel what `bgpd` learns.
#[derive(Debug)]
pub struct Frr {
    site: Site,
    config: RouterConfig,
    zebra: Option<Process>,
    bgpd: Option<Process>,
}

impl Frr {
    /// An FRR that is not yet started.
    ///
    /// # Errors
    /// As [`Site::new`] and [`RouterConfig::check`].
    pub fn new(namespace: &Namespace, dir: &Path, config: RouterConfig) -> io::Result<Self> {
        config.check()?;
        Ok(Self { site: Site::new(namespace, dir)?, config, zebra: None, bgpd: None })
    }

    /// The process that writes the kernel's table.
    ///
    /// # Errors
    /// Before the first start.
    pub fn zebra_mut(&mut self) -> io::Result<&mut Process> {
        self.zebra.as_mut().ok_or_else(|| io::Error::other("zebra was never started"))
    }

    /// Says a command to bgpd, as `vtysh` would, and answers its text.
    ///
    /// # Errors
    /// bgpd's own words when it refuses; `TimedOut` after [`DEADLINE`].
    pub fn ask(&self, command: &str) -> io::Result<String> {
        let context = |error: io::Error| {
            io::Error::new(error.kind(), format!("frr at {}: {command}: {error}", self.name()))
        };
        let until = Instant::now() + DEADLINE;
        let mut stream = UnixStream::connect(self.site.dir.join("bgpd.vty")).map_err(context)?;
        // The terminal starts without privileges, and then knows no command of interest.
        say(&mut stream, "enable", until).map_err(context)?;
        say(&mut stream, command, until).map_err(context)
    }

    fn ask_json(&self, command: &str) -> io::Result<Value> {
        let text = self.ask(command)?;
        serde_json::from_str(&text)
            .map_err(|error| misunderstood(format!("frr at {}: {command}: {error}", self.name())))
    }

    /// Waits until a daemon listens on a socket of its own.
    fn wait_socket(&self, file: &str, process: &mut Process) -> io::Result<()> {
        let until = Instant::now() + Duration::from_secs(5);
        let path = self.site.dir.join(file);
        while !path.exists() {
            if !process.is_running() || Instant::now() >= until {
                return Err(io::Error::other(format!(
                    "{} did not come up: {}",
                    process.name(),
                    process.tail(5)
                )));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn daemon(&self, program: &str, arguments: &[&str]) -> io::Result<Command> {
        let dir = &self.site.dir;
        for stale in [format!("{program}.vty"), format!("{program}.pid")] {
            let _ = std::fs::remove_file(dir.join(stale));
        }
        // The daemons stay root: one that changes its user loses the signal that ends it with netlab. Being root is only
        // granted to a member of the group frrvty, so they are shown a file of groups in which root is one.
        let mut command = self.site.namespace.command("sh");
        command.args(["-c", r#"mount --bind "$0" /etc/group && exec "$@""#]).arg(dir.join("group"));
        command
            .arg(format!("{PROGRAMS}/{program}"))
            .args(["-u", "root", "-g", "root", "-P", "0", "--log", "stdout"]);
        command.arg("--vty_socket").arg(dir).arg("-z").arg(dir.join("zserv.api"));
        command
            .arg("-f")
            .arg(dir.join(format!("{program}.conf")))
            .arg("-i")
            .arg(dir.join(format!("{program}.pid")));
        command.args(arguments);
        Ok(command)
    }
}

impl Router for Frr {
    fn name(&self) -> &str {
        self.site.namespace.name()
    }

    fn start(&mut self) -> io::Result<()> {
        self.site.write("group", &groups(&std::fs::read_to_string("/etc/group")?))?;
        if !self.zebra.as_mut().is_some_and(Process::is_running) {
            let _ = std::fs::remove_file(self.site.dir.join("zserv.api"));
            self.site.write("zebra.conf", &format!("hostname {}\n", self.name()))?;
            let command = self.daemon("zebra", &[])?;
            let mut zebra =
                Process::start(&format!("zebra {}", self.name()), command, &self.site.dir.join("zebra.log"))?;
            // A bgpd that comes first tries again only after seconds.
            self.wait_socket("zserv.api", &mut zebra)?;
            self.zebra = Some(zebra);
        }
        if !self.bgpd.as_mut().is_some_and(Process::is_running) {
            self.site.write("bgpd.conf", &configuration(self.name(), &self.config)?)?;
            let command = self.daemon("bgpd", &[])?;
            self.bgpd = Some(Process::start(
                &format!("bgpd {}", self.name()),
                command,
                &self.site.dir.join("bgpd.log"),
            )?);
        }
        Ok(())
    }

    fn process_mut(&mut self) -> io::Result<&mut Process> {
        self.bgpd.as_mut().ok_or_else(|| io::Error::other("bgpd was never started"))
    }

    fn routes(&self, prefix: Option<&str>) -> io::Result<Vec<TableRoute>> {
        let mut routes = Vec::new();
        let families = match prefix {
            None => vec!["ipv4", "ipv6"],
            Some(text) if text.contains(':') => vec!["ipv6"],
            Some(_) => vec!["ipv4"],
        };
        for family in families {
            match prefix {
                None => routes
                    .extend(parse_table(&self.ask_json(&format!("show bgp {family} unicast json detail"))?)?),
                Some(prefix) => {
                    let answer = self.ask_json(&format!("show bgp {family} unicast {prefix} json"))?;
                    let found = answer["prefix"].as_str().unwrap_or_default().to_owned();
                    routes.extend(parse_paths(&found, &answer["paths"])?);
                }
            }
        }
        for it in &mut routes {
            it.route.from = it.route.from.take().map(|address| self.config.neighbor_name(&address));
        }
        router::mark_fib(&self.site.namespace, routes)
    }

    fn sessions(&self) -> io::Result<Vec<Session>> {
        let mut sessions = parse_sessions(&self.ask_json("show bgp neighbors json")?);
        for session in &mut sessions {
            session.neighbor = self.config.neighbor_name(&session.address);
        }
        Ok(sessions)
    }
}

/// One command and its answer: text, three zeros, and how it went.
fn say(stream: &mut UnixStream, command: &str, until: Instant) -> io::Result<String> {
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(format!("{command}\0").as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        if let [text @ .., 0, 0, 0, outcome] = answer.as_slice() {
            let text = String::from_utf8_lossy(text).into_owned();
            return if *outcome == 0 { Ok(text) } else { Err(io::Error::other(text.trim().to_owned())) };
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || answer.len() > 64 << 20 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no whole answer"));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
}

/// The system's groups, with root in `frrvty`.
fn groups(system: &str) -> String {
    let mut text = String::new();
    for line in system.lines() {
        text.push_str(line);
        if line.starts_with("frrvty:") {
            text.push_str(if line.ends_with(':') { "root" } else { ",root" });
        }
        text.push('\n');
    }
    text
}

fn configuration(name: &str, config: &RouterConfig) -> io::Result<String> {
    let mut text = format!("hostname {name}\nlog stdout informational\n");
    let originated = config.originated()?;
    for (command, family, v4) in [("ip", "ipv4", true), ("ipv6", "ipv6", false)] {
        for prefix in originated.iter().filter(|prefix| prefix.is_ipv4() == v4) {
            let _ = writeln!(text, "{command} prefix-list originate-{family} permit {prefix}");
        }
        let _ = writeln!(text, "{command} prefix-list originate-{family} seq 100000 deny any");
    }
    let _ = writeln!(text, "router bgp {}\n bgp router-id {}", config.asn, config.router_id);
    text.push_str(
        " no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n no bgp network import-check\n",
    );
    text.push_str(
        " bgp fast-external-failover\n bgp bestpath as-path multipath-relax\n bgp log-neighbor-changes\n",
    );
    for peering in &config.neighbors {
        neighbor(&mut text, peering);
    }
    for (family, v4) in [("ipv4", true), ("ipv6", false)] {
        let _ = writeln!(text, " address-family {family} unicast\n  maximum-paths 8");
        for prefix in originated.iter().filter(|prefix| prefix.is_ipv4() == v4) {
            let _ = writeln!(text, "  network {prefix}");
        }
        for peering in &config.neighbors {
            let wanted = peering.families();
            if if v4 { wanted.0 } else { wanted.1 } {
                let address = peering.address;
                let _ = writeln!(text, "  neighbor {address} activate");
                let _ = writeln!(text, "  neighbor {address} prefix-list originate-{family} out");
            }
        }
        text.push_str(" exit-address-family\n");
    }
    text.push_str("exit\n");
    text.push_str(config.raw.as_deref().unwrap_or_default());
    text.push('\n');
    Ok(text)
}

fn neighbor(text: &mut String, peering: &Peering) {
    let mut line = |words: String| {
        let _ = writeln!(text, " neighbor {} {words}", peering.address);
    };
    line(format!("remote-as {}", peering.asn));
    line(format!("description {}", peering.name));
    line(format!("timers connect {}", peering.connect_retry.unwrap_or(1)));
    if let Some(hold) = peering.hold_time {
        line(format!("timers {} {hold}", hold / 3));
    }
    if let Some(local) = peering.local {
        line(format!("update-source {local}"));
    }
    if peering.ttl_security {
        line("ttl-security hops 1".to_owned());
    }
    if let Some(hops) = peering.hops() {
        line(format!("ebgp-multihop {hops}"));
    }
    if let Some(password) = &peering.password {
        line(format!("password {password}"));
    }
    if peering.passive {
        line("passive".to_owned());
    }
    if let Some(raw) = &peering.raw {
        text.push_str(raw);
        text.push('\n');
    }
}

/// Reads `show bgp … json detail`.
fn parse_table(answer: &Value) -> io::Result<Vec<Resolved>> {
    let mut routes = Vec::new();
    for (prefix, paths) in answer["routes"].as_object().into_iter().flatten() {
        routes.extend(parse_paths(prefix, paths)?);
    }
    Ok(routes)
}

/// Reads the paths of one prefix. An entry without next hops is about the prefix itself.
fn parse_paths(prefix: &str, paths: &Value) -> io::Result<Vec<Resolved>> {
    let listed = paths.as_array().into_iter().flatten().filter(|path| path["nexthops"].is_array());
    listed.map(|path| parse_path(prefix, path)).collect()
}

fn parse_path(prefix: &str, path: &Value) -> io::Result<Resolved> {
    let gateways: Vec<_> = path["nexthops"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|hop| hop["ip"].as_str())
        .map(str::to_owned)
        .collect();
    let own = path["sourced"].as_bool() == Some(true);
    let number = |key: &str| path[key].as_u64().and_then(|it| u32::try_from(it).ok());
    let mut as_path = Vec::new();
    for segment in path["aspath"]["segments"].as_array().into_iter().flatten() {
        as_path.extend(
            segment["list"].as_array().into_iter().flatten().filter_map(Value::as_u64).map(|asn| asn as u32),
        );
    }
    let mut communities = Vec::new();
    // As text: the list spells the names of well-known ones in another way.
    for word in path["community"]["string"].as_str().unwrap_or_default().split_whitespace() {
        communities.push(well_known(word)?.to_owned());
    }
    let large = path["largeCommunity"]["string"].as_str().unwrap_or_default();
    let route = TableRoute {
        prefix: prefix.to_owned(),
        next_hop: if own { String::new() } else { gateways.first().cloned().unwrap_or_default() },
        as_path,
        med: number("metric"),
        local_pref: number("locPrf"),
        communities: sorted(communities),
        large_communities: sorted(large.split_whitespace().map(str::to_owned).collect()),
        from: path["peer"]["peerId"].as_str().filter(|_| !own).map(str::to_owned),
        best: path["bestpath"]["overall"].as_bool() == Some(true),
        in_fib: false,
    };
    Ok(Resolved { route, gateways: if own { Vec::new() } else { gateways } })
}

/// FRR's names of communities, back as numbers.
fn well_known(word: &str) -> io::Result<&str> {
    Ok(match word {
        "internet" => "0:0",
        "graceful-shutdown" => "65535:0",
        "accept-own" => "65535:1",
        "route-filter-translated-v4" => "65535:2",
        "route-filter-v4" => "65535:3",
        "route-filter-translated-v6" => "65535:4",
        "route-filter-v6" => "65535:5",
        "llgr-stale" => "65535:6",
        "no-llgr" => "65535:7",
        "accept-own-nexthop" => "65535:8",
        "blackhole" => "65535:666",
        "no-export" => "65535:65281",
        "no-advertise" => "65535:65282",
        "local-AS" => "65535:65283",
        "no-peer" => "65535:65284",
        number if number.contains(':') => number,
        _ => return Err(misunderstood(format!("frr: community {word}"))),
    })
}

/// Reads `show bgp neighbors json`; the names are for the caller to fill in.
fn parse_sessions(answer: &Value) -> Vec<Session> {
    let mut sessions = Vec::new();
    for (address, neighbor) in answer.as_object().into_iter().flatten() {
        let Some(state) = neighbor["bgpState"].as_str() else { continue };
        let text = |key: &str| neighbor[key].as_str().unwrap_or_default();
        let reason = [text("lastResetDueTo"), text("lastNotificationReason")];
        sessions.push(Session {
            neighbor: address.clone(),
            address: address.clone(),
            state: state.to_owned(),
            info: reason.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(": "),
            uptime_s: (state == "Established")
                .then(|| neighbor["bgpTimerUpMsec"].as_u64().map(|ms| ms / 1000))
                .flatten(),
        });
    }
    sessions
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: &str = r#"{"prefix":"198.51.102.0/24"},
        {"aspath":{"string":"64512","segments":[{"type":"as-sequence","list":[64512]}],"length":1},"origin":"IGP",
         "metric":7,"locPrf":0,"valid":true,"bestpath":{"overall":true,"selectionReason":"First path received"},
         "community":{"string":"64512:1 graceful-shutdown","list":["64512:1","gracefulShutdown"]},
         "largeCommunity":{"string":"64512:1:2","list":["64512:1:2"]},
         "nexthops":[{"ip":"10.9.0.2","afi":"ipv4","accessible":true,"used":true}],
         "peer":{"peerId":"10.9.0.2","routerId":"10.9.0.2","type":"external"}}"#;

    const OWN: &str = r#"{"aspath":{"string":"Local","segments":[],"length":0},"metric":0,"weight":32768,"valid":true,
        "sourced":true,"local":true,"bestpath":{"overall":true},"nexthops":[{"ip":"::","afi":"ipv6","used":true}],
        "peer":{"peerId":"::","routerId":"10.9.0.1"}}"#;

    #[test]
    fn a_table_is_read_with_attributes_and_numbers_for_names() {
        let text =
            format!(r#"{{"vrfId":0,"routes":{{"198.51.102.0/24":[{PATHS}],"2001:db8:5::/48":[{OWN}]}}}}"#);
        let routes = parse_table(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(routes.len(), 2);
        assert_eq!(routes[0].gateways, ["10.9.0.2"]);
        let learned = &routes[0].route;
        assert_eq!((learned.next_hop.as_str(), learned.from.as_deref()), ("10.9.0.2", Some("10.9.0.2")));
        assert_eq!(
            (learned.as_path.as_slice(), learned.med, learned.local_pref),
            ([64512].as_slice(), Some(7), Some(0))
        );
        assert_eq!(learned.communities, ["64512:1", "65535:0"]);
        assert_eq!(learned.large_communities, ["64512:1:2"]);
        assert!(learned.best);
        let own = &routes[1].route;
        assert_eq!((own.next_hop.as_str(), own.from.as_deref(), own.as_path.len()), ("", None, 0));
    }

    #[test]
    fn sessions_are_read_with_their_last_reset() {
        let text = r#"{"10.9.0.2":{"bgpState":"Established","bgpTimerUpMsec":4000,"lastResetDueTo":"Waiting for peer OPEN"},
            "fd09::3":{"bgpState":"Active","bgpTimerUpMsec":9000,"lastResetDueTo":"BGP Notification received",
            "lastNotificationReason":"Cease/Administrative Shutdown"}}"#;
        let sessions = parse_sessions(&serde_json::from_str(text).unwrap());
        assert_eq!(sessions[0].uptime_s, Some(4));
        assert_eq!((sessions[1].state.as_str(), sessions[1].uptime_s), ("Active", None));
        assert_eq!(sessions[1].info, "BGP Notification received: Cease/Administrative Shutdown");
    }

    #[test]
    fn root_joins_the_group_that_may_talk() {
        assert_eq!(groups("a:x:1:\nfrrvty:x:108:frr\n"), "a:x:1:\nfrrvty:x:108:frr,root\n");
        assert_eq!(groups("frrvty:x:108:\n"), "frrvty:x:108:root\n");
    }
}
