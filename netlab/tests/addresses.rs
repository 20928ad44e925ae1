//! Whose an address is: ours go away with the router, also after a crash, and the operator's stay.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Duration;

use netlab::edgeproxy::EdgeProxy;
use netlab::namespace::Namespace;
use netlab::service::{Kind, Service, ServiceConfig};
use netlab::sys::namespace::is_root;

const LONG: Duration = Duration::from_secs(20);
const OURS: [&str; 2] = ["198.51.100.1/32", "2001:db8:1::1/128"];
const OPERATORS: [&str; 2] = ["198.51.100.2/32", "2001:db8:1::2/128"];
const CONFIGURATION: &str = "
generation: 1
pop: { id: gru1, region: sa }
anycast:
  - { prefix: 198.51.100.0/24, addresses: [198.51.100.1, 198.51.100.2], services: [web] }
  - { prefix: 2001:db8:1::/48, addresses: ['2001:db8:1::1', '2001:db8:1::2'], services: [web] }
services:
  - { name: web, backends: [{ id: web-1, address: 127.0.0.1, port: 8080 }], health: { http: {}, rise: 1 } }
bgp:
  asn: 64512
  router_id: 10.0.0.2
  neighbors:
    - { name: nobody, address: 127.0.0.9, asn: 64500, passive: true, families: [ipv4, ipv6], next_hop: { ipv6: '2001:db8::2' } }
";

/// What `ip` says of the loopback interface.
fn shown(host: &Namespace) -> String {
    let output = host.short_command("ip").args(["addr", "show", "dev", "lo"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn wait_bound(router: &EdgeProxy, host: &Namespace) {
    let announced = |status: &serde_json::Value| {
        let prefixes = status["prefixes"].as_array().map_or(&[][..], Vec::as_slice);
        prefixes.len() == 2 && prefixes.iter().all(|prefix| prefix["state"] == "announced")
    };
    router.wait_status("both prefixes announced", LONG, announced).unwrap();
    let shown = shown(host);
    assert!(OURS.iter().chain(&OPERATORS).all(|address| shown.contains(address)), "{shown}");
}

#[test]
fn ours_go_after_a_crash_too_and_the_operators_stay() {
    if !is_root() {
        return println!(
            "SKIPPED ours_go_after_a_crash_too_and_the_operators_stay: it needs root for network namespaces"
        );
    }
    let directory = std::env::temp_dir().join(format!("netlab-addr-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let host = Namespace::create("pop").unwrap();
    for address in OPERATORS {
        host.ip(&["addr", "add", address, "dev", "lo"]).unwrap();
    }
    let listen = vec!["127.0.0.1:8080".parse().unwrap()];
    let service = ServiceConfig { kind: Kind::Http, name: "web-1".to_owned(), listen };
    let _service = Service::start(&host, &service, &directory).unwrap();
    let mut router = EdgeProxy::new(&host, &directory, CONFIGURATION, &BTreeMap::new()).unwrap();

    // With every mark, and with the one that kernels before 5.18 keep.
    for old_kernel in [false, true] {
        router.start().unwrap();
        wait_bound(&router, &host);
        router.kill().unwrap();
        let left = shown(&host);
        assert!(OURS.iter().all(|address| left.contains(&format!("{address} metric 60909"))), "{left}");
        if old_kernel {
            for address in OURS {
                host.ip(&["addr", "del", address, "dev", "lo"]).unwrap();
                host.ip(&["addr", "add", address, "dev", "lo", "metric", "60909"]).unwrap();
            }
        }
        router.start().unwrap();
        wait_bound(&router, &host);
        router.terminate().unwrap();
        router.wait_exit(LONG).unwrap();
        let left = shown(&host);
        assert!(OURS.iter().all(|address| !left.contains(address)), "old kernel: {old_kernel}: {left}");
        assert!(OPERATORS.iter().all(|address| left.contains(address)), "{left}");
    }
    let _ = std::fs::remove_dir_all(&directory);
}
