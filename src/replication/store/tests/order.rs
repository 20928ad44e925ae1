//! What is written before what, and what waits for whom.

use std::time::Instant;

use super::*;
use crate::replication::store::behind::{Behind, PORTION};
use crate::replication::store::clerk::{Clerk, While};

#[tokio::test]
async fn a_snapshot_replaces_all_rows_and_what_follows_continues_it() {
    let state = folder();
    let running = Running::at(state.path());
    let mut other = Pen::new("fra1");
    let rows = other.write(0..50, Some(10));
    running.send(other.remote(rows, vec![])).await;
    // It is on its way when the next ones come: more rows than are written at once.
    other.collect(0..40);
    other.write(100..100 + 3 * PORTION as u64, Some(10));
    running.send(other.whole()).await;
    tokio::time::sleep(Duration::from_millis(120)).await;
    let rows = other.write([45, 100, 9_000], Some(3));
    running.send(other.remote(rows, vec![])).await;
    let gone = other.collect([101, 46]);
    running.send(other.remote(vec![], gone)).await;
    running.stop().await.unwrap();
    let loaded = look(state.path());
    assert!(loaded.damaged.is_empty() && other.is(&loaded));
}

#[tokio::test]
async fn our_own_rows_keep_their_order_when_some_came_from_others() {
    let state = folder();
    let running = Running::at(state.path());
    let mut own = Pen::new("gru1");
    own.write(0..2 * PORTION as u64, Some(10));
    running.send(own.whole()).await;
    let rows = own.write([1, 2], None);
    running.say(own.own(rows, vec![])).await.unwrap();
    let gone = own.collect([1]);
    running.send(own.remote(vec![], gone)).await;
    running.stop().await.unwrap();
    assert!(own.is(&look(state.path())));
}

#[tokio::test]
async fn what_nobody_needs_any_more_is_removed() {
    let state = folder();
    let running = Running::at(state.path());
    let mut other = Pen::new("fra1");
    for round in 0..3 {
        other.write(round..round + 2_500, Some(10));
        running.send(other.whole()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    running.stop().await.unwrap();
    let (store, loaded) = open(state.path()).unwrap();
    assert!(other.is(&loaded));
    // Half of it may be left when it stops; the next run knows.
    let running = Running::start(store);
    let mut count = 0_i64;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let connection = schema::look(&state.path().join("fleet.db")).unwrap();
        count = connection.query_row("SELECT count(*) FROM rows", [], |line| line.get(0)).unwrap();
        if count == other.rows.len() as i64 {
            break;
        }
    }
    running.stop().await.unwrap();
    assert_eq!(count, other.rows.len() as i64);
}

#[test]
fn what_waits_of_one_origin_is_put_together() {
    let (now, mut behind) = (Instant::now(), Behind::default());
    let (mut one, mut two) = (Pen::new("fra1"), Pen::new("gru1"));
    let put = |behind: &mut Behind, work| match work {
        Work::Remote { head, rows, whole, gone } => behind.put(head, rows, whole, gone, now),
        _ => unreachable!(),
    };
    let rows = one.write([1, 2, 3], Some(1));
    put(&mut behind, one.remote(rows, vec![]));
    let rows = two.write(0..PORTION as u64, Some(1));
    put(&mut behind, two.remote(rows, vec![]));
    let rows = one.write([2], None);
    let gone = one.collect([3, 4]);
    put(&mut behind, one.remote(rows, gone));
    let first: Vec<_> = behind.portion().collect();
    // The second has no room beside it.
    assert_eq!((first.len(), first[0].rows.len(), &first[0].head), (1, 4, &one.signed()));
    let versions: Vec<_> = first[0].rows.values().map(|row| row.as_ref().map(|row| row.version)).collect();
    let mut expected = [(key(1), Some(1)), (key(2), Some(4)), (key(3), None), (key(4), None)];
    expected.sort();
    assert_eq!(versions, expected.map(|(_, version)| version));
    behind.written(1);
    assert!(!behind.has(&one.signed().head.origin) && !behind.is_empty());
    // What goes from a snapshot that waits was never there.
    one.write([5, 6], Some(1));
    put(&mut behind, one.whole());
    let gone = one.collect([5]);
    put(&mut behind, one.remote(vec![], gone));
    behind.hurry(&one.signed().head.origin);
    assert!(behind.is_whole());
    let taken = behind.take().unwrap();
    assert!(taken.rows.values().flatten().eq(one.rows.values()) && taken.rows.values().all(Option::is_some));
    behind.take();
    assert!(behind.is_empty() && behind.due().is_none() && behind.has_room());
}

#[tokio::test]
async fn a_copy_is_made_between_the_writes() {
    let state = folder();
    let running = Running::at(state.path());
    let mut other = Pen::new("fra1");
    other.write(0..8_000, Some(400));
    running.send(other.whole()).await;
    running.stop().await.unwrap();

    let (Store { place, connection, books, missed, .. }, _) = open(state.path()).unwrap();
    let ((sender, mut work), stop) = (mpsc::channel(64), CancellationToken::new());
    let mut clerk = Clerk::new(&place, &connection, books, missed);
    let writes = async {
        let (mut own, mut longest) = (Pen::new("gru1"), Duration::ZERO);
        for number in 0..30 {
            let rows = own.write([number % 7], Some(50));
            let (work, told) = own.own(rows, vec![]);
            let sent = Instant::now();
            sender.send(work).await.unwrap();
            told.await.unwrap().unwrap();
            longest = longest.max(sent.elapsed());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(sender);
        (own, longest)
    };
    let serve = async {
        let made = clerk.back_up(&mut work, &stop).await;
        let far = || Instant::now() + Duration::from_secs(60);
        while clerk.serve(&mut work, &stop, far()).await.unwrap() == While::Passed {}
        made
    };
    let (made, (own, longest)) = tokio::join!(serve, writes);
    assert!(made.unwrap());
    println!("the longest own write beside a copy took {longest:?}");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    let copy = state.path().join("copy");
    fs::create_dir(&copy).unwrap();
    fs::copy(place.backup(), copy.join("fleet.db")).unwrap();
    let loaded = look(&copy);
    assert!(other.is(&loaded) && loaded.damaged.is_empty() && !loaded.fresh);
    assert!(own.version() == 30 && !place.unfinished().exists());
}
