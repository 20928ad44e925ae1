//! The observer against real things: BIRD as the peer, the kernel's packets, two namespaces.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "support/pair.rs"]
mod pair;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ipnetwork::IpNetwork;
use netlab::address_watch::AddressWatch;
use netlab::bgp_stream::{Event, Kind, Timeline};
use netlab::capture::{self, Capture, Filter, NoteKind};
use netlab::collector::{self, Collector, craft};
use netlab::moment::Moment;
use netlab::traffic::{Client, EchoServer};
use pair::{Pair, ip};

const LONG: Duration = Duration::from_secs(20);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

/// BIRD in a directory of its own; ended when dropped.
struct Bird {
    child: Child,
    directory: std::path::PathBuf,
}

impl Bird {
    fn start(name: &str, configuration: &str) -> Bird {
        let directory = std::env::temp_dir().join(format!("netlab-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("bird.conf"), configuration).unwrap();
        let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let child = Command::new("bird")
            .args(["-f", "-c", &file("bird.conf"), "-s", &file("ctl"), "-P", &file("pid")])
            .stdout(Stdio::null())
            .spawn()
            .expect("bird2 is installed");
        Bird { child, directory }
    }

    fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.child.id() as i32)
    }

    fn tell(&self, command: &str) {
        let socket = self.directory.join("ctl").to_string_lossy().into_owned();
        let done = Command::new("birdc").args(["-s", &socket, command]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

const BIRD: &str = "
router id 10.9.0.2;
protocol device {}
protocol static four { ipv4; route 198.51.100.0/24 blackhole; }
protocol static six { ipv6; route 2001:db8:5::/48 blackhole; }
protocol bgp near {
  local 10.9.0.2 as 64500;
  neighbor 10.9.0.1 as 4200000001;
  connect delay time 1; error wait time 1, 1; connect retry time 1;
  ipv4 { import all; export filter { bgp_community.add((64500, 666)); bgp_large_community.add((64500, 1, 2)); bgp_med = 50; accept; }; };
  ipv6 { import all; export all; };
}
";

#[test]
fn the_collector_and_the_capture_agree_about_bird() {
    let Some(pair) = Pair::enter("the_collector_and_the_capture_agree_about_bird") else { return };
    let pcap = std::env::temp_dir().join(format!("netlab-observer-{}.pcap", std::process::id()));
    let watch =
        Capture::start("near", capture::Options { pcap: Some(pcap.clone()), ..Default::default() }).unwrap();
    let options = collector::Options::listen(
        4_200_000_001,
        Ipv4Addr::new(10, 9, 0, 1),
        "10.9.0.1:179".parse().unwrap(),
    );
    let neighbor = Collector::start(options).unwrap();
    let bird = pair.far(|| Bird::start("agree", BIRD));

    neighbor.wait_established(LONG).unwrap();
    let (four, six) = (prefix("198.51.100.0/24"), prefix("2001:db8:5::/48"));
    let announced = neighbor.wait_announce(four, Moment::ZERO, LONG).unwrap();
    neighbor.wait_announce(six, Moment::ZERO, LONG).unwrap();
    let attributes = &announced.update().unwrap().attributes;
    assert_eq!(attributes.as_path, [64500]);
    assert_eq!(attributes.next_hop, Some(address("10.9.0.2")));
    assert_eq!(attributes.med, Some(50));
    assert_eq!(attributes.communities, ["64500:666"]);
    assert_eq!(attributes.large_communities, ["64500:1:2"]);
    assert_eq!(neighbor.routes().keys().copied().collect::<Vec<_>>(), [four, six]);

    // What the collector announces reaches BIRD, and BIRD does not mind it.
    neighbor
        .send_raw(&craft::announce(&[prefix("203.0.113.0/24")], &[4_200_000_001], address("10.9.0.1")))
        .unwrap();
    neighbor
        .send_raw(&craft::announce(&[prefix("2001:db8:77::/48")], &[4_200_000_001], address("2001:db8:9::1")))
        .unwrap();
    let before = Moment::now();
    bird.tell("disable four");
    bird.tell("disable six");
    let withdrawn = neighbor.wait_withdraw(four, before, LONG).unwrap();
    assert!(withdrawn.at.since(before) < LONG);
    neighbor.wait_withdraw(six, before, LONG).unwrap();
    let routes = Command::new("birdc")
        .args(["-s", &bird.directory.join("ctl").to_string_lossy(), "show route all"])
        .output()
        .unwrap();
    let routes = String::from_utf8_lossy(&routes.stdout);
    assert!(routes.contains("203.0.113.0/24") && routes.contains("2001:db8:77::/48"), "{routes}");

    // Asked again, nothing but End-of-RIB can come; then an end by the operator, with its text.
    neighbor.send_route_refresh(1).unwrap();
    bird.tell("disable near \"gone for lunch\"");
    let end = neighbor.wait_notification(before, LONG).unwrap();
    assert!(matches!(&end.kind, Kind::Notification(n) if n.code == 6 && n.text == "gone for lunch"), "{end}");
    neighbor.wait_closed(before, LONG).unwrap();
    drop(bird);

    let read = neighbor.stop();
    let seen = watch.stop();
    assert_eq!((seen.dropped, seen.failed), (0, None));
    let from_bird = |event: &&Event| event.from == address("10.9.0.2") && event.kind != Kind::Connect;
    let wire: Vec<&Event> = seen.events.iter().filter(from_bird).collect();
    // BIRD's connection may have been tried before and refused; the messages are the same all the same.
    let messages = |event: &&&Event| !matches!(event.kind, Kind::Closed { .. });
    let wire: Vec<&Event> = wire.iter().filter(messages).copied().collect();
    let read: Vec<&Event> = read.iter().filter(|event| !matches!(event.kind, Kind::Closed { .. })).collect();
    let kinds = |events: &[&Event]| events.iter().map(|event| event.kind.to_string()).collect::<Vec<_>>();
    assert_eq!(kinds(&wire), kinds(&read));
    let mut late: Vec<f64> = read.iter().zip(&wire).map(|(read, wire)| read.at.ms_after(wire.at)).collect();
    late.sort_by(f64::total_cmp);
    println!("read after the wire by (ms): {late:?}");
    assert!(late[0] > -0.5, "a message cannot be read before it is on the wire: {late:?}");
    assert!(late[late.len() / 2] < 20.0, "{late:?}");

    // The other direction was seen on the wire too.
    let timeline = Timeline::new(&seen.events);
    assert!(
        timeline.first_announce(prefix("203.0.113.0/24"), Some(address("10.9.0.1")), Moment::ZERO).is_some()
    );
    assert_eq!(timeline.updates(four, Some(address("10.9.0.2")), Moment::ZERO, Moment::MAX), 2);
    let read_back = Command::new("tcpdump").args(["-nr", &pcap.to_string_lossy()]).output().unwrap();
    assert!(String::from_utf8_lossy(&read_back.stdout).lines().count() > 10);
    std::fs::remove_file(&pcap).unwrap();
}

#[test]
fn a_collector_can_misbehave() {
    let Some(pair) = Pair::enter("a_collector_can_misbehave") else { return };
    let bird = pair.far(|| Bird::start("misbehave", BIRD));
    let dial_with = |change: &dyn Fn(&mut collector::Options)| {
        let to = "10.9.0.2:179".parse().unwrap();
        let mut options = collector::Options::dial(
            4_200_000_001,
            Ipv4Addr::new(10, 9, 0, 1),
            Some(address("10.9.0.1")),
            to,
        );
        change(&mut options);
        let neighbor = Collector::start(options).unwrap();
        neighbor.wait_established(LONG).unwrap();
        neighbor
    };
    let dial = || dial_with(&|_| {});
    // RFC 4271 §6.1: Connection Not Synchronized.
    let neighbor = dial();
    let after = Moment::now();
    neighbor.send_raw(&craft::header([0; 16], 19, craft::KEEPALIVE, &[])).unwrap();
    let end = neighbor.wait_notification(after, LONG).unwrap();
    assert!(matches!(&end.kind, Kind::Notification(n) if (n.code, n.subcode) == (1, 1)), "{end}");
    drop(neighbor);

    // A router that stands still is given up when the hold timer says so.
    let neighbor = dial_with(&|options| options.hold_s = 3);
    let after = Moment::now();
    nix::sys::signal::kill(bird.pid(), nix::sys::signal::Signal::SIGSTOP).unwrap();
    let end = neighbor.wait_closed(after, LONG).unwrap();
    nix::sys::signal::kill(bird.pid(), nix::sys::signal::Signal::SIGCONT).unwrap();
    assert!((1500.0..8000.0).contains(&end.at.ms_after(after)), "{}", end.at.ms_after(after));
    assert!(neighbor.routes().is_empty());
    drop(neighbor);

    // Many prefixes, then a reset: the session is gone at the other side at once, and comes back.
    let neighbor = dial();
    neighbor
        .send_raw(&craft::announce(
            &craft::many(Ipv4Addr::new(20, 0, 0, 0), 20_000),
            &[4_200_000_001],
            address("10.9.0.1"),
        ))
        .unwrap();
    neighbor.pause_reading();
    neighbor.resume_reading();
    let sessions = neighbor.sessions();
    let after = Moment::now();
    neighbor.reset().unwrap();
    neighbor.wait_event("a new OPEN", after, LONG, |event| matches!(event.kind, Kind::Open(_))).unwrap();
    neighbor.wait_established(LONG).unwrap();
    assert_eq!(neighbor.sessions(), sessions + 1);
    assert!(neighbor.wait_withdraw(prefix("192.0.2.0/24"), after, Duration::from_millis(5)).is_err());
    drop(bird);
}

#[test]
fn traffic_is_counted_at_both_ends_and_on_the_wire() {
    let Some(pair) = Pair::enter("traffic_is_counted_at_both_ends_and_on_the_wire") else { return };
    let anycast: SocketAddr = "198.51.100.1:7000".parse().unwrap();
    ip("route add 198.51.100.0/24 via 10.9.0.2");
    // The server is there before its address is.
    let (server, watch) = pair.far(move || {
        let server = EchoServer::start("gru1", &[anycast]).unwrap();
        ip("address add 198.51.100.1/32 dev lo");
        let filter =
            Filter { tally: vec![anycast.ip()], tcp_ports: vec![8080], arp: true, ..Filter::default() };
        (server, Capture::start("far", capture::Options { filter, pcap: None }).unwrap())
    });
    let sources: Vec<SocketAddr> = vec!["10.9.0.1:0".parse().unwrap(); 4];
    let start = Moment::now();
    let client = Client::start(anycast, &sources, 5000).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let cut = Moment::now();
    pair.far(|| ip("address delete 198.51.100.1/32 dev lo"));
    std::thread::sleep(Duration::from_millis(300));
    // A probe to a port of interest is noted, with its SYN.
    let _ = std::net::TcpStream::connect_timeout(&"10.9.0.2:8080".parse().unwrap(), Duration::from_secs(1));
    let record = client.stop();
    let seen = watch.stop();
    let arrived = server.stop();

    let sent = record.sent(start, cut);
    println!("sent {sent}, arrived {}, on the wire {}", arrived.total(), seen.tally.total());
    assert!((1000..=5200).contains(&sent), "{sent} sent in a second");
    assert!(record.percent_answered(start, cut - Duration::from_millis(50)).unwrap() > 99.0);
    let by = record.by_pop(Moment::ZERO, Moment::MAX);
    assert_eq!(by.keys().collect::<Vec<_>>(), ["gru1"]);
    // Some arrived while the address was being taken away, and could not be answered from it: no more than are sent
    // in the 250 ms that this may take (see below).
    assert!((by["gru1"]..by["gru1"] + 1_250).contains(&arrived.total()));
    let last = record.last_answer("gru1", start, Moment::MAX).unwrap();
    // The socket stays, so the last answer leaves around the cut; the wire goes on bringing packets.
    assert!(last.ms_after(cut) < 250.0, "{}", last.ms_after(cut));
    assert!(seen.tally.last(cut, Moment::MAX).unwrap() > last);
    assert!(record.longest_gap(start, record.span().unwrap().1).length > Duration::from_millis(100));
    assert_eq!(seen.dropped, 0);
    assert!(
        seen.notes
            .iter()
            .any(|note| matches!(&note.kind, NoteKind::Tcp { to, syn: true, .. } if to.port() == 8080))
    );
    assert!(seen.notes.iter().any(|note| matches!(note.kind, NoteKind::Arp { .. })));
    let median = {
        let mut times = record.round_trips_ms(start, cut);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    println!("median round trip {median:.3} ms");
    assert!(median < 20.0);
}

#[test]
fn addresses_are_seen_to_come_and_go() {
    let Some(_pair) = Pair::enter("addresses_are_seen_to_come_and_go") else { return };
    let watch = AddressWatch::start().unwrap();
    let start = Moment::now();
    ip("address add 198.51.100.1/32 dev lo");
    ip("address add 2001:db8:5::1/128 dev lo");
    let bound = watch.wait(address("198.51.100.1"), true, start, LONG).unwrap();
    assert!(bound.at >= start);
    assert!(watch.wait(address("198.51.100.1"), false, start, Duration::from_millis(5)).is_none());
    ip("address delete 2001:db8:5::1/128 dev lo");
    ip("address delete 198.51.100.1/32 dev lo");
    let changes = watch.stop();
    let mut story: Vec<_> = changes.iter().map(|change| (change.address.to_string(), change.bound)).collect();
    // An IPv6 address is told again once it is known to be the only one.
    story.dedup();
    let (four, six) = ("198.51.100.1".to_owned(), "2001:db8:5::1".to_owned());
    assert_eq!(story, [(four.clone(), true), (six.clone(), true), (six, false), (four, false)]);
}

#[test]
fn the_kernel_passes_what_the_rule_passes() {
    let Some(pair) = Pair::enter("the_kernel_passes_what_the_rule_passes") else { return };
    ip("address add 198.51.100.1/32 dev lo");
    ip("address add 2001:db8:5::1/128 dev lo");
    pair.far(|| {
        ip("route add 198.51.100.0/24 via 10.9.0.1");
        ip("route add 2001:db8:5::/48 via 2001:db8:9::1");
    });
    let rule = Filter {
        tcp_ports: vec![8080],
        addresses: vec![address("198.51.100.1"), address("2001:db8:5::1")],
        tally: vec![],
        arp: true,
    };
    // So many terms that the kernel passes everything, and the function alone decides.
    let mut large = rule.clone();
    large.tcp_ports.extend(50_000..50_100);
    let start = |filter| Capture::start("near", capture::Options { filter, pcap: None }).unwrap();
    let (by_kernel, by_rule) = (start(rule), start(large));
    pair.far(|| {
        for to in [
            "10.9.0.1:8080",
            "10.9.0.1:8081",
            "10.9.0.1:179",
            "198.51.100.1:81",
            "[2001:db8:9::1]:8080",
            "[2001:db8:9::1]:8081",
            "[2001:db8:9::1]:179",
            "[2001:db8:5::1]:81",
        ] {
            let to: SocketAddr = to.parse().unwrap();
            // Refused by all; the packets are what matters.
            assert!(std::net::TcpStream::connect_timeout(&to, LONG).is_err());
            let from: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
            std::net::UdpSocket::bind(from).unwrap().send_to(b"x", to).unwrap();
        }
    });
    let (by_kernel, by_rule) = (by_kernel.stop(), by_rule.stop());
    let kinds =
        |seen: &capture::Seen| seen.notes.iter().map(|note| format!("{:?}", note.kind)).collect::<Vec<_>>();
    assert_eq!(kinds(&by_kernel), kinds(&by_rule));
    let events =
        |seen: &capture::Seen| seen.events.iter().map(|event| event.kind.clone()).collect::<Vec<_>>();
    assert_eq!(events(&by_kernel), events(&by_rule));
    assert_eq!(events(&by_kernel).iter().filter(|kind| **kind == Kind::Connect).count(), 2);
    // Little else came out of the kernel: a SYN and its RST for each BGP connection, and again if repeated.
    let unnoted = by_kernel.packets - by_kernel.notes.len() as u64;
    assert!((4..=8).contains(&unnoted), "{unnoted}");
    let count =
        |wanted: &dyn Fn(&NoteKind) -> bool| by_kernel.notes.iter().filter(|note| wanted(&note.kind)).count();
    // A SYN each (it may be repeated) to port 8080 of two addresses and to the two named addresses.
    let dialled: BTreeSet<SocketAddr> = by_kernel
        .notes
        .iter()
        .filter_map(|note| match note.kind {
            NoteKind::Tcp { to, syn: true, .. } => Some(to),
            _ => None,
        })
        .collect();
    assert_eq!(dialled.len(), 4, "{dialled:?}");
    assert_eq!(count(&|kind| matches!(kind, NoteKind::Udp { .. })), 2);
    assert!(count(&|kind| matches!(kind, NoteKind::Arp { .. })) >= 2);
}
