//! What operators drain: their orders, which outlive the process.
#![expect(clippy::disallowed_methods, reason = "driver: owns the file of the orders and asks for the time")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;
use tracing::{info, warn};

use super::running::Wish;
use crate::admin::Told;
use crate::announce::drain::Order;
use crate::announce::ledger;
use crate::config::Config;
use crate::config::anycast::AnycastPrefix;
use crate::config::duration;
use crate::config::generation::atomic;
use crate::observe::journal::{CauseId, CauseIds, Event, Journal};
use crate::replication::voters::{Held, PermitId, Permits};

/// A file of orders is not longer than this.
const MOST_BYTES: u64 = 4 << 20;
/// No order is older or longer than this, whatever the clock says.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The orders in force.
pub struct Drains {
    path: PathBuf,
    orders: ledger::Drains,
    handout: watch::Sender<Arc<ledger::Drains>>,
    /// What the voters of the fleet have granted, as replication is told of it.
    held: Held,
    held_out: watch::Sender<Arc<Held>>,
    requests: u64,
    ids: CauseIds,
    journal: Journal,
}

/// An order as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    prefix: String,
    reason: String,
    /// Wall clock, in milliseconds of the Unix epoch, as no other clock outlives the machine.
    begun_ms: u64,
    deadline_ms: u64,
    /// Of the voters: incarnation and number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    permit: Option<(u64, u64)>,
}

impl Drains {
    /// Takes up the orders of an earlier process. What cannot be read is left where it is.
    #[must_use]
    pub fn open(
        state: &Path,
        handout: watch::Sender<Arc<ledger::Drains>>,
        held_out: watch::Sender<Arc<Held>>,
        journal: Journal,
        ids: CauseIds,
    ) -> Self {
        let path = state.join("drains.json");
        let mut drains = Self {
            path,
            orders: BTreeMap::new(),
            handout,
            held: Held::default(),
            held_out,
            requests: 0,
            ids,
            journal,
        };
        match read(&drains.path) {
            Ok(kept) => drains.resume(&kept),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let path = drains.path.display();
                warn!("{path} cannot be read: {error}; what was drained before is announced again");
            }
        }
        drains
    }

    /// Drains prefixes: one, by its text or an address in it, or all. The answer says what comes next; `permits` are
    /// what the voters have granted for it.
    ///
    /// # Errors
    /// When the configuration has no such prefix.
    pub fn drain(&mut self, config: &Config, wish: &Wish, permits: &Permits) -> Result<Told, String> {
        let Wish { prefix: wanted, deadline, reason, force, cause } = wish;
        let prefixes = find(config, wanted)?;
        let now = Instant::now();
        let mut lines = Vec::new();
        for prefix in &prefixes {
            let bounds = config.anycast.get(prefix).map(|anycast| &anycast.drain);
            let patience = deadline.or_else(|| bounds.map(|drain| drain.deadline)).unwrap_or_default();
            let patience = patience.min(LONGEST);
            let order = Order {
                reason: reason.clone(),
                begun: self.orders.get(prefix).map_or(now, |order| order.begun),
                deadline: now + patience,
                resumed: false,
                force: *force,
                cause: *cause,
            };
            lines.push(format!(
                "{prefix} drains: de-preferred, then withdrawn when its traffic is gone or after {} at the \
                 latest; `edgeproxy undrain {prefix}` takes it back",
                duration::written(patience)
            ));
            self.orders.insert(*prefix, order);
            if let Some(permit) = permits.get(&prefix.network()) {
                self.held.permits.insert(prefix.network(), *permit);
            }
        }
        let words = if reason.is_empty() { wanted.clone() } else { format!("{wanted} ({reason})") };
        let words = if *force { format!("{words}, by force") } else { words };
        self.journal
            .note(Some(*cause), Event::Operator { command: "drain".to_owned(), words, accepted: true });
        Ok(self.settle("drain", &prefixes, lines))
    }

    /// The prefixes that an operator means.
    ///
    /// # Errors
    /// When the configuration has none of them.
    pub fn find(&self, config: &Config, wanted: &str) -> Result<Vec<AnycastPrefix>, String> {
        find(config, wanted)
    }

    /// Whether it is drained already, with what that needs.
    pub fn is_permitted(&self, prefix: &AnycastPrefix) -> bool {
        self.orders.contains_key(prefix) && self.held.permits.contains_key(&prefix.network())
    }

    /// A number for a question to the voters.
    pub fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// The last question is answered, and the answer heeded.
    pub fn handle_answer(&mut self) {
        self.held.answered = self.requests;
        self.hold();
    }

    /// Takes drains back.
    ///
    /// # Errors
    /// When the configuration has no such prefix, or it is not drained.
    pub fn undrain(&mut self, config: &Config, wanted: &str, cause: CauseId) -> Result<Told, String> {
        let mut prefixes = find(config, wanted)?;
        prefixes.retain(|prefix| self.orders.contains_key(prefix));
        if prefixes.is_empty() {
            return Err(match wanted.trim() {
                "all" => "nothing is drained".to_owned(),
                prefix => format!("{prefix} is not drained"),
            });
        }
        let mut lines = Vec::new();
        for prefix in &prefixes {
            self.orders.remove(prefix);
            lines.push(format!("{prefix}: announced again as its checks allow"));
        }
        let event =
            Event::Operator { command: "undrain".to_owned(), words: wanted.to_owned(), accepted: true };
        self.journal.note(Some(cause), event);
        Ok(self.settle("undrain", &prefixes, lines))
    }

    /// Forgets orders for prefixes that the configuration no longer has.
    pub fn follow(&mut self, config: &Config) {
        let gone = |prefix: &&AnycastPrefix| !config.anycast.contains_key(*prefix);
        let gone: Vec<_> = self.orders.keys().filter(gone).copied().collect();
        for prefix in &gone {
            self.orders.remove(prefix);
            warn!(%prefix, "it has left the configuration, and its drain with it");
        }
        if !gone.is_empty() {
            let _ = self.settle("", &gone, Vec::new());
        }
    }

    /// Writes the orders down before they are obeyed: what was answered is not forgotten.
    fn settle(&mut self, command: &str, prefixes: &[AnycastPrefix], mut lines: Vec<String>) -> Told {
        let kept = self.write();
        if let Err(error) = &kept {
            let path = self.path.display();
            warn!("{path} cannot be written: {error}; a restart will not know what is drained");
            lines.push(format!("note: {path} cannot be written ({error}): a restart will not know of this"));
        }
        self.handout.send_replace(Arc::new(self.orders.clone()));
        self.hold();
        let prefixes: Vec<_> = prefixes.iter().map(ToString::to_string).collect();
        let document = json!({ "command": command, "prefixes": prefixes, "survives_restart": kept.is_ok() });
        Told { text: lines.join("\n"), document }
    }

    /// Permits of what is not drained any more are given back.
    fn hold(&mut self) {
        let drained: Vec<_> = self.orders.keys().map(|prefix| prefix.network()).collect();
        self.held.permits.retain(|prefix, _| drained.contains(prefix));
        self.held_out.send_replace(Arc::new(self.held.clone()));
    }

    fn write(&self) -> io::Result<()> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let kept = self.orders.iter().map(|(prefix, order)| Kept {
            prefix: prefix.to_string(),
            reason: order.reason.clone(),
            begun_ms: millis(wall - now.saturating_duration_since(order.begun)),
            deadline_ms: millis(wall + order.deadline.saturating_duration_since(now)),
            permit: self.held.permits.get(&prefix.network()).map(|it| (it.incarnation, it.number)),
        });
        let kept: Vec<_> = kept.collect();
        atomic::write(&self.path, &serde_json::to_vec_pretty(&kept)?, || Ok(()), || Ok(()))
    }

    fn resume(&mut self, kept: &[Kept]) {
        let (now, wall) = (Instant::now(), millis(SystemTime::now()));
        for Kept { prefix, reason, begun_ms, deadline_ms, permit } in kept {
            let Some(prefix) = prefix.parse().ok().and_then(AnycastPrefix::new) else { continue };
            let age = Duration::from_millis(wall.saturating_sub(*begun_ms)).min(LONGEST);
            let left = Duration::from_millis(deadline_ms.saturating_sub(wall)).min(LONGEST);
            let order = Order {
                reason: reason.clone(),
                begun: now.checked_sub(age).unwrap_or(now),
                deadline: now + left,
                resumed: true,
                force: false,
                cause: self.ids.next_id(),
            };
            if let Some((incarnation, number)) = *permit {
                self.held.permits.insert(prefix.network(), PermitId { incarnation, number });
            }
            info!(%prefix, reason, "still drained by an order given before this start");
            self.orders.insert(prefix, order);
        }
        self.handout.send_replace(Arc::new(self.orders.clone()));
        self.hold();
    }
}

fn read(path: &Path) -> io::Result<Vec<Kept>> {
    if fs::metadata(path)?.len() > MOST_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// The prefixes that an operator means.
fn find(config: &Config, wanted: &str) -> Result<Vec<AnycastPrefix>, String> {
    let wanted = wanted.trim();
    if wanted == "all" {
        return Ok(config.anycast.keys().copied().collect());
    }
    let is_meant = |prefix: &&AnycastPrefix| match wanted.parse::<IpAddr>() {
        Ok(address) => prefix.network().contains(address),
        Err(_) => wanted.parse::<IpNetwork>().is_ok_and(|network| {
            (network.network(), network.prefix()) == (prefix.network().ip(), prefix.network().prefix())
        }),
    };
    match config.anycast.keys().find(is_meant) {
        Some(prefix) => Ok(vec![*prefix]),
        None => {
            let known: Vec<_> = config.anycast.keys().map(ToString::to_string).collect();
            Err(format!("{wanted} is no prefix of the configuration; there are: {}", known.join(", ")))
        }
    }
}

fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::parse;

    const BOTH: &str = "[198.51.100.0/24, 203.0.113.0/24]";

    fn config(prefixes: &str) -> Config {
        let minimal =
            include_str!("../../config/minimal.yaml").replace("    addresses: [198.51.100.1]\n", "");
        let one = "  - prefix: 198.51.100.0/24\n    services: [web]\n";
        let listed = prefixes.trim_matches(['[', ']']).split(", ");
        let all: String = listed.map(|it| one.replace("198.51.100.0/24", it)).collect();
        assert!(minimal.contains(one));
        parse(&minimal.replace(one, &all), Path::new("")).unwrap()
    }

    fn open(state: &Path) -> (Drains, watch::Receiver<Arc<ledger::Drains>>) {
        let (handout, orders) = watch::channel(Arc::default());
        let held = watch::channel(Arc::default()).0;
        (Drains::open(state, handout, held, Journal::new(16).0, CauseIds::new(1, 2)), orders)
    }

    fn wish(prefix: &str, deadline: Option<Duration>, reason: &str) -> Wish {
        let (prefix, reason) = (prefix.to_owned(), reason.to_owned());
        Wish { prefix, deadline, reason, force: false, cause: CauseId::default() }
    }

    fn permits() -> Permits {
        let permit = PermitId { incarnation: 3, number: 4 };
        [("198.51.100.0/24", permit), ("203.0.113.0/24", permit)]
            .map(|(prefix, permit)| (prefix.parse().unwrap(), permit))
            .into()
    }

    fn drained(orders: &watch::Receiver<Arc<ledger::Drains>>) -> Vec<String> {
        orders.borrow().keys().map(ToString::to_string).collect()
    }

    #[test]
    fn orders_outlive_the_process_and_the_configuration_that_ends_their_prefix_ends_them() {
        let disk = tempfile::tempdir().unwrap();
        let (mut drains, _) = open(disk.path());
        let new_disks = wish("all", Some(Duration::from_secs(60)), "new disks");
        drains.drain(&config(BOTH), &new_disks, &permits()).unwrap();
        let (mut drains, orders) = open(disk.path());
        assert_eq!(drains.held.permits, permits());
        let order = orders.borrow().values().next().unwrap().clone();
        assert!(order.resumed && order.reason == "new disks");
        let left = order.deadline.saturating_duration_since(Instant::now());
        assert!((50..=60).contains(&left.as_secs()), "{left:?}");
        drains.follow(&config("[198.51.100.0/24]"));
        assert_eq!(drained(&orders), ["198.51.100.0/24"]);
        assert_eq!(drains.held.permits.len(), 1, "a permit ends with its drain");
        assert_eq!(drained(&open(disk.path()).1), ["198.51.100.0/24"]);
    }

    #[test]
    fn no_deadline_is_longer_than_told_whatever_was_asked_for_and_whatever_the_clock_says() {
        let disk = tempfile::tempdir().unwrap();
        let (mut drains, orders) = open(disk.path());
        let told =
            drains.drain(&config(BOTH), &wish("all", Some(Duration::MAX), ""), &Permits::new()).unwrap();
        assert!(told.text.contains("after 24h"), "{}", told.text);
        let longest = |orders: &watch::Receiver<Arc<ledger::Drains>>| {
            orders.borrow().values().all(|order| order.deadline <= Instant::now() + LONGEST)
        };
        assert!(longest(&orders));
        // Written by a clock that was a century ahead.
        let kept = r#"[{"prefix":"198.51.100.0/24","reason":"","begun_ms":5000000000000,"deadline_ms":18446744073709551615}]"#;
        fs::write(disk.path().join("drains.json"), kept).unwrap();
        let (_drains, orders) = open(disk.path());
        assert_eq!(drained(&orders), ["198.51.100.0/24"]);
        assert!(longest(&orders));
    }

    #[test]
    fn what_cannot_be_read_or_written_is_told_and_drains_nevertheless() {
        let disk = tempfile::tempdir().unwrap();
        fs::write(disk.path().join("drains.json"), "[{").unwrap();
        let (_drains, orders) = open(disk.path());
        assert_eq!(drained(&orders), [""; 0]);
        let (mut drains, orders) = open(&disk.path().join("missing"));
        let told = drains.drain(&config(BOTH), &wish("203.0.113.0/24", None, ""), &Permits::new()).unwrap();
        assert!(told.text.contains("a restart will not know of this"), "{}", told.text);
        assert_eq!(
            (drained(&orders), &told.document["survives_restart"]),
            (vec!["203.0.113.0/24".to_owned()], &json!(false))
        );
    }
}
