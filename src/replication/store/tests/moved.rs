//! Dumps, and what is taken back of them.

use std::io::BufReader;

use super::*;

fn take(folder: &Path, text: &[u8]) -> Result<Restored, StoreError> {
    restore(folder, &mut BufReader::new(text), &mut |_| Ok(()))
}

#[tokio::test]
async fn a_dump_brings_rows_to_another_machine_but_no_incarnation() {
    let (here, there) = (folder(), folder());
    let running = Running::at(here.path());
    let (mut own, mut other) = (Pen::new("gru1"), Pen::new("fra1"));
    let rows = own.write(0..20, Some(40));
    running.say(own.own(rows, vec![])).await.unwrap();
    running.say(slot("incarnation", &[9])).await.unwrap();
    other.write(0..50, Some(2_000));
    other.write(10..12, None);
    running.send(other.whole()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // While the process runs.
    let mut text = Vec::new();
    let dumped = dump(here.path(), &mut text).unwrap();
    assert_eq!((dumped.origins, dumped.rows, dumped.damaged.len()), (2, 70, 0));
    assert!(matches!(take(here.path(), &text), Err(StoreError::Occupied(_))));
    running.stop().await.unwrap();
    assert_eq!(text.iter().filter(|octet| **octet == b'\n').count(), 1 + 2 + 70 + 1);

    // There it has been in use: a newer state and another incarnation.
    let mut newer = other.clone();
    let rows = newer.write([1], Some(3));
    let running = Running::at(there.path());
    running.send(newer.whole()).await;
    running.say(slot("incarnation", &[2])).await.unwrap();
    running.stop().await.unwrap();
    drop(rows);
    let restored = take(there.path(), &text).unwrap();
    assert_eq!(
        (restored.origins, restored.rows, &restored.newer_here[..]),
        (1, 20, &["fra1".to_owned()][..])
    );
    let loaded = look(there.path());
    assert!(own.is(&loaded) && newer.is(&loaded));
    assert_eq!(loaded.slots["incarnation"], [2]);
    // Onto a new machine.
    let new = folder();
    assert_eq!(take(new.path(), &text).unwrap().rows, 70);
    let loaded = look(new.path());
    assert!(own.is(&loaded) && other.is(&loaded) && loaded.slots.is_empty());
    assert_eq!(take(new.path(), &text).unwrap().newer_here.len(), 2);
}

#[tokio::test]
async fn a_dump_that_is_not_whole_changes_nothing() {
    let (here, there) = (folder(), folder());
    let running = Running::at(here.path());
    let mut other = Pen::new("fra1");
    other.write(0..5, Some(4));
    running.send(other.whole()).await;
    running.stop().await.unwrap();
    let mut octets = Vec::new();
    dump(here.path(), &mut octets).unwrap();
    let text = String::from_utf8(octets).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let long = format!("{}\n", "x".repeat(100_000));
    let without = |gone: usize| {
        let kept =
            lines.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, line)| format!("{line}\n"));
        kept.collect::<String>()
    };
    for (broken, line, what) in [
        (String::new(), 1, "cut off"),
        (long, 1, "longer than"),
        ("{}\n".to_owned(), 1, "missing field"),
        (text.replace("\"format\":1", "\"format\":2"), 1, "no dump"),
        (text.replace("\"version\":5,\"rows\"", "\"version\":6,\"rows\""), 2, "something else"),
        (text.replace("\"kind\":3,", ""), 3, "no row"),
        (text.replacen("\"version\":3", "\"version\":2", 1), 7, "add up"),
        (without(3), 7, "unknown field"),
        (text[..text.len() - 10].to_owned(), 8, "cut off"),
        (without(lines.len() - 1), 8, "cut off"),
        (text.replace("\"origins\":1", "\"origins\":2"), 8, "changed"),
    ] {
        match take(there.path(), broken.as_bytes()) {
            Err(StoreError::Dump { line: at, what: why }) => {
                assert!(at == line && why.contains(what), "line {at}, not {line}: {why}, not {what}");
            }
            other => panic!("{what}: {other:?}"),
        }
        assert!(look(there.path()).origins.is_empty(), "{what}");
    }
    let refused = restore(there.path(), &mut text.as_bytes(), &mut |_| Err("a stranger".to_owned()));
    assert!(refused.unwrap_err().to_string().contains("line 2 of the dump: a stranger"));
    assert!(look(there.path()).origins.is_empty());
    let nowhere = there.path().join("nowhere");
    assert!(matches!(dump(&nowhere, &mut Vec::new()), Err(StoreError::Missing(_))));
}
