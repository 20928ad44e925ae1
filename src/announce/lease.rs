//! Decision rule 2: when a lease counts as expired, and what of that concerns one prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ledger::Plan;
use crate::config::Config;
use crate::config::anycast::Anycast;
use crate::config::listen::Protocol;
use crate::config::proxy::Lease;
use crate::supervise::lease::Reading;
use crate::supervise::lease::paths::{PathHealth, Paths};

/// A look that comes so much after it was due proves that this thread stood still, and others with it perhaps. Timers
/// are a millisecond late by nature, and a judgement of very many prefixes takes a few.
const LATE: Duration = Duration::from_millis(5);
/// After standing still, workers have so long to renew what ran out meanwhile: a part of the lease, within bounds.
const GRACE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));
/// So many times in a row; a thread that is late each time cannot tell what is wrong, and then silence counts.
const GRACES: u32 = 3;
/// A worker that has never served is waited for this long. Threads start in milliseconds.
const FIRST_RENEWAL: Duration = Duration::from_secs(5);
/// Silence about a path counts after as many probes as would have proven a failure, and these.
const PROBES_SPARED: u32 = 2;

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listens {
    pub addresses: BTreeSet<IpAddr>,
    /// Those of them at which it can be probed: a datagram has no answer that holds for every service.
    pub probed: BTreeSet<IpAddr>,
}

/// The services that the proxy serves, and where.
#[must_use]
pub fn listens_of(config: &Config) -> BTreeMap<String, Listens> {
    let serving = config.services.iter().filter(|(_, service)| !service.listen.is_empty());
    let listens = serving.map(|(name, service)| {
        let tcp = service.listen.iter().filter(|listen| listen.protocol == Protocol::Tcp);
        let listens = Listens {
            addresses: service.listen.iter().map(|listen| listen.address).collect(),
            probed: tcp.map(|listen| listen.address).collect(),
        };
        (name.clone(), listens)
    });
    listens.collect()
}

/// What the data path proves about one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseFact {
    /// The proxy serves nothing at its addresses.
    NotNeeded,
    /// Not served yet, since the start or since it is configured; what was decided before stays.
    Unproven { what: String },
    /// Served within the lease.
    Valid,
    /// A worker did not serve in time, or clients of a service do not come through; which, in words.
    Expired { what: String },
}

impl LeaseFact {
    /// The stable name; None where nothing is asked for.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::NotNeeded => None,
            Self::Unproven { .. } => Some("unproven"),
            Self::Valid => Some("valid"),
            Self::Expired { .. } => Some("expired"),
        }
    }

    /// What is wrong, in words.
    #[must_use]
    pub fn what(&self) -> Option<&str> {
        match self {
            Self::NotNeeded | Self::Valid => None,
            Self::Unproven { what } | Self::Expired { what } => Some(what),
        }
    }
}

/// All workers as one: each of them takes a part of the clients of every listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// One has not served yet.
    Unproven {
        worker: usize,
    },
    Valid,
    /// One has served nothing for `age` when that was found out: the whole of the `lease`.
    Expired {
        worker: usize,
        age: Duration,
        lease: Duration,
    },
    /// One has never served, for as long as any is waited for.
    Missing {
        worker: usize,
    },
}

/// What the decision knows of the data path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPath {
    pub workers: Workers,
    /// None: whoever found that out has ended.
    pub paths: Option<Arc<Paths>>,
}

impl DataPath {
    /// Of one prefix.
    #[must_use]
    pub fn lease_of(&self, anycast: &Anycast, plan: &Plan, now: Instant) -> LeaseFact {
        let mut needed = listening(anycast, plan).peekable();
        if needed.peek().is_none() {
            return LeaseFact::NotNeeded;
        }
        let mut unproven = None;
        match self.workers {
            Workers::Expired { worker, age, lease } => {
                let (age, lease) = (age.as_millis(), lease.as_millis());
                let what = format!("worker {worker} has served nothing for {age} ms (lease {lease} ms)");
                return LeaseFact::Expired { what };
            }
            Workers::Missing { worker } => {
                let what = format!("worker {worker} has served nothing in its first {FIRST_RENEWAL:?}");
                return LeaseFact::Expired { what };
            }
            Workers::Unproven { worker } => {
                unproven = Some(format!("worker {worker} has served nothing yet"));
            }
            Workers::Valid => {}
        }
        let Some(paths) = &self.paths else {
            return LeaseFact::Expired { what: "the self-probes are gone".to_owned() };
        };
        let probed = needed.filter(|(_, is_probed)| *is_probed && paths.probing);
        for (service, _) in probed {
            match paths.by_service.get(service) {
                Some(PathHealth::Failing { failures, error, listener, .. }) => {
                    let what = format!("{listener} does not serve: {error} ({failures} in a row)");
                    return LeaseFact::Expired { what };
                }
                Some(PathHealth::Serving { last }) if silent_from(*last, &plan.lease) <= now => {
                    let silence = silent_from(*last, &plan.lease) - *last;
                    let what = format!("no self-probe of {service} has come through for {silence:?}");
                    return LeaseFact::Expired { what };
                }
                Some(PathHealth::Serving { .. }) => {}
                Some(PathHealth::Unproven) | None => {
                    unproven = unproven.or_else(|| Some(format!("no self-probe of {service} has ended yet")));
                }
            }
        }
        unproven.map_or(LeaseFact::Valid, |what| LeaseFact::Unproven { what })
    }

    /// When silence of the self-probes alone changes something next.
    #[must_use]
    pub fn next_deadline(&self, plan: &Plan, now: Instant) -> Option<Instant> {
        let paths = self.paths.as_deref().filter(|paths| paths.probing)?;
        let serving = plan.listens.keys().filter_map(|service| match paths.by_service.get(service)? {
            PathHealth::Serving { last } => Some(silent_from(*last, &plan.lease)),
            _ => None,
        });
        serving.filter(|at| *at > now).min()
    }
}

/// Whether any prefix of the plan asks for a lease.
#[must_use]
pub fn is_needed(plan: &Plan) -> bool {
    !plan.listens.is_empty() && plan.anycast.values().any(|anycast| listening(anycast, plan).next().is_some())
}

/// Services of a prefix that the proxy serves at its addresses, and whether they can be probed there.
fn listening<'a>(anycast: &'a Anycast, plan: &'a Plan) -> impl Iterator<Item = (&'a str, bool)> {
    anycast.services.iter().filter_map(|name| {
        let listens = plan.listens.get(name)?;
        let at = |places: &BTreeSet<IpAddr>| anycast.addresses.iter().any(|address| places.contains(address));
        at(&listens.addresses).then(|| (name.as_str(), at(&listens.probed)))
    })
}

/// What came through is believed until so many probes must have ended since, at their slowest.
fn silent_from(last: Instant, bounds: &Lease) -> Instant {
    last + (bounds.probe_interval + bounds.probe_timeout) * bounds.probe_fall.saturating_add(PROBES_SPARED)
}

/// Tells from what the workers renewed when a lease has expired, and when to look again.
///
/// It looks when the oldest lease would expire, and not before: about once in a lease while all is well. If that look
/// itself comes late, this thread stood still, and whoever renews may have stood still with it: then the renewals are
/// read once more a little later, before silence counts.
#[derive(Debug)]
pub struct Alarm {
    workers: Workers,
    /// When to look; None while nobody needs a lease.
    due: Option<Instant>,
    graces: u32,
    /// Since when a worker has never served.
    never_since: Option<Instant>,
}

impl Default for Alarm {
    fn default() -> Self {
        Self { workers: Workers::Unproven { worker: 0 }, due: None, graces: 0, never_since: None }
    }
}

impl Alarm {
    /// What the leases are worth, as of the last look.
    #[must_use]
    pub fn workers(&self) -> Workers {
        self.workers
    }

    /// When to look again.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Nobody needs a lease.
    pub fn handle_rest(&mut self) {
        *self = Self::default();
    }

    /// Looks at the board, as read just now, with the lease in effect.
    pub fn handle_look(&mut self, reading: Reading, lease: Duration, now: Instant) {
        match reading.oldest.filter(|(_, age)| *age >= lease) {
            Some((worker, age)) => self.handle_silence(worker, age, lease, now),
            None => self.handle_renewed(reading, lease, now),
        }
    }

    fn handle_silence(&mut self, worker: usize, age: Duration, lease: Duration, now: Instant) {
        self.never_since = None;
        if !matches!(self.workers, Workers::Expired { .. }) {
            match self.due {
                // Whatever lies behind was nobody's to see.
                None => {
                    self.due = Some(now + lease);
                    return;
                }
                // The lease is shorter than it was when it was looked at last, or a grace goes on.
                Some(due) if now < due => return,
                Some(due) if now > due + LATE && self.graces < GRACES => {
                    self.graces += 1;
                    self.due = Some(now + (lease / 4).clamp(GRACE.0, GRACE.1));
                    return;
                }
                Some(_) => {}
            }
        }
        self.graces = 0;
        self.due = Some(now + lease);
        // What is known does not become worse as time passes, or its words would change.
        if !matches!(self.workers, Workers::Expired { worker: known, .. } if known == worker) {
            self.workers = Workers::Expired { worker, age, lease };
        }
    }

    fn handle_renewed(&mut self, reading: Reading, lease: Duration, now: Instant) {
        self.graces = 0;
        self.due = Some(reading.oldest.map_or(now + lease, |(_, age)| now + (lease - age)));
        let Some(worker) = reading.never else {
            self.never_since = None;
            self.workers = Workers::Valid;
            return;
        };
        let since = *self.never_since.get_or_insert(now);
        let is_missing = now.saturating_duration_since(since) >= FIRST_RENEWAL;
        self.workers = if is_missing { Workers::Missing { worker } } else { Workers::Unproven { worker } };
    }
}

#[cfg(test)]
mod tests;
