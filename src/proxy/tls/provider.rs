//! The one set of cryptography of the process.

use std::sync::{Arc, OnceLock};

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::ring::cipher_suite as suite;
use rustls::crypto::{CryptoProvider, ring};

/// What a server prefers of the ciphers that a client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// For clients with hardware for AES.
    Aes,
    /// For clients that put ChaCha20-Poly1305 first: they have none.
    Chacha,
}

/// 128 bits are enough, and a fifth faster.
static AES: [SupportedCipherSuite; 6] = [
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];
static CHACHA: [SupportedCipherSuite; 3] = [
    suite::TLS13_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Ciphers and signatures of ring, key exchange of aws-lc-rs: each is the faster one at its part. The hybrid with
/// ML-KEM comes first, so that what is recorded today stays closed to tomorrow's machines.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    preferring(Preference::Aes)
}

/// The same with the ciphers in this order.
#[must_use]
pub fn preferring(preference: Preference) -> Arc<CryptoProvider> {
    static PROVIDERS: [OnceLock<Arc<CryptoProvider>>; 2] = [const { OnceLock::new() }; 2];
    let make = || {
        Arc::new(CryptoProvider {
            cipher_suites: match preference {
                Preference::Aes => [&AES[..], &CHACHA].concat(),
                Preference::Chacha => [&CHACHA[..], &AES].concat(),
            },
            kx_groups: vec![
                kx_group::X25519MLKEM768,
                kx_group::X25519,
                kx_group::SECP256R1,
                kx_group::SECP384R1,
            ],
            ..ring::default_provider()
        })
    };
    Arc::clone(PROVIDERS[preference as usize].get_or_init(make))
}

/// Makes it that of the process. The first thing that `main` does: with two libraries linked and none chosen, rustls
/// panics wherever it is not told which.
pub fn install() {
    // Whoever was first has installed the same.
    let _ = CryptoProvider::clone(&provider()).install_default();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_has_all_ciphers_of_ring_and_can_be_installed_twice() {
        let names = |suites: &[SupportedCipherSuite]| -> BTreeSet<String> {
            suites.iter().map(|suite| format!("{:?}", suite.suite())).collect()
        };
        for preference in [Preference::Aes, Preference::Chacha] {
            assert_eq!(
                names(&preferring(preference).cipher_suites),
                names(&ring::default_provider().cipher_suites)
            );
        }
        assert_ne!(
            preferring(Preference::Aes).cipher_suites[0],
            preferring(Preference::Chacha).cipher_suites[0]
        );
        install();
        install();
        let installed = CryptoProvider::get_default().expect("it has just been installed");
        assert_eq!(installed.kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
    }
}
