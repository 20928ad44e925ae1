//! Replays the corpus of every fuzz target through the properties that the target checks, without a fuzzer.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../fuzz/properties/client_hello.rs"]
mod client_hello;
#[path = "../fuzz/properties/proxy_header.rs"]
mod proxy_header;
#[path = "../fuzz/properties/replication_answer.rs"]
mod replication_answer;
#[path = "../fuzz/properties/replication_block.rs"]
mod replication_block;
#[path = "../fuzz/properties/replication_head.rs"]
mod replication_head;
#[path = "../fuzz/properties/replication_known.rs"]
mod replication_known;
#[path = "../fuzz/properties/replication_request.rs"]
mod replication_request;

#[path = "fuzz_corpus/replication.rs"]
mod replication;

use std::fs;
use std::path::{Path, PathBuf};

use edgeproxy::proxy::header::{self, Decoded};
use edgeproxy::proxy::tls::hello::{Hello, HelloError};
use edgeproxy::replication::frame::{Answer, Request, read_known, unpack};
use edgeproxy::replication::head::Signed;
use edgeproxy::replication::octets::Reader;

/// What holds for one input.
type Holds = fn(&[u8]);

/// Every target, by its name.
const TARGETS: [(&str, Holds); 7] = [
    ("client_hello", client_hello::hold),
    ("proxy_header", proxy_header::hold),
    ("replication_answer", replication_answer::hold),
    ("replication_block", replication_block::hold),
    ("replication_head", replication_head::hold),
    ("replication_known", replication_known::hold),
    ("replication_request", replication_request::hold),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The files of a corpus with their names, in their order.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(root().join("corpus").join(target))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    assert!(files.len() >= 20, "the corpus of {target} was not found");
    files
}

#[test]
fn what_was_found_once_stays_mended() {
    for (target, hold) in TARGETS {
        for (name, octets) in corpus(target) {
            println!("{target}/{name}");
            // Whatever it begins like, and with an octet flipped here and there.
            (0..=octets.len()).for_each(|cut| hold(&octets[..cut]));
            for at in 0..octets.len() {
                let mut flipped = octets.clone();
                for bit in [1, 0x80] {
                    flipped[at] ^= bit;
                    hold(&flipped);
                }
            }
        }
    }
}

#[test]
fn every_target_has_a_corpus_and_is_replayed() {
    let mut targets: Vec<_> = fs::read_dir(root().join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    targets.sort();
    assert_eq!(targets, TARGETS.map(|(name, _)| name));
}

/// The names of the files say what is in them.
#[test]
fn the_corpus_is_what_its_names_say() {
    for (name, octets) in corpus("proxy_header") {
        let decoded = header::decode(&octets);
        let wrong =
            ["garbage", "bare", "too-long", "two-", "octal", "mixed", "wrong", "contradict", "shorter"];
        let wrong = wrong.iter().chain(&["65535", "version-3", "family-unknown"]);
        if name.contains("truncated") {
            assert_eq!(decoded, Decoded::NeedMore, "{name}");
        } else if wrong.into_iter().any(|word| name.contains(word)) {
            assert!(matches!(decoded, Decoded::Refused(_)), "{name}: {decoded:?}");
        } else {
            assert!(matches!(decoded, Decoded::Header(_)), "{name}: {decoded:?}");
        }
    }
    for (name, octets) in corpus("client_hello") {
        match Hello::read(&octets) {
            // RFC 1035 §2.3.4: 255 octets on the wire are 253 in text.
            read if name.contains("255-octets") => assert_eq!(read, Err(HelloError::Name), "{name}"),
            Ok(Some(hello)) if name.starts_with("openssl") || name.starts_with("rustls") => {
                assert_eq!(hello.server_name.is_none(), name.contains("no-name"), "{name}");
                assert_eq!((hello.alpn().count() == 0), !name.contains("alpn"), "{name}");
                assert_eq!(hello.is_acme(), name.contains("acme"), "{name}");
            }
            Ok(None) => assert!(name.contains("truncated"), "{name}"),
            parsed => {
                assert!(!name.starts_with("openssl") && !name.starts_with("rustls"), "{name}: {parsed:?}");
            }
        }
    }
}

/// What the readers of replication make of an input.
fn is_read(target: &str, octets: &[u8]) -> bool {
    match target {
        "replication_answer" => Answer::read(octets).is_ok(),
        "replication_block" => unpack(octets, |_| ()).is_ok(),
        "replication_head" => Signed::read(&mut Reader::new(octets)).is_ok(),
        "replication_known" => read_known(octets).is_ok(),
        "replication_request" => Request::read(octets).is_ok(),
        _ => panic!("{target}"),
    }
}

/// POPs of different versions speak to each other: what this one writes is what the files have, octet by octet.
#[test]
fn the_corpus_of_replication_is_what_its_names_say() {
    for (target, inputs) in replication::inputs() {
        for (name, octets) in &inputs {
            assert_eq!(is_read(target, octets), !name.starts_with("refused-"), "{target}/{name}");
            let file = fs::read(root().join("corpus").join(target).join(name));
            let file = file.unwrap_or_else(|error| panic!("{target}/{name}: {error}; {REWRITE}"));
            // Another version of LZ4 may pack differently; what it unpacks is what counts.
            let same = *octets == file || (target == "replication_block" && is_read(target, &file));
            assert!(same, "{target}/{name} is not what is said now; if that was meant: {REWRITE}");
        }
        for (name, octets) in corpus(target) {
            assert_eq!(is_read(target, &octets), !name.starts_with("refused-"), "{target}/{name}");
        }
    }
}

const REWRITE: &str = "cargo test --test fuzz_corpus write_the_corpus -- --ignored";

#[test]
#[ignore = "writes the files that the others read"]
fn write_the_corpus_of_replication() {
    for (target, inputs) in replication::inputs() {
        let folder = root().join("corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        for (name, octets) in inputs {
            fs::write(folder.join(name), octets).unwrap();
        }
    }
}
