//! The loads of `netlab bench proxy` through copy_bidirectional: every kind of work gets through, and lies are seen.
#![allow(clippy::print_stdout)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netlab::bench::backend::Backend;
use netlab::bench::certificate::Certificate;
use netlab::bench::column::Column;
use netlab::bench::cores::Cores;
use netlab::bench::frame::Ask;
use netlab::bench::link::{self, Target};
use netlab::bench::load::Load;
use netlab::bench::load::exchange::Exchanges;
use netlab::bench::measure::{Method, Outcome};
use netlab::bench::peer::{Peer, Running, Setting};
use netlab::namespace::Namespace;
use netlab::sys::descriptors;
use netlab::sys::namespace::is_root;

fn is_skipped(test: &str) -> bool {
    if !is_root() {
        println!("SKIPPED {test}: it needs root for network namespaces");
    }
    !is_root()
}

#[test]
fn every_column_works_and_nothing_breaks() {
    if is_skipped("every_column_works_and_nothing_breaks") {
        return;
    }
    let Ok(cores) = Cores::choose() else {
        println!("SKIPPED: it needs two processors");
        return;
    };
    descriptors::allow(12_000).unwrap();
    let work = std::env::temp_dir().join(format!("netlab-{}-bench-test", std::process::id()));
    std::fs::create_dir_all(&work).unwrap();
    let namespace = Namespace::create("bench").unwrap();
    let backend = Backend::start(&namespace, cores.load).unwrap();
    let certificate = Certificate::make(&work).unwrap();
    let setting = Setting::of(Peer::Copy, &certificate, &work).unwrap();
    let mut running = Running::start(Peer::Copy, &Peer::Copy.find().unwrap(), &setting, &namespace).unwrap();
    let pid = running.pid();
    let method = Method {
        cpu: cores.load,
        window: Duration::from_millis(300),
        client: link::client_config().unwrap(),
        counters: Arc::clone(&backend.counters),
        rate: 500.0,
    };
    for column in Column::ALL {
        let sample = namespace.run(|| method.measure(column, &setting, pid)).unwrap();
        let sample = sample.unwrap_or_else(|error| panic!("{column}: {error}\n{}", running.tail()));
        assert_eq!(sample.broken.count, 0, "{column}: {:?}", sample.broken);
        match sample.outcome {
            Outcome::Work { work, cpu, .. } => assert!(work > 0.0 && cpu > 0.0, "{column}: {sample:?}"),
            Outcome::Memory { kilobytes } => {
                assert!((1.0..200.0).contains(&kilobytes), "{column}: {sample:?}");
            }
            Outcome::Latency { p50, p99, .. } => assert!(0.0 < p50 && p50 <= p99, "{column}: {sample:?}"),
        }
    }
    drop(running);
    let _ = std::fs::remove_dir_all(work);
}

#[test]
fn refused_and_wrongly_answered_connections_count_as_broken() {
    if is_skipped("refused_and_wrongly_answered_connections_count_as_broken") {
        return;
    }
    let namespace = Namespace::create("bench").unwrap();
    let liar = namespace.run(|| std::net::TcpListener::bind("127.0.0.1:7999").unwrap()).unwrap();
    let lies = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = liar.accept().unwrap();
        let mut request = [0; 100];
        stream.read_exact(&mut request).unwrap();
        request[5] ^= 1;
        stream.write_all(&request).unwrap();
    });
    for address in ["127.0.0.1:7999", "127.0.0.1:7998"] {
        let target = Target { address: address.parse::<SocketAddr>().unwrap(), tls: None };
        let run = || {
            let mut load = Exchanges::new(&target, Ask::Keep, 1)?;
            load.run(Instant::now() + Duration::from_millis(200))?;
            std::io::Result::Ok((load.work(), load.broken().count))
        };
        let (work, broken) = namespace.run(run).unwrap().unwrap();
        assert!(work == 0.0 && broken > 0, "{address}: {work} done, {broken} broken");
    }
    lies.join().unwrap();
}
