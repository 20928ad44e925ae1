//! The data plane's metrics, under v1's names where they exist.

use std::collections::BTreeMap;

use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};

use super::{LABEL_CHARS, counter, flag, gauge, sample};
use crate::observe::status::traffic::{
    BackendTraffic, CertificateStatus, DoorStatus, HistogramStatus, ProxyStatus, TrafficStatus,
};

pub(super) fn of_proxy(proxy: &ProxyStatus) -> Vec<MetricFamily> {
    let one = std::slice::from_ref(proxy);
    let whole = |name, help, read: fn(&ProxyStatus) -> f64| {
        gauge(name, help, one.iter().map(move |it| sample(&[], read(it))))
    };
    let mut families = vec![
        whole("edgeproxy_connections_open", "Connections of clients that are open.", |it| f64::from(it.open)),
        whole("edgeproxy_proxy_held_bytes", "Octets that wait in the proxy's own buffers.", |it| {
            it.held_bytes as f64
        }),
        counter(
            "edgeproxy_accept_starved_total",
            "Times that the kernel had no descriptor or memory for a client.",
            one.iter().map(|it| sample(&[], it.starved as f64)),
        ),
        counter(
            "edgeproxy_access_log_dropped_total",
            "Lines that the access log left out because of its rate.",
            one.iter().map(|it| sample(&[], it.unlogged as f64)),
        ),
    ];
    families.extend(of_doors(&proxy.doors, proxy.workers));
    families.extend(of_certificates(&proxy.certificates));
    families.extend(of_datagrams(&proxy.doors));
    families.extend(of_services(&proxy.services));
    families.extend(of_backends(&proxy.services));
    families
}

fn of_doors(doors: &[DoorStatus], workers: usize) -> Vec<MetricFamily> {
    vec![
        gauge(
            "edgeproxy_listener_up",
            "1 while every worker listens there.",
            doors.iter().map(|it| sample(&[("listener", &it.door)], f64::from(it.listening == workers))),
        ),
        gauge(
            "edgeproxy_listener_connections_open",
            "Connections that came in there and are open.",
            doors.iter().map(|it| sample(&[("listener", &it.door)], f64::from(it.open))),
        ),
    ]
}

/// Many names do not fit into a label: what is cut to the same must not make two series.
fn of_certificates(all: &[CertificateStatus]) -> Vec<MetricFamily> {
    let mut known = BTreeMap::new();
    for it in all {
        let mut names = if it.names.is_empty() { "*".to_owned() } else { it.names.join(",") };
        names.truncate(names.floor_char_boundary(LABEL_CHARS));
        known.entry((&it.service, &it.listener, names)).or_insert(it);
    }
    let labels = |(service, listener, names): &(&String, &String, String), value| {
        sample(&[("service", service.as_str()), ("listener", listener.as_str()), ("names", names)], value)
    };
    vec![
        gauge(
            "edgeproxy_certificate_not_after_timestamp_seconds",
            "The last second of the certificate, counted from 1970; absent of self-signed ones.",
            known.iter().filter_map(|(key, it)| Some(labels(key, it.not_after? as f64))),
        ),
        gauge(
            "edgeproxy_certificate_self_signed",
            "1 where clients are shown a certificate that edgeproxy made itself, which none of them trusts.",
            known.iter().map(|(key, it)| labels(key, flag(it.self_signed))),
        ),
    ]
}

fn of_datagrams(doors: &[DoorStatus]) -> Vec<MetricFamily> {
    let all = || doors.iter().filter_map(|door| Some((&door.door, door.datagrams.as_ref()?)));
    let both = all().flat_map(|(door, it)| [(door, "up", it.up), (door, "down", it.down)]);
    let octets = all().flat_map(|(door, it)| [(door, "up", it.up_bytes), (door, "down", it.down_bytes)]);
    let dropped = all().flat_map(|(door, it)| it.dropped.iter().map(move |drop| (door, drop)));
    let way = |(door, way, count): (&String, &str, u64)| {
        sample(&[("listener", door.as_str()), ("direction", way)], count as f64)
    };
    vec![
        counter(
            "edgeproxy_datagrams_total",
            "Datagrams carried, up to the backends and down to the clients.",
            both.map(way),
        ),
        counter("edgeproxy_datagram_bytes_total", "Octets in the datagrams carried.", octets.map(way)),
        counter(
            "edgeproxy_datagrams_dropped_total",
            "Datagrams that went nowhere, by reason.",
            dropped.map(|(door, (reason, count))| {
                sample(&[("listener", door.as_str()), ("reason", reason.as_str())], *count as f64)
            }),
        ),
    ]
}

fn of_services(services: &[TrafficStatus]) -> Vec<MetricFamily> {
    let ends = services.iter().flat_map(|it| it.ends.iter().map(move |end| (it, end)));
    let both = services.iter().flat_map(|it| [(it, "up", it.up_bytes), (it, "down", it.down_bytes)]);
    vec![
        counter(
            "edgeproxy_connections_total",
            "Connections of clients.",
            services.iter().map(|it| sample(&[("service", &it.service)], it.connections as f64)),
        ),
        gauge(
            "edgeproxy_service_connections_open",
            "Connections of the service that are open.",
            services.iter().map(|it| sample(&[("service", &it.service)], f64::from(it.open))),
        ),
        counter(
            "edgeproxy_connection_ends_total",
            "How connections ended.",
            ends.map(|(it, (kind, count))| sample(&[("service", &it.service), ("end", kind)], *count as f64)),
        ),
        counter(
            "edgeproxy_bytes_total",
            "Octets carried, up to the backends and down to the clients; counted when a connection ends.",
            both.map(|(it, way, count)| {
                sample(&[("service", &it.service), ("direction", way)], count as f64)
            }),
        ),
        histogram(
            "edgeproxy_connect_seconds",
            "From the accept of a client to the answer of its backend.",
            services.iter().map(|it| (it.service.as_str(), &it.reach)),
        ),
        histogram(
            "edgeproxy_connection_duration_seconds",
            "From the accept of a client to the end.",
            services.iter().map(|it| (it.service.as_str(), &it.duration)),
        ),
    ]
}

fn of_backends(services: &[TrafficStatus]) -> Vec<MetricFamily> {
    let all = || services.iter().flat_map(|it| it.backends.iter().map(move |backend| (it, backend)));
    let each = |read: fn(&BackendTraffic) -> f64| {
        let metric = |(service, it): (&TrafficStatus, &BackendTraffic)| {
            let labels = [("service", service.service.as_str()), ("backend", &it.id), ("region", &it.region)];
            sample(&labels, read(it))
        };
        all().map(metric).collect::<Vec<_>>().into_iter()
    };
    vec![
        gauge(
            "edgeproxy_backend_connections",
            "Connections open at the backend.",
            each(|it| f64::from(it.open)),
        ),
        counter(
            "edgeproxy_backend_connections_total",
            "Connections that reached the backend.",
            each(|it| it.connections as f64),
        ),
        counter(
            "edgeproxy_backend_failures_total",
            "Attempts that did not reach the backend, and resets before its first octet.",
            each(|it| it.failures as f64),
        ),
        gauge(
            "edgeproxy_backend_healthy",
            "1 while new connections may be given to it.",
            each(|it| f64::from(it.state == "up")),
        ),
        gauge(
            "edgeproxy_backend_ejected",
            "1 while its failures keep it out of the choice.",
            each(|it| f64::from(it.ejected_ms.is_some())),
        ),
        counter(
            "edgeproxy_backend_ejections_total",
            "Times that its failures took it out.",
            each(|it| f64::from(it.ejections)),
        ),
    ]
}

fn histogram<'a>(
    name: &str,
    help: &str,
    services: impl Iterator<Item = (&'a str, &'a HistogramStatus)>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(
        services
            .map(|(service, it)| {
                let mut all = 0;
                let buckets = it.bounds.iter().zip(&it.counts).map(|(bound, count)| {
                    all += count;
                    let mut bucket = Bucket::default();
                    bucket.set_upper_bound(*bound);
                    bucket.set_cumulative_count(all);
                    bucket
                });
                let buckets: Vec<_> = buckets.collect();
                let mut histogram = Histogram::default();
                histogram.set_bucket(buckets);
                histogram.set_sample_count(it.counts.iter().sum());
                histogram.set_sample_sum(it.sum);
                let mut metric = Metric::default();
                metric.set_label(sample(&[("service", service)], 0.0).0);
                metric.set_histogram(histogram);
                metric
            })
            .collect(),
    );
    family
}
