//! What a file that says the least means.

use std::path::Path;
use std::time::Duration;

use edgeproxy::config::Config;
use edgeproxy::config::anycast::Intent;
use edgeproxy::config::backhaul::{self, Endpoint};
use edgeproxy::config::bgp::{Asn, Attributes, Community, Family, LargeCommunity, NextHop};
use edgeproxy::config::listen::{
    ClientCertificates, Identity, Limits, Protocol, Security, SocketOptions, TlsVersion,
};
use edgeproxy::config::load::{load, parse};
use edgeproxy::config::observe::{LogFormat, LogLevel};
use edgeproxy::config::proxy::Proxy;
use edgeproxy::config::services::{Forwarding, Level, Probe, SendProxy};

fn minimal() -> Config {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/minimal.yaml")).unwrap()
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = minimal();
    let neighbor = &config.bgp.neighbors[0];
    let prefix = config.anycast.values().next().unwrap();
    let service = &config.services["web"];
    let check = &service.check;
    let listen: Vec<_> = config.bgp.listen.iter().map(ToString::to_string).collect();
    let metrics = config.observe.metrics.unwrap().to_string();
    let table = [
        ("pop.location", format!("{:?}", config.pop.location), "None"),
        ("bgp.listen", listen.join(" "), "0.0.0.0:179 [::]:179"),
        ("bgp.shutdown.graceful", format!("{:?}", config.bgp.shutdown.graceful), "1s"),
        ("bgp.shutdown.text", config.bgp.shutdown.text.clone(), "edgeproxy: planned stop"),
        ("port", neighbor.port.to_string(), "179"),
        ("passive", neighbor.passive.to_string(), "false"),
        ("ttl_security", format!("{:?}", neighbor.ttl_security), "None"),
        ("multihop", format!("{:?}", neighbor.multihop), "None"),
        ("hold_time", format!("{:?}", neighbor.hold_time), "90s"),
        ("connect_retry", format!("{:?}", neighbor.connect_retry), "5s"),
        ("max_prefixes", format!("{:?}", neighbor.max_prefixes), "None"),
        ("source", format!("{:?}", neighbor.source), "None"),
        ("device", prefix.device.clone(), "lo"),
        ("region of a backend", service.backends[0].region.clone(), "sa"),
        ("weight", service.backends[0].weight.to_string(), "2"),
        ("interval", format!("{:?}", check.interval), "1s"),
        ("fast_interval", format!("{:?}", check.fast_interval), "100ms"),
        ("timeout", format!("{:?}", check.timeout), "500ms"),
        ("rise", check.rise.to_string(), "2"),
        ("fall", check.fall.to_string(), "3"),
        ("held_connection", check.held_connection.to_string(), "true"),
        ("target", check.target(&service.backends[0]).to_string(), "10.0.0.5:8080"),
        ("soft_limit", service.backends[0].soft_limit.to_string(), "100"),
        ("hard_limit", service.backends[0].hard_limit.to_string(), "150"),
        ("country", format!("{:?}", service.backends[0].country), "None"),
        ("drain", service.backends[0].drain.to_string(), "false"),
        ("listen", format!("{:?}", service.listen), "[]"),
        ("health.max_concurrent", config.health.max_concurrent.to_string(), "512"),
        ("health.max_age", format!("{:?}", config.health.max_age), "3s"),
        ("admin.socket", config.admin.socket.display().to_string(), "/run/edgeproxy/edgeproxy.sock"),
        ("admin.operator_key", format!("{:?}", config.admin.operator_key), "None"),
        ("admin.max_darkened", config.admin.max_darkened.to_string(), "0"),
        ("observe.metrics", metrics, "127.0.0.1:9090"),
    ];
    for (word, found, expected) in table {
        assert_eq!(found, expected, "{word}");
    }
    assert_eq!((service.forwarding, &config.proxy), (Forwarding::default(), &Proxy::default()));
    assert_eq!(neighbor.families, [Family::Ipv4]);
    assert_eq!(neighbor.password, None);
    assert_eq!(neighbor.next_hop, NextHop::default());
    assert_eq!(neighbor.export, Attributes::default());
    assert_eq!(
        (prefix.state, &prefix.attributes, &prefix.degrade),
        (Intent::Up, &Attributes::default(), &Attributes::default())
    );
    assert_eq!((service.watermark.low, service.watermark.high), (Level::Weight(1), Level::Weight(1)));
    assert_eq!(service.watermark.degrade, None);
    assert_eq!(check.probe, Probe::Tcp);
    assert_eq!((config.observe.log.level, config.observe.log.format), (LogLevel::Info, LogFormat::Text));
}

#[test]
fn the_fast_interval_follows_the_interval() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/minimal.yaml")).unwrap();
    for (interval, fast) in [("5ms", 5), ("10ms", 5), ("20ms", 5), ("200ms", 20), ("1h", 360_000)] {
        let text = format!("{text}    health: {{ interval: {interval} }}\n");
        let config = parse(&text, Path::new("")).unwrap();
        assert_eq!(config.services["web"].check.fast_interval, Duration::from_millis(fast), "{interval}");
    }
}

#[test]
fn a_site_may_have_eight_times_what_a_source_may() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/minimal.yaml")).unwrap();
    for (limits, per_site) in [
        ("per_source: 10", 80),
        ("per_source: 10, per_site: 0", 0),
        ("per_source: 10, per_site: 10", 10),
        ("per_source: 3000000", 4_000_000),
        ("per_site: 7", 7),
        ("rate: 10", 0),
    ] {
        let text = format!("{text}    listen: [{{ address: 198.51.100.1, limits: {{ {limits} }} }}]\n");
        let config = parse(&text, Path::new("")).unwrap();
        assert_eq!(config.services["web"].listen[0].limits.per_site, per_site, "{limits}");
    }
}

#[test]
fn what_the_complete_example_says_is_what_is_read() {
    let config = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/edgeproxy.yaml")).unwrap();
    assert_eq!(config.generation, 7);
    assert_eq!(config.pop.location, Some((-23.4, -46.5)));
    let [transit_a, transit_b, rs1] = config.bgp.neighbors.as_slice() else { panic!("three neighbors") };
    assert_eq!(transit_a.families, [Family::Ipv4, Family::Ipv6]);
    assert_eq!(transit_a.next_hop.ipv6, Some("2001:db8:0:1::10".parse().unwrap()));
    assert_eq!((transit_a.export.prepend, transit_a.export.med), (1, Some(50)));
    assert_eq!(transit_a.export.communities, [Community(64500 << 16 | 120), Community::NO_EXPORT]);
    assert_eq!(transit_a.export.large_communities, [LargeCommunity(64500, 1, 120)]);
    assert_eq!((transit_a.ttl_security, transit_a.max_prefixes), (Some(1), Some(1_000_000)));
    assert_eq!((transit_b.asn, transit_b.multihop), (Asn(4_200_000_001), Some(2)));
    assert_eq!(transit_b.families, [Family::Ipv6]);
    assert!(rs1.passive && rs1.hold_time == Duration::from_secs(30));
    let prefixes: Vec<_> = config.anycast.keys().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["198.51.100.0/24", "2001:db8:100::/48"]);
    let web = &config.services["web"];
    assert_eq!((web.watermark.low, web.watermark.degrade), (Level::Weight(2), Some(Level::Percent(75))));
    let Probe::Http(http) = &web.check.probe else { panic!("an HTTP probe") };
    assert!([200, 299, 301, 302].into_iter().all(|status| http.expect.contains(status)));
    assert!([199, 300, 303, 500].into_iter().all(|status| !http.expect.contains(status)));
    assert_eq!(config.services["resolver"].check.port, Some(5300));
    let [plain, tls, passed, ipv6] = web.listen.as_slice() else { panic!("four listeners") };
    assert_eq!((plain.ports.clone(), ipv6.ports.clone()), (80..=80, 80..=80));
    let limits = Limits { connections: 100_000, per_source: 1_000, per_site: 8_000, rate: 200, burst: 400 };
    assert_eq!(plain.limits, limits);
    assert_eq!((plain.proxy_from.len(), plain.socket), (1, SocketOptions::default()));
    let Security::Terminate(tls) = &tls.security else { panic!("TLS ends here") };
    assert_eq!((&tls.identity, tls.alpn.len()), (&Identity::SelfSigned, 2));
    assert_eq!((tls.names[1].0.as_str(), tls.acme.unwrap().port()), ("*.example.net", 5001));
    let Security::Passthrough { names } = &passed.security else { panic!("TLS is passed through") };
    assert_eq!(names[0].0, "mail.example.org");
    assert_eq!(
        (web.forwarding.affinity, web.forwarding.send_proxy),
        (Some(Duration::from_secs(600)), SendProxy::V2)
    );
    assert_eq!(config.services["resolver"].listen[1].protocol, Protocol::Udp);
    assert_eq!((config.proxy.workers, config.proxy.memory), (Some(2), 512 << 20));
    let backhaul = config.backhaul.as_ref().unwrap();
    assert_eq!(backhaul.fleet.node(backhaul.place).to_string(), "fd5a:1c7e:92b4:3010::1");
    let [fra1, iad1] = backhaul.peers.as_slice() else { panic!("two peers") };
    let endpoints: Vec<_> = fra1.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["192.0.2.71:51820", "[2001:db8:71::7]:51820", "fra1.example.net:51820"]);
    assert_eq!(fra1.endpoints[2], Endpoint::Name("fra1.example.net".into(), 51820));
    assert_eq!((fra1.place.to_string(), fra1.allow[0].to_string()), ("eu/2".into(), "tcp/8081".into()));
    assert_eq!((iad1.endpoints.len(), iad1.keepalive), (0, Some(Duration::from_secs(25))));
    let [.., behind, inside] = web.backends.as_slice() else { panic!("six backends") };
    assert_eq!(
        (behind.pop.as_deref(), behind.via_ingress, behind.region.as_str()),
        (Some("fra1"), true, "eu")
    );
    assert_eq!((behind.address.to_string(), behind.port), ("fd5a:1c7e:92b4:1020::1".into(), 8082));
    assert_eq!((inside.pop.as_deref(), inside.via_ingress, inside.port), (Some("iad1"), false, 8080));
    assert_eq!(web.check.target(behind).to_string(), "[fd5a:1c7e:92b4:1020::1]:8082");
}

#[test]
fn a_backhaul_that_says_the_least() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/minimal.yaml")).unwrap();
    assert_eq!(minimal().backhaul, None);
    let least = format!("{text}backhaul: {{ fleet: \"fd5a:1c7e:92b4::/48\", number: 0 }}\n");
    let read =
        |text: &str| parse(text, Path::new("/etc/edgeproxy")).unwrap_or_else(|problems| panic!("{problems}"));
    let backhaul = read(&least).backhaul.unwrap();
    let table = [
        ("place", backhaul.place.to_string(), "sa/0"),
        (
            "private_key_file",
            backhaul.private_key_file.display().to_string(),
            "/var/lib/edgeproxy/backhaul.key",
        ),
        ("next_private_key_file", format!("{:?}", backhaul.next_private_key_file), "None"),
        ("backend", backhaul.backend.to_string(), "auto"),
        ("interface", backhaul.interface.clone(), "edge6pn"),
        ("listen", backhaul.listen.to_string(), "51820"),
        ("mtu", format!("{:?}", backhaul.mtu), "None"),
        ("offload.tun", backhaul.offload_tun.to_string(), "true"),
        ("offload.udp", backhaul.offload_udp.to_string(), "true"),
        ("ingress", format!("{:?}", backhaul.ingress), "Some(8082)"),
        ("relay", backhaul.relay.to_string(), "true"),
        ("peers", backhaul.peers.len().to_string(), "0"),
    ];
    for (word, found, expected) in table {
        assert_eq!(found, expected, "{word}");
    }
    assert_eq!(backhaul.probe, backhaul::Probe::default());
    let more = "private_key_file: keys/a, ingress: off, mtu: 1400, probe: { interval: 5s }";
    let backhaul = read(&least.replace("number: 0", &format!("number: 255, {more}"))).backhaul.unwrap();
    assert_eq!(backhaul.private_key_file, Path::new("/etc/edgeproxy/keys/a"));
    assert_eq!((backhaul.ingress, backhaul.mtu, backhaul.place.pop), (None, Some(1400), 255));
    assert_eq!(backhaul.probe.timeout, Duration::from_secs(5));
}

/// The minimal configuration with more said about its service.
fn service(more: &str) -> edgeproxy::config::services::Service {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/minimal.yaml")).unwrap();
    let config = parse(&format!("{text}{more}"), Path::new(""))
        .unwrap_or_else(|problems| panic!("{more}: {problems}"));
    config.services["web"].clone()
}

#[test]
fn a_listener_that_says_the_least() {
    let listen =
        |words: &str| service(&format!("    listen: [{{ address: 10.0.0.1, {words} }}]\n")).listen.remove(0);
    let plain = listen("");
    assert_eq!(
        (plain.ports.clone(), plain.protocol, &plain.security),
        (8080..=8080, Protocol::Tcp, &Security::Plain)
    );
    assert_eq!((plain.limits, plain.socket), (Limits::default(), SocketOptions::default()));
    assert_eq!(listen("ports: 8000-9023").ports, 8000..=9023);
    assert_eq!(listen("passthrough: []").ports, 8443..=8443);
    let tls = listen("tls: { self_signed: true }");
    let Security::Terminate(said) = &tls.security else { panic!("TLS") };
    assert_eq!(
        (tls.ports.clone(), said.minimum, &said.clients),
        (8443..=8443, TlsVersion::V1_2, &ClientCertificates::Off)
    );
    assert!(said.names.is_empty() && said.alpn.is_empty() && said.acme.is_none());
    assert_eq!(listen("protocol: udp").limits.connections, 65_536);
    assert_eq!(listen("protocol: udp, limits: { connections: 5 }").limits.connections, 5);
    // A burst is as large as the rate unless it is written.
    assert_eq!(listen("limits: { rate: 7 }").limits.burst, 7);
    let off = listen("keepalive: off, user_timeout: off").socket;
    assert!(off.keepalive.is_zero() && off.user_timeout.is_zero());
    for version in ["1.3", "\"1.3\""] {
        let tls = listen(&format!("tls: {{ self_signed: true, minimum: {version} }}"));
        assert!(matches!(&tls.security, Security::Terminate(tls) if tls.minimum == TlsVersion::V1_3));
    }
}

#[test]
fn what_can_be_off_is_off() {
    let off = service(
        "    affinity: off\n    send_proxy: off\n    ejection: off\n    health: off\n    timeouts: { idle: off }\n",
    );
    assert_eq!((off.forwarding.affinity, off.forwarding.ejection), (None, None));
    assert_eq!((off.forwarding.send_proxy, off.forwarding.timeouts.idle), (SendProxy::Off, Duration::ZERO));
    assert_eq!((&off.check.probe, off.check.held_connection), (&Probe::Off, false));
}

#[test]
fn a_bound_that_is_left_out_follows_the_one_that_is_written() {
    let timeouts = service("    timeouts: { connect: 5s }\n").forwarding.timeouts;
    assert_eq!(timeouts.deadline, Duration::from_secs(5));
    let ejection = service("    ejection: { time: 10m }\n").forwarding.ejection.unwrap();
    assert_eq!(ejection.max_time, Duration::from_secs(600));
    for (words, soft, hard) in [
        ("soft_limit: 50", 50, 150),
        ("soft_limit: 1000", 1000, 1000),
        ("hard_limit: 2", 2, 2),
        ("hard_limit: 0", 100, 0),
        ("soft_limit: 7, hard_limit: 7", 7, 7),
    ] {
        let web = service(&format!("      - {{ id: b, address: 10.0.0.9, port: 1, {words} }}\n"));
        assert_eq!((web.backends[1].soft_limit, web.backends[1].hard_limit), (soft, hard), "{words}");
    }
}

#[test]
fn sets_of_statuses_are_sorted_and_joined() {
    let minimal =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/minimal.yaml")).unwrap();
    for (written, ranges) in [
        ("204", vec![(204, 204)]),
        ("\"204\"", vec![(204, 204)]),
        ("3xx", vec![(300, 399)]),
        ("[401, 205-210, 200-204, 2xx]", vec![(200, 299), (401, 401)]),
        ("[200-204, 205]", vec![(200, 205)]),
        ("[200-204, 206]", vec![(200, 204), (206, 206)]),
    ] {
        let text = format!("{minimal}    health: {{ http: {{ expect: {written} }} }}\n");
        let config = parse(&text, Path::new("")).unwrap_or_else(|problems| panic!("{problems}"));
        let Probe::Http(http) = &config.services["web"].check.probe else { panic!("an HTTP probe") };
        assert_eq!(http.expect.0, ranges, "{written}");
    }
}
