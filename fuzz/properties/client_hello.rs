//! What holds for the reader of ClientHellos, whatever it is given.

use edgeproxy::proxy::tls::hello::{Hello, MOST_HELLO};

/// # Panics
/// When it does not hold.
pub fn hold(octets: &[u8]) {
    match Hello::read(octets) {
        Ok(Some(hello)) => {
            let more = [octets, b"and more"].concat();
            assert_eq!(Hello::read(&more), Ok(Some(hello.clone())), "what follows changes nothing");
            if let Some(name) = &hello.server_name {
                assert!((1..=255).contains(&name.len()));
                assert_eq!(*name, name.to_ascii_lowercase());
            }
            assert!(hello.alpn().all(|protocol| protocol.len() <= 255));
        }
        Ok(None) => {
            assert!(octets.len() <= MOST_HELLO, "waits for more than it may take");
            let half = Hello::read(&octets[..octets.len() / 2]);
            assert_eq!(half, Ok(None), "the first half of a beginning is a beginning");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
