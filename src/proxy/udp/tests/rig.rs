//! What the tests of a door for datagrams stand on: a backend, and workers with one door.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::catalog::backend::{Backend, Known, Verdict};
use crate::catalog::service::Service;
use crate::catalog::view::View;
use crate::config::listen::{Limits, Protocol};
use crate::config::proxy::Proxy;
use crate::config::services::Forwarding;
use crate::observe::status::traffic::{ConnectionStatus, RollCall};
use crate::proxy::plan::{Door, DoorKey, Entrance, Plan, Standing};
use crate::proxy::pulse::{self, Line};
use crate::proxy::totals::Totals;
use crate::proxy::udp::datagrams::Reason;
use crate::proxy::worker::Worker;

/// A backend that answers each datagram with its name and what it was sent.
pub(super) struct Echo {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    stop: Arc<AtomicBool>,
    running: Option<thread::JoinHandle<()>>,
}

impl Echo {
    pub(super) fn new(name: &'static str, bind: &str) -> Self {
        let socket = UdpSocket::bind(bind).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (address, stop) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let running = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let answer = [name.as_bytes(), b":", &buffer[..length]].concat();
                socket.send_to(&answer, from).unwrap();
            }
        });
        Self { name, address, stop, running: Some(running) }
    }

    /// Closes its socket.
    pub(super) fn die(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(running) = self.running.take() {
            running.join().unwrap();
        }
    }

    pub(super) fn backend(&self, hard_limit: u32) -> Backend {
        Backend {
            id: self.name.into(),
            address: self.address,
            pop: None,
            via_ingress: false,
            region: "".into(),
            country: None,
            far: 0,
            weight: 2,
            soft_limit: 100,
            hard_limit,
            drain: false,
            known: Known { verdict: Verdict::Up, ..Known::default() },
            live: Arc::default(),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.die();
    }
}

pub(super) fn view(backends: Vec<Backend>, forwarding: Forwarding) -> Arc<View> {
    let service = Service { name: "dns".into(), forwarding, backends };
    let services = [(Arc::clone(&service.name), Arc::new(service))];
    Arc::new(View { services: services.into(), ..View::default() })
}

/// Workers with one door for datagrams.
pub(super) struct Rig {
    pub(super) door: SocketAddr,
    pub(super) standing: Arc<Standing>,
    pub(super) totals: Arc<Totals>,
    pub(super) plan: watch::Sender<Arc<Plan>>,
    pub(super) view: watch::Sender<Arc<View>>,
    calls: Vec<mpsc::Sender<RollCall>>,
    stop: CancellationToken,
    running: Vec<thread::JoinHandle<()>>,
    _lines: Vec<Line>,
}

impl Rig {
    pub(super) fn new(workers: usize, bind: &str, limits: Limits, first: Arc<View>) -> Self {
        let door = UdpSocket::bind(bind).unwrap().local_addr().unwrap();
        let standing: Arc<Standing> = Arc::default();
        let key = DoorKey { protocol: Protocol::Udp, address: door };
        let plan = Plan {
            limits: Proxy { drain: Duration::ZERO, ..Proxy::default() },
            doors: [(
                key,
                Arc::new(Door {
                    key,
                    socket: Default::default(),
                    limits,
                    proxy_from: vec![],
                    entrance: Entrance::Service("dns".into()),
                    flows: Arc::default(),
                    admission: Arc::default(),
                    handshake: Duration::ZERO,
                    standing: Arc::clone(&standing),
                }),
            )]
            .into(),
            tallies: [("dns".into(), Arc::default())].into(),
            certificates: Arc::default(),
            tickets: Arc::default(),
            pop: "gru1".into(),
            workers: workers as u32,
        };
        let (plan, _) = watch::channel(Arc::new(plan));
        let (view, _) = watch::channel(first);
        let (totals, stop, started) = (Arc::new(Totals::default()), CancellationToken::new(), Instant::now());
        let (mut calls, mut lines, mut running) = (vec![], vec![], vec![]);
        for index in 0..workers {
            let (line, wrist) = pulse::line().unwrap();
            let (call, asked) = mpsc::channel(1);
            calls.push(call);
            lines.push(line);
            let (plan, view) = (plan.subscribe(), view.subscribe());
            let worker = Worker::new(
                index,
                plan,
                view,
                Arc::clone(&totals),
                asked,
                wrist,
                watch::channel(Arc::default()).1,
                started,
            );
            let stop = stop.clone();
            running.push(thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = { runtime }.enable_all().build_local(Default::default()).unwrap();
                runtime.block_on(worker.run(stop)).unwrap();
            }));
        }
        let rig = Self { door, standing, totals, plan, view, calls, stop, running, _lines: lines };
        rig.until(|rig| rig.standing.listening.load(Ordering::Relaxed) == workers as u32);
        rig
    }

    pub(super) fn until(&self, done: impl Fn(&Self) -> bool) {
        for _ in 0..1_000 {
            if done(self) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("not within ten seconds: {:?}", self.standing);
    }

    pub(super) fn client(&self) -> UdpSocket {
        let any = if self.door.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let client = UdpSocket::bind(any).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client
    }

    /// Who answers, after it was seen that the answer is right and comes from the door.
    pub(super) fn ask(&self, client: &UdpSocket, question: &[u8]) -> String {
        client.send_to(question, self.door).unwrap();
        self.hear(client, question).expect("an answer")
    }

    pub(super) fn hear(&self, client: &UdpSocket, question: &[u8]) -> Option<String> {
        let mut buffer = vec![0; 1 << 16];
        let (length, from) = client.recv_from(&mut buffer).ok()?;
        assert_eq!(from, self.door);
        let colon = buffer.iter().position(|octet| *octet == b':').unwrap();
        assert!(buffer[colon + 1..length] == *question);
        Some(String::from_utf8(buffer[..colon].to_vec()).unwrap())
    }

    /// Asks without hope.
    pub(super) fn is_dropped(&self, client: &UdpSocket, reason: Reason) -> bool {
        let before = self.standing.datagrams.dropped(reason);
        client.send_to(b"?", self.door).unwrap();
        self.until(|rig| rig.standing.datagrams.dropped(reason) > before);
        client.set_nonblocking(true).unwrap();
        self.hear(client, b"?").is_none()
    }

    pub(super) fn roll(&self, worker: usize) -> Vec<ConnectionStatus> {
        let (reply, list) = oneshot::channel();
        self.calls[worker].try_send(RollCall { most: 1_000, reply }).unwrap();
        list.blocking_recv().unwrap()
    }

    pub(super) fn flows(&self) -> u32 {
        self.standing.open.load(Ordering::Relaxed)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
        for worker in self.running.drain(..) {
            worker.join().unwrap();
        }
        // Whatever happened, everything was given back.
        assert_eq!((self.flows(), self.totals.open()), (0, 0));
    }
}
