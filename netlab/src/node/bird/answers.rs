//! What BIRD says of its routes and sessions, read.

use std::io;

use super::PREFIX;
use crate::node::router::{Resolved, Session, TableRoute, misunderstood, sorted};

/// Reads `show route all`: only BGP's and static routes, the rest is what the kernel told BIRD.
pub(super) fn parse_routes(text: &str) -> io::Result<Vec<Resolved>> {
    let mut routes = Vec::new();
    let mut prefix = String::new();
    let mut route: Option<(Resolved, bool)> = None;
    for line in text.lines() {
        if line.starts_with("Table ") {
            continue;
        }
        if let Some(attribute) = line.strip_prefix('\t') {
            if let Some((route, wanted)) = &mut route {
                *wanted |= matches!(attribute.trim_end(), "Type: BGP univ" | "Type: static univ");
                parse_attribute(route, attribute)?;
            }
            continue;
        }
        // `PREFIX  unicast [name since from address] * (100/?) [AS64512i]`; further paths leave the prefix out.
        let Some((before, after)) = line.split_once('[') else { continue };
        if !line.starts_with(' ') {
            prefix = before.split_whitespace().next().unwrap_or_default().to_owned();
        }
        let (source, flags) = after.split_once(']').ok_or_else(|| misunderstood(format!("bird: {line}")))?;
        routes.extend(route.take().and_then(|(route, wanted)| wanted.then_some(route)));
        let from = source.split_whitespace().next().unwrap_or_default();
        let new = TableRoute {
            prefix: prefix.clone(),
            from: (!from.starts_with("static_")).then(|| neighbor_name(from)),
            best: flags.trim_start().starts_with('*'),
            ..TableRoute::default()
        };
        route = Some((Resolved { route: new, gateways: Vec::new() }, false));
    }
    routes.extend(route.take().and_then(|(route, wanted)| wanted.then_some(route)));
    Ok(routes)
}

fn parse_attribute(Resolved { route, gateways }: &mut Resolved, line: &str) -> io::Result<()> {
    if let Some(via) = line.trim().strip_prefix("via ") {
        gateways.extend(via.split_whitespace().next().map(str::to_owned));
        return Ok(());
    }
    let Some((name, value)) = line.trim().split_once(':') else { return Ok(()) };
    let value = value.trim();
    let number = || value.parse::<u32>().map_err(|_| misunderstood(format!("bird: {line}")));
    match name {
        // A set (from an aggregate) is written in braces.
        "BGP.as_path" => {
            route.as_path =
                value.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
        }
        // With IPv6, the link-local one follows.
        "BGP.next_hop" => value.split_whitespace().next().unwrap_or_default().clone_into(&mut route.next_hop),
        "BGP.med" => route.med = Some(number()?),
        "BGP.local_pref" => route.local_pref = Some(number()?),
        "BGP.community" => route.communities = tuples(value),
        "BGP.large_community" => route.large_communities = tuples(value),
        _ => {}
    }
    Ok(())
}

fn neighbor_name(protocol: &str) -> String {
    protocol.strip_prefix(PREFIX).unwrap_or(protocol).to_owned()
}

/// `(65535,0) (64512, 1, 2)` as `65535:0`, `64512:1:2`.
fn tuples(text: &str) -> Vec<String> {
    sorted(
        text.split(')')
            .filter_map(|tuple| tuple.split_once('('))
            .map(|(_, inner)| inner.split(',').map(str::trim).collect::<Vec<_>>().join(":"))
            .collect(),
    )
}

/// Reads `show protocols all` with times in seconds since the epoch.
pub(super) fn parse_sessions(text: &str, now: u64) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if !line.starts_with([' ', '\t']) && !line.is_empty() {
            // NAME PROTO TABLE STATE SINCE INFO…
            let fields: Vec<_> = line.split_whitespace().collect();
            inside = fields.get(1) == Some(&"BGP");
            if inside {
                sessions.push(Session {
                    neighbor: neighbor_name(fields[0]),
                    uptime_s: fields.get(4).and_then(|it| it.parse().ok()).map(|it| now.saturating_sub(it)),
                    ..Session::default()
                });
            }
            continue;
        }
        let (true, Some(session)) = (inside, sessions.last_mut()) else { continue };
        let Some((name, value)) = line.trim().split_once(':') else { continue };
        match name {
            "BGP state" => value.trim().clone_into(&mut session.state),
            "Neighbor address" => value.trim().clone_into(&mut session.address),
            "Last error" => value.trim().clone_into(&mut session.info),
            _ => {}
        }
    }
    for session in &mut sessions {
        // Since when it is in another state is not an uptime.
        if !session.is_established() {
            session.uptime_s = None;
        }
    }
    sessions
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Table master4:
198.51.101.0/24      blackhole [static_ipv4 1795384405] * (200)
\tType: static univ
198.51.102.0/24      unicast [to_up-2 1795384406] * (100) [AS64512i]
\tvia 10.9.0.2 on veth-rta
\tType: BGP univ
\tBGP.origin: IGP
\tBGP.as_path: 64512 64513
\tBGP.next_hop: 10.9.0.2
\tBGP.med: 7
\tBGP.local_pref: 100
\tBGP.community: (65535,0) (64512,1)
\tBGP.large_community: (64512, 1, 2)
                     unicast [other 1795384406 from 10.9.0.3] (100/?) [AS64513i]
\tvia 10.9.0.3 on veth-rta
\tType: BGP univ
\tBGP.as_path: 64513
\tBGP.next_hop: 10.9.0.3
10.9.0.0/24          unicast [direct1 1795384405] * (240)
\tdev veth-rta
\tType: device univ

Table master6:
2001:db8::/32        unicast [to_six 1795384405] * (100) [AS64512i]
\tType: BGP univ
\tBGP.next_hop: fd09::1 fe80::1
";

    #[test]
    fn routes_are_read_with_their_attributes_and_further_paths() {
        let (routes, gateways): (Vec<_>, Vec<_>) =
            parse_routes(ROUTES).unwrap().into_iter().map(|it| (it.route, it.gateways)).unzip();
        assert_eq!(gateways[2], ["10.9.0.3"]);
        let prefixes: Vec<_> =
            routes.iter().map(|it| (it.prefix.as_str(), it.best, it.from.as_deref())).collect();
        assert_eq!(
            prefixes,
            [
                ("198.51.101.0/24", true, None),
                ("198.51.102.0/24", true, Some("up-2")),
                ("198.51.102.0/24", false, Some("other")),
                ("2001:db8::/32", true, Some("six")),
            ]
        );
        assert_eq!(routes[1].as_path, [64512, 64513]);
        assert_eq!((routes[1].med, routes[1].local_pref), (Some(7), Some(100)));
        assert_eq!(routes[1].communities, ["64512:1", "65535:0"]);
        assert_eq!(routes[1].large_communities, ["64512:1:2"]);
        assert_eq!(routes[2].next_hop, "10.9.0.3");
        assert_eq!(routes[3].next_hop, "fd09::1");
    }

    #[test]
    fn sessions_are_read_and_only_an_established_one_has_an_uptime() {
        let text = "Name       Proto      Table      State  Since         Info
direct1    Direct     ---        up     1795384405    
  Channel ipv4
    State:          UP

to_up-2    BGP        ---        up     1795384406    Established   
  BGP state:          Established
    Neighbor address: 10.9.0.2
    Neighbor AS:      64512

to_edge    BGP        ---        start  1795384413    Active        Received: Administrative shutdown
  BGP state:          Active
    Neighbor address: fd09::3
    Connect delay:    0.455/1
    Last error:       Received: Administrative shutdown
";
        let sessions = parse_sessions(text, 1_795_384_416);
        assert_eq!(sessions.len(), 2);
        assert_eq!((sessions[0].neighbor.as_str(), sessions[0].uptime_s), ("up-2", Some(10)));
        assert!(sessions[0].is_established());
        assert_eq!((sessions[1].address.as_str(), sessions[1].uptime_s), ("fd09::3", None));
        assert_eq!(
            (sessions[1].state.as_str(), sessions[1].info.as_str()),
            ("Active", "Received: Administrative shutdown")
        );
    }
}
