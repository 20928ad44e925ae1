//! How fast sessions are, for whoever asks: `cargo test --release --lib session::speed -- --ignored --nocapture`.
//!
//! Figures are printed, and nothing is asserted: machines are noisy.

use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use rustls::client::Resumption;

use super::client::{Kind, NAME, Server, V12, V13, client, hear, section, shake};
use super::*;
use crate::proxy::tls::provider::Preference;
use crate::proxy::tls::record::MOST_PLAIN;

/// For each figure.
const TIME: Duration = Duration::from_millis(500);
/// Records that are sealed or opened in one go, as the relay does.
const RECORDS: usize = 16;

/// How often a second `work` can be done, by the time that it says it took.
fn rate(mut work: impl FnMut() -> Duration) -> f64 {
    let (mut taken, mut times) = (Duration::ZERO, 0);
    while taken < TIME {
        taken += work();
        times += 1;
    }
    f64::from(times) / taken.as_secs_f64()
}

#[test]
#[ignore = "prints figures; for release builds"]
fn handshakes() {
    for (version, kind) in [(V13, Kind::Ecdsa), (V13, Kind::Rsa), (V12, Kind::Ecdsa), (V12, Kind::Rsa)] {
        for resumed in [false, true] {
            let server = Server::new(&section(kind));
            let mut config = client(version, Preference::Aes, None);
            if !resumed {
                config.resumption = Resumption::disabled();
            }
            let config = Arc::new(config);
            let name = rustls::pki_types::ServerName::try_from(NAME).unwrap();
            let mut group = "";
            let rate = rate(|| {
                let mut client = rustls::ClientConnection::new(Arc::clone(&config), name.clone()).unwrap();
                let (mut said, mut out, mut plain) = (Vec::new(), Vec::new(), Vec::new());
                let mut taken = Duration::ZERO;
                let mut hand = None;
                loop {
                    while client.wants_write() {
                        client.write_tls(&mut said).unwrap();
                    }
                    let began = Instant::now();
                    let step = hand
                        .take()
                        .unwrap_or_else(|| Box::new(server.handshake()))
                        .advance(&mut said, &mut out, &mut plain)
                        .unwrap();
                    taken += began.elapsed();
                    hear(&mut client, &out).unwrap();
                    out.clear();
                    match step {
                        Step::More(more) => hand = Some(more),
                        Step::Done(_, agreed) => {
                            group = agreed.group;
                            return taken;
                        }
                    }
                }
            });
            let how = if resumed { "resumed" } else { "full" };
            println!("{version:?} {kind:?} {group} {how}: {rate:.0} handshakes/s of the server's time");
        }
    }
}

#[test]
#[ignore = "prints figures; for release builds"]
fn bulk() {
    for (version, preference) in [(V13, Preference::Aes), (V13, Preference::Chacha), (V12, Preference::Aes)] {
        let server = Server::new(&section(Kind::Ecdsa));
        let config = Arc::new(client(version, preference, None));
        let mut pair = shake(&server, &config, usize::MAX).unwrap_or_else(|it| panic!("{it:?}"));
        let cipher = pair.agreed.cipher;
        let gigabytes = |rate: f64| rate * (RECORDS * MOST_PLAIN) as f64 / 1e9;
        let (before, behind) = pair.session.margins();
        let slot = before + MOST_PLAIN + behind;
        let mut buffer = vec![0; RECORDS * slot];
        let sealing = rate(|| {
            let began = Instant::now();
            buffer.chunks_exact_mut(slot).for_each(|record| pair.session.seal(record));
            black_box(&buffer);
            began.elapsed()
        });
        let mut places = Vec::new();
        let opening = rate(|| {
            let mut sealed = Vec::new();
            for _ in 0..RECORDS {
                pair.client.writer().write_all(&buffer[..MOST_PLAIN]).unwrap();
                pair.client.write_tls(&mut sealed).unwrap();
            }
            places.clear();
            let began = Instant::now();
            pair.session.open(&mut sealed, &mut places, &mut Vec::new()).unwrap();
            let taken = began.elapsed();
            assert_eq!(places.iter().map(ExactSizeIterator::len).sum::<usize>(), RECORDS * MOST_PLAIN);
            taken
        });
        println!("{cipher}: seals {:.2} GB/s, opens {:.2} GB/s", gigabytes(sealing), gigabytes(opening));
    }
}
