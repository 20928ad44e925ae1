//! Reads one peer of the backhaul.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{INGRESS, port, region_code};
use crate::config::backhaul::{Endpoint, Peer, Port, Preshared, key_octets, key_text};
use crate::config::certificate::Files;
use crate::config::decode::pop;
use crate::config::listen::{Protocol, ServerName};
use crate::config::read::{Letters, Spot, Unique, shown, whole};
use crate::config::secret;
use crate::config::sixpn::{Fleet, Place, RegionCode};

const MOST_ENDPOINTS: usize = 8;
const MOST_ALLOWED: usize = 32;
const KEEPALIVE: Duration = Duration::from_secs(25);

/// What only one POP may have.
#[derive(Default)]
pub(super) struct Claims {
    pops: Unique,
    pub(super) places: Unique,
    keys: Unique,
    endpoints: Unique,
    /// Codes that are not built in, and whose they are.
    regions: BTreeMap<RegionCode, (String, usize)>,
}

impl Claims {
    /// Takes a code for a region; refuses a second region with it, and a second code of a region.
    pub(super) fn region(&mut self, spot: &Spot<'_>, region: &str, code: RegionCode) -> bool {
        let hint = "one code for each region, the same at every POP";
        if let Some((other, line)) = self.regions.get(&code).filter(|(other, _)| other != region) {
            spot.refuse(format!("{code} is the code of `{other}` already on line {line}"), hint);
            return false;
        }
        let mut others = self.regions.iter().filter(|(other, _)| **other != code);
        if let Some((other, (_, line))) = others.find(|(_, (name, _))| name == region) {
            spot.refuse(format!("`{region}` has the code {other} already on line {line}"), hint);
            return false;
        }
        self.regions.entry(code).or_insert_with(|| (region.to_owned(), spot.at().line));
        true
    }
}

/// The peer's name, as far as it can be read, and the peer. `own` is our POP's id.
pub(super) fn decode(
    spot: &Spot<'_>,
    own: Option<&str>,
    fleet: Option<Fleet>,
    files: &Files<'_>,
    claims: &mut Claims,
) -> (Option<String>, Option<Peer>) {
    let Some(mut fields) = spot.fields() else { return (None, None) };
    let pop_at = fields.need("pop");
    let name = pop_at.as_ref().and_then(|spot| spot.name(Letters::Label, 1..=32));
    let sound = name.as_ref().zip(pop_at.as_ref()).is_some_and(|(name, spot)| {
        if own == Some(name) {
            spot.refuse(format!("`{name}` is this POP itself"), "peers are the other POPs: remove the entry");
        }
        claims.pops.claim(spot, name) && own != Some(name)
    });
    let region = fields.need("region").and_then(|spot| pop::region(&spot));
    let code = region_code(&mut fields, region.as_deref(), claims);
    let place = fields.need("number").and_then(|spot| {
        let place = Place { region: code?, pop: spot.number(0..=255)? };
        claims.places.claim(&spot, &place.to_string()).then_some(place)
    });
    let public_key = fields.need("public_key").and_then(|spot| public_key(&spot, claims));
    let next_public_key = fields.get("next_public_key").and_then(|spot| self::public_key(&spot, claims));
    let hint = "write it to a file and name it with `preshared_key_file`";
    fields.never("preshared_key", "secrets never stand in the configuration", hint);
    let preshared = fields.get("preshared_key_file").and_then(|spot| preshared(&spot, files));
    let endpoints = fields.get("endpoints").and_then(|spot| endpoints(&spot, fleet, claims));
    let ingress = fields.get("ingress").and_then(|spot| port(&spot)).unwrap_or(INGRESS);
    let keepalive = match fields.get("keepalive") {
        None => Some(KEEPALIVE),
        Some(spot) => keepalive(&spot),
    };
    let allow = fields.get("allow").and_then(|spot| allow(&spot)).unwrap_or_default();
    fields.close(&[]);
    let peer = (|| {
        Some(Peer {
            pop: name.clone().filter(|_| sound)?,
            region: region?,
            place: place?,
            public_key: public_key?,
            next_public_key,
            preshared,
            endpoints: endpoints.unwrap_or_default(),
            ingress,
            keepalive,
            allow,
        })
    })();
    (name, peer)
}

fn public_key(spot: &Spot<'_>, claims: &mut Claims) -> Option<[u8; 32]> {
    let Some(key) = key_octets(spot.line(256)?).filter(|key| *key != [0; 32]) else {
        spot.refuse(
            "no public key: 32 octets in base64 are expected, and not all of them zero",
            "`edgeproxy sixpn key FILE` prints it at that POP, and so does `wg pubkey`",
        );
        return None;
    };
    claims.keys.claim(spot, &key_text(&key)).then_some(key)
}

fn preshared(spot: &Spot<'_>, files: &Files<'_>) -> Option<Preshared> {
    match secret::key(&files.path(spot.line(4096)?)) {
        Ok(octets) => Some(Preshared::new(octets)),
        Err(refusal) => {
            spot.refuse(refusal.message, refusal.hint);
            None
        }
    }
}

fn endpoints(spot: &Spot<'_>, fleet: Option<Fleet>, claims: &mut Claims) -> Option<Vec<Endpoint>> {
    let mut endpoints = Vec::new();
    for spot in spot.list(MOST_ENDPOINTS)? {
        if let Some(endpoint) = endpoint(&spot, fleet, super::LISTEN)
            && claims.endpoints.claim(&spot, &endpoint.to_string())
        {
            endpoints.push(endpoint);
        }
    }
    Some(endpoints)
}

/// Where somebody may be reached outside; `port` is the usual one, for hints.
pub(in crate::config::decode) fn endpoint(
    spot: &Spot<'_>,
    fleet: Option<Fleet>,
    port: u16,
) -> Option<Endpoint> {
    let text = spot.line(300)?;
    if let Ok(socket) = text.parse::<SocketAddr>() {
        let ip = socket.ip();
        let wrong = match ip {
            _ if socket.port() == 0 => "has no port",
            _ if ip.is_unspecified() => "is the unspecified address",
            _ if ip.is_multicast() => "is a multicast address",
            IpAddr::V4(Ipv4Addr::BROADCAST) => "is the broadcast address",
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "is an IPv4 address in IPv6 clothes",
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                "is a link-local address, which needs an interface"
            }
            IpAddr::V6(v6) if fleet.is_some_and(|fleet| fleet.contains(v6)) => {
                "is inside the fleet: a tunnel cannot be reached through itself"
            }
            _ => return Some(Endpoint::Address(SocketAddr::new(ip, socket.port()))),
        };
        spot.refuse(
            format!("{} {wrong}", shown(text)),
            format!("an address and UDP port outside, such as `192.0.2.7:{port}`"),
        );
        return None;
    }
    let hint = match text.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(ip)) => format!("write `{ip}:{port}`"),
        Ok(IpAddr::V6(ip)) => format!("write `\"[{ip}]:{port}\"`"),
        Err(_) => {
            format!("`192.0.2.7:{port}`, `\"[2001:db8::7]:{port}\"` or `fra1.example.net:{port}`")
        }
    };
    let parts = text.rsplit_once(':').filter(|(name, _)| !name.starts_with('*'));
    let name = parts.and_then(|(name, _)| ServerName::read(name));
    let named = parts.and_then(|(_, port)| whole(port)).filter(|port| (1..=65535).contains(port));
    match name.zip(named) {
        Some((name, port)) => Some(Endpoint::Name(name.0, port as u16)),
        None => {
            spot.refuse(format!("expected an address or a name with a port, found {}", shown(text)), hint);
            None
        }
    }
}

/// In whole seconds, which is all that the kernel's WireGuard takes.
fn keepalive(spot: &Spot<'_>) -> Option<Duration> {
    if spot.is_off() {
        return None;
    }
    let keepalive = spot.duration(Duration::from_secs(1)..=Duration::from_secs(65535))?;
    if keepalive.subsec_nanos() > 0 {
        spot.refuse(format!("{keepalive:?} is no whole number of seconds"), "such as `25s`, or `off`");
    }
    Some(keepalive)
}

fn allow(spot: &Spot<'_>) -> Option<Vec<Port>> {
    let mut unique = Unique::default();
    let mut allow = Vec::new();
    for spot in spot.list(MOST_ALLOWED)? {
        let Some(text) = spot.text() else { continue };
        let parts = text.split_once('/');
        let protocol = parts.and_then(|(protocol, _)| match protocol {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        });
        let port = parts.and_then(|(_, port)| whole(port)).filter(|port| (1..=65535).contains(port));
        match protocol.zip(port) {
            Some((protocol, port)) if unique.claim(&spot, text) => {
                allow.push(Port { protocol, port: port as u16 });
            }
            Some(_) => {}
            None => spot.refuse(
                format!("expected a protocol and a port, found {}", shown(text)),
                "`tcp/8081` or `udp/53`",
            ),
        }
    }
    allow.sort_unstable_by_key(|it| (it.protocol, it.port));
    Some(allow)
}
