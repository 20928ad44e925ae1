//! Every backend has its reason, and the choice itself agrees.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::catalog::backend::Known;
use crate::catalog::live::Place;
use crate::config::services::Forwarding;

const NOW_MS: u64 = 1_000_000;
const TTL: Duration = Duration::from_secs(600);

struct Given {
    view: View,
    affinity: Affinity,
    now: Instant,
    places: Vec<Place>,
}

impl Given {
    /// Backends of this POP's region, up for a minute: `web-0`, `web-1`, …
    fn new(backends: usize) -> Self {
        let now = Instant::now() + Duration::from_secs(3_600);
        let backend = |number: usize| Backend {
            id: format!("web-{number}").into(),
            address: ([10, 0, 0, number as u8], 8080).into(),
            pop: None,
            via_ingress: false,
            region: "sa".into(),
            far: 0,
            country: None,
            weight: 2,
            soft_limit: 100,
            hard_limit: 150,
            drain: false,
            known: Known {
                verdict: Verdict::Up,
                since: now.checked_sub(Duration::from_secs(60)),
                rtt: Some(Duration::from_micros(700)),
            },
            live: Arc::default(),
        };
        let forwarding = Forwarding { affinity: Some(TTL), panic: 0, ..Forwarding::default() };
        let service =
            Service { name: "web".into(), forwarding, backends: (0..backends).map(backend).collect() };
        let services = [("web".into(), Arc::new(service))].into();
        let view = View { region: "sa".into(), services, geo: None };
        Self { view, affinity: Affinity::new(100), now, places: Vec::new() }
    }

    fn service(&mut self) -> &mut Service {
        Arc::get_mut(self.view.services.get_mut("web").unwrap()).unwrap()
    }

    fn load(&mut self, index: usize, connections: u32) {
        let live = Arc::clone(&self.service().backends[index].live);
        self.places.extend((0..connections).map(|_| live.take(0).unwrap()));
    }

    fn bind(&mut self, index: usize, ago_ms: u64) {
        let serial = self.service().backends[index].live.serial();
        self.affinity.bind("web", Source::of([192, 0, 2, 1].into()), serial, NOW_MS - ago_ms);
    }

    fn explain(&self) -> ChoiceStatus {
        let client = [192, 0, 2, 1].into();
        explain(&self.view, || &self.affinity, "web", client, self.now, NOW_MS).unwrap()
    }

    /// By id: why it is the one, or why it is not.
    fn reasons(&self) -> Vec<(String, String)> {
        let reason = |it: CandidateStatus| (it.id, it.why.or(it.why_not).unwrap());
        self.explain().backends.into_iter().map(reason).collect()
    }
}

fn reasons(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    wanted.iter().map(|(id, reason)| ((*id).to_owned(), (*reason).to_owned())).collect()
}

#[test]
fn every_backend_has_its_reason() {
    let mut given = Given::new(9);
    given.load(0, 1);
    given.load(5, 150);
    let backends = &mut given.service().backends;
    backends[2].drain = true;
    backends[3].known.verdict = Verdict::Down;
    backends[4].live.eject_until(NOW_MS + 5_000);
    backends[6].region = "us".into();
    backends[7].known.verdict = Verdict::Unproven;
    backends[8].live.eject_until(NOW_MS - 1);
    let trial = backends[8].live.take_standing(0, NOW_MS, 500).unwrap();
    let wanted = [
        ("web-1", "best"),
        ("web-0", "fuller"),
        ("web-6", "farther"),
        ("web-2", "draining"),
        ("web-3", "down"),
        ("web-4", "ejected"),
        ("web-5", "full"),
        ("web-7", "unproven"),
        ("web-8", "on-trial"),
    ];
    assert_eq!(given.reasons(), reasons(&wanted));
    let it = given.explain();
    assert_eq!((it.country, it.has_geo, it.panic, it.pop_region.as_str()), (None, false, false, "sa"));
    let [best, fuller, farther, .., ejected] = &it.backends[..6] else { panic!("nine") };
    assert_eq!((best.chance, best.score, best.geo, best.rtt_us), (1.0, 200.0, 200, Some(700)));
    assert_eq!((fuller.load, fuller.score, fuller.open, fuller.chance), (0.005, 200.005, 1, 0.0));
    assert_eq!((farther.geo, ejected.ejected_ms, ejected.since_ms), (300, Some(5_000), Some(60_000)));
    // Whoever comes when the trial is over may be the next.
    drop(trial);
    given.load(1, 1);
    assert_eq!(given.reasons()[0], ("web-8".to_owned(), "trial".to_owned()));
}

#[test]
fn a_bound_client_stays_and_asking_is_no_visit() {
    let mut given = Given::new(3);
    let affinity = given.explain().affinity.unwrap();
    assert_eq!(affinity, AffinityStatus { ttl_ms: 600_000, backend: None, left_ms: None });
    given.load(2, 10);
    given.bind(2, 128_000);
    for _ in 0..2 {
        let affinity = given.explain().affinity.unwrap();
        assert_eq!((affinity.backend.as_deref(), affinity.left_ms), (Some("web-2"), Some(472_000)));
    }
    let wanted = [("web-2", "bound"), ("web-0", "bound-elsewhere"), ("web-1", "bound-elsewhere")];
    assert_eq!(given.reasons(), reasons(&wanted));
    // It may not be used: another is chosen, and what it is bound to is still told.
    given.service().backends[2].drain = true;
    assert_eq!(given.reasons(), reasons(&[("web-0", "best"), ("web-1", "best"), ("web-2", "draining")]));
    let it = given.explain();
    assert_eq!(it.affinity.unwrap().backend.as_deref(), Some("web-2"));
    assert_eq!(it.backends.iter().map(|it| it.chance).collect::<Vec<_>>(), [0.5, 0.5, 0.0]);
    // It is gone: a binding to nobody is none.
    given.service().backends.pop();
    assert_eq!(given.explain().affinity.unwrap().backend, None);
    given.service().forwarding.affinity = None;
    assert_eq!(given.explain().affinity, None);
}

#[test]
fn in_panic_all_are_used_and_a_slow_start_shows() {
    let mut given = Given::new(2);
    given.service().forwarding.panic = 100;
    given.service().forwarding.slow_start = Duration::from_secs(120);
    given.service().backends[1].known.verdict = Verdict::Down;
    given.load(0, 1);
    assert_eq!(given.reasons(), reasons(&[("web-1", "panic"), ("web-0", "fuller")]));
    let it = given.explain();
    assert!(it.panic);
    let slow = |it: &CandidateStatus| (it.weight, it.weight_now, it.slow_start_ms);
    assert_eq!(it.backends.iter().map(slow).collect::<Vec<_>>(), [(2, 2.0, None), (2, 1.0, Some(60_000))]);
}

#[test]
fn who_counts_as_one_client() {
    let given = Given::new(1);
    for (client, shown, source) in [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ] {
        let client = client.parse().unwrap();
        let it = explain(&given.view, || &given.affinity, "web", client, given.now, NOW_MS).unwrap();
        assert_eq!((it.client.as_str(), it.source.as_str()), (shown, source));
    }
    let unknown = explain(&given.view, || unreachable!(), "wev", [192, 0, 2, 1].into(), given.now, NOW_MS);
    assert_eq!(unknown, Err(UnknownService(vec!["web".to_owned()])));
}

proptest! {
    /// Whatever stands: the first of the list is what the choice takes, or one that is as good.
    #[test]
    fn the_choice_agrees(
        backends in prop::collection::vec((0..5u8, 0..4u32, 0..2u8), 1..6),
        bound in prop::option::of(0..6usize), panic in prop::sample::select(vec![0u8, 60]), dice: u64,
    ) {
        let mut given = Given::new(backends.len());
        given.service().forwarding.panic = panic;
        for (index, (what, load, region)) in backends.iter().enumerate() {
            let backend = &mut given.service().backends[index];
            match what {
                1 => backend.drain = true,
                2 => backend.known.verdict = Verdict::Down,
                3 => backend.live.eject_until(NOW_MS + 1),
                4 => backend.hard_limit = 2,
                _ => {}
            }
            backend.region = if *region == 0 { "sa".into() } else { "us".into() };
            given.load(index, *load);
        }
        let bound = bound.filter(|index| *index < backends.len());
        if let Some(index) = bound {
            given.bind(index, 0);
        }
        let it = given.explain();
        let service = &given.view.services["web"];
        let who = Client { source: [192, 0, 2, 1].into(), country: None, region: None };
        let taken = bound.and_then(|index| Some((index, select::take_bound(service, index, NOW_MS).ok()?)));
        let taken = match taken {
            Some(taken) => Some(taken),
            None => select::select(service, "sa", &who, &[], given.now, NOW_MS, dice).ok(),
        };
        let sum: f64 = it.backends.iter().map(|it| it.chance).sum();
        match taken {
            Some((index, place)) => {
                let id = format!("web-{index}");
                let found = it.backends.iter().find(|it| it.id == id).unwrap();
                prop_assert!(found.chance > 0.0 && it.backends[0].chance > 0.0 && (sum - 1.0).abs() < 1e-9);
                let is_bound = bound == Some(index);
                prop_assert_eq!(found.why.as_deref(), Some(How::of(&place, is_bound).name()));
            }
            None => prop_assert!(sum == 0.0),
        }
        let one_reason = |it: &CandidateStatus| {
            it.why.is_some() != it.why_not.is_some() && it.why.is_some() == (it.chance > 0.0)
        };
        prop_assert!(it.backends.iter().all(one_reason));
        prop_assert_eq!(it.backends.len(), backends.len());
    }
}
