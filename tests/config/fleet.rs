//! Fleet and replication: what is taken, what is refused, and that what belongs to another POP is seen.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use edgeproxy::config::Config;
use edgeproxy::config::diff::diff;
use edgeproxy::config::load::{LoadError, load};
use edgeproxy::replication::identity::{Authority, request};
use tempfile::TempDir;
use time::OffsetDateTime;

const MINIMAL: &str = include_str!("../../config/minimal.yaml");
const FILES: &str = "certificate: pop.pem, key: pop.key, authorities: [ca.pem]";

/// A directory with a configuration and what `edgeproxy fleet join` leaves.
struct Place(TempDir);

impl Place {
    fn new(pop: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let authority = authority("example");
        place.join(&authority, pop);
        place
    }

    fn join(&self, authority: &Authority, pop: &str) {
        let invitation = authority.invite(pop, 30, OffsetDateTime::now_utc()).unwrap();
        self.write("ca.pem", &invitation.authority, 0o644);
        self.write("pop.pem", &invitation.certificate, 0o644);
        self.write("pop.key", &invitation.key.unwrap(), 0o600);
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self, sections: &str) -> Result<Config, LoadError> {
        self.write("pop.yaml", &format!("{MINIMAL}{sections}"), 0o644);
        load(&self.0.path().join("pop.yaml"))
    }

    /// The problems, as path, message and hint.
    fn refusal(&self, sections: &str) -> String {
        let Err(LoadError::Invalid(problems)) = self.load(sections) else { panic!("{sections} is taken") };
        let shown = |problem: &edgeproxy::config::problem::Problem| {
            assert!(!problem.hint.is_empty(), "{problem}");
            format!("{}: {}\n{}", problem.path, problem.message, problem.hint)
        };
        problems.list().iter().map(shown).collect::<Vec<_>>().join("\n")
    }
}

fn authority(fleet: &str) -> Authority {
    Authority::new(fleet, OffsetDateTime::now_utc()).unwrap()
}

fn sections(fleet: &str, replication: &str) -> String {
    format!("fleet: {{ {fleet} }}\nreplication: {{ {FILES}{replication} }}\n")
}

#[test]
fn a_fleet_that_says_the_least() {
    let place = Place::new("gru1");
    let config = place.load(&sections("name: example", "")).unwrap();
    let replication = config.replication.unwrap();
    assert_eq!(replication.listen.to_string(), "[::]:4002");
    assert_eq!((replication.advertise, replication.voters.len(), replication.peers.len()), (None, 0, 0));
    assert_eq!((replication.limits.rows, replication.limits.octets), (20_000, 16 << 20));
    assert!(!format!("{:?}", replication.key).contains("48"), "the key is shown");
}

#[test]
fn everything_that_can_be_said() {
    let place = Place::new("gru1");
    let more = r#", listen: "192.0.2.10:4100", advertise: "203.0.113.5:4100", limits: { rows: 1000, octets: 2MiB, total_rows: 5000, total_octets: 64MiB },
        peers: [{ pop: fra1, region: eu, address: "198.51.100.9:4002" }, { pop: sin1, region: ap, address: "sin1.example.net:4002" }, { pop: iad1, region: us }]"#;
    let config = place.load(&sections("name: example, voters: [gru1, fra1, sin1]", more)).unwrap();
    let replication = config.replication.as_ref().unwrap();
    let addresses = replication.peers.iter().map(|peer| peer.address.as_ref().map(ToString::to_string));
    assert_eq!(
        addresses.collect::<Vec<_>>(),
        [Some("198.51.100.9:4002".to_owned()), Some("sin1.example.net:4002".to_owned()), None]
    );
    // What a reload changes, and what it does not.
    let later = place.load(&sections("name: example, voters: [gru1, fra1, iad1]", more)).unwrap();
    let changes = diff(&config, &later);
    assert!(changes.restart.is_empty());
    assert!(changes.to_string().contains("fleet.voters"), "{changes}");
    place.join(&authority("example"), "gru1");
    let renewed = place.load(&sections("name: example, voters: [gru1, fra1, iad1]", more)).unwrap();
    let changes = diff(&later, &renewed).to_string();
    assert!(changes.contains("replication.certificate") && changes.contains("another"), "{changes}");
    let without = place.load("").unwrap();
    assert!(diff(&renewed, &without).to_string().contains("replication"), "it is not said");
}

#[test]
fn what_is_wrong_is_said_where_it_is() {
    let place = Place::new("gru1");
    let good = || "name: example".to_owned();
    for (fleet, more, words) in [
        ("name: Example".to_owned(), "", "fleet.name: `Example` cannot be a name here"),
        (
            "name: elsewhere".to_owned(),
            "",
            "replication.certificate: the certificate names spiffe://example/pop/gru1, which is no POP of this fleet",
        ),
        ("name: example, voters: [gru1, fra1]".to_owned(), "", "fleet.voters: 2 voters"),
        (
            "name: example, voters: [gru1, fra1, fra1]".to_owned(),
            "",
            "fleet.voters[2]: `fra1` is used already",
        ),
        (
            good(),
            ", peers: [{ pop: gru1, region: sa }]",
            "replication.peers[0].pop: `gru1` is this POP itself",
        ),
        (
            good(),
            ", peers: [{ pop: a, region: sa }, { pop: a, region: sa }]",
            "replication.peers[1].pop: `a` is used already",
        ),
        (good(), ", peers: [{ pop: a, region: sa, address: 192.0.2.7 }]", "write `192.0.2.7:4002`"),
        (good(), ", advertise: \"0.0.0.0:4002\"", "replication.advertise: others cannot reach 0.0.0.0:4002"),
        (good(), ", limits: { rows: 5 }", "replication.limits.rows: 5 is out of range"),
        (good(), ", gossip: 4001", "replication.gossip"),
    ] {
        let refused = place.refusal(&sections(&fleet, more));
        assert!(refused.contains(words), "{fleet} {more}\n{refused}\n\nnot: {words}");
    }
    assert!(place.refusal("fleet: { name: example }\n").contains("`fleet` without `replication`"));
    let alone = place.refusal(&format!("replication: {{ {FILES} }}\n"));
    assert!(alone.contains("`replication` without `fleet`"), "{alone}");
}

#[test]
fn files_that_are_not_ours_are_refused() {
    let sections = sections("name: example", "");
    let other = Place::new("fra1");
    let refused = other.refusal(&sections);
    assert!(refused.contains("that of fra1, not of gru1") && refused.contains("fleet join"), "{refused}");

    let place = Place::new("gru1");
    place.write("ca.pem", authority("example").certificate(), 0o644);
    let refused = place.refusal(&sections);
    assert!(refused.contains("no authority of this fleet has signed"), "{refused}");

    let place = Place::new("gru1");
    let (key, _) = request("example", "gru1").unwrap();
    place.write("pop.key", &key, 0o600);
    assert!(place.refusal(&sections).starts_with("replication.key"), "{}", place.refusal(&sections));

    let place = Place::new("gru1");
    place.write("pop.key", &key, 0o644);
    assert!(place.refusal(&sections).contains("replication.key"), "others can read it");
}
