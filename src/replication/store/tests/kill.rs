//! A process that is killed at any moment loses nothing that it acknowledged.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use super::*;

const FOLDER: &str = "EDGEPROXY_TEST_STORE";

#[test]
fn a_process_that_is_killed_has_lost_nothing_that_it_acknowledged() {
    let state = folder();
    let rounds = if std::env::var_os("EDGEPROXY_FULL").is_some() { 1_000 } else { 30 };
    let (mut least, mut grown) = (0, 0);
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "replication::store::tests::kill::writes_until_it_is_killed",
            ])
            .env(FOLDER, state.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It lives for up to 30 acknowledgements and the next 2 ms, within which it writes again, or for hardly any
        // time more; or is killed as it starts.
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let nanos = SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
        let (mut text, until) = (String::new(), nanos / 1_000 % 30);
        for _ in 0..until {
            text.clear();
            said.read_line(&mut text).unwrap();
            least = acknowledged(&text).unwrap_or(least);
        }
        std::thread::sleep(Duration::from_micros(u64::from(
            nanos % if round % 2 == 0 { 2_000 } else { 200 },
        )));
        child.kill().unwrap();
        text.clear();
        said.read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "round {round}: it ended by itself");
        // A line that is not whole was not said yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        least = whole.lines().filter_map(acknowledged).next_back().unwrap_or(least);

        let loaded = look(state.path());
        assert!(
            loaded.damaged.is_empty() && loaded.set_aside.is_none(),
            "round {round}: {:?}",
            loaded.damaged
        );
        let own = loaded.origins.iter().find(|(head, _)| head.head.origin.as_str() == "gru1");
        let version = own.map_or(0, |(head, _)| head.head.point.version);
        assert!(version >= least, "round {round}: {version} is there, {least} was acknowledged");
        let slot =
            loaded.slots.get("count").map_or(0, |value| u64::from_be_bytes(value[..].try_into().unwrap()));
        assert!(slot >= least, "round {round}: the slot says {slot}, {least} was acknowledged");
        grown += usize::from(version > 0);
    }
    println!("{rounds} kills, {least} acknowledged");
    assert!(grown > rounds / 2 && least > rounds as u64);
}

fn acknowledged(line: &str) -> Option<u64> {
    line.trim_end().strip_prefix("acknowledged ")?.parse().ok()
}

/// The process of the test above.
#[tokio::test]
#[ignore = "is started by another test, and never ends"]
async fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (store, loaded) = open(Path::new(&folder)).unwrap();
    let find = |name: &str| {
        let found = loaded.origins.iter().find(|(head, _)| head.head.origin.as_str() == name);
        found.map_or_else(|| Pen::new(name), |(head, rows)| Pen::continued(head, rows))
    };
    let (mut own, mut other, mut third) = (find("gru1"), find("fra1"), find("sin1"));
    let running = Running::start(store);
    println!("begun");
    for round in own.version().. {
        let keys = (0..1 + round % 9).map(|key| (key * 31 + round) % if round % 7 == 0 { 200 } else { 250 });
        let rows = own.write(keys, (round % 5 > 0).then_some(round as usize % 700));
        let gone = if round % 7 == 0 { own.collect([200 + round % 50]) } else { vec![] };
        let (work, told) = own.own(rows, gone);
        running.send(work).await;
        let rows = other.write((0..8).map(|key| key * 7 + round), Some(20));
        let gone = other.collect([round.wrapping_sub(1)]);
        running.send(other.remote(rows, gone)).await;
        if round % 40 == 0 {
            third.write((0..1_100).map(|key| key + round % 1_000), Some(10));
            running.send(third.whole()).await;
        }
        told.await.unwrap().unwrap();
        running.say(slot("count", &own.version().to_be_bytes())).await.unwrap();
        // One write: what is not whole is not said.
        let line = format!("acknowledged {}\n", own.version());
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}
