//! What holds for the reader of answers to a comparison, whatever it is given.

use edgeproxy::replication::frame::{put_known, read_known};
use edgeproxy::replication::version::MOST_ORIGINS;

/// # Panics
/// When it does not hold.
pub fn hold(octets: &[u8]) {
    match read_known(octets) {
        Ok(known) => {
            assert!(known.len() <= MOST_ORIGINS);
            assert_eq!(put_known(&known), octets, "what is said has one form");
            assert!(read_known(&[octets, &[0]].concat()).is_err(), "nothing may follow");
            assert!(read_known(&octets[..octets.len() - 1]).is_err(), "nothing may be missing");
        }
        Err(error) => assert!(error.to_string().starts_with("malformed: ")),
    }
}
