//! How fast it is, on this machine: run by hand, with `--release`, to be compared.

use std::time::Instant;

use super::*;

#[tokio::test]
#[ignore = "measures"]
async fn rows_in_a_second() {
    let state = folder();
    for (what, octets) in [("rows of 100 octets", 100), ("rows of 400 octets", 400)] {
        let folder = state.path().join(octets.to_string());
        let origins: Vec<Pen> = (0..10).map(|number| Pen::new(&format!("pop{number}"))).collect();
        let mut batches = Vec::new();
        for mut pen in origins.clone() {
            for batch in 0..10_u64 {
                // As keys come: in no order.
                let keys =
                    (0..1_000).map(|key| (batch * 1_000 + key).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20);
                let rows = pen.write(keys, Some(octets));
                batches.push((batch, pen.remote(rows, vec![])));
            }
        }
        batches.sort_by_key(|(batch, _)| *batch);
        let running = Running::at(&folder);
        let begun = Instant::now();
        for (_, work) in batches {
            running.send(work).await;
        }
        running.stop().await.unwrap();
        let took = begun.elapsed();
        println!("{what}: {:.0} rows/s written behind", 100_000.0 / took.as_secs_f64());

        let begun = Instant::now();
        let (store, loaded) = open(&folder).unwrap();
        let rows: usize = loaded.origins.iter().map(|(_, rows)| rows.len()).sum();
        println!("{what}: {rows} of them loaded in {:?}", begun.elapsed());

        let running = Running::start(store);
        let mut own = Pen::new("gru1");
        let mut times = Vec::new();
        for number in 0..300 {
            let rows = own.write([number % 100], Some(octets));
            let work = own.own(rows, vec![]);
            let begun = Instant::now();
            running.say(work).await.unwrap();
            times.push(begun.elapsed());
        }
        running.stop().await.unwrap();
        times.sort();
        println!("one own row on the disk: p50 {:?}, p99 {:?}", times[150], times[297]);
    }
}
