//! What becomes of notes: in memory, on disk, without a disk, and when there are too many.

use std::fs;
use std::path::Path;

use tempfile::tempdir;

use super::*;
use crate::observe::journal::Journal;
use crate::observe::samples::{decision, verdict};

/// Everything that a keeper makes of `notes`, from its start to its stop.
fn keep(folder: &Path, room: usize, notes: impl IntoIterator<Item = Event>) -> Arc<Recent> {
    let (journal, waiting, lost) = Journal::new(room);
    notes.into_iter().for_each(|event| journal.note(None, event));
    let (publish, published) = watch::channel(Arc::default());
    let stop = CancellationToken::new();
    stop.cancel();
    Keeper::new(folder.to_owned(), waiting, lost, publish).run(&stop);
    published.borrow().clone()
}

fn seqs(recent: &Recent) -> Vec<u64> {
    recent.iter().map(|entry| entry.seq).collect()
}

#[test]
fn what_was_noted_before_the_stop_is_on_disk_and_numbers_go_on() {
    let folder = tempdir().unwrap();
    let first = keep(folder.path(), 10, [verdict("web-1", "up"), Event::Stopped]);
    assert_eq!(seqs(&first), [1, 2]);
    assert_eq!(first.status, JournalStatus { written: 2, lost: 0 });
    let second = keep(folder.path(), 10, [decision("198.51.100.0/24", "announced")]);
    assert_eq!(seqs(&second), [1, 2, 3]);
    assert_eq!(second.status, JournalStatus { written: 1, lost: 0 });
    assert!(second.iter().take(2).eq(first.iter()));
    assert!(second.iter().all(|entry| entry.at_ms > 1_700_000_000_000));
}

#[test]
fn what_found_no_room_is_counted_and_noted_after_what_found_some() {
    let folder = tempdir().unwrap();
    let recent = keep(folder.path(), 2, [Event::Stopped, Event::Stopped, Event::Stopped, Event::Stopped]);
    let events: Vec<_> = recent.iter().map(|entry| entry.event.clone()).collect();
    assert_eq!(events, [Event::Stopped, Event::Stopped, Event::Lost { entries: 2 }]);
    assert_eq!(recent.status, JournalStatus { written: 3, lost: 2 });
}

#[test]
fn without_a_disk_entries_are_in_memory_and_only_those_that_leave_it_are_lost() {
    let folder = tempdir().unwrap();
    let blocked = folder.path().join("journal");
    fs::write(&blocked, "in the way").unwrap();
    let recent = keep(&blocked, NOTES, vec![Event::Stopped; 6_000]);
    assert_eq!(recent.last_seq(), 6_000);
    assert_eq!(fs::read(&blocked).unwrap(), b"in the way");
    let kept = recent.iter().count() as u64;
    let (publish, published) = watch::channel(Arc::default());
    let (journal, waiting, lost) = Journal::new(NOTES);
    let mut keeper = Keeper::new(blocked.clone(), waiting, lost, publish);
    for _ in 0..6_000 {
        journal.note(None, Event::Stopped);
    }
    let first = keeper.notes.recv().unwrap();
    keeper.take(first);
    keeper.write();
    assert_eq!(keeper.status, JournalStatus { written: 0, lost: 6_000 - kept });
    // The disk is back.
    fs::remove_file(&blocked).unwrap();
    keeper.retry = Instant::now();
    keeper.write();
    keeper.publish();
    assert_eq!(published.borrow().status, JournalStatus { written: kept, lost: 6_000 - kept });
    drop(keeper);
    assert_eq!(keep(&blocked, 10, [Event::Stopped]).last_seq(), 6_001);
}

#[test]
fn a_disk_that_comes_late_is_not_given_numbers_that_it_has() {
    let folder = tempdir().unwrap();
    let (late, elsewhere) = (folder.path().join("late"), folder.path().join("elsewhere"));
    keep(&elsewhere, 100, vec![Event::Stopped; 5]);
    fs::write(&late, "in the way").unwrap();
    let (publish, _published) = watch::channel(Arc::default());
    let (journal, waiting, lost) = Journal::new(NOTES);
    let mut keeper = Keeper::new(late.clone(), waiting, lost, publish);
    keeper.on_disk(|_, _| Ok(()));
    for _ in 0..3 {
        keeper.take(Note { cause: None, event: Event::Stopped });
    }
    fs::remove_file(&late).unwrap();
    fs::rename(&elsewhere, &late).unwrap();
    keeper.retry = Instant::now();
    keeper.write();
    journal.note(None, Event::Stopped);
    keeper.take(Note { cause: None, event: Event::Stopped });
    keeper.write();
    assert_eq!(seqs(&keeper.recent), [1, 2, 3, 6, 7]);
    assert_eq!(keeper.status, JournalStatus { written: 2, lost: 3 });
    drop(keeper);
    assert_eq!(seqs(&keep(&late, 10, [])), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_keeper_ends_with_its_last_near_end() {
    let folder = tempdir().unwrap();
    let (journal, waiting, lost) = Journal::new(10);
    let (publish, published) = watch::channel(Arc::default());
    let keeper = Keeper::new(folder.path().to_owned(), waiting, lost, publish);
    let other = journal.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| keeper.run(&CancellationToken::new()));
        journal.note(None, Event::Stopped);
        drop(journal);
        other.note(None, Event::Stopped);
        drop(other);
    });
    assert_eq!(seqs(&published.borrow()), [1, 2]);
}
