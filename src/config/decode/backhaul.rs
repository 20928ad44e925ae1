//! Reads the `backhaul` section, but for each peer.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::backhaul::{Backhaul, Peer, PlaneChoice, Probe, RELAY_PORT};
use crate::config::certificate::Files;
use crate::config::listen::Protocol;
use crate::config::pop::Pop;
use crate::config::read::{Fields, Letters, Spot, shown};
use crate::config::sixpn::{Fleet, Place, RegionCode};

mod peer;

pub(super) use peer::endpoint;

const MOST_PEERS: usize = 1024;
const PRIVATE_KEY_FILE: &str = "/var/lib/edgeproxy/backhaul.key";
const INTERFACE: &str = "edge6pn";
const LISTEN: u16 = 51820;
const INGRESS: u16 = 8082;
const PLANES: [(&str, PlaneChoice); 3] =
    [("auto", PlaneChoice::Auto), ("kernel", PlaneChoice::Kernel), ("userspace", PlaneChoice::Userspace)];
/// Names that the kernel or `sysctl` give to something else.
const NO_INTERFACES: [&str; 5] = [".", "..", "lo", "all", "default"];

/// The section as far as it could be read.
pub(super) struct Read<'a> {
    pub(super) backhaul: Option<Backhaul>,
    pub(super) fleet: Option<Fleet>,
    pub(super) place: Option<Place>,
    /// By POP, also those that were refused, as None: whoever names them is not to blame.
    pub(super) peers: BTreeMap<String, Option<Peer>>,
    /// A peer whose name could not be read might be any of those that are named elsewhere.
    pub(super) nameless: bool,
    pub(super) ingress: Option<u16>,
    ingress_at: Option<Spot<'a>>,
    listen: u16,
    probe: Probe,
}

/// `pop` is ours; None if it could not be read.
pub(super) fn decode<'a>(spot: &Spot<'a>, pop: Option<&Pop>, files: &Files<'_>) -> Option<Read<'a>> {
    let mut fields = spot.fields()?;
    let fleet = fields.need("fleet").and_then(|spot| fleet(&spot));
    let mut claims = peer::Claims::default();
    let number_at = fields.need("number");
    let number = number_at.as_ref().and_then(|spot| spot.number(0..=255));
    let code = region_code(&mut fields, pop.map(|pop| pop.region.as_str()), &mut claims);
    let place = code.zip(number).map(|(region, pop)| Place { region, pop });
    if let (Some(place), Some(spot)) = (place, &number_at) {
        claims.places.claim(spot, &place.to_string());
    }

    let mut key_file = |key| fields.get(key).and_then(|spot| Some((path(&spot, files)?, spot)));
    let present = key_file("private_key_file").map_or_else(|| PRIVATE_KEY_FILE.into(), |(path, _)| path);
    let next = key_file("next_private_key_file");
    if let Some((_, spot)) = next.as_ref().filter(|(path, _)| *path == present) {
        spot.refuse(
            "the next key is the present one",
            "another file; `edgeproxy sixpn key FILE` makes the key and prints its public half",
        );
    }
    let hint = "name its file with `private_key_file`; `edgeproxy sixpn key FILE` makes it";
    fields.never("private_key", "secrets never stand in the configuration", hint);

    let backend = fields.get("backend").and_then(|spot| spot.choice(&PLANES)).unwrap_or_default();
    let interface = fields.get("interface").and_then(|spot| interface(&spot));
    let listen_at = fields.get("listen");
    let listen = listen_at.as_ref().and_then(port).unwrap_or(LISTEN);
    let mtu = fields.get("mtu").and_then(|spot| mtu(&spot));
    let (offload_tun, offload_udp) =
        fields.get("offload").and_then(|spot| offload(&spot)).unwrap_or((true, true));
    let ingress_at = fields.get("ingress");
    let ingress = match &ingress_at {
        None => Some(INGRESS),
        Some(spot) if spot.is_off() => None,
        Some(spot) => port(spot),
    };
    let relay = fields.get("relay").and_then(|spot| spot.switch()).unwrap_or(true);
    let from_fleet_at = fields.get("from_fleet");
    let from_fleet = from_fleet_at.as_ref().and_then(|spot| spot.switch()).unwrap_or(true);
    let (probe, probe_at) = fields.get("probe").and_then(|spot| probe(&spot)).unwrap_or_default();
    one_port_each([(&listen_at, "listen", listen), (&probe_at, "probe.port", probe.port)]);

    let listed = match fields.get("peers") {
        Some(spot) => spot.list(MOST_PEERS),
        None => Some(Vec::new()),
    };
    fields.close(&[]);
    let mut read = Read {
        backhaul: None,
        fleet,
        place,
        peers: BTreeMap::new(),
        nameless: listed.is_none(),
        ingress,
        ingress_at,
        listen,
        probe,
    };
    let own = pop.map(|pop| pop.id.as_str());
    let mut peers = Vec::new();
    for spot in listed.into_iter().flatten() {
        let (name, peer) = peer::decode(&spot, own, fleet, files, &mut claims);
        read.nameless |= name.is_none();
        peers.extend(peer.clone());
        read.peers.extend(name.map(|name| (name, peer)));
    }
    read.backhaul = fleet.zip(place).map(|(fleet, place)| Backhaul {
        fleet,
        place,
        private_key_file: present,
        next_private_key_file: next.map(|(path, _)| path),
        backend,
        interface: interface.unwrap_or_else(|| INTERFACE.to_owned()),
        listen,
        mtu,
        offload_tun,
        offload_udp,
        ingress,
        replication: None,
        relay,
        probe,
        from_fleet,
        peers,
    });
    Some(read)
}

impl Read<'_> {
    /// What the backhaul listens on, with its words.
    pub(super) fn sockets(&self) -> Vec<(SocketAddr, Protocol, &'static str)> {
        let everywhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let wide = |port: u16, word| everywhere.map(|ip| (SocketAddr::new(ip, port), Protocol::Udp, word));
        let mut sockets = Vec::new();
        sockets.extend(wide(self.listen, "backhaul.listen"));
        sockets.extend(wide(self.probe.port, "backhaul.probe.port"));
        if let Some((fleet, place)) = self.fleet.zip(self.place) {
            let node = IpAddr::V6(fleet.node(place));
            sockets.push((SocketAddr::new(node, RELAY_PORT), Protocol::Udp, "backhaul.relay"));
            let ingress = self.ingress.map(|port| SocketAddr::new(node, port));
            sockets.extend(ingress.map(|socket| (socket, Protocol::Tcp, "backhaul.ingress")));
        }
        sockets
    }

    /// Refuses an ingress where something else of this process listens over TCP.
    pub(super) fn apart(&self, taken: &[(SocketAddr, Protocol, &str)]) {
        let (Some(at), Some(port), Some(fleet), Some(place)) =
            (&self.ingress_at, self.ingress, self.fleet, self.place)
        else {
            return;
        };
        let node = fleet.node(place);
        let covers =
            |it: &SocketAddr| it.port() == port && (it.ip() == node || it.ip() == Ipv6Addr::UNSPECIFIED);
        if let Some((_, _, word)) =
            taken.iter().find(|(it, protocol, _)| *protocol == Protocol::Tcp && covers(it))
        {
            at.refuse(
                format!("port {port} is taken by `{word}`"),
                format!("another port here, or for `{word}`"),
            );
        }
    }
}

fn fleet(spot: &Spot<'_>) -> Option<Fleet> {
    let fleet = spot.text()?.parse::<Fleet>();
    fleet.map_err(|error| spot.refuse(error.to_string(), error.hint())).ok()
}

/// The code of a region: built in, or written beside it.
fn region_code(
    fields: &mut Fields<'_>,
    region: Option<&str>,
    claims: &mut peer::Claims,
) -> Option<RegionCode> {
    let at = fields.get("region_code");
    let region = region?;
    match (RegionCode::of(region), at) {
        (Some(code), Some(spot)) => {
            let number = code.number();
            spot.refuse(format!("`{region}` has the code {number} built in"), "leave `region_code` out");
            Some(code)
        }
        (Some(code), None) => Some(code),
        (None, Some(spot)) => {
            let code = spot.number(5..=15).and_then(RegionCode::new)?;
            claims.region(&spot, region, code).then_some(code)
        }
        (None, None) => {
            fields.spot().refuse_absent(
                "region_code",
                format!("is missing: {} has no code built in", shown(region)),
                "add `region_code: 5`, or another number up to 15, the same at every POP; built in are eu us sa ap",
            );
            None
        }
    }
}

fn path(spot: &Spot<'_>, files: &Files<'_>) -> Option<PathBuf> {
    let path = spot.line(4096)?;
    if path.is_empty() || path.ends_with('/') {
        spot.refuse("a file is needed here", format!("such as `{PRIVATE_KEY_FILE}`"));
        return None;
    }
    Some(files.path(path))
}

/// What the kernel takes for the name of an interface (`dev_valid_name`), and is safe in a path.
fn interface(spot: &Spot<'_>) -> Option<String> {
    let name = spot.name(Letters::Loose, 1..=15)?;
    if NO_INTERFACES.contains(&name.as_str()) {
        spot.refuse(format!("`{name}` is the name of something else"), format!("such as `{INTERFACE}`"));
        return None;
    }
    Some(name)
}

fn port(spot: &Spot<'_>) -> Option<u16> {
    spot.number(1..=65535)
}

/// `auto`, or a number. RFC 8200 §5: no link of IPv6 has less than 1,280.
fn mtu(spot: &Spot<'_>) -> Option<u16> {
    if !spot.is_map() && !spot.is_list() && spot.text()? == "auto" {
        return None;
    }
    spot.number(1280..=9000)
}

fn offload(spot: &Spot<'_>) -> Option<(bool, bool)> {
    let mut fields = spot.fields()?;
    let mut switch = |key| fields.get(key).and_then(|spot| spot.switch()).unwrap_or(true);
    let switches = (switch("tun"), switch("udp"));
    fields.close(&[]);
    Some(switches)
}

/// The probes, and where their port is written.
fn probe<'a>(spot: &Spot<'a>) -> Option<(Probe, Option<Spot<'a>>)> {
    let mut fields = spot.fields()?;
    let default = Probe::default();
    let most = Duration::from_secs(60);
    let interval = fields.get("interval").and_then(|spot| spot.duration(Duration::from_millis(50)..=most));
    let interval = interval.unwrap_or(default.interval);
    let timeout_at = fields.get("timeout");
    let timeout = timeout_at.as_ref().and_then(|spot| spot.duration(Duration::from_millis(50)..=most));
    if let Some(timeout) = timeout.filter(|timeout| *timeout < interval) {
        timeout_at.as_ref().unwrap_or(spot).refuse(
            format!("`timeout` is {timeout:?}, under `interval`, which is {interval:?}"),
            "at least `interval`: a path would be broken between two questions",
        );
    }
    let port_at = fields.get("port");
    let port = port_at.as_ref().and_then(port).unwrap_or(default.port);
    fields.close(&[]);
    Some((Probe { interval, timeout: timeout.unwrap_or(default.timeout.max(interval)), port }, port_at))
}

/// Our UDP sockets do not share a port: that of the tunnels is open at every address.
fn one_port_each(ours: [(&Option<Spot<'_>>, &str, u16); 2]) {
    let [(listen_at, _, listen), (probe_at, _, probe)] = ours;
    if listen == probe {
        if let Some(at) = probe_at.as_ref().or(listen_at.as_ref()) {
            at.refuse(format!("`listen` and `probe.port` are both {listen}"), "one port each");
        }
        return;
    }
    for (at, word, _) in ours.into_iter().filter(|(_, _, port)| *port == RELAY_PORT) {
        if let Some(at) = at {
            at.refuse(format!("`{word}` is {RELAY_PORT}, the port of relays"), "another port");
        }
    }
}
