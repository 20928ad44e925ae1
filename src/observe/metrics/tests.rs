//! The exposition is valid, says what the documents say, and stays bounded.

use std::sync::Arc;

use std::collections::BTreeSet;

use super::*;
use crate::observe::samples::{backhaul, certificates, neighbors, prefixes, process, services};
use crate::observe::status::traffic::{CertificateStatus, ProxyStatus};

fn render() -> String {
    let recorder = Recorder::new();
    let handle = recorder.clone();
    handle.observe(0.0012);
    drop(handle);
    let journal = JournalStatus { written: 12, lost: 3 };
    let mut certificates = certificates();
    // A label has no room for more than the beginning of either.
    for last in ["x", "y"] {
        let names = [vec!["long.example".repeat(12)], vec![last.to_owned()]].concat();
        certificates.push(CertificateStatus { names, ..certificates[0].clone() });
    }
    let proxy = ProxyStatus { certificates, ..ProxyStatus::default() };
    recorder.render(
        &process(),
        &neighbors(),
        &prefixes(),
        &services(),
        &proxy,
        Some(&backhaul()),
        None,
        journal,
    )
}

#[test]
fn says_what_the_documents_say() {
    let text = render();
    let unasked = r#"edgeproxy_prefix_lease_valid{prefix="198.51.100.0/24"}"#;
    assert!(!text.contains(unasked) && !text.contains(r#"lease_age_seconds{worker="1"}"#), "{text}");
    for line in [
        r#"edgeproxy_build_info{version="0.1.0",pop="gru1",region="sa"} 1"#,
        "edgeproxy_config_generation 7",
        "edgeproxy_config_reload_refused 0",
        "edgeproxy_hung_threads 0",
        "edgeproxy_uptime_seconds 93784",
        "edgeproxy_lease_seconds 0.06",
        r#"edgeproxy_lease_renewal_jitter_seconds{quantile="0.5"} 0.000012"#,
        r#"edgeproxy_lease_renewal_jitter_seconds{quantile="0.9999"} 0.001279"#,
        r#"edgeproxy_worker_lease_age_seconds{worker="0"} 0.007"#,
        r#"edgeproxy_prefix_lease_valid{prefix="2001:db8:100::/48"} 0"#,
        r#"edgeproxy_prefix_lease_valid{prefix="2001:db8:100:1::/64"} 1"#,
        r#"edgeproxy_bgp_neighbor_up{neighbor="transit-a",asn="64500"} 1"#,
        r#"edgeproxy_bgp_neighbor_up{neighbor="transit-b",asn="64500"} 0"#,
        r#"edgeproxy_bgp_neighbor_state{neighbor="transit-b",state="Active"} 1"#,
        r#"edgeproxy_bgp_neighbor_state{neighbor="transit-b",state="Established"} 0"#,
        r#"edgeproxy_bgp_neighbor_messages_total{neighbor="transit-a",direction="in"} 20"#,
        r#"edgeproxy_bgp_neighbor_updates_total{neighbor="transit-a",direction="out"} 1"#,
        r#"edgeproxy_bgp_neighbor_prefixes_received_total{neighbor="transit-a"} 900000"#,
        r#"edgeproxy_bgp_neighbor_treated_as_withdraw_total{neighbor="transit-a"} 0"#,
        r#"edgeproxy_bgp_neighbor_established_total{neighbor="transit-a"} 1"#,
        r#"edgeproxy_prefix_announced{prefix="198.51.100.0/24"} 1"#,
        r#"edgeproxy_prefix_announced{prefix="2001:db8:100::/48"} 0"#,
        r#"edgeproxy_prefix_state{prefix="2001:db8:100::/48",state="withdrawn"} 1"#,
        r#"edgeproxy_prefix_time_in_state_seconds{prefix="198.51.100.0/24"} 310"#,
        r#"edgeproxy_announced_not_serving{prefix="198.51.100.0/24"} 0"#,
        r#"edgeproxy_announced_not_serving{prefix="2001:db8:100:1::/64"} 1"#,
        r#"edgeproxy_backend_up{service="web",backend="web-1",region="sa"} 1"#,
        r#"edgeproxy_backend_up{service="web",backend="web-3",region="sa"} 0"#,
        r#"edgeproxy_backend_rtt_seconds{service="web",backend="web-1"} 0.00125"#,
        r#"edgeproxy_backend_probes_total{service="web",backend="web-2"} 61"#,
        r#"edgeproxy_backend_probe_failures_total{service="web",backend="web-2"} 3"#,
        r#"edgeproxy_certificate_not_after_timestamp_seconds{service="web",listener="198.51.100.1:443",names="a.example,*.a.example"} 1798847941"#,
        r#"edgeproxy_certificate_self_signed{service="web",listener="198.51.100.1:443",names="a.example,*.a.example"} 0"#,
        r#"edgeproxy_certificate_self_signed{service="web",listener="198.51.100.1:443",names="d.example,*.d.example"} 1"#,
        r#"edgeproxy_service_healthy_weight{service="web"} 2"#,
        r#"edgeproxy_service_total_weight{service="web"} 6"#,
        r#"edgeproxy_fail_to_withdraw_seconds_bucket{le="0.001"} 0"#,
        r#"edgeproxy_fail_to_withdraw_seconds_bucket{le="0.0015"} 1"#,
        r#"edgeproxy_fail_to_withdraw_seconds_bucket{le="+Inf"} 1"#,
        "edgeproxy_fail_to_withdraw_seconds_count 1",
        "edgeproxy_journal_written_entries_total 12",
        "edgeproxy_journal_lost_entries_total 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}

/// The rules of the text format, version 0.0.4: every sample belongs to the family announced last,
/// every family is announced once, every series is there once, every value is a number.
fn check(text: &str) {
    assert!(text.ends_with('\n'));
    let (mut families, mut series, mut kind, mut family) = (BTreeSet::new(), BTreeSet::new(), "", "");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap();
            assert!(families.insert(family), "{family} is announced twice");
            assert!(help.len() > family.len() + 1, "{family} has no help");
        } else if let Some(of_type) = line.strip_prefix("# TYPE ") {
            let (name, word) = of_type.split_once(' ').unwrap();
            assert_eq!(name, family);
            kind = word;
            assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        } else {
            let (one, value) = line.rsplit_once(' ').unwrap();
            assert!(series.insert(one), "{one} is there twice");
            value.parse::<f64>().unwrap();
            let name = one.split('{').next().unwrap();
            let of_family = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} under {family}"));
            let suffixes: &[_] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.contains(&of_family), "{line}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit()), "{name}");
            if let Some(labels) = one.strip_prefix(name).filter(|labels| !labels.is_empty()) {
                check_labels(labels);
            }
        }
    }
}

/// `{name="value",…}` with `\`, `"` and line breaks escaped in values.
fn check_labels(labels: &str) {
    let mut rest = labels.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap();
        assert!(name.chars().all(|c| c.is_ascii_lowercase()) || name == "le", "{labels}");
        let mut escaped = false;
        let end = after
            .char_indices()
            .find(|&(_, c)| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })
            .unwrap_or_else(|| panic!("no end: {labels}"))
            .0;
        assert!(after[..end].chars().count() <= 2 * LABEL_CHARS, "{labels}");
        rest = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
    }
}

#[test]
fn the_exposition_is_valid() {
    check(&render());
}

#[test]
fn an_empty_process_exposes_no_empty_family() {
    let text = Recorder::new().render(
        &ProcessStatus::default(),
        &[],
        &[],
        &[],
        &ProxyStatus::default(),
        None,
        None,
        JournalStatus::default(),
    );
    check(&text);
    assert!(!text.contains("bgp_neighbor"), "{text}");
    assert!(text.contains("edgeproxy_fail_to_withdraw_seconds_count 0"), "{text}");
}

#[test]
fn names_cannot_break_the_format() {
    let mut neighbors = neighbors();
    for (neighbor, name) in neighbors.iter_mut().zip(["a\"b\\c\nd".to_owned(), "é".repeat(10_000)]) {
        Arc::make_mut(neighbor).name = name;
    }
    let text = Recorder::new().render(
        &process(),
        &neighbors,
        &[],
        &[],
        &ProxyStatus::default(),
        None,
        None,
        JournalStatus::default(),
    );
    check(&text);
    assert!(text.contains(r#"neighbor="a\"b\\c\nd""#), "{text}");
}
