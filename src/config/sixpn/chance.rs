//! Whether 40 bits look as if somebody had chosen them.

/// What people spell in hex.
const WORDS: [u16; 24] = [
    0xabba, 0xabcd, 0xacdc, 0xb00b, 0xb00c, 0xbabe, 0xbade, 0xbead, 0xbeef, 0xc0de, 0xc0d3, 0xcafe, 0xd00d,
    0xdada, 0xdead, 0xdeaf, 0xdeed, 0xf00d, 0xfab5, 0xface, 0xfade, 0xfeed, 0x1337, 0x4242,
];

/// Whether a global ID (RFC 4193 §3.2, 40 bits) is most likely no random one: three different digits or fewer, or
/// nothing but small numbers, steps and words in both of the groups that stand between colons. One random ID in
/// twenty thousand or so is like this by chance.
pub(super) fn is_unlikely(id: u64) -> bool {
    let digits: std::collections::BTreeSet<u64> = (0..10).map(|place| id >> (4 * place) & 0xf).collect();
    digits.len() <= 3 || (is_tame((id >> 16) as u16) && is_tame(id as u16))
}

fn is_tame(group: u16) -> bool {
    let digits = [12, 8, 4, 0].map(|place| (group >> place) & 0xf);
    let steps = |by: u16| digits.windows(2).all(|pair| (pair[0] + by) & 0xf == pair[1]);
    // 15 steps up are one down.
    group < 0x100 || steps(0) || steps(1) || steps(15) || WORDS.contains(&group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_choose_is_seen() {
        for id in [
            0,
            1,
            0xff_ffff_ffff,
            0x00_dead_beef,
            0xca_0000_0001,
            0x12_3456_789a,
            0x00_1234_5678,
            0xaa_bbbb_cccc,
            0xab_abab_abab,
            0x01_0010_0001,
            0x98_7654_3210,
        ] {
            assert!(is_unlikely(id), "{id:010x}");
        }
        for id in
            [0x5a_1c7e_92b4, 0x00_1c7e_92b4, 0x5a_dead_92b4, 0x5a_1c7e_0001, 0x00_0000_92b4 | 0x5c_1700_0000]
        {
            assert!(!is_unlikely(id), "{id:010x}");
        }
    }

    #[test]
    fn few_random_ones_are_refused() {
        // Groups: of all 65,536 so many are tame, and both must be.
        let tame = (0..=u16::MAX).filter(|group| is_tame(*group)).count();
        assert!(tame < 400, "{tame}");
    }
}
