//! Flows of datagrams between real sockets.

mod rig;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use self::rig::{Echo, Rig, view};
use super::datagrams::Reason;
use super::*;
use crate::catalog::backend::{Backend, Verdict};
use crate::catalog::live::Live;
use crate::config::listen::{Limits, Protocol};
use crate::config::services::{Forwarding, SendProxy};
use crate::proxy::plan::{DoorKey, Entrance, Plan};

fn wanted(client: usize, round: usize) -> Vec<u8> {
    let length = [0, 1, 48, 1_200, 9_000][(client + round) % 5];
    (0..length).map(|at| (client * 31 + round * 7 + at) as u8).collect()
}

#[test]
fn ten_thousand_datagrams_through_two_workers() {
    const CLIENTS: usize = 20;
    const ROUNDS: usize = 250;
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let echo = Echo::new("a", bind);
        let backend = echo.backend(0);
        let live = Arc::clone(&backend.live);
        let rig = Rig::new(2, bind, Limits::default(), view(vec![backend], Forwarding::default()));
        let clients: Vec<_> = (0..CLIENTS).map(|_| rig.client()).collect();
        for round in 0..ROUNDS {
            // So many are under way at once.
            for (index, client) in clients.iter().enumerate() {
                client.send_to(&wanted(index, round), rig.door).unwrap();
            }
            for (index, client) in clients.iter().enumerate() {
                let heard = rig.hear(client, &wanted(index, round));
                assert_eq!(heard.as_deref(), Some("a"), "{index} {round} {:?}", rig.standing);
            }
        }
        let status = rig.standing.datagrams.status();
        let all = (CLIENTS * ROUNDS) as u64;
        assert_eq!((status.up, status.down, status.dropped.len()), (all, all, 0));
        assert_eq!(status.down_bytes, status.up_bytes + 2 * all);
        assert_eq!((rig.flows(), live.connections()), (CLIENTS as u32, CLIENTS as u32));
        let rolls = [rig.roll(0), rig.roll(1)];
        assert_eq!(rolls[0].len() + rolls[1].len(), CLIENTS);
        assert!(rolls.iter().all(|roll| !roll.is_empty()), "the kernel gave all clients to one worker");
        assert_eq!(rolls.iter().flatten().map(|it| it.up_bytes).sum::<u64>(), status.up_bytes);
        drop(rig);
        assert_eq!(live.connections(), 0);
        assert_eq!(live.carried.up.load(Ordering::Relaxed), status.up_bytes);
        assert_eq!(live.carried.connections.load(Ordering::Relaxed), CLIENTS as u64);
    }
}

/// Two backends, a client, and the index of the one that serves it.
fn two(rig_of: &str) -> ([Echo; 2], [Backend; 2], Rig, UdpSocket, usize) {
    let echoes = [Echo::new("a", rig_of), Echo::new("b", rig_of)];
    let backends = [echoes[0].backend(0), echoes[1].backend(0)];
    let rig = Rig::new(1, rig_of, Limits::default(), view(backends.to_vec(), Forwarding::default()));
    let client = rig.client();
    let first = usize::from(rig.ask(&client, b"1") == "b");
    // A flow stays where it is.
    for _ in 0..20 {
        assert_eq!(rig.ask(&client, b"again"), echoes[first].name);
    }
    (echoes, backends, rig, client, first)
}

fn places(backends: &[Backend; 2], of: usize) -> (u32, u32) {
    (backends[of].live.connections(), backends[1 - of].live.connections())
}

#[test]
fn after_a_backend_died_the_next_datagram_goes_to_the_other() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let (mut echoes, backends, rig, client, first) = two(bind);
        assert_eq!(places(&backends, first), (1, 0));
        echoes[first].die();
        // This one is lost: that nobody listens is known only after it.
        client.send_to(b"2", rig.door).unwrap();
        let failures = |live: &Live| live.carried.failures.load(Ordering::Relaxed);
        rig.until(|_| failures(&backends[first].live) == 1);
        assert_eq!(rig.ask(&client, b"3"), echoes[1 - first].name);
        assert_eq!(places(&backends, first), (0, 1));
        assert_eq!(rig.ask(&client, b"4"), echoes[1 - first].name);
        assert_eq!((failures(&backends[first].live), failures(&backends[1 - first].live)), (1, 0));
        assert_eq!((rig.flows(), rig.roll(0)[0].backend.as_deref()), (1, Some(echoes[1 - first].name)));
        assert_eq!(rig.roll(0)[0].why.as_deref(), Some("best, attempt 2 after backend-refused"));
    }
}

#[test]
fn a_flow_leaves_a_backend_that_goes_down_or_is_removed() {
    let (echoes, mut backends, rig, client, first) = two("127.0.0.1:0");
    backends[first].known.verdict = Verdict::Down;
    rig.view.send_replace(view(backends.to_vec(), Forwarding::default()));
    // The worker hears of it in its own time.
    let other = echoes[1 - first].name;
    rig.until(|rig| rig.ask(&client, b"2") == other);
    assert_eq!(places(&backends, first), (0, 1));
    backends[first].known.verdict = Verdict::Up;
    rig.view.send_replace(view(vec![backends[first].clone()], Forwarding::default()));
    rig.until(|rig| rig.ask(&client, b"3") == echoes[first].name);
    assert_eq!(places(&backends, first), (1, 0));
    rig.view.send_replace(view(vec![], Forwarding::default()));
    thread::sleep(Duration::from_millis(100));
    assert!(rig.is_dropped(&client, Reason::NoBackend));
    assert_eq!((rig.flows(), places(&backends, first)), (0, (0, 0)));
}

#[test]
fn bounds_keep_newcomers_out_and_nobody_has_to_go() {
    let limits = |connections, per_source| Limits { connections, per_source, ..Limits::default() };
    let table = [
        (limits(2, 0), 0, Reason::Limited),
        (limits(0, 2), 0, Reason::Crowded),
        (limits(0, 0), 2, Reason::NoBackend),
    ];
    for (limits, hard_limit, reason) in table {
        let echo = Echo::new("a", "127.0.0.1:0");
        let backend = echo.backend(hard_limit);
        let mut forwarding = Forwarding::default();
        forwarding.timeouts.udp_idle = Duration::from_millis(1_500);
        let rig = Rig::new(2, "127.0.0.1:0", limits, view(vec![backend.clone()], forwarding));
        let inside = [rig.client(), rig.client()];
        for client in &inside {
            rig.ask(client, b"first");
        }
        for _ in 0..3 {
            assert!(rig.is_dropped(&rig.client(), reason), "{reason:?}");
            for client in &inside {
                rig.ask(client, b"still here");
            }
        }
        assert_eq!((rig.flows(), backend.live.connections()), (2, 2));
        // Silence ends flows, and gives their places to others.
        let began = Instant::now();
        rig.until(|rig| rig.flows() == 0);
        assert!(began.elapsed() >= Duration::from_millis(1_400), "{:?}", began.elapsed());
        assert_eq!(backend.live.connections(), 0);
        rig.ask(&rig.client(), b"now");
    }
}

#[test]
fn whoever_is_over_its_time_makes_room_at_once() {
    let echo = Echo::new("a", "127.0.0.1:0");
    let mut forwarding = Forwarding::default();
    forwarding.timeouts.udp_idle = Duration::from_millis(100);
    let limits = Limits { connections: 1, ..Limits::default() };
    let rig = Rig::new(1, "127.0.0.1:0", limits, view(vec![echo.backend(0)], forwarding));
    // More often than flows are looked for that are over their time.
    for _ in 0..6 {
        rig.ask(&rig.client(), b"first");
        thread::sleep(Duration::from_millis(120));
    }
    assert_eq!(rig.standing.datagrams.dropped(Reason::Limited), 0);
}

#[test]
fn the_first_datagram_says_who_the_client_is() {
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    backend.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let it = Backend { address: backend.local_addr().unwrap(), ..Echo::new("a", "127.0.0.1:0").backend(0) };
    let forwarding = Forwarding { send_proxy: SendProxy::V2, ..Forwarding::default() };
    let rig = Rig::new(1, "127.0.0.1:0", Limits::default(), view(vec![it], forwarding));
    let client = rig.client();
    let mut buffer = [0; 100];
    let header = preface::header(client.local_addr().unwrap(), rig.door);
    for wanted in [[&header[..], b"one"].concat(), b"two".to_vec()] {
        client.send_to(&wanted[wanted.len() - 3..], rig.door).unwrap();
        let length = backend.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], wanted);
    }
}

#[test]
fn a_door_that_leaves_the_plan_ends_its_flows() {
    let (_echoes, backends, rig, _client, first) = two("127.0.0.1:0");
    rig.plan.send_replace(Arc::default());
    rig.until(|rig| rig.standing.listening.load(Ordering::Relaxed) == 0);
    assert_eq!((rig.flows(), places(&backends, first)), (0, (0, 0)));
    // Its address is free again.
    UdpSocket::bind(rig.door).unwrap();
}

#[test]
fn a_flood_of_datagrams_does_not_starve_connections() {
    let echo = Echo::new("a", "127.0.0.1:0");
    let rig =
        Rig::new(1, "127.0.0.1:0", Limits::default(), view(vec![echo.backend(0)], Forwarding::default()));
    // The same address and port, for streams.
    let web = TcpListener::bind(echo.address).unwrap();
    rig.plan.send_modify(|plan| {
        let udp = plan.doors.values().next().unwrap();
        let key = DoorKey { protocol: Protocol::Tcp, ..udp.key };
        let tcp = Door {
            key,
            limits: Limits::default(),
            socket: udp.socket,
            proxy_from: vec![],
            entrance: Entrance::Service("dns".into()),
            flows: Arc::default(),
            admission: Arc::default(),
            handshake: Duration::ZERO,
            standing: Arc::default(),
        };
        let mut doors = plan.doors.clone();
        doors.insert(key, Arc::new(tcp));
        let plan_of = Plan {
            limits: plan.limits.clone(),
            doors,
            tallies: plan.tallies.clone(),
            certificates: Arc::default(),
            tickets: Arc::default(),
            pop: "gru1".into(),
            workers: 1,
        };
        *plan = Arc::new(plan_of);
    });
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let client = rig.client();
            while !stop.load(Ordering::Relaxed) {
                // A full queue is what a flood is about.
                let _ = client.send_to(&[7; 100], rig.door);
            }
        });
        rig.until(|rig| rig.standing.datagrams.status().up > 1_000);
        let mut client = (0..100)
            .find_map(|_| {
                thread::sleep(Duration::from_millis(20));
                TcpStream::connect(rig.door).ok()
            })
            .expect("the door for streams opens");
        let (mut server, _) = web.accept().unwrap();
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        let mut slowest = Duration::ZERO;
        for round in 0..200u8 {
            let began = Instant::now();
            let mut got = [0; 2];
            client.write_all(&[round]).unwrap();
            server.read_exact(&mut got[..1]).unwrap();
            server.write_all(&got[..1]).unwrap();
            client.read_exact(&mut got[1..]).unwrap();
            assert_eq!(got, [round; 2]);
            slowest = slowest.max(began.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        println!("slowest of 200 round trips {slowest:?}; {:?}", rig.standing.datagrams.status());
    });
}

/// Figures, for a look: `cargo test --release --lib udp::tests::figures -- --ignored --nocapture`.
#[test]
#[ignore = "measures, asserts nothing"]
fn figures() {
    const FLOWS: usize = 64;
    const PER_FLOW: usize = 4;
    let echo = Echo::new("a", "127.0.0.1:0");
    let rig =
        Rig::new(1, "127.0.0.1:0", Limits::default(), view(vec![echo.backend(0)], Forwarding::default()));
    let mut clients: Vec<_> = (0..FLOWS).map(|_| rig.client()).collect();
    let began = Instant::now();
    let mut round_trips = 0;
    while began.elapsed() < Duration::from_secs(5) {
        for client in &clients {
            for _ in 0..PER_FLOW {
                client.send_to(&[7; 100], rig.door).unwrap();
            }
        }
        for client in &clients {
            for _ in 0..PER_FLOW {
                rig.hear(client, &[7; 100]).expect("an answer");
                round_trips += 1;
            }
        }
    }
    let rate = f64::from(round_trips) / began.elapsed().as_secs_f64();
    println!("{rate:.0} round trips a second, {FLOWS} flows, one worker");
    let _ = crate::sys::descriptors::raise_limit();
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let before = resident();
    let began = Instant::now();
    const MORE: usize = 8_000;
    for _ in 0..MORE {
        let client = rig.client();
        rig.ask(&client, b"first");
        clients.push(client);
    }
    let per_flow = (resident() - before) / MORE;
    println!("{MORE} new flows in {:?}; {per_flow} octets resident for each", began.elapsed());
    println!("dropped {:?}", rig.standing.datagrams.status().dropped);
}
