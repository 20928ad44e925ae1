//! Links between hosts: veth pairs with addresses.

use std::io;
use std::os::fd::AsRawFd;

use crate::namespace::Namespace;

/// One end of a link.
#[derive(Debug, Clone)]
pub struct End<'a> {
    pub host: &'a Namespace,
    /// Interface name, at most 15 octets.
    pub interface: &'a str,
    /// With their prefix lengths.
    pub addresses: &'a [String],
}

/// Makes a link and brings both ends up.
///
/// # Errors
/// With what `ip` said.
pub fn connect(a: &End<'_>, b: &End<'_>) -> io::Result<()> {
    // The far end is named by descriptor: namespaces of the lab have no names in the system.
    let far = format!("/proc/{}/fd/{}", std::process::id(), b.host.descriptor().as_raw_fd());
    a.host.ip(&[
        "link",
        "add",
        "name",
        a.interface,
        "type",
        "veth",
        "peer",
        "name",
        b.interface,
        "netns",
        &far,
    ])?;
    for end in [a, b] {
        for address in end.addresses {
            let mut arguments = vec!["addr", "add", address, "dev", end.interface];
            if address.contains(':') {
                arguments.push("nodad");
            }
            end.host.ip(&arguments)?;
        }
        end.host.ip(&["link", "set", end.interface, "up"])?;
    }
    Ok(())
}
