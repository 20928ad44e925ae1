//! Reads the `backhaul` section.

use std::path::Path;
use std::time::Duration;

use super::pop;
use crate::config::backhaul::{Backend, Backhaul, Offload, Probe, RELAY_PORT};
use crate::config::pop::Pop;
use crate::config::read::{Spot, Unique, shown};
use crate::config::sixpn::{Fleet, Place, RegionCode};

mod peer;

const MOST_PEERS: usize = 1024;
const BACKENDS: [(&str, Backend); 3] =
    [("auto", Backend::Auto), ("kernel", Backend::Kernel), ("userspace", Backend::Userspace)];

/// `ours` is None if the section `pop` could not be read.
pub(super) fn decode(spot: &Spot<'_>, ours: Option<&Pop>, base: &Path) -> Option<Backhaul> {
    let mut fields = spot.fields()?;
    let fleet_at = fields.need("fleet");
    let fleet = fleet_at.as_ref().and_then(fleet);
    let number = fields.need("number").and_then(|spot| spot.number(0..=255));
    let code_at = fields.get("region_code");
    let region = match ours {
        Some(ours) => region(&ours.region, code_at.as_ref(), fields.spot()),
        None => None,
    };
    let place = region.zip(number).map(|(region, pop)| Place { region, pop });
    let file = |spot: Spot<'_>| Some(base.join(spot.line(4096)?));
    let private_key_file = fields.get("private_key_file").and_then(file);
    let next_at = fields.get("next_private_key_file");
    let next_private_key_file = next_at.clone().and_then(file);
    if let Some(spot) =
        next_at.filter(|_| next_private_key_file.is_some() && next_private_key_file == private_key_file)
    {
        spot.refuse("the same file as `private_key_file`", "a key that is to follow needs a file of its own");
    }
    let never =
        "the private key is made on the machine and never leaves it: name its file with `private_key_file`";
    fields.never("private_key", "keys never stand in the configuration", never);
    let backend = fields.get("backend").and_then(|spot| spot.choice(&BACKENDS)).unwrap_or_default();
    let interface = fields.get("interface").and_then(|spot| interface(&spot));
    let listen_at = fields.get("listen");
    let listen = listen_at.as_ref().and_then(|spot| spot.number(1..=65535)).unwrap_or(51_820);
    let mtu = fields
        .get("mtu")
        .filter(|spot| spot.text() != Some("auto"))
        .and_then(|spot| spot.number(1280..=9000));
    let offload = fields.get("offload").and_then(|spot| offload(&spot));
    let ingress = port_or_off(fields.get("ingress"), 8082);
    let relay = fields.get("relay").and_then(|spot| spot.switch()).unwrap_or(true);
    let probe_at = fields.get("probe");
    let probe = probe_at.as_ref().and_then(probe).unwrap_or_default();
    let peers_at = fields.get("peers");
    let mut known = Known::default();
    if let (Some(ours), Some(place)) = (ours, place) {
        known.ours = Some((ours.id.clone(), place));
    }
    let peers = peers_at.and_then(|spot| spot.list(MOST_PEERS)).unwrap_or_default();
    let peers = peers.iter().filter_map(|spot| peer::decode(spot, &mut known, base)).collect();
    fields.close(&[]);
    let ports = [(listen, "backhaul.listen"), (probe.port, "backhaul.probe.port"), (RELAY_PORT, "the relay")];
    for (at, (port, name)) in ports.iter().enumerate() {
        if let Some((_, other)) = ports[..at].iter().find(|(taken, _)| taken == port) {
            let spot = listen_at.as_ref().or(probe_at.as_ref()).unwrap_or(spot);
            spot.refuse(
                format!("UDP port {port} is both {other} and {name}"),
                "each needs a port of its own",
            );
        }
    }
    Some(Backhaul {
        fleet: fleet?,
        place: place?,
        private_key_file,
        next_private_key_file,
        backend,
        interface: interface.unwrap_or_else(|| "edge6pn".to_owned()),
        listen,
        mtu,
        offload: offload.unwrap_or(Offload { tun: true, udp: true }),
        ingress,
        relay,
        probe,
        peers,
    })
}

/// What only one of a fleet can have.
#[derive(Default)]
struct Known {
    ours: Option<(String, Place)>,
    pops: Unique,
    places: Unique,
    keys: Unique,
}

fn fleet(spot: &Spot<'_>) -> Option<Fleet> {
    match spot.text()?.parse::<Fleet>() {
        Ok(fleet) => Some(fleet),
        Err(error) => {
            let words = error.to_string();
            let (message, hint) =
                words.split_once(": ").unwrap_or((&words, "`edgeproxy sixpn init` makes one"));
            spot.refuse(message, hint);
            None
        }
    }
}

/// The code of a region: built in, or given.
fn region(name: &str, given: Option<&Spot<'_>>, holder: &Spot<'_>) -> Option<RegionCode> {
    match (RegionCode::of(name), given) {
        (Some(code), None) => Some(code),
        (Some(code), Some(spot)) => {
            spot.refuse(
                format!("the region {name} has the code {} always", code.code()),
                "leave `region_code` away",
            );
            None
        }
        (None, Some(spot)) => RegionCode::new(spot.number(5..=15)?),
        (None, None) => {
            let hint =
                "`region_code: 5` to `15`: the same for this region at every POP, and for no other region";
            holder.refuse_absent(
                "region_code",
                format!("the region {} has no code of its own", shown(name)),
                hint,
            );
            None
        }
    }
}

fn interface(spot: &Spot<'_>) -> Option<String> {
    let name = spot.text()?;
    let letters = name.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter));
    if name.is_empty() || name.len() > 15 || !letters || name.starts_with('.') {
        spot.refuse(format!("{} is no name of an interface", shown(name)), "1 to 15 of `a-z 0-9 - _ .`");
        return None;
    }
    Some(name.to_owned())
}

fn offload(spot: &Spot<'_>) -> Option<Offload> {
    let mut fields = spot.fields()?;
    let tun = fields.get("tun").and_then(|spot| spot.switch()).unwrap_or(true);
    let udp = fields.get("udp").and_then(|spot| spot.switch()).unwrap_or(true);
    fields.close(&[]);
    Some(Offload { tun, udp })
}

fn probe(spot: &Spot<'_>) -> Option<Probe> {
    let default = Probe::default();
    let ten = Duration::from_secs(10);
    let mut fields = spot.fields()?;
    let interval = fields.get("interval").and_then(|spot| spot.duration(Duration::from_millis(20)..=ten));
    let timeout = fields.get("timeout").and_then(|spot| spot.duration(Duration::from_millis(10)..=ten));
    let port = fields.get("port").and_then(|spot| spot.number(1..=65535));
    fields.close(&[]);
    Some(Probe {
        interval: interval.unwrap_or(default.interval),
        timeout: timeout.unwrap_or(default.timeout),
        port: port.unwrap_or(default.port),
    })
}

fn port_or_off(spot: Option<Spot<'_>>, default: u16) -> Option<u16> {
    match spot {
        None => Some(default),
        Some(spot) if spot.is_off() => None,
        Some(spot) => spot.number(1..=65535),
    }
}
