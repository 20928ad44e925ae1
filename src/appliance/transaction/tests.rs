//! Transactions in virtual time over a real directory: what is in force, and what a restart would use.

use std::os::unix::fs::PermissionsExt;
use std::{fs, io};

use tempfile::TempDir;

use super::*;
use crate::announce::ledger::Plan;
use crate::appliance::reload::{Handouts, health_plan, sources};
use crate::config::generation::{Beginning, Fault, begin};
use crate::observe::log::Logs;
use crate::observe::samples;
use crate::proxy::plan::Planner;

/// A process as far as it has to do with configurations, started with generation 7.
struct Pop {
    disk: TempDir,
    transactions: Transactions,
    start: Instant,
}

impl Pop {
    fn start() -> Self {
        let disk = tempfile::tempdir().unwrap();
        fs::write(disk.path().join("pop.yaml"), text(7)).unwrap();
        let Beginning { config, source, store, .. } =
            begin(&disk.path().join("pop.yaml"), &disk.path().join("state")).unwrap();
        // 198.51.100.0/24 is announced.
        let prefixes = samples::prefixes().into_iter().take(1).collect();
        let watched = Screens {
            neighbors: watch::channel(Arc::default()).1,
            prefixes: watch::channel(Arc::new(prefixes)).1,
            services: watch::channel(Arc::default()).1,
        };
        let handouts = Handouts {
            bgp: watch::channel(Arc::new(config.bgp.clone())).0,
            policy: watch::channel(Arc::new(Plan::of(&config))).0,
            health: watch::channel(Arc::new(health_plan(&config))).0,
            catalog: watch::channel(Arc::new(sources(&config))).0,
            proxy: watch::channel(Arc::default()).0,
            planner: Planner::new(1),
            flows: watch::channel(Arc::default()).0,
            tunnels: None,
            replication: None,
            pop: watch::channel(Arc::default()).0,
            fleet: watch::channel(Arc::default()).1,
        };
        let in_force = InForce::new(Arc::new(config), source, handouts, Logs::nowhere());
        let transactions = Transactions::new(disk.path().join("pop.yaml"), in_force, store, watched);
        Self { disk, transactions, start: Instant::now() }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn apply(&mut self, text: String, within: Option<u64>) -> Result<Told, String> {
        let offered = Offered { text, base: self.disk.path().to_owned(), signature: None };
        self.transactions.apply(offered, within.map(Duration::from_secs), false, self.start)
    }

    fn reload(&mut self, text: &str) -> Result<Told, String> {
        fs::write(self.disk.path().join("pop.yaml"), text).unwrap();
        self.transactions.reload(self.start)
    }

    fn running(&self) -> u64 {
        self.transactions.in_force().config().generation
    }

    /// What a restart would use. It ends this process.
    fn after_restart(self) -> u64 {
        drop(self.transactions);
        begin(&self.disk.path().join("pop.yaml"), &self.disk.path().join("state")).unwrap().config.generation
    }

    fn fail_at(&mut self, at: Step) {
        self.transactions.store.arm(Fault { at, end: || io::Error::other("the disk is full") });
    }
}

fn text(generation: u64) -> String {
    let minimal = include_str!("../../../config/minimal.yaml");
    minimal.replace("generation: 1\n", &format!("generation: {generation}\n"))
}

#[test]
fn what_nobody_confirms_is_undone_by_itself() {
    let mut pop = Pop::start();
    let told = pop.apply(text(8), Some(60)).unwrap();
    assert!(
        told.text.contains("for 1m: `edgeproxy confirm` keeps it, otherwise generation 7"),
        "{}",
        told.text
    );
    assert_eq!(told.document["back_to"], 7);
    assert_eq!((pop.running(), pop.transactions.next_deadline()), (8, Some(pop.at(60))));
    let status = pop.transactions.process_status("running", Duration::ZERO, Vec::new(), pop.at(10));
    let pending = PendingStatus { generation: 8, confirm_within_ms: 50_000, back_to: 7 };
    assert_eq!((status.generation, status.pending), (8, Some(pending)));

    assert_eq!(pop.transactions.handle_timeout(pop.at(59)), None);
    let words = pop.transactions.handle_timeout(pop.at(60)).unwrap();
    assert_eq!(words, "generation 8 was not confirmed within 1m: generation 7 is in force again");
    assert_eq!((pop.running(), pop.transactions.next_deadline()), (7, None));
    let status = pop.transactions.process_status("running", Duration::ZERO, Vec::new(), pop.at(61));
    assert_eq!((status.pending, status.undone), (None, Some(words)));
    pop.transactions.confirm().unwrap_err();

    // It was never taken, so its number is free.
    pop.apply(text(8) + "# mended\n", None).unwrap();
    let status = pop.transactions.process_status("running", Duration::ZERO, Vec::new(), pop.at(62));
    assert_eq!((status.generation, status.undone), (8, None));
    assert_eq!(pop.after_restart(), 8);
}

#[test]
fn what_is_confirmed_stays_and_what_is_pending_does_not_outlive_the_process() {
    let mut pop = Pop::start();
    pop.apply(text(8), Some(60)).unwrap();
    pop.transactions.confirm().unwrap();
    assert_eq!(pop.transactions.handle_timeout(pop.at(3600)), None);
    pop.apply(text(9), Some(60)).unwrap();
    assert_eq!(pop.running(), 9);
    assert_eq!(pop.after_restart(), 8);
}

#[test]
fn one_transaction_at_a_time() {
    let mut pop = Pop::start();
    pop.apply(text(8), Some(60)).unwrap();
    for refused in [
        pop.apply(text(9), None).unwrap_err(),
        pop.apply(text(8), None).unwrap_err(),
        pop.reload(&text(9)).unwrap_err(),
        pop.transactions.rollback(Some(3), false, pop.at(1)).unwrap_err(),
    ] {
        assert!(refused.starts_with("generation 8 is in force and waits"), "{refused}");
    }
    assert_eq!(pop.running(), 8);
    let told = pop.transactions.rollback(None, false, pop.at(1)).unwrap();
    assert_eq!(told.text, "generation 8 is undone: generation 7 is in force again");
    assert_eq!(pop.running(), 7);
    pop.reload(&text(9)).unwrap();
    assert_eq!(pop.running(), 9);
}

#[test]
fn back_and_forth_over_stored_generations() {
    let mut pop = Pop::start();
    pop.transactions.rollback(None, false, pop.start).unwrap_err();
    for generation in [8, 9] {
        pop.apply(text(generation), None).unwrap();
    }
    for (to, expected) in [(None, 8), (None, 7), (Some(9), 9), (Some(7), 7)] {
        pop.transactions.rollback(to, false, pop.start).unwrap();
        assert_eq!(pop.running(), expected);
    }
    let unknown = pop.transactions.rollback(Some(3), false, pop.start).unwrap_err();
    assert!(unknown.contains("generation 3 is not stored; there are: 7, 9, 8"), "{unknown}");
    // The numbers that were taken stay taken.
    pop.apply(text(9) + "#\n", None).unwrap_err();
    pop.apply(text(10), None).unwrap();
    pop.transactions.rollback(Some(8), false, pop.start).unwrap();
    assert_eq!(pop.after_restart(), 8);
}

#[test]
fn darkness_must_be_meant_on_every_way() {
    let dark = text(8).replace("    services: [web]\n", "    services: [web]\n    state: down\n");
    let mut pop = Pop::start();
    for refused in [pop.apply(dark.clone(), Some(60)).unwrap_err(), pop.reload(&dark).unwrap_err()] {
        assert!(refused.contains("would go dark (198.51.100.0/24)"), "{refused}");
    }
    let planned = |pop: &Pop, text: String| {
        let offered = Offered { text, base: "/".into(), signature: None };
        pop.transactions.plan(offered, pop.start).unwrap()
    };
    let told = planned(&pop, dark.clone());
    assert!(told.document["refused"].as_str().unwrap().contains("would go dark"), "{}", told.text);
    assert!(
        told.text.contains("[goes dark]") && told.text.contains("it would be refused: "),
        "{}",
        told.text
    );
    assert!(planned(&pop, text(8)).document["refused"].is_null());
    assert_eq!(pop.running(), 7);

    let offered = Offered { text: dark, base: "/".into(), signature: None };
    pop.transactions.apply(offered, None, true, pop.start).unwrap();
    pop.transactions.rollback(None, false, pop.start).unwrap();
    pop.transactions.rollback(Some(8), false, pop.start).unwrap_err();
    assert_eq!(pop.running(), 7);
    pop.transactions.rollback(Some(8), true, pop.start).unwrap();
    assert_eq!(pop.running(), 8);
}

#[test]
fn what_cannot_be_stored_is_not_applied() {
    for step in
        [Step::BeforeText, Step::TextWritten, Step::TextRenamed, Step::BeforeConfirm, Step::ConfirmWritten]
    {
        let mut pop = Pop::start();
        pop.fail_at(step);
        let why = pop.apply(text(8), None).unwrap_err();
        assert!(why.contains("the disk is full"), "{step:?}: {why}");
        assert_eq!(pop.running(), 7, "{step:?}");
        assert_eq!(pop.after_restart(), 7, "{step:?}");
    }
}

#[test]
fn a_confirmation_that_cannot_be_stored_leaves_it_waiting() {
    let mut pop = Pop::start();
    pop.apply(text(8), Some(60)).unwrap();
    pop.fail_at(Step::ConfirmWritten);
    assert!(pop.transactions.confirm().unwrap_err().contains("waits still"));
    assert_eq!(pop.running(), 8);
    pop.transactions.handle_timeout(pop.at(60)).unwrap();
    assert_eq!(pop.running(), 7);
}

#[test]
fn a_reload_does_not_depend_on_the_store() {
    for step in [Step::TextWritten, Step::ConfirmWritten] {
        let mut pop = Pop::start();
        pop.fail_at(step);
        pop.reload(&text(8)).unwrap();
        assert_eq!(pop.running(), 8, "{step:?}");
        // Its number counts as taken all the same.
        pop.reload(&(text(8) + "# other\n")).unwrap_err();
        pop.reload(&text(8)).unwrap();
        assert_eq!(pop.after_restart(), 8, "{step:?}: the file is there");
    }
}

/// Writes a new certificate and key for a name where the configuration looks for them.
fn certify(pop: &Pop, name: &str) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    fs::write(pop.disk.path().join("web.pem"), made.cert.pem()).unwrap();
    let key = pop.disk.path().join("web.key");
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_same_text_with_another_certificate_is_taken() {
    const NAMES: &str = "listen.198.51.100.1:8443.tls.names [a.example.net] → [b.example.net]";
    let mut pop = Pop::start();
    let tls = "    listen: [{ address: 198.51.100.1, tls: { certificate: web.pem, key: web.key } }]\n";
    certify(&pop, "a.example.net");
    let with_tls = text(8) + tls;
    pop.reload(&with_tls).unwrap();
    let first = pop.transactions.in_force().config().services["web"].listen.clone();

    certify(&pop, "b.example.net");
    let told = pop.reload(&with_tls).unwrap();
    assert!(told.text.contains("tls.certificate set → another"), "{}", told.text);
    assert!(told.text.contains("tls.key set → another") && told.text.contains(NAMES), "{}", told.text);
    let second = pop.transactions.in_force().config().services["web"].listen.clone();
    assert_ne!(first, second);
    // Rooms are handed the new one, and asked to do nothing when it is the same again.
    let mut handed = pop.transactions.in_force.handed_out_to_catalog();
    assert_eq!(handed.borrow_and_update().services["web"].listen, second);
    assert!(!pop.reload(&with_tls).unwrap().text.contains("tls"));
    assert!(!handed.has_changed().unwrap());

    certify(&pop, "c.example.net");
    let told = pop.apply(with_tls.clone(), Some(60)).unwrap();
    assert!(
        told.text.ends_with("generation 8 is in force already; files that it names changed, and are taken"),
        "{}",
        told.text
    );
    assert_eq!(pop.transactions.next_deadline(), None);
    assert_ne!(pop.transactions.in_force().config().services["web"].listen, second);

    // A file that cannot be used changes nothing, and other text needs another generation.
    fs::write(pop.disk.path().join("web.pem"), "torn").unwrap();
    let third = pop.transactions.in_force().config().services["web"].listen.clone();
    assert!(pop.reload(&with_tls).unwrap_err().contains("no certificate in"));
    assert_eq!(pop.transactions.in_force().config().services["web"].listen, third);
    certify(&pop, "d.example.net");
    assert!(pop.reload(&(with_tls + "# other\n")).unwrap_err().contains("with other content"));
    assert_eq!(pop.transactions.in_force().config().services["web"].listen, third);
}

#[test]
fn the_same_file_changes_nothing_but_what_it_names() {
    let mut pop = Pop::start();
    let told = pop.apply(text(7), Some(60)).unwrap();
    assert!(told.text.ends_with("generation 7 is in force already"), "{}", told.text);
    assert_eq!(pop.transactions.next_deadline(), None);
    pop.reload(&text(7)).unwrap();
    assert!(pop.apply(text(8), Some(0)).unwrap_err().contains("1s to 24h"));
}
