//! A link in virtual time, with paths that the test cuts and heals.

use super::*;

const INTERVAL: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(1);

struct World {
    link: Link,
    now: Instant,
    start: Instant,
    /// Whether datagrams get through: the tunnel's port, the probes' port, the relay.
    tunnel: bool,
    outside: bool,
    relay: bool,
    changes: Vec<(u64, Way)>,
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 51_820))
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let mut link = Link::new(now);
        link.set_addresses(&[address(1)], now);
        Self { link, now, start: now, tunnel: true, outside: true, relay: true, changes: Vec::new() }
    }

    /// Runs for so many milliseconds.
    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 50 {
            self.now += Duration::from_millis(50);
            if (self.now - self.start).as_millis().is_multiple_of(100) {
                for question in self.link.ask(self.now) {
                    let soon = self.now + Duration::from_millis(10);
                    match question {
                        Question::Inside(number) => {
                            let through = match self.link.way() {
                                Way::Direct(_) => self.tunnel,
                                Way::Relay(_) => self.relay,
                            };
                            if through {
                                self.link.handle_inside(number, soon);
                            }
                        }
                        Question::Outside(at, number) if self.outside => {
                            self.link.handle_outside(at, number, soon);
                        }
                        Question::Outside(..) => {}
                    }
                }
            }
            let relays: &[Name] = if self.relay { &["gru1".into()] } else { &[] };
            if self.link.decide(INTERVAL, TIMEOUT, relays, self.now) {
                self.changes.push(((self.now - self.start).as_millis() as u64, self.link.way().clone()));
            }
        }
    }

    fn state(&self) -> State {
        self.link.state(INTERVAL, self.now)
    }
}

#[test]
fn a_cut_path_is_relayed_within_half_a_second_and_used_again_when_it_is_back() {
    let mut world = World::new();
    world.run(2_000);
    assert_eq!((world.state(), world.changes.len()), (State::Up, 0));
    (world.tunnel, world.outside) = (false, false);
    world.run(500);
    assert_eq!(world.link.way(), &Way::Relay("gru1".into()));
    world.run(200);
    assert_eq!(world.state(), State::Up);
    world.run(60_000);
    assert_eq!(world.changes.len(), 1, "{:?}", world.changes);
    (world.tunnel, world.outside) = (true, true);
    world.run(1_000);
    assert_eq!(world.link.way(), &Way::Direct(Some(address(1))));
    assert_eq!(world.state(), State::Up);
}

#[test]
fn a_tunnel_that_is_blocked_alone_is_tried_again_less_and_less_often() {
    let mut world = World::new();
    world.run(1_000);
    world.tunnel = false;
    world.run(600_000);
    let back = world.changes.iter().filter(|(_, way)| matches!(way, Way::Direct(_))).count();
    assert!((4..12).contains(&back), "{:?}", world.changes);
    world.tunnel = true;
    world.run(600_000);
    assert_eq!(world.link.way(), &Way::Direct(Some(address(1))));
}

#[test]
fn tunnel_broken_and_pop_dead_are_different_facts() {
    let mut world = World::new();
    world.relay = false;
    assert_eq!(world.state(), State::Starting);
    world.run(1_000);
    world.tunnel = false;
    world.run(1_000);
    assert_eq!(world.state(), State::TunnelBroken);
    world.outside = false;
    world.run(1_000);
    assert_eq!(world.state(), State::Silent);
    (world.tunnel, world.outside) = (true, true);
    world.run(300);
    assert!(matches!(world.state(), State::Lossy | State::Up));
    world.run(5_000);
    assert_eq!(world.state(), State::Up);
}

#[test]
fn another_address_of_the_peer_comes_before_a_relay_and_every_address_is_tried() {
    let mut world = World::new();
    world.link.set_addresses(&[address(1), address(2)], world.now);
    world.run(1_000);
    assert_eq!(world.link.way(), &Way::Direct(Some(address(1))));
    // The first address alone is cut.
    for _ in 0..6 {
        world.now += INTERVAL;
        for question in world.link.ask(world.now) {
            if let Question::Outside(at, number) = question
                && at == address(2)
            {
                world.link.handle_outside(at, number, world.now);
            }
        }
        world.link.decide(INTERVAL, TIMEOUT, &["gru1".into()], world.now);
    }
    assert_eq!(world.link.way(), &Way::Direct(Some(address(2))));

    let mut fresh = World::new();
    fresh.link.set_addresses(&[address(1), address(2), address(3)], fresh.now);
    (fresh.tunnel, fresh.outside, fresh.relay) = (false, false, false);
    fresh.run(10_000);
    let tried: Vec<_> = fresh.changes.iter().map(|(_, way)| way.clone()).collect();
    assert!(tried.contains(&Way::Direct(Some(address(3)))), "{tried:?}");
}
