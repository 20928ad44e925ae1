//! What a backend is told of the client before a flow's first datagram: a PROXY header of version 2.

use std::net::SocketAddr;

use crate::proxy::header::v2::{self, Extras, Transport};

/// The header for a client at a door: the addresses and nothing else, which leaves most room for the datagram.
pub(super) fn header(client: SocketAddr, door: SocketAddr) -> Vec<u8> {
    let mut header = Vec::new();
    v2::encode(Transport::Udp, client, door, &Extras::default(), &mut header);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families() {
        let four = header("192.0.2.1:258".parse().unwrap(), "198.51.100.1:53".parse().unwrap());
        assert_eq!(four[..12], [0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
        assert_eq!(four[12..], [0x21, 0x12, 0, 12, 192, 0, 2, 1, 198, 51, 100, 1, 1, 2, 0, 53]);
        let six = header("[2001:db8::1]:258".parse().unwrap(), "[2001:db8::2]:53".parse().unwrap());
        assert_eq!((six.len(), &six[12..16]), (52, &[0x21, 0x22, 0, 36][..]));
        assert_eq!((six[31], six[47], &six[48..]), (1, 2, &[1, 2, 0, 53][..]));
    }
}
