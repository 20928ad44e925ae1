//! A router as a scenario describes it, before each kind of router says it in its own words.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::{canonical, invalid};

/// A router as a scenario describes it. Everything is imported, only `originate` is exported.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouterConfig {
    pub asn: u32,
    pub router_id: Ipv4Addr,
    #[serde(default)]
    pub neighbors: Vec<Peering>,
    /// Prefixes that it announces to its neighbors; they never enter its kernel's table.
    #[serde(default)]
    pub originate: Vec<String>,
    /// Appended to the generated configuration, in the router's own words.
    #[serde(default)]
    pub raw: Option<String>,
}

/// One neighbor of a router.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peering {
    /// Unique within the router: letters, digits, `_` and `-`.
    pub name: String,
    pub address: IpAddr,
    pub asn: u32,
    /// The address to speak from.
    #[serde(default)]
    pub local: Option<IpAddr>,
    /// `ipv4`, `ipv6`; without any, that of the address.
    #[serde(default)]
    pub families: Vec<String>,
    /// For TCP MD5.
    #[serde(default)]
    pub password: Option<String>,
    /// GTSM for a neighbor on the link: sends with TTL 255, accepts nothing less.
    #[serde(default)]
    pub ttl_security: bool,
    /// Sends with this TTL: 254 looks like a neighbor that is one hop too far for GTSM.
    #[serde(default)]
    pub ttl: Option<u8>,
    /// Waits to be called.
    #[serde(default)]
    pub passive: bool,
    /// Hops to a neighbor that is not on the link.
    #[serde(default)]
    pub multihop: Option<u8>,
    /// Seconds.
    #[serde(default)]
    pub hold_time: Option<u16>,
    /// Seconds; 1 when not given, so that a scenario does not wait.
    #[serde(default)]
    pub connect_retry: Option<u16>,
    /// Appended to the neighbor's part, in the router's own words. For BIRD, `ipv4 { … };` in it replaces the generated
    /// channel of that family.
    #[serde(default)]
    pub raw: Option<String>,
}

impl Peering {
    /// The families to negotiate: (IPv4, IPv6).
    #[must_use]
    pub fn families(&self) -> (bool, bool) {
        if self.families.is_empty() {
            return (self.address.is_ipv4(), self.address.is_ipv6());
        }
        let has = |family: &str| self.families.iter().any(|named| named == family);
        (has("ipv4"), has("ipv6"))
    }

    /// The TTL to send with when it is not the router's own choice. A raw TTL is dressed as multihop, the only way that
    /// every router knows.
    #[must_use]
    pub fn hops(&self) -> Option<u8> {
        self.ttl.or(self.multihop)
    }
}

impl RouterConfig {
    /// The configured name of a neighbor, or its address if nobody configured it.
    #[must_use]
    pub fn neighbor_name(&self, address: &str) -> String {
        let configured = self.neighbors.iter().find(|it| it.address.to_string() == address);
        configured.map_or_else(|| address.to_owned(), |it| it.name.clone())
    }

    /// The originated prefixes, parsed.
    ///
    /// # Errors
    /// `InvalidInput` for the first that is none.
    pub fn originated(&self) -> io::Result<Vec<IpNetwork>> {
        self.originate
            .iter()
            .map(|text| {
                let prefix = IpNetwork::from_str(text)
                    .map_err(|error| invalid(format!("originate: {text}: {error}")))?;
                if prefix.ip() != prefix.network() {
                    return Err(invalid(format!(
                        "originate: {text} has host bits; meant is {}",
                        canonical(text)
                    )));
                }
                Ok(prefix)
            })
            .collect()
    }

    /// Refuses what would break out of the generated configuration, or be understood differently by each router.
    ///
    /// # Errors
    /// `InvalidInput`, naming the field.
    pub fn check(&self) -> io::Result<()> {
        self.originated()?;
        let mut names = BTreeSet::new();
        for peering in &self.neighbors {
            let name = &peering.name;
            let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if name.is_empty() || name.len() > 32 || !name.chars().all(fine) {
                return Err(invalid(format!(
                    "neighbor {name:?}: a name is 1 to 32 letters, digits, _ and -"
                )));
            }
            if !names.insert(name) {
                return Err(invalid(format!("neighbor {name} is there twice")));
            }
            if let Some(family) =
                peering.families.iter().find(|family| !matches!(family.as_str(), "ipv4" | "ipv6"))
            {
                return Err(invalid(format!("neighbor {name}: family {family:?} is neither ipv4 nor ipv6")));
            }
            if peering
                .password
                .as_ref()
                .is_some_and(|it| it.chars().any(|c| !c.is_ascii_graphic() || "\"\\'#;!".contains(c)))
            {
                return Err(invalid(format!(
                    "neighbor {name}: the password has characters that routers quote differently"
                )));
            }
            if peering.ttl_security && peering.hops().is_some() {
                return Err(invalid(format!("neighbor {name}: ttl_security excludes ttl and multihop")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_routers_would_understand_differently_is_refused() {
        let config = |neighbor: &str, originate: &str| {
            let text = format!(
                r#"{{"asn":1,"router_id":"1.1.1.1","originate":["{originate}"],
                    "neighbors":[{{"name":"a","address":"10.0.0.1","asn":2{neighbor}}}]}}"#
            );
            serde_json::from_str::<RouterConfig>(&text).unwrap().check()
        };
        assert!(config("", "10.0.0.0/8").is_ok());
        assert!(config("", "10.0.0.1/8").is_err());
        assert!(config(r#","families":["vpn"]"#, "10.0.0.0/8").is_err());
        assert!(config(r#","password":"a b""#, "10.0.0.0/8").is_err());
        assert!(config(r#","ttl_security":true,"ttl":254"#, "10.0.0.0/8").is_err());
    }
}
