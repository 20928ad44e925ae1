//! A thread that is stopped from outside stands still, and its process can go on or end.

use std::fs;

use netlab::{hang, load};

fn state(pid: u32, thread: &str) -> Option<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok()).find_map(|stat| {
        let (name, state) = stat.split_once(") ")?;
        name.ends_with(&format!("({thread}")).then(|| state[..1].to_owned())
    })
}

#[test]
fn a_hung_thread_goes_on_when_let_go_and_holds_up_no_kill() {
    let spin = load::spin(1).unwrap();
    let pid = spin.pids()[0];
    while state(pid, "busy").is_none() {
        std::thread::yield_now();
    }
    assert!(hang::hang(pid, "lazy").is_err());
    let (hung, _) = hang::hang(pid, "busy").unwrap();
    assert_eq!(state(pid, "busy").as_deref(), Some("t"));
    drop(hung);
    assert_eq!(state(pid, "busy").as_deref(), Some("R"));
    let (hung, _) = hang::hang(pid, "busy").unwrap();
    // Waits for its end, which comes only when all its threads are gone.
    drop(spin);
    assert!(state(pid, "busy").is_none());
    drop(hung);
}
