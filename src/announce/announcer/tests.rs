//! The driver with a real clock: everybody has his turn, and a lease ends when it ends.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;
use crate::announce::lease::Listens;
use crate::config::anycast::AnycastPrefix;
use crate::config::load::parse;
use crate::health::{Position, ServiceHealth};
use crate::observe::status::AddressStatus;
use crate::supervise::task::Task;

/// Long enough for a machine with much else to do.
const LEASE: Duration = Duration::from_millis(400);

/// The far ends of an announcer's channels, held so that none is gone.
struct Far {
    plan: watch::Sender<Arc<Plan>>,
    health: watch::Sender<Arc<HealthView>>,
    paths: watch::Sender<Arc<Paths>>,
    wanted: watch::Receiver<Arc<OriginSet>>,
    status: watch::Receiver<Arc<Vec<PrefixStatus>>>,
    board: Arc<Board>,
    _bound: watch::Sender<Arc<Bound>>,
    _drains: watch::Sender<Arc<Drains>>,
    _flows: watch::Sender<Arc<Measured>>,
    _delivered: watch::Sender<u64>,
}

fn plan() -> Plan {
    let minimal = include_str!("../../../config/minimal.yaml");
    Plan::of(&parse(minimal, std::path::Path::new("")).unwrap())
}

fn announcer(plan: Plan, view: Arc<HealthView>) -> (Announcer, Far) {
    let here = |place: Place| {
        let status = AddressStatus {
            address: String::new(),
            device: String::new(),
            state: "ours".to_owned(),
            error: None,
        };
        (place, status)
    };
    let bound: Bound = plan.anycast.values().flat_map(places).map(here).collect();
    let board = Arc::new(Board::new(1, Instant::now(), LEASE));
    let (plan, plans) = watch::channel(Arc::new(plan));
    let (health, views) = watch::channel(view);
    let (bound, bounds) = watch::channel(Arc::new(bound));
    let (paths, path_health) = watch::channel(Arc::default());
    let (drains, drained) = watch::channel(Arc::default());
    let (flows, measured) = watch::channel(Arc::default());
    let (delivered, deliveries) = watch::channel(0);
    let (wanted, routes) = watch::channel(Arc::default());
    let (status, told) = watch::channel(Arc::default());
    let ends = Ends {
        plan: plans,
        health: views,
        needed: watch::channel(Arc::default()).0,
        bound: bounds,
        board: Arc::clone(&board),
        paths: path_health,
        command: watch::channel(None).1,
        drains: drained,
        flows: measured,
        watched: watch::channel(Arc::default()).0,
        heard: None,
        stances: watch::channel(Arc::default()).0,
        wanted,
        delivered: deliveries,
        status,
        journal: Journal::new(1).0,
    };
    let far = Far {
        plan,
        health,
        paths,
        wanted: routes,
        status: told,
        board,
        _bound: bound,
        _drains: drains,
        _flows: flows,
        _delivered: delivered,
    };
    (Announcer::new(ends, CauseIds::new(1, 1)), far)
}

fn run<T>(life: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(life)
}

#[test]
fn words_of_the_checks_without_end_keep_nobody_from_his_turn() {
    let mut plan = plan();
    // Enough that a view is there before the last is judged.
    let one = plan.anycast.values().next().unwrap().clone();
    for third in 0..=255 {
        let prefix = format!("10.0.{third}.0/24").parse().unwrap();
        plan.anycast.insert(AnycastPrefix::new(prefix).unwrap(), one.clone());
    }
    let view = || Arc::new(HealthView::empty(Instant::now()));
    let (mut announcer, far) = announcer(plan, view());
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                far.health.send_replace(view());
            }
        });
        let turns = Arc::new(AtomicU32::new(0));
        let stopped = run(async {
            let counted = turns.clone();
            let _other = Task::spawn("neighbor", async move {
                loop {
                    counted.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            });
            let stop = tokio::time::sleep(Duration::from_millis(200));
            timeout(Duration::from_secs(5), announcer.decide_until(stop)).await
        });
        over.store(true, Ordering::Relaxed);
        assert!(matches!(stopped, Ok(Ok(()))), "{stopped:?}");
        assert!(turns.load(Ordering::Relaxed) > 20);
    });
}

/// A plan whose one prefix the proxy serves, without damping, and a view in which all is well.
fn served() -> (Plan, Arc<HealthView>) {
    let mut plan = plan();
    let anycast = plan.anycast.values_mut().next().unwrap();
    anycast.damping = None;
    let addresses: BTreeSet<IpAddr> = anycast.addresses.iter().copied().collect();
    assert!(!addresses.is_empty());
    let now = Instant::now();
    let well = ServiceHealth {
        position: Position::Full,
        healthy_weight: 2,
        total_weight: 2,
        proven: true,
        serving: true,
        cause: None,
        since: now,
        changed_by: None,
    };
    let listens = Listens { addresses: addresses.clone(), probed: addresses };
    plan.listens = anycast.services.iter().map(|name| (name.clone(), listens.clone())).collect();
    plan.max_age = Duration::from_secs(60);
    let services = anycast.services.iter().map(|name| (name.clone(), well.clone())).collect();
    (plan, Arc::new(HealthView { as_of: now, services }))
}

/// Waits until neighbors are to be told so, for a reason with these words.
async fn until(far: &mut Far, announced: bool, words: &str) -> Instant {
    let patience = Duration::from_secs(10);
    let there = far.status.wait_for(|told| told.iter().any(|prefix| prefix.why.contains(words)));
    let is_there = timeout(patience, there).await.is_ok_and(|there| there.is_ok());
    assert!(is_there, "{words}: {:?}", far.status.borrow());
    assert_eq!(far.wanted.borrow().is_empty(), !announced, "{words}");
    Instant::now()
}

#[test]
fn a_prefix_lives_as_long_as_its_lease() {
    let (plan, view) = served();
    let (mut announcer, mut far) = announcer(plan, view);
    run(async {
        let board = Arc::clone(&far.board);
        let renew = |pulses: u32| {
            let board = Arc::clone(&board);
            async move {
                let mut tick = interval(board.renew_every());
                let mut last = Instant::now();
                for _ in 0..pulses {
                    tick.tick().await;
                    last = Instant::now();
                    board.renew(0, last);
                }
                last
            }
        };
        let story = async {
            until(&mut far, false, "worker 0 has served nothing yet").await;
            let renewing = Task::spawn("lease", renew(5));
            until(&mut far, true, "is healthy").await;
            let last = renewing.await.unwrap();
            let gone = until(&mut far, false, "worker 0 has served nothing for 4").await;
            assert!(gone >= last + LEASE, "withdrawn {:?} after the last renewal", gone - last);
            let renewing = Task::spawn("lease", renew(1_000_000));
            until(&mut far, true, "is healthy").await;
            // Nobody says any more what the probes find; that no path is asked for does not matter then.
            far.paths = watch::channel(Arc::default()).0;
            until(&mut far, false, "the self-probes are gone").await;
            // What the proxy does not serve needs none of it.
            let mut plan = (**far.plan.borrow()).clone();
            plan.listens.clear();
            far.plan.send_replace(Arc::new(plan));
            until(&mut far, true, "is healthy").await;
            drop(renewing);
        };
        announcer.judge();
        let ended = announcer.decide_until(story).await;
        assert!(ended.is_ok(), "{ended:?}");
        assert_eq!(announcer.alarm.next_deadline(), None, "nobody wakes for what nobody needs");
    });
}
