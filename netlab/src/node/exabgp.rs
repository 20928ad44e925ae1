//! `ExaBGP` with its bundled health check: the peer of the bench, with its defaults and at its fastest.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::router::{RouterConfig, Site, invalid};
use crate::namespace::Namespace;
use crate::process::Process;

/// The system's Python, for which Debian's package is made; another may come first in the path.
const PYTHON: &str = "/usr/bin/python3";

/// What its health check is told. Seconds; what is not given is left to its defaults (5 s, 1 s, 5 s, 3, 3).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// A shell command that succeeds while the service is well.
    pub command: String,
    /// What to announce meanwhile.
    pub prefixes: Vec<String>,
    #[serde(default)]
    pub interval: Option<f64>,
    #[serde(default)]
    pub fast_interval: Option<f64>,
    /// Whole seconds; it accepts no fraction.
    #[serde(default)]
    pub timeout: Option<u32>,
    #[serde(default)]
    pub rise: Option<u32>,
    #[serde(default)]
    pub fall: Option<u32>,
}

impl HealthCheck {
    /// As its authors ship it.
    #[must_use]
    pub fn defaults(command: &str, prefixes: Vec<String>) -> Self {
        Self { command: command.to_owned(), prefixes, ..Self::default() }
    }

    /// As tight as it goes: one failure is enough. It takes any interval over zero, but each check is a fork of Python and
    /// a shell, so that under 10 ms nothing is gained but load. Its timeout is whole seconds.
    #[must_use]
    pub fn tightest(command: &str, prefixes: Vec<String>) -> Self {
        Self {
            interval: Some(0.01),
            fast_interval: Some(0.01),
            timeout: Some(1),
            rise: Some(1),
            fall: Some(1),
            ..Self::defaults(command, prefixes)
        }
    }
}

/// An `ExaBGP`. It keeps no table; what it says is seen at its neighbors.
#[derive(Debug)]
pub struct Exabgp {
    site: Site,
    config: RouterConfig,
    check: Option<HealthCheck>,
    process: Option<Process>,
}

impl Exabgp {
    /// An `ExaBGP` that is not yet started. Without a health check it announces `originate` only.
    ///
    /// # Errors
    /// As [`Site::new`] and [`RouterConfig::check`]; and `InvalidInput` for a neighbor without a local address, a command
    /// of more than one line, or a check interval of zero.
    pub fn new(
        namespace: &Namespace,
        dir: &Path,
        config: RouterConfig,
        check: Option<HealthCheck>,
    ) -> io::Result<Self> {
        config.check()?;
        if let Some(peering) = config.neighbors.iter().find(|peering| peering.local.is_none()) {
            return Err(invalid(format!(
                "neighbor {}: exabgp wants to be told its local address",
                peering.name
            )));
        }
        if let Some(check) = &check {
            if check.command.contains('\n') || check.prefixes.is_empty() {
                return Err(invalid(
                    "exabgp's health check: a command of one line and at least one prefix".to_owned(),
                ));
            }
            // Zero means that it ends after the first announcement.
            if [check.interval, check.fast_interval]
                .into_iter()
                .flatten()
                .any(|seconds| seconds.is_nan() || seconds <= 0.0)
            {
                return Err(invalid("exabgp's health check: intervals are over zero".to_owned()));
            }
        }
        Ok(Self { site: Site::new(namespace, dir)?, config, check, process: None })
    }

    /// Starts it; the health check is its child and dies with it.
    ///
    /// # Errors
    /// When a file or the program cannot be opened.
    pub fn start(&mut self) -> io::Result<()> {
        if self.process.as_mut().is_some_and(Process::is_running) {
            return Ok(());
        }
        if let Some(check) = &self.check {
            self.site.write("healthcheck.conf", &check_configuration(check))?;
        }
        let config = self.site.write("exabgp.conf", &self.configuration()?)?;
        let mut command = self.site.namespace.command(PYTHON);
        command.args(["-m", "exabgp"]).arg(config);
        for (key, value) in [
            // Dropping to another user would lose the signal that ends it with netlab.
            ("exabgp.daemon.user", "root"),
            ("exabgp.daemon.drop", "false"),
            // Its command line client needs named pipes under /run, which nobody uses.
            ("exabgp.api.cli", "false"),
            ("exabgp.tcp.bind", ""),
            ("exabgp.log.destination", "stdout"),
            ("exabgp.log.level", "INFO"),
        ] {
            command.env(key, value);
        }
        let log = self.site.dir.join("exabgp.log");
        self.process =
            Some(Process::start(&format!("exabgp {}", self.site.namespace.name()), command, &log)?);
        Ok(())
    }

    /// Its process.
    ///
    /// # Errors
    /// Before the first start.
    pub fn process_mut(&mut self) -> io::Result<&mut Process> {
        self.process.as_mut().ok_or_else(|| io::Error::other("exabgp was never started"))
    }

    fn configuration(&self) -> io::Result<String> {
        let mut text = String::new();
        if self.check.is_some() {
            let path = self.site.dir.join("healthcheck.conf");
            // ExaBGP gives its children process groups of their own: without setpriv, a check outlives it for as long as
            // it sleeps.
            let _ = writeln!(
                text,
                "process healthcheck {{\n  run setpriv --pdeathsig KILL {PYTHON} -m exabgp healthcheck --config {};\n  \
                 encoder text;\n}}",
                path.display()
            );
        }
        for peering in &self.config.neighbors {
            let _ = writeln!(text, "neighbor {} {{\n  description \"{}\";", peering.address, peering.name);
            let _ = writeln!(text, "  router-id {};\n  local-as {};", self.config.router_id, self.config.asn);
            let _ = writeln!(text, "  peer-as {};", peering.asn);
            if let Some(local) = peering.local {
                let _ = writeln!(text, "  local-address {local};");
            }
            if let Some(seconds) = peering.hold_time {
                let _ = writeln!(text, "  hold-time {seconds};");
            }
            if let Some(password) = &peering.password {
                let _ = writeln!(text, "  md5-password \"{password}\";");
            }
            if peering.ttl_security {
                text.push_str("  outgoing-ttl 255;\n  incoming-ttl 255;\n");
            }
            if let Some(hops) = peering.hops() {
                let _ = writeln!(text, "  outgoing-ttl {hops};");
            }
            if peering.passive {
                text.push_str("  passive true;\n");
            }
            let (v4, v6) = peering.families();
            text.push_str("  family {\n");
            for (family, wanted) in [("ipv4", v4), ("ipv6", v6)] {
                if wanted {
                    let _ = writeln!(text, "    {family} unicast;");
                }
            }
            text.push_str("  }\n");
            if self.check.is_some() {
                text.push_str("  api {\n    processes [ healthcheck ];\n  }\n");
            }
            text.push_str("  static {\n");
            for prefix in self.config.originated()? {
                // The next hop is the address of the session, so that the other family has none.
                if prefix.is_ipv4() == peering.address.is_ipv4() {
                    let _ = writeln!(text, "    route {prefix} next-hop self;");
                }
            }
            text.push_str("  }\n");
            text.push_str(peering.raw.as_deref().unwrap_or_default());
            text.push_str("\n}\n");
        }
        text.push_str(self.config.raw.as_deref().unwrap_or_default());
        text.push('\n');
        Ok(text)
    }
}

/// The health check's own file: its long options, one a line, so that the command needs no quotes.
fn check_configuration(check: &HealthCheck) -> String {
    // Without a syslog socket it would end at once.
    let mut text = String::from("no-syslog\nno-ip-setup\nwithdraw-on-down\n");
    let _ = writeln!(text, "command = {}", check.command);
    for prefix in &check.prefixes {
        let _ = writeln!(text, "ip = {prefix}");
    }
    let numbers = [
        ("interval", check.interval.map(|it| it.to_string())),
        ("fast-interval", check.fast_interval.map(|it| it.to_string())),
        ("timeout", check.timeout.map(|it| it.to_string())),
        ("rise", check.rise.map(|it| it.to_string())),
        ("fall", check.fall.map(|it| it.to_string())),
    ];
    for (key, value) in numbers {
        if let Some(value) = value {
            let _ = writeln!(text, "{key} = {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_says_only_what_it_was_given() {
        let prefixes = vec!["198.51.100.0/24".to_owned()];
        let defaults =
            check_configuration(&HealthCheck::defaults("curl -sf http://a/?b=c", prefixes.clone()));
        assert!(defaults.contains("command = curl -sf http://a/?b=c\n") && !defaults.contains("interval"));
        let tightest = check_configuration(&HealthCheck::tightest("true", prefixes));
        assert!(tightest.contains("\ninterval = 0.01\n") && tightest.contains("\nfall = 1\n"));
    }
}
