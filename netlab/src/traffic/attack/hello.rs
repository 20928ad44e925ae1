//! ClientHellos by hand, right and wrong (RFC 8446 §4.1.2, RFC 6066 §3).

/// A whole ClientHello for a server name, in as many records as it needs.
pub(super) fn with_name(name: &str) -> Vec<u8> {
    let length = |bytes: &[u8]| (bytes.len() as u16).to_be_bytes();
    let mut entry = vec![0];
    entry.extend(length(name.as_bytes()));
    entry.extend(name.as_bytes());
    let mut list = length(&entry).to_vec();
    list.extend(entry);
    let mut extensions = Vec::new();
    // server_name, supported_versions (1.3), supported_groups (x25519), signature_algorithms (ECDSA P-256).
    let others: [(u16, &[u8]); 3] = [(43, &[2, 3, 4]), (10, &[0, 2, 0, 29]), (13, &[0, 2, 4, 3])];
    for (kind, body) in [(0, list.as_slice())].into_iter().chain(others) {
        extensions.extend(u16::to_be_bytes(kind));
        extensions.extend(length(body));
        extensions.extend(body);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    // TLS_AES_128_GCM_SHA256, and no compression.
    body.extend([0, 2, 0x13, 1, 1, 0]);
    body.extend(length(&extensions));
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend(length(&body));
    message.extend(body);
    let mut records = Vec::new();
    for piece in message.chunks(16_000) {
        records.extend([22, 3, 1]);
        records.extend(length(piece));
        records.extend(piece);
    }
    records
}

/// Octets of which the first may look like TLS.
pub(super) fn garbage(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    let mut octets: Vec<u8> = (0..64 + usize::from(random()) * 8).map(|_| random()).collect();
    match seed % 4 {
        // Nothing like it.
        0 => octets[0] |= 0x80,
        // A record that is longer than records may be.
        1 => octets[..5].copy_from_slice(&[22, 3, 1, 0xff, 0xff]),
        // A handshake message that is no ClientHello, or a very long one.
        2 => octets[..9].copy_from_slice(&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff]),
        // A right beginning, and then noise.
        _ => {
            let mut hello = with_name("www.example.net");
            let at = 6 + usize::from(random()) % (hello.len() - 6);
            for octet in &mut hello[at..] {
                *octet = random();
            }
            octets = hello;
        }
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_by_hand_is_one() {
        let hello = with_name("www.example.net");
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut hello.as_slice()).unwrap();
        let accepted = acceptor.accept().unwrap().expect("it is whole");
        assert_eq!(accepted.client_hello().server_name(), Some("www.example.net"));
    }

    #[test]
    fn garbage_is_refused() {
        for seed in 0..200 {
            let octets = garbage(seed);
            let mut acceptor = rustls::server::Acceptor::default();
            let read = acceptor.read_tls(&mut octets.as_slice());
            // The octets of a hello that do not matter may be anything.
            assert!(seed % 4 == 3 || read.is_err() || !matches!(acceptor.accept(), Ok(Some(_))), "{seed}");
        }
    }
}
