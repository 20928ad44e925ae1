//! What holds for the reader of answers to a fetch, whatever it is given.

use edgeproxy::replication::frame::Answer;

/// # Panics
/// When it does not hold.
pub fn hold(octets: &[u8]) {
    match Answer::read(octets) {
        Ok(answer) => {
            assert_eq!(answer.octets(), octets, "what is said has one form");
            assert!(Answer::read(&[octets, &[0]].concat()).is_err(), "nothing may follow");
            assert!(Answer::read(&octets[..octets.len() - 1]).is_err(), "nothing may be missing");
            match answer {
                Answer::Busy(time) => assert!(time.as_secs() <= 600, "nobody waits for longer"),
                Answer::Nothing => {}
                Answer::Rows { head, .. } => assert!(head.certificate.len() <= 2_048),
            }
        }
        Err(error) => assert!(error.to_string().starts_with("malformed: ")),
    }
}
