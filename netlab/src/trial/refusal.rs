//! What a client is told when nobody is there to serve it.

use std::io;

use super::{Path, expect_reset};

/// Nobody listens where the only backend should be: the client is reset, and soon.
pub(super) fn refused(path: &Path) -> io::Result<()> {
    for _ in 0..5 {
        let client = match path.dial() {
            Ok(client) => client,
            // Its RST may come before we have looked.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
            Err(error) => return Err(error),
        };
        expect_reset(&client)?;
    }
    Ok(())
}
