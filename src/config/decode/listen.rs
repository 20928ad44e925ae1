//! Reads what a service listens on.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::config::certificate::Files;
use crate::config::listen::{Limits, Listen, Protocol, Security, ServerName, SocketOptions};
use crate::config::read::{Fields, Spot, Unique, shown, whole};
use crate::config::services::Backend;

mod tls;

pub(super) use tls::file;
mod together;

pub(super) use together::together;

const MOST_PORTS: u16 = 1_024;
const MOST_SOURCES: usize = 256;
const MOST_NAMES: usize = 256;
const PORT: u16 = 8080;
const TLS_PORT: u16 = 8443;
const UDP_FLOWS: u32 = 65_536;
/// Connections at once.
const MOST_AT_ONCE: u64 = 4_000_000;
/// How many of its /64 may use all of their bound at once, unless the configuration says otherwise.
const NETS_OF_SITE: u32 = 8;
const PROTOCOLS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];

/// A listener and where in the file it stands.
pub(super) struct Placed<'a> {
    spot: Spot<'a>,
    address_at: Spot<'a>,
    /// Where its names are written, or else what they come from.
    names_at: Option<Spot<'a>>,
    listen: Listen,
}

impl Placed<'_> {
    pub(super) fn listen(&self) -> &Listen {
        &self.listen
    }
}

/// `backends` are those of the service, as far as they could be read.
pub(super) fn decode<'a>(
    spot: &Spot<'a>,
    backends: Option<&[Backend]>,
    files: &Files<'_>,
) -> Option<Placed<'a>> {
    let mut fields = spot.fields()?;
    let address_at = fields.need("address");
    let address = address_at.as_ref().and_then(Spot::address);
    let ports_at = [fields.get("port"), fields.get("ports")];
    let ports = ports(&ports_at);
    let protocol = fields.get("protocol").and_then(|spot| spot.choice(&PROTOCOLS)).unwrap_or_default();
    let udp = protocol == Protocol::Udp;
    let (tls_at, passthrough_at) = (fields.get("tls"), fields.get("passthrough"));
    let proxy_from_at = fields.get("proxy_from");
    let proxy_from = proxy_from_at.as_ref().and_then(sources).unwrap_or_default();
    let limits = fields.get("limits").map_or(Some(Limits::default()), |spot| limits(&spot));
    let mut limits = limits.unwrap_or_default();
    if udp && limits.connections == 0 {
        limits.connections = UDP_FLOWS;
    }
    let socket = socket(&mut fields, udp);
    fields.close(&[]);

    if udp {
        for (at, key) in [(&tls_at, "tls"), (&passthrough_at, "passthrough"), (&proxy_from_at, "proxy_from")]
        {
            not_udp(at.as_ref(), key);
        }
    }
    if let (Some(_), Some(spot)) = (&tls_at, &passthrough_at) {
        spot.refuse(
            "`tls` and `passthrough` exclude each other",
            "remove one of them: TLS ends here or at the backend",
        );
    }
    let (security, names_at) = match (tls_at, passthrough_at) {
        (Some(spot), _) => {
            let (tls, names_at) = tls::decode(&spot, files)?;
            (Security::Terminate(tls.into()), Some(names_at))
        }
        (None, Some(spot)) => (Security::Passthrough { names: names(&spot)? }, Some(spot)),
        (None, None) => (Security::Plain, None),
    };
    let default = if security == Security::Plain { PORT } else { TLS_PORT };
    let (address, address_at) = (address?, address_at?);
    let ports = match ports_at {
        [None, None] => default..=default,
        _ => ports?,
    };
    if address.is_multicast() || (udp && address.is_unspecified()) {
        let hint = if udp {
            "one address: answers leave from the one that was asked"
        } else {
            "an address of this machine"
        };
        address_at.refuse(format!("clients cannot be taken in at {address}"), hint);
    }
    let own =
        backends.unwrap_or_default().iter().find(|it| it.address == address && ports.contains(&it.port));
    if let Some(backend) = own {
        spot.refuse(
            format!("backend `{}` is this very listener: connections would go round for ever", backend.id),
            "another address or port for one of them",
        );
    }
    let mut behind = backends.unwrap_or_default().iter().filter(|it| udp && it.via_ingress);
    if let Some(backend) = behind.next() {
        let pop = backend.pop.as_deref().unwrap_or_default();
        spot.refuse(
            format!("backend `{}` is behind the ingress of `{pop}`, which carries TCP only", backend.id),
            "write the backend's own `address` inside the backhaul, and its `port`",
        );
    }
    let listen = Listen { address, ports, protocol, security, proxy_from, limits, socket };
    Some(Placed { spot: spot.clone(), address_at, names_at, listen })
}

/// `port: 443`, or `ports: 8000-8010`.
fn ports([port, ports]: &[Option<Spot<'_>>; 2]) -> Option<RangeInclusive<u16>> {
    if let (Some(_), Some(spot)) = (port, ports) {
        spot.refuse("`port` and `ports` exclude each other", "remove one of them");
        return None;
    }
    if let Some(spot) = port {
        return spot.number(1..=65_535).map(|port| port..=port);
    }
    let spot = ports.as_ref()?;
    let text = spot.text()?;
    let number = |text| whole(text).and_then(|it| u16::try_from(it).ok()).filter(|&it| it > 0);
    let range = text.split_once('-').and_then(|(first, last)| Some((number(first)?, number(last)?)));
    let Some((first, last)) = range.filter(|(first, last)| first <= last) else {
        spot.refuse(
            format!("expected a range of ports, found {}", shown(text)),
            "`8000-8010`, or `port: 8000`",
        );
        return None;
    };
    if last - first >= MOST_PORTS {
        let many = u32::from(last - first) + 1;
        spot.refuse(
            format!("{many} ports, but at most {MOST_PORTS} are taken"),
            "split the range, or shorten it",
        );
        return None;
    }
    Some(first..=last)
}

/// Networks whose PROXY headers are believed.
fn sources(spot: &Spot<'_>) -> Option<Vec<IpNetwork>> {
    let mut unique = Unique::default();
    let mut sources = Vec::new();
    for spot in spot.filled_list(MOST_SOURCES)? {
        let Some(text) = spot.text() else { continue };
        let Ok(network) = text.parse::<IpNetwork>() else {
            spot.refuse(format!("expected a network, found {}", shown(text)), "`10.0.0.0/8`, or one address");
            continue;
        };
        let (first, length) = (network.network(), network.prefix());
        if length == 0 {
            spot.refuse(
                format!("{text} is everybody: any client could write its own address"),
                "the networks of the proxies in front of this one",
            );
        } else if first != network.ip() {
            spot.refuse(format!("{text} has bits beyond its length"), format!("write `{first}/{length}`"));
        } else if unique.claim(&spot, &network.to_string()) {
            sources.push(network);
        }
    }
    Some(sources)
}

/// Server names; an empty list stands for whatever nobody else claims.
fn names(spot: &Spot<'_>) -> Option<Vec<ServerName>> {
    let mut unique = Unique::default();
    let mut names = Vec::new();
    for spot in spot.list(MOST_NAMES)? {
        let Some(text) = spot.text() else { continue };
        let Some(name) = ServerName::read(text) else {
            let hint = match text {
                _ if text.parse::<IpAddr>().is_ok() => {
                    "clients never ask for an address by name (RFC 6066 §3)"
                }
                _ if text.ends_with('.') => "without the dot at the end",
                _ if text.contains('*') => "`*.example.net`: the wildcard is the whole first label",
                _ => "a DNS name such as `www.example.net`, or a wildcard such as `\"*.example.net\"`",
            };
            spot.refuse(format!("{} is no server name", shown(text)), hint);
            continue;
        };
        if unique.claim(&spot, &name.0) {
            names.push(name);
        }
    }
    Some(names)
}

fn limits(spot: &Spot<'_>) -> Option<Limits> {
    let mut fields = spot.fields()?;
    let connections = fields.get("connections").and_then(|spot| spot.number(0..=MOST_AT_ONCE)).unwrap_or(0);
    let per_source: u32 =
        fields.get("per_source").and_then(|spot| spot.number(0..=MOST_AT_ONCE)).unwrap_or(0);
    let site_at = fields.get("per_site");
    let site = site_at.as_ref().and_then(|spot| spot.number(0..=MOST_AT_ONCE));
    let rate = fields.get("rate").map_or(Some(0), |spot| spot.number(0..=1_000_000));
    let burst_at = fields.get("burst");
    let burst = burst_at.as_ref().and_then(|spot| spot.number(0..=1_000_000)).unwrap_or(0);
    fields.close(&[]);
    if let Some(spot) = burst_at.filter(|_| burst > 0 && rate == Some(0)) {
        spot.refuse("`burst` without `rate` bounds nothing", "add `rate`, or remove `burst`");
    }
    if let (Some(spot), Some(site)) = (&site_at, site)
        && (1..per_source).contains(&site)
    {
        spot.refuse(
            format!("a /48 may have {site}, and each /64 in it {per_source} (`per_source`)"),
            "`per_source` or more; 0 is no bound",
        );
    }
    let per_site = site.unwrap_or(per_source.saturating_mul(NETS_OF_SITE).min(MOST_AT_ONCE as u32));
    let rate = rate.unwrap_or(0);
    let burst = if burst == 0 { rate } else { burst };
    Some(Limits { connections, per_source, per_site, rate, burst })
}

/// The options of the socket, which are those of TCP.
fn socket(fields: &mut Fields<'_>, udp: bool) -> SocketOptions {
    let default = SocketOptions::default();
    let mut get = |key| {
        fields.get(key).inspect(|spot| {
            if udp {
                not_udp(Some(spot), key);
            }
        })
    };
    let defer_accept = get("defer_accept").and_then(|spot| spot.switch());
    let fast_open = get("fast_open").and_then(|spot| spot.number(0..=65_535));
    let keepalive = get("keepalive").and_then(|spot| keepalive(&spot));
    let patience = Duration::from_millis(100)..=Duration::from_secs(3_600);
    let user_timeout = get("user_timeout").and_then(|spot| spot.duration_or_off(patience));
    let backlog = get("backlog").and_then(|spot| spot.number(1..=65_535));
    SocketOptions {
        defer_accept: defer_accept.unwrap_or(default.defer_accept),
        fast_open: fast_open.unwrap_or(default.fast_open),
        keepalive: keepalive.unwrap_or(default.keepalive),
        user_timeout: user_timeout.unwrap_or(default.user_timeout),
        backlog: backlog.unwrap_or(default.backlog),
    }
}

/// tcp(7): TCP_KEEPIDLE counts in seconds.
fn keepalive(spot: &Spot<'_>) -> Option<Duration> {
    let idle = spot.duration_or_off(Duration::from_secs(1)..=Duration::from_secs(7_200))?;
    if idle.subsec_nanos() > 0 {
        spot.refuse(format!("{idle:?} is not counted in whole seconds"), "`60s`, or `off`");
        return None;
    }
    Some(idle)
}

fn not_udp(spot: Option<&Spot<'_>>, key: &str) {
    if let Some(spot) = spot {
        spot.refuse(format!("`{key}` means nothing to UDP"), "remove it, or `protocol: tcp`");
    }
}
