//! What a packet costs, beside ring alone: `cargo test --release speed -- --ignored --nocapture`.

use super::*;

#[test]
#[ignore = "prints figures; needs a release build"]
fn seal_and_open() {
    const ROUNDS: usize = 20_000;
    let (mut a, mut b) = up();
    let mut out = vec![0; 70_000];
    for length in [64, 1420] {
        let packet = packet(length);
        let mut best = [u128::MAX; 2];
        for _ in 0..10 {
            let mut datagrams = Vec::with_capacity(ROUNDS);
            let begun = Instant::now();
            for _ in 0..ROUNDS {
                std::hint::black_box(a.seal(&packet, &mut out));
            }
            best[0] = best[0].min(begun.elapsed().as_nanos() / ROUNDS as u128);
            datagrams.extend((0..ROUNDS).map(|_| sealed(&mut a, &packet)));
            let begun = Instant::now();
            for datagram in &datagrams {
                std::hint::black_box(b.open(datagram, from(), &mut out, |_| true));
            }
            best[1] = best[1].min(begun.elapsed().as_nanos() / ROUNDS as u128);
        }
        println!("{length} octets: seal {} ns, open {} ns", best[0], best[1]);
    }
}
