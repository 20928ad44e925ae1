//! The addresses inside the backhaul: a new prefix, what is where, whose an address is, and this POP's key.

use std::fmt::Write;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use edgeproxy::backhaul::tunnel::PrivateKey;
use edgeproxy::config::Config;
use edgeproxy::config::backhaul::{Backhaul, key_text};
use edgeproxy::config::key_file::{self, KeyFileError};
use edgeproxy::config::load::load;
use edgeproxy::config::sixpn::{self, Fleet, Kind, Place, RegionCode, SixpnError, Spot};
use serde::Serialize;
use serde_json::json;

use super::{Failure, line};

#[derive(Debug, Subcommand)]
pub(super) enum Sixpn {
    /// Make a prefix for all POPs: once for a fleet, ever.
    Init,
    /// Show what is where: the addresses of this POP and of its peers.
    #[command(override_usage = "edgeproxy sixpn show [OPTIONS] [CONFIG]\n       \
        edgeproxy sixpn show [OPTIONS] --fleet <PREFIX>")]
    Show {
        #[arg(value_name = "CONFIG", default_value = "/etc/edgeproxy/edgeproxy.yaml")]
        file: PathBuf,
        /// The regions of this prefix instead of the POPs of a configuration.
        #[arg(long, value_name = "PREFIX", conflicts_with = "file")]
        fleet: Option<String>,
    },
    /// Say whose an address is and what for.
    #[command(override_usage = "edgeproxy sixpn explain [OPTIONS] <ADDRESS> [CONFIG]\n       \
        edgeproxy sixpn explain [OPTIONS] --fleet <PREFIX> <ADDRESS>")]
    Explain {
        address: String,
        /// Names the POPs; addresses outside its fleet are refused.
        #[arg(value_name = "CONFIG")]
        file: Option<PathBuf>,
        /// Refuse addresses outside this prefix [default: the address's own].
        #[arg(long, value_name = "PREFIX", conflicts_with = "file")]
        fleet: Option<String>,
    },
    /// Print the public half of a private key, which is made first if it is not there.
    Key { file: PathBuf },
}

impl From<SixpnError> for Failure {
    fn from(error: SixpnError) -> Self {
        Self::Refused(format!("{error}\n  hint: {}", error.hint()))
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        Self::Refused(error.to_string())
    }
}

pub(super) fn obey(command: Sixpn, json: bool) -> Result<String, Failure> {
    match command {
        Sixpn::Init => init(json),
        Sixpn::Show { fleet: Some(fleet), .. } => Ok(regions(fleet.parse()?, json)),
        Sixpn::Show { file, fleet: None } => {
            let config = load(&file)?;
            let view = View::new(&config, backhaul(&config, &file)?);
            Ok(if json { line(&view) } else { view.text() })
        }
        Sixpn::Explain { address, file, fleet } => explain(&address, file.as_deref(), fleet.as_deref(), json),
        Sixpn::Key { file } => {
            let public = key_text(&PrivateKey::new(key_file::load_or_make(&file)?).public().0);
            Ok(if json { line(&json!({ "public_key": public })) } else { format!("{public}\n") })
        }
    }
}

fn init(json: bool) -> Result<String, Failure> {
    // One in twenty thousand looks as if somebody had chosen it, and no configuration would take it.
    let fleet = loop {
        let fleet = Fleet::from_random(key_file::random()?);
        if Fleet::new(fleet.prefix()).is_ok() {
            break fleet;
        }
    };
    if json {
        return Ok(line(&json!({ "fleet": fleet.to_string() })));
    }
    Ok(format!(
        "{fleet}\n\n\
         This is the prefix of all your POPs. Write it into the configuration of each, and never change it:\n\n    \
         backhaul:\n      \
         fleet: {fleet}\n      \
         number: 1       # of the POP, 0 to 255: another one for each POP of a region\n\n\
         Then run `edgeproxy sixpn key /var/lib/edgeproxy/backhaul.key` at each POP: it makes the POP's private key\n\
         and prints the public half, which the other POPs need in `backhaul.peers`.\n"
    ))
}

fn backhaul<'c>(config: &'c Config, file: &Path) -> Result<&'c Backhaul, Failure> {
    config.backhaul.as_deref().ok_or_else(|| {
        let file = file.display();
        Failure::Refused(format!("{file} has no `backhaul`\n  hint: `edgeproxy sixpn init` begins one"))
    })
}

/// The regions of a fleet whose POPs nobody has told.
fn regions(fleet: Fleet, json: bool) -> String {
    let first = |region| fleet.subnet(Place { region, pop: 0 }).network();
    let known = RegionCode::KNOWN.map(|(name, code)| (name, code.number(), format!("{}/52", first(code))));
    if json {
        let known =
            known.map(|(name, code, prefix)| json!({ "region": name, "code": code, "prefix": prefix }));
        return line(&json!({ "fleet": fleet.to_string(), "regions": known }));
    }
    let mut text = format!("fleet     {fleet}\n");
    for (name, code, prefix) in known {
        let _ = writeln!(text, "region {name} {prefix} (code {code})");
    }
    let example = Place { region: RegionCode::KNOWN[0].1, pop: 2 };
    let _ = writeln!(text, "A POP has the /60 of its number: number 2 of eu has {}", fleet.subnet(example));
    text
}

/// All POPs of a configuration.
#[derive(Debug, Serialize)]
struct View {
    fleet: String,
    pop: PopView,
    peers: Vec<PopView>,
}

#[derive(Debug, Serialize)]
struct PopView {
    pop: String,
    region: String,
    region_code: u8,
    number: u8,
    subnet: String,
    node: Ipv6Addr,
    resolver: Ipv6Addr,
    machines: String,
    services: String,
    peers: String,
}

impl PopView {
    fn new(fleet: Fleet, pop: &str, region: &str, place: Place) -> Self {
        let kind = |kind| format!("{}/64", fleet.address(Spot { place, kind, id: 0 }));
        Self {
            pop: pop.to_owned(),
            region: region.to_owned(),
            region_code: place.region.number(),
            number: place.pop,
            subnet: fleet.subnet(place).to_string(),
            node: fleet.node(place),
            resolver: fleet.resolver(place),
            machines: kind(Kind::Machines),
            services: kind(Kind::Services),
            peers: kind(Kind::Peers),
        }
    }
}

impl View {
    fn new(config: &Config, backhaul: &Backhaul) -> Self {
        let fleet = backhaul.fleet;
        let peers = backhaul.peers.iter();
        Self {
            fleet: fleet.to_string(),
            pop: PopView::new(fleet, &config.pop.id, &config.pop.region, backhaul.place),
            peers: peers.map(|it| PopView::new(fleet, &it.pop, &it.region, it.place)).collect(),
        }
    }

    fn text(&self) -> String {
        let PopView { pop, region, number, subnet, node, resolver, machines, services, peers, .. } =
            &self.pop;
        let mut text = format!(
            "fleet     {}\nthis POP  {pop}, {region} number {number}\nsubnet    {subnet}\nnode      {node}\n\
             resolver  {resolver}\nmachines  {machines}\nservices  {services}\npeers     {peers}\n",
            self.fleet
        );
        let width = |of: fn(&PopView) -> usize| self.peers.iter().map(of).max().unwrap_or_default();
        let (name, place) = (width(|it| it.pop.len()), width(|it| it.region.len()));
        let subnet = width(|it| it.subnet.len());
        for it in &self.peers {
            let _ = writeln!(
                text,
                "peer      {:<name$}  {:<place$} {:>3}  {:<subnet$}  node {}",
                it.pop, it.region, it.number, it.subnet, it.node
            );
        }
        text
    }
}

fn explain(address: &str, file: Option<&Path>, fleet: Option<&str>, json: bool) -> Result<String, Failure> {
    let address = sixpn::address(address)?;
    let config = file.map(load).transpose()?;
    let backhaul = config.as_ref().zip(file).map(|(config, file)| backhaul(config, file)).transpose()?;
    let fleet = match (backhaul, fleet) {
        (Some(backhaul), _) => backhaul.fleet,
        (None, Some(fleet)) => fleet.parse()?,
        (None, None) => Fleet::around(address)?,
    };
    let spot = fleet.explain(address)?;
    let Spot { place, kind, id } = spot;
    let named = backhaul.zip(config.as_ref()).and_then(|(backhaul, config)| {
        let own = (backhaul.place == place).then_some((&config.pop.id, &config.pop.region));
        own.or_else(|| backhaul.peer_at(place).map(|peer| (&peer.pop, &peer.region)))
    });
    let pop = named.map(|(pop, _)| pop.as_str());
    let region = named.map(|(_, region)| region.as_str()).or_else(|| place.region.name());
    let role = match address {
        // The fleet as a whole is no POP.
        _ if place.region == RegionCode::FLEET => None,
        _ if address == fleet.node(place) => Some("node"),
        _ if address == fleet.resolver(place) => Some("resolver"),
        _ => None,
    };
    if json {
        return Ok(line(&json!({
            "address": address, "fleet": fleet.to_string(), "region": region, "region_code": place.region.number(),
            "number": place.pop, "pop": pop, "subnet": fleet.subnet(place).to_string(), "kind": kind.to_string(),
            "id": format!("{id:#x}"), "role": role,
        })));
    }
    let code = place.region.number();
    let region = match region {
        Some(region) => format!("{region} (code {code})"),
        None if place.region == RegionCode::FLEET => "none: the fleet as a whole (code 0)".to_owned(),
        None => format!("code {code}"),
    };
    let pop = match (pop, backhaul) {
        (Some(pop), _) => format!("{pop} (number {})", place.pop),
        (None, Some(_)) => format!("number {}: none that the configuration knows", place.pop),
        (None, None) => format!("number {}", place.pop),
    };
    let role = role.map(|role| format!(", its {role}")).unwrap_or_default();
    Ok(format!(
        "fleet   {fleet}\nregion  {region}\nPOP     {pop}, {}\nkind    {kind}\nid      {id:#x}{role}\n",
        fleet.subnet(place)
    ))
}
