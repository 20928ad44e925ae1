//! The snapshot that workers choose from; a new one takes its place whenever the configuration or a verdict changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::backend::{Backend, Known, Verdict};
use super::geo::Geo;
use super::live::Live;
use super::service::Service;
use crate::config::services::{self, Probe};

/// Verdicts of all backends, by service and id. Who is missing is unproven.
pub type Verdicts = BTreeMap<Arc<str>, BTreeMap<Arc<str>, Known>>;

/// Everything that a choice is made from.
#[derive(Debug, Default)]
pub struct View {
    /// This POP's region.
    pub region: Arc<str>,
    pub services: BTreeMap<Arc<str>, Arc<Service>>,
    pub geo: Option<Arc<Geo>>,
}

/// The part of a configuration that a view is made from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    pub region: String,
    pub services: BTreeMap<String, services::Service>,
    /// POPs that nobody of the fleet reaches: their backends are as far as can be.
    pub unreached: BTreeSet<Arc<str>>,
    /// Where clients are; read anew with each configuration.
    pub geo: Option<Arc<Geo>>,
}

impl PartialEq for Sources {
    fn eq(&self, other: &Self) -> bool {
        let same_geo = match (&self.geo, &other.geo) {
            (None, None) => true,
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            _ => false,
        };
        same_geo
            && self.region == other.region
            && self.services == other.services
            && self.unreached == other.unreached
    }
}

/// Keeps over configurations what outlives them: the counts of backends, and services in which nothing changed.
#[derive(Debug, Default)]
pub struct Registry {
    lives: BTreeMap<(Arc<str>, Arc<str>, SocketAddr), Arc<Live>>,
    services: BTreeMap<Arc<str>, Arc<Service>>,
}

impl Registry {
    /// The view of a configuration and of what health knows. Whoever holds an older view keeps what is in it; the
    /// counts of a backend are the same in both as long as it keeps service, id, address and port.
    pub fn build(&mut self, sources: &Sources, verdicts: &Verdicts, geo: Option<Arc<Geo>>) -> View {
        let lives = std::mem::take(&mut self.lives);
        let before = std::mem::take(&mut self.services);
        for (name, config) in &sources.services {
            let name: Arc<str> = name.as_str().into();
            let known = verdicts.get(&name);
            let distances = Distances::new(sources, config, known);
            let mut backends = Vec::with_capacity(config.backends.len());
            for backend in &config.backends {
                let id: Arc<str> = backend.id.as_str().into();
                let address = SocketAddr::new(backend.address, backend.port);
                let key = (Arc::clone(&name), Arc::clone(&id), address);
                let live = lives.get(&key).map(Arc::clone).unwrap_or_default();
                self.lives.insert(key, Arc::clone(&live));
                backends.push(Backend {
                    known: match config.check.probe {
                        // Nobody asks, and nobody's word is waited for.
                        Probe::Off => Known { verdict: Verdict::Up, since: None, rtt: None },
                        _ => known.and_then(|known| known.get(&id)).copied().unwrap_or_default(),
                    },
                    far: distances.far_to(backend, known.and_then(|known| known.get(&id))),
                    id,
                    address,
                    region: backend.region.as_str().into(),
                    country: backend.country.as_ref().and_then(|code| code.as_bytes().try_into().ok()),
                    weight: backend.weight,
                    soft_limit: backend.soft_limit,
                    hard_limit: backend.hard_limit,
                    drain: backend.drain,
                    pop: backend.pop.as_deref().map(Arc::from),
                    via_ingress: backend.via_ingress,
                    live,
                });
            }
            let service = Service { name: Arc::clone(&name), forwarding: config.forwarding, backends };
            let kept = before.get(&name).filter(|before| is_unchanged(before, &service)).map(Arc::clone);
            self.services.insert(name, kept.unwrap_or_else(|| Arc::new(service)));
        }
        View { region: sources.region.as_str().into(), services: self.services.clone(), geo }
    }
}

/// Whether the choice would be the same with either. A round trip that moved without moving `far` is no change: it
/// moves with every probe.
fn is_unchanged(before: &Service, after: &Service) -> bool {
    // Names every field, so that a new one is not forgotten.
    let same = |(a, b): (&Backend, &Backend)| {
        let Backend {
            id,
            address,
            region,
            far,
            country,
            weight,
            soft_limit,
            hard_limit,
            drain,
            known,
            pop,
            via_ingress,
            live,
        } = a;
        let Known { verdict, since, rtt: _ } = known;
        (id, address, region, far, country) == (&b.id, &b.address, &b.region, &b.far, &b.country)
            && (weight, soft_limit, hard_limit, drain) == (&b.weight, &b.soft_limit, &b.hard_limit, &b.drain)
            && (pop, via_ingress) == (&b.pop, &b.via_ingress)
            && (verdict, since) == (&b.known.verdict, &b.known.since)
            && Arc::ptr_eq(live, &b.live)
    };
    let Service { name, forwarding, backends } = before;
    *name == after.name
        && *forwarding == after.forwarding
        && backends.len() == after.backends.len()
        && backends.iter().zip(&after.backends).all(same)
}

/// The shortest round trips to the regions of one service.
struct Distances<'a> {
    own: &'a str,
    unreached: &'a BTreeSet<Arc<str>>,
    /// Without this POP's own.
    regions: BTreeMap<&'a str, Duration>,
}

impl<'a> Distances<'a> {
    /// One tenth of a step for so much.
    const TENTH: Duration = Duration::from_millis(20);
    const FARTHEST: u8 = 9;

    fn new(
        sources: &'a Sources,
        config: &'a services::Service,
        known: Option<&BTreeMap<Arc<str>, Known>>,
    ) -> Self {
        let own = sources.region.as_str();
        let mut regions = BTreeMap::new();
        for backend in config.backends.iter().filter(|backend| backend.region != own) {
            let rtt = known.and_then(|known| known.get(backend.id.as_str())).and_then(|known| known.rtt);
            if let Some(rtt) = rtt {
                let shortest = regions.entry(backend.region.as_str()).or_insert(rtt);
                *shortest = rtt.min(*shortest);
            }
        }
        Self { own, unreached: &sources.unreached, regions }
    }

    /// A backend at another POP is farther than any that is here, by what the way there takes: it carries clients when
    /// those here cannot.
    fn far_to(&self, backend: &services::Backend, known: Option<&Known>) -> u8 {
        let far = self.far(&backend.region);
        let Some(pop) = backend.pop.as_deref() else { return far };
        if self.unreached.contains(pop) {
            return Self::FARTHEST;
        }
        let way = known.and_then(|known| known.rtt).unwrap_or_default();
        let tenths = (way.as_millis() / Self::TENTH.as_millis()).min(Self::FARTHEST.into()) as u8;
        far.max(1 + tenths).min(Self::FARTHEST)
    }

    fn far(&self, region: &str) -> u8 {
        if region == self.own || self.regions.is_empty() {
            return 0;
        }
        let tenths = |rtt: &Duration| (rtt.as_millis() / Self::TENTH.as_millis()).min(Self::FARTHEST.into());
        self.regions.get(region).map_or(Self::FARTHEST, |rtt| tenths(rtt) as u8)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::config::services::{Check, Forwarding, Watermark};

    fn backend(id: &str, last: u8, region: &str) -> services::Backend {
        services::Backend {
            id: id.into(),
            address: [10, 0, 0, last].into(),
            port: 8080,
            pop: None,
            via_ingress: false,
            region: region.into(),
            weight: 2,
            soft_limit: 100,
            hard_limit: 150,
            country: Some("br".into()),
            drain: false,
        }
    }

    fn sources(services: &[(&str, Vec<services::Backend>)]) -> Sources {
        let check = Check {
            probe: Probe::Tcp,
            interval: Duration::from_secs(1),
            fast_interval: Duration::from_millis(100),
            timeout: Duration::from_millis(500),
            rise: 2,
            fall: 3,
            source: None,
            port: None,
            held_connection: true,
        };
        let service = |(name, backends): &(&str, Vec<services::Backend>)| services::Service {
            name: (*name).into(),
            watermark: Watermark::default(),
            backends: backends.clone(),
            from_fleet: false,
            check: check.clone(),
            listen: Vec::new(),
            forwarding: Forwarding::default(),
        };
        let services = services.iter().map(|it| (it.0.to_owned(), service(it))).collect();
        Sources { region: "sa".into(), services, ..Sources::default() }
    }

    fn up(rtt_ms: u64, since: Instant) -> Known {
        Known { verdict: Verdict::Up, since: Some(since), rtt: Some(Duration::from_millis(rtt_ms)) }
    }

    fn known(list: &[(&str, &str, Known)]) -> Verdicts {
        let mut verdicts = Verdicts::new();
        for (service, id, known) in list {
            verdicts.entry((*service).into()).or_default().insert((*id).into(), *known);
        }
        verdicts
    }

    #[test]
    fn who_is_missing_is_unproven() {
        let now = Instant::now();
        let sources = sources(&[("web", vec![backend("a", 1, "sa"), backend("b", 2, "sa")])]);
        let view = Registry::default().build(&sources, &known(&[("web", "a", up(1, now))]), None);
        let verdicts: Vec<_> = view.services["web"].backends.iter().map(|it| it.known.verdict).collect();
        assert_eq!(verdicts, [Verdict::Up, Verdict::Unproven]);
        assert_eq!(view.services["web"].backends[0].country, Some(*b"br"));
        assert_eq!(&*view.region, "sa");
    }

    #[test]
    fn without_checks_all_are_up() {
        let mut sources = sources(&[("web", vec![backend("a", 1, "sa")])]);
        sources.services.get_mut("web").unwrap().check.probe = Probe::Off;
        let view = Registry::default().build(&sources, &Verdicts::new(), None);
        let up = Known { verdict: Verdict::Up, since: None, rtt: None };
        assert_eq!(view.services["web"].backends[0].known, up);
    }

    #[test]
    fn counts_outlive_what_changes_around_them() {
        let mut registry = Registry::default();
        let none = Verdicts::new();
        let first = registry.build(&sources(&[("web", vec![backend("a", 1, "sa")])]), &none, None);
        let place = first.services["web"].backends[0].live.take(0).unwrap();
        let mut moved = backend("a", 1, "sa");
        moved.weight = 9;
        let second = registry.build(&sources(&[("web", vec![backend("b", 2, "sa"), moved])]), &none, None);
        assert_eq!(second.services["web"].backends[1].live.connections(), 1);
        // Another address is another backend; the same id in another service too.
        let services = [("api", vec![backend("a", 1, "sa")]), ("web", vec![backend("a", 3, "sa")])];
        let third = registry.build(&sources(&services), &none, None);
        for name in ["api", "web"] {
            assert_eq!(third.services[name].backends[0].live.connections(), 0, "{name}");
        }
        // What is gone comes back without counts, and those who still hold it do no harm.
        let fourth = registry.build(&sources(&[("web", vec![backend("a", 1, "sa")])]), &none, None);
        drop(place);
        assert_eq!(fourth.services["web"].backends[0].live.connections(), 0);
        assert_eq!(registry.lives.len(), 1);
    }

    #[test]
    fn a_service_in_which_nothing_changed_is_the_same() {
        let now = Instant::now();
        let mut registry = Registry::default();
        let both = sources(&[("api", vec![backend("a", 1, "us")]), ("web", vec![backend("a", 1, "sa")])]);
        let verdicts = known(&[("api", "a", up(101, now)), ("web", "a", up(1, now))]);
        let first = registry.build(&both, &verdicts, None);
        let same = |a: &View, b: &View, name| Arc::ptr_eq(&a.services[name], &b.services[name]);
        // Round trips that move a little are no change; one that moves a region is.
        let second =
            registry.build(&both, &known(&[("api", "a", up(119, now)), ("web", "a", up(90, now))]), None);
        assert!(same(&first, &second, "api") && same(&first, &second, "web"));
        let third =
            registry.build(&both, &known(&[("api", "a", up(121, now)), ("web", "a", up(1, now))]), None);
        assert!(!same(&second, &third, "api") && same(&second, &third, "web"));
        let mut changed = both.clone();
        changed.services.get_mut("web").unwrap().backends[0].drain = true;
        let fourth = registry.build(&changed, &verdicts, None);
        assert!(!same(&third, &fourth, "web"));
        let fifth = registry.build(&changed, &known(&[("api", "a", up(101, now))]), None);
        assert!(same(&fourth, &fifth, "api") && !same(&fourth, &fifth, "web"));
        let down = Known { verdict: Verdict::Down, ..up(101, now) };
        let sixth = registry.build(&changed, &known(&[("api", "a", down)]), None);
        assert!(!same(&fifth, &sixth, "api") && same(&fifth, &sixth, "web"));
    }

    #[test]
    fn regions_are_as_far_as_their_nearest_backend() {
        let now = Instant::now();
        let backends = vec![
            backend("own", 1, "sa"),
            backend("us-1", 2, "us"),
            backend("us-2", 3, "us"),
            backend("eu-1", 4, "eu"),
            backend("ap-1", 5, "ap"),
        ];
        let far = |verdicts| {
            let view = Registry::default().build(&sources(&[("web", backends.clone())]), &verdicts, None);
            view.services["web"].backends.iter().map(|backend| backend.far).collect::<Vec<_>>()
        };
        assert_eq!(far(Verdicts::new()), [0, 0, 0, 0, 0]);
        assert_eq!(far(known(&[("web", "own", up(500, now))])), [0, 0, 0, 0, 0]);
        let measured = [
            ("web", "own", up(500, now)),
            ("web", "us-1", up(400, now)),
            ("web", "us-2", up(119, now)),
            ("web", "eu-1", up(60_000, now)),
        ];
        assert_eq!(far(known(&measured)), [0, 5, 5, 9, 9]);
    }
}
