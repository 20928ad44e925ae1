//! A relay between real sockets: octets, ends and failures on either side.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use super::*;

struct Endless;

impl Patience for Endless {
    fn handle_progress(&mut self, _: bool, _: u64, _: u64) {}

    fn may_hold(&mut self, _: usize) -> bool {
        true
    }

    fn is_over(&mut self, _: &mut Context<'_>) -> Option<Over> {
        None
    }
}

/// A socket that the relay owns and the one that the test keeps.
fn pair() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let outside = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (inside, _) = listener.accept().unwrap();
    inside.set_nonblocking(true).unwrap();
    outside.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    outside.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    (inside.into(), outside)
}

/// Relays on a thread of its own; what the client and the backend hold.
fn relay(first: &[u8]) -> (TcpStream, TcpStream, thread::JoinHandle<Outcome>) {
    let (client, outer) = pair();
    let (backend, inner) = pair();
    let first = first.to_vec();
    let running = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Stream::new(client, true).unwrap();
            let backend = Stream::new(backend, false).unwrap();
            let relay = Relay::new(client, backend, first, Endless);
            tokio::time::timeout(Duration::from_secs(20), relay).await.expect("the relay ends")
        })
    });
    (outer, inner, running)
}

fn all(stream: &mut TcpStream) -> Vec<u8> {
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).unwrap();
    octets
}

fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

#[test]
fn half_closes_pass_both_ways() {
    let (mut client, mut backend, relay) = relay(b"header ");
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(all(&mut backend), b"header question");
    backend.write_all(b"answer").unwrap();
    drop(backend);
    assert_eq!(all(&mut client), b"answer");
    let outcome = relay.join().unwrap();
    assert!(matches!(outcome.end, RelayEnd::Finished), "{outcome:?}");
    assert_eq!((outcome.up, outcome.down), (15, 6));
}

#[test]
fn the_server_may_speak_first_and_finish_first() {
    let (mut client, mut backend, relay) = relay(b"");
    backend.write_all(b"220 ready").unwrap();
    backend.shutdown(Shutdown::Write).unwrap();
    assert_eq!(all(&mut client), b"220 ready");
    client.write_all(b"bye").unwrap();
    drop(client);
    assert_eq!(all(&mut backend), b"bye");
    assert!(matches!(relay.join().unwrap().end, RelayEnd::Finished));
}

#[test]
fn much_arrives_whole_both_ways_at_once() {
    let (client, backend, relay) = relay(b"");
    let sends = |mut stream: TcpStream, seed| {
        thread::spawn(move || {
            stream.write_all(&pattern(50 << 20, seed)).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        })
    };
    let writers = [sends(client.try_clone().unwrap(), 1), sends(backend.try_clone().unwrap(), 2)];
    let gets = |mut stream: TcpStream| thread::spawn(move || all(&mut stream));
    let (at_client, at_backend) = (gets(client), gets(backend));
    assert!(at_backend.join().unwrap() == pattern(50 << 20, 1));
    assert!(at_client.join().unwrap() == pattern(50 << 20, 2));
    for writer in writers {
        writer.join().unwrap();
    }
    let outcome = relay.join().unwrap();
    assert!(matches!(outcome.end, RelayEnd::Finished), "{outcome:?}");
}

#[test]
fn a_reset_of_either_side_resets_the_other() {
    for from_client in [true, false] {
        let (client, backend, relay) = relay(b"");
        let (gone, mut left) = if from_client { (client, backend) } else { (backend, client) };
        socket2::SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
        drop(gone);
        let error = left.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let side = if from_client { Side::Client } else { Side::Backend };
        let outcome = relay.join().unwrap();
        assert!(matches!(outcome.end, RelayEnd::Failed(by, _) if by == side), "{outcome:?}");
    }
}

#[test]
fn a_clients_reset_is_seen_while_the_backend_takes_nothing() {
    let (mut client, _backend, relay) = relay(b"");
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let chunk = vec![0; 1 << 20];
    while client.write(&chunk).is_ok() {}
    assert!(!relay.is_finished());
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let outcome = relay.join().unwrap();
    assert!(matches!(outcome.end, RelayEnd::Failed(Side::Client, _)), "{outcome:?}");
}

#[test]
fn what_a_backend_said_before_its_reset_arrives() {
    let (mut client, mut backend, relay) = relay(b"");
    client.write_all(b"a question that nobody reads").unwrap();
    backend.write_all(b"413").unwrap();
    // Closing with octets unread is a RST.
    thread::sleep(Duration::from_millis(50));
    drop(backend);
    let mut answer = [0; 3];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"413");
    assert_eq!(client.read(&mut answer).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(matches!(relay.join().unwrap().end, RelayEnd::Failed(Side::Backend, _)));
}

#[test]
fn urgent_data_does_not_stop_the_rest() {
    let (mut client, mut backend, relay) = relay(b"");
    client.write_all(b"before").unwrap();
    socket2::SockRef::from(&client).send_out_of_band(b"!").unwrap();
    client.write_all(b"after").unwrap();
    let mut got = [0; 11];
    backend.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"beforeafter");
    drop(client);
    assert_eq!(all(&mut backend), b"");
    drop(backend);
    relay.join().unwrap();
}

#[test]
fn a_backend_that_was_slow_gets_everything_once_it_reads() {
    let (client, mut backend, relay) = relay(b"");
    let sent = pattern(64 << 20, 3);
    let expected = sent.clone();
    let writer = thread::spawn(move || {
        let mut client = client;
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client
    });
    // Until everybody on the way is full, and reading is held back.
    thread::sleep(Duration::from_millis(500));
    assert!(all(&mut backend) == expected);
    drop(backend);
    drop(writer.join().unwrap());
    assert!(matches!(relay.join().unwrap().end, RelayEnd::Finished));
}

#[test]
fn a_backend_that_resets_at_once_is_no_orderly_end() {
    for _ in 0..50 {
        let (mut client, backend, relay) = relay(b"");
        socket2::SockRef::from(&backend).set_linger(Some(Duration::ZERO)).unwrap();
        drop(backend);
        // Whoever is told of the RST first is told alone.
        let told = client.write_all(b"question").and_then(|()| client.read(&mut [0; 8]));
        let error = told.expect_err("a RST, not an end").kind();
        assert!(matches!(error, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
        relay.join().unwrap();
    }
}
