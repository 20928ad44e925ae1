//! Whatever is in the file: an answer in bounded time and space, never a panic.

use std::path::Path;
use std::time::{Duration, Instant};

use edgeproxy::config::backhaul::key_text;
use edgeproxy::config::load::{LoadError, load, parse};
use edgeproxy::config::problem::{MOST, Problems};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../../config/edgeproxy.yaml");
const MINIMAL: &str = include_str!("../../config/minimal.yaml");

/// What means something to YAML.
const PIECES: &[&str] = &[
    "-", ": ", "\n", "\n  ", "{", "}", "[", "]", "\"", "'", "&a ", "*a", "!!str ", "|", ">", "#", "%", "\0",
    "? ", "---\n",
];

/// Parses; what is refused must have a place in the text and stand in order.
fn judge(text: &str) -> Option<Problems> {
    let problems = parse(text, Path::new("/nonexistent")).err()?;
    assert!(!problems.is_empty(), "refused without a reason");
    let lines = text.split(['\n', '\r']).count();
    let mut last = (0, 0);
    for problem in problems.list() {
        assert!((1..=lines + 1).contains(&problem.line) && problem.column >= 1, "{problem}\n{text}");
        assert!(last <= (problem.line, problem.column), "{problems}");
        last = (problem.line, problem.column);
        assert!(problem.message.len() < 4096, "{problem}");
    }
    Some(problems)
}

/// The example with one piece replaced by something else, from anywhere or from itself.
fn mutated() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just(String::new()),
        "[\\PC\\n\\t ]{0,12}",
        prop::sample::select(PIECES).prop_map(str::to_owned),
        (0..EXAMPLE.len(), 0..80_usize).prop_map(|(at, length)| EXAMPLE
            .chars()
            .skip(at)
            .take(length)
            .collect()),
    ];
    let change = (any::<prop::sample::Index>(), 0..40_usize, pieces);
    (prop::sample::select(vec![EXAMPLE, MINIMAL]), prop::collection::vec(change, 1..6)).prop_map(
        |(text, changes)| {
            let mut letters: Vec<char> = text.chars().collect();
            for (at, length, piece) in changes {
                let at = at.index(letters.len() + 1);
                let end = (at + length).min(letters.len());
                letters.splice(at..end, piece.chars());
            }
            letters.into_iter().collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn any_text_is_judged(text in any::<String>()) {
        judge(&text);
    }

    #[test]
    fn any_text_of_yaml_letters_is_judged(text in "[-a:{}\\[\\],&*!|>'\"%@#? \\n\\t~0.]{0,120}") {
        judge(&text);
    }

    #[test]
    fn any_mutation_of_an_example_is_judged(text in mutated()) {
        judge(&text);
    }
}

#[test]
fn an_octet_that_is_not_utf8_has_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pop.yaml");
    std::fs::write(&file, b"generation: 7\npop: { id: \"\xc3\xa9\xff\" }\n").unwrap();
    let Err(LoadError::Invalid(problems)) = load(&file) else { panic!("refused") };
    let [problem] = problems.list() else { panic!("{problems}") };
    assert_eq!((problem.line, problem.column), (2, 14));
    assert_eq!(problem.message, "not UTF-8: octet 0xff");
    assert!(problems.to_string().starts_with(&format!("{}:2:14: ", file.display())));
}

#[test]
fn an_empty_file_and_no_file_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pop.yaml");
    std::fs::write(&file, "").unwrap();
    assert!(load(&file).unwrap_err().to_string().contains("the file is empty"));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(load(&file), Err(LoadError::Unreadable { .. })));
    assert!(matches!(load(directory.path()), Err(LoadError::Unreadable { .. })));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_taken() {
    assert!(judge(&format!("\u{feff}{MINIMAL}")).is_none());
    assert!(judge(&MINIMAL.replace('\n', "\r\n")).is_none());
}

#[test]
fn a_file_over_a_mebibyte_is_refused_unread() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pop.yaml");
    for filling in ["#", "é"] {
        std::fs::write(&file, filling.repeat((1 << 20) + 1)).unwrap();
        assert!(load(&file).unwrap_err().to_string().contains("larger than 1 MiB"));
    }
    assert!(judge(&format!("{MINIMAL}#{}", "x".repeat((1 << 20) - MINIMAL.len() - 1))).is_none());
}

#[test]
fn a_large_file_takes_bounded_time_and_problems() {
    let keys: String = (0..60_000).map(|key| format!("key{key}: 1\n")).collect();
    let texts = [
        ("keys", keys),
        ("brackets", "[".repeat(1 << 20)),
        ("braces", "{".repeat(1 << 20)),
        ("dashes", "- ".repeat(1 << 19)),
        ("lists", format!("x: [{}]", "[],".repeat(340_000))),
        ("questions", "? ".repeat(1 << 19)),
        ("colons", ": ".repeat(1 << 19)),
        ("lines", "\n".repeat(1 << 20)),
        ("one word", "x".repeat(1 << 20)),
        ("one quoted word", format!("\"{}\": 1", "x".repeat((1 << 20) - 10))),
        ("anchors", "&a ".repeat(340_000)),
        ("a long value", format!("pop: {{ id: {} }}", "x".repeat((1 << 20) - 20))),
        ("aliases", format!("a: &a 1\nb: [{}]", "*a,".repeat(300_000))),
        ("neighbors", format!("bgp: {{ neighbors: [{}] }}", "{},".repeat(340_000))),
        ("listeners", format!("services: [{{ listen: [{}] }}]", "{},".repeat(60))),
        (
            "names",
            format!("services: [{{ listen: [{{ tls: {{ names: [{}] }} }}] }}]", "*.a.b,".repeat(150_000)),
        ),
        ("ports", many_ports()),
        ("backends", format!("services: [{{ backends: [{}] }}]", "{},".repeat(4_000))),
        ("peers", format!("backhaul: {{ peers: [{}] }}", "{},".repeat(1_024))),
    ];
    for (name, text) in texts {
        let began = Instant::now();
        let problems = judge(&text).expect("refused");
        assert!(problems.list().len() <= MOST);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(20), "{name}: {took:?}");
        println!("{name}: {took:?}, {} problems", problems.count());
    }
}

/// Listeners with as many names as may be on as many ports as may be, all of them at odds with each other.
fn many_ports() -> String {
    let names: Vec<String> = (0..256).map(|n| format!("a{n}.example.net")).collect();
    let listener = |n: usize| {
        let names = names.join(", ");
        format!("      - {{ address: 10.0.1.1, ports: {}-{}, passthrough: [{names}] }}\n", n + 1, n + 1024)
    };
    let listeners: String = (0..64).map(listener).collect();
    format!("{MINIMAL}    listen:\n{listeners}")
}

/// A line of the minimal configuration, one more entry to put after it, how many there may be, and of what.
type Case<'c> = (&'c str, &'c dyn Fn(usize) -> String, usize, &'c str);

#[test]
fn every_list_has_its_bound() {
    let neighbor = |n: usize| {
        format!("    - {{ name: n{n}, address: 127.0.{}.{}, asn: 64500 }}\n", n / 200, n % 200 + 1)
    };
    let prefix = |n: usize| format!("  - {{ prefix: 10.{}.{}.0/24, services: [web] }}\n", n / 256, n % 256);
    let backend = |n: usize| format!("      - {{ id: b{n}, address: 10.0.0.1, port: 80 }}\n");
    let service = |n: usize| {
        let backends: Vec<_> =
            (0..16).map(|b| format!("{{ id: b{b}, address: 10.0.0.1, port: 80 }}")).collect();
        format!("  - {{ name: s{n}, backends: [{}] }}\n", backends.join(", "))
    };
    // The minimal configuration has one of each already.
    let listener = |n: usize| {
        let first = if n == 0 { "    listen:\n" } else { "" };
        format!("{first}      - {{ address: 10.0.1.{n}, tls: {{ self_signed: true }} }}\n")
    };
    let peer = |n: usize| {
        let head = "backhaul:\n  fleet: fd5a:1c7e:92b4::/48\n  number: 255\n  peers:\n";
        let (head, number) = (if n == 0 { head } else { "" }, n % 255);
        let region = ["eu", "us", "sa", "ap", "me, region_code: 5"][n / 255];
        let mut key = [0xff; 32];
        key[..2].copy_from_slice(&(n as u16).to_be_bytes());
        let key = key_text(&key);
        format!("{head}    - {{ pop: p{n}, region: {region}, number: {number}, public_key: \"{key}\" }}\n")
    };
    let cases: [Case<'_>; 6] = [
        ("      asn: 64500\n", &neighbor, 256, "bgp.neighbors"),
        ("    services: [web]\n", &prefix, 1024, "anycast"),
        ("        port: 8080\n", &backend, 4096, "services[0].backends"),
        ("        port: 8080\n", &listener, 64, "services[0].listen"),
        ("        port: 8080\n", &service, 16384 / 16, "services"),
        ("        port: 8080\n", &peer, 1024, "backhaul.peers"),
    ];
    for (after, one, most, path) in cases {
        // None of these is in the minimal configuration.
        let there = usize::from(!["services[0].listen", "backhaul.peers"].contains(&path));
        let with = |count: usize| {
            let more: String = (0..count).map(one).collect();
            judge(&MINIMAL.replacen(after, &format!("{after}{more}"), 1))
        };
        assert!(with(most - there).is_none(), "{path}");
        let problems = with(most + 1 - there).expect("one too many");
        assert_eq!(problems.list()[0].path, path);
        assert!(problems.list()[0].message.contains("at most"), "{problems}");
    }
}
