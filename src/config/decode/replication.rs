//! Reads the `fleet` and `replication` sections.

use std::net::{Ipv6Addr, SocketAddr};

use super::listen::file;
use crate::config::backhaul::Endpoint;
use crate::config::certificate::{self, Files};
use crate::config::listen::PrivateKey;
use crate::config::pop::Pop;
use crate::config::pop_certificate::{Authorities, Untrusted};
use crate::config::read::{Fields, Letters, Spot, Unique};
use crate::config::replication::{Key, Limits, PORT, Peer, Replication};

const MOST_PEERS: usize = 1024;
const MOST_AUTHORITY_FILES: usize = 2;
const ISSUE: &str = "`edgeproxy fleet invite` makes it, and `edgeproxy fleet join` puts it in its place";

/// What the `fleet` section says.
pub(super) struct Fleet {
    name: Option<String>,
    voters: Option<Vec<String>>,
}

pub(super) fn fleet(spot: &Spot<'_>) -> Option<Fleet> {
    let mut fields = spot.fields()?;
    let name = fields.need("name").and_then(|spot| spot.name(Letters::Domain, 1..=63));
    let voters = match fields.get("voters") {
        Some(spot) => voters(&spot),
        None => Some(Vec::new()),
    };
    fields.close(&[]);
    Some(Fleet { name, voters })
}

fn voters(spot: &Spot<'_>) -> Option<Vec<String>> {
    let mut claims = Unique::default();
    let mut voters = Vec::new();
    for voter in spot.list(5)? {
        let name = voter.name(Letters::Label, 1..=32)?;
        if claims.claim(&voter, &name) {
            voters.push(name);
        }
    }
    if !matches!(voters.len(), 0 | 3 | 5) {
        spot.refuse(
            format!("{} voters", voters.len()),
            "3 or 5: a majority of them has to agree, and with an even number one failure stops as much",
        );
        return None;
    }
    Some(voters)
}

/// `fleet` is None if it could not be read, and `pop` too.
pub(super) fn decode(
    spot: &Spot<'_>,
    fleet: Option<Fleet>,
    pop: Option<&Pop>,
    files: &Files<'_>,
) -> Option<Replication> {
    let mut fields = spot.fields()?;
    let listen = match fields.get("listen") {
        Some(spot) => spot.socket(),
        None => Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT))),
    };
    let advertise = fields.get("advertise").map(|spot| advertised(&spot));
    let name = fleet.as_ref().and_then(|fleet| fleet.name.as_deref());
    let identity = identity(&mut fields, name, pop, files);
    let listed = match fields.get("peers") {
        Some(spot) => spot.list(MOST_PEERS),
        None => Some(Vec::new()),
    };
    let limits = fields.get("limits").map_or(Some(Limits::default()), |spot| limits(&spot));
    fields.close(&[]);
    let mut claims = Unique::default();
    let own = pop.map(|pop| pop.id.as_str());
    let peers: Vec<Option<Peer>> = listed?.iter().map(|spot| peer(spot, own, &mut claims)).collect();
    let (certificate, key, authorities) = identity?;
    let fleet = fleet?;
    Some(Replication {
        fleet: fleet.name?,
        voters: fleet.voters?,
        listen: listen?,
        advertise: match advertise {
            Some(advertise) => Some(advertise?),
            None => None,
        },
        certificate,
        key,
        authorities,
        peers: peers.into_iter().collect::<Option<_>>()?,
        limits: limits?,
    })
}

fn advertised(spot: &Spot<'_>) -> Option<SocketAddr> {
    let socket = spot.socket()?;
    if socket.ip().is_unspecified() || socket.ip().is_loopback() || socket.port() == 0 {
        spot.refuse(format!("others cannot reach {socket}"), "the address and UDP port that others send to");
        return None;
    }
    Some(socket)
}

type Identity = (Vec<u8>, Key, Vec<Vec<u8>>);

/// Certificate, key and authorities, which have to belong together, to this fleet and to this POP.
fn identity(
    fields: &mut Fields<'_>,
    fleet: Option<&str>,
    pop: Option<&Pop>,
    files: &Files<'_>,
) -> Option<Identity> {
    let certificate_at = fields.need("certificate");
    let chain = certificate_at.as_ref().and_then(|spot| file(spot, |name| files.chain(name)));
    let key_at = fields.need("key");
    let key = key_at.as_ref().and_then(|spot| file(spot, |name| files.key(name)));
    let authorities = fields.need("authorities").and_then(|spot| {
        let listed = spot.filled_list(MOST_AUTHORITY_FILES)?;
        let read: Vec<_> = listed.iter().map(|spot| file(spot, |name| files.authorities(name))).collect();
        Some(read.into_iter().collect::<Option<Vec<_>>>()?.concat()).map(|all| (spot, all))
    });
    let (chain, key, (authorities_at, authorities)) = (chain?, key?, authorities?);
    let key_at = key_at?;
    if let Err(refusal) = certificate::belongs(&chain, &key) {
        key_at.refuse(refusal.message, refusal.hint);
        return None;
    }
    let PrivateKey::Pkcs8(key) = key else {
        key_at.refuse("the key is not in PKCS #8", ISSUE);
        return None;
    };
    let judge = match Authorities::new(fleet?, &authorities) {
        Ok(judge) => judge,
        Err(error) => {
            authorities_at.refuse(error.to_string(), "`ca.pem` of `edgeproxy fleet init`");
            return None;
        }
    };
    let (certificate_at, certificate) = (certificate_at?, chain.into_iter().next()?);
    // Its end is watched while the process runs: a machine that restarts too late must still come up.
    match (judge.pop_of(&certificate, None), pop) {
        (Ok(found), Some(pop)) if found != pop.id => {
            let another = Untrusted::Another { wanted: pop.id.clone(), found };
            certificate_at.refuse(another.to_string(), ISSUE);
            None
        }
        (Ok(_), _) => Some((certificate, Key(key), authorities)),
        (Err(error), _) => {
            certificate_at.refuse(error.to_string(), ISSUE);
            None
        }
    }
}

fn peer(spot: &Spot<'_>, own: Option<&str>, claims: &mut Unique) -> Option<Peer> {
    let mut fields = spot.fields()?;
    let pop_at = fields.need("pop");
    let pop = pop_at.as_ref().and_then(|spot| spot.name(Letters::Label, 1..=32));
    let region = fields.need("region").and_then(|spot| super::pop::region(&spot));
    let address = fields.get("address").map(|spot| super::backhaul::endpoint(&spot, None, PORT));
    fields.close(&[]);
    let (pop, pop_at) = (pop?, pop_at?);
    if own == Some(&pop) {
        pop_at.refuse(format!("`{pop}` is this POP itself"), "only the others stand here");
        return None;
    }
    if !claims.claim(&pop_at, &pop) {
        return None;
    }
    let address: Option<Option<Endpoint>> = address.map_or(Some(None), |address| address.map(Some));
    Some(Peer { pop, region: region?, address: address? })
}

fn limits(spot: &Spot<'_>) -> Option<Limits> {
    let mut fields = spot.fields()?;
    let mut limits = Limits::default();
    let mut ok = true;
    for (key, into, range) in [
        ("rows", &mut limits.rows, 100..=1_000_000),
        ("rows_per_second", &mut limits.rows_per_second, 10..=1_000_000),
        ("total_rows", &mut limits.total_rows, 1_000..=100_000_000),
    ] {
        if let Some(spot) = fields.get(key) {
            match spot.number(range) {
                Some(number) => *into = number,
                None => ok = false,
            }
        }
    }
    for (key, into, range) in [
        ("octets", &mut limits.octets, 1 << 20..=1 << 30),
        ("total_octets", &mut limits.total_octets, 1 << 24..=1 << 36),
    ] {
        if let Some(spot) = fields.get(key) {
            match spot.size(range) {
                Some(size) => *into = size,
                None => ok = false,
            }
        }
    }
    fields.close(&[]);
    ok.then_some(limits)
}
