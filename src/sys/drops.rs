//! What the kernel dropped before any socket saw it: the trace of wrong keys and of low TTLs.
#![expect(clippy::disallowed_methods, reason = "driver: reads the kernel's counters from /proc")]

use std::io;

/// Segments dropped since boot in this network namespace, over all sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drops {
    /// Signed with another key.
    pub md5_wrong: u64,
    /// Not signed, though a key is set.
    pub md5_missing: u64,
    /// Signed, though no key is set.
    pub md5_unexpected: u64,
    /// Under the socket's least TTL.
    pub low_ttl: u64,
}

impl Drops {
    /// Reads the counters.
    ///
    /// # Errors
    /// Without a mounted /proc.
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string("/proc/self/net/netstat")?))
    }

    /// The file has pairs of lines: names, then their values in the same order.
    fn parse(text: &str) -> Self {
        let mut drops = Self::default();
        let lines: Vec<_> = text.lines().collect();
        for pair in lines.chunks_exact(2) {
            for (name, value) in pair[0].split_whitespace().zip(pair[1].split_whitespace()) {
                let place = match name {
                    "TCPMD5Failure" => &mut drops.md5_wrong,
                    "TCPMD5NotFound" => &mut drops.md5_missing,
                    "TCPMD5Unexpected" => &mut drops.md5_unexpected,
                    "TCPMinTTLDrop" => &mut drops.low_ttl,
                    _ => continue,
                };
                *place = value.parse().unwrap_or(0);
            }
        }
        drops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let text = "TcpExt: A TCPMD5Failure TCPMinTTLDrop\nTcpExt: 1 2 3\nIpExt: B\nIpExt: 9\n";
        assert_eq!(Drops::parse(text), Drops { md5_wrong: 2, low_ttl: 3, ..Drops::default() });
        assert_eq!(Drops::parse("odd\n"), Drops::default());
    }
}
