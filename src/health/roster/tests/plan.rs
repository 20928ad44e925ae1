//! A plan to test with.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::millis;
use crate::config::health::Health;
use crate::config::services::{self, Backend, Level, Probe, Service, Watermark};
use crate::health::HealthPlan;

fn every_second() -> services::Check {
    services::Check {
        probe: Probe::Tcp,
        interval: millis(1000),
        fast_interval: millis(100),
        timeout: millis(500),
        rise: 2,
        fall: 3,
        source: None,
        port: None,
        held_connection: true,
    }
}

/// A plan of one service `web` with backends `b0`, `b1`, … of weight 1.
pub(super) fn plan(backends: u16, max_concurrent: usize, change: impl FnOnce(&mut Service)) -> HealthPlan {
    let backend = |number| Backend {
        id: format!("b{number}"),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 1000 + number,
        pop: None,
        via_ingress: false,
        region: "sa".into(),
        weight: 1,
        soft_limit: 100,
        hard_limit: 150,
        country: None,
        drain: false,
    };
    let mut service = Service {
        name: "web".into(),
        watermark: Watermark { low: Level::Weight(0), high: Level::Weight(1), degrade: None },
        backends: (0..backends).map(backend).collect(),
        from_fleet: false,
        check: every_second(),
        listen: Vec::new(),
        forwarding: services::Forwarding::default(),
    };
    change(&mut service);
    let limits = Health { max_concurrent, max_age: Duration::from_secs(3) };
    HealthPlan { limits, services: BTreeMap::from([("web".into(), service)]) }
}
