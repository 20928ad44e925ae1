//! What holds for the reader of signed heads, whatever it is given.

use edgeproxy::replication::head::{MOST_CERTIFICATE, MOST_LINEAGE, Signed};
use edgeproxy::replication::octets::Reader;
use edgeproxy::replication::version::Point;

/// # Panics
/// When it does not hold.
pub fn hold(octets: &[u8]) {
    let mut reader = Reader::new(octets);
    let signed = match Signed::read(&mut reader) {
        Ok(signed) => signed,
        Err(error) => return assert!(error.to_string().starts_with("malformed: ")),
    };
    let read = octets.len() - reader.rest().len();
    let mut said = Vec::new();
    signed.put(&mut said);
    assert_eq!(said, octets[..read], "what is said has one form");
    assert!(Signed::read(&mut Reader::new(&octets[..read - 1])).is_err(), "nothing may be missing");

    let head = &signed.head;
    assert!(head.lineage.len() <= MOST_LINEAGE && signed.certificate.len() <= MOST_CERTIFICATE);
    assert_ne!(head.signed_text("example"), head.signed_text("another"), "signed for one fleet");
    // Whatever it says of itself, it can be asked.
    let far = Point::new(u64::MAX, u64::MAX);
    for point in head.lineage.iter().copied().chain([head.point, Point::default(), far]) {
        if head.continues(point) {
            assert!(point <= head.point && point.version >= head.floor);
            assert!(head.holds(point), "it continues what it never was");
        }
    }
    assert!(head.holds(head.point));
    assert!(head.parted(head) <= head.point.version.max(furthest(&head.lineage)));
}

fn furthest(lineage: &[Point]) -> u64 {
    lineage.iter().map(|end| end.version).max().unwrap_or(0)
}
