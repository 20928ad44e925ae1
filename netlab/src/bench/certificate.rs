//! The certificate that every peer shows: ECDSA P-256, made by openssl for the run.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process;

/// The name in it.
pub const NAME: &str = "bench.example.net";

/// Where it lies.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// PEM.
    pub chain: PathBuf,
    /// PEM, PKCS #8.
    pub key: PathBuf,
    /// Both in one file, as HAProxy wants it.
    pub both: PathBuf,
}

impl Certificate {
    /// Makes one in a directory.
    ///
    /// # Errors
    /// With what openssl said.
    pub fn make(directory: &Path) -> io::Result<Self> {
        let at = |name: &str| directory.join(name);
        let made = Self { chain: at("bench.pem"), key: at("bench.key"), both: at("bench-both.pem") };
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        command.args(["-days", "30", "-subj", &format!("/CN={NAME}")]);
        command.args(["-addext", &format!("subjectAltName=DNS:{NAME}")]);
        // Or it is a CA, which a strict reader does not take for a server.
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        command.arg("-keyout").arg(&made.key).arg("-out").arg(&made.chain);
        let output = process::output(command, Duration::from_secs(15))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("openssl: {}", said.trim())));
        }
        let both = std::fs::read_to_string(&made.chain)? + &std::fs::read_to_string(&made.key)?;
        std::fs::write(&made.both, both)?;
        Ok(made)
    }
}
