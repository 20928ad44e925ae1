//! nginx of Debian with its stream module.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use super::{Found, Setting};

const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) fn find() -> Result<Found, String> {
    if !Path::new(MODULE).is_file() {
        return Err("install Debian's libnginx-mod-stream: apt-get install libnginx-mod-stream".to_owned());
    }
    super::packaged("/usr/sbin/nginx", "nginx-light").or_else(|_| super::packaged("/usr/sbin/nginx", "nginx"))
}

/// Writes the configuration; the arguments.
pub(super) fn prepare(setting: &Setting) -> io::Result<Vec<OsString>> {
    let file = setting.work.join("nginx.conf");
    fs::write(&file, configuration(setting))?;
    Ok(vec!["-c".into(), file.into(), "-p".into(), setting.work.clone().into()])
}

/// One worker, no log; buffers as nginx chooses them: larger ones win bulk and pay for it when idle.
fn configuration(setting: &Setting) -> String {
    let Setting { plain, tls, backend, .. } = setting;
    let (chain, key) = (setting.certificate.chain.display(), setting.certificate.key.display());
    format!(
        "load_module {MODULE};
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
error_log stderr crit;
pid nginx.pid;
events {{
    worker_connections 20000;
    multi_accept on;
}}
stream {{
    proxy_timeout 1h;
    proxy_connect_timeout 1s;
    server {{
        listen {plain} backlog=4096;
        proxy_pass {backend};
    }}
    server {{
        listen {tls} ssl backlog=4096;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache off;
        ssl_session_tickets off;
        proxy_pass {backend};
    }}
}}
"
    )
}
