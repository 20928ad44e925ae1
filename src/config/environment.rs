//! What the environment says: a few variables, and a warning about those that look like ours but are not.
#![expect(clippy::disallowed_methods, reason = "driver: the one reader of the environment")]

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use super::generation::Step;

/// The environment as the process found it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// `NOTIFY_SOCKET`: where systemd is told that we are ready; an abstract socket starts with `@`.
    pub notify_socket: Option<OsString>,
    /// `WATCHDOG_USEC`: systemd restarts a process that is silent for this long. None if it is another's
    /// (`WATCHDOG_PID`).
    pub watchdog: Option<Duration>,
    /// `EDGEPROXY_SOCKET`: the admin socket that client commands talk to.
    pub admin_socket: Option<PathBuf>,
    /// `EDGEPROXY_STATE`, or the first of `STATE_DIRECTORY`, which systemd sets for `StateDirectory=`: the
    /// directory of what a restart must not forget.
    pub state: Option<PathBuf>,
    /// `EDGEPROXY_FAULT=apply:STEP`, a test hook: the process kills itself at this step of a transaction.
    pub fault: Option<Step>,
    /// `NO_COLOR`: there and not empty.
    pub no_color: bool,
    /// Variables that begin with `EDGEPROXY_` and mean nothing, sorted: the configuration is a file.
    pub unknown: Vec<String>,
}

impl Environment {
    /// Reads the environment of this process.
    #[must_use]
    pub fn read() -> Self {
        Self::from(std::env::vars_os(), std::process::id())
    }

    /// The same from any variables, for the process `pid`.
    fn from(variables: impl Iterator<Item = (OsString, OsString)>, pid: u32) -> Self {
        let mut environment = Self::default();
        let (mut watched_pid, mut given_by_systemd) = (None, None);
        for (name, value) in variables.filter(|(_, value)| !value.is_empty()) {
            let name = name.to_string_lossy();
            let number = || value.to_str().and_then(|value| value.parse::<u64>().ok());
            match &*name {
                "NOTIFY_SOCKET" => environment.notify_socket = Some(value),
                "WATCHDOG_USEC" => {
                    environment.watchdog = number().filter(|&usec| usec > 0).map(Duration::from_micros);
                }
                "WATCHDOG_PID" => watched_pid = number(),
                "EDGEPROXY_SOCKET" => environment.admin_socket = Some(value.into()),
                "EDGEPROXY_STATE" => environment.state = Some(value.into()),
                "STATE_DIRECTORY" => {
                    let list = value.to_string_lossy();
                    given_by_systemd = list.split(':').next().map(PathBuf::from);
                }
                "EDGEPROXY_FAULT" if fault(&value).is_some() => environment.fault = fault(&value),
                "NO_COLOR" => environment.no_color = true,
                other if other.starts_with("EDGEPROXY_") => environment.unknown.push(other.to_owned()),
                _ => {}
            }
        }
        if watched_pid.is_some_and(|watched| watched != u64::from(pid)) {
            environment.watchdog = None;
        }
        environment.state = environment.state.or(given_by_systemd);
        environment.unknown.sort_unstable();
        environment
    }
}

/// The step that `apply:STEP` names.
fn fault(value: &OsStr) -> Option<Step> {
    value.to_str()?.strip_prefix("apply:").and_then(Step::named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::from(variables.iter().map(|&(name, value)| (name.into(), value.into())), 42)
    }

    #[test]
    fn every_variable_is_read() {
        let read = environment(&[
            ("PATH", "/bin"),
            ("NOTIFY_SOCKET", "@notify"),
            ("WATCHDOG_USEC", "2000000"),
            ("WATCHDOG_PID", "42"),
            ("EDGEPROXY_SOCKET", "/tmp/e.sock"),
            ("EDGEPROXY_STATE", "/tmp/state"),
            ("STATE_DIRECTORY", "/var/lib/one:/var/lib/two"),
            ("NO_COLOR", "1"),
        ]);
        assert_eq!(read.notify_socket, Some("@notify".into()));
        assert_eq!(read.watchdog, Some(Duration::from_secs(2)));
        assert_eq!(read.admin_socket, Some("/tmp/e.sock".into()));
        assert_eq!(read.state, Some("/tmp/state".into()));
        let systemd = environment(&[("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")]);
        assert_eq!(systemd.state, Some("/var/lib/one".into()));
        assert!(read.no_color);
        assert_eq!(read.unknown, Vec::<String>::new());
    }

    #[test]
    fn what_is_empty_or_not_meant_for_us_is_nothing() {
        assert_eq!(environment(&[("NO_COLOR", ""), ("NOTIFY_SOCKET", "")]), Environment::default());
        assert_eq!(environment(&[("WATCHDOG_USEC", "5"), ("WATCHDOG_PID", "41")]).watchdog, None);
        assert_eq!(environment(&[("WATCHDOG_USEC", "soon")]).watchdog, None);
    }

    #[test]
    fn a_fault_is_a_step_of_a_transaction() {
        for step in Step::ALL {
            let value = format!("apply:{}", step.name());
            assert_eq!(environment(&[("EDGEPROXY_FAULT", &value)]).fault, Some(step));
        }
        let read = environment(&[("EDGEPROXY_FAULT", "apply:never")]);
        assert_eq!((read.fault, read.unknown), (None, vec!["EDGEPROXY_FAULT".to_owned()]));
    }

    #[test]
    fn variables_of_the_first_edgeproxy_are_named() {
        let read = environment(&[("EDGEPROXY_REGION", "sa"), ("EDGEPROXY_LISTEN_ADDR", "0.0.0.0:8080")]);
        assert_eq!(read.unknown, ["EDGEPROXY_LISTEN_ADDR", "EDGEPROXY_REGION"]);
    }
}
