//! Origins as their writers know them, and what they say as somebody gets it over the wire.

use std::sync::Arc;

use edgeproxy::replication::frame::{Request, pack, unpack};
use edgeproxy::replication::head::{Head, SIGNATURE, Signed};
use edgeproxy::replication::identity::{Authority, Identity, Notary};
use edgeproxy::replication::merge::{Ledger, Limits, Offer};
use edgeproxy::replication::own::Own;
use edgeproxy::replication::record::{Change, Key, Row, Table, Value};
use edgeproxy::replication::replica::Trust;
use edgeproxy::replication::version::Origin;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// Octets of a key and of a body: about what a backend with its address, weight and limits takes.
pub const KEY: usize = 16;
pub const BODY: usize = 64;

/// More than any column has.
pub const LIMITS: Limits = Limits {
    rows: 1_000_000,
    weight: 1 << 30,
    rate: 1_000_000_000,
    total_rows: 1_000_000,
    total_weight: 1 << 30,
};

/// One origin with its own ledger.
pub struct Pen {
    pub origin: Origin,
    own: Own,
    ledger: Ledger,
    notary: Option<Notary>,
    /// Rows that were ever asked for: no two bodies are the same.
    asked: u64,
}

impl Pen {
    pub fn new(number: u64) -> Self {
        let origin = origin(number);
        let own = Own::begin(origin.clone(), 0, None, 7);
        Self { origin, own, ledger: Ledger::new(LIMITS), notary: None, asked: 0 }
    }

    /// One whose heads are truly signed.
    pub fn signing(number: u64, authority: &Authority) -> Self {
        Self { notary: Some(notary(authority, origin(number).as_str())), ..Self::new(number) }
    }

    /// Writes these keys; every `grave`th of them is deleted instead. None: all of them were deleted before.
    pub fn write(&mut self, keys: impl Iterator<Item = u64>, grave: u64) -> Option<Offer> {
        let change = |number: u64| {
            self.asked += 1;
            let mut body = [0x2e; BODY];
            body[..8].copy_from_slice(&self.asked.to_be_bytes());
            let value = (grave == 0 || !self.asked.is_multiple_of(grave)).then(|| Value::new(1, 1, &body));
            Change { key: key(number), value: value.flatten() }
        };
        let changes: Vec<Change> = keys.map(change).collect();
        let before = self.own.head(self.ledger.head(&self.origin).map(|signed| &signed.head));
        let after = Some(before.point.version);
        let prepared = self.ledger.prepare(before, &changes, 0);
        let (head, rows) = prepared.unwrap()?;
        let offer = Offer { head: self.sign(head), after, rows };
        self.ledger.take(offer.clone()).unwrap();
        Some(offer)
    }

    fn sign(&self, head: Head) -> Signed {
        match &self.notary {
            Some(notary) => notary.sign(head),
            None => Signed { head, certificate: [4; 420].into(), signature: [5; SIGNATURE] },
        }
    }

    /// All its rows.
    pub fn whole(&self) -> Offer {
        fetched(&self.ledger.lacking(&self.origin, None).expect("it has written"))
    }
}

pub fn origin(number: u64) -> Origin {
    Origin::new(&format!("pop{number}")).unwrap()
}

/// Keys as they come: in no order.
pub fn key(number: u64) -> Key {
    let mut octets = [0x6b; KEY];
    octets[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Key::new(Table(number as u16 % 3), &octets).unwrap()
}

/// An offer as it is pushed: in octets.
pub fn pushed(offer: &Offer) -> Vec<u8> {
    Request::Push { spread: false, offer: offer.clone() }.octets()
}

/// What was pushed, for somebody who has no octet of it in common with its writer.
pub fn read(octets: &[u8]) -> Offer {
    match Request::read(octets) {
        Ok(Request::Push { offer, .. }) => offer,
        other => panic!("{other:?}"),
    }
}

/// Rows that come in blocks.
fn fetched(offer: &Offer) -> Offer {
    let mut rows = Vec::with_capacity(offer.rows.len());
    let mut rest = offer.rows.iter().peekable();
    while let Some(block) = pack(&mut rest) {
        unpack(&block, |row: Row| rows.push(Arc::new(row))).unwrap();
    }
    Offer { head: offer.head.clone(), after: offer.after, rows }
}

/// Who signs for a POP, and judges the heads of all of the same fleet, `example`.
pub fn notary(authority: &Authority, pop: &str) -> Notary {
    let now = time::OffsetDateTime::from(std::time::SystemTime::now());
    let certificate =
        |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate").to_vec();
    let invitation = authority.invite(pop, 30, now).unwrap();
    let key = invitation.key.expect("it was made here");
    let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let believed = [certificate(authority.certificate())];
    let authorities = edgeproxy::config::pop_certificate::Authorities::new("example", &believed).unwrap();
    let identity =
        Identity::new(Arc::new(authorities), &certificate(&invitation.certificate), key.secret_pkcs8_der());
    Notary::new(Arc::new(identity.unwrap()))
}
