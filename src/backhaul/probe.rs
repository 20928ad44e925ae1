//! The datagrams with which POPs measure the paths between them: questions, answers, and news, each authenticated.
//!
//! ```text
//!  0      4   5    6    8     10    12   16                                     -16
//! ┌──────┬───┬────┬─────┬──────┬─────┬────┬─────────┬──────────────────────────┬─────┐
//! │ EP6P │ 1 │kind│side │ from │ to  │ 0  │ number  │ body (news only)         │ MAC │
//! └──────┴───┴────┴─────┴──────┴─────┴────┴─────────┴──────────────────────────┴─────┘
//! ```

use ring::hmac;

use super::tunnel::{Pair, PrivateKey, PublicKey};
use crate::config::sixpn::Place;

const MAGIC: [u8; 5] = *b"EP6P\x01";
const HEAD: usize = 24;
const MAC: usize = 16;
/// The longest datagram: it fits into any 6PN packet.
pub const MOST: usize = 1232;
/// Octets of news in one.
pub const MOST_BODY: usize = MOST - HEAD - MAC;

/// What a datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Question,
    /// As long as its question, and said to who asked.
    Answer,
    /// What the sender knows, in parts.
    News,
}

/// Whether it goes through the tunnel. Part of what is authenticated, so that neither can stand for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Inside,
    Outside,
}

/// One datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe<'b> {
    pub kind: Kind,
    pub side: Side,
    pub from: Place,
    pub to: Place,
    /// The question's number, which the answer repeats.
    pub number: u64,
    pub body: &'b [u8],
}

/// The secrets that two POPs share: one for each pair of their keys while they rotate.
#[derive(Debug, Clone)]
pub struct Secrets {
    keys: Vec<hmac::Key>,
}

impl Secrets {
    /// From the static keys of both, which makes them the same at either end (RFC 7748 §6.1).
    #[must_use]
    pub fn new(ours: &Pair<PrivateKey>, theirs: &Pair<PublicKey>) -> Self {
        let mut keys = Vec::new();
        for ours in std::iter::once(&ours.present).chain(&ours.next) {
            for theirs in std::iter::once(&theirs.present).chain(&theirs.next) {
                let shared = hmac::Key::new(hmac::HMAC_SHA256, &ours.agree(theirs));
                let derived = hmac::sign(&shared, b"edgeproxy backhaul probe 1");
                keys.push(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()));
            }
        }
        Self { keys }
    }

    /// How many there are: whoever is not heard with one tries the next.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Which of the keys a datagram is made with.
    fn find(&self, octets: &[u8], mac: &[u8]) -> Option<usize> {
        self.keys.iter().position(|key| {
            let right = hmac::sign(key, octets);
            // Not the first difference but all of them: who guesses learns nothing from the time.
            right.as_ref()[..MAC].iter().zip(mac).fold(0, |all, (one, other)| all | (one ^ other)) == 0
        })
    }
}

impl Probe<'_> {
    /// Writes it with the key of the same number as in [`read`], or the first; gives its length.
    pub fn write(&self, secrets: &Secrets, key: usize, out: &mut [u8; MOST]) -> usize {
        let body = &self.body[..self.body.len().min(MOST_BODY)];
        out[..HEAD].fill(0);
        out[..5].copy_from_slice(&MAGIC);
        out[5] = match self.kind {
            Kind::Question => 1,
            Kind::Answer => 2,
            Kind::News => 3,
        };
        out[7] = u8::from(self.side == Side::Outside);
        out[8..10].copy_from_slice(&self.from.number().to_be_bytes());
        out[10..12].copy_from_slice(&self.to.number().to_be_bytes());
        out[16..24].copy_from_slice(&self.number.to_be_bytes());
        out[HEAD..HEAD + body.len()].copy_from_slice(body);
        let length = HEAD + body.len();
        if let Some(key) = secrets.keys.get(key) {
            let mac = hmac::sign(key, &out[..length]);
            out[length..length + MAC].copy_from_slice(&mac.as_ref()[..MAC]);
        }
        length + MAC
    }
}

/// Who a datagram says it is from, before anything is proven. None: it is none of ours.
#[must_use]
pub fn sender(datagram: &[u8]) -> Option<Place> {
    let head: &[u8; HEAD] = datagram.first_chunk()?;
    let whole = head[..5] == MAGIC && (HEAD + MAC..=MOST).contains(&datagram.len());
    whole.then(|| Place::from_number(u16::from_be_bytes([head[8], head[9]])))?
}

/// Reads a datagram and the number of the key that it is made with. None: it is not authentic, or not for `to`.
#[must_use]
pub fn read<'b>(datagram: &'b [u8], to: Place, secrets: &Secrets) -> Option<(Probe<'b>, usize)> {
    let from = sender(datagram)?;
    let (octets, mac) = datagram.split_at(datagram.len() - MAC);
    let key = secrets.find(octets, mac)?;
    let kind = match octets[5] {
        1 => Kind::Question,
        2 => Kind::Answer,
        3 => Kind::News,
        _ => return None,
    };
    let side = if octets[7] == 1 { Side::Outside } else { Side::Inside };
    if Place::from_number(u16::from_be_bytes([octets[10], octets[11]])) != Some(to) {
        return None;
    }
    let number = u64::from_be_bytes(*octets[16..].first_chunk()?);
    Some((Probe { kind, side, from, to, number, body: &octets[HEAD..] }, key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::sixpn::RegionCode;

    fn place(pop: u8) -> Place {
        Place { region: RegionCode::new(3).unwrap(), pop }
    }

    fn key(number: u8) -> PrivateKey {
        PrivateKey::new([number; 32])
    }

    fn secrets(ours: &[u8], theirs: &[u8]) -> Secrets {
        let ours = Pair { present: key(ours[0]), next: ours.get(1).map(|next| key(*next)) };
        let theirs =
            Pair { present: key(theirs[0]).public(), next: theirs.get(1).map(|next| key(*next).public()) };
        Secrets::new(&ours, &theirs)
    }

    const QUESTION: Kind = Kind::Question;

    #[test]
    fn both_ends_understand_each_other_while_they_rotate() {
        let mut out = [0; MOST];
        let probe = Probe {
            kind: QUESTION,
            side: Side::Inside,
            from: place(1),
            to: place(2),
            number: 77,
            body: b"news",
        };
        // Keys of either end: what one sends with, what the other knows.
        for (one, other_knows, other, one_knows) in [
            (&[1][..], &[1][..], &[2][..], &[2][..]),
            (&[1, 11], &[1], &[2], &[2]),
            (&[1, 11], &[1, 11], &[2, 22], &[2]),
            (&[11], &[1, 11], &[2, 22], &[2, 22]),
            (&[11], &[1, 11], &[22], &[2, 22]),
        ] {
            let (ours, theirs) = (secrets(one, one_knows), secrets(other, other_knows));
            // Whoever hears nothing tries its keys in turn.
            let heard = (0..ours.count()).find_map(|key| {
                let length = probe.write(&ours, key, &mut out);
                read(&out[..length], place(2), &theirs).map(|_| length)
            });
            let length = heard.unwrap();
            let (read, with) = read(&out[..length], place(2), &theirs).unwrap();
            assert_eq!(read, probe);
            let answer = Probe { kind: Kind::Answer, from: place(2), to: place(1), body: &[], ..probe };
            let mut back = [0; MOST];
            let length = answer.write(&theirs, with, &mut back);
            assert!(super::read(&back[..length], place(1), &secrets(one, one_knows)).is_some());
        }
    }

    #[test]
    fn what_is_not_authentic_or_not_for_us_is_nothing() {
        let mut out = [0; MOST];
        let (ours, theirs) = (secrets(&[1], &[2]), secrets(&[2], &[1]));
        let probe =
            Probe { kind: QUESTION, side: Side::Outside, from: place(1), to: place(2), number: 1, body: &[] };
        let length = probe.write(&ours, 0, &mut out);
        assert!(read(&out[..length], place(2), &theirs).is_some());
        assert!(read(&out[..length], place(3), &theirs).is_none(), "for another");
        assert!(read(&out[..length], place(2), &secrets(&[2], &[3])).is_none(), "of another");
        for at in 0..length {
            let mut changed = out;
            changed[at] ^= 1;
            assert!(read(&changed[..length], place(2), &theirs).is_none(), "octet {at}");
            assert!(read(&out[..at], place(2), &theirs).is_none(), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_octets_are_nothing(octets in prop::collection::vec(any::<u8>(), 0..1300), good: bool) {
            let mut octets = octets;
            if good {
                for (to, from) in octets.iter_mut().zip(MAGIC) {
                    *to = from;
                }
            }
            prop_assert!(read(&octets, place(2), &secrets(&[2], &[1])).is_none());
        }
    }
}
