//! The one set of cryptography of the process.

use std::sync::{Arc, OnceLock};

use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::{CryptoProvider, ring};

/// Ciphers and signatures of ring, key exchange of aws-lc-rs: each is the faster one at its part. The hybrid with
/// ML-KEM comes first, so that what is recorded today stays closed to tomorrow's machines.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || {
        Arc::new(CryptoProvider {
            kx_groups: vec![
                kx_group::X25519MLKEM768,
                kx_group::X25519,
                kx_group::SECP256R1,
                kx_group::SECP384R1,
            ],
            ..ring::default_provider()
        })
    };
    Arc::clone(PROVIDER.get_or_init(make))
}
