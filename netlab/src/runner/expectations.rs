//! What a step expects to become true.

use serde_json::Value;

use super::Runner;
use crate::bgp_stream::{Event, Kind, Timeline};
use crate::capture::NoteKind;
use crate::moment::Moment;
use crate::scenario::{
    Expect, ExpectCommand, ExpectRoute, ExpectSession, ExpectStatus, ExpectUpdates, Happening, Order,
};

impl Runner<'_> {
    pub(super) fn expect(&mut self, expect: &Expect) -> Result<(), String> {
        let within = expect.within;
        if let Some(route) = &expect.route {
            return self.poll(within, |runner| runner.route(route));
        }
        if let Some(session) = &expect.session {
            return self.poll(within, |runner| runner.session(session));
        }
        if let Some(status) = &expect.status {
            return self.poll(within, |runner| runner.status(status));
        }
        if let Some(command) = &expect.command {
            return self.poll(within, |runner| runner.command(command));
        }
        if let Some(updates) = &expect.updates {
            return self.updates(updates);
        }
        if let Some(flows) = &expect.flows {
            return self.poll(within, |runner| runner.flows(flows));
        }
        if let Some(attack) = &expect.attack {
            return self.poll(within, |runner| runner.attacked(attack));
        }
        if let Some(explanation) = &expect.explain {
            return self.poll(within, |runner| runner.explanation(explanation));
        }
        if let Some(wireguard) = &expect.wireguard {
            return self.poll(within, |runner| runner.wireguard(wireguard));
        }
        if let Some(traffic) = &expect.traffic {
            return self.poll(within, |runner| runner.came_to(traffic));
        }
        if let Some(arrivals) = &expect.arrivals {
            return self.poll(within, |runner| runner.arrivals(arrivals));
        }
        if let Some(order) = &expect.order {
            return self.poll(within, |runner| runner.order(order));
        }
        let known =
            "route session status command updates flows attack explain wireguard traffic arrivals order";
        Err(format!("an expectation needs one of: {known}"))
    }

    fn route(&mut self, wanted: &ExpectRoute) -> Result<(), String> {
        let node = self.lab.node_mut(&wanted.at).map_err(|error| error.to_string())?;
        if let Some(collector) = &node.collector {
            let prefix = wanted.prefix.parse().map_err(|error| format!("{}: {error}", wanted.prefix))?;
            let present = collector.routes().contains_key(&prefix);
            let words =
                || format!("{} {} {}", wanted.at, if present { "has" } else { "has not" }, wanted.prefix);
            return if present == wanted.present { Ok(()) } else { Err(words()) };
        }
        let router = node.router.as_mut().ok_or_else(|| format!("{} runs no router", wanted.at))?;
        let routes = router.routes(Some(&wanted.prefix)).map_err(|error| error.to_string())?;
        let matching = |route: &&crate::node::router::TableRoute| {
            route.prefix == wanted.prefix
                && wanted.next_hop.as_ref().is_none_or(|hop| *hop == route.next_hop)
                && wanted.as_path.as_ref().is_none_or(|path| *path == route.as_path)
                && wanted.med.is_none_or(|med| route.med == Some(med))
                && wanted.communities.as_ref().is_none_or(|list| same(list, &route.communities))
                && wanted.large_communities.as_ref().is_none_or(|list| same(list, &route.large_communities))
        };
        if routes.iter().any(|route| matching(&route)) == wanted.present {
            return Ok(());
        }
        Err(format!("the table of {} has for {}: {routes:?}; wanted: {wanted:?}", wanted.at, wanted.prefix))
    }

    fn session(&mut self, wanted: &ExpectSession) -> Result<(), String> {
        let node = self.lab.node_mut(&wanted.at).map_err(|error| error.to_string())?;
        let router = node.router.as_mut().ok_or_else(|| format!("{} runs no router", wanted.at))?;
        let sessions = router.sessions().map_err(|error| error.to_string())?;
        let named = |name: &str, address: &str| name == wanted.neighbor || address == wanted.neighbor;
        let session = sessions.iter().find(|s| named(&s.neighbor, &s.address));
        let Some(session) = session else {
            return Err(format!("{} knows no neighbor {}: {sessions:?}", wanted.at, wanted.neighbor));
        };
        let is = wanted.state.as_ref().is_none_or(|state| session.state.eq_ignore_ascii_case(state));
        let is_not = wanted.not.as_ref().is_none_or(|state| !session.state.eq_ignore_ascii_case(state));
        if is && is_not { Ok(()) } else { Err(format!("{}: {session:?}", wanted.at)) }
    }

    fn status(&mut self, wanted: &ExpectStatus) -> Result<(), String> {
        let node = self.lab.node_mut(&wanted.at).map_err(|error| error.to_string())?;
        let edgeproxy = node.edgeproxy.as_mut().ok_or_else(|| format!("{} runs no edgeproxy", wanted.at))?;
        let (status, pointer) = match wanted.pointer.strip_prefix("/proxy") {
            Some(rest) => (edgeproxy.traffic(), rest),
            None => (edgeproxy.status(), wanted.pointer.as_str()),
        };
        let status = status.map_err(|error| error.to_string())?;
        let found = point(&status, pointer)
            .ok_or_else(|| format!("{} has no {} in its status", wanted.at, wanted.pointer))?;
        let text = found.as_str().map_or_else(|| found.to_string(), ToOwned::to_owned);
        let fits = wanted.equals.as_ref().is_none_or(|value| found == value)
            && wanted.contains.as_ref().is_none_or(|part| text.contains(part))
            && wanted.at_least.is_none_or(|least| found.as_f64().is_some_and(|number| number >= least))
            && wanted.at_most.is_none_or(|most| found.as_f64().is_some_and(|number| number <= most));
        if fits {
            return Ok(());
        }
        Err(format!("{}: {} is {text:?}; wanted: {wanted:?}", wanted.at, wanted.pointer))
    }

    fn command(&mut self, wanted: &ExpectCommand) -> Result<(), String> {
        let output = self.shell(&wanted.at, &wanted.run)?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let fits = output.status.code() == Some(wanted.code)
            && wanted.contains.as_ref().is_none_or(|part| text.contains(part))
            && wanted.lacks.as_ref().is_none_or(|part| !text.contains(part));
        if fits {
            return Ok(());
        }
        Err(format!(
            "{} ended with {:?} and said:\n{text}; wanted: {wanted:?}",
            wanted.run,
            output.status.code()
        ))
    }

    fn updates(&mut self, wanted: &ExpectUpdates) -> Result<(), String> {
        let since = self.mark(&wanted.since)?;
        let capture = self.lab.capture(&wanted.capture).map_err(|error| error.to_string())?;
        let count =
            capture.look(|seen| Timeline::new(&seen.events).updates(wanted.prefix, None, since, Moment::MAX));
        if wanted.count.is_none_or(|wanted| count == wanted)
            && wanted.at_most.is_none_or(|most| count <= most)
        {
            return Ok(());
        }
        let (exactly, at_most) = (wanted.count, wanted.at_most);
        let events = capture.look(|seen| {
            let named = seen.events.iter().filter(|e| e.at >= since && e.update().is_some());
            named.map(ToString::to_string).collect::<Vec<_>>().join("\n")
        });
        let right = exactly.map_or_else(|| format!("at most {}", at_most.unwrap_or(0)), |n| n.to_string());
        Err(format!("{count} UPDATEs named {} since {}, not {right}:\n{events}", wanted.prefix, wanted.since))
    }

    fn order(&mut self, order: &Order) -> Result<(), String> {
        let since = self.mark(&order.since)?;
        let mut before = since;
        for happening in &order.of {
            let at = self.happened(happening, since)?;
            let at = at.ok_or_else(|| format!("{happening:?} has not happened"))?;
            if at < before {
                let early = before.ms_after(at);
                return Err(format!("{happening:?} happened {early:.3} ms before what must precede it"));
            }
            before = at;
        }
        Ok(())
    }

    fn happened(&self, happening: &Happening, since: Moment) -> Result<Option<Moment>, String> {
        let first = |capture: &str, wanted: &dyn Fn(&Event) -> bool| {
            self.lab.first(capture, since, wanted).map_err(|error| error.to_string())
        };
        let address = |at: &str, address: &std::net::IpAddr, added: bool| -> Result<_, String> {
            let node = self.lab.node(at).map_err(|error| error.to_string())?;
            Ok(node.address_event(*address, added, since))
        };
        match happening {
            Happening::Bound { at, address: a } => address(at, a, true),
            Happening::Unbound { at, address: a } => address(at, a, false),
            Happening::Announced { capture, prefix, community } => first(capture, &|e| {
                let carries = |community: &String| {
                    e.update().is_some_and(|update| update.attributes.communities.contains(community))
                };
                e.announces(*prefix) && community.as_ref().is_none_or(carries)
            }),
            Happening::Withdrawn { capture, prefix } => first(capture, &|e| e.withdraws(*prefix)),
            Happening::FlowsEnded(name) => {
                let client = self.flows.get(name).ok_or_else(|| format!("there are no flows {name}"))?;
                Ok(client.look(|record| record.last_end()))
            }
            Happening::Closed { capture } => first(capture, &|e| matches!(e.kind, Kind::Notification(_))),
            Happening::Probed { capture, port } => {
                self.segment(capture, since, |from, syn, ack, _| from == *port && syn && ack)
            }
            Happening::Reset { capture, port } => {
                self.segment(capture, since, |from, _, _, rst| from == *port && rst)
            }
        }
    }
}

impl Runner<'_> {
    /// The first segment since then of which `wanted` is true: of its source port, SYN, ACK and RST.
    fn segment(
        &self,
        capture: &str,
        since: Moment,
        wanted: impl Fn(u16, bool, bool, bool) -> bool,
    ) -> Result<Option<Moment>, String> {
        let capture = self.lab.capture(capture).map_err(|error| error.to_string())?;
        Ok(capture.look(|seen| {
            let mut notes = seen.notes.iter().filter(|note| note.at >= since);
            let note = notes.find(|note| match &note.kind {
                NoteKind::Tcp { from, syn, ack, rst, .. } => wanted(from.port(), *syn, *ack, *rst),
                _ => false,
            });
            note.map(|note| note.at)
        }))
    }
}

/// Follows a JSON pointer in which `key=value` picks an element of a list.
fn point<'a>(mut value: &'a Value, pointer: &str) -> Option<&'a Value> {
    for part in pointer.split('/').skip(1) {
        value = match (value, part.split_once('=')) {
            (Value::Array(list), Some((key, wanted))) => list.iter().find(|item| item[key] == wanted)?,
            (Value::Array(list), None) => list.get(part.parse::<usize>().ok()?)?,
            (Value::Object(map), _) => map.get(&part.replace("~1", "/"))?,
            _ => return None,
        };
    }
    Some(value)
}

fn same(wanted: &[String], found: &[String]) -> bool {
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    sorted(wanted) == sorted(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_pick_by_name_and_by_number() {
        let document = serde_json::json!({ "neighbors": [{ "name": "a", "x": [1, 2] }, { "name": "b/c" }] });
        assert_eq!(point(&document, "/neighbors/name=a/x/1"), Some(&Value::from(2)));
        assert_eq!(point(&document, "/neighbors/1/name"), Some(&Value::from("b/c")));
        assert_eq!(point(&document, "/neighbors/name=z"), None);
    }
}
