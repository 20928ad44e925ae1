//! The address plan both ways, and what has no place in it.

use proptest::prelude::*;

use super::*;

fn fleet() -> Fleet {
    "fd5a:1c7e:92b4::/48".parse().unwrap()
}

fn place(region: u8, pop: u8) -> Place {
    Place { region: RegionCode::new(region).unwrap(), pop }
}

fn places() -> impl Strategy<Value = Place> {
    (0..16_u8, any::<u8>()).prop_map(|(region, pop)| place(region, pop))
}

fn spots() -> impl Strategy<Value = Spot> {
    (places(), prop::sample::select(Kind::ALL.to_vec()), any::<u64>()).prop_map(|(place, kind, id)| Spot {
        place,
        kind,
        id,
    })
}

#[test]
fn the_plan_as_it_is_written() {
    let fleet = fleet();
    let text = |region, pop| {
        let place = place(region, pop);
        [fleet.subnet(place).to_string(), fleet.node(place).to_string(), fleet.resolver(place).to_string()]
    };
    assert_eq!(fleet.prefix().to_string(), "fd5a:1c7e:92b4::/48");
    assert_eq!(text(3, 1), ["fd5a:1c7e:92b4:3010::/60", "fd5a:1c7e:92b4:3010::1", "fd5a:1c7e:92b4:3010::53"]);
    assert_eq!(
        text(15, 255),
        ["fd5a:1c7e:92b4:fff0::/60", "fd5a:1c7e:92b4:fff0::1", "fd5a:1c7e:92b4:fff0::53"]
    );
    let spot = Spot { place: place(1, 2), kind: Kind::Services, id: 0xfeed_0000_0000_0001 };
    assert_eq!(fleet.address(spot).to_string(), "fd5a:1c7e:92b4:1022:feed::1");
    assert_eq!(Fleet::from_random([0x5a, 0x1c, 0x7e, 0x92, 0xb4]), fleet);
    assert_eq!((place(1, 2).to_string(), place(7, 2).to_string()), ("eu/2".into(), "7/2".into()));
}

#[test]
fn what_cannot_be_a_fleet_is_refused_with_the_remedy() {
    for (text, message, hint) in [
        ("fleet", "`fleet` is no IPv6 prefix", "sixpn init"),
        ("fd5a:1c7e:92b4::", "is no IPv6 prefix", "sixpn init"),
        ("10.0.0.0/48", "is no IPv6 prefix", "sixpn init"),
        ("fd5a:1c7e:92b4::/129", "is no IPv6 prefix", "sixpn init"),
        ("2001:db8::/48", "2001:db8:: is no unique local address", "fd00::/8"),
        ("fc5a:1c7e:92b4::/48", "is no unique local address", "fd00::/8"),
        ("fd5a:1c7e:92b4::/56", "a fleet has a /48, not a /56", "sixpn init"),
        ("fd5a:1c7e:92b4:1::/48", "has host bits", "write `fd5a:1c7e:92b4::/48`"),
        ("fd00::/48", "was not made at random", "sixpn init"),
        ("fd00:dead:beef::/48", "was not made at random", "sixpn init"),
    ] {
        let error = text.parse::<Fleet>().unwrap_err();
        assert!(error.to_string().contains(message), "{text}: {error}");
        assert!(error.hint().contains(hint), "{text}: {}", error.hint());
    }
    let long = "x\u{7}".repeat(1 << 20).parse::<Fleet>().unwrap_err().to_string();
    assert!(long.len() < 512 && !long.contains('\u{7}'));
}

#[test]
fn what_is_outside_the_plan_says_why() {
    for (address, message) in [
        ("2001:db8::1", "no unique local address"),
        ("fc5a:1c7e:92b4::1", "no unique local address"),
        ("::1", "no unique local address"),
        ("fd5a:1c7e:92b5::1", "not inside the fleet's fd5a:1c7e:92b4::/48"),
        ("fd5a:1c7e:92b4:1014::1", "of kind 4"),
        ("fd5a:1c7e:92b4:101f::1", "of kind 15"),
    ] {
        let error = fleet().explain(address.parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains(message), "{address}: {error}");
        assert!(!error.hint().is_empty());
    }
    assert_eq!(super::address("fra1").unwrap_err(), SixpnError::NoAddress("fra1".into()));
}

#[test]
fn regions_have_the_codes_of_the_first_edgeproxy() {
    let codes = ["eu", "us", "sa", "ap", "af"].map(|name| RegionCode::of(name).map(RegionCode::number));
    assert_eq!(codes, [Some(1), Some(2), Some(3), Some(4), None]);
    assert_eq!(RegionCode::new(15).map(|code| code.to_string()), Some("15".into()));
    assert_eq!(RegionCode::new(16), None);
}

proptest! {
    #[test]
    fn a_spot_comes_back_from_its_address(random: [u8; 5], spot in spots()) {
        let fleet = Fleet::from_random(random);
        let address = fleet.address(spot);
        prop_assert_eq!(fleet.explain(address), Ok(spot));
        prop_assert!(fleet.contains(address) && fleet.prefix().contains(address));
        prop_assert!(fleet.subnet(spot.place).contains(address));
        prop_assert_eq!(fleet.place(address), Some(spot.place));
    }

    #[test]
    fn two_spots_have_two_addresses(a in spots(), b in spots()) {
        prop_assert_eq!(fleet().address(a) == fleet().address(b), a == b);
    }

    #[test]
    fn two_fleets_share_nothing(a: [u8; 5], b: [u8; 5], one in spots(), other in spots()) {
        let (here, there) = (Fleet::from_random(a), Fleet::from_random(b));
        prop_assert_eq!(here.contains(there.address(other)), a == b);
        prop_assert!(a == b || here.address(one) != there.address(other));
    }

    #[test]
    fn two_pops_share_nothing(a in places(), b in places()) {
        let (one, other) = (fleet().subnet(a), fleet().subnet(b));
        prop_assert_eq!(one.contains(other.network()) || other.contains(one.network()), a == b);
        prop_assert!(fleet().prefix().contains(one.network()) && fleet().prefix().contains(one.broadcast()));
    }

    #[test]
    fn every_address_of_the_fleet_is_explained_or_says_why_not(low: u128) {
        let fleet = fleet();
        let address = Ipv6Addr::from_bits(fleet.prefix().ip().to_bits() | low >> 48);
        match fleet.explain(address) {
            Ok(spot) => prop_assert_eq!(fleet.address(spot), address),
            Err(SixpnError::UnknownKind { kind, .. }) => prop_assert!((4..16).contains(&kind)),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn no_other_address_is_explained(bits: u128) {
        let address = Ipv6Addr::from_bits(bits);
        prop_assume!(!fleet().contains(address));
        prop_assert!(fleet().explain(address).is_err());
    }

    #[test]
    fn a_fleet_that_is_taken_is_written_and_read_again(random: [u8; 5]) {
        let fleet = Fleet::from_random(random);
        prop_assert!(matches!(Fleet::new(fleet.prefix()), Err(SixpnError::NotRandom(_))) || fleet.to_string().parse() == Ok(fleet));
    }

    #[test]
    fn twelve_bits_are_a_place(number in 0..0x1000_u16) {
        prop_assert_eq!(Place::from_number(number).map(Place::number), Some(number));
    }

    #[test]
    fn any_text_is_judged(text in any::<String>()) {
        prop_assert!(text.parse::<Fleet>().is_err() || text.starts_with("fd"));
    }
}
