//! Octets as the reader of ClientHellos gets them from any client.
#![no_main]

#[path = "../properties/client_hello.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| properties::hold(octets));
