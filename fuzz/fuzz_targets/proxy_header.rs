//! Octets as the decoder of PROXY headers gets them from whoever may send one.
#![no_main]

#[path = "../properties/proxy_header.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| properties::hold(octets));
