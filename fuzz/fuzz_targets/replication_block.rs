//! Octets as the reader of packed rows gets them from another POP.
#![no_main]

#[path = "../properties/replication_block.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| properties::hold(octets));
