//! Password files: what is taken, what is refused, and that the secret is never shown.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use edgeproxy::config::Config;
use edgeproxy::config::backhaul::key_text;
use edgeproxy::config::load::{LoadError, load};

/// Loads a configuration whose `password_file` is `secret`, beside it, with these octets and this mode.
fn with_secret(octets: &[u8], mode: u32) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    fs::write(&secret, octets).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
    load_in(directory.path())
}

fn load_in(directory: &Path) -> Result<Config, String> {
    let minimal =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/minimal.yaml")).unwrap();
    let text = minimal.replace("      asn: 64500\n", "      asn: 64500\n      password_file: secret\n");
    let file = directory.join("pop.yaml");
    fs::write(&file, text).unwrap();
    load(&file).map_err(|error| match error {
        LoadError::Invalid(problems) => {
            let [problem] = problems.list() else { panic!("{problems}") };
            assert_eq!(problem.path, "bgp.neighbors[0].password_file");
            assert!(!problem.hint.is_empty(), "{problem}");
            problem.to_string()
        }
        other => panic!("{other}"),
    })
}

#[test]
fn one_line_end_does_not_belong_to_the_secret() {
    for (octets, secret) in
        [("key", "key"), ("key\n", "key"), ("key\r\n", "key"), ("key\n\n", "key\n"), (" key ", " key ")]
    {
        let config = with_secret(octets.as_bytes(), 0o600).unwrap();
        let password = config.bgp.neighbors[0].password.as_ref().unwrap();
        assert_eq!(password.expose(), secret.as_bytes());
    }
}

#[test]
fn what_cannot_be_a_secret_is_refused() {
    for (octets, mode, words) in [
        (&b""[..], 0o600, "is empty"),
        (b"\n", 0o600, "is empty"),
        (&[b'x'; 81], 0o600, "more than 80 octets"),
        (b"key\n", 0o644, "open to everybody"),
        (b"key\n", 0o602, "open to everybody"),
    ] {
        let refusal = with_secret(octets, mode).unwrap_err();
        assert!(refusal.contains(words), "{refusal}");
    }
    let mut longest = vec![b'x'; 80];
    longest.extend(b"\r\n");
    assert!(with_secret(&longest, 0o640).is_ok());
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    assert!(load_in(directory.path()).unwrap_err().contains("cannot read"));
    let secret = directory.path().join("secret");
    fs::create_dir(&secret).unwrap();
    assert!(load_in(directory.path()).unwrap_err().contains("no regular file"));
    fs::remove_dir(&secret).unwrap();
    // A pipe that nobody writes to must not stop the reading.
    let made = std::process::Command::new("mkfifo").arg("-m").arg("600").arg(&secret).status().unwrap();
    assert!(made.success());
    assert!(load_in(directory.path()).unwrap_err().contains("no regular file"));
}

#[test]
fn a_secret_is_never_shown() {
    let config = with_secret(b"hunter2\n", 0o600).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let refusal = with_secret(b"hunter2\n", 0o644).unwrap_err();
    assert!(!refusal.contains("hunter2"));
}

/// Loads a configuration with a peer whose `preshared_key_file` is `psk`, beside it, with these octets and this mode.
fn with_preshared(octets: &[u8], mode: u32) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("psk");
    fs::write(&secret, octets).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
    let minimal =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/minimal.yaml")).unwrap();
    let key = key_text(&[7; 32]);
    let peer =
        format!("{{ pop: fra1, region: eu, number: 2, public_key: \"{key}\", preshared_key_file: psk }}");
    let file = directory.path().join("pop.yaml");
    fs::write(
        &file,
        format!("{minimal}backhaul: {{ fleet: \"fd5a:1c7e:92b4::/48\", number: 1, peers: [{peer}] }}\n"),
    )
    .unwrap();
    load(&file).map_err(|error| error.to_string())
}

#[test]
fn a_preshared_key_is_read_and_never_shown() {
    let key = key_text(&[0xa7; 32]);
    let config = with_preshared(format!("{key}\n").as_bytes(), 0o600).unwrap();
    let peer = &config.backhaul.as_ref().unwrap().peers[0];
    assert_eq!(peer.preshared.as_ref().unwrap().expose(), &[0xa7; 32]);
    let shown = format!("{config:?}");
    assert!(!shown.contains(&key) && !shown.contains("167, 167"), "{shown}");
    for (octets, mode, words) in [
        (key.as_bytes(), 0o604, "open to everybody"),
        (&key.as_bytes()[1..], 0o600, "holds no key"),
        (&[0xa7; 32], 0o600, "holds no key"),
        (b"", 0o600, "holds no key"),
    ] {
        let refusal = with_preshared(octets, mode).unwrap_err();
        assert!(
            refusal.contains(words) && refusal.contains("backhaul.peers[0].preshared_key_file"),
            "{refusal}"
        );
        assert!(!refusal.contains(&key[1..9]), "{refusal}");
    }
}
