//! Which of a router's routes its kernel forwards by.

use std::collections::BTreeSet;
use std::io;

use super::{TableRoute, ask, canonical};
use crate::namespace::Namespace;

/// A route as it was read, with the gateways that the router resolved it to: with IPv6 that is the link-local address,
/// and not the next hop that the table shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    pub route: TableRoute,
    pub gateways: Vec<String>,
}

/// Marks the routes that the kernel of this host forwards by: same prefix, one of the gateways.
///
/// # Errors
/// When the kernel's table cannot be read.
pub fn mark_fib(namespace: &Namespace, routes: Vec<Resolved>) -> io::Result<Vec<TableRoute>> {
    let mut table = BTreeSet::new();
    for (flag, v6) in [("-4", false), ("-6", true)] {
        if routes.iter().any(|it| it.route.prefix.contains(':') == v6 && !it.gateways.is_empty()) {
            let mut command = namespace.short_command("ip");
            command.args(["-j", flag, "route", "show", "table", "main"]);
            table.append(&mut kernel_gateways(&ask(command)?, v6)?);
        }
    }
    let marked = routes.into_iter().map(|Resolved { mut route, gateways }| {
        let prefix = canonical(&route.prefix);
        route.in_fib = gateways.into_iter().any(|gateway| table.contains(&(prefix.clone(), gateway)));
        route
    });
    Ok(marked.collect())
}

/// (prefix, gateway) of every route in the output of `ip -j route`.
fn kernel_gateways(text: &str, v6: bool) -> io::Result<BTreeSet<(String, String)>> {
    let mut table = BTreeSet::new();
    let listed: serde_json::Value = serde_json::from_str(text)?;
    for route in listed.as_array().into_iter().flatten() {
        let prefix = match route["dst"].as_str() {
            Some("default") => if v6 { "::/0" } else { "0.0.0.0/0" }.to_owned(),
            Some(text) => canonical(text),
            None => continue,
        };
        let several = route["nexthops"].as_array().into_iter().flatten();
        for hop in std::iter::once(route).chain(several) {
            // A gateway of the other family is told as "via": {"family", "host"}.
            if let Some(gateway) = hop["gateway"].as_str().or_else(|| hop["via"]["host"].as_str()) {
                table.insert((prefix.clone(), gateway.to_owned()));
            }
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_gateways_are_read_one_by_one_and_together() {
        let text = r#"[{"dst":"default","gateway":"10.9.0.1","dev":"a","flags":[]},
            {"dst":"10.9.0.0/24","dev":"a","protocol":"kernel"},
            {"dst":"198.51.100.1","nexthops":[{"gateway":"10.9.0.2","dev":"a"},{"via":{"family":"inet6","host":"fe80::1"}}]}]"#;
        let table = kernel_gateways(text, false).unwrap();
        let expected =
            [("0.0.0.0/0", "10.9.0.1"), ("198.51.100.1/32", "10.9.0.2"), ("198.51.100.1/32", "fe80::1")];
        assert_eq!(table, expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    }
}
