//! What holds for the decoder of PROXY headers, whatever it is given.

use edgeproxy::proxy::header::v2::{Extras, Transport};
use edgeproxy::proxy::header::{Decoded, Header, MOST, decode, v1, v2};

/// # Panics
/// When it does not hold.
pub fn hold(octets: &[u8]) {
    let header = match decode(octets) {
        Decoded::Header(header) => header,
        Decoded::NeedMore => {
            assert!(octets.len() < MOST, "waits for more than it may take");
            return;
        }
        // What is wrong stays wrong: nothing that follows changes that.
        Decoded::Refused(why) => {
            assert!(!why.is_empty());
            assert!(matches!(decode(&[octets, b"\r\n"].concat()), Decoded::Refused(_)));
            return;
        }
    };
    let Header { source, destination, consumed, .. } = header;
    assert!((1..=octets.len().min(MOST)).contains(&consumed));
    assert_eq!(decode(&octets[..consumed]), Decoded::Header(header.clone()), "what follows is the client's");
    for cut in [0, consumed / 2, consumed - 1] {
        assert_eq!(decode(&octets[..cut]), Decoded::NeedMore, "cut at {cut}");
    }
    assert_eq!(source.is_some(), destination.is_some());
    // What it says can be said again, in both versions.
    if let (Some(source), Some(destination)) = (source, destination) {
        let mut said = [Vec::new(), Vec::new()];
        v1::encode(source, destination, &mut said[0]);
        let extras = Extras {
            alpn: header.alpn.as_deref(),
            authority: header.authority.as_deref(),
            checksum: true,
            ..Extras::default()
        };
        v2::encode(Transport::Tcp, source, destination, &extras, &mut said[1]);
        for said in said {
            match decode(&said) {
                Decoded::Header(again) => {
                    assert_eq!((again.source, again.destination), (Some(source), Some(destination)));
                    assert_eq!(again.consumed, said.len());
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
