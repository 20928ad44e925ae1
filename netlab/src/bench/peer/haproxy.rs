//! HAProxy of Debian, with and without splice.

use std::ffi::OsString;
use std::fs;
use std::io;

use super::{Found, Setting};

pub(super) fn find() -> Result<Found, String> {
    super::packaged("/usr/sbin/haproxy", "haproxy")
}

/// Writes the configuration; the arguments.
pub(super) fn prepare(setting: &Setting, splice: bool) -> io::Result<Vec<OsString>> {
    let file = setting.work.join("haproxy.cfg");
    fs::write(&file, configuration(setting, splice))?;
    Ok(vec!["-db".into(), "-f".into(), file.into()])
}

/// One thread, no log. Splice is asked for in both directions rather than guessed at, with the pipes that
/// the manual offers for bulk; resumption of TLS sessions is off for all peers.
fn configuration(setting: &Setting, splice: bool) -> String {
    let Setting { plain, tls, backend, .. } = setting;
    let both = setting.certificate.both.display();
    let (global, option) = if splice {
        ("tune.pipesize 262144", "option splice-request\n    option splice-response")
    } else {
        ("nosplice", "no option splice-auto")
    };
    format!(
        "global
    nbthread 1
    maxconn 7000
    maxpipes 1000
    {global}
    tune.ssl.cachesize 0
    ssl-default-bind-options no-tls-tickets
defaults
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
    {option}
frontend bench
    bind {plain} backlog 4096
    bind {tls} backlog 4096 ssl crt {both}
    default_backend bench
backend bench
    server one {backend}
"
    )
}
