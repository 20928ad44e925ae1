//! ClientHellos as clients and strangers send them.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn long(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u16).to_be_bytes()[..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &long(content)].concat()
}

fn sni(names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| [vec![0], long(name)].concat()).collect();
    extension(0, &long(&list))
}

fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = protocols.iter().flat_map(|it| [&[it.len() as u8], *it].concat()).collect();
    extension(16, &long(&list))
}

fn handshake(extensions: &[Vec<u8>], suites: &[u16]) -> Vec<u8> {
    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let mut body = [&[3, 3][..], &[7; 32], &[0], &long(&suites), &[1, 0]].concat();
    if !extensions.is_empty() {
        body.extend(long(&extensions.concat()));
    }
    [&[1, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat()
}

fn record(part: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &long(part)].concat()
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    record(&handshake(extensions, &[0x1301, 0x1303]))
}

fn name_of(names: &[&[u8]]) -> Result<Option<String>, HelloError> {
    let read = Hello::read(&hello(&[sni(names)]))?;
    Ok(read.expect("it is whole").server_name)
}

#[test]
fn what_a_browser_asks_for_is_read() {
    let versions = extension(43, &[6, 0x1a, 0x1a, 3, 4, 3, 3]);
    let octets = hello(&[
        extension(0x2a2a, &[]),
        sni(&[b"WWW.Example.NET"]),
        alpn(&[b"h2", b"http/1.1"]),
        versions,
        extension(51, &[9; 1_300]),
    ]);
    let read = Hello::read(&octets).unwrap().unwrap();
    assert_eq!(read.server_name, Some("www.example.net".to_owned()));
    assert_eq!(read.alpn().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
    assert_eq!(read.versions, [0x1a1a, 0x0304, 0x0303]);
    assert!(!read.prefers_chacha && !read.is_acme());
    // Old and bare.
    let bare = Hello::read(&record(&handshake(&[], &[0x0a0a, 0xcca8, 0xc02f]))).unwrap().unwrap();
    assert_eq!((bare.server_name.as_ref(), bare.alpn().count()), (None, 0));
    assert_eq!(bare.versions, [0x0303]);
    assert!(bare.prefers_chacha);
}

#[test]
fn names_are_names_or_refused() {
    let long = [b"a".repeat(63), b"b".repeat(63), b"c".repeat(63), b"d".repeat(61)].join(&b'.');
    assert_eq!(name_of(&[&long]).unwrap().map(|name| name.len()), Some(253));
    type Asked = Result<Option<&'static str>, HelloError>;
    let table: [(&[u8], Asked); 14] = [
        (b"a.example", Ok(Some("a.example"))),
        (b"a.example.", Ok(Some("a.example"))),
        (b"xn--bcher-kva.example", Ok(Some("xn--bcher-kva.example"))),
        (b"localhost", Ok(Some("localhost"))),
        (b"192.0.2.1", Ok(None)),
        (b"2001:db8::1", Ok(None)),
        (b"[2001:db8::1]", Ok(None)),
        (b"", Err(HelloError::Name)),
        (b".", Err(HelloError::Name)),
        (b"*.example", Err(HelloError::Name)),
        (b"a..example", Err(HelloError::Name)),
        (b"a example", Err(HelloError::Name)),
        (b"a\0.example", Err(HelloError::Name)),
        (b"\xffa.example", Err(HelloError::Name)),
    ];
    for (name, wanted) in table {
        assert_eq!(name_of(&[name]), wanted.map(|name| name.map(str::to_owned)), "{name:?}");
    }
    assert_eq!(name_of(&[&b"a.".repeat(128)]), Err(HelloError::Name));
    assert_eq!(name_of(&[&b"x".repeat(300)]), Err(HelloError::Name));
    assert_eq!(name_of(&[b"a.example", b"b.example"]), Err(HelloError::Name));
    assert_eq!(name_of(&[]), Err(HelloError::Name));
    assert_eq!(HelloError::Name.alert(), Some([21, 3, 3, 0, 2, 2, 47]));
}

#[test]
fn the_question_of_a_ca_is_alone() {
    let asks = |protocols: &[&[u8]]| Hello::read(&hello(&[alpn(protocols)])).unwrap().unwrap().is_acme();
    assert!(asks(&[b"acme-tls/1"]));
    assert!(!asks(&[b"acme-tls/1", b"h2"]) && !asks(&[b"h2", b"acme-tls/1"]) && !asks(&[b"h2"]));
}

#[test]
fn what_is_no_hello_is_told_from_what_is_not_whole() {
    let table: [(&[u8], HelloError); 9] = [
        (b"GET / HTTP/1.1\r\n", HelloError::NotTls),
        (b"SSH-2.0-x", HelloError::NotTls),
        (&[0x80, 0x2e, 1, 3, 1], HelloError::NotTls),
        (&[22, 2], HelloError::NotTls),
        // A ServerHello; an alert behind half a ClientHello; nothing in a record; a record and a message too long.
        (&[22, 3, 1, 0, 9, 2], HelloError::NotTls),
        (&[22, 3, 1, 0, 1, 1, 21], HelloError::NotTls),
        (&[22, 3, 1, 0, 0], HelloError::Malformed),
        (&[22, 3, 1, 0x40, 1], HelloError::TooLong),
        (&[22, 3, 1, 0, 9, 1, 0, 0x40, 0], HelloError::TooLong),
    ];
    for (octets, wanted) in table {
        assert_eq!(Hello::read(octets), Err(wanted), "{octets:?}");
        for end in 0..octets.len() {
            let _ = Hello::read(&octets[..end]);
        }
    }
    // One octet of the message in each record: the headers count too.
    let drip: Vec<u8> =
        handshake(&[extension(51, &[9; 4_000])], &[0x1301]).chunks(1).flat_map(record).collect();
    assert_eq!(Hello::read(&drip[..MOST_HELLO - 1]), Ok(None));
    assert_eq!(Hello::read(&drip[..MOST_HELLO]), Err(HelloError::TooLong));
    let malformed = [
        hello(&[sni(&[b"a.example"]), sni(&[b"a.example"])]),
        hello(&[extension(16, &long(&[]))]),
        hello(&[extension(16, &long(&[2, b'h']))]),
        hello(&[extension(16, &long(&[0]))]),
        hello(&[extension(43, &[3, 3, 4, 3])]),
        hello(&[extension(0, &[0, 1, 0, 0])]),
        record(&handshake(&[], &[])),
        record(&[1, 0, 0, 2, 3, 3]),
    ];
    for octets in malformed {
        assert_eq!(Hello::read(&octets), Err(HelloError::Malformed), "{octets:?}");
    }
}

proptest! {
    #[test]
    fn no_octets_make_it_panic(octets in vec(any::<u8>(), 0..600)) {
        let _ = Hello::read(&octets);
        let _ = Hello::read(&record(&octets));
        let _ = Hello::read(&hello(&[extension(0, &octets), extension(16, &octets)]));
        let _ = Hello::read(&record(&[&[1, 0][..], &long(&octets)].concat()));
    }

    #[test]
    fn a_changed_hello_does_not_make_it_panic(at in 0_usize..120, to: u8) {
        let mut octets = hello(&[sni(&[b"a.example"]), alpn(&[b"h2", b"http/1.1"]), extension(43, &[2, 3, 4])]);
        let at = at % octets.len();
        octets[at] = to;
        let _ = Hello::read(&octets);
    }

    #[test]
    fn cut_anywhere_it_says_the_same(
        cuts in vec(1_usize..90, 0..40),
        name in "[a-z]{1,20}(\\.[a-z]{1,20}){0,3}",
        behind in vec(any::<u8>(), 0..20),
    ) {
        let whole = handshake(&[sni(&[name.as_bytes()]), alpn(&[b"h2"])], &[0x1303, 0x1301]);
        let wanted = Hello::read(&record(&whole)).unwrap().unwrap();
        prop_assert_eq!(wanted.server_name.as_deref(), Some(&*name));
        let mut octets = Vec::new();
        let mut rest = &whole[..];
        for cut in cuts {
            let (part, behind) = rest.split_at(cut.min(rest.len()));
            if !part.is_empty() {
                octets.extend(record(part));
            }
            rest = behind;
        }
        if !rest.is_empty() {
            octets.extend(record(rest));
        }
        for end in 0..octets.len() {
            prop_assert_eq!(Hello::read(&octets[..end]), Ok(None), "{} of {}", end, octets.len());
        }
        octets.extend(behind);
        prop_assert_eq!(Hello::read(&octets), Ok(Some(wanted)));
    }
}
