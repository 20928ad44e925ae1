//! A connection to the router on which a test sends every octet itself, and the POP that it goes to.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use netlab::bgp_stream::framing::{Frame, Framer};
use netlab::bgp_stream::{Kind, message};
use netlab::collector::{Collector, Options, craft};
use netlab::edgeproxy::EdgeProxy;
use netlab::link::{End, connect};
use netlab::moment::Moment;
use netlab::namespace::Namespace;
use netlab::service::{Kind as ServiceKind, Service, ServiceConfig};
use serde_json::Value;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Generous: both cores may be busy with other tests.
pub const LONG: Duration = Duration::from_secs(20);
/// What every hostile neighbor is configured as.
pub const ASN: u32 = 64666;
const ROUTER: &str = "10.0.0.2:179";

/// A router with one good neighbor, and the many from whose addresses it is treated badly.
pub struct Pop {
    // Dropped in this order.
    pub collector: Collector,
    pub router: EdgeProxy,
    _service: Service,
    upstream: Namespace,
    directory: PathBuf,
    extra: String,
    neighbors: u8,
    ready: Moment,
    pid: Option<u32>,
}

/// What a raw connection hears next.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    Message(Kind),
    /// FIN or RST.
    Closed,
    /// Nothing for as long as was waited.
    Silence,
}

/// A TCP connection from a neighbor's address, with no state machine behind it.
pub struct Raw {
    stream: TcpStream,
    framer: Framer,
}

/// The address of the hostile neighbor with this number.
pub fn hostile(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, number)
}

/// An OPEN that the router accepts from the hostile neighbor with this number.
pub fn good_open(number: u8) -> Vec<u8> {
    craft::open(ASN, 90, hostile(number), &[(1, 1)])
}

impl Pop {
    /// Starts all of it and waits until the good neighbor has the prefix. `extra` are more words of
    /// each hostile neighbor's configuration.
    pub fn new(neighbors: u8, extra: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("netlab-hostile-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (pop, upstream) = (Namespace::create("pop").unwrap(), Namespace::create("upstream").unwrap());
        let (ours, theirs) = (["10.0.0.2/16".to_owned()], ["10.0.0.1/16".to_owned()]);
        connect(
            &End { host: &pop, interface: "to-up", addresses: &ours },
            &End { host: &upstream, interface: "to-pop", addresses: &theirs },
        )
        .unwrap();
        // Every address in here is the upstream's own, without hundreds of commands; strangers live in the second.
        for local in ["10.0.1.0/24", "10.0.2.0/24"] {
            upstream.ip(&["route", "add", "local", local, "dev", "lo"]).unwrap();
        }
        let options = Options::listen(64500, Ipv4Addr::new(10, 0, 0, 1), "10.0.0.1:179".parse().unwrap());
        let collector = upstream.run(|| Collector::start(options)).unwrap().unwrap();
        let service = ServiceConfig {
            kind: ServiceKind::Http,
            name: "web-1".to_owned(),
            listen: ["10.0.0.2:8080", "198.51.100.1:80"].map(|text| text.parse().unwrap()).to_vec(),
        };
        let service = Service::start(&pop, &service, &directory).unwrap();
        let text = configuration(neighbors, extra, 1);
        let router = EdgeProxy::new(&pop, &directory, &text, &BTreeMap::new()).unwrap();
        let mut pop = Self {
            collector,
            router,
            _service: service,
            upstream,
            directory,
            extra: extra.to_owned(),
            neighbors,
            ready: Moment::ZERO,
            pid: None,
        };
        let at = pop.router.start().unwrap();
        let announced = pop.collector.wait_announce(prefix(), at, LONG);
        pop.ready = announced.unwrap_or_else(|error| panic!("{error}\n{}", pop.router.tail(30))).at;
        pop.pid = pop.router.pid();
        pop
    }

    /// Reloads with another hold time for the hostile neighbors, so that all their penalties are forgotten.
    pub fn forgive(&self, generation: u16) {
        self.router.rewrite(&configuration(self.neighbors, &self.extra, generation)).unwrap();
        self.router.reload_by_command().unwrap().unwrap();
        let applied = |status: &Value| {
            let neighbors = status["neighbors"].as_array().map_or(0, Vec::len);
            status["process"]["generation"] == generation && neighbors == usize::from(self.neighbors) + 1
        };
        self.router.wait_status("the next generation", LONG, applied).unwrap();
    }

    /// Connects from the address of the hostile neighbor with this number.
    pub fn connect(&self, number: u8) -> Raw {
        self.connect_from(hostile(number))
    }

    pub fn connect_from(&self, from: Ipv4Addr) -> Raw {
        let dial = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&SocketAddr::new(from.into(), 0).into())?;
            let to: SocketAddr = ROUTER.parse().unwrap();
            socket.connect_timeout(&SockAddr::from(to), LONG)?;
            std::io::Result::Ok(TcpStream::from(socket))
        };
        let stream = self.upstream.run(dial).unwrap().unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        Raw { stream, framer: Framer::at_start() }
    }

    /// The status of the hostile neighbor with this number.
    pub fn status_of(&self, number: u8) -> Value {
        let status = self.router.status().unwrap();
        named(&status, &format!("h{number}")).clone()
    }

    /// Waits until the status of a hostile neighbor is as wanted.
    pub fn wait_status_of(&self, number: u8, what: &str, wanted: impl Fn(&Value) -> bool) {
        let name = format!("h{number}");
        self.router.wait_status(what, LONG, |status| wanted(named(status, &name))).unwrap();
    }

    /// The good neighbor must not have noticed anything, and the process is still the first one.
    pub fn assert_unharmed(&mut self, after: &str) {
        assert_eq!(self.router.pid(), self.pid, "{after}: the process died\n{}", self.router.tail(30));
        let status = self.router.status().unwrap_or_else(|error| panic!("{after}: {error}"));
        let good = named(&status, "good");
        assert_eq!(good["state"], "Established", "{after}: {good:#}");
        assert_eq!(good["established_count"], 1, "{after}: {good:#}");
        assert!(self.collector.is_established() && self.collector.sessions() == 1, "{after}");
        assert!(self.collector.routes().contains_key(&prefix()), "{after}");
        let harm: Vec<_> = self
            .collector
            .events()
            .into_iter()
            .filter(|event| event.at > self.ready && event.kind != Kind::Keepalive)
            .filter(|event| !matches!(&event.kind, Kind::Update(update) if update.withdrawn.is_empty()))
            .collect();
        assert!(harm.is_empty(), "{after}: the good neighbor got {harm:?}");
    }
}

impl Drop for Pop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Raw {
    /// Sends octets; the router may have closed before it took all of them.
    pub fn send(&mut self, octets: &[u8]) {
        let _ = self.stream.write_all(octets);
    }

    /// Sends octets that the router must take, all of them.
    pub fn send_whole(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).unwrap_or_else(|error| panic!("the router did not take all: {error}"));
    }

    /// Sends FIN, and can still hear.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    pub fn hear(&mut self, within: Duration) -> Heard {
        let deadline = Instant::now() + within;
        let mut buffer = [0; 4096];
        loop {
            match self.framer.poll() {
                Some(Frame::Message(octets)) => return Heard::Message(message::decode(&octets, true)),
                Some(Frame::Bad(why)) => panic!("the router sent what is not BGP: {why}"),
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Heard::Silence;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut buffer) {
                Ok(0) => return Heard::Closed,
                Ok(count) => self.framer.push(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Heard::Closed,
                Err(_) => {}
            }
        }
    }

    /// Hears until `wanted` says yes; the end of the connection or silence is a failure.
    pub fn hear_until(&mut self, what: &str, wanted: impl Fn(&Kind) -> bool) -> Kind {
        loop {
            match self.hear(LONG) {
                Heard::Message(kind) if wanted(&kind) => return kind,
                Heard::Message(_) => {}
                other => panic!("waited for {what}, heard {other:?}"),
            }
        }
    }

    /// Hears what comes before the end: a NOTIFICATION's code, subcode and data, or nothing.
    pub fn hear_end(&mut self) -> Result<Option<(u8, u8, Vec<u8>)>, Heard> {
        let mut last_words = None;
        loop {
            match self.hear(LONG) {
                Heard::Message(Kind::Notification(said)) => {
                    last_words = Some((said.code, said.subcode, said.data));
                }
                Heard::Message(Kind::Open(_) | Kind::Keepalive | Kind::Update(_)) => {}
                Heard::Closed => return Ok(last_words),
                other => return Err(other),
            }
        }
    }

    pub fn hear_open(&mut self) {
        self.hear_until("an OPEN", |kind| matches!(kind, Kind::Open(_)));
    }

    /// Exchanges OPENs: the router is in OpenConfirm.
    pub fn open(&mut self, number: u8) {
        self.hear_open();
        self.send(&good_open(number));
        self.hear_until("a KEEPALIVE", |kind| *kind == Kind::Keepalive);
    }

    /// The whole handshake, and the prefix is there.
    pub fn establish(&mut self, number: u8) {
        self.open(number);
        self.send(&craft::keepalive());
        self.hear_prefix();
    }

    pub fn hear_prefix(&mut self) {
        let announces =
            |kind: &Kind| matches!(kind, Kind::Update(update) if update.announced.contains(&prefix()));
        self.hear_until("the prefix", announces);
    }
}

pub fn prefix() -> IpNetwork {
    "198.51.100.0/24".parse().unwrap()
}

fn named<'s>(status: &'s Value, name: &str) -> &'s Value {
    let neighbors = status["neighbors"].as_array().map_or(&[][..], Vec::as_slice);
    neighbors.iter().find(|neighbor| neighbor["name"] == name).unwrap_or(&Value::Null)
}

fn configuration(neighbors: u8, extra: &str, generation: u16) -> String {
    let mut text = format!(
        "
generation: {generation}
pop: {{ id: gru1, region: sa }}
anycast:
  - {{ prefix: 198.51.100.0/24, addresses: [198.51.100.1], services: [web] }}
services:
  - name: web
    backends: [{{ id: web-1, address: 10.0.0.2, port: 8080 }}]
    # Slow and patient: busy cores must not look like a failure of the service here.
    health: {{ http: {{}}, interval: 1s, fast_interval: 500ms, timeout: 5s, rise: 1, fall: 5 }}
bgp:
  asn: 64512
  router_id: 10.0.0.2
  neighbors:
    - {{ name: good, address: 10.0.0.1, asn: 64500, connect_retry: 1s }}
"
    );
    for number in 1..=neighbors {
        text.push_str(&format!(
            "    - {{ name: h{number}, address: {}, asn: {ASN}, passive: true, connect_retry: 1s, hold_time: {}s{extra} }}\n",
            hostile(number),
            90 + generation,
        ));
    }
    text
}
