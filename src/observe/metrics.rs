//! `/metrics`: rendered from the status documents when it is asked for, so that no subsystem counts twice.

mod backhaul;
mod fleet;
mod traffic;

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Histogram, HistogramOpts, TextEncoder};

use super::status::backhaul::BackhaulStatus;
use super::status::fleet::FleetStatus;
use super::status::traffic::ProxyStatus;
use super::status::{
    JournalStatus, LeasesStatus, NeighborStatus, PrefixStatus, ProcessStatus, ServiceStatus,
};

/// The content type of what [`Recorder::render`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// States of RFC 4271 §8.2.2, as label values.
const SESSION_STATES: [&str; 6] = ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"];
const PREFIX_STATES: [&str; 5] = ["announced", "degraded", "draining", "held", "withdrawn"];
const SERVICE_STATES: [&str; 3] = ["up", "degraded", "down"];

/// A label value is cut here; the configuration bounds names far below it.
const LABEL_CHARS: usize = 128;

/// Upper bounds of the failure-to-withdrawal histogram, in seconds: 100 µs to 10 s.
const WITHDRAW_BUCKETS: [f64; 16] =
    [1e-4, 2.5e-4, 5e-4, 1e-3, 1.5e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What cannot be read off a status document: durations of events. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct Recorder {
    fail_to_withdraw: Histogram,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// An empty record.
    #[must_use]
    pub fn new() -> Self {
        let options = HistogramOpts::new(
            "edgeproxy_fail_to_withdraw_seconds",
            "From the outcome of the probe that decided on a failure to its WITHDRAW written, once for each neighbor.",
        )
        .buckets(WITHDRAW_BUCKETS.to_vec());
        let fail_to_withdraw =
            Histogram::with_opts(options).expect("name and buckets are constants and valid");
        Self { fail_to_withdraw }
    }

    /// Records one withdrawal, `seconds` after the failure was known to the prober: the way of its refusal through
    /// the kernel is not in it, nor that of the UPDATE. Never blocks.
    pub fn observe(&self, seconds: f64) {
        self.fail_to_withdraw.observe(seconds);
    }

    /// Everything in the text exposition format.
    #[must_use]
    pub fn render(
        &self,
        process: &ProcessStatus,
        neighbors: &[Arc<NeighborStatus>],
        prefixes: &[PrefixStatus],
        services: &[ServiceStatus],
        proxy: &ProxyStatus,
        backhaul: Option<&BackhaulStatus>,
        fleet: Option<&FleetStatus>,
        journal: JournalStatus,
    ) -> String {
        let mut families = Vec::with_capacity(40);
        families.extend(of_process(process));
        families.extend(process.leases.iter().flat_map(of_leases));
        families.extend(of_neighbors(neighbors));
        families.extend(of_prefixes(prefixes));
        families.extend(of_services(services));
        families.extend(traffic::of_proxy(proxy));
        families.extend(backhaul.into_iter().flat_map(backhaul::of_backhaul));
        families.extend(fleet.into_iter().flat_map(fleet::of_fleet));
        families.extend(of_journal(journal));
        families.extend(self.fail_to_withdraw.collect());
        // The encoder takes a family without samples for an error; without neighbors that is none.
        families.retain(|family| !family.get_metric().is_empty());
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| format!("# {error}\n"))
    }
}

fn of_process(process: &ProcessStatus) -> Vec<MetricFamily> {
    let one = std::slice::from_ref(process);
    vec![
        gauge(
            "edgeproxy_build_info",
            "Always 1; its labels say what runs and where.",
            one.iter()
                .map(|p| sample(&[("version", &p.version), ("pop", &p.pop), ("region", &p.region)], 1.0)),
        ),
        gauge(
            "edgeproxy_config_generation",
            "The generation of the configuration in force.",
            one.iter().map(|p| sample(&[], p.generation as f64)),
        ),
        gauge(
            "edgeproxy_config_reload_refused",
            "1 while the last reload was refused and the configuration before it is in force.",
            one.iter().map(|p| sample(&[], flag(p.refused_reload.is_some()))),
        ),
        gauge(
            "edgeproxy_hung_threads",
            "Threads that the watchdog finds to hang.",
            one.iter().map(|p| sample(&[], p.hung_threads.len() as f64)),
        ),
        gauge(
            "edgeproxy_uptime_seconds",
            "Time since the process started.",
            one.iter().map(|p| sample(&[], seconds(p.uptime_ms))),
        ),
    ]
}

fn of_leases(leases: &LeasesStatus) -> Vec<MetricFamily> {
    let ages = leases.age_us.iter().enumerate().filter_map(|(worker, age)| Some((worker, (*age)?)));
    vec![
        gauge(
            "edgeproxy_lease_seconds",
            "How long a worker of the proxy may serve nothing before prefixes are withdrawn.",
            [sample(&[], micros(leases.lease_us))].into_iter(),
        ),
        gauge(
            "edgeproxy_lease_renewal_jitter_seconds",
            "By how much renewals of leases came late in the last minutes.",
            leases
                .jitter_us
                .iter()
                .map(|(quantile, jitter)| sample(&[("quantile", &quantile.to_string())], micros(*jitter))),
        ),
        gauge(
            "edgeproxy_worker_lease_age_seconds",
            "Since the worker of the proxy served last.",
            ages.map(|(worker, age)| sample(&[("worker", &worker.to_string())], micros(age))),
        ),
    ]
}

fn of_neighbors(neighbors: &[Arc<NeighborStatus>]) -> Vec<MetricFamily> {
    let both = |name, help, read: fn(&NeighborStatus) -> (u64, u64)| {
        counter(
            name,
            help,
            neighbors.iter().flat_map(move |n| {
                let (received, sent) = read(n);
                [("in", received), ("out", sent)]
                    .map(|(way, count)| sample(&[("neighbor", &n.name), ("direction", way)], count as f64))
            }),
        )
    };
    let each = |name, help, read: fn(&NeighborStatus) -> u64| {
        counter(name, help, neighbors.iter().map(move |n| sample(&[("neighbor", &n.name)], read(n) as f64)))
    };
    vec![
        gauge(
            "edgeproxy_bgp_neighbor_up",
            "1 while the session is Established.",
            neighbors.iter().map(|n| {
                let labels = [("neighbor", n.name.as_str()), ("asn", &n.asn.to_string())];
                sample(&labels, flag(n.state == "Established"))
            }),
        ),
        one_hot(
            "edgeproxy_bgp_neighbor_state",
            "1 at the state of the session (RFC 4271), 0 at the others.",
            "neighbor",
            &SESSION_STATES,
            neighbors.iter().map(|n| (n.name.as_str(), n.state.as_str())),
        ),
        gauge(
            "edgeproxy_bgp_neighbor_time_in_state_seconds",
            "How long the session has been in its state.",
            neighbors.iter().map(|n| sample(&[("neighbor", &n.name)], seconds(n.in_state_ms))),
        ),
        both("edgeproxy_bgp_neighbor_messages_total", "BGP messages.", |n| (n.messages_in, n.messages_out)),
        both("edgeproxy_bgp_neighbor_updates_total", "BGP UPDATE messages.", |n| {
            (n.updates_in, n.updates_out)
        }),
        each(
            "edgeproxy_bgp_neighbor_prefixes_received_total",
            "Prefixes the neighbor announced; all are dropped (RFC 8212).",
            |n| n.prefixes_received,
        ),
        each("edgeproxy_bgp_neighbor_prefixes_withdrawn_total", "Prefixes the neighbor withdrew.", |n| {
            n.prefixes_withdrawn
        }),
        each(
            "edgeproxy_bgp_neighbor_treated_as_withdraw_total",
            "Malformed UPDATEs taken as withdrawals (RFC 7606).",
            |n| n.treated_as_withdraw,
        ),
        each(
            "edgeproxy_bgp_neighbor_established_total",
            "Sessions that reached Established since the process started.",
            |n| n.established_count,
        ),
        gauge(
            "edgeproxy_bgp_neighbor_prefixes_sent",
            "Prefixes that stand announced at the neighbor.",
            neighbors.iter().map(|n| sample(&[("neighbor", &n.name)], n.announced.len() as f64)),
        ),
    ]
}

fn of_prefixes(prefixes: &[PrefixStatus]) -> Vec<MetricFamily> {
    vec![
        gauge(
            "edgeproxy_prefix_announced",
            "1 while the decision is to announce the prefix, in whatever form.",
            prefixes.iter().map(|p| sample(&[("prefix", &p.prefix)], flag(p.state != "withdrawn"))),
        ),
        one_hot(
            "edgeproxy_prefix_state",
            "1 at the state of the prefix's announcement, 0 at the others.",
            "prefix",
            &PREFIX_STATES,
            prefixes.iter().map(|p| (p.prefix.as_str(), p.state.as_str())),
        ),
        gauge(
            "edgeproxy_prefix_time_in_state_seconds",
            "How long the announcement has been in its state.",
            prefixes.iter().map(|p| sample(&[("prefix", &p.prefix)], seconds(p.since_ms))),
        ),
        gauge(
            "edgeproxy_announced_not_serving",
            "1 while the prefix is held: announced although it is not proven to be served. Alarm on it.",
            prefixes.iter().map(|p| sample(&[("prefix", &p.prefix)], flag(p.state == "held"))),
        ),
        gauge(
            "edgeproxy_prefix_addresses_missing",
            "Addresses of the prefix that are not on their device.",
            prefixes.iter().map(|p| {
                let missing = p.addresses.iter().filter(|a| a.state == "missing").count();
                sample(&[("prefix", &p.prefix)], missing as f64)
            }),
        ),
        gauge(
            "edgeproxy_prefix_lease_valid",
            "1 while the proxy proves that it serves the prefix, 0 while it does not; absent where it has no part.",
            prefixes.iter().filter_map(|p| {
                let lease = p.lease.as_ref()?;
                Some(sample(&[("prefix", &p.prefix)], flag(lease.state == "valid")))
            }),
        ),
    ]
}

fn of_services(services: &[ServiceStatus]) -> Vec<MetricFamily> {
    let backends = || services.iter().flat_map(|s| s.backends.iter().map(move |b| (s.service.as_str(), b)));
    vec![
        one_hot(
            "edgeproxy_service_state",
            "1 at the state of the service, 0 at the others.",
            "service",
            &SERVICE_STATES,
            services.iter().map(|s| (s.service.as_str(), s.state.as_str())),
        ),
        gauge(
            "edgeproxy_service_healthy_weight",
            "The weight of the service's backends that are up.",
            services.iter().map(|s| sample(&[("service", &s.service)], f64::from(s.healthy_weight))),
        ),
        gauge(
            "edgeproxy_service_total_weight",
            "The weight of all backends of the service.",
            services.iter().map(|s| sample(&[("service", &s.service)], f64::from(s.total_weight))),
        ),
        gauge(
            "edgeproxy_backend_up",
            "1 while the backend is proven up.",
            backends().map(|(service, b)| {
                let labels = [("service", service), ("backend", &b.id), ("region", &b.region)];
                sample(&labels, flag(b.verdict == "up"))
            }),
        ),
        gauge(
            "edgeproxy_backend_rtt_seconds",
            "Round trip of the last successful probe.",
            backends().filter_map(|(service, b)| {
                let rtt = b.rtt_us? as f64 / 1e6;
                Some(sample(&[("service", service), ("backend", &b.id)], rtt))
            }),
        ),
        counter(
            "edgeproxy_backend_probes_total",
            "Probes that ended.",
            backends()
                .map(|(service, b)| sample(&[("service", service), ("backend", &b.id)], b.probes as f64)),
        ),
        counter(
            "edgeproxy_backend_probe_failures_total",
            "Probes that ended in a failure.",
            backends()
                .map(|(service, b)| sample(&[("service", service), ("backend", &b.id)], b.failures as f64)),
        ),
    ]
}

fn of_journal(journal: JournalStatus) -> Vec<MetricFamily> {
    vec![
        counter(
            "edgeproxy_journal_written_entries_total",
            "Entries of the journal that were written to disk.",
            [sample(&[], journal.written as f64)],
        ),
        counter(
            "edgeproxy_journal_lost_entries_total",
            "Entries of the journal that were lost: too many at once, or the disk did not take them for too long.",
            [sample(&[], journal.lost as f64)],
        ),
    ]
}

/// A sample before it is known whether it is a counter or a gauge.
type Sample = (Vec<LabelPair>, f64);

fn sample(labels: &[(&str, &str)], value: f64) -> Sample {
    let labels = labels.iter().map(|&(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.chars().take(LABEL_CHARS).collect());
        pair
    });
    (labels.collect(), value)
}

fn gauge(name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) -> MetricFamily {
    family(name, help, MetricType::GAUGE, samples, |metric, value| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    })
}

fn counter(name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) -> MetricFamily {
    family(name, help, MetricType::COUNTER, samples, |metric, value| {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    })
}

/// One sample per possible state, so that a series exists before its state is ever reached.
fn one_hot<'a>(
    name: &str,
    help: &str,
    label: &str,
    states: &[&str],
    now: impl Iterator<Item = (&'a str, &'a str)>,
) -> MetricFamily {
    let samples = now.flat_map(|(subject, state)| {
        states.iter().map(move |&one| sample(&[(label, subject), ("state", one)], flag(one == state)))
    });
    gauge(name, help, samples)
}

fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    samples: impl IntoIterator<Item = Sample>,
    set: impl Fn(&mut Metric, f64),
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    let metrics = samples.into_iter().map(|(labels, value)| {
        let mut metric = Metric::from_label(labels);
        set(&mut metric, value);
        metric
    });
    family.set_metric(metrics.collect());
    family
}

fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

fn micros(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1e3
}

#[cfg(test)]
mod tests;
