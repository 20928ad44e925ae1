//! What holds for the reader of requests, whatever it is given.

use edgeproxy::replication::frame::{MOST_MESSAGE, MOST_PUSHED, Request};
use edgeproxy::replication::merge::{Ledger, Offer};
use edgeproxy::replication::record::{MOST_BODY, MOST_KEY};

/// # Panics
/// When it does not hold.
pub fn hold(octets: &[u8]) {
    let request = match Request::read(octets) {
        Ok(request) => request,
        Err(error) => return assert!(error.to_string().starts_with("malformed: ")),
    };
    assert_eq!(request.octets(), octets, "what is said has one form");
    assert!(Request::read(&[octets, &[0]].concat()).is_err(), "nothing may follow");
    assert!(Request::read(&octets[..octets.len() - 1]).is_err(), "nothing may be missing");
    match request {
        Request::Push { offer, .. } => offered(&offer),
        Request::Permit(word) => assert!(word.len() <= MOST_MESSAGE),
        Request::Compare { .. } | Request::Fetch { .. } => {}
    }
}

/// Rows that nobody has judged yet: they are taken whole, or not at all.
fn offered(offer: &Offer) {
    assert!(offer.rows.len() <= MOST_PUSHED);
    for row in &offer.rows {
        assert!(row.key.key.len() <= MOST_KEY);
        assert!(row.value.as_ref().is_none_or(|value| value.body.len() <= MOST_BODY));
    }
    let (mut ledger, head) = (Ledger::default(), &offer.head.head);
    if ledger.take(offer.clone()).is_ok() {
        assert_eq!(ledger.size(), (head.rows, head.weight));
        assert_eq!(ledger.size().0, offer.rows.len() as u64);
        let told = ledger.lacking(&head.origin, None).map(|told| told.rows);
        assert_eq!(told.as_ref(), Some(&offer.rows), "what was taken is passed on");
        assert_eq!(ledger.take(offer.clone()), Ok(None), "it is known");
    } else {
        assert_eq!(ledger.size(), (0, 0), "nothing is left of what was refused");
        assert!(ledger.head(&head.origin).is_none());
    }
}
