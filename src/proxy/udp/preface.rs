//! What a backend is told of the client before a flow's first datagram: a PROXY header of version 2.

use std::net::SocketAddr;

/// What every header begins with (PROXY protocol, section 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, on behalf of a client.
const PROXY: u8 = 0x21;
const UDP_OVER_IPV4: u8 = 0x12;
const UDP_OVER_IPV6: u8 = 0x22;

/// The header for a client at a door. Both are of one family, since each door is.
pub(super) fn header(client: SocketAddr, door: SocketAddr) -> Vec<u8> {
    let mut addresses = Vec::with_capacity(36);
    let family = match (client, door) {
        (SocketAddr::V4(client), SocketAddr::V4(door)) => {
            addresses.extend(client.ip().octets());
            addresses.extend(door.ip().octets());
            UDP_OVER_IPV4
        }
        _ => {
            for address in [client, door] {
                addresses.extend(match address {
                    SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped().octets(),
                    SocketAddr::V6(v6) => v6.ip().octets(),
                });
            }
            UDP_OVER_IPV6
        }
    };
    addresses.extend(client.port().to_be_bytes());
    addresses.extend(door.port().to_be_bytes());
    let mut header = Vec::with_capacity(16 + addresses.len());
    header.extend(SIGNATURE);
    header.extend([PROXY, family]);
    header.extend((addresses.len() as u16).to_be_bytes());
    header.extend(addresses);
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
