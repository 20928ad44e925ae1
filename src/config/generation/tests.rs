//! What a start uses after a transaction was cut short, the store was damaged, or the file is not the stored one.

use std::path::PathBuf;

use ring::signature::{Ed25519KeyPair, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::config::base64;
use crate::config::load::{LoadError, read};

/// A machine's disk.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With generation 7 confirmed, from a file that is there still.
    fn with_seven() -> Self {
        let disk = Self::new();
        disk.write("pop.yaml", text(7, ""));
        assert_eq!(disk.starts_with().0, 7);
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, octets: impl AsRef<[u8]>) {
        fs::write(self.path(name), octets).unwrap();
    }

    fn begin(&self) -> Result<Beginning, LoadError> {
        begin(&self.path("pop.yaml"), &self.path("state"))
    }

    /// The generation of a start and all that it says.
    fn starts_with(&self) -> (u64, String) {
        let Beginning { config, notes, .. } = self.begin().unwrap();
        let words: Vec<_> = notes.iter().map(|note| format!("{} {}", note.level, note.words)).collect();
        (config.generation, words.join("\n"))
    }

    fn stored(&self, name: &str) -> PathBuf {
        self.path("state/generations").join(name)
    }

    fn names(&self) -> Vec<String> {
        let listing = fs::read_dir(self.path("state/generations")).unwrap();
        let mut names: Vec<_> =
            listing.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "lock");
        names.sort();
        names
    }
}

fn text(generation: u64, more: &str) -> String {
    let minimal = include_str!("../../../config/minimal.yaml");
    assert!(minimal.contains("generation: 1\n"));
    minimal.replace("generation: 1\n", &format!("generation: {generation}\n")) + more
}

/// Applies a text as the appliance does, up to the fault.
fn apply(disk: &Disk, name: &str, fault: Option<Step>, for_good: bool) -> Result<(), StoreError> {
    let (mut store, _) = Store::open(&disk.path("state"), disk.0.path());
    if let Some(at) = fault {
        store.arm(Fault { at, end: || io::Error::other("killed") });
    }
    let source = read(&disk.path(name)).unwrap();
    let entry = store.put(source.parse().unwrap().generation, &source)?;
    if !for_good {
        store.try_out(&entry)?;
    }
    store.reached(Step::BeforeSwitch)?;
    store.reached(Step::Switched)?;
    store.confirm(entry)
}

#[test]
fn whoever_is_killed_starts_with_what_was_confirmed() {
    for (step, for_good) in Step::ALL.into_iter().flat_map(|step| [(step, true), (step, false)]) {
        let disk = Disk::with_seven();
        disk.write("new.yaml", text(8, ""));
        apply(&disk, "new.yaml", Some(step), for_good).unwrap_err();
        let (expected, stored) = match step {
            Step::Confirmed => (8, vec!["00000007.yaml", "00000008.yaml", "confirmed.json"]),
            _ => (7, vec!["00000007.yaml", "confirmed.json"]),
        };
        let (generation, words) = disk.starts_with();
        assert_eq!(generation, expected, "{step:?} {words}");
        assert_eq!(disk.names(), stored, "{step:?}");
        let tried = !for_good && step > Step::TextRenamed && step != Step::Confirmed;
        assert_eq!(words.contains("8 was applied but not confirmed"), tried, "{step:?} {words}");

        // Nothing is in the way of another try.
        apply(&disk, "new.yaml", None, true).unwrap();
        assert_eq!(disk.starts_with().0, 8, "{step:?}");
    }
}

#[test]
fn a_file_that_was_tried_and_not_confirmed_is_not_taken_by_a_restart() {
    let disk = Disk::with_seven();
    disk.write("pop.yaml", text(8, ""));
    apply(&disk, "pop.yaml", Some(Step::BeforeConfirm), false).unwrap_err();
    for _ in 0..3 {
        let (generation, words) = disk.starts_with();
        assert_eq!(generation, 7);
        assert!(
            words.contains("was applied but never confirmed") && words.contains("edgeproxy apply"),
            "{words}"
        );
    }
    // Another text of the same number was never tried.
    disk.write("pop.yaml", text(8, "# mended\n"));
    assert_eq!(disk.starts_with(), (8, String::new()));
}

#[test]
fn the_file_is_taken_when_it_is_new_and_good() {
    let new = |from: u64, more: &str| text(from, more);
    let table: [(&str, Option<String>, u64, &str); 6] = [
        ("the same", Some(new(7, "")), 7, ""),
        ("newer", Some(new(8, "")), 8, ""),
        ("other words, same number", Some(new(7, "# other\n")), 7, "WARN"),
        ("older", Some(new(6, "")), 7, "raise its generation to 8"),
        ("broken", Some(new(8, "speed: 11\n")), 7, "speed: unknown key"),
        ("gone", None, 7, "cannot read"),
    ];
    for (what, file, generation, words) in table {
        let disk = Disk::with_seven();
        match file {
            Some(text) => disk.write("pop.yaml", text),
            None => fs::remove_file(disk.path("pop.yaml")).unwrap(),
        }
        let (found, said) = disk.starts_with();
        assert_eq!(found, generation, "{what}: {said}");
        assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{what}: {said}");
    }
}

#[test]
fn the_first_file_must_be_good() {
    let disk = Disk::new();
    assert!(matches!(disk.begin(), Err(LoadError::Unreadable { .. })));
    disk.write("pop.yaml", text(0, ""));
    assert!(matches!(disk.begin(), Err(LoadError::Invalid(_))));
    assert!(!disk.path("state").exists(), "nothing is left behind");
    disk.write("pop.yaml", text(3, ""));
    assert_eq!(disk.starts_with(), (3, String::new()));
    assert_eq!(disk.names(), ["00000003.yaml", "confirmed.json"]);
}

#[test]
fn what_is_damaged_is_said_and_the_best_that_is_whole_is_used() {
    let torn = |name: &'static str, keep: usize| {
        move |disk: &Disk| {
            let octets = fs::read(disk.stored(name)).unwrap();
            fs::write(disk.stored(name), &octets[..keep.min(octets.len())]).unwrap();
        }
    };
    let garbage =
        |name: &'static str| move |disk: &Disk| fs::write(disk.stored(name), [0xff, 0, 0x7b]).unwrap();
    let gone = |name: &'static str| move |disk: &Disk| fs::remove_file(disk.stored(name)).unwrap();
    type Damage = Box<dyn Fn(&Disk)>;
    let table: [(&str, Damage, u64, &str); 8] = [
        ("torn text", Box::new(torn("00000008.yaml", 300)), 7, "00000008.yaml is not what was stored"),
        ("empty text", Box::new(torn("00000008.yaml", 0)), 7, "generation 7 is the best"),
        ("garbage text", Box::new(garbage("00000008.yaml")), 7, "not what was stored"),
        ("text gone", Box::new(gone("00000008.yaml")), 7, "cannot be read"),
        ("torn pointer", Box::new(torn("confirmed.json", 60)), 8, "confirmed.json: is torn or garbage"),
        ("empty pointer", Box::new(torn("confirmed.json", 0)), 8, "confirmed.json: is torn"),
        ("garbage pointer", Box::new(garbage("confirmed.json")), 8, "the newest that is whole"),
        ("pointer gone", Box::new(gone("confirmed.json")), 8, "cannot be read"),
    ];
    for (what, damage, generation, words) in table {
        let disk = Disk::with_seven();
        disk.write("new.yaml", text(8, ""));
        apply(&disk, "new.yaml", None, true).unwrap();
        damage(&disk);
        let (found, said) = disk.starts_with();
        assert_eq!(found, generation, "{what}: {said}");
        assert!(said.contains("ERROR") && said.contains(words), "{what}: {said}");
    }
}

#[test]
fn a_damaged_text_is_mended_by_the_file_that_it_came_from() {
    let disk = Disk::with_seven();
    disk.write("state/generations/00000007.yaml", "");
    assert_eq!(disk.starts_with().0, 7);
    assert_eq!(disk.starts_with(), (7, String::new()));
}

#[test]
fn a_store_that_cannot_be_written_keeps_nobody_from_announcing() {
    let disk = Disk::new();
    disk.write("pop.yaml", text(7, ""));
    disk.write("state", "a file where the directory should be");
    let Beginning { config, notes, mut store, source } = disk.begin().unwrap();
    assert_eq!(config.generation, 7);
    let [Note { level: Level::ERROR, words }] = &notes[..] else { panic!("{notes:?}") };
    assert!(words.contains("used but not remembered") && words.contains("cannot be written"), "{words}");
    assert!(matches!(store.put(8, &source), Err(StoreError::Unwritable { .. })));
}

#[test]
fn a_second_process_reads_and_changes_nothing() {
    let disk = Disk::with_seven();
    disk.write("new.yaml", text(8, ""));
    let (mut store, _) = Store::open(&disk.path("state"), disk.0.path());
    let source = read(&disk.path("new.yaml")).unwrap();
    let entry = store.put(8, &source).unwrap();
    let before = disk.names();

    disk.write("pop.yaml", text(9, ""));
    let second = disk.begin().unwrap();
    assert_eq!(second.config.generation, 9);
    assert!(second.notes.iter().any(|note| note.words.contains("in use by another edgeproxy")));
    drop(second);
    assert_eq!(disk.names(), before, "neither swept nor taken");
    store.confirm(entry).unwrap();
    drop(store);
    disk.write("pop.yaml", text(7, ""));
    assert_eq!(disk.starts_with().0, 8);
}

#[test]
fn old_texts_are_removed_and_the_confirmed_one_is_not() {
    let disk = Disk::with_seven();
    for generation in 8..40 {
        disk.write("new.yaml", text(generation, ""));
        apply(&disk, "new.yaml", None, true).unwrap();
    }
    let texts = disk.names().into_iter().filter(|name| name.ends_with(".yaml")).collect::<Vec<_>>();
    assert_eq!(texts.len(), 20);
    assert_eq!((texts[0].as_str(), texts[19].as_str()), ("00000020.yaml", "00000039.yaml"));
    let (store, _) = Store::open(&disk.path("state"), disk.0.path());
    assert_eq!(store.get(20).unwrap().2.generation, 20);
    let unknown = store.get(19).unwrap_err().to_string();
    assert!(unknown.starts_with("generation 19 is not stored; there are: 39, 38"), "{unknown}");
}

#[test]
fn secrets_are_found_where_the_text_came_from() {
    let disk = Disk::new();
    fs::create_dir(disk.path("etc")).unwrap();
    let with = text(7, "").replace("      asn: 64500\n", "      asn: 64500\n      password_file: key\n");
    disk.write("etc/pop.yaml", &with);
    disk.write("etc/key", "secret");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(disk.path("etc/key"), mode).unwrap();
    begin(&disk.path("etc/pop.yaml"), &disk.path("state")).unwrap();
    // The file is gone and the process was told of another one.
    let beginning = begin(&disk.path("pop.yaml"), &disk.path("state")).unwrap();
    assert_eq!(beginning.config.bgp.neighbors[0].password.as_ref().unwrap().expose(), b"secret");
}

#[test]
fn a_key_asks_for_signatures_of_the_first_file_and_of_every_later_one() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let admin = format!("admin: {{ operator_key: \"{}\" }}\n", base64::encode(pair.public_key().as_ref()));
    let sign = |disk: &Disk, text: &str| disk.write("pop.yaml.sig", pair.sign(text.as_bytes()));

    let disk = Disk::new();
    let seven = text(7, &admin);
    disk.write("pop.yaml", &seven);
    assert!(matches!(disk.begin(), Err(LoadError::Unsigned { .. })));
    sign(&disk, &seven);
    assert_eq!(disk.starts_with(), (7, String::new()));
    assert!(disk.names().contains(&"00000007.sig".to_owned()));

    // Not signed anew; and taking the key out of the file does not help.
    for new in [text(8, &admin), text(8, "")] {
        disk.write("pop.yaml", &new);
        let (generation, words) = disk.starts_with();
        assert_eq!(generation, 7);
        assert!(words.contains("ERROR") && words.contains("the signature does not fit"), "{words}");
        fs::remove_file(disk.path("pop.yaml.sig")).unwrap();
        assert!(disk.starts_with().1.contains("is not signed"));
        sign(&disk, &seven);
    }
    sign(&disk, &text(8, ""));
    assert_eq!(disk.starts_with(), (8, String::new()));
}
