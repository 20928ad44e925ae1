//! tokio's `copy_bidirectional`, which everybody writes first: a mode of netlab's own binary.

use std::ffi::OsString;

use super::{Found, Setting};
use crate::binary;

pub(super) fn find() -> Result<Found, String> {
    let program = binary::netlab().map_err(|error| error.to_string())?;
    Ok(Found { program, version: format!("netlab {}", env!("CARGO_PKG_VERSION")) })
}

/// As `crate::copy_bidirectional` reads them.
pub(super) fn arguments(setting: &Setting) -> Vec<OsString> {
    let Setting { plain, tls, backend, certificate, .. } = setting;
    let words = ["copy-bidirectional".into(), plain.to_string(), backend.to_string(), tls.to_string()];
    let mut arguments: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    arguments.extend([certificate.chain.clone().into(), certificate.key.clone().into()]);
    arguments
}
