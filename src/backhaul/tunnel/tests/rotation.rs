//! Keys change at both ends while packets fly.

use super::*;

/// A packet on its way: when it arrives, whether it goes to B, its octets.
type Flying = Vec<(u64, bool, Vec<u8>)>;

#[test]
fn ten_thousand_packets_a_second_across_a_rotation_lose_none() {
    let start = Instant::now();
    let (mut a, mut b) = two(start);
    join(&mut a, &mut b, start);
    let (a1, a2, b1, b2) = (key(1), key(3), key(2), key(4));
    let both =
        |present: &PrivateKey, next: &PrivateKey| Pair { present: present.clone(), next: Some(next.clone()) };
    let seen = |present: &PrivateKey, next: &PrivateKey| Pair {
        present: present.public(),
        next: Some(next.public()),
    };
    let mut out = vec![0; 2048];
    let mut flying: Flying = Vec::new();
    let (mut sent, mut came, mut seed) = (0, 0, 1u64);
    // Steps of 100 µs: one packet each way in each, delayed by 5 to 15 ms, so that they overtake each other.
    for step in 0..30_000u64 {
        let now = start + Duration::from_micros(step * 100);
        let mut fly = |to_b: bool, datagram: Vec<u8>| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            flying.push((step + 50 + (seed >> 33) % 100, to_b, datagram));
        };
        match step {
            5_000 => a.set_keys(both(&a1, &a2), Pair::only(b1.public()), now),
            7_000 => b.set_keys(both(&b1, &b2), seen(&a1, &a2), now),
            9_000 => a.set_keys(both(&a1, &a2), seen(&b1, &b2), now),
            25_000 => a.set_keys(Pair::only(a2.clone()), Pair::only(b2.public()), now),
            25_500 => b.set_keys(Pair::only(b2.clone()), Pair::only(a2.public()), now),
            _ => {}
        }
        if step % 1000 == 0 {
            while let Some(datagram) = a.tick(now, &mut out).map(<[u8]>::to_vec) {
                fly(true, datagram);
            }
            while let Some(datagram) = b.tick(now, &mut out).map(<[u8]>::to_vec) {
                fly(false, datagram);
            }
        }
        if step < 29_000 {
            for (to_b, end) in [(true, &mut a), (false, &mut b)] {
                fly(to_b, sealed(end, &packet(64)));
                sent += 1;
            }
        }
        let due: Flying = flying.extract_if(.., |(at, ..)| *at <= step).collect();
        for (_, to_b, datagram) in due {
            let end = if to_b { &mut b } else { &mut a };
            match end.open(&datagram, from(), &mut out, |_| true) {
                Opened::Packet(_) => came += 1,
                Opened::Reply(reply) => flying.push((step + 70, !to_b, reply.to_vec())),
                _ => {}
            }
        }
    }
    assert_eq!(came, sent, "{:?} {:?}", a.counters(), b.counters());
    assert_eq!(a.sending_keys(), Some((a2.public(), b2.public())));
    assert_eq!(b.sending_keys(), Some((b2.public(), a2.public())));
}
