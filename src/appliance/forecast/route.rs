//! What one neighbor has, what it would be told, and the difference.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::outlook::Outlook;
use crate::bgp::message::PathAttributes;
use crate::bgp::origin;
use crate::bgp::update::Export;
use crate::config::Config;
use crate::config::anycast::AnycastPrefix;
use crate::config::bgp::Neighbor;
use crate::config::diff::NeighborChange;
use crate::observe::status::{NeighborStatus, SentRoute};

/// What happens to one route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Announce,
    Withdraw,
    /// Announced with other attributes; there is no gap.
    Attributes,
    /// Nothing is said.
    Keep,
    /// It goes with the session that is reset, and comes back with the next one.
    Again,
}

/// One prefix at one neighbor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    pub prefix: String,
    pub action: Action,
    pub why: String,
    /// What the neighbor has; None: nothing.
    pub old: Option<Told>,
    /// What it would have; None: nothing, or what depends on a session that is not up yet.
    pub new: Option<Told>,
}

/// The attributes of a route as a neighbor is told them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    pub next_hop: String,
    pub as_path: Vec<u32>,
    pub med: Option<u32>,
    pub communities: Vec<String>,
    pub large_communities: Vec<String>,
}

/// The routes of one neighbor. `new` is the new configuration.
pub(super) fn all(
    name: &str,
    change: &NeighborChange,
    new: &Config,
    status: Option<&NeighborStatus>,
    outlooks: &BTreeMap<AnycastPrefix, Outlook>,
) -> Vec<Route> {
    let sent = status.map(|status| status.announced.as_slice()).unwrap_or_default();
    let sent: BTreeMap<&str, Told> = sent.iter().map(|it| (it.prefix.as_str(), Told::from(it))).collect();
    let neighbor = new.bgp.neighbors.iter().find(|neighbor| neighbor.name == name);
    let one = |(prefix, outlook): (&AnycastPrefix, &Outlook)| {
        let old = sent.get(prefix.to_string().as_str()).cloned();
        let told = outlook.told.as_ref().and_then(|route| {
            let neighbor = neighbor.filter(|it| carries(it, change, status, *prefix))?;
            Some(dress(neighbor, new, status, *prefix, route))
        });
        let (action, why) = judge(change, old.as_ref(), told.as_ref(), outlook)?;
        Some(Route { prefix: prefix.to_string(), action, why, old, new: told.flatten() })
    };
    outlooks.iter().filter_map(one).collect()
}

/// Whether routes of the prefix's family can be told to the neighbor.
fn carries(
    neighbor: &Neighbor,
    change: &NeighborChange,
    status: Option<&NeighborStatus>,
    prefix: AnycastPrefix,
) -> bool {
    match change {
        // The session that stands is the one that will: what it carries is known.
        NeighborChange::Keep | NeighborChange::Soft(_) => status.is_some_and(|status| {
            status.state == "Established" && status.families.contains(&prefix.family().to_string())
        }),
        NeighborChange::Added | NeighborChange::Reset(_) => neighbor.families.contains(&prefix.family()),
        NeighborChange::Removed => false,
    }
}

/// The route as the speaker will tell it. None while the next hop is our address of a session to come.
fn dress(
    neighbor: &Neighbor,
    new: &Config,
    status: Option<&NeighborStatus>,
    prefix: AnycastPrefix,
    route: &origin::Route,
) -> Option<Told> {
    let session = status.and_then(|status| status.local_address.as_ref()?.parse::<IpAddr>().ok());
    let export = Export {
        local_asn: new.bgp.asn,
        remote_asn: neighbor.asn,
        // Of the other family than the prefix where it is not known, so that it serves as no next hop.
        local_address: session.or(neighbor.source).unwrap_or(match prefix.network().ip() {
            IpAddr::V4(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        }),
        next_hop: neighbor.next_hop,
        export: neighbor.export.clone(),
        degrade: neighbor.degrade.clone(),
        drain: neighbor.drain.clone(),
    };
    export.render(prefix, route).map(|attributes| Told::from(&attributes))
}

/// `told`: whether the neighbor is told the route, and what, as far as that is known.
fn judge(
    change: &NeighborChange,
    old: Option<&Told>,
    told: Option<&Option<Told>>,
    outlook: &Outlook,
) -> Option<(Action, String)> {
    let resets = matches!(change, NeighborChange::Reset(_));
    Some(match (old, told) {
        (None, None) => return None,
        (Some(_), None) if *change == NeighborChange::Removed => {
            (Action::Withdraw, "the neighbor is removed".to_owned())
        }
        (Some(_), None) => (Action::Withdraw, outlook.why.clone()),
        (None, Some(_)) if resets || *change == NeighborChange::Added => {
            (Action::Announce, format!("once its session is up: {}", outlook.why))
        }
        (None, Some(_)) => (Action::Announce, outlook.why.clone()),
        (Some(_), Some(_)) if resets => (Action::Again, "its session is reset".to_owned()),
        (Some(old), Some(Some(new))) if old != new => (Action::Attributes, old.difference(new)),
        (Some(_), Some(Some(_))) => (Action::Keep, String::new()),
        (Some(_), Some(None)) => (Action::Withdraw, "it has no next hop for this neighbor".to_owned()),
    })
}

impl Told {
    /// What differs, each as `word old → new`.
    fn difference(&self, new: &Self) -> String {
        let path = |it: &Self| it.as_path.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        let med = |it: &Self| it.med.map_or("none".to_owned(), |med| med.to_string());
        let list = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(" ") };
        let words = [
            ("next hop", self.next_hop.clone(), new.next_hop.clone()),
            ("path", path(self), path(new)),
            ("MED", med(self), med(new)),
            ("communities", list(&self.communities), list(&new.communities)),
            ("large communities", list(&self.large_communities), list(&new.large_communities)),
        ];
        let differing = words.into_iter().filter(|(_, old, new)| old != new);
        differing.map(|(word, old, new)| format!("{word} {old} → {new}")).collect::<Vec<_>>().join(", ")
    }
}

impl From<&SentRoute> for Told {
    fn from(sent: &SentRoute) -> Self {
        Self {
            next_hop: sent.route.next_hop.clone(),
            as_path: sent.route.as_path.clone(),
            med: sent.route.med,
            communities: sent.route.communities.clone(),
            large_communities: sent.route.large_communities.clone(),
        }
    }
}

impl From<&PathAttributes> for Told {
    fn from(attributes: &PathAttributes) -> Self {
        Self {
            next_hop: attributes.next_hop.to_string(),
            as_path: attributes.as_path.clone(),
            med: attributes.med,
            communities: attributes.communities.iter().map(ToString::to_string).collect(),
            large_communities: attributes.large_communities.iter().map(ToString::to_string).collect(),
        }
    }
}
