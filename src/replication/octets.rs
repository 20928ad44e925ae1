//! Octets in and out, within bounds: what every decoder of this room stands on.

/// What was read does not mean anything; the words say which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

/// Reads from the front of some octets; it never goes past their end, and takes no memory.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[must_use]
    pub fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// What is not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// So many octets; `what` is what they would have been.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed(what))?;
        self.rest = rest;
        Ok(taken)
    }

    /// # Errors
    /// When there are fewer.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        self.take(N, what)?.try_into().map_err(|_| Malformed(what))
    }

    /// # Errors
    /// At the end.
    pub fn octet(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.array::<1>(what).map(|[octet]| octet)
    }

    /// # Errors
    /// When it is neither 0 nor 1.
    pub fn flag(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.octet(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed(what)),
        }
    }

    /// # Errors
    /// At the end.
    pub fn short(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// A number in groups of seven bits, the lowest first; the shortest form only, so that a number has one.
    ///
    /// # Errors
    /// When it is longer than it needs to be, or than 64 bits.
    pub fn number(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let octet = self.octet(what)?;
            let bits = u64::from(octet & 0x7f);
            if bits << shift >> shift != bits || (octet == 0 && shift > 0) {
                return Err(Malformed(what));
            }
            number |= bits << shift;
            if octet < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed(what))
    }

    /// A number that is no more than `most`.
    ///
    /// # Errors
    /// When it is more, or none.
    pub fn up_to(&mut self, most: usize, what: &'static str) -> Result<usize, Malformed> {
        let number = self.number(what)?;
        usize::try_from(number).ok().filter(|number| *number <= most).ok_or(Malformed(what))
    }

    /// Octets after their number, which is no more than `most`.
    ///
    /// # Errors
    /// When they are more, or not all there.
    pub fn octets(&mut self, most: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let count = self.up_to(most, what)?;
        self.take(count, what)
    }

    /// # Errors
    /// When something is left.
    pub fn finish(self, what: &'static str) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed(what)) }
    }
}

/// Writes a number as [`Reader::number`] reads it: one to ten octets.
pub fn put_number(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// Writes octets after their number.
pub fn put_octets(into: &mut Vec<u8>, octets: &[u8]) {
    put_number(into, octets.len() as u64);
    into.extend_from_slice(octets);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_has_one_form() {
        for (octets, number) in [
            (&[0u8][..], Some(0)),
            (&[0x7f], Some(127)),
            (&[0x80, 1], Some(128)),
            (&[0x80, 0], None),
            (&[0x80], None),
            (&[255, 255, 255, 255, 255, 255, 255, 255, 255, 1], Some(u64::MAX)),
            (&[255, 255, 255, 255, 255, 255, 255, 255, 255, 2], None),
            (&[255, 255, 255, 255, 255, 255, 255, 255, 255, 129, 0], None),
        ] {
            assert_eq!(Reader::new(octets).number("number").ok(), number, "{octets:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u64, octets: Vec<u8>) {
            let mut written = Vec::new();
            put_number(&mut written, number);
            put_octets(&mut written, &octets);
            let mut reader = Reader::new(&written);
            prop_assert_eq!(reader.number("number"), Ok(number));
            prop_assert_eq!(reader.octets(octets.len(), "octets"), Ok(&octets[..]));
            prop_assert_eq!(reader.finish("end"), Ok(()));
            if let Some(less) = octets.len().checked_sub(1) {
                let mut reader = Reader::new(&written);
                let _ = reader.number("number");
                prop_assert!(reader.octets(less, "octets").is_err());
            }
        }
    }
}
