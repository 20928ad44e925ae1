//! What `edgeproxy check` says of a configuration that is good: what it is, and what to look at all the same.
#![expect(clippy::disallowed_methods, reason = "driver: compares the ends of certificates with the clock")]

use std::path::Path;
use std::time::SystemTime;

use edgeproxy::admin::screen;
use edgeproxy::config::load::load;
use edgeproxy::proxy::tls::expiry::certificates;
use serde_json::json;

use super::{Failure, line};

/// Judges a file.
pub(super) fn check(file: &Path, json: bool) -> Result<String, Failure> {
    let config = load(file)?;
    let now = SystemTime::now();
    let certificates: Vec<_> = certificates(&config).iter().map(|it| it.status(now)).collect();
    let warnings: Vec<_> = screen::troubles(&certificates).collect();
    if json {
        let document = json!({ "valid": true, "generation": config.generation, "warnings": warnings });
        return Ok(line(&document));
    }
    let mut text = format!(
        "{}: good, generation {} ({} neighbors, {} prefixes, {} services)\n",
        file.display(),
        config.generation,
        config.bgp.neighbors.len(),
        config.anycast.len(),
        config.services.len()
    );
    text.extend(warnings.iter().map(|warning| format!("warning: {warning}\n")));
    Ok(text)
}
