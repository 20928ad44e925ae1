//! Reads the `health` key of a service: how its backends are checked.

use std::time::Duration;

use crate::config::bgp::Family;
use crate::config::read::{Spot, shown, whole};
use crate::config::services::{Backend, Check, HttpProbe, Probe, StatusSet};

const INTERVAL: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(5);
const MOST_RANGES: usize = 64;

/// The check of a service that says nothing about it.
pub(super) fn default() -> Check {
    Check {
        probe: Probe::Tcp,
        interval: INTERVAL,
        fast_interval: fast(INTERVAL),
        timeout: Duration::from_millis(500),
        rise: 2,
        fall: 3,
        source: None,
        port: None,
        held_connection: true,
    }
}

/// `off`, or a check; `backends` are those checked, as far as they could be read.
pub(super) fn decode(spot: &Spot<'_>, backends: Option<&[Backend]>) -> Option<Check> {
    let default = default();
    if spot.is_off() {
        return Some(Check { probe: Probe::Off, held_connection: false, ..default });
    }
    let mut fields = spot.fields()?;
    let probe = match (fields.get("tcp"), fields.get("http")) {
        (Some(_), Some(http)) => {
            http.refuse("`tcp` and `http` exclude each other", "remove one of them");
            None
        }
        (None, Some(spot)) => http(&spot).map(Probe::Http),
        (Some(spot), None) => {
            spot.fields()?.close(&[]);
            None
        }
        (None, None) => None,
    };
    let range = SHORTEST..=Duration::from_secs(3600);
    let interval = fields.get("interval").and_then(|spot| spot.duration(range.clone())).unwrap_or(INTERVAL);
    let fast_interval = fields.get("fast_interval").and_then(|spot| {
        let fast = spot.duration(range)?;
        if fast > interval {
            let hint = format!("at most `interval`, which is {interval:?}");
            spot.refuse(format!("{fast:?} is slower than the interval it should speed up"), hint);
        }
        Some(fast)
    });
    let deadline = Duration::from_millis(1)..=Duration::from_secs(60);
    let timeout = fields.get("timeout").and_then(|spot| spot.duration(deadline));
    let rise = fields.get("rise").and_then(|spot| spot.number(1..=100));
    let fall = fields.get("fall").and_then(|spot| spot.number(1..=100));
    let source = fields.get("source").and_then(|spot| {
        let source = spot.address()?;
        let family = Family::of(source);
        let stranger = backends?.iter().find(|backend| Family::of(backend.address) != family);
        if source.is_unspecified() || source.is_multicast() {
            spot.refuse(format!("probes cannot start from {source}"), "an address of this machine");
        } else if let Some(backend) = stranger {
            let hint = "split the service by family, or leave `source` away";
            spot.refuse(
                format!("{source} cannot reach backend `{}` at {}", backend.id, backend.address),
                hint,
            );
        }
        Some(source)
    });
    let port = fields.get("port").and_then(|spot| spot.number(1..=65535));
    let held = fields.get("held_connection").and_then(|spot| spot.switch());
    fields.close(&["tls", "grpc", "script"]);
    Some(Check {
        probe: probe.unwrap_or(default.probe),
        interval,
        fast_interval: fast_interval.unwrap_or_else(|| fast(interval)),
        timeout: timeout.unwrap_or(default.timeout),
        rise: rise.unwrap_or(default.rise),
        fall: fall.unwrap_or(default.fall),
        source,
        port,
        held_connection: held.unwrap_or(default.held_connection),
    })
}

fn fast(interval: Duration) -> Duration {
    (interval / 10).max(SHORTEST).min(interval)
}

fn http(spot: &Spot<'_>) -> Option<HttpProbe> {
    let mut fields = spot.fields()?;
    let method = fields.get("method").and_then(|spot| method(&spot));
    let path = fields.get("path").and_then(|spot| path(&spot));
    let host = fields.get("host").and_then(|spot| host(&spot));
    let expect = fields.get("expect").and_then(|spot| statuses(&spot));
    let body = fields.get("body").and_then(|spot| body(&spot));
    fields.close(&[]);
    Some(HttpProbe {
        method: method.unwrap_or_else(|| "GET".to_owned()),
        path: path.unwrap_or_else(|| "/".to_owned()),
        host,
        expect: expect.unwrap_or_else(|| StatusSet(vec![(200, 299)])),
        body,
    })
}

fn method(spot: &Spot<'_>) -> Option<String> {
    let method = spot.line(16)?;
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        spot.refuse(format!("{} is no method", shown(method)), "capital letters: `GET`, `HEAD`");
        return None;
    }
    Some(method.to_owned())
}

/// RFC 9112 §3.2.1: what stands in the request line may hold no space.
fn path(spot: &Spot<'_>) -> Option<String> {
    let path = spot.line(2048)?;
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        spot.refuse(
            format!("{} is no path", shown(path)),
            "it starts with `/` and holds no space; others as %20",
        );
        return None;
    }
    Some(path.to_owned())
}

fn host(spot: &Spot<'_>) -> Option<String> {
    let host = spot.line(255)?;
    if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) || host.contains('/') {
        spot.refuse(
            format!("{} is no host", shown(host)),
            "a name, with a port if need be: `www.example.net`",
        );
        return None;
    }
    Some(host.to_owned())
}

fn body(spot: &Spot<'_>) -> Option<String> {
    let body = spot.text()?;
    if body.is_empty() || body.len() > 1024 {
        spot.refuse(
            "the text to find has 1 to 1024 octets",
            "write a short part of the body that only a healthy answer has",
        );
        return None;
    }
    Some(body.to_owned())
}

/// One set, or a list of sets, as sorted ranges that do not touch.
fn statuses(spot: &Spot<'_>) -> Option<StatusSet> {
    let mut ranges: Vec<(u16, u16)> = if spot.is_list() {
        spot.filled_list(MOST_RANGES)?.iter().filter_map(range).collect()
    } else {
        vec![range(spot)?]
    };
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    Some(StatusSet(merged))
}

/// `2xx`, `200` or `200-204`.
fn range(spot: &Spot<'_>) -> Option<(u16, u16)> {
    let text = spot.text()?;
    let status =
        |text: &str| whole(text).and_then(|it| u16::try_from(it).ok()).filter(|it| (100..=599).contains(it));
    let range = match (text.strip_suffix("xx"), text.split_once('-')) {
        (Some(class), _) => whole(class)
            .filter(|class| (1..=5).contains(class))
            .map(|class| (class as u16 * 100, class as u16 * 100 + 99)),
        (None, Some((first, last))) => status(first).zip(status(last)).filter(|(first, last)| first <= last),
        (None, None) => status(text).map(|status| (status, status)),
    };
    if range.is_none() {
        spot.refuse(
            format!("expected statuses, found {}", shown(text)),
            "`2xx`, `200`, `200-204`, or a list of these",
        );
    }
    range
}
