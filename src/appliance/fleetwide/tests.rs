//! What the fleet adds, and what it may not touch.

use super::*;
use crate::catalog::fleet::{Member, Pop};
use crate::config::backhaul::key_text;
use crate::config::load;

const CONFIG: &str = "
generation: 1
pop: { id: gru1, region: sa }
bgp:
  asn: 64512
  router_id: 192.0.2.10
  neighbors: [{ name: up, address: 192.0.2.1, asn: 64500 }]
anycast: [{ prefix: 198.51.100.0/24, addresses: [198.51.100.1], services: [web] }]
services:
  - name: web
    from_fleet: true
    backends: [{ id: web-1, address: 10.0.0.5, port: 80 }]
  - name: local
    backends: [{ id: web-1, address: 10.0.0.6, port: 80 }]
backhaul:
  fleet: fd5a:1c7e:92b4::/48
  number: 1
  private_key_file: /nowhere/key
  peers:
    - { pop: fra1, region: eu, number: 1, public_key: KEY1 }
";

/// As a configuration with `replication`, which needs files of its own, would read.
fn config() -> Config {
    let text = CONFIG.replace("KEY1", &key_text(&[1; 32])).replace("    from_fleet: true\n", "");
    let mut config = load::parse(&text, std::path::Path::new("/")).unwrap();
    config.services.get_mut("web").unwrap().from_fleet = true;
    config
}

fn pop(place: u16, key: u8) -> Pop {
    Pop {
        region: "eu".to_owned(),
        version: "9".to_owned(),
        replication: Some("203.0.113.7:4002".parse().unwrap()),
        backhaul: Some(fleet::Backhaul {
            replication: None,
            fleet: "fd5a:1c7e:92b4::/48".to_owned(),
            place,
            listen: 51_820,
            public_key: key_text(&[key; 32]),
            next_public_key: None,
            ingress: Some(8082),
        }),
        ..Pop::default()
    }
}

fn member(pop: Pop, ids: &[&str]) -> Member {
    let backend = |id: &&str| {
        let told = fleet::Backend {
            address: [10, 0, 0, 5].into(),
            port: 80,
            region: "eu".to_owned(),
            country: Some("DE".to_owned()),
            weight: 5_000,
            state: "up".to_owned(),
        };
        (("web".into(), (*id).into()), Arc::new(told))
    };
    let backends = ids.iter().map(backend).collect();
    Member { reached: true, pop: Some(Arc::new(pop)), backends, ..Member::default() }
}

fn fleet(members: &[(&str, Member)]) -> Fleet {
    Fleet { pops: members.iter().map(|(name, member)| ((*name).into(), member.clone())).collect() }
}

#[test]
fn alone_nothing_is_added() {
    let config = config();
    let alone = Fleetwide::of(&config, &Fleet::default());
    assert_eq!(alone.backhaul.as_ref(), config.backhaul.as_deref());
    assert_eq!(alone.services, config.services);
}

#[test]
fn pops_become_peers_and_their_backends_serve_where_that_is_wanted() {
    let away = Member { reached: false, ..member(pop(0x203, 3), &[]) };
    let fleet = fleet(&[
        ("ams1", member(pop(0x102, 2), &["web-1", "a@b", ""])),
        ("fra1", member(pop(0x101, 9), &["web-1"])),
        ("gru1", member(pop(0x301, 8), &["web-1"])),
        ("iad1", away),
    ]);
    let wide = Fleetwide::of(&config(), &fleet);
    let backhaul = wide.backhaul.unwrap();
    let peers: Vec<_> = backhaul.peers.iter().map(|peer| (peer.pop.as_str(), peer.public_key[0])).collect();
    // Of fra1 the configuration says otherwise.
    assert_eq!(peers, [("fra1", 1), ("ams1", 2), ("iad1", 3)]);
    let endpoints = &backhaul.peer("ams1").unwrap().endpoints;
    assert_eq!(*endpoints, [Endpoint::Address("203.0.113.7:51820".parse().unwrap())]);
    let ids = |name: &str| wide.services[name].backends.iter().map(|it| it.id.as_str()).collect::<Vec<_>>();
    assert_eq!(ids("web"), ["web-1", "web-1@fra1", "web-1@ams1"]);
    assert_eq!(ids("local"), ["web-1"]);
    let added = &wide.services["web"].backends[2];
    assert_eq!((added.weight, &added.country, added.via_ingress), (1_000, &None, true));
    let node = backhaul.fleet.node(Place::from_number(0x102).unwrap());
    assert_eq!((added.address, added.port), (IpAddr::V6(node), 8082));
    assert!(added.is_from_fleet() && !wide.services["web"].backends[0].is_from_fleet());
    assert_eq!(wide.unreached, BTreeSet::from(["iad1".into()]));
    assert_eq!(wide.left_out, BTreeMap::new());
}

#[test]
fn what_a_pop_may_not_claim_is_left_out_and_said() {
    let other_fleet =
        fleet::Backhaul { fleet: "fd00:1:2::/48".to_owned(), ..pop(0x105, 5).backhaul.unwrap() };
    let inside = Pop { replication: Some("127.0.0.1:4002".parse().unwrap()), ..pop(0x107, 7) };
    let fleet = fleet(&[
        ("a1", member(pop(0x101, 2), &[])),
        ("b1", member(pop(0x102, 1), &[])),
        ("c1", member(pop(0x301, 3), &[])),
        ("d1", member(Pop { backhaul: Some(other_fleet), ..pop(0, 0) }, &[])),
        ("e1", member(pop(0x001, 4), &[])),
        ("f1", member(pop(0x106, 0), &[])),
        ("g1", member(inside, &[])),
    ]);
    let wide = Fleetwide::of(&config(), &fleet);
    let peers = wide.backhaul.unwrap().peers;
    assert_eq!(peers.iter().map(|peer| peer.pop.as_str()).collect::<Vec<_>>(), ["fra1", "g1"]);
    assert_eq!(peers[1].endpoints, []);
    let why: Vec<(&str, &str)> = wide.left_out.iter().map(|(pop, why)| (&**pop, why.as_str())).collect();
    let expected = [
        ("a1", "fra1 has the place eu/1 already"),
        ("b1", "another POP has its public key already"),
        ("c1", "gru1 has the place sa/1 already"),
        ("d1", "its 6PN is fd00:1:2::/48 and ours fd5a:1c7e:92b4::/48"),
        ("e1", "1 is no place in the 6PN"),
        ("f1", "its public key is none"),
    ];
    assert_eq!(why, expected);
    let off = {
        let mut config = config();
        Arc::make_mut(config.backhaul.as_mut().unwrap()).from_fleet = false;
        Fleetwide::of(&config, &fleet).backhaul.unwrap().peers.len()
    };
    assert_eq!(off, 1);
}

#[test]
fn no_pop_takes_the_room_of_the_others() {
    let ids: Vec<String> = (0..5_000).map(|number| format!("b{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let fleet = fleet(&[("ams1", member(pop(0x102, 2), &ids)), ("fra1", member(pop(0x101, 9), &["web-1"]))]);
    let backends = &Fleetwide::of(&config(), &fleet).services["web"].backends;
    assert_eq!(backends.len(), 1 + 1 + MOST_OF_ONE_POP);
    assert!(backends.iter().any(|backend| backend.id == "web-1@fra1"));
}
