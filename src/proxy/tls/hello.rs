//! What a ClientHello says before anything is agreed on: the server name and the protocols (RFC 8446 §4.1.2).
//!
//! Pure, over the octets as they came: records put together, the hello taken apart, nothing believed about lengths.

/// The longest hello that is looked at, records' headers included.
pub const MOST: usize = 16 << 10;

/// What is known of a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// The first octets of one; there must be more.
    More,
    Hello(Hello),
    /// Not TLS, or not as it must be: in words.
    Refused(&'static str),
}

/// What the client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hello {
    /// In lower case.
    pub server_name: Option<String>,
    pub alpn: Vec<Vec<u8>>,
}

impl Hello {
    /// Whether it is the handshake of a TLS-ALPN-01 challenge (RFC 8737 §3).
    #[must_use]
    pub fn is_acme(&self) -> bool {
        self.alpn.len() == 1 && self.alpn[0] == b"acme-tls/1"
    }
}

/// Reads a hello off the front of a stream.
#[must_use]
pub fn parse(octets: &[u8]) -> Parsed {
    let mut message = Vec::new();
    let mut rest = octets;
    loop {
        // RFC 8446 §5.1: a handshake message may lie in several records.
        let Some((&[kind, major, _, high, low], body)) = rest.split_first_chunk::<5>() else {
            let is_ours =
                rest.first().is_none_or(|&kind| kind == 22) && rest.get(1).is_none_or(|&it| it == 3);
            return match (is_ours, octets.len() < MOST) {
                (false, _) => Parsed::Refused("not a TLS handshake"),
                (true, false) => Parsed::Refused("a ClientHello longer than 16 KiB"),
                (true, true) => Parsed::More,
            };
        };
        if kind != 22 || major != 3 {
            return Parsed::Refused("not a TLS handshake");
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > 1 << 14 {
            return Parsed::Refused("a record of a length that TLS does not allow");
        }
        message.extend_from_slice(&body[..length.min(body.len())]);
        if let Some(&[kind, a, b, c]) = message.first_chunk::<4>() {
            if kind != 1 {
                return Parsed::Refused("the handshake does not begin with a ClientHello");
            }
            let whole = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
            if whole > MOST {
                return Parsed::Refused("a ClientHello longer than 16 KiB");
            }
            if message.len() >= whole {
                return match take_apart(&message[4..whole]) {
                    Some(hello) => Parsed::Hello(hello),
                    None => Parsed::Refused("a ClientHello that contradicts its own lengths"),
                };
            }
        } else if message.first().is_some_and(|&kind| kind != 1) {
            return Parsed::Refused("the handshake does not begin with a ClientHello");
        }
        if body.len() < length {
            return if octets.len() < MOST {
                Parsed::More
            } else {
                Parsed::Refused("a ClientHello longer than 16 KiB")
            };
        }
        rest = &body[length..];
    }
}

fn take_apart(body: &[u8]) -> Option<Hello> {
    let mut body = Reader(body);
    // Version, random.
    body.take(34)?;
    let length = body.u8()?;
    body.take(length)?;
    let length = body.u16()?;
    body.take(length)?;
    let length = body.u8()?;
    body.take(length)?;
    let mut hello = Hello::default();
    // RFC 5246 §7.4.1.2: there may be no extensions at all.
    if body.0.is_empty() {
        return Some(hello);
    }
    let length = body.u16()?;
    let mut extensions = Reader(body.take(length)?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let length = extensions.u16()?;
        let extension = extensions.take(length)?;
        match kind {
            0 => hello.server_name = server_name(extension)?,
            16 => hello.alpn = protocols(extension)?,
            _ => {}
        }
    }
    Some(hello)
}

/// RFC 6066 §3. A name that no host can have is none.
fn server_name(extension: &[u8]) -> Option<Option<String>> {
    let mut list = Reader(extension);
    let length = list.u16()?;
    let mut list = Reader(list.take(length)?);
    let kind = list.u8()?;
    let length = list.u16()?;
    let name = list.take(length)?;
    let fits = kind == 0 && (1..=255).contains(&name.len());
    let is_letter = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_');
    if !fits || !name.iter().all(is_letter) {
        return Some(None);
    }
    let name = str::from_utf8(name).ok()?.trim_end_matches('.').to_ascii_lowercase();
    Some(Some(name).filter(|name| !name.is_empty()))
}

/// RFC 7301 §3.1.
fn protocols(extension: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = Reader(extension);
    let length = list.u16()?;
    let mut list = Reader(list.take(length)?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let length = list.u8()?;
        protocols.push(list.take(length)?.to_vec());
    }
    Some(protocols)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<usize> {
        self.take(1).map(|octets| usize::from(octets[0]))
    }

    fn u16(&mut self) -> Option<usize> {
        self.take(2).map(|octets| usize::from(u16::from_be_bytes([octets[0], octets[1]])))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A hello with these extensions, as one record.
    fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        let all: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, octets)| {
                [&kind.to_be_bytes()[..], &(octets.len() as u16).to_be_bytes(), octets].concat()
            })
            .collect();
        body.extend((all.len() as u16).to_be_bytes());
        body.extend(all);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        records(&message, message.len())
    }

    fn records(message: &[u8], most: usize) -> Vec<u8> {
        let record = |part: &[u8]| [&[22, 3, 1], &(part.len() as u16).to_be_bytes()[..], part].concat();
        message.chunks(most.max(1)).flat_map(record).collect()
    }

    fn sni(name: &[u8]) -> (u16, Vec<u8>) {
        let length = name.len() as u16;
        (0, [&(length + 3).to_be_bytes()[..], &[0], &length.to_be_bytes(), name].concat())
    }

    fn asked(octets: &[u8]) -> Option<String> {
        match parse(octets) {
            Parsed::Hello(hello) => hello.server_name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_and_protocols() {
        assert_eq!(asked(&hello(&[sni(b"WWW.Example.net.")])).as_deref(), Some("www.example.net"));
        assert_eq!(asked(&hello(&[])), None);
        assert_eq!(asked(&hello(&[sni(b"a/../b")])), None);
        assert_eq!(asked(&hello(&[sni(&[b'a'; 300])])), None);
        let alpn = (16, [&[0, 11, 10][..], b"acme-tls/1"].concat());
        match parse(&hello(&[sni(b"x.net"), alpn])) {
            Parsed::Hello(hello) => assert!(hello.is_acme()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_hello() {
        for (octets, what) in [
            (&b"GET / HTTP/1.1\r\n"[..], "not a TLS"),
            (&[22, 3, 1, 0, 4, 2, 0, 0, 0], "does not begin"),
            (&[22, 3, 1, 0xff, 0xff, 1], "length"),
            (&[22, 3, 1, 0, 4, 1, 1, 0, 0], "longer"),
            (&[22, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3], "contradicts"),
            (&[21, 3], "not a TLS"),
        ] {
            assert!(matches!(parse(octets), Parsed::Refused(why) if why.contains(what)), "{what}");
        }
    }

    proptest! {
        #[test]
        fn any_part_of_a_hello_asks_for_more_and_any_split_gives_the_same(
            name in "[a-z]{1,20}\\.net", most in 1usize..200, cut in any::<prop::sample::Index>(),
        ) {
            let whole = hello(&[(10, vec![0, 2, 0, 29]), sni(name.as_bytes())]);
            let split = records(&whole[5..], most);
            prop_assert_eq!(asked(&split), Some(name));
            let part = &split[..cut.index(split.len())];
            prop_assert_eq!(parse(part), Parsed::More);
        }

        #[test]
        fn nothing_panics(mut octets in prop::collection::vec(any::<u8>(), 0..600), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)) {
            let _ = parse(&octets);
            octets = hello(&[sni(b"www.example.net"), (16, vec![0, 3, 2, b'h', b'2'])]);
            for (at, value) in flips {
                let at = at.index(octets.len());
                octets[at] = value;
            }
            let _ = parse(&octets);
        }
    }
}
