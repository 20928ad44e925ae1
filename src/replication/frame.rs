//! What one POP says to another on the streams of a connection. Everything is counted before it is kept.

use std::sync::Arc;
use std::time::Duration;

use super::head::Signed;
use super::merge::Offer;
use super::octets::{Malformed, Reader, put_number, put_octets};
use super::record::Row;
use super::sync::{BUCKETS, Buckets};
use super::version::{Known, MOST_ORIGINS, Origin, Point};

/// Octets of the longest message that is read at once; rows of a fetch come in blocks after it.
pub const MOST_MESSAGE: usize = 1 << 18;
/// Octets of the rows of one block, before they are packed.
pub const BLOCK: usize = 1 << 17;
/// Rows of a push. More are fetched.
pub const MOST_PUSHED: usize = 512;
/// Octets of the rows of a push.
pub const MOST_PUSHED_OCTETS: usize = 1 << 16;
/// Of a packed block, LZ4's worst case and the lengths.
pub const MOST_PACKED: usize = BLOCK + BLOCK / 255 + 64;

/// What a stream begins with: what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Rows that were just written; nothing is answered. `spread`: tell them on in your region.
    Push { spread: bool, offer: Offer },
    /// Where do we differ? `yours`: what we have of the one who is asked, which so learns what is safe to forget.
    Compare { buckets: Box<Buckets>, yours: Option<Known> },
    /// The rows of an origin that we lack.
    Fetch { origin: Origin, have: Option<Point> },
    /// A word between a voter and one who asks; what it says is theirs.
    Permit(Vec<u8>),
}

impl Request {
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let mut into = Vec::new();
        match self {
            Self::Push { spread, offer } => {
                into.extend_from_slice(&[1, u8::from(*spread)]);
                put_offer(&mut into, offer);
            }
            Self::Compare { buckets, yours } => {
                into.push(2);
                into.extend_from_slice(buckets.as_flattened());
                put_option(&mut into, yours.as_ref(), |into, yours| yours.put(into));
            }
            Self::Fetch { origin, have } => {
                into.push(3);
                origin.put(&mut into);
                put_option(&mut into, have.as_ref(), |into, have| have.put(into));
            }
            Self::Permit(word) => {
                into.push(4);
                put_octets(&mut into, word);
            }
        }
        into
    }

    /// # Errors
    /// When it is cut off, too long, or of a kind that is not known here.
    pub fn read(octets: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(octets);
        let request = match reader.octet("kind of request")? {
            1 => Self::Push { spread: reader.flag("spread")?, offer: read_offer(&mut reader)? },
            2 => {
                let mut buckets = Box::new([[0; 8]; BUCKETS]);
                for bucket in buckets.iter_mut() {
                    *bucket = reader.array("bucket")?;
                }
                Self::Compare { buckets, yours: read_option(&mut reader, Known::read)? }
            }
            3 => {
                let origin = Origin::read(&mut reader)?;
                Self::Fetch { origin, have: read_option(&mut reader, Point::read)? }
            }
            4 => Self::Permit(reader.octets(MOST_MESSAGE, "permit")?.to_vec()),
            _ => return Err(Malformed("kind of request")),
        };
        reader.finish("end of the request")?;
        Ok(request)
    }
}

/// What is known of the origins in the groups that differ: the answer to a comparison.
#[must_use]
pub fn put_known(known: &[(Origin, Known)]) -> Vec<u8> {
    let mut into = Vec::new();
    put_number(&mut into, known.len() as u64);
    for (origin, known) in known {
        origin.put(&mut into);
        known.put(&mut into);
    }
    into
}

/// # Errors
/// When it is cut off or tells of too many.
pub fn read_known(octets: &[u8]) -> Result<Vec<(Origin, Known)>, Malformed> {
    let mut reader = Reader::new(octets);
    let count = reader.up_to(MOST_ORIGINS, "number of origins")?;
    let mut known = Vec::new();
    for _ in 0..count {
        known.push((Origin::read(&mut reader)?, Known::read(&mut reader)?));
    }
    reader.finish("end of the answer")?;
    Ok(known)
}

/// How the answer to a fetch begins; blocks of rows follow a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Too many ask; come back after this.
    Busy(Duration),
    /// We have no more than you.
    Nothing,
    /// Rows after a version, or all.
    Rows { head: Box<Signed>, after: Option<u64> },
}

impl Answer {
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let mut into = Vec::new();
        match self {
            Self::Busy(time) => {
                into.push(0);
                put_number(&mut into, time.as_millis() as u64);
            }
            Self::Nothing => into.push(1),
            Self::Rows { head, after } => {
                into.push(2);
                put_option(&mut into, after.as_ref(), |into, after| put_number(into, *after));
                head.put(&mut into);
            }
        }
        into
    }

    /// # Errors
    /// When it is cut off or too long.
    pub fn read(octets: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(octets);
        let answer = match reader.octet("kind of answer")? {
            0 => Self::Busy(Duration::from_millis(reader.up_to(600_000, "time to wait")? as u64)),
            1 => Self::Nothing,
            2 => {
                let after = read_option(&mut reader, |reader| reader.number("version"))?;
                Self::Rows { head: Box::new(Signed::read(&mut reader)?), after }
            }
            _ => return Err(Malformed("kind of answer")),
        };
        reader.finish("end of the answer")?;
        Ok(answer)
    }
}

/// Rows as packed blocks, each: octets unpacked, a short hash of them, and the packed octets after their number.
#[must_use]
pub fn pack<'a>(rows: &mut std::iter::Peekable<impl Iterator<Item = &'a Arc<Row>>>) -> Option<Vec<u8>> {
    rows.peek()?;
    let mut plain = Vec::with_capacity(BLOCK);
    while let Some(row) = rows.next_if(|row| plain.is_empty() || plain.len() + row.weight() <= BLOCK) {
        row.put(&mut plain);
    }
    let mut block = Vec::new();
    put_number(&mut block, plain.len() as u64);
    block.extend_from_slice(&blake3::hash(&plain).as_bytes()[..16]);
    block.extend_from_slice(&lz4_flex::block::compress(&plain));
    Some(block)
}

/// The rows of a block, each told to `each`.
///
/// # Errors
/// When it is longer than it may be, or not what was packed.
pub fn unpack(block: &[u8], mut each: impl FnMut(Row)) -> Result<(), Malformed> {
    let mut reader = Reader::new(block);
    let length = reader.up_to(BLOCK, "length of a block")?;
    let hash: [u8; 16] = reader.array("hash of a block")?;
    let mut plain = vec![0; length];
    let unpacked = lz4_flex::block::decompress_into(reader.rest(), &mut plain);
    if unpacked.ok() != Some(length) || blake3::hash(&plain).as_bytes()[..16] != hash {
        return Err(Malformed("block"));
    }
    let mut reader = Reader::new(&plain);
    while !reader.is_empty() {
        each(Row::read(&mut reader)?);
    }
    Ok(())
}

/// Whether rows are few enough to be pushed.
#[must_use]
pub fn is_pushable(rows: &[Arc<Row>]) -> bool {
    rows.len() <= MOST_PUSHED && rows.iter().map(|row| row.weight()).sum::<usize>() <= MOST_PUSHED_OCTETS
}

fn put_offer(into: &mut Vec<u8>, offer: &Offer) {
    offer.head.put(into);
    put_option(into, offer.after.as_ref(), |into, after| put_number(into, *after));
    put_number(into, offer.rows.len() as u64);
    offer.rows.iter().for_each(|row| row.put(into));
}

fn read_offer(reader: &mut Reader<'_>) -> Result<Offer, Malformed> {
    let head = Signed::read(reader)?;
    let after = read_option(reader, |reader| reader.number("version"))?;
    let count = reader.up_to(MOST_PUSHED, "number of rows")?;
    let rows = (0..count).map(|_| Row::read(reader).map(Arc::new)).collect::<Result<_, _>>()?;
    Ok(Offer { head, after, rows })
}

fn put_option<T>(into: &mut Vec<u8>, value: Option<&T>, put: impl Fn(&mut Vec<u8>, &T)) {
    into.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(into, value);
    }
}

fn read_option<T>(
    reader: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    if reader.flag("option")? { read(reader).map(Some) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::super::head::tests::head;
    use super::super::record::tests::row;
    use super::*;
    use proptest::prelude::*;

    fn signed() -> Signed {
        Signed { head: head(3, 9), certificate: vec![4; 300].into(), signature: [5; 64] }
    }

    proptest! {
        #[test]
        fn rows_come_out_of_blocks_as_they_went_in(rows in prop::collection::vec(row(), 0..50)) {
            let rows: Vec<_> = rows.into_iter().map(Arc::new).collect();
            let mut unpacked = Vec::new();
            let mut rest = rows.iter().peekable();
            while let Some(block) = pack(&mut rest) {
                unpack(&block, |row| unpacked.push(Arc::new(row))).unwrap();
            }
            prop_assert_eq!(unpacked, rows);
        }

        #[test]
        fn a_request_is_read_as_it_was_written(
            rows in prop::collection::vec(row(), 0..5),
            spread: bool,
            after: Option<u64>,
        ) {
            let rows = rows.into_iter().map(Arc::new).collect();
            let push = Request::Push { spread, offer: Offer { head: signed(), after, rows } };
            let known = Known { point: Point::new(2, 7), floor: 3, digest: [8; 16] };
            let buckets = Box::new([[7; 8]; BUCKETS]);
            for request in [
                push,
                Request::Compare { buckets, yours: Some(known) },
                Request::Fetch { origin: Origin::new("gru1").unwrap(), have: None },
                Request::Permit(vec![1, 2, 3]),
            ] {
                let octets = request.octets();
                prop_assert_eq!(Request::read(&octets), Ok(request));
                prop_assert!(Request::read(&octets[..octets.len() - 1]).is_err());
            }
        }

        #[test]
        fn garbage_is_refused_quietly(octets: Vec<u8>) {
            let _ = (Request::read(&octets), Answer::read(&octets), read_known(&octets));
            let _ = unpack(&octets, |_| ());
        }
    }

    #[test]
    fn a_block_that_says_it_is_huge_is_not_unpacked() {
        let mut block = Vec::new();
        put_number(&mut block, u64::from(u32::MAX));
        block.extend_from_slice(&[0; 64]);
        assert_eq!(unpack(&block, |_| ()), Err(Malformed("length of a block")));
    }

    #[test]
    fn answers_are_read_as_they_were_written() {
        for answer in [
            Answer::Busy(Duration::from_millis(250)),
            Answer::Nothing,
            Answer::Rows { head: Box::new(signed()), after: Some(7) },
        ] {
            assert_eq!(Answer::read(&answer.octets()), Ok(answer));
        }
    }
}
