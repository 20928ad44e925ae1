//! edgeproxy as it is shipped: limits, timeouts, metrics, health checks and the speaker are on.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use super::{Found, Setting};
use crate::binary;
use crate::edgeproxy::EdgeProxy;
use crate::namespace::Namespace;

/// The anycast address, which edgeproxy binds itself.
pub(super) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

pub(super) fn find() -> Result<Found, String> {
    let program = binary::edgeproxy().map_err(|error| error.to_string())?;
    let output = std::process::Command::new(&program).arg("--version").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let version = version.map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(Found { program, version: version.trim_start_matches("edgeproxy ").to_owned() })
}

pub(super) fn start(setting: &Setting, namespace: &Namespace) -> io::Result<EdgeProxy> {
    let secrets = BTreeMap::from([
        ("bench.pem".to_owned(), fs::read_to_string(&setting.certificate.chain)?),
        ("bench.key".to_owned(), fs::read_to_string(&setting.certificate.key)?),
    ]);
    let mut edgeproxy = EdgeProxy::new(namespace, &setting.work, &configuration(setting), &secrets)?;
    edgeproxy.start()?;
    Ok(edgeproxy)
}

/// The neighbor is not there: the speaker dials it as it would any other.
fn configuration(setting: &Setting) -> String {
    let (plain, tls, backend) = (setting.plain.port(), setting.tls.port(), setting.backend);
    format!(
        "generation: 1
pop: {{ id: gru1, region: sa }}
bgp:
  asn: 64512
  router_id: 192.0.2.10
  neighbors: [{{ name: transit-a, address: 127.0.9.1, asn: 64500 }}]
anycast:
  - {{ prefix: 198.51.100.0/24, addresses: [{ADDRESS}], services: [bench] }}
proxy: {{ workers: 1 }}
services:
  - name: bench
    listen:
      - {{ address: {ADDRESS}, port: {plain} }}
      - {{ address: {ADDRESS}, port: {tls}, tls: {{ certificate: bench.pem, key: bench.key }} }}
    backends:
      - {{ id: one, address: {}, port: {}, hard_limit: 0 }}
    health: {{ tcp: {{}} }}
observe:
  metrics: 127.0.0.1:9090
",
        backend.ip(),
        backend.port()
    )
}
