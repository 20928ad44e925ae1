//! The fleet: who is there, and how a POP becomes a part of it.
#![expect(
    clippy::disallowed_methods,
    reason = "driver: writes keys and certificates, and asks what day it is"
)]

#[path = "fleet/copy.rs"]
mod copy;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use edgeproxy::replication::identity::{Authority, Invitation, IssueError, request};
use serde_json::json;

use super::{Failure, line};

/// Octets of the largest file that is read here.
const MOST_OCTETS: u64 = 64 * 1024;
const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca.key";
const CERTIFICATE: &str = "pop.pem";
const KEY: &str = "pop.key";
const REQUEST: &str = "pop.request";
const FOLDER: &str = "/etc/edgeproxy/fleet";

#[derive(Debug, Subcommand)]
pub(super) enum Fleet {
    /// Tell all POPs something, which `edgeproxy fleet` shows there; without a text, take it back.
    Note { text: Option<String> },
    /// Make the authority of a new fleet: once, on a machine that is no POP.
    Init {
        /// The name that all certificates carry: 1 to 63 of a-z 0-9 . -
        #[arg(long, value_name = "NAME")]
        fleet: String,
        /// Where `ca.pem` and `ca.key` are written.
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Make the certificate of a POP, where the authority is.
    Invite {
        /// Its `pop.id`.
        pop: String,
        /// The folder of `fleet init`.
        #[arg(long, value_name = "FOLDER")]
        authority: PathBuf,
        #[arg(long, value_name = "NAME")]
        fleet: String,
        /// Sign a key that the POP has made itself, with `fleet join --request`.
        #[arg(long, value_name = "FILE")]
        request: Option<PathBuf>,
        /// How long it is good for.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// Where the invitation is written.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Take an invitation, at the POP; or make its key and ask for one.
    Join {
        /// The file of `fleet invite`.
        #[arg(required_unless_present = "request")]
        invitation: Option<PathBuf>,
        /// Make a key for the POP of this name, and a request for its certificate.
        #[arg(long, value_name = "POP", requires = "fleet", conflicts_with = "invitation")]
        request: Option<String>,
        #[arg(long, value_name = "NAME")]
        fleet: Option<String>,
        /// Where key and certificates are kept.
        #[arg(long, value_name = "FOLDER", default_value = FOLDER)]
        out: PathBuf,
        /// Replace what is there, as a renewal does.
        #[arg(long)]
        force: bool,
    },
    /// Write what this POP knows of the fleet as lines of JSON, also while it runs.
    Dump {
        /// A new file [default: standard output].
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// The state of the POP [default: $EDGEPROXY_STATE, or /var/lib/edgeproxy].
        #[arg(long, value_name = "FOLDER")]
        state: Option<PathBuf>,
    },
    /// Take a dump into the database of a POP that does not run; what is newer there stays.
    Restore {
        dump: PathBuf,
        /// Its configuration, which says whom to believe.
        #[arg(long, value_name = "FILE", default_value = "/etc/edgeproxy/edgeproxy.yaml")]
        config: PathBuf,
        #[arg(long, value_name = "FOLDER")]
        state: Option<PathBuf>,
    },
}

impl From<IssueError> for Failure {
    fn from(error: IssueError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Does one of these; `state` is where state is unless it is named. What it gives goes to standard output.
pub(super) fn obey(command: Fleet, state: &Path, as_json: bool) -> Result<String, Failure> {
    let (text, files) = match command {
        Fleet::Note { .. } => {
            return Err(Failure::Refused("a note is told to the running process".to_owned()));
        }
        Fleet::Dump { out, state: named } => {
            return copy::dump(named.as_deref().unwrap_or(state), out.as_deref(), as_json);
        }
        Fleet::Restore { dump, config, state: named } => {
            return copy::restore(named.as_deref().unwrap_or(state), &config, &dump, as_json);
        }
        Fleet::Init { fleet, out } => init(&fleet, &out)?,
        Fleet::Invite { pop, authority, fleet, request, days, out } => {
            invite(&pop, &fleet, &authority, request.as_deref(), days, &out)?
        }
        Fleet::Join { request: Some(pop), fleet: Some(fleet), out, force, .. } => {
            ask(&pop, &fleet, &out, force)?
        }
        Fleet::Join { invitation, out, force, .. } => join(&invitation.unwrap_or_default(), &out, force)?,
    };
    Ok(if as_json { line(&json!({ "files": files })) } else { text })
}

type Done = (String, Vec<PathBuf>);

fn init(fleet: &str, out: &Path) -> Result<Done, Failure> {
    let authority = Authority::new(fleet, now())?;
    folder(out)?;
    let (key, certificate) = (out.join(AUTHORITY_KEY), out.join(AUTHORITY));
    for file in [&key, &certificate] {
        absent(
            file,
            "an authority is made once: another fleet, or the next authority of this one, gets another folder",
        )?;
    }
    write(&key, &authority.key(), 0o600, false)?;
    write(&certificate, authority.certificate(), 0o644, false)?;
    let text = format!(
        "The authority of fleet {fleet} is in {}. Whoever has {AUTHORITY_KEY} can make POPs of this fleet: keep it\n\
         off the POPs, and keep a copy.\n\n\
         For each POP: edgeproxy fleet invite POP --fleet {fleet} --authority {} --out POP.invitation\n",
        out.display(),
        out.display()
    );
    Ok((text, vec![key, certificate]))
}

fn invite(
    pop: &str,
    fleet: &str,
    folder: &Path,
    request: Option<&Path>,
    days: u32,
    out: &Path,
) -> Result<Done, Failure> {
    let (key, certificate) = (read(&folder.join(AUTHORITY_KEY))?, read(&folder.join(AUTHORITY))?);
    let authority = Authority::load(fleet, &key, &certificate)?;
    let invitation = match request {
        Some(file) => authority.sign(pop, &read(file)?, days, now())?,
        None => authority.invite(pop, days, now())?,
    };
    absent(out, "name another file, or remove it")?;
    let (mode, secret) = match &invitation.key {
        Some(_) => {
            (0o600, "It holds the POP's private key: carry it there as you would a password, and remove it.")
        }
        None => (0o644, "It holds no secret."),
    };
    let parts = [invitation.authority, invitation.certificate, invitation.key.unwrap_or_default()];
    write(out, &parts.concat(), mode, false)?;
    let text = format!(
        "{} invites {pop} into fleet {fleet} for {days} days. {secret}\n\nAt {pop}: edgeproxy fleet join {}\n",
        out.display(),
        out.file_name().unwrap_or_default().display()
    );
    Ok((text, vec![out.to_owned()]))
}

fn ask(pop: &str, fleet: &str, out: &Path, force: bool) -> Result<Done, Failure> {
    let (key, wanted) = request(fleet, pop)?;
    folder(out)?;
    let (key_file, request_file) = (out.join(KEY), out.join(REQUEST));
    if !force {
        absent(&key_file, "its certificate would be of no use any more; --force replaces it")?;
    }
    write(&key_file, &key, 0o600, force)?;
    write(&request_file, &wanted, 0o644, true)?;
    let text = format!(
        "The key of {pop} is made and stays here. Carry {} to the authority, and there:\n\n    \
         edgeproxy fleet invite {pop} --fleet {fleet} --authority FOLDER --request {REQUEST} --out {pop}.invitation\n\n\
         Then here: edgeproxy fleet join {pop}.invitation --out {}\n",
        request_file.display(),
        out.display()
    );
    Ok((text, vec![key_file, request_file]))
}

fn join(file: &Path, out: &Path, force: bool) -> Result<Done, Failure> {
    let invitation = parts(&read(file)?).ok_or_else(|| {
        Failure::Refused(format!("{} is no invitation: `edgeproxy fleet invite` writes one", file.display()))
    })?;
    folder(out)?;
    let (key, certificate, authority) = (out.join(KEY), out.join(CERTIFICATE), out.join(AUTHORITY));
    if !force {
        absent(&certificate, "--force replaces it, as a renewal does")?;
    }
    match &invitation.key {
        Some(text) => {
            if !force {
                absent(&key, "the invitation brings another key; --force replaces it")?;
            }
            write(&key, text, 0o600, force)?;
        }
        None if key.exists() => {}
        None => {
            let why = format!(
                "the invitation is for a key that was made at the POP, and {} is not there: join with --out of the \
                 folder that `fleet join --request` has named",
                key.display()
            );
            return Err(Failure::Refused(why));
        }
    }
    write(&certificate, &invitation.certificate, 0o644, true)?;
    write(&authority, &invitation.authority, 0o644, true)?;
    let text = format!(
        "Now write into the configuration, and reload it:\n\n    replication:\n      certificate: {}\n      \
         key: {}\n      authorities: [{}]\n\n`edgeproxy fleet` shows who is there.\n",
        certificate.display(),
        key.display(),
        authority.display()
    );
    Ok((text, vec![certificate, key, authority]))
}

/// Two certificates, the authority's first, and perhaps a key.
fn parts(text: &str) -> Option<Invitation> {
    let end = |label: &str, from: usize| {
        let mark = format!("-----END {label}-----\n");
        text[from..].find(&mark).map(|at| from + at + mark.len())
    };
    let one = text.find("-----BEGIN CERTIFICATE-----").and_then(|_| end("CERTIFICATE", 0))?;
    let two = end("CERTIFICATE", one)?;
    let key = text[two..].find("-----BEGIN PRIVATE KEY-----").map(|at| text[two + at..].to_owned());
    Some(Invitation {
        authority: text[..one].to_owned(),
        certificate: text[one..two].trim_start().to_owned(),
        key,
    })
}

fn now() -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc()
}

fn refused(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::Refused(format!("cannot {what} {}: {error}", path.display()))
}

fn folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|error| refused("make", path, &error))
}

fn absent(path: &Path, hint: &str) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() {
        return Err(Failure::Refused(format!("{} is there already\n  hint: {hint}", path.display())));
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let metadata = fs::metadata(path).map_err(|error| refused("read", path, &error))?;
    if !metadata.is_file() || metadata.len() > MOST_OCTETS {
        return Err(Failure::Refused(format!("{} is not what is expected here", path.display())));
    }
    fs::read_to_string(path).map_err(|error| refused("read", path, &error))
}

/// Whole or not at all: beside it first, and then in its place.
fn write(path: &Path, text: &str, mode: u32, replace: bool) -> Result<(), Failure> {
    let beside = path.with_extension("new");
    let written = || {
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if !replace && path.symlink_metadata().is_ok() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        fs::rename(&beside, path)
    };
    written().map_err(|error| {
        let _ = fs::remove_file(&beside);
        refused("write", path, &error)
    })
}
