//! Octets as the reader of signed heads gets them from another POP, through whoever passed them on.
#![no_main]

#[path = "../properties/replication_head.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| properties::hold(octets));
