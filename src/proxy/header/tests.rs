//! Headers as others write them, as we write them, and as nobody should.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use super::v2::{ClientCertificate, Extras, MOST_SENT, Tls, Transport};
use super::*;

fn read(octets: &[u8]) -> Header {
    match decode(octets) {
        Decoded::Header(header) => header,
        other => panic!("{other:?} of {}", octets.escape_ascii()),
    }
}

fn refused(octets: &[u8]) -> &'static str {
    match decode(octets) {
        Decoded::Refused(why) => why,
        other => panic!("{other:?} of {}", octets.escape_ascii()),
    }
}

fn at(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

/// A header of version 2 with this behind its length.
fn block(command: u8, family: u8, rest: &[&[u8]]) -> Vec<u8> {
    let rest = rest.concat();
    let length = (rest.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, &rest].concat()
}

fn value(kind: u8, octets: &[u8]) -> Vec<u8> {
    [&[kind][..], &(octets.len() as u16).to_be_bytes(), octets].concat()
}

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x34, 1, 0xBB];

#[test]
fn lines() {
    let octets = b"PROXY TCP4 192.0.2.1 198.51.100.1 4660 443\r\nGET /";
    let header = read(octets);
    assert_eq!((header.source, header.destination), (at("192.0.2.1:4660"), at("198.51.100.1:443")));
    assert_eq!(&octets[header.consumed..], b"GET /");
    let header = read(b"PROXY TCP6 2001:DB8::1 ::ffff:c633:6401 0 65535\r\n");
    assert_eq!((header.source, header.destination), (at("[2001:db8::1]:0"), at("198.51.100.1:65535")));
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(91));
    assert_eq!(longest.len(), 107);
    for line in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN \r \xFF\r\n", longest.as_bytes()] {
        let consumed = line.len();
        assert_eq!(read(line), Header { consumed, ..Header::default() });
    }
}

#[test]
fn what_is_no_line() {
    for (line, what) in [
        ("GET / HTTP/1.1\r\n", "no PROXY"),
        ("PUT", "no PROXY"),
        ("PROXY TCP5", "no PROXY"),
        ("PROXY  TCP4 ", "no PROXY"),
        ("PROXY UNKNOWN5\r\n", "addresses"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", "end"),
        ("PROXY UNKNOWN\n", "end"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "addresses"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", "addresses"),
        ("PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n", "addresses"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n", "addresses"),
        ("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", "addresses"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", "addresses"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", "addresses"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", "addresses"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n", "addresses"),
        ("PROXY TCP4 ::1 ::2 1 2\r\n", "addresses"),
        ("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", "addresses"),
        ("PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n", "addresses"),
    ] {
        let why = refused(line.as_bytes());
        assert!(why.contains(what), "{line:?}: {why}");
    }
    let long = format!("PROXY UNKNOWN {}", "f".repeat(200));
    assert_eq!(decode(&long.as_bytes()[..106]), Decoded::NeedMore);
    assert!(refused(&long.as_bytes()[..107]).contains("longer"));
}

#[test]
fn blocks() {
    let v6: Vec<u8> = (0..36).collect();
    for (octets, source, local) in [
        (block(0x21, 0x11, &[&V4]), at("192.0.2.1:4660"), false),
        (block(0x21, 0x12, &[&V4]), at("192.0.2.1:4660"), false),
        (block(0x21, 0x21, &[&v6]), at("[1:203:405:607:809:a0b:c0d:e0f]:8225"), false),
        (block(0x21, 0x22, &[&v6, &value(0xEF, b"")]), at("[1:203:405:607:809:a0b:c0d:e0f]:8225"), false),
        (block(0x21, 0x31, &[&[7; 216]]), None, false),
        (block(0x21, 0x00, &[&[7; 5]]), None, false),
        (block(0x21, 0x10, &[&V4]), None, false),
        (block(0x20, 0x00, &[]), None, true),
        // The family of LOCAL is ignored, and the block skipped.
        (block(0x20, 0x11, &[&V4]), None, true),
        (block(0x20, 0xFF, &[&[7; 5]]), None, true),
    ] {
        let header = read(&octets);
        assert_eq!((header.source, header.local, header.consumed), (source, local, octets.len()));
    }
}

#[test]
fn values_of_interest() {
    let tls = [&[1, 0, 0, 0, 1][..], &value(0x21, b"TLSv1.3")].concat();
    let header = read(&block(
        0x21,
        0x11,
        &[&V4, &value(1, b"h2"), &value(4, &[0; 9]), &value(2, b"www.example.net"), &value(0x20, &tls)],
    ));
    assert_eq!(header.alpn.as_deref(), Some(&b"h2"[..]));
    assert_eq!(header.authority.as_deref(), Some("www.example.net"));
    assert!(header.tls);
    let header = read(&block(0x21, 0x11, &[&V4, &value(2, b"\xFF"), &value(0x20, &[0; 5])]));
    assert_eq!((header.authority, header.tls), (None, false));
}

#[test]
fn what_is_no_block() {
    let crc = value(3, &[0; 4]);
    for (octets, what) in [
        (b"\r\n\r\n\r".to_vec(), "no PROXY"),
        (block(0x11, 0x11, &[&V4]), "version or command"),
        (block(0x22, 0x11, &[&V4]), "version or command"),
        (block(0x21, 0x41, &[&V4]), "family"),
        (block(0x21, 0x13, &[&V4]), "family"),
        (block(0x21, 0x11, &[&V4[1..]]), "shorter than its addresses"),
        (block(0x21, 0x21, &[&V4]), "shorter than its addresses"),
        (block(0x21, 0x11, &[&V4, &[1, 0]]), "contradicts"),
        (block(0x21, 0x11, &[&V4, &[1, 0, 1]]), "contradicts"),
        (block(0x21, 0x11, &[&V4, &crc]), "match"),
        (block(0x21, 0x11, &[&V4, &value(3, &[0; 3])]), "length"),
        (block(0x21, 0x11, &[&V4, &value(5, &[0; 129])]), "id"),
        (block(0x21, 0x11, &[&V4, &value(0x20, &[1; 4])]), "TLS"),
        (block(0x21, 0x11, &[&[0; MOST]])[..16].to_vec(), "longer"),
    ] {
        let why = refused(&octets);
        assert!(why.contains(what), "{}: {why}", octets.escape_ascii());
    }
}

#[test]
fn a_header_as_it_is_sent() {
    let (source, destination) = ("192.0.2.1:4660".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap());
    let mut line = Vec::new();
    v1::encode(source, destination, &mut line);
    assert_eq!(line, b"PROXY TCP6 ::ffff:c000:201 2001:db8::1 4660 443\r\n");
    let tls = Tls {
        version: "TLSv1.3",
        certificate: ClientCertificate::Now,
        cipher: None,
        common_name: Some("gru"),
    };
    let extras = Extras { tls: Some(tls), pop: Some("gru1"), ..Extras::default() };
    let mut octets = Vec::new();
    v2::encode(Transport::Udp, source, source, &extras, &mut octets);
    let v4 = [192, 0, 2, 1, 192, 0, 2, 1, 0x12, 0x34, 0x12, 0x34];
    let tls = [&[7, 0, 0, 0, 0][..], &value(0x21, b"TLSv1.3"), &value(0x22, b"gru")].concat();
    assert_eq!(octets, block(0x21, 0x12, &[&v4, &value(0x20, &tls), &value(0xE0, b"gru1")]));
    let mut octets = Vec::new();
    v2::encode_local(&mut octets);
    assert_eq!(octets, block(0x20, 0, &[]));
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| IpAddr::V4(Ipv4Addr::from(ip))),
        any::<[u8; 16]>().prop_map(|ip| IpAddr::V6(Ipv6Addr::from(ip))),
        any::<[u8; 4]>().prop_map(|ip| IpAddr::V6(Ipv4Addr::from(ip).to_ipv6_mapped())),
        // What is written with as few digits as may be, and as an IPv4 address in an old form.
        any::<u32>().prop_map(|ip| IpAddr::V6(Ipv6Addr::from(u128::from(ip)))),
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

/// What a header may be made of.
#[derive(Debug, Clone)]
struct Parts {
    alpn: Option<Vec<u8>>,
    authority: Option<String>,
    tls: Option<(ClientCertificate, Option<String>)>,
    unique_id: Option<Vec<u8>>,
    pop: Option<String>,
    checksum: bool,
}

impl Parts {
    fn extras(&self) -> Extras<'_> {
        Extras {
            alpn: self.alpn.as_deref(),
            authority: self.authority.as_deref(),
            tls: self.tls.as_ref().map(|(certificate, name)| Tls {
                version: "TLSv1.2",
                certificate: *certificate,
                cipher: Some("TLS13_AES_128_GCM_SHA256"),
                common_name: name.as_deref(),
            }),
            unique_id: self.unique_id.as_deref(),
            pop: self.pop.as_deref(),
            target: self.pop.as_deref().map(|pop| ("web", pop)),
            checksum: self.checksum,
        }
    }
}

fn parts(longest: usize) -> impl Strategy<Value = Parts> {
    let certificate = prop::sample::select(vec![
        ClientCertificate::None,
        ClientCertificate::Now,
        ClientCertificate::Before,
    ]);
    let name = move || vec(prop::sample::select(b"abcxyz-.".to_vec()), 1..longest);
    let name = move || name().prop_map(|name| String::from_utf8(name).unwrap());
    (
        option::of(vec(any::<u8>(), 1..longest)),
        option::of(name()),
        option::of((certificate, option::of(name()))),
        option::of(vec(any::<u8>(), 1..longest)),
        option::of("[a-z0-9]{1,20}"),
        any::<bool>(),
    )
        .prop_map(|(alpn, authority, tls, unique_id, pop, checksum)| Parts {
            alpn,
            authority,
            tls,
            unique_id,
            pop,
            checksum,
        })
}

fn v2_of(transport: Transport, both: (SocketAddr, SocketAddr), parts: &Parts) -> Vec<u8> {
    let mut octets = Vec::new();
    v2::encode(transport, both.0, both.1, &parts.extras(), &mut octets);
    octets
}

/// Without scopes and mapped addresses.
fn plain(address: SocketAddr) -> Option<SocketAddr> {
    Some(canonical(address.ip(), address.port()))
}

/// That the octets are a header, that what follows is left alone, and that each part of them is the beginning of one.
fn is_whole(octets: &[u8], rest: &[u8]) -> Result<Header, TestCaseError> {
    for cut in 0..octets.len() {
        prop_assert_eq!(decode(&octets[..cut]), Decoded::NeedMore, "cut at {}", cut);
    }
    let header = read(octets);
    prop_assert_eq!(header.consumed, octets.len());
    prop_assert_eq!(&read(&[octets, rest].concat()), &header);
    Ok(header)
}

proptest! {
    #[test]
    fn lines_come_back(source in address(), destination in address(), rest in vec(any::<u8>(), 0..200)) {
        let mut line = b"before".to_vec();
        v1::encode(source, destination, &mut line);
        let line = &line[6..];
        prop_assert!(line.len() <= 107);
        prop_assert!(!line.starts_with(b"PROXY TCP6") || !line.contains(&b'.'));
        let header = is_whole(line, &rest)?;
        prop_assert_eq!((header.source, header.destination), (plain(source), plain(destination)));
    }

    #[test]
    fn blocks_come_back(
        both in (address(), address()), parts in parts(60), udp in any::<bool>(), rest in vec(any::<u8>(), 0..200),
    ) {
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let octets = v2_of(transport, both, &parts);
        let header = is_whole(&octets, &rest)?;
        let Parts { alpn, authority, tls, pop, .. } = parts;
        let wanted = Header {
            source: plain(both.0),
            destination: plain(both.1),
            local: false,
            consumed: octets.len(),
            alpn,
            authority,
            tls: tls.is_some(),
            target: pop.map(|pop| ("web".to_owned(), pop)),
        };
        prop_assert_eq!(header, wanted);
    }

    #[test]
    fn what_finds_no_room_is_left_out(both in (address(), address()), parts in parts(600)) {
        let octets = v2_of(Transport::Tcp, both, &parts);
        prop_assert!(octets.len() <= MOST_SENT);
        let header = read(&octets);
        prop_assert!(header.alpn.is_none() || header.alpn == parts.alpn);
        prop_assert!(header.authority.is_none() || header.authority == parts.authority);
        prop_assert_eq!(header.tls, parts.tls.is_some());
    }

    #[test]
    fn a_checksum_sees_every_flip(both in (address(), address()), mut parts in parts(60), at in any::<Index>(), bit in 0u8..8) {
        parts.checksum = true;
        let mut octets = v2_of(Transport::Tcp, both, &parts);
        // Not the head, which says how to read the rest; nor the type that makes a checksum one.
        let first = octets.len() - usize::from(u16::from_be_bytes([octets[14], octets[15]]));
        let checksum = first + if octets[13] >> 4 == 1 { 12 } else { 36 };
        let at = first + at.index(octets.len() - first);
        prop_assume!(at != checksum);
        octets[at] ^= 1 << bit;
        prop_assert!(matches!(decode(&octets), Decoded::Refused(_)));
    }

    #[test]
    fn nothing_panics(
        octets in vec(any::<u8>(), 0..400), both in (address(), address()), parts in parts(60),
        flips in vec((any::<Index>(), any::<u8>()), 0..6),
    ) {
        let _ = decode(&octets);
        let block = block(0x21, 0x11, &[&octets]);
        let _ = decode(&block);
        let line = [b"PROXY TCP4 ", &octets[..]].concat();
        let _ = decode(&line);
        let mut octets = v2_of(Transport::Tcp, both, &parts);
        for (at, value) in flips {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        if let Decoded::Header(header) = decode(&octets) {
            prop_assert!(header.consumed <= octets.len().min(MOST));
        }
    }
}
