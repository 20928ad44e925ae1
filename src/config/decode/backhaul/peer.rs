//! Reads one peer of the backhaul.

use std::path::Path;
use std::time::Duration;

use super::{Known, pop, region};
use crate::config::backhaul::{Endpoint, Peer, Port, Protocol};
use crate::config::base64;
use crate::config::bgp::Secret;
use crate::config::read::{Letters, Spot, shown, whole};
use crate::config::secret;
use crate::config::sixpn::Place;

const MOST_ENDPOINTS: usize = 8;
const MOST_PORTS: usize = 32;
const KEEPALIVE: Duration = Duration::from_secs(25);

pub(super) fn decode(spot: &Spot<'_>, known: &mut Known, base: &Path) -> Option<Peer> {
    let mut fields = spot.fields()?;
    let pop = fields.need("pop").and_then(|spot| {
        let pop = spot.name(Letters::Label, 1..=32)?;
        if known.ours.as_ref().is_some_and(|(ours, _)| *ours == pop) {
            spot.refuse(
                format!("{} is this POP itself", shown(&pop)),
                "name another POP, or leave this peer away",
            );
            return None;
        }
        known.pops.claim(&spot, &pop).then_some(pop)
    });
    let name = fields.need("region").and_then(|spot| pop::region(&spot));
    let code_at = fields.get("region_code");
    let region = name.as_ref().and_then(|name| region(name, code_at.as_ref(), fields.spot()));
    let number_at = fields.need("number");
    let number = number_at.as_ref().and_then(|spot| spot.number(0..=255));
    let place = region.zip(number).map(|(region, pop)| Place { region, pop });
    if let (Some(place), Some(spot)) = (place, &number_at) {
        if known.ours.as_ref().is_some_and(|(_, ours)| *ours == place) {
            spot.refuse(
                format!("{place} is this POP's own place"),
                "every POP of a region has a number of its own",
            );
        } else {
            known.places.claim(spot, &place.to_string());
        }
    }
    let mut key = |at: Option<Spot<'_>>| {
        let spot = at?;
        let key = public_key(&spot)?;
        known.keys.claim(&spot, &base64::encode(&key)).then_some(key)
    };
    let public_key = key(fields.need("public_key"));
    let next_public_key = key(fields.get("next_public_key"));
    fields.never(
        "private_key",
        "keys never stand in the configuration",
        "a peer's private key is nobody's but its own",
    );
    fields.never(
        "preshared_key",
        "secrets never stand in the configuration",
        "name its file with `preshared_key_file`",
    );
    let preshared_key = fields.get("preshared_key_file").and_then(|spot| preshared(&spot, base));
    let endpoints = fields.get("endpoints").and_then(|spot| spot.list(MOST_ENDPOINTS)).unwrap_or_default();
    let endpoints = endpoints.iter().filter_map(endpoint).collect();
    let ingress = fields.get("ingress").and_then(|spot| spot.number(1..=65535)).unwrap_or(8082);
    let keepalive = match fields.get("keepalive") {
        None => Some(KEEPALIVE),
        Some(spot) if spot.is_off() => None,
        Some(spot) => spot.duration(Duration::from_secs(1)..=Duration::from_secs(65_535)),
    };
    let allow = fields.get("allow").and_then(|spot| spot.list(MOST_PORTS)).unwrap_or_default();
    let allow = allow.iter().filter_map(port).collect();
    fields.close(&[]);
    Some(Peer {
        pop: pop?,
        region: name?,
        place: place?,
        public_key: public_key?,
        next_public_key,
        preshared_key,
        endpoints,
        ingress,
        keepalive,
        allow,
    })
}

fn public_key(spot: &Spot<'_>) -> Option<[u8; 32]> {
    let text = spot.text()?;
    let key = base64::decode(text).and_then(|octets| <[u8; 32]>::try_from(octets).ok());
    if key.is_none() {
        let hint = "32 octets in base64, as `edgeproxy sixpn key` or `wg pubkey` prints them";
        spot.refuse(format!("{} is no public key", shown(text)), hint);
    }
    // A key of zeroes is nobody's (RFC 7748 §6.1), and a way to make every handshake the same.
    if key == Some([0; 32]) {
        spot.refuse("a public key of zeroes", "the key that the peer's `edgeproxy status` shows");
        return None;
    }
    key
}

fn preshared(spot: &Spot<'_>, base: &Path) -> Option<Secret> {
    let path = base.join(spot.line(4096)?);
    let read = secret::read(&path).and_then(|secret| {
        let text = std::str::from_utf8(secret.expose()).ok();
        let key = text.and_then(base64::decode).filter(|octets| octets.len() == 32);
        let wrong = format!("{} holds no preshared key", path.display());
        key.map(Secret::new)
            .ok_or_else(|| secret::refusal(wrong, "32 octets in base64, as `wg genpsk` prints them"))
    });
    read.map_err(|refusal| spot.refuse(refusal.message, refusal.hint)).ok()
}

fn endpoint(spot: &Spot<'_>) -> Option<Endpoint> {
    let text = spot.text()?;
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        let ip = address.ip();
        if ip.is_unspecified() || ip.is_multicast() || address.port() == 0 {
            spot.refuse(
                format!("nobody can be reached at {address}"),
                "the peer's address outside, with its UDP port",
            );
            return None;
        }
        return Some(Endpoint::Address(address));
    }
    let hint = "`192.0.2.7:51820`, `[2001:db8::7]:51820` or `fra1.example.net:51820`";
    let Some((name, port)) = text.rsplit_once(':') else {
        spot.refuse(format!("{} has no port", shown(text)), hint);
        return None;
    };
    let port = whole(port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let label = |label: &str| {
        let letters =
            label.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'-' || letter == b'_');
        (1..=63).contains(&label.len()) && letters && !label.starts_with('-')
    };
    // What looks like an address with a slip in it is no name.
    let is_name = name.len() <= 253
        && name.trim_end_matches('.').split('.').all(label)
        && !name.bytes().all(|letter| letter.is_ascii_digit() || letter == b'.');
    match port.filter(|_| is_name) {
        Some(port) => Some(Endpoint::Name(name.to_ascii_lowercase(), port)),
        None => {
            spot.refuse(format!("{} is no address with a port, and no name with one", shown(text)), hint);
            None
        }
    }
}

fn port(spot: &Spot<'_>) -> Option<Port> {
    let text = spot.text()?;
    let protocol = |word| match word {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    };
    let number = |text| whole(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let read = text
        .split_once('/')
        .and_then(|(word, port)| Some(Port { protocol: protocol(word)?, port: number(port)? }));
    if read.is_none() {
        spot.refuse(format!("{} is no port", shown(text)), "`tcp/8081` or `udp/53`");
    }
    read
}
