//! Octets as the reader of requests gets them from another POP.
#![no_main]

#[path = "../properties/replication_request.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| properties::hold(octets));
