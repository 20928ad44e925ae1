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

fn json(arguments: &[&str]) -> serde_json::Value {
    let output = edgeproxy(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", words(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn example() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/edgeproxy.yaml");
    file.to_str().unwrap().to_owned()
}

#[test]
fn sixpn_init_makes_another_prefix_each_time_that_a_configuration_takes() {
    let fleets: Vec<_> =
        (0..3).map(|_| json(&["sixpn", "init"])["fleet"].as_str().unwrap().to_owned()).collect();
    assert!(fleets[0] != fleets[1] && fleets[1] != fleets[2], "{fleets:?}");
    for fleet in fleets {
        assert!(fleet.starts_with("fd") && fleet.ends_with("::/48"), "{fleet}");
        assert_eq!(json(&["sixpn", "show", "--fleet", &fleet])["fleet"], fleet.as_str());
    }
    let said = words(&edgeproxy(&["sixpn", "init"]).stdout);
    for part in ["backhaul:", "number: 1", "edgeproxy sixpn key"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn sixpn_show_tells_what_is_where() {
    let shown = json(&["sixpn", "show", &example()]);
    assert_eq!(shown["pop"]["node"], "fd5a:1c7e:92b4:3010::1");
    assert_eq!(shown["pop"]["resolver"], "fd5a:1c7e:92b4:3010::53");
    assert_eq!(shown["pop"]["machines"], "fd5a:1c7e:92b4:3011::/64");
    assert_eq!(shown["peers"][0]["subnet"], "fd5a:1c7e:92b4:1020::/60");
    let said = words(&edgeproxy(&["sixpn", "show", &example()]).stdout);
    for part in ["gru1, sa number 1", "fd5a:1c7e:92b4:3010::/60", "fra1  eu", "node fd5a:1c7e:92b4:2030::1"] {
        assert!(said.contains(part), "{said}");
    }
    let minimal = example().replace("edgeproxy.yaml", "minimal.yaml");
    let output = edgeproxy(&["sixpn", "show", &minimal]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output.stderr).contains("edgeproxy sixpn init"));
    assert_eq!(edgeproxy(&["sixpn", "show", "/nonexistent"]).status.code(), Some(64));
    assert_eq!(
        edgeproxy(&["sixpn", "show", "--fleet", "fd5a:1c7e:92b4::/48", &minimal]).status.code(),
        Some(2)
    );
}

#[test]
fn sixpn_explain_says_whose_an_address_is() {
    let address = "fd5a:1c7e:92b4:1020::53";
    let known = json(&["sixpn", "explain", address, &example()]);
    for (key, value) in
        [("pop", "fra1"), ("region", "eu"), ("kind", "infrastructure"), ("id", "0x53"), ("role", "resolver")]
    {
        assert_eq!(known[key], value, "{known}");
    }
    assert_eq!((&known["number"], &known["region_code"]), (&2.into(), &1.into()));
    let unknown = json(&["sixpn", "explain", address]);
    assert_eq!(
        (&unknown["pop"], &unknown["fleet"]),
        (&serde_json::Value::Null, &"fd5a:1c7e:92b4::/48".into())
    );
    let said = words(&edgeproxy(&["sixpn", "explain", "fd5a:1c7e:92b4:7ff2::a", &example()]).stdout);
    for part in ["code 7", "number 255: none that the configuration knows", "services", "0xa"] {
        assert!(said.contains(part), "{said}");
    }
    let other = ["fd5a:1c7e:92b5:1020::1", "--fleet", "fd5a:1c7e:92b4::/48"];
    for (arguments, remedy) in [
        (&["fra1"][..], "is no IPv6 address"),
        (&["fd5a:1c7e:92b4::/48"], "without brackets, port or length"),
        (&["10.0.0.1"], "is no IPv6 address"),
        (&["2001:db8::1"], "a ULA is inside fd00::/8"),
        (&["fe80::1"], "edgeproxy sixpn init"),
        (&["fd00::1"], "was not made at random"),
        (&["fd5a:1c7e:92b4:102f::1"], "the kinds in use: 0 infrastructure"),
        (&other, "another fleet"),
        (&["fd5a:1c7e:92b5:1020::1", &example()], "another fleet"),
        (&["fd5a:1c7e:92b4::1", "--fleet", "edge"], "`edge` is no IPv6 prefix"),
    ] {
        let output = edgeproxy(&[&["sixpn", "explain"], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = words(&output.stderr);
        assert!(said.contains(remedy) && said.contains("hint: "), "{arguments:?}: {said}");
    }
}

#[test]
fn sixpn_key_makes_a_key_once_and_prints_its_public_half() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backhaul.key");
    let path = file.to_str().unwrap();
    let public = json(&["sixpn", "key", path])["public_key"].as_str().unwrap().to_owned();
    let private = std::fs::read_to_string(&file).unwrap();
    assert!(public.len() == 44 && private.trim_end() != public);
    assert_eq!(words(&edgeproxy(&["sixpn", "key", path]).stdout), format!("{public}\n"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), private);
    // RFC 7748 §6.1, Alice's.
    std::fs::write(&file, "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n").unwrap();
    assert_eq!(json(&["sixpn", "key", path])["public_key"], "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    std::fs::write(&file, "hunter2hunter2\n").unwrap();
    let output = edgeproxy(&["sixpn", "key", path]);
    let said = words(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("holds no private key"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}
