//! Octets as the reader of answers to a comparison gets them from another POP.
#![no_main]

#[path = "../properties/replication_known.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| properties::hold(octets));
