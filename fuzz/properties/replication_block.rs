//! What holds for the reader of packed rows, whatever it is given.

use std::sync::Arc;

use edgeproxy::replication::frame::{BLOCK, MOST_PACKED, pack, unpack};
use edgeproxy::replication::octets::put_number;
use edgeproxy::replication::record::Row;

/// # Panics
/// When it does not hold.
pub fn hold(octets: &[u8]) {
    if let Some(rows) = rows(octets) {
        let plain: usize = rows.iter().map(|row| written(row).len()).sum();
        assert!(plain <= BLOCK, "unpacked more than was allowed");
        again(&rows);
    }
    // As the sender of a hash that fits could have it: what is inside is anything.
    if octets.len() <= BLOCK
        && let Some(rows) = rows(&packed(octets))
    {
        let plain: Vec<u8> = rows.iter().flat_map(|row| written(row)).collect();
        assert_eq!(plain, octets, "what is said has one form");
        again(&rows);
    }
}

fn rows(block: &[u8]) -> Option<Vec<Arc<Row>>> {
    let mut rows = Vec::new();
    match unpack(block, |row| rows.push(Arc::new(row))) {
        Ok(()) => Some(rows),
        Err(error) => {
            assert!(error.to_string().starts_with("malformed: "));
            None
        }
    }
}

/// They can be passed on.
fn again(sent: &[Arc<Row>]) {
    let (mut rest, mut received) = (sent.iter().peekable(), Vec::new());
    while let Some(block) = pack(&mut rest) {
        assert!(block.len() <= MOST_PACKED);
        received.extend(rows(&block).expect("it was packed here"));
    }
    assert_eq!(received, sent);
}

fn written(row: &Row) -> Vec<u8> {
    let mut octets = Vec::new();
    row.put(&mut octets);
    octets
}

fn packed(plain: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    put_number(&mut block, plain.len() as u64);
    block.extend_from_slice(&blake3::hash(plain).as_bytes()[..16]);
    block.extend_from_slice(&lz4_flex::block::compress(plain));
    block
}
