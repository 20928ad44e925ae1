//! Two network namespaces joined by a veth pair, held by threads: nothing is left when the process ends.

use std::process::Command;
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, gettid};

type Job = Box<dyn FnOnce() + Send>;

/// The calling thread is in one namespace (interface `near`, 10.9.0.1, 2001:db8:9::1), and `far` runs
/// in the other (interface `far`, 10.9.0.2, 2001:db8:9::2).
pub(crate) struct Pair {
    far: mpsc::SyncSender<Job>,
}

impl Pair {
    /// `None`, and a loud word, if this process may not make namespaces.
    pub(crate) fn enter(test: &str) -> Option<Pair> {
        if !Uid::effective().is_root() {
            println!("SKIPPED {test}: it needs root for network namespaces");
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make a namespace");
        let (far, jobs) = mpsc::sync_channel::<Job>(1);
        let (tell, told) = mpsc::sync_channel(1);
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may make a namespace");
            tell.send(gettid()).expect("the test waits for it");
            for job in jobs {
                job();
            }
        });
        let pair = Pair { far };
        let far_thread = told.recv().expect("the far thread started");
        ip(&format!("link add near type veth peer name far netns {far_thread}"));
        up("near", 1);
        pair.far(|| up("far", 2));
        Some(pair)
    }

    /// Runs in the far namespace and waits for the end.
    pub(crate) fn far<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (give, take) = mpsc::sync_channel(1);
        self.far.send(Box::new(move || give.send(job()).expect("the test waits for it"))).expect("far lives");
        take.recv().expect("the job did not panic")
    }
}

pub(crate) fn ip(arguments: &str) {
    let output =
        Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn up(interface: &str, host: u8) {
    ip("link set lo up");
    ip(&format!("address add 10.9.0.{host}/24 dev {interface}"));
    ip(&format!("address add 2001:db8:9::{host}/64 dev {interface} nodad"));
    ip(&format!("link set {interface} up"));
}
