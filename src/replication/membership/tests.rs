//! A fleet of memberships in virtual time: who is seen alive, and who is accused.

use proptest::prelude::*;

use super::*;

fn name(pop: usize) -> Origin {
    Origin::new(&format!("pop{pop}")).unwrap()
}

struct Fleet {
    now: Instant,
    pops: Vec<Membership>,
    /// Who runs; a paused one runs later on.
    up: Vec<bool>,
    side: Vec<u8>,
    linked: BTreeSet<(usize, usize)>,
    /// Packets on their way.
    sent: VecDeque<(Instant, usize, usize, Vec<u8>)>,
}

impl Fleet {
    /// Everybody is connected to the first, and later to all.
    fn new(pops: usize) -> Self {
        let now = Instant::now();
        let mut fleet = Self {
            now,
            pops: Vec::new(),
            up: vec![true; pops],
            side: vec![0; pops],
            linked: BTreeSet::new(),
            sent: VecDeque::new(),
        };
        for pop in 0..pops {
            fleet.pops.push(Membership::new(name(pop), 1, pop as u64, now));
        }
        for pop in 1..pops {
            for (one, other) in [(0, pop), (pop, 0)] {
                fleet.linked.insert((one, other));
                fleet.pops[one].handle_connected(&name(other), now);
            }
        }
        fleet
    }

    /// Connections follow who runs and where; one that is gone is missed after six seconds.
    fn link(&mut self) {
        let pops = self.pops.len();
        for (one, other) in (0..pops).flat_map(|one| (0..pops).map(move |other| (one, other))) {
            let wanted = one != other && self.up[one] && self.up[other] && self.side[one] == self.side[other];
            if wanted && self.linked.insert((one, other)) {
                self.pops[one].handle_connected(&name(other), self.now);
            } else if !wanted && self.up[one] && self.linked.remove(&(one, other)) {
                self.pops[one].handle_disconnected(&name(other), self.now);
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let (start, end) = (self.now, self.now + time);
        let mut late = true;
        while self.now < end {
            self.now += Duration::from_millis(50);
            if late && self.now > start + Duration::from_secs(6) {
                late = false;
                self.link();
            }
            while self.sent.front().is_some_and(|(at, ..)| *at <= self.now) {
                let (_, from, to, octets) = self.sent.pop_front().unwrap();
                if self.up[to] && self.side[from] == self.side[to] {
                    let _ = self.pops[to].handle_datagram(&name(from), &octets, self.now);
                }
            }
            for pop in (0..self.pops.len()).filter(|pop| self.up[*pop]).collect::<Vec<_>>() {
                if self.pops[pop].next_deadline() <= self.now {
                    self.pops[pop].handle_timeout(self.now);
                }
                while let Some((to, octets)) = self.pops[pop].poll_transmit() {
                    let to = to.as_str()[3..].parse().unwrap();
                    self.sent.push_back((self.now + Duration::from_millis(80), pop, to, octets));
                }
            }
        }
    }

    fn standings(&self, of: usize) -> Vec<Option<Standing>> {
        let others = (0..self.pops.len()).filter(|pop| *pop != of && self.up[*pop]);
        others.map(|pop| self.pops[pop].standings().get(&name(of)).copied()).collect()
    }

    fn all_see(&self, of: usize, standing: Standing) -> bool {
        self.standings(of).iter().all(|seen| *seen == Some(standing))
    }
}

#[test]
fn whoever_knows_one_is_known_by_all() {
    let mut fleet = Fleet::new(12);
    fleet.run(Duration::from_secs(20));
    for pop in 0..12 {
        assert!(fleet.all_see(pop, Standing::Alive), "{pop}: {:?}", fleet.standings(pop));
        assert_eq!(fleet.pops[pop].doubt(), None);
    }
}

#[test]
fn the_dead_are_found_and_a_new_life_is_believed_at_once() {
    let mut fleet = Fleet::new(12);
    fleet.run(Duration::from_secs(20));
    fleet.up[3] = false;
    fleet.run(Duration::from_secs(120));
    assert!(fleet.all_see(3, Standing::Down), "{:?}", fleet.standings(3));
    assert!(fleet.pops[5].gone().eq([&name(3)]));
    // It starts anew.
    fleet.pops[3] = Membership::new(name(3), 2, 33, fleet.now);
    fleet.up[3] = true;
    fleet.linked.retain(|(one, _)| *one != 3);
    fleet.run(Duration::from_secs(10));
    assert!(fleet.all_see(3, Standing::Alive), "{:?}", fleet.standings(3));
    // It says that it goes.
    fleet.pops[3].leave(fleet.now);
    fleet.run(Duration::from_millis(50));
    fleet.up[3] = false;
    fleet.run(Duration::from_secs(10));
    assert!(fleet.all_see(3, Standing::Down), "{:?}", fleet.standings(3));
}

#[test]
fn whoever_did_not_run_accuses_nobody() {
    let mut fleet = Fleet::new(8);
    fleet.run(Duration::from_secs(20));
    for _ in 0..10 {
        // For less than it takes to declare it dead, again and again.
        fleet.up[2] = false;
        fleet.run(Duration::from_secs(8));
        fleet.up[2] = true;
        fleet.run(Duration::from_millis(300));
        for pop in (0..8).filter(|pop| *pop != 2) {
            assert_eq!(fleet.pops[2].standings().get(&name(pop)), Some(&Standing::Alive), "{pop}");
        }
    }
    assert!(fleet.pops[2].strain() > 0);
    fleet.run(Duration::from_secs(120));
    for pop in 0..8 {
        assert!(fleet.all_see(pop, Standing::Alive), "{pop}: {:?}", fleet.standings(pop));
    }
}

#[test]
fn whoever_sees_many_vanish_doubts_itself_first() {
    let mut fleet = Fleet::new(10);
    fleet.run(Duration::from_secs(20));
    fleet.side[0] = 1;
    fleet.side[1] = 1;
    fleet.run(Duration::from_secs(180));
    let doubt = fleet.pops[0].doubt().expect("eight of nine are gone");
    assert_eq!(doubt, Doubt { vanished: 8, of: 9 });
    assert_eq!(fleet.pops[0].gone().count(), 0);
    // The larger side accepts it after a while: two of nine are more than the share, and most are here.
    fleet.run(Duration::from_secs(120));
    assert_eq!(fleet.pops[5].doubt(), None);
    assert_eq!(fleet.pops[5].gone().count(), 2);
    fleet.side = vec![0; 10];
    fleet.run(Duration::from_secs(30));
    for pop in 0..10 {
        assert!(fleet.all_see(pop, Standing::Alive), "{pop}: {:?}", fleet.standings(pop));
        assert_eq!(fleet.pops[pop].doubt(), None);
    }
}

#[test]
fn a_packet_says_its_senders_name_and_not_too_often() {
    let now = Instant::now();
    let mut pops = [Membership::new(name(0), 1, 5, now), Membership::new(name(1), 1, 6, now)];
    pops[1].handle_connected(&name(0), now);
    let (_, octets) = pops[1].poll_transmit().unwrap();
    assert!(pops[0].handle_datagram(&name(1), &octets, now).is_err(), "there is no connection");
    pops[0].handle_connected(&name(1), now);
    pops[0].handle_connected(&name(2), now);
    assert_eq!(
        pops[0].handle_datagram(&name(2), &octets, now),
        Err("it speaks for somebody else".to_owned())
    );
    assert_eq!(pops[0].standings().get(&name(1)), None);
    assert_eq!(pops[0].handle_datagram(&name(1), &octets, now), Ok(()));
    assert_eq!(pops[0].standings().get(&name(1)), Some(&Standing::Alive));
    let taken = (0..1_000).filter(|_| pops[0].handle_datagram(&name(1), &octets, now).is_ok()).count();
    assert_eq!(taken, 4 * RATE as usize - 1);
    assert!(pops[0].handle_datagram(&name(1), &octets, now + Duration::from_secs(1)).is_ok());
}

proptest! {
    #[test]
    fn garbage_is_refused_or_changes_nobody_else(octets in prop::collection::vec(any::<u8>(), 0..200), cut in 0..60usize) {
        let now = Instant::now();
        let mut pop = Membership::new(name(0), 1, 5, now);
        pop.handle_connected(&name(1), now);
        let mut packet = vec![KIND];
        packet.extend(octets);
        let _ = pop.handle_datagram(&name(1), &packet, now);
        // A packet that is one, cut off somewhere and followed by anything.
        let mut other = Membership::new(name(1), 1, 6, now);
        other.handle_connected(&name(0), now);
        let (_, mut real) = other.poll_transmit().unwrap();
        real.truncate(cut);
        real.extend(&packet[1..]);
        let _ = pop.handle_datagram(&name(1), &real, now);
        prop_assert!(pop.foca.iter_membership_state().len() <= 64);
    }
}
