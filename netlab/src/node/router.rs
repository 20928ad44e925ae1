//! What every router of the lab has in common: its configuration, and the questions it answers.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use serde::Deserialize;

use crate::namespace::Namespace;
use crate::process::Process;

/// How long a router may take to answer a question.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// The longest answer that is read: a full table does not fit, and no scenario asks for one.
const LONGEST_ANSWER: u64 = 64 << 20;

/// A router as a scenario describes it. Everything is imported, only `originate` is exported.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouterConfig {
    pub asn: u32,
    pub router_id: Ipv4Addr,
    #[serde(default)]
    pub neighbors: Vec<Peering>,
    /// Prefixes that it announces to its neighbors; they never enter its kernel's table.
    #[serde(default)]
    pub originate: Vec<String>,
    /// Appended to the generated configuration, in the router's own words.
    #[serde(default)]
    pub raw: Option<String>,
}

/// One neighbor of a router.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peering {
    /// Unique within the router: letters, digits, `_` and `-`.
    pub name: String,
    pub address: IpAddr,
    pub asn: u32,
    /// The address to speak from.
    #[serde(default)]
    pub local: Option<IpAddr>,
    /// `ipv4`, `ipv6`; without any, that of the address.
    #[serde(default)]
    pub families: Vec<String>,
    /// For TCP MD5.
    #[serde(default)]
    pub password: Option<String>,
    /// GTSM for a neighbor on the link: sends with TTL 255, accepts nothing less.
    #[serde(default)]
    pub ttl_security: bool,
    /// Sends with this TTL: 254 looks like a neighbor that is one hop too far for GTSM.
    #[serde(default)]
    pub ttl: Option<u8>,
    /// Waits to be called.
    #[serde(default)]
    pub passive: bool,
    /// Hops to a neighbor that is not on the link.
    #[serde(default)]
    pub multihop: Option<u8>,
    /// Seconds.
    #[serde(default)]
    pub hold_time: Option<u16>,
    /// Seconds; 1 when not given, so that a scenario does not wait.
    #[serde(default)]
    pub connect_retry: Option<u16>,
    /// Appended to the neighbor's part, in the router's own words. For BIRD, `ipv4 { … };` in it replaces the generated
    /// channel of that family.
    #[serde(default)]
    pub raw: Option<String>,
}

impl Peering {
    /// The families to negotiate: (IPv4, IPv6).
    #[must_use]
    pub fn families(&self) -> (bool, bool) {
        if self.families.is_empty() {
            return (self.address.is_ipv4(), self.address.is_ipv6());
        }
        let has = |family: &str| self.families.iter().any(|named| named == family);
        (has("ipv4"), has("ipv6"))
    }

    /// The TTL to send with when it is not the router's own choice. A raw TTL is dressed as multihop, the only way that
    /// every router knows.
    #[must_use]
    pub fn hops(&self) -> Option<u8> {
        self.ttl.or(self.multihop)
    }
}

impl RouterConfig {
    /// The configured name of a neighbor, or its address if nobody configured it.
    #[must_use]
    pub fn neighbor_name(&self, address: &str) -> String {
        let configured = self.neighbors.iter().find(|it| it.address.to_string() == address);
        configured.map_or_else(|| address.to_owned(), |it| it.name.clone())
    }

    /// The originated prefixes, parsed.
    ///
    /// # Errors
    /// `InvalidInput` for the first that is none.
    pub fn originated(&self) -> io::Result<Vec<IpNetwork>> {
        self.originate
            .iter()
            .map(|text| {
                let prefix = IpNetwork::from_str(text)
                    .map_err(|error| invalid(format!("originate: {text}: {error}")))?;
                if prefix.ip() != prefix.network() {
                    return Err(invalid(format!(
                        "originate: {text} has host bits; meant is {}",
                        canonical(text)
                    )));
                }
                Ok(prefix)
            })
            .collect()
    }

    /// Refuses what would break out of the generated configuration, or be understood differently by each router.
    ///
    /// # Errors
    /// `InvalidInput`, naming the field.
    pub fn check(&self) -> io::Result<()> {
        self.originated()?;
        let mut names = BTreeSet::new();
        for peering in &self.neighbors {
            let name = &peering.name;
            let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if name.is_empty() || name.len() > 32 || !name.chars().all(fine) {
                return Err(invalid(format!(
                    "neighbor {name:?}: a name is 1 to 32 letters, digits, _ and -"
                )));
            }
            if !names.insert(name) {
                return Err(invalid(format!("neighbor {name} is there twice")));
            }
            if let Some(family) =
                peering.families.iter().find(|family| !matches!(family.as_str(), "ipv4" | "ipv6"))
            {
                return Err(invalid(format!("neighbor {name}: family {family:?} is neither ipv4 nor ipv6")));
            }
            if peering
                .password
                .as_ref()
                .is_some_and(|it| it.chars().any(|c| !c.is_ascii_graphic() || "\"\\'#;!".contains(c)))
            {
                return Err(invalid(format!(
                    "neighbor {name}: the password has characters that routers quote differently"
                )));
            }
            if peering.ttl_security && peering.hops().is_some() {
                return Err(invalid(format!("neighbor {name}: ttl_security excludes ttl and multihop")));
            }
        }
        Ok(())
    }
}

/// A route as a router's BGP table shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableRoute {
    pub prefix: String,
    /// Empty for what the router originates.
    pub next_hop: String,
    pub as_path: Vec<u32>,
    pub med: Option<u32>,
    /// FRR and `GoBGP` show none for an external route unless something set it; FRR sets 0 by itself for GRACEFUL_SHUTDOWN
    /// (RFC 8326).
    pub local_pref: Option<u32>,
    /// As `65535:0`, sorted by number.
    pub communities: Vec<String>,
    /// As `64512:1:2`, sorted by number.
    pub large_communities: Vec<String>,
    /// The neighbor it came from: its configured name, or its address if nobody configured it.
    pub from: Option<String>,
    pub best: bool,
    /// Whether the kernel forwards by it.
    pub in_fib: bool,
}

/// One session of a router.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    /// Its configured name, or its address if nobody configured it.
    pub neighbor: String,
    pub address: String,
    /// As RFC 4271 spells it: `Established`, `Active`, `OpenSent`…
    pub state: String,
    /// The last error or reset, in the router's words; empty when there was none.
    pub info: String,
    /// Seconds since it was established.
    pub uptime_s: Option<u64>,
}

impl Session {
    /// Whether it is up.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.state == "Established"
    }
}

/// A real router, whichever it is.
pub trait Router: Send {
    /// The host's name.
    fn name(&self) -> &str;

    /// Writes the configuration and starts whatever does not run.
    ///
    /// # Errors
    /// When the configuration makes no sense, or a program or a file cannot be opened.
    fn start(&mut self) -> io::Result<()>;

    /// The process that speaks BGP.
    ///
    /// # Errors
    /// Before the first start.
    fn process_mut(&mut self) -> io::Result<&mut Process>;

    /// The BGP table, or what it holds for exactly this prefix; an address asks for its longest match.
    ///
    /// # Errors
    /// When the router does not answer within [`DEADLINE`], or not what is understood.
    fn routes(&self, prefix: Option<&str>) -> io::Result<Vec<TableRoute>>;

    /// All configured sessions, in no particular order.
    ///
    /// # Errors
    /// As [`Router::routes`].
    fn sessions(&self) -> io::Result<Vec<Session>>;

    /// Whether it answers questions already.
    fn is_ready(&self) -> bool {
        self.sessions().is_ok()
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// `TimedOut`, with what it logged last; at once when it has ended.
    fn wait_ready(&mut self, within: Duration) -> io::Result<()> {
        let until = Instant::now() + within;
        while !self.is_ready() {
            let name = self.name().to_owned();
            let process = self.process_mut()?;
            if !process.is_running() {
                return Err(io::Error::other(format!("{name} ended: {}", process.tail(5))));
            }
            if Instant::now() >= until {
                let words =
                    format!("{name} did not answer within {} ms: {}", within.as_millis(), process.tail(5));
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Which router it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Bird,
    Frr,
    Gobgp,
}

/// Makes a router of a kind, not yet started.
///
/// # Errors
/// As [`Site::new`] and [`RouterConfig::check`].
pub fn make(
    kind: Kind,
    namespace: &Namespace,
    dir: &Path,
    config: RouterConfig,
) -> io::Result<Box<dyn Router>> {
    Ok(match kind {
        Kind::Bird => Box::new(super::bird::Bird::new(namespace, dir, config)?),
        Kind::Frr => Box::new(super::frr::Frr::new(namespace, dir, config)?),
        Kind::Gobgp => Box::new(super::gobgp::Gobgp::new(namespace, dir, config)?),
    })
}

/// Where a router lives: its host, and a directory for its configuration, sockets and log.
#[derive(Debug, Clone)]
pub struct Site {
    pub namespace: Namespace,
    pub dir: PathBuf,
}

impl Site {
    /// Makes the directory.
    ///
    /// # Errors
    /// When it cannot be made, lies under `/run` (which every process of the lab has for itself) or is too long for the
    /// address of a Unix socket.
    pub fn new(namespace: &Namespace, dir: &Path) -> io::Result<Self> {
        if dir.starts_with("/run") || dir.starts_with("/var/run") {
            return Err(invalid(format!(
                "{}: /run is another one for every process of the lab",
                dir.display()
            )));
        }
        if dir.as_os_str().len() > 88 {
            return Err(invalid(format!("{}: too long to hold sockets", dir.display())));
        }
        std::fs::create_dir_all(dir).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot make {}: {error}", dir.display()))
        })?;
        Ok(Self { namespace: namespace.clone(), dir: dir.to_owned() })
    }

    /// Writes a file into the directory and answers its path.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&self, file: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.dir.join(file);
        std::fs::write(&path, content).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
        })?;
        Ok(path)
    }
}

/// Runs a short command and answers what it printed.
///
/// # Errors
/// `TimedOut` after [`DEADLINE`]; what it said on its standard error when it failed.
pub fn ask(mut command: Command) -> io::Result<String> {
    let program = command.get_program().display().to_string();
    let asked = command.get_args().map(|it| it.display().to_string()).collect::<Vec<_>>().join(" ");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let until = Instant::now() + DEADLINE;
    let (out, error) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let out = scope.spawn(|| read_all(out));
        let error = scope.spawn(|| read_all(error));
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() >= until {
                child.kill()?;
                child.wait()?;
                let words = format!("{program} {asked}: no answer within {} ms", DEADLINE.as_millis());
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
            thread::sleep(Duration::from_millis(1));
        };
        let out = out.join().unwrap_or_default();
        let error = error.join().unwrap_or_default();
        if status.success() {
            return Ok(out);
        }
        let said = if error.trim().is_empty() { out.trim() } else { error.trim() };
        Err(io::Error::other(format!("{program} {asked}: {said}")))
    })
}

fn read_all(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What came before an error is still worth showing.
        let _ = pipe.take(LONGEST_ANSWER).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A route as it was read, with the gateways that the router resolved it to: with IPv6 that is the link-local address,
/// and not the next hop that the table shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    pub route: TableRoute,
    pub gateways: Vec<String>,
}

/// Marks the routes that the kernel of this host forwards by: same prefix, one of the gateways.
///
/// # Errors
/// When the kernel's table cannot be read.
pub fn mark_fib(namespace: &Namespace, routes: Vec<Resolved>) -> io::Result<Vec<TableRoute>> {
    let mut table = BTreeSet::new();
    for (flag, v6) in [("-4", false), ("-6", true)] {
        if routes.iter().any(|it| it.route.prefix.contains(':') == v6 && !it.gateways.is_empty()) {
            let mut command = namespace.short_command("ip");
            command.args(["-j", flag, "route", "show", "table", "main"]);
            table.append(&mut kernel_gateways(&ask(command)?, v6)?);
        }
    }
    let marked = routes.into_iter().map(|Resolved { mut route, gateways }| {
        let prefix = canonical(&route.prefix);
        route.in_fib = gateways.into_iter().any(|gateway| table.contains(&(prefix.clone(), gateway)));
        route
    });
    Ok(marked.collect())
}

/// (prefix, gateway) of every route in the output of `ip -j route`.
fn kernel_gateways(text: &str, v6: bool) -> io::Result<BTreeSet<(String, String)>> {
    let mut table = BTreeSet::new();
    let listed: serde_json::Value = serde_json::from_str(text)?;
    for route in listed.as_array().into_iter().flatten() {
        let prefix = match route["dst"].as_str() {
            Some("default") => if v6 { "::/0" } else { "0.0.0.0/0" }.to_owned(),
            Some(text) => canonical(text),
            None => continue,
        };
        let several = route["nexthops"].as_array().into_iter().flatten();
        for hop in std::iter::once(route).chain(several) {
            // A gateway of the other family is told as "via": {"family", "host"}.
            if let Some(gateway) = hop["gateway"].as_str().or_else(|| hop["via"]["host"].as_str()) {
                table.insert((prefix.clone(), gateway.to_owned()));
            }
        }
    }
    Ok(table)
}

/// A prefix with its length and without host bits; text that is none stays what it is.
#[must_use]
pub fn canonical(text: &str) -> String {
    IpNetwork::from_str(text)
        .map_or_else(|_| text.to_owned(), |it| format!("{}/{}", it.network(), it.prefix()))
}

/// Sorts `65535:0`-like texts by number.
pub(crate) fn sorted(mut communities: Vec<String>) -> Vec<String> {
    communities.sort_by_key(|text| {
        text.split(':').map(|part| part.parse::<u64>().unwrap_or(u64::MAX)).collect::<Vec<_>>()
    });
    communities
}

pub(crate) fn invalid(words: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, words)
}

pub(crate) fn misunderstood(words: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_gateways_are_read_one_by_one_and_together() {
        let text = r#"[{"dst":"default","gateway":"10.9.0.1","dev":"a","flags":[]},
            {"dst":"10.9.0.0/24","dev":"a","protocol":"kernel"},
            {"dst":"198.51.100.1","nexthops":[{"gateway":"10.9.0.2","dev":"a"},{"via":{"family":"inet6","host":"fe80::1"}}]}]"#;
        let table = kernel_gateways(text, false).unwrap();
        let expected =
            [("0.0.0.0/0", "10.9.0.1"), ("198.51.100.1/32", "10.9.0.2"), ("198.51.100.1/32", "fe80::1")];
        assert_eq!(table, expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    }

    #[test]
    fn what_routers_would_understand_differently_is_refused() {
        let config = |neighbor: &str, originate: &str| {
            let text = format!(
                r#"{{"asn":1,"router_id":"1.1.1.1","originate":["{originate}"],
                    "neighbors":[{{"name":"a","address":"10.0.0.1","asn":2{neighbor}}}]}}"#
            );
            serde_json::from_str::<RouterConfig>(&text).unwrap().check()
        };
        assert!(config("", "10.0.0.0/8").is_ok());
        assert!(config("", "10.0.0.1/8").is_err());
        assert!(config(r#","families":["vpn"]"#, "10.0.0.0/8").is_err());
        assert!(config(r#","password":"a b""#, "10.0.0.0/8").is_err());
        assert!(config(r#","ttl_security":true,"ttl":254"#, "10.0.0.0/8").is_err());
    }

    #[test]
    fn a_question_has_a_deadline() {
        let mut slow = Command::new("sleep");
        slow.arg("30");
        let began = Instant::now();
        assert_eq!(ask(slow).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < DEADLINE * 3);
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo why >&2; exit 1"]);
        assert!(ask(failing).unwrap_err().to_string().ends_with("why"));
    }
}
