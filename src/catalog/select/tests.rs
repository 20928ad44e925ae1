//! Golden scores of v1, and what was added to them.

use proptest::prelude::*;

use super::*;
use crate::catalog::backend::Known;
use crate::catalog::live::Live;

/// What a test says of a backend; the rest is v1's default.
struct Given {
    service: Service,
    places: Vec<Place>,
    now: Instant,
}

fn up(since: Instant) -> Known {
    Known { verdict: Verdict::Up, since: Some(since), rtt: None }
}

fn backend(id: &str, country: &str, region: &str, now: Instant) -> Backend {
    Backend {
        id: id.into(),
        address: ([10, 0, 0, 1], 8080).into(),
        pop: None,
        via_ingress: false,
        region: region.into(),
        far: 0,
        country: country.as_bytes().try_into().ok(),
        weight: 2,
        soft_limit: 100,
        hard_limit: 150,
        drain: false,
        known: up(now),
        live: Arc::new(Live::default()),
    }
}

impl Given {
    fn new(backends: &[(&str, &str, &str)]) -> Self {
        let now = Instant::now();
        let backends = backends.iter().map(|(id, country, region)| backend(id, country, region, now));
        let forwarding = Forwarding::default();
        let service = Service { name: "web".into(), forwarding, backends: backends.collect() };
        Self { service, places: Vec::new(), now }
    }

    /// So many backends in this POP's region.
    fn equal(n: usize) -> Self {
        Self::new(&vec![("x", "", "sa"); n])
    }

    fn load(&mut self, index: usize, connections: u32) {
        let live = Arc::clone(&self.service.backends[index].live);
        self.places.extend((0..connections).map(|_| live.take(0).unwrap()));
    }

    fn choose(&self, client: &Client, tried: &[usize], dice: u64) -> Result<usize, Nobody> {
        self.place(client, tried, dice).map(|(index, _)| index)
    }

    fn place(&self, client: &Client, tried: &[usize], dice: u64) -> Result<(usize, Place), Nobody> {
        select(&self.service, "sa", client, tried, self.now, 1_000, dice)
    }

    fn explain(&self, client: &Client) -> Vec<Candidate> {
        explain(&self.service, "sa", client, self.now, 1_000)
    }

    fn shares(&self, throws: u64) -> Vec<f64> {
        let mut counts = vec![0.0; self.service.backends.len()];
        for dice in 0..throws {
            counts[self.choose(&client("", ""), &[], mix(dice)).unwrap()] += 1.0;
        }
        counts.iter().map(|count| count / throws as f64).collect()
    }
}

fn client(country: &str, region: &str) -> Client {
    Client {
        source: [192, 0, 2, 1].into(),
        country: country.as_bytes().try_into().ok(),
        region: (!region.is_empty()).then(|| region.into()),
    }
}

const V1_FLEET: [(&str, &str, &str); 10] = [
    ("fly-gru-1", "br", "sa"),
    ("fly-iad-1", "us", "us"),
    ("fly-ord-1", "us", "us"),
    ("fly-lax-1", "us", "us"),
    ("fly-lhr-1", "gb", "eu"),
    ("fly-fra-1", "de", "eu"),
    ("fly-cdg-1", "fr", "eu"),
    ("fly-nrt-1", "jp", "ap"),
    ("fly-sin-1", "sg", "ap"),
    ("fly-syd-1", "au", "ap"),
];

#[test]
fn the_documented_fleet_of_v1() {
    let given = Given::new(&V1_FLEET);
    let table = [
        ("fr", "eu", "fly-cdg-1"),
        ("de", "eu", "fly-fra-1"),
        ("gb", "eu", "fly-lhr-1"),
        ("jp", "ap", "fly-nrt-1"),
        ("sg", "ap", "fly-sin-1"),
        ("au", "ap", "fly-syd-1"),
        ("br", "sa", "fly-gru-1"),
        // Nobody knows the client: the POP's own region.
        ("", "", "fly-gru-1"),
    ];
    for (country, region, wanted) in table {
        let index = given.choose(&client(country, region), &[], 7).unwrap();
        assert_eq!(&*given.service.backends[index].id, wanted, "{country}");
    }
    for dice in 0..50 {
        let index = given.choose(&client("us", "us"), &[], mix(dice)).unwrap();
        assert!((1..=3).contains(&index));
    }
    // A Frenchman as seen from the POP in `sa`.
    let geo: Vec<u8> = given.explain(&client("fr", "eu")).iter().map(|it| it.geo).collect();
    assert_eq!(geo, [2, 3, 3, 3, 1, 1, 0, 3, 3, 3]);
}

#[test]
fn golden_scores() {
    // geo by country and region, connections, soft limit, weight, score
    let table = [
        ("br", "sa", 0, 100, 2, 0.0),
        ("br", "sa", 25, 50, 1, 0.5),
        ("br", "sa", 50, 50, 2, 0.5),
        ("br", "sa", 75, 50, 1, 1.5),
        ("br", "us", 75, 50, 3, 0.5),
        ("ar", "sa", 50, 100, 2, 100.25),
        ("us", "us", 0, 100, 2, 300.0),
        ("", "eu", 100, 100, 4, 300.25),
    ];
    for (country, region, connections, soft_limit, weight, score) in table {
        let mut given = Given::new(&[("x", country, region)]);
        given.service.backends[0].soft_limit = soft_limit;
        given.service.backends[0].weight = weight;
        given.service.backends[0].hard_limit = 0;
        given.load(0, connections);
        assert_eq!(given.explain(&client("br", "sa"))[0].score, score, "{country} {region} {connections}");
    }
    // In the POP's region, for a client from elsewhere.
    assert_eq!(Given::new(&[("x", "br", "sa")]).explain(&client("fr", "eu"))[0].score, 200.0);
}

#[test]
fn the_less_loaded_wins_for_its_weight() {
    // connections and weight of two backends, and the winner
    let table = [((10, 2), (11, 2), 0), ((11, 2), (10, 2), 1), ((20, 4), (11, 2), 0), ((100, 9), (12, 1), 0)];
    for ((a, a_weight), (b, b_weight), winner) in table {
        let mut given = Given::equal(2);
        given.service.backends[0].weight = a_weight;
        given.service.backends[1].weight = b_weight;
        given.load(0, a);
        given.load(1, b);
        for dice in 0..20 {
            assert_eq!(given.choose(&client("", ""), &[], mix(dice)), Ok(winner), "{a} {b}");
        }
    }
}

#[test]
fn the_idle_share_by_weight() {
    let mut given = Given::equal(3);
    for (backend, weight) in given.service.backends.iter_mut().zip([1, 2, 7]) {
        backend.weight = weight;
    }
    for (share, wanted) in given.shares(20_000).into_iter().zip([0.1, 0.2, 0.7]) {
        assert!((share - wanted).abs() < 0.02, "{share} for {wanted}");
    }
    let chances: Vec<f64> = given.explain(&client("", "")).iter().map(|it| it.chance).collect();
    assert_eq!(chances, [0.1, 0.2, 0.7]);
}

#[test]
fn the_busy_share_by_weight() {
    let mut given = Given::equal(2);
    given.service.backends[0].weight = 3;
    given.service.backends[1].weight = 1;
    for dice in 0..80 {
        let place = given.place(&client("", ""), &[], mix(dice)).unwrap().1;
        given.places.push(place);
    }
    let connections: Vec<u32> = given.service.backends.iter().map(|it| it.live.connections()).collect();
    assert_eq!(connections, [60, 20]);
}

#[test]
fn slow_start_grows_from_a_tenth() {
    let mut given = Given::equal(2);
    given.service.forwarding.slow_start = Duration::from_secs(10);
    let start = given.now;
    given.service.backends[1].known = up(start + Duration::from_secs(100));
    for (after_ms, weight) in
        [(0, 200), (500, 200), (1_000, 200), (2_500, 500), (9_999, 1_998), (10_000, 2_000)]
    {
        given.now = start + Duration::from_secs(100) + Duration::from_millis(after_ms);
        let weights: Vec<u64> = given.explain(&client("", "")).iter().map(|it| it.weight).collect();
        assert_eq!(weights, [2_000, weight], "{after_ms} ms");
    }
    given.now = start + Duration::from_millis(102_500);
    let share = given.shares(20_000)[1];
    assert!((share - 0.2).abs() < 0.02, "{share}");
}

#[test]
fn round_trips_tell_regions_of_one_class_apart() {
    let mut given = Given::new(&[("a", "", "us"), ("b", "", "eu"), ("c", "br", "ap")]);
    given.service.backends[0].far = 9;
    given.service.backends[1].far = 4;
    given.service.backends[2].far = 9;
    given.load(1, 149);
    assert_eq!(given.choose(&client("", ""), &[], 1), Ok(1));
    assert_eq!(given.choose(&client("", ""), &[1], 1).map(|index| index != 1), Ok(true));
    // The country counts for more than the way there, and so does every other step.
    assert_eq!(given.choose(&client("br", "sa"), &[], 1), Ok(2));
}

#[test]
fn why_backends_are_rejected() {
    let mut given = Given::equal(8);
    let since = Some(given.now);
    given.service.backends[1].known = Known::default();
    given.service.backends[2].known = Known { verdict: Verdict::Down, since, rtt: None };
    given.service.backends[3].drain = true;
    given.load(4, 150);
    given.service.backends[5].live.eject_until(8_001);
    given.service.backends[6].live.eject_until(1_000);
    given.places.extend(given.service.backends[6].live.take_standing(0, 1_000, 100));
    given.load(7, 150);
    given.service.backends[7].hard_limit = 0;
    let words: Vec<String> = given
        .explain(&client("", ""))
        .iter()
        .map(|it| it.rejected.map_or_else(String::new, |why| why.to_string()))
        .collect();
    let wanted = [
        "",
        "down: never proven",
        "down",
        "drains",
        "at its hard limit 150",
        "ejected for 8 s",
        "was ejected: one connection is trying it",
        "",
    ];
    assert_eq!(words, wanted);
    for (index, word) in words.iter().enumerate() {
        let bound = take_bound(&given.service, index, 1_000).map_err(|why| why.to_string());
        assert_eq!(bound.err().as_deref().unwrap_or_default(), word);
    }
    assert_eq!(given.choose(&client("", ""), &[], 3), Ok(0));
    assert_eq!(given.choose(&client("", ""), &[0], 3), Ok(7));
    assert_eq!(given.choose(&client("", ""), &[0, 7], 3), Err(Nobody::Full));
}

#[test]
fn why_there_is_nobody() {
    let mut given = Given::equal(2);
    assert_eq!(given.choose(&client("", ""), &[0, 1], 3), Err(Nobody::Tried));
    given.service.backends[0].drain = true;
    given.service.backends[1].known = Known::default();
    assert_eq!(given.choose(&client("", ""), &[], 3), Err(Nobody::Down));
    assert_eq!(Given::equal(0).choose(&client("", ""), &[], 3), Err(Nobody::Down));
}

#[test]
fn in_panic_all_are_used_but_those_that_drain() {
    let mut given = Given::equal(5);
    for index in [0, 1] {
        given.service.backends[index].known.verdict = Verdict::Down;
    }
    given.service.backends[2].live.eject_until(9_000);
    given.service.backends[4].drain = true;
    given.service.forwarding.panic = 25;
    assert_eq!(given.shares(1_000), [0.0, 0.0, 0.0, 1.0, 0.0], "one in four is not under 25 %");
    given.service.forwarding.panic = 26;
    for (index, share) in given.shares(4_000).into_iter().enumerate() {
        assert_eq!(share > 0.2, index != 4, "{index}: {share}");
    }
    let in_panic: Vec<bool> = given.explain(&client("", "")).iter().map(|it| it.in_panic).collect();
    assert_eq!(in_panic, [true, true, true, false, false]);
    assert!(take_bound(&given.service, 2, 1_000).is_ok());
    // Limits hold in panic too.
    given.load(2, 150);
    assert_eq!(take_bound(&given.service, 2, 1_000).err(), Some(Rejection::Full(150)));
}

#[test]
fn an_ejected_backend_comes_back_by_one_trial() {
    let given = Given::equal(2);
    given.service.backends[0].live.eject_until(1_000);
    let places: Vec<_> = (0..40).map(|dice| given.place(&client("", ""), &[], mix(dice)).unwrap()).collect();
    assert_eq!(places.iter().filter(|(index, _)| *index == 0).count(), 1);
    assert!(places.iter().all(|(index, place)| place.is_trial() == (*index == 0)));
}

#[test]
fn fifty_racers_and_one_place() {
    let mut given = Given::equal(1);
    given.service.backends[0].hard_limit = 2;
    given.load(0, 1);
    let service = Arc::new(given.service);
    let race = |dice| {
        let (service, now) = (Arc::clone(&service), given.now);
        std::thread::spawn(move || match dice % 2 {
            0 => select(&service, "sa", &client("", ""), &[], now, 1_000, dice).ok().map(|it| it.1),
            _ => take_bound(&service, 0, 1_000).ok(),
        })
    };
    let racers: Vec<_> = (0..50).map(race).collect();
    let places: Vec<Place> = racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect();
    assert_eq!((places.len(), service.backends[0].live.connections()), (1, 2));
}

prop_compose! {
    fn any_backend()(
        region in 0..3usize, country in 0..3usize, far in 0..=9u8, weight in 1..20u32, soft_limit in 1..200u32,
        hard_limit in 0..6u32, drain in prop::bool::weighted(0.1), verdict in 0..4u8, open in 0..6u32,
        ejected in prop::sample::select(vec![0, 0, 0, 500, 5_000]),
    ) -> (Backend, u32) {
        let now = Instant::now();
        let mut backend = backend("x", ["br", "us", ""][country], ["sa", "us", "eu"][region], now);
        backend.known.verdict = [Verdict::Up, Verdict::Up, Verdict::Down, Verdict::Unproven][verdict as usize];
        (backend.far, backend.weight, backend.soft_limit) = (far, weight, soft_limit);
        (backend.hard_limit, backend.drain) = (hard_limit, drain);
        backend.live.eject_until(ejected);
        (backend, open)
    }
}

proptest! {
    #[test]
    fn the_choice_is_what_the_explanation_says(
        backends in prop::collection::vec(any_backend(), 0..12),
        panic in prop::sample::select(vec![0u8, 50, 100]), tried in prop::collection::vec(0..12usize, 0..3),
        dice: u64,
    ) {
        let (backends, open): (Vec<_>, Vec<_>) = backends.into_iter().unzip();
        let mut given = Given::equal(0);
        given.service.backends = backends;
        given.service.forwarding.panic = panic;
        for (index, open) in open.into_iter().enumerate() {
            given.load(index, open);
        }
        let who = client("br", "sa");
        let before = given.explain(&who);
        let usable = || before.iter().filter(|it| it.rejected.is_none() && !tried.contains(&it.index));
        let lowest = usable().map(|it| it.score).fold(f64::INFINITY, f64::min);
        match given.place(&who, &tried, dice) {
            Ok((index, _place)) => {
                prop_assert!(usable().any(|it| it.index == index));
                prop_assert_eq!(before[index].score, lowest);
                let chosen = &given.service.backends[index];
                prop_assert!(!chosen.drain);
                prop_assert!(chosen.hard_limit == 0 || chosen.live.connections() <= chosen.hard_limit);
            }
            Err(nobody) => {
                prop_assert_eq!(usable().count(), 0);
                let full = before.iter().any(|it| matches!(it.rejected, Some(Rejection::Full(_))));
                prop_assert_eq!(nobody == Nobody::Full, full);
            }
        }
        for it in usable() {
            prop_assert!((it.score - f64::from(it.geo) * 100.0 - f64::from(it.far) * 10.0) >= -1e-9);
            prop_assert!(f64::from(it.far) * 10.0 < 100.0);
        }
    }
}
