//! The tables that POPs keep: what this POP writes into them, and what is read from those of all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::merge::{Applied, Ledger};
use super::record::{Change, Key, Row, Table, Value};
use super::version::Origin;
use crate::catalog::fleet::{Announcement, Backend, Fleet, Link, Member, Pop};

/// One row: the POP itself.
pub const POPS: Table = Table(1);
/// By service and id, a zero octet between.
pub const BACKENDS: Table = Table(2);
/// By prefix, in text.
pub const ANNOUNCEMENTS: Table = Table(3);
/// One row: what the operator of a POP has to say to all others.
pub const NOTES: Table = Table(4);
/// By the POP at the other end: how far it is.
pub const LINKS: Table = Table(5);
/// Octets of the longest note.
pub const MOST_NOTE: usize = 256;
/// Those that follow what this process is; what is in them from an earlier run goes.
const OURS: [Table; 4] = [POPS, BACKENDS, ANNOUNCEMENTS, LINKS];

/// The only kind and revision of bodies so far: a JSON object.
const JSON: u16 = 1;
const REVISION: u16 = 1;

/// What this POP is, for others to know.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    pub pop: Pop,
    pub backends: BTreeMap<(Arc<str>, Arc<str>), Backend>,
    pub announcements: BTreeMap<Arc<str>, Announcement>,
    pub links: BTreeMap<Arc<str>, Link>,
}

impl Facts {
    /// As rows. What is too long for one is left out: names and addresses of the configuration never are.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<Key, Value> {
        let mut rows = BTreeMap::new();
        let mut put = |table, key: &[u8], body: Option<Value>| {
            if let (Some(key), Some(body)) = (Key::new(table, key), body) {
                rows.insert(key, body);
            }
        };
        put(POPS, b"", body(&self.pop));
        for ((service, id), backend) in &self.backends {
            put(BACKENDS, format!("{service}\0{id}").as_bytes(), body(backend));
        }
        for (prefix, announcement) in &self.announcements {
            put(ANNOUNCEMENTS, prefix.as_bytes(), body(announcement));
        }
        for (peer, link) in &self.links {
            put(LINKS, peer.as_bytes(), body(link));
        }
        rows
    }
}

/// What makes this the note of this POP; without a text there is none.
#[must_use]
pub fn note(text: &str) -> Option<Change> {
    let key = Key::new(NOTES, b"")?;
    let value = if text.is_empty() { None } else { Some(body(&Note { text: text.to_owned() })?) };
    Some(Change { key, value })
}

#[derive(Serialize, Deserialize)]
struct Note {
    text: String,
}

/// What has to be written so that our rows say this: only what differs.
#[must_use]
pub fn changes(ledger: &Ledger, own: &Origin, wanted: &BTreeMap<Key, Value>) -> Vec<Change> {
    let known = |key: &Key| ledger.row(own, key).and_then(|row| row.value.as_ref());
    let written = wanted.iter().filter(|(key, value)| known(key) != Some(value));
    let mut changes: Vec<Change> =
        written.map(|(key, value)| Change { key: key.clone(), value: Some(value.clone()) }).collect();
    let ours = ledger.rows(own).filter(|row| OURS.contains(&row.key.table) && !row.is_tombstone());
    let gone = ours.filter(|row| !wanted.contains_key(&row.key));
    changes.extend(gone.map(|row| Change { key: row.key.clone(), value: None }));
    changes
}

fn body(value: &impl Serialize) -> Option<Value> {
    Value::new(JSON, REVISION, &serde_json::to_vec(value).ok()?)
}

fn read<T: DeserializeOwned>(row: &Row) -> Option<T> {
    let value = row.value.as_ref().filter(|value| value.kind == JSON)?;
    serde_json::from_slice(&value.body).ok()
}

/// What the tables of all POPs say, kept up with the ledger row by row.
#[derive(Debug, Default)]
pub struct Projection {
    fleet: Fleet,
    /// Rows of tables that are known here, but cannot be read: of later versions, or broken.
    unreadable: BTreeSet<(Origin, Key)>,
}

impl Projection {
    /// Of everything that is there.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        let mut projection = Self::default();
        for head in ledger.heads() {
            let origin = &head.head.origin;
            projection.fleet.pops.entry(origin.name()).or_default();
            for row in ledger.rows(origin) {
                projection.put(origin, row);
            }
        }
        projection
    }

    /// Rows have changed.
    pub fn handle_changed(&mut self, origin: &Origin, applied: &Applied) {
        for row in &applied.gone {
            self.remove(origin, &row.key);
        }
        for row in &applied.rows {
            self.put(origin, row);
        }
    }

    /// Who is reached now.
    pub fn handle_reached(&mut self, reached: &BTreeSet<Arc<str>>) {
        for (name, member) in &mut self.fleet.pops {
            member.reached = reached.contains(name);
        }
    }

    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    #[must_use]
    pub fn unreadable(&self) -> usize {
        self.unreadable.len()
    }

    fn put(&mut self, origin: &Origin, row: &Row) {
        if row.is_tombstone() {
            return self.remove(origin, &row.key);
        }
        let member = self.fleet.pops.entry(origin.name()).or_default();
        if !set(member, row) {
            self.remove(origin, &row.key);
            if OURS.contains(&row.key.table) {
                self.unreadable.insert((origin.clone(), row.key.clone()));
            }
        } else {
            self.unreadable.remove(&(origin.clone(), row.key.clone()));
        }
    }

    fn remove(&mut self, origin: &Origin, key: &Key) {
        self.unreadable.remove(&(origin.clone(), key.clone()));
        let Some(member) = self.fleet.pops.get_mut(origin.as_str()) else { return };
        match key.table {
            POPS => member.pop = None,
            NOTES => member.note = None,
            BACKENDS => {
                if let Some(name) = names(&key.key) {
                    member.backends.remove(&name);
                }
            }
            ANNOUNCEMENTS => {
                if let Some(prefix) = text(&key.key) {
                    member.announcements.remove(&prefix);
                }
            }
            LINKS => {
                if let Some(peer) = text(&key.key) {
                    member.links.remove(&peer);
                }
            }
            _ => {}
        }
    }
}

/// Whether the row could be read.
fn set(member: &mut Member, row: &Row) -> bool {
    let key = &row.key.key;
    match row.key.table {
        POPS => {
            let pop: Option<Pop> = read(row);
            member.pop = pop.map(Arc::new);
            member.pop.is_some()
        }
        NOTES => {
            let note = read::<Note>(row).filter(|note| note.text.len() <= MOST_NOTE);
            member.note = note.map(|note| note.text.into());
            member.note.is_some()
        }
        BACKENDS => match names(key).zip(read::<Backend>(row)) {
            Some((name, backend)) => {
                member.backends.insert(name, Arc::new(backend));
                true
            }
            None => false,
        },
        ANNOUNCEMENTS => match text(key).zip(read::<Announcement>(row)) {
            Some((prefix, announcement)) => {
                member.announcements.insert(prefix, Arc::new(announcement));
                true
            }
            None => false,
        },
        LINKS => match text(key).zip(read::<Link>(row)) {
            Some((peer, link)) => {
                member.links.insert(peer, link);
                true
            }
            None => false,
        },
        // Of a later version: kept and passed on, shown to nobody.
        _ => false,
    }
}

fn text(key: &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(key).ok().map(Into::into)
}

fn names(key: &[u8]) -> Option<(Arc<str>, Arc<str>)> {
    let (service, id) = std::str::from_utf8(key).ok()?.split_once('\0')?;
    Some((service.into(), id.into()))
}

#[cfg(test)]
mod tests {
    use super::super::head::tests::head;
    use super::super::head::{Head, SIGNATURE, Signed};
    use super::super::merge::Offer;
    use super::*;

    fn facts() -> Facts {
        let backend = Backend {
            address: [10, 0, 0, 5].into(),
            port: 8080,
            region: "sa".to_owned(),
            country: None,
            weight: 2,
            state: "up".to_owned(),
        };
        let announcement = Announcement {
            state: "announced".to_owned(),
            reason: "healthy".to_owned(),
            why: "service web is healthy".to_owned(),
        };
        Facts {
            pop: Pop { region: "sa".to_owned(), version: "1".to_owned(), ..Pop::default() },
            backends: BTreeMap::from([(("web".into(), "web-1".into()), backend)]),
            announcements: BTreeMap::from([("198.51.100.0/24".into(), announcement)]),
            links: BTreeMap::from([("fra1".into(), Link { rtt_us: 190_000 })]),
        }
    }

    /// Writes changes, and gives what that changed.
    fn write(ledger: &mut Ledger, changes: &[Change]) -> Option<Applied> {
        let own = Origin::new("gru1").unwrap();
        let last = ledger.head(&own).map_or_else(|| head(1, 0), |signed: &Signed| signed.head.clone());
        let after = Some(last.point.version);
        let last = Head { point: last.point, ..last };
        let (head, rows) = ledger.prepare(last, changes, 0).unwrap()?;
        let head = Signed { head, certificate: Vec::new().into(), signature: [0; SIGNATURE] };
        ledger.take(Offer { head, after, rows }).unwrap()
    }

    #[test]
    fn what_one_pop_writes_is_read_by_the_others() {
        let (mut ledger, own) = (Ledger::default(), Origin::new("gru1").unwrap());
        let mut projection = Projection::default();
        let wanted = changes(&ledger, &own, &facts().rows());
        let first = write(&mut ledger, &wanted).unwrap();
        projection.handle_changed(&own, &first);
        let member = &projection.fleet().pops["gru1"];
        assert_eq!(member.pop.as_deref(), Some(&facts().pop));
        assert_eq!(member.backends.len(), 1);
        assert_eq!(member.announcements["198.51.100.0/24"].state, "announced");
        assert_eq!(member.links["fra1"].rtt_us, 190_000);
        assert_eq!(changes(&ledger, &own, &facts().rows()), []);

        let mut later = facts();
        later.backends.clear();
        let wanted = changes(&ledger, &own, &later.rows());
        let applied = write(&mut ledger, &wanted).unwrap();
        projection.handle_changed(&own, &applied);
        assert!(projection.fleet().pops["gru1"].backends.is_empty());
        assert_eq!(Projection::of(&ledger).fleet().pops["gru1"].announcements.len(), 1);
    }

    #[test]
    fn what_a_later_version_writes_is_kept_and_shown_to_nobody() {
        let (mut ledger, own) = (Ledger::default(), Origin::new("gru1").unwrap());
        let value = |body: &str| Value::new(JSON, 9, body.as_bytes());
        let later = [
            Change { key: Key::new(Table(900), b"x").unwrap(), value: value("{}") },
            Change {
                key: Key::new(POPS, b"").unwrap(),
                value: value(r#"{"region":"sa","version":"9","generation":1,"new":7}"#),
            },
            Change { key: Key::new(BACKENDS, b"no id").unwrap(), value: value("[]") },
        ];
        write(&mut ledger, &later);
        let projection = Projection::of(&ledger);
        assert_eq!(projection.fleet().pops["gru1"].pop.as_ref().unwrap().version, "9");
        assert_eq!(projection.unreadable(), 1);
        assert_eq!(ledger.rows(&own).count(), 3);
    }
}
