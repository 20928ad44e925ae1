//! The command line from outside: the real binary, its exit codes and its words.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

fn edgeproxy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edgeproxy"))
        .args(arguments)
        .env("EDGEPROXY_SOCKET", "/nonexistent/edgeproxy.sock")
        .output()
        .unwrap()
}

fn words(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

#[test]
fn wrong_usage_exits_2_and_says_how_on_standard_error() {
    for arguments in [
        &[][..],
        &["fly"],
        &["check"],
        &["explain"],
        &["explain", "--client", "203.0.113.7"],
        &["explain", "--service", "web"],
        &["explain", "198.51.100.0/24", "--service", "web"],
        &["explain", "198.51.100.0/24", "--client", "203.0.113.7", "--service", "web"],
        &["diff"],
        &["diff", "a", "b", "c"],
        &["status", "--loud"],
        &["--socket", "s", "run", "f.yaml"],
    ] {
        let output = edgeproxy(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(words(&output.stderr).contains("Usage: edgeproxy"), "{arguments:?}");
        assert_eq!(words(&output.stdout), "", "{arguments:?}");
    }
}

#[test]
fn values_that_cannot_be_meant_exit_2_and_say_what_is() {
    for (arguments, remedy) in [
        (&["apply", "f.yaml", "--confirm-within", "5"][..], "a unit is missing: `5s`"),
        (&["apply", "f.yaml", "--confirm-within", "25h"], "from 1s to 24h"),
        (&["rollback", "seven"], "invalid digit"),
        (
            &["explain", "--service", "web", "--client", "203.0.113.7:443"],
            "without port or length, such as 203",
        ),
        (&["explain", "--service", "web", "--client", "224.0.0.1"], "no client comes from there"),
        (&["connections", "--client", "web"], "invalid IP address"),
    ] {
        let output = edgeproxy(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(words(&output.stderr).contains(remedy), "{}", words(&output.stderr));
    }
}

#[test]
fn help_and_version_are_no_failure() {
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"], &["completions", "bash"]] {
        let output = edgeproxy(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(words(&output.stdout).contains("edgeproxy"), "{arguments:?}");
    }
    assert!(words(&edgeproxy(&["--help"]).stdout).contains("64 bad configuration"));
}

#[test]
fn without_a_process_every_question_exits_1_with_the_remedy() {
    for arguments in [
        &["status"][..],
        &["neighbors"],
        &["health"],
        &["health", "web"],
        &["explain", "192.0.2.0/24"],
        &["events"],
        &["events", "--follow"],
        &["reload"],
        &["plan", "config/minimal.yaml"],
        &["apply", "config/minimal.yaml"],
        &["confirm"],
        &["rollback"],
    ] {
        let output = edgeproxy(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let words = words(&output.stderr);
        for part in ["not running", "/nonexistent/edgeproxy.sock", "edgeproxy run FILE", "--socket"] {
            assert!(words.contains(part), "{arguments:?}: {words}");
        }
    }
}

#[test]
fn the_socket_option_is_stronger_than_the_environment() {
    let output = edgeproxy(&["status", "--socket", "/nonexistent/other.sock"]);
    assert!(words(&output.stderr).contains("/nonexistent/other.sock"));
}

#[test]
fn json_failures_are_documents_on_standard_output() {
    let output = edgeproxy(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(document["error"].as_str().unwrap().contains("not running"));
}

#[test]
fn a_file_that_cannot_be_read_is_bad_configuration() {
    for command in ["check", "run", "diff", "plan", "apply"] {
        let output = edgeproxy(&[command, "/nonexistent/edgeproxy.yaml"]);
        assert_eq!(output.status.code(), Some(64), "{command}");
        assert!(words(&output.stderr).contains("/nonexistent/edgeproxy.yaml"), "{command}");
    }
}

#[test]
fn check_names_every_problem_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    std::fs::write(&file, "generation: 0\nspeed: 11\n").unwrap();
    let file = file.to_str().unwrap();

    let output = edgeproxy(&["check", file]);
    assert_eq!(output.status.code(), Some(64));
    let said = words(&output.stderr);
    assert!(said.contains(&format!("{file}:1:")) && said.contains(&format!("{file}:2:1: speed")), "{said}");

    let output = edgeproxy(&["check", "--json", file]);
    assert_eq!(output.status.code(), Some(64));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let paths: Vec<_> =
        document["problems"].as_array().unwrap().iter().map(|problem| problem["path"].as_str()).collect();
    assert!(paths.contains(&Some("generation")) && paths.contains(&Some("speed")), "{paths:?}");
}

#[test]
fn good_files_are_checked_and_compared() {
    let [old, new] = ["config/minimal.yaml", "config/edgeproxy.yaml"]
        .map(|file| Path::new(env!("CARGO_MANIFEST_DIR")).join(file).to_str().unwrap().to_owned());
    let output = edgeproxy(&["check", &new]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output.stderr));
    assert!(words(&output.stdout).contains("good"));
    let output = edgeproxy(&["diff", &old, &new]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output.stderr));
    assert!(words(&output.stdout).contains("transit-a"));
    let output = edgeproxy(&["diff", "--json", &old, &new]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(document["neighbors"]["transit-a"].is_object(), "{document}");
}
