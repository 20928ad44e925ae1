//! The programs that make a tunnel in userspace, where they come from, and how each is started.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use crate::process;

/// The release of boringtun's command line that figures are from.
const BORINGTUN: &str = "0.7.1";
/// Building it takes a minute on an idle machine, and many on a busy one.
const BUILD: Duration = Duration::from_secs(1_200);

/// Who makes the tunnel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// Debian's.
    #[default]
    WireguardGo,
    /// boringtun-cli of crates.io.
    Boringtun,
}

/// A program that is there.
#[derive(Debug, Clone)]
pub struct Found {
    pub path: PathBuf,
    pub version: String,
}

impl Program {
    /// Where it is and which version; boringtun is built once if it is not there yet.
    ///
    /// # Errors
    /// In words, with what to do.
    pub fn find(self) -> Result<Found, String> {
        match self {
            Self::WireguardGo => {
                let path = PathBuf::from("/usr/bin/wireguard-go");
                let told = || "install Debian's wireguard-go: apt-get install wireguard-go".to_owned();
                if !path.is_file() {
                    return Err(told());
                }
                let version = packaged("wireguard-go").ok_or_else(told)?;
                Ok(Found { path, version })
            }
            Self::Boringtun => boringtun(),
        }
    }

    /// The command line that makes the interface and stays in the foreground.
    #[must_use]
    pub fn arguments(self, interface: &str) -> Vec<String> {
        let words: &[&str] = match self {
            Self::WireguardGo => &["--foreground"],
            Self::Boringtun => &["--foreground", "--disable-drop-privileges", "--verbosity", "error"],
        };
        words.iter().copied().chain([interface]).map(ToOwned::to_owned).collect()
    }
}

/// Debian's wireguard-tools, through which every tunnel is told and asked.
///
/// # Errors
/// In words, with what to do.
pub fn tools() -> Result<Found, String> {
    let path = PathBuf::from("/usr/bin/wg");
    let version = packaged("wireguard-tools").filter(|_| path.is_file());
    let version = version
        .ok_or("install Debian's wireguard-tools: apt-get install --no-install-recommends wireguard-tools")?;
    Ok(Found { path, version })
}

/// The version of an installed package.
fn packaged(package: &str) -> Option<String> {
    let output = Command::new("dpkg-query").args(["-W", "-f=${Version}", package]).output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(version).filter(|version| !version.is_empty())
}

/// `BORINGTUN_BIN`, or the one in `bench-peers` beside the build's directory.
fn boringtun() -> Result<Found, String> {
    let path = match env::var_os("BORINGTUN_BIN") {
        Some(named) => PathBuf::from(named),
        None => built()?,
    };
    let mut command = Command::new(&path);
    command.arg("--version");
    let output = process::output(command, Duration::from_secs(20))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    // `boringtun 0.7.1`
    let version = said.split_whitespace().last().map(ToOwned::to_owned);
    let version = version.ok_or_else(|| format!("{} does not say its version", path.display()))?;
    Ok(Found { path, version })
}

fn built() -> Result<PathBuf, String> {
    let running = env::current_exe().map_err(|error| error.to_string())?;
    // Tests lie one directory deeper.
    let build = running.ancestors().find(|above| above.join("bench-peers").is_dir());
    let build = build.or_else(|| running.parent()?.parent()).ok_or("netlab is nowhere")?;
    let root = build.join("bench-peers").join(format!("boringtun-cli-{BORINGTUN}"));
    let program = root.join("bin/boringtun-cli");
    if !program.is_file() {
        build_in(&root)?;
    }
    Ok(program)
}

/// cargo, because the crate has no other home; with the versions that its authors locked.
fn build_in(root: &Path) -> Result<(), String> {
    fs::create_dir_all(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let mut command = Command::new("cargo");
    command.args(["install", "--quiet", "--locked", "boringtun-cli", "--version"]);
    command.arg(format!("={BORINGTUN}")).arg("--root").arg(root);
    command.env("CARGO_TARGET_DIR", root.join("build"));
    let failed = match process::output(command, BUILD) {
        Err(error) => error.to_string(),
        Ok(output) if output.status.success() => {
            // Only the program is of use from here on.
            let _ = fs::remove_dir_all(root.join("build"));
            return Ok(());
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    };
    Err(format!(
        "boringtun-cli {BORINGTUN} could not be built from crates.io (cargo is needed; or set BORINGTUN_BIN): {failed}"
    ))
}
