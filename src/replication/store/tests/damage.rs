//! Disks that lie, end early or are full.

use std::process::Command;

use super::*;
use crate::replication::store::schema;

/// Octets that look random, the same for one seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

/// A database of two origins and a slot, closed.
async fn written(folder: &Path) -> [Pen; 2] {
    let running = Running::at(folder);
    let (mut own, mut other) = (Pen::new("gru1"), Pen::new("fra1"));
    let rows = own.write(0..200, Some(120));
    running.say(own.own(rows, vec![])).await.unwrap();
    other.write(0..300, Some(90));
    running.send(other.whole()).await;
    running.say(slot("incarnation", &[0, 0, 9])).await.unwrap();
    running.stop().await.unwrap();
    [own, other]
}

/// Whatever it is, it can be used: everything that is loaded adds up, and what is written is there again.
async fn is_usable(folder: &Path, what: &str) -> Loaded {
    let (store, loaded) = open(folder).unwrap_or_else(|error| panic!("{what}: {error}"));
    for (head, rows) in &loaded.origins {
        assert_eq!(Pen::continued(head, rows).signed().head, head.head, "{what}");
    }
    let mut running = Running::start(store);
    let mut third = Pen::new("sin1");
    let rows = third.write(0..100, Some(50));
    if running.say(third.own(rows.clone(), vec![])).await.is_err() {
        assert!(matches!(running.end().await, Err(StoreError::Damaged(..))), "{what}");
        running = Running::at(folder);
        running.say(third.own(rows, vec![])).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let _ = running.stop().await;
    assert!(third.is(&look(folder)), "{what}");
    loaded
}

#[tokio::test]
async fn octets_that_change_by_themselves_never_pass() {
    let state = folder();
    let original = state.path().join("original");
    let pens = written(&original).await;
    let octets = fs::read(original.join("fleet.db")).unwrap();
    let fresh = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    let rounds = if std::env::var_os("EDGEPROXY_FULL").is_some() { 2_000 } else { 60 };
    let (mut unharmed, mut dropped, mut aside) = (0, 0, 0);
    for (seed, round) in [(7, 0), (fresh, 1)]
        .into_iter()
        .flat_map(|(seed, at)| (0..rounds / 2).map(move |r| (seed, 2 * r + at)))
    {
        let mut dice = Dice(seed ^ (round as u64 + 1) << 32);
        let mut changed = octets.clone();
        for _ in 0..=dice.below(4) {
            let at = dice.below(changed.len() as u64) as usize;
            changed[at] ^= 1 << dice.below(8);
        }
        let what = format!("seed {seed} round {round}");
        let folder = state.path().join(round.to_string());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("fleet.db"), &changed).unwrap();
        let loaded = is_usable(&folder, &what).await;
        if loaded.set_aside.is_some() {
            aside += 1;
            assert!(loaded.origins.is_empty() && loaded.fresh, "{what}");
        } else if loaded.damaged.is_empty() {
            unharmed += 1;
            let is_head = |pen: &Pen| loaded.origins.iter().any(|(head, _)| *head == pen.signed());
            assert!(pens.iter().all(is_head), "{what}");
        } else {
            dropped += 1;
            assert_eq!(loaded.origins.len() + loaded.damaged.len(), 2, "{what}");
        }
        // What this POP must not forget is right or missing, and it is not missing for an origin's damage.
        assert!(loaded.slots.get("incarnation").is_none_or(|value| value == &[0, 0, 9]), "{what}");
        assert!(loaded.set_aside.is_some() || loaded.slots.len() == 1, "{what}");
        fs::remove_dir_all(&folder).unwrap();
    }
    println!("seed {fresh}: {unharmed} unharmed, {dropped} lost an origin, {aside} set aside");
    assert!(dropped > 0 && aside > 0);
}

#[tokio::test]
async fn a_file_that_is_cut_off_is_set_aside() {
    let state = folder();
    let original = state.path().join("original");
    written(&original).await;
    let octets = fs::read(original.join("fleet.db")).unwrap();
    for length in
        [0, 1, 99, 100, 4_095, 4_096, 5_000, octets.len() / 2, octets.len() - 4_096, octets.len() - 1]
    {
        let folder = state.path().join(length.to_string());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("fleet.db"), &octets[..length]).unwrap();
        let loaded = is_usable(&folder, &format!("{length} octets")).await;
        // Of the last page only the end is missing: nothing but what was there is lost.
        if length == octets.len() - 1 && loaded.set_aside.is_none() {
            continue;
        }
        let aside = loaded.set_aside.unwrap_or_else(|| panic!("{length} octets"));
        assert_eq!(fs::read(aside).unwrap(), octets[..length]);
        assert!(loaded.fresh);
    }
}

#[tokio::test]
async fn what_is_no_database_of_ours_is_set_aside_and_three_are_kept() {
    let state = folder();
    let database = state.path().join("fleet.db");
    fs::write(&database, "no database at all, but long enough to be taken for one".repeat(100)).unwrap();
    assert!(look(state.path()).set_aside.unwrap().ends_with("fleet.db.corrupt-1"));
    fs::remove_file(&database).unwrap();
    let other = rusqlite::Connection::open(&database).unwrap();
    other.execute_batch("CREATE TABLE songs (name TEXT)").unwrap();
    drop(other);
    assert!(look(state.path()).set_aside.unwrap().ends_with("fleet.db.corrupt-2"));
    for number in 3..6 {
        fs::write(&database, "").unwrap();
        let loaded = look(state.path());
        assert!(loaded.set_aside.unwrap().ends_with(format!("fleet.db.corrupt-{number}")));
        assert!(look(state.path()).set_aside.is_none());
    }
    let mut kept: Vec<_> =
        fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    kept.retain(|name| name.to_str().unwrap().contains("corrupt"));
    kept.sort();
    assert_eq!(kept, ["fleet.db.corrupt-3", "fleet.db.corrupt-4", "fleet.db.corrupt-5"]);
}

#[tokio::test]
async fn the_tables_of_a_later_edgeproxy_are_left_alone() {
    let state = folder();
    written(state.path()).await;
    let later = rusqlite::Connection::open(state.path().join("fleet.db")).unwrap();
    later.pragma_update(None, "user_version", 2).unwrap();
    drop(later);
    assert!(matches!(dump(state.path(), &mut Vec::new()), Err(StoreError::Later(_))));
    let loaded = look(state.path());
    let aside = loaded.set_aside.unwrap();
    assert!(loaded.fresh && loaded.slots.is_empty());
    assert_eq!(schema::look(&aside).unwrap_err(), schema::Fault::Later);
}

#[tokio::test]
async fn what_can_still_be_read_of_the_slots_is_kept() {
    let state = folder();
    written(state.path()).await;
    let broken = rusqlite::Connection::open(state.path().join("fleet.db")).unwrap();
    broken
        .execute_batch("INSERT INTO slots VALUES ('promises', x'00112233445566778899aabbccddeeff00')")
        .unwrap();
    drop(broken);
    let loaded = look(state.path());
    assert!(loaded.set_aside.is_some() && loaded.origins.is_empty());
    assert_eq!(loaded.slots, BTreeMap::from([("incarnation".to_owned(), vec![0, 0, 9])]));
    assert_eq!(look(state.path()).slots, loaded.slots);
}

#[tokio::test]
async fn damage_that_is_found_in_use_is_set_aside_at_the_next_start() {
    let state = folder();
    written(state.path()).await;
    fs::write(state.path().join("fleet.db.suspect"), "").unwrap();
    let loaded = look(state.path());
    assert!(loaded.set_aside.is_some());
    // Nothing of it was hurt after all.
    assert_eq!(loaded.slots.len(), 1);
    assert!(look(state.path()).set_aside.is_none());
}

/// A small disk of its own; None without the right to make one.
struct Disk(TempDir);

impl Disk {
    fn new(size: &str) -> Option<Self> {
        let place = folder();
        let size = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(place.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(place))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_acknowledged_and_is_tried_again() {
    let Some(disk) = Disk::new("1m") else {
        println!("making a small disk needs root: this is not tested");
        return;
    };
    let folder = disk.0.path().join("replication");
    let ballast = disk.0.path().join("ballast");
    let running = Running::at(&folder);
    let (mut own, mut other) = (Pen::new("gru1"), Pen::new("fra1"));
    let mut acknowledged = own.clone();
    let mut refused = None;
    fs::write(&ballast, vec![1; 600 << 10]).unwrap();
    for number in 0..400 {
        let rows = own.write([number], Some(2_000));
        match running.say(own.own(rows, vec![])).await {
            Ok(()) => acknowledged = own.clone(),
            Err(why) => {
                refused = Some(why);
                break;
            }
        }
    }
    let why = refused.expect("a full disk");
    assert!(why.contains("full") && why.contains("make room"), "{why}");
    own = acknowledged;
    let rows = other.write(0..100, Some(1_000));
    running.send(other.remote(rows, vec![])).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // With room again, everything goes on by itself.
    fs::remove_file(&ballast).unwrap();
    let rows = own.write([0], Some(10));
    running.say(own.own(rows, vec![])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    running.stop().await.unwrap();
    let loaded = look(&folder);
    let there = |(head, rows): &(Signed, Vec<Row>)| format!("{:?} {}", head.head, rows.len());
    let all: Vec<_> = loaded.origins.iter().map(there).collect();
    assert!(own.is(&loaded), "{all:?}, not {:?}, {:?}", own.signed().head, loaded.set_aside);
    assert!(other.is(&loaded), "{:?}", loaded.damaged);
}

#[tokio::test]
async fn what_finds_no_room_while_the_disk_fails_is_named_and_our_own_is_told() {
    let Some(disk) = Disk::new("1m") else {
        println!("making a small disk needs root: this is not tested");
        return;
    };
    let folder = disk.0.path().join("replication");
    let (store, _) = open(&folder).unwrap();
    let missed = store.missed();
    let running = Running::start(store);
    fs::write(disk.0.path().join("ballast"), vec![1; 1 << 20]).unwrap_err();
    let mut own = Pen::new("gru1");
    let mut others = ["fra1", "sin1", "ams1"].map(Pen::new);
    others.iter_mut().for_each(|other| drop(other.write(0..34_000, None)));
    for _ in 0..3 {
        for other in &others {
            running.send(other.whole()).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let rows = own.write([1], Some(1));
    let told =
        tokio::time::timeout(Duration::from_secs(20), running.say(own.own(rows.clone(), vec![]))).await;
    assert!(told.unwrap().is_err());
    let left_out: Vec<String> = missed.borrow().iter().map(ToString::to_string).collect();
    assert!(!left_out.is_empty());
    // With room for it, all of what was left out is taken again.
    fs::remove_file(disk.0.path().join("ballast")).unwrap();
    let remount = ["-o", "remount,size=64m"];
    assert!(Command::new("mount").args(remount).arg(disk.0.path()).status().unwrap().success());
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    for other in &others {
        running.send(other.whole()).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    running.say(own.own(rows, vec![])).await.unwrap();
    running.stop().await.unwrap();
    assert!(missed.borrow().is_empty());
    let loaded = look(&folder);
    assert!(own.is(&loaded) && others.iter().all(|other| other.is(&loaded)));
}
