//! How fast sessions are, for whoever asks: `cargo test --release --lib tls::session::speed -- --ignored --nocapture`.
