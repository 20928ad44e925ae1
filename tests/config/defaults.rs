//! What a file that says the least means.

use std::path::Path;
use std::time::Duration;

use edgeproxy::config::Config;
use edgeproxy::config::anycast::Intent;
use edgeproxy::config::bgp::{Asn, Attributes, Community, Family, LargeCommunity, NextHop};
use edgeproxy::config::load::{load, parse};
use edgeproxy::config::observe::{LogFormat, LogLevel};
use edgeproxy::config::services::{Level, Probe};

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
