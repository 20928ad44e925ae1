//! Replays the corpus of every fuzz target through the properties that the target checks, without a fuzzer.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../fuzz/properties/client_hello.rs"]
mod client_hello;
#[path = "../fuzz/properties/proxy_header.rs"]
mod proxy_header;

use std::fs;
use std::path::{Path, PathBuf};

use edgeproxy::proxy::header::{self, Decoded};
use edgeproxy::proxy::tls::hello::Hello;

/// Every target, by its name.
const TARGETS: [(&str, fn(&[u8])); 2] =
    [("client_hello", client_hello::hold), ("proxy_header", proxy_header::hold)];

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
            Ok(Some(hello)) if name.starts_with("openssl") || name.starts_with("rustls") => {
                assert_eq!(hello.server_name.is_none(), name.contains("no-name"), "{name}");
                assert_eq!((hello.alpn().count() == 0), !name.contains("alpn"), "{name}");
                assert_eq!(hello.is_acme(), name.contains("acme"), "{name}");
            }
            Ok(None) => assert!(name.contains("truncated"), "{name}"),
            parsed => {
                assert!(!name.starts_with("openssl") && !name.starts_with("rustls"), "{name}: {parsed:?}")
            }
        }
    }
}
