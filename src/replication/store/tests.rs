//! The database on a real disk: what was acknowledged is there afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::{TempDir, tempdir};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::replication::digest::Sum;
use crate::replication::head::{Head, SIGNATURE};
use crate::replication::record::{Table, Value};
use crate::replication::version::{Origin, Point};
use crate::supervise::thread::Thread;

mod damage;
mod kill;
mod moved;
mod order;
mod speed;

/// An origin as its writer knows it.
#[derive(Clone)]
pub(super) struct Pen {
    head: Head,
    sum: Sum,
    pub rows: BTreeMap<Key, Arc<Row>>,
}

impl Pen {
    pub fn new(name: &str) -> Self {
        let head = Head {
            origin: Origin::new(name).unwrap(),
            point: Point::new(1, 0),
            floor: 0,
            born: 1,
            instance: 7,
            lineage: Vec::new(),
            rows: 0,
            weight: 0,
            digest: Sum::default().digest(),
        };
        Self { head, sum: Sum::default(), rows: BTreeMap::new() }
    }

    pub fn continued(head: &Signed, rows: &[Row]) -> Self {
        let mut pen = Self::new(head.head.origin.as_str());
        for row in rows {
            pen.put(Arc::new(row.clone()));
        }
        pen.head = head.head.clone();
        pen
    }

    pub fn version(&self) -> u64 {
        self.head.point.version
    }

    fn put(&mut self, row: Arc<Row>) {
        self.sum.add(&self.head.origin, &row);
        self.head.weight += row.weight() as u64;
        self.remove(&row.key.clone());
        self.rows.insert(row.key.clone(), row);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(old) = self.rows.remove(key) {
            self.sum.subtract(&self.head.origin, &old);
            self.head.weight -= old.weight() as u64;
        }
    }

    /// Writes these keys, with a body of so many octets; without, a tombstone.
    pub fn write(&mut self, keys: impl IntoIterator<Item = u64>, octets: Option<usize>) -> Vec<Arc<Row>> {
        let rows = keys.into_iter().map(|number| {
            self.head.point.version += 1;
            let body = |octets| vec![self.head.point.version as u8; octets];
            let value = octets.map(|octets| Value::new(3, 1, &body(octets)).unwrap());
            let row = Arc::new(Row { key: key(number), version: self.head.point.version, value });
            self.put(Arc::clone(&row));
            row
        });
        rows.collect()
    }

    /// Takes these keys out.
    pub fn collect(&mut self, keys: impl IntoIterator<Item = u64>) -> Vec<Key> {
        self.head.point.version += 1;
        keys.into_iter().map(key).inspect(|key| self.remove(key)).collect()
    }

    pub fn signed(&self) -> Signed {
        let (rows, digest) = (self.rows.len() as u64, self.sum.digest());
        let head = Head { rows, digest, ..self.head.clone() };
        Signed { head, certificate: vec![4; 300].into(), signature: [5; SIGNATURE] }
    }

    pub fn remote(&self, rows: Vec<Arc<Row>>, gone: Vec<Key>) -> Work {
        Work::Remote { head: self.signed(), rows, whole: false, gone }
    }

    pub fn whole(&self) -> Work {
        Work::Remote {
            head: self.signed(),
            rows: self.rows.values().cloned().collect(),
            whole: true,
            gone: vec![],
        }
    }

    pub fn own(&self, rows: Vec<Arc<Row>>, gone: Vec<Key>) -> (Work, oneshot::Receiver<Result<(), String>>) {
        let (done, told) = oneshot::channel();
        (Work::Own { head: self.signed(), rows, gone, done }, told)
    }

    /// What is loaded of it is exactly this.
    pub fn is(&self, loaded: &Loaded) -> bool {
        let found = loaded.origins.iter().find(|(head, _)| head.head.origin == self.head.origin);
        let Some((head, rows)) = found else { return self.rows.is_empty() && self.version() == 0 };
        // As they were written: nothing else is taken from it.
        let in_order = rows.windows(2).all(|pair| pair[0].version < pair[1].version);
        let mut rows = rows.clone();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        in_order && *head == self.signed() && rows.iter().eq(self.rows.values().map(|row| &**row))
    }
}

pub(super) fn key(number: u64) -> Key {
    Key::new(Table(number as u16 % 3), &number.to_be_bytes()).unwrap()
}

pub(super) fn slot(name: &str, value: &[u8]) -> (Work, oneshot::Receiver<Result<(), String>>) {
    let (done, told) = oneshot::channel();
    (Work::Slot { name: name.to_owned(), value: value.to_vec(), done }, told)
}

/// A store that runs on its own thread.
pub(super) struct Running {
    pub work: mpsc::Sender<Work>,
    stop: CancellationToken,
    thread: Thread<Result<(), StoreError>>,
}

impl Running {
    pub fn start(store: Store) -> Self {
        let ((work, receiver), stop) = (mpsc::channel(64), CancellationToken::new());
        let until = stop.clone();
        let thread = Thread::spawn("store", move || store.run(receiver, until)).unwrap();
        Self { work, stop, thread }
    }

    pub fn at(folder: &Path) -> Self {
        Self::start(open(folder).unwrap().0)
    }

    pub async fn send(&self, work: Work) {
        self.work.send(work).await.unwrap();
    }

    /// Sends what somebody waits for, and waits.
    pub async fn say(
        &self,
        (work, told): (Work, oneshot::Receiver<Result<(), String>>),
    ) -> Result<(), String> {
        self.send(work).await;
        told.await.unwrap_or_else(|_| Err("nobody told".to_owned()))
    }

    pub async fn stop(self) -> Result<(), StoreError> {
        self.stop.cancel();
        self.thread.join(Duration::from_secs(60)).await.unwrap()
    }

    pub async fn end(self) -> Result<(), StoreError> {
        self.thread.await.unwrap()
    }
}

pub(super) fn folder() -> TempDir {
    tempdir().unwrap()
}

pub(super) fn look(folder: &Path) -> Loaded {
    open(folder).unwrap().1
}

#[tokio::test]
async fn what_is_written_is_there_again() {
    let state = folder();
    let folder = state.path().join("replication");
    let (store, loaded) = open(&folder).unwrap();
    assert!(loaded.fresh && loaded.origins.is_empty() && loaded.set_aside.is_none());
    let running = Running::start(store);
    let (mut own, mut other) = (Pen::new("gru1"), Pen::new("fra1"));
    let rows = own.write(0..10, Some(100));
    running.say(own.own(rows, vec![])).await.unwrap();
    let mut rows = own.write([3, 4], None);
    rows.extend(own.write([20], Some(0)));
    let gone = own.collect([5]);
    running.say(own.own(rows, gone)).await.unwrap();
    running.say(slot("incarnation", &[0, 9])).await.unwrap();
    let rows = other.write(0..500, Some(30));
    running.send(other.remote(rows, vec![])).await;
    let rows = other.write([7], Some(16 * 1_024));
    let gone = other.collect([8, 9]);
    running.send(other.remote(rows, gone)).await;
    running.stop().await.unwrap();

    let loaded = look(&folder);
    assert!(!loaded.fresh && loaded.damaged.is_empty());
    assert!(own.is(&loaded) && other.is(&loaded));
    assert_eq!(loaded.slots, BTreeMap::from([("incarnation".to_owned(), vec![0, 9])]));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&folder).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn one_process_has_it() {
    let state = folder();
    let (_store, _) = open(state.path()).unwrap();
    assert!(matches!(open(state.path()), Err(StoreError::Occupied(_))));
}

#[tokio::test]
async fn a_database_that_somebody_removes_is_noticed_before_anything_is_acknowledged() {
    let state = folder();
    let running = Running::at(state.path());
    let mut own = Pen::new("gru1");
    let rows = own.write(0..3, Some(5));
    running.say(own.own(rows, vec![])).await.unwrap();
    fs::remove_file(state.path().join("fleet.db")).unwrap();
    let rows = own.write(3..6, Some(5));
    assert!(running.say(own.own(rows, vec![])).await.unwrap_err().contains("removed or replaced"));
    assert!(matches!(running.end().await, Err(StoreError::Removed(_))));
    assert!(look(state.path()).fresh);
}

#[tokio::test]
async fn a_slot_has_its_bounds() {
    let state = folder();
    let running = Running::at(state.path());
    assert!(running.say(slot("promises", &vec![0; MOST_SLOT + 1])).await.is_err());
    running.say(slot("promises", &vec![1; MOST_SLOT])).await.unwrap();
    for number in 1..MOST_SLOTS {
        running.say(slot(&number.to_string(), &[])).await.unwrap();
    }
    assert!(running.say(slot("more", &[])).await.unwrap_err().contains("one more"));
    running.say(slot("7", &[7])).await.unwrap();
    running.stop().await.unwrap();
    let slots = look(state.path()).slots;
    assert_eq!((slots.len(), slots["promises"].len(), &slots["7"][..]), (MOST_SLOTS, MOST_SLOT, &[7][..]));
}
