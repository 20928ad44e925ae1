//! Holds what edgeproxy explains to its journal, and to the table of the router that it tells.

use serde_json::Value;

use super::Runner;
use crate::scenario::ExpectExplanation;

impl Runner<'_> {
    pub(super) fn explanation(&mut self, wanted: &ExpectExplanation) -> Result<(), String> {
        let screen = self.say(&wanted.at, &["explain", &wanted.prefix])?;
        let document = self.say(&wanted.at, &["explain", &wanted.prefix, "--json"])?;
        let document: Value = serde_json::from_str(&document).map_err(|error| error.to_string())?;
        let found = self.is_explained(wanted, &screen, &document["prefix"]);
        let found = found.and_then(|()| self.is_heard(wanted, &document["neighbors"]));
        let found = found.and_then(|()| self.is_chained(wanted, &document));
        found.map_err(|why| format!("{why}; the explanation was:\n{screen}"))
    }

    fn is_explained(&self, wanted: &ExpectExplanation, screen: &str, prefix: &Value) -> Result<(), String> {
        let ExpectExplanation { state, reason, .. } = wanted;
        if prefix["state"] != **state || prefix["reason"] != **reason {
            return Err(format!("{} is {} for {}", wanted.prefix, prefix["state"], prefix["reason"]));
        }
        let says = |key: &str, part: &str| prefix[key].as_str().is_some_and(|text| text.contains(part));
        let whys = wanted.why.iter().filter(|part| !says("why", part));
        let change = (!says("change", &wanted.change)).then_some(&wanted.change);
        if let Some(part) = whys.chain(change).next() {
            return Err(format!(
                "the document does not say {part:?}: {} {}",
                prefix["why"], prefix["change"]
            ));
        }
        let head = [format!("{} is {state} for ", wanted.prefix), format!(" ({reason})\n")];
        let parts = head.iter().chain(&wanted.why).chain([&wanted.change]).chain(&wanted.shows);
        if let Some(part) = parts.into_iter().find(|part| !screen.contains(part.as_str())) {
            return Err(format!("the screen does not show {part:?}"));
        }
        if let Some(mark) = &wanted.since {
            let age = prefix["since_ms"].as_u64().ok_or("no since_ms")?;
            let most = crate::moment::Moment::now().since(self.mark(mark)?).as_millis();
            if u128::from(age) > most {
                return Err(format!("it is so for {age} ms, but {mark} was {most} ms ago"));
            }
        }
        Ok(())
    }

    /// What the neighbor was told must be what it has.
    fn is_heard(&mut self, wanted: &ExpectExplanation, neighbors: &Value) -> Result<(), String> {
        let [neighbor] = neighbors.as_array().map_or(&[][..], Vec::as_slice) else {
            return Err(format!("not one neighbor, but {neighbors}"));
        };
        let node = self.lab.node(&wanted.told).map_err(|error| error.to_string())?;
        let router = node.router.as_ref().ok_or_else(|| format!("{} runs no router", wanted.told))?;
        let routes = router.routes(Some(&wanted.prefix)).map_err(|error| error.to_string())?;
        let sent = &neighbor["sent"];
        let agrees = match routes.first() {
            None => sent.is_null(),
            Some(route) => {
                let same = |key: &str, value: Value| sent[key] == value;
                same("next_hop", Value::from(&*route.next_hop))
                    && same("as_path", Value::from(&*route.as_path))
                    && same("med", Value::from(route.med))
                    && same("communities", Value::from(&*route.communities))
                    && same("large_communities", Value::from(&*route.large_communities))
            }
        };
        if agrees { Ok(()) } else { Err(format!("told {sent}, but the table has {routes:?}")) }
    }

    /// The last decision, and everything else of its cause.
    fn is_chained(&self, wanted: &ExpectExplanation, document: &Value) -> Result<(), String> {
        let history = document["history"].as_array().map_or(&[][..], Vec::as_slice);
        let decision = history.iter().rfind(|entry| entry["event"] == "decision").ok_or("no decision")?;
        if decision["reason"] != *wanted.reason || decision["state"] != *wanted.state {
            return Err(format!("the last decision was {decision}"));
        }
        let cause = decision["cause"].as_str().ok_or("a decision without a cause")?;
        let events = self.say(&wanted.at, &["events", "--json", "--last", "1000"])?;
        let events = events.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>();
        let events = events.map_err(|error| error.to_string())?;
        let about = |entry: &&Value| {
            entry["cause"] == cause && entry.get("prefix").is_none_or(|prefix| *prefix == *wanted.prefix)
        };
        let kinds = |entries: &[Value]| -> Vec<String> {
            let kinds = entries.iter().filter(about).filter_map(|entry| entry["event"].as_str());
            kinds.map(str::to_owned).collect()
        };
        let (mut chain, shown, mut sorted) = (kinds(&events), kinds(history), wanted.chain.clone());
        // The journal may have an effect before its cause.
        chain.sort();
        sorted.sort();
        if chain != sorted || shown != wanted.chain {
            return Err(format!(
                "under the cause {cause} the journal has {chain:?}, the explanation {shown:?}"
            ));
        }
        if wanted.chain.iter().any(|kind| kind == "update") && document["prefix"]["cause"] != cause {
            return Err(format!("it names the cause {}, not {cause}", document["prefix"]["cause"]));
        }
        Ok(())
    }

    /// What a command prints; it must succeed.
    fn say(&self, host: &str, arguments: &[&str]) -> Result<String, String> {
        let node = self.lab.node(host).map_err(|error| error.to_string())?;
        let edgeproxy = node.edgeproxy.as_ref().ok_or_else(|| format!("{host} runs no edgeproxy"))?;
        let output = edgeproxy.cli(arguments).map_err(|error| error.to_string())?;
        if output.status.success() {
            return String::from_utf8(output.stdout).map_err(|error| error.to_string());
        }
        Err(format!("{}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
    }
}
