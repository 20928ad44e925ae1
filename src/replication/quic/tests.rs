//! Doors on the loopback interface: who is let in, and what is heard then.

use std::time::Instant;

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::timeout;

use super::*;
use crate::replication::head::tests::head;
use crate::replication::head::{Head, SIGNATURE, Signed};
use crate::replication::identity::Authority;
use crate::replication::merge::Limits;
use crate::replication::record::{Key, Row, Table, Value};
use crate::replication::version::Point;

const LONG: Duration = Duration::from_secs(10);

fn identity(authority: &Authority, pop: &str) -> Identity {
    let invitation = authority.invite(pop, 30, time::OffsetDateTime::now_utc()).unwrap();
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
    let authorities = Arc::new(Authorities::new("example", &[der(authority.certificate())]).unwrap());
    let key = PrivatePkcs8KeyDer::from_pem_slice(invitation.key.unwrap().as_bytes()).unwrap();
    Identity::new(authorities, &der(&invitation.certificate), key.secret_pkcs8_der()).unwrap()
}

fn authority() -> Authority {
    Authority::new("example", time::OffsetDateTime::now_utc()).unwrap()
}

struct Pop {
    identity: Identity,
    door: Door,
    heard: mpsc::Receiver<Heard>,
    _accepting: tokio::task::JoinHandle<()>,
}

impl Pop {
    fn new(authority: &Authority, name: &str) -> Self {
        let identity = identity(authority, name);
        let (tell, heard) = mpsc::channel(64);
        let door = Door::open(SocketAddr::from(([127, 0, 0, 1], 0)), &identity, tell).unwrap();
        let accepting = tokio::spawn(door.accept(Arc::clone(identity.authorities())));
        Self { identity, door, heard, _accepting: accepting }
    }

    async fn hear(&mut self) -> Heard {
        timeout(LONG, self.heard.recv()).await.expect("something is heard").unwrap()
    }

    async fn dial(&mut self, name: &str, address: SocketAddr) -> Heard {
        let peer = Origin::new(name).unwrap();
        self.door.dial(&peer, address, &self.identity).unwrap().await;
        self.hear().await
    }
}

#[tokio::test]
async fn two_pops_of_one_fleet_meet_and_both_know_whom() {
    let authority = authority();
    let (mut fra1, mut gru1) = (Pop::new(&authority, "fra1"), Pop::new(&authority, "gru1"));
    let address = gru1.door.address().unwrap();
    let Heard::Connected { connection, dialed: true, .. } = fra1.dial("gru1", address).await else {
        panic!()
    };
    let Heard::Connected { peer, connection: theirs, dialed: false } = gru1.hear().await else { panic!() };
    assert_eq!(peer.as_str(), "fra1");
    tokio::spawn(gru1.door.converse(peer, theirs));

    // Rows, unasked.
    let row = Row { key: Key::new(Table(1), b"k").unwrap(), version: 1, value: Value::new(1, 1, b"v") };
    let signed = Signed { head: head(1, 1), certificate: vec![1].into(), signature: [0; SIGNATURE] };
    let offer = Offer { head: signed.clone(), after: Some(0), rows: vec![Arc::new(row.clone())] };
    let push = Request::Push { spread: true, offer: offer.clone() };
    ask::push(connection.clone(), push.octets().into()).await;
    let Heard::Push { spread: true, offer: heard, .. } = gru1.hear().await else { panic!() };
    assert_eq!(heard, offer);

    // A question for many rows, and one that is answered with nothing.
    let rows: Vec<_> = (1..=50_000u64)
        .map(|version| {
            let key = Key::new(Table(1), &version.to_be_bytes()).unwrap();
            Arc::new(Row { key, version, value: Value::new(1, 1, &[7; 40]) })
        })
        .collect();
    let weight = rows.iter().map(|row| row.weight() as u64).sum();
    let head = Head { rows: 50_000, weight, ..head(1, 50_000) };
    let many = Offer { head: Signed { head, ..signed }, after: None, rows };
    let origin = Origin::new("gru1").unwrap();
    let limits = Limits { rows: 60_000, ..Limits::default() };
    for (answer, limits, expected) in [
        (Ok(Some(many.clone())), limits, Fetched::Rows(many.clone())),
        // More than we would keep is not even read.
        (Ok(Some(many.clone())), Limits { rows: 1_000, ..limits }, Fetched::Later(Duration::from_secs(2))),
        (Ok(None), limits, Fetched::Nothing),
        (Err(Duration::from_millis(70)), limits, Fetched::Later(Duration::from_millis(70))),
    ] {
        let asked =
            tokio::spawn(ask::fetch(connection.clone(), origin.clone(), Some(Point::new(1, 2)), limits));
        let Heard::Fetch { answer: reply, .. } = gru1.hear().await else { panic!() };
        let room = Arc::new(tokio::sync::Semaphore::new(1)).acquire_owned().await.unwrap();
        let _ = reply.send(answer.map(|offer| offer.map(|offer| Served { offer, room })));
        assert_eq!(timeout(LONG, asked).await.unwrap().unwrap(), expected);
    }
    // The connection ends in the middle of an answer: what has come is told.
    let asked = tokio::spawn(ask::fetch(connection, origin, None, limits));
    let Heard::Fetch { answer: reply, .. } = gru1.hear().await else { panic!() };
    let room = Arc::new(tokio::sync::Semaphore::new(1)).acquire_owned().await.unwrap();
    let _ = reply.send(Ok(Some(Served { offer: many.clone(), room })));
    tokio::time::sleep(Duration::from_millis(5)).await;
    gru1.door.close().await;
    match timeout(LONG, asked).await.unwrap().unwrap() {
        Fetched::Part(part) => assert_eq!(part.rows, many.rows[..part.rows.len()]),
        Fetched::Rows(all) => assert_eq!(all, many),
        // Not even the head.
        other => assert_eq!(other, Fetched::Later(Duration::from_secs(2))),
    }
}

#[tokio::test]
async fn strangers_and_wrong_names_hear_nothing() {
    let (ours, theirs) = (authority(), authority());
    let (mut fra1, gru1, mut stranger) =
        (Pop::new(&ours, "fra1"), Pop::new(&ours, "gru1"), Pop::new(&theirs, "fra1"));
    let address = gru1.door.address().unwrap();
    // Another authority, on either side.
    let Heard::Unreached { why, .. } = stranger.dial("gru1", address).await else { panic!() };
    assert!(why.contains("no authority of this fleet"), "{why}");
    let strange = stranger.door.address().unwrap();
    let Heard::Unreached { .. } = fra1.dial("fra1", strange).await else { panic!() };
    // The POP that answers is not the one that was dialed.
    let Heard::Unreached { why, .. } = fra1.dial("sin1", address).await else { panic!() };
    assert!(why.contains("not of sin1"), "{why}");
    // Nobody is there.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (started, silent) = (Instant::now(), socket.local_addr().unwrap());
    let Heard::Unreached { .. } = fra1.dial("gru1", silent).await else { panic!() };
    assert!(started.elapsed() < LONG);
}

#[tokio::test]
async fn before_a_handshake_no_answer_is_larger_than_the_question() {
    let gru1 = Pop::new(&authority(), "gru1");
    let address = gru1.door.address().unwrap();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(address).await.unwrap();
    // An Initial as any QUIC client sends it (RFC 9000 §17.2.2), with a payload that nobody can read; versions that
    // nobody knows; and garbage.
    let mut initial = vec![0xc3, 0, 0, 0, 1, 8];
    initial.extend_from_slice(&[7; 8]);
    initial.extend_from_slice(&[8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0x44, 0xb0]);
    initial.resize(1_200, 0x5a);
    let mut unknown = initial.clone();
    unknown[1..5].copy_from_slice(&[0xba, 0xba, 0xba, 0xba]);
    for question in [initial, unknown, vec![0xff; 1_200], vec![0x40; 40], vec![0; 1]] {
        socket.send(&question).await.unwrap();
        let mut answer = [0; 65_536];
        let mut octets = 0;
        while let Ok(read) = timeout(Duration::from_millis(200), socket.recv(&mut answer)).await {
            octets += read.unwrap_or(0);
        }
        assert!(octets <= question.len(), "{octets} for {}", question.len());
    }
}
