//! What holds for the reader of ClientHellos, whatever it is given.

use edgeproxy::proxy::tls::hello::{MOST, Parsed, parse};

/// # Panics
/// When it does not hold.
pub fn hold(octets: &[u8]) {
    match parse(octets) {
        Parsed::Hello(hello) => {
            let more = [octets, b"and more"].concat();
            assert_eq!(parse(&more), Parsed::Hello(hello.clone()), "what follows changes nothing");
            if let Some(name) = hello.server_name {
                assert!((1..=255).contains(&name.len()));
                assert_eq!(name, name.to_ascii_lowercase());
            }
            assert!(hello.alpn.iter().all(|protocol| protocol.len() <= 255));
        }
        Parsed::More => {
            assert!(octets.len() < MOST, "waits for more than it may take");
            let half = parse(&octets[..octets.len() / 2]);
            assert_eq!(half, Parsed::More, "the first half of a beginning is a beginning");
        }
        Parsed::Refused(why) => assert!(!why.is_empty()),
    }
}
