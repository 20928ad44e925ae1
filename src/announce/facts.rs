//! What is known about one prefix at one moment, each fact with its age.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::addresses::{Bound, Place};
use super::drain::{Ladder, Left, Step};
use super::fleet::{FleetFact, Hold};
use super::lease::LeaseFact;
use crate::config::anycast::{Anycast, Intent};
use crate::config::services::Watermark;
use crate::health::{HealthView, Position, ServiceHealth};
use crate::observe::journal::CauseId;
use crate::observe::status::AddressStatus;

/// Whether the anycast addresses of a prefix are on their device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    Bound,
    /// The configuration has just named it; what was decided before stays.
    Untried {
        address: IpAddr,
    },
    /// Announcing would draw traffic to an address that answers nothing.
    Missing {
        address: IpAddr,
        error: String,
    },
}

/// What the operator wants of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leaving {
    #[default]
    No,
    /// A planned stop: still announced, but asking neighbors to look elsewhere (RFC 8326).
    Graceful,
    /// A planned stop: withdrawn.
    Gone,
}

/// An operator drains the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainFact {
    pub step: Step,
    /// What ended the first step; meaningful after it.
    pub left: Left,
    /// The operator's words; may be empty.
    pub words: String,
    /// Why it is not withdrawn, although it might be.
    pub waits: Option<Hold>,
    pub cause: CauseId,
}

impl DrainFact {
    /// How far a ladder has come.
    #[must_use]
    pub fn of(ladder: &Ladder) -> Self {
        let order = ladder.order();
        Self {
            step: ladder.step(),
            left: ladder.left(),
            words: order.reason.clone(),
            waits: ladder.waits().cloned(),
            cause: order.cause,
        }
    }
}

/// What health says about a prefix.
#[derive(Debug, Clone)]
pub enum HealthFact {
    /// The prober has not spoken yet, of some service at least, and nothing else is proven down.
    Unknown,
    /// It has not spoken for longer than its words may be believed.
    Stale { age: Duration, max_age: Duration },
    /// Per service of the prefix that the prober knows, in the order of the configuration.
    Known(Vec<ServiceFact>),
}

/// One service of the prefix.
#[derive(Debug, Clone)]
pub struct ServiceFact {
    pub name: String,
    pub watermark: Watermark,
    pub health: ServiceHealth,
}

impl ServiceFact {
    /// Whether it is proven to be at or under its low watermark.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.health.position == Position::Low && self.health.proven
    }
}

/// Everything that is known about one prefix.
#[derive(Debug, Clone)]
pub struct Facts {
    pub intent: Intent,
    pub leaving: Leaving,
    pub lease: LeaseFact,
    pub drain: Option<DrainFact>,
    pub binding: Binding,
    pub health: HealthFact,
    /// None without a fleet.
    pub fleet: Option<FleetFact>,
}

/// Every address of a prefix with its device.
pub fn places(anycast: &Anycast) -> impl Iterator<Item = Place> {
    anycast.addresses.iter().map(|address| (*address, anycast.device.clone()))
}

/// Whether all addresses of a prefix are there.
#[must_use]
pub fn binding_of(anycast: &Anycast, bound: &Bound) -> Binding {
    let mut untried = None;
    for place in places(anycast) {
        let address = place.0;
        match bound.get(&place) {
            Some(AddressStatus { error: Some(error), .. }) => {
                return Binding::Missing { address, error: error.clone() };
            }
            Some(_) => {}
            None => untried = untried.or(Some(address)),
        }
    }
    untried.map_or(Binding::Bound, |address| Binding::Untried { address })
}

/// Gathers what health says about one prefix.
#[must_use]
pub fn health_of(
    anycast: &Anycast,
    watermarks: &BTreeMap<String, Watermark>,
    view: &HealthView,
    max_age: Duration,
    now: Instant,
) -> HealthFact {
    let age = now.saturating_duration_since(view.as_of);
    if age > max_age {
        return HealthFact::Stale { age, max_age };
    }
    let mut services = Vec::with_capacity(anycast.services.len());
    for name in &anycast.services {
        // Right after a reload the prober may not know a new service yet: not proven, not healthy.
        let Some(health) = view.services.get(name) else { continue };
        let watermark = watermarks.get(name).copied().unwrap_or_default();
        services.push(ServiceFact { name: name.clone(), watermark, health: health.clone() });
    }
    // One that is proven down is enough, whatever will be found out about the others.
    if services.len() == anycast.services.len() || services.iter().any(ServiceFact::is_down) {
        HealthFact::Known(services)
    } else {
        HealthFact::Unknown
    }
}
