//! The files as they are left by kills, full disks and other hands.

use std::os::unix::fs::PermissionsExt;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::observe::journal::Event;
use crate::observe::samples::entry;

fn line(seq: u64) -> Vec<u8> {
    let mut line = serde_json::to_vec(&entry(seq, None, Event::Stopped)).unwrap();
    line.push(b'\n');
    line
}

/// A line of about 64 KiB.
fn long(seq: u64) -> Vec<u8> {
    let event = Event::Started { version: "0".repeat(64 << 10), generation: 1 };
    let mut line = serde_json::to_vec(&entry(seq, None, event)).unwrap();
    line.push(b'\n');
    line
}

fn seqs(found: &Found) -> Vec<u64> {
    found.entries.iter().map(|entry| entry.seq).collect()
}

/// The names in the folder and their sizes, in order.
fn files(folder: &TempDir) -> Vec<(String, u64)> {
    let mut files: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_new_store_goes_on_where_the_last_ended() {
    let folder = tempdir().unwrap();
    let journal = folder.path().join("state/journal");
    for start in [0, 10, 20] {
        let mut store = Store::open(&journal).unwrap();
        let found = store.read_back(100);
        assert_eq!(found.last_seq, start);
        assert_eq!(seqs(&found), Vec::from_iter(1..=start));
        for seq in start + 1..=start + 10 {
            store.append(&line(seq)).unwrap();
        }
        store.sync().unwrap();
        assert!(!store.unsynced());
    }
    let store = Store::open(&journal).unwrap();
    assert_eq!(seqs(&store.read_back(3)), [28, 29, 30]);
    assert_eq!(store.numbers, [1].into(), "a process that starts again and again does not turn files");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&journal), mode(&journal.join("000001.jsonl"))), (0o700, 0o600));
}

#[test]
fn files_are_bounded_in_size_and_number() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    let most = (FILES as u64 + 2) * FILE_BYTES / (64 << 10);
    for seq in 1..=most {
        store.append(&long(seq)).unwrap();
    }
    let files = files(&folder);
    assert_eq!(files.len(), FILES + 1, "{files:?}");
    assert_eq!(files[FILES].0, "notes.txt");
    assert!(files.iter().all(|(_, size)| *size <= FILE_BYTES), "{files:?}");
    assert!(files[..FILES - 1].iter().all(|(_, size)| *size > FILE_BYTES - (66 << 10)), "{files:?}");
    drop(store);
    let found = Store::open(folder.path()).unwrap().read_back(1_000);
    assert_eq!(found.last_seq, most);
    let first = found.entries[0].seq;
    assert!(first > 1, "the oldest are gone");
    assert_eq!(seqs(&found), Vec::from_iter(first..=most), "all lines of all files, in order");
}

#[test]
fn torn_lines_and_garbage_are_passed_over() {
    let folder = tempdir().unwrap();
    let newer = br#"{"seq":41,"at_ms":1,"event":"eclipse","of":"the sun"}"#;
    #[rustfmt::skip]
    let table: &[(&[u8], &[u64], u64)] = &[
        (b"",                                              &[1, 2, 3], 3),
        (br#"{"seq":4,"at_ms":17,"eve"#,                   &[1, 2, 3], 3),
        (br#"{"seq":4,"at_ms":17,"event":"stopped"}"#,     &[1, 2, 3, 4], 4),
        (b"\0\0\0\0\0\0",                                  &[1, 2, 3], 3),
        (b"\xff\xfe\n\n[]\n7\n\"x\"\n{}\n{\"seq\":-1}\n",  &[1, 2, 3], 3),
        (br#"{"seq":18446744073709551615}"#,               &[1, 2, 3], 3),
        // Written twice: the first is kept out, and the order stays.
        (br#"{"seq":2,"at_ms":17,"event":"stopped"}"#,     &[1, 2], 3),
        // A line of a newer edgeproxy, which this one was put in the place of.
        (newer,                                            &[1, 2, 3], 41),
    ];
    for (tail, expected, last_seq) in table {
        let file = folder.path().join("000001.jsonl");
        fs::write(&file, [&line(1), &line(2), &line(3), *tail].concat()).unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        let found = store.read_back(100);
        let words = String::from_utf8_lossy(tail);
        assert_eq!((seqs(&found), found.last_seq), (expected.to_vec(), *last_seq), "{words}");
        store.append(&line(last_seq + 1)).unwrap();
        drop(store);
        let again = Store::open(folder.path()).unwrap().read_back(100);
        assert_eq!(seqs(&again), [*expected, &[last_seq + 1]].concat(), "{words}");
    }
}

#[test]
fn what_is_no_file_of_ours_is_left_alone() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("000003.jsonl"), line(5)).unwrap();
    fs::create_dir(folder.path().join("000007.jsonl")).unwrap();
    std::os::unix::fs::symlink("/nonexistent/x", folder.path().join("000008.jsonl")).unwrap();
    for name in ["1.jsonl", "00000x.jsonl", "000009.json", "0000000010.jsonl", "+00011.jsonl"] {
        fs::write(folder.path().join(name), line(99)).unwrap();
    }
    let mut store = Store::open(folder.path()).unwrap();
    assert_eq!(store.read_back(100).last_seq, 5);
    store.append(&line(6)).unwrap();
    assert_eq!(fs::read(folder.path().join("000009.jsonl")).unwrap(), line(6));
}

#[test]
fn a_file_that_somebody_made_huge_is_read_from_its_end() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("000001.jsonl");
    fs::write(&file, line(1)).unwrap();
    OpenOptions::new().write(true).open(&file).unwrap().set_len(1 << 33).unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    assert_eq!(store.read_back(100).last_seq, 0);
    store.append(&line(1)).unwrap();
    assert_eq!(store.number, 2);
}

#[test]
fn a_full_disk_is_an_error_and_passes() {
    let folder = tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    store.append(&line(1)).unwrap();
    store.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(store.append(&line(2)).unwrap_err().kind(), ErrorKind::StorageFull);
    drop(store);
    let mut store = Store::open(folder.path()).unwrap();
    store.append(&line(2)).unwrap();
    assert_eq!(seqs(&store.read_back(100)), [1, 2]);
}

#[test]
fn a_removed_file_is_noticed() {
    let folder = tempdir().unwrap();
    let journal = folder.path().join("journal");
    let mut store = Store::open(&journal).unwrap();
    store.append(&line(1)).unwrap();
    fs::remove_dir_all(&journal).unwrap();
    assert_eq!(store.sync().unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn two_processes_do_not_write_to_one_journal() {
    let folder = tempdir().unwrap();
    let first = Store::open(folder.path()).unwrap();
    let words = Store::open(folder.path()).unwrap_err().to_string();
    assert!(words.contains("--state"), "{words}");
    drop(first);
    Store::open(folder.path()).unwrap();
}
