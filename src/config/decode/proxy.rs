//! Reads the `proxy` section.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::certificate::Files;
use crate::config::proxy::{AccessLog, Lease, Proxy};
use crate::config::read::Spot;
use crate::config::secret;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn decode(spot: &Spot<'_>, files: &Files<'_>) -> Option<Proxy> {
    let default = Proxy::default();
    let mut fields = spot.fields()?;
    let workers = fields.get("workers").and_then(|spot| spot.number(1..=256));
    let lease = fields.get("lease").and_then(|spot| lease(&spot));
    let connections = fields.get("connections").and_then(|spot| spot.number(1..=4_000_000));
    let handshakes = fields.get("handshakes").and_then(|spot| spot.number(1..=100_000));
    let memory = fields.get("memory").and_then(|spot| spot.size(16 << 20..=1 << 40));
    let drain = fields.get("drain").and_then(|spot| spot.duration(Duration::ZERO..=HOUR));
    let access_log = fields.get("access_log").and_then(|spot| access_log(&spot));
    let geo = fields.get("geo").and_then(|spot| geo(&spot, files));
    let week = MINUTE..=HOUR * 24 * 7;
    let ticket_rotation = fields.get("ticket_rotation").and_then(|spot| spot.duration(week));
    fields.close(&[]);
    Some(Proxy {
        workers,
        lease: lease.unwrap_or(default.lease),
        connections: connections.unwrap_or(default.connections),
        handshakes: handshakes.unwrap_or(default.handshakes),
        memory: memory.unwrap_or(default.memory),
        drain: drain.unwrap_or(default.drain),
        access_log: access_log.unwrap_or(default.access_log),
        geo,
        ticket_rotation: ticket_rotation.unwrap_or(default.ticket_rotation),
    })
}

fn lease(spot: &Spot<'_>) -> Option<Lease> {
    let default = Lease::default();
    let mut fields = spot.fields()?;
    let time = fields.get("time").and_then(|spot| spot.duration(Duration::from_millis(20)..=MINUTE));
    let every = Duration::from_millis(100)..=MINUTE;
    let probe_interval = fields.get("probe_interval").and_then(|spot| spot.duration(every));
    let deadline = Duration::from_millis(10)..=Duration::from_secs(10);
    let probe_timeout = fields.get("probe_timeout").and_then(|spot| spot.duration(deadline));
    let probe_fall = fields.get("probe_fall").and_then(|spot| spot.number(1..=100));
    fields.close(&[]);
    Some(Lease {
        time: time.unwrap_or(default.time),
        probe_interval: probe_interval.unwrap_or(default.probe_interval),
        probe_timeout: probe_timeout.unwrap_or(default.probe_timeout),
        probe_fall: probe_fall.unwrap_or(default.probe_fall),
    })
}

fn access_log(spot: &Spot<'_>) -> Option<AccessLog> {
    let default = AccessLog::default();
    let mut fields = spot.fields()?;
    let every = fields.get("every").and_then(|spot| spot.number(0..=u64::from(u32::MAX)));
    let rate = fields.get("rate").and_then(|spot| spot.number(0..=100_000));
    fields.close(&[]);
    Some(AccessLog { every: every.unwrap_or(default.every), rate: rate.unwrap_or(default.rate) })
}

/// The database itself is read by those who ask it.
fn geo(spot: &Spot<'_>, files: &Files<'_>) -> Option<PathBuf> {
    let path = files.path(spot.line(4096)?);
    if let Err(refusal) = secret::is_there(&path) {
        spot.refuse(refusal.message, refusal.hint);
        return None;
    }
    Some(path)
}
