//! BIRD: its configuration, its control socket and what it says there.

mod answers;

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::router::{self, DEADLINE, Peering, Router, RouterConfig, Session, Site, TableRoute, invalid};
use crate::namespace::Namespace;
use crate::process::Process;
use answers::{parse_routes, parse_sessions};

/// Stands before the name of every neighbor that the scenario configured.
const PREFIX: &str = "to_";

/// A BIRD 2. In its own words a neighbor `edge` is the protocol `to_edge`.
#[derive(Debug)]
pub struct Bird {
    site: Site,
    config: RouterConfig,
    process: Option<Process>,
}

impl Bird {
    /// A BIRD that is not yet started.
    ///
    /// # Errors
    /// As [`Site::new`] and [`RouterConfig::check`].
    pub fn new(namespace: &Namespace, dir: &Path, config: RouterConfig) -> io::Result<Self> {
        config.check()?;
        Ok(Self { site: Site::new(namespace, dir)?, config, process: None })
    }

    /// Says a command on the control socket, as `birdc` would, and answers the text without its reply codes.
    ///
    /// # Errors
    /// BIRD's own words when it refuses; `TimedOut` after [`DEADLINE`].
    pub fn ask(&self, command: &str) -> io::Result<String> {
        let path = self.site.dir.join("bird.ctl");
        let context = |error: io::Error| {
            io::Error::new(error.kind(), format!("bird at {}: {command}: {error}", self.name()))
        };
        let until = Instant::now() + DEADLINE;
        let mut stream = UnixStream::connect(&path).map_err(context)?;
        stream.set_write_timeout(Some(DEADLINE)).map_err(context)?;
        stream.write_all(format!("{command}\n").as_bytes()).map_err(context)?;
        let mut reader = BufReader::new(stream);
        let mut reply = Reply::default();
        let mut line = String::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(context(io::Error::new(io::ErrorKind::TimedOut, "no whole answer")));
            }
            reader.get_ref().set_read_timeout(Some(left)).map_err(context)?;
            line.clear();
            if reader.read_line(&mut line).map_err(context)? == 0 {
                return Err(context(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Some(end) = reply.take(line.trim_end_matches('\n')) {
                return end.map_err(context);
            }
        }
    }
}

impl Router for Bird {
    fn name(&self) -> &str {
        self.site.namespace.name()
    }

    fn start(&mut self) -> io::Result<()> {
        if self.process.as_mut().is_some_and(Process::is_running) {
            return Ok(());
        }
        let config = self.site.write("bird.conf", &configuration(&self.config)?)?;
        let mut command = self.site.namespace.command("bird");
        command.arg("-f").arg("-c").arg(config).arg("-s").arg(self.site.dir.join("bird.ctl"));
        command.arg("-P").arg(self.site.dir.join("bird.pid"));
        self.process =
            Some(Process::start(&format!("bird {}", self.name()), command, &self.site.dir.join("bird.log"))?);
        Ok(())
    }

    fn process_mut(&mut self) -> io::Result<&mut Process> {
        self.process.as_mut().ok_or_else(|| io::Error::other("bird was never started"))
    }

    fn routes(&self, prefix: Option<&str>) -> io::Result<Vec<TableRoute>> {
        // One question per table: a prefix of the other family is an error, and no table is asked for what cannot be in it.
        let asked = match prefix {
            None => vec!["show route table all all".to_owned()],
            Some(text) => {
                let table = if text.contains(':') { "master6" } else { "master4" };
                let exact = if text.contains('/') { "" } else { "for " };
                vec![format!("show route table {table} {exact}{text} all")]
            }
        };
        let mut routes = Vec::new();
        for command in asked {
            match self.ask(&command) {
                Ok(text) => routes.extend(parse_routes(&text)?),
                Err(error) if error.to_string().contains("Network not found") => {}
                Err(error) => return Err(error),
            }
        }
        router::mark_fib(&self.site.namespace, routes)
    }

    fn sessions(&self) -> io::Result<Vec<Session>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(parse_sessions(&self.ask("show protocols all")?, now))
    }
}

/// The lines of one answer: `1007-text`, then ` text` for more of the same code, and `0000 text` at the end.
#[derive(Debug, Default)]
struct Reply {
    text: String,
}

impl Reply {
    /// Takes a line; the answer is whole when something comes back.
    fn take(&mut self, line: &str) -> Option<io::Result<String>> {
        if let Some(more) = line.strip_prefix(' ') {
            self.text.push_str(more);
            self.text.push('\n');
            return None;
        }
        let (code, rest) = line.split_at_checked(4)?;
        let last = rest.starts_with(' ');
        let said = rest.get(1..).unwrap_or_default();
        match code {
            "0001" => return None, // the greeting
            _ if code.starts_with(['8', '9']) => return Some(Err(io::Error::other(said.to_owned()))),
            "0000" => {}
            _ => {
                self.text.push_str(said);
                self.text.push('\n');
            }
        }
        last.then(|| Ok(std::mem::take(&mut self.text)))
    }
}

/// The whole configuration file.
fn configuration(config: &RouterConfig) -> io::Result<String> {
    let mut text = format!("log stderr all;\nrouter id {};\n", config.router_id);
    // Seconds since the epoch: other formats depend on how long ago it was.
    text.push_str("timeformat protocol \"%s\";\ntimeformat route \"%s\";\n");
    text.push_str("protocol device { scan time 1; }\n");
    // A neighbor with hops between has its next hop resolved through what is connected.
    text.push_str("protocol direct { ipv4; ipv6; }\n");
    for family in ["ipv4", "ipv6"] {
        let channel = "import none; export where source = RTS_BGP;";
        let _ = writeln!(
            text,
            "protocol kernel kernel_{family} {{ merge paths yes limit 8; {family} {{ {channel} }}; }}"
        );
        let _ = writeln!(text, "protocol static static_{family} {{\n  {family};");
        for prefix in config.originated()? {
            if prefix.is_ipv4() == (family == "ipv4") {
                let _ = writeln!(text, "  route {prefix} blackhole;");
            }
        }
        text.push_str("}\n");
    }
    for peering in &config.neighbors {
        neighbor(&mut text, config.asn, peering)?;
    }
    text.push_str(config.raw.as_deref().unwrap_or_default());
    text.push('\n');
    Ok(text)
}

fn neighbor(text: &mut String, asn: u32, peering: &Peering) -> io::Result<()> {
    let Peering { name, address, .. } = peering;
    let local = peering.local.map(|it| format!("{it} ")).unwrap_or_default();
    // With a prefix, because a keyword stays one even in quotes.
    let _ = writeln!(text, "protocol bgp '{PREFIX}{name}' {{\n  local {local}as {asn};");
    if is_link_local(address) {
        return Err(invalid(format!("neighbor {name}: a link-local address needs an interface: use raw")));
    }
    let _ = writeln!(text, "  neighbor {address} as {};", peering.asn);
    match peering.hops() {
        Some(hops) => {
            let _ = writeln!(text, "  multihop {hops};");
        }
        None => text.push_str("  direct;\n"),
    }
    if peering.ttl_security {
        text.push_str("  ttl security on;\n");
    }
    if let Some(password) = &peering.password {
        let _ = writeln!(text, "  password \"{password}\";");
    }
    if peering.passive {
        text.push_str("  passive on;\n");
    }
    if let Some(seconds) = peering.hold_time {
        let _ = writeln!(text, "  hold time {seconds};");
    }
    let retry = peering.connect_retry.unwrap_or(1);
    let _ = writeln!(
        text,
        "  connect delay time {retry}; connect retry time {retry}; error wait time {retry}, 4;"
    );
    let (v4, v6) = peering.families();
    let raw = peering.raw.as_deref().unwrap_or_default();
    for (family, wanted) in [("ipv4", v4), ("ipv6", v6)] {
        // A channel can only be told once: one in `raw` stands instead of ours.
        if wanted && !raw.contains(&format!("{family} {{")) {
            let _ = writeln!(text, "  {family} {{ import all; export where source = RTS_STATIC; }};");
        }
    }
    text.push_str(raw);
    text.push_str("\n}\n");
    Ok(())
}

fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(it) if it.segments()[0] & 0xffc0 == 0xfe80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_with_its_last_code_and_a_refusal_is_an_error() {
        let mut reply = Reply::default();
        for line in
            ["0001 BIRD 2.0.12 ready.", "1007-Table master4:", " 198.51.100.0/24 x", "1008-\tType: BGP univ"]
        {
            assert!(reply.take(line).is_none());
        }
        let text = reply.take("0000 ").unwrap().unwrap();
        assert_eq!(text, "Table master4:\n198.51.100.0/24 x\n\tType: BGP univ\n");
        assert!(Reply::default().take("9001 syntax error").unwrap().is_err());
    }
}
