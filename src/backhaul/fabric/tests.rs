//! Three POPs' fabrics in virtual time.

use super::*;
use crate::backhaul::tunnel::PrivateKey;
use crate::config::backhaul;
use crate::config::sixpn::RegionCode;

fn place(pop: u8) -> Place {
    Place { region: RegionCode::new(1).unwrap(), pop }
}

fn key(number: u8) -> PrivateKey {
    PrivateKey::new([number; 32])
}

fn outside(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 51_820))
}

fn config(ours: u8) -> Arc<Backhaul> {
    let peers = (1..=3u8).filter(|other| *other != ours).map(|other| Peer {
        pop: format!("pop{other}"),
        region: "eu".to_owned(),
        place: place(other),
        public_key: key(other).public().0,
        next_public_key: None,
        preshared: None,
        endpoints: Vec::new(),
        ingress: 8082,
        keepalive: None,
        allow: Vec::new(),
    });
    Arc::new(Backhaul {
        replication: None,
        fleet: "fd5a:1c7e:92b4::/48".parse().unwrap(),
        place: place(ours),
        private_key_file: "/nowhere".into(),
        next_private_key_file: None,
        backend: backhaul::PlaneChoice::Auto,
        interface: "edge6pn".to_owned(),
        listen: 51_820,
        mtu: None,
        offload_tun: true,
        offload_udp: true,
        ingress: Some(8082),
        relay: true,
        probe: backhaul::Probe::default(),
        from_fleet: false,
        peers: peers.collect(),
    })
}

struct World {
    pops: Vec<Fabric>,
    now: Instant,
    /// Pairs between which nothing gets through, outside or in a direct tunnel.
    cut: Vec<(usize, usize)>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let mut pops: Vec<_> =
            (1..=3u8).map(|pop| Fabric::new(config(pop), Pair::only(key(pop)), 7, now)).collect();
        for (at, pop) in pops.iter_mut().enumerate() {
            for other in (1..=3u8).filter(|other| usize::from(*other) != at + 1) {
                pop.set_addresses(&format!("pop{other}"), &[outside(other)], now);
            }
        }
        Self { pops, now, cut: Vec::new() }
    }

    fn is_cut(&self, one: usize, other: usize) -> bool {
        self.cut.contains(&(one, other)) || self.cut.contains(&(other, one))
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now += Duration::from_millis(10);
            for from in 0..3 {
                for post in self.pops[from].poll(self.now) {
                    self.carry(from, &post, 0);
                }
                self.pops[from].decide(self.now);
            }
        }
    }

    fn carry(&mut self, from: usize, post: &Post, hops: u8) {
        let fleet = self.pops[0].config.fleet;
        let inside = |pop: usize| IpAddr::V6(fleet.node(place(pop as u8 + 1)));
        let to = (0..3)
            .find(|pop| post.to.ip() == inside(*pop) || post.to.ip() == outside(*pop as u8 + 1).ip())
            .unwrap();
        let in_tunnel = post.to.ip() == inside(to);
        let relayed =
            in_tunnel && matches!(self.pops[from].way(&format!("pop{}", to + 1)), Some(Way::Relay(_)));
        let third = 3 - from - to;
        let whole = if relayed {
            !self.is_cut(from, third) && !self.is_cut(third, to)
        } else {
            !self.is_cut(from, to)
        };
        if !whole {
            return;
        }
        let source = if in_tunnel { inside(from) } else { outside(from as u8 + 1).ip() };
        let back = SocketAddr::new(source, 51_822);
        let answer = self.pops[to].handle_datagram(&post.octets, back, self.now);
        if let Some(octets) = answer.filter(|_| hops == 0) {
            // The session roams: an answer takes the way that the question came.
            let cut = std::mem::take(&mut self.cut);
            self.carry(to, &Post { to: back, octets }, 1);
            self.cut = cut;
        }
    }

    fn word(&self) -> Option<Word> {
        let remote = [Remote::new("web".into(), "b1@pop2".into(), Name::from("pop2"))];
        self.pops[0].said(&remote, self.now).into_values().next()
    }
}

#[test]
fn a_backend_is_what_its_owner_says_as_long_as_the_path_is_there() {
    let mut world = World::new();
    assert_eq!(world.word(), None);
    world.run(500);
    let Some(Word::Down(why)) = world.word() else { panic!("{:?}", world.word()) };
    assert!(why.contains("no backend of this name"), "{why}");
    let told = |state| [(("web".into(), "b1".into()), state)].into();
    world.pops[1].set_news(told(Told::Up), world.now);
    world.run(20);
    assert_eq!(world.word(), Some(Word::Up), "told at once");
    world.pops[1].set_news(told(Told::Down), world.now);
    world.run(20);
    assert_eq!(world.word(), Some(Word::Down("pop2 says that it is down".into())));
    world.pops[1].set_news(told(Told::Up), world.now);
    world.run(20);
    world.cut = vec![(0, 1), (0, 2), (1, 2)];
    world.run(600);
    let Some(Word::Down(why)) = world.word() else { panic!("{:?}", world.word()) };
    assert!(why.contains("the path to pop2 is silent"), "{why}");
    world.cut.clear();
    world.run(5_000);
    assert_eq!(world.word(), Some(Word::Up));
}

#[test]
fn a_cut_pair_is_joined_by_the_third_and_goes_back() {
    let mut world = World::new();
    let told = [(("web".into(), "b1".into()), Told::Up)];
    world.pops[1].set_news(told.into(), world.now);
    world.run(2_000);
    world.cut = vec![(0, 1)];
    world.run(700);
    assert_eq!(world.pops[0].way("pop2"), Some(&Way::Relay("pop3".into())));
    world.run(300);
    assert_eq!(world.word(), Some(Word::Up));
    let wanted = world.pops[0].wanted(|_| Some(outside(99)));
    assert_eq!(wanted.peers["pop2"].endpoint.unwrap().address, outside(99));
    assert_eq!(wanted.peers["pop2"].mtu, 1420 - RELAYED);
    assert_eq!(wanted.peers["pop3"].mtu, 1420);
    // Nobody relays through a relay.
    assert!(world.pops[2].relays(&"pop1".into(), world.now).is_empty());
    world.cut.clear();
    world.run(2_000);
    assert_eq!(world.pops[0].way("pop2"), Some(&Way::Direct(Some(outside(2)))));
}

#[test]
fn what_claims_to_come_through_the_tunnel_must() {
    let mut world = World::new();
    let post = world.pops[1].poll(world.now + Duration::from_secs(1)).swap_remove(0);
    let stranger = SocketAddr::new(outside(2).ip(), 51_822);
    assert_eq!(world.pops[0].handle_datagram(&post.octets, stranger, world.now), None);
    let node = SocketAddr::new(world.pops[0].config.fleet.node(place(2)).into(), 51_822);
    assert!(world.pops[0].handle_datagram(&post.octets, node, world.now).is_some());
}
