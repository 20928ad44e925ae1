//! Tells operators in time that the certificate of this POP ends.

use tracing::{error, warn};

use super::Replicator;
use super::show::days;

/// From so many days before the end on, once a day.
const SOON: i64 = 14;

impl Replicator {
    pub(super) fn remind(&mut self) {
        let left = self.identity.expires().map(days).filter(|left| *left < SOON);
        if left == self.reminded {
            return;
        }
        self.reminded = left;
        let pop = self.replica.origin();
        let remedy = format!(
            "`edgeproxy fleet invite {pop}` where the authority is and `edgeproxy fleet join --force` here renew it"
        );
        match left {
            None => {}
            Some(..0) => {
                error!("the certificate of this POP has ended, and nobody connects to it anew: {remedy}");
            }
            Some(left) => warn!("the certificate of this POP ends in {left} days: {remedy}"),
        }
    }
}
