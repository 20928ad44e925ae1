//! CRC32c, with which a header of version 2 may be protected (RFC 9260, appendix A).

/// The polynomial of Castagnoli, its bits in reverse.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// What becomes of each octet.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < table.len() {
        let mut rest = octet as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 { rest >> 1 ^ POLYNOMIAL } else { rest >> 1 };
            bit += 1;
        }
        table[octet] = rest;
        octet += 1;
    }
    table
};

/// The checksum of the parts, one after the other.
pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    let octets = parts.iter().copied().flatten();
    !octets.fold(!0, |sum, octet| TABLE[usize::from(sum as u8 ^ octet)] ^ sum >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_checksums() {
        // RFC 3720 §B.4, and the check value of every catalogue.
        let ascending: Vec<u8> = (0..32).collect();
        for (octets, sum) in [
            (&[0; 32][..], 0x8A91_36AA),
            (&[0xFF; 32], 0x62A8_AB43),
            (&ascending, 0x46DD_794E),
            (b"123456789", 0xE306_9283),
            (b"", 0),
        ] {
            assert_eq!(crc32c(&[octets]), sum);
            let (left, right) = octets.split_at(octets.len() / 3);
            assert_eq!(crc32c(&[left, &[], right]), sum);
        }
    }
}
