//! Questions to a list of events: when was a prefix first announced, first lost, how often was it touched.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{Event, Kind};
use crate::moment::Moment;

/// Events in the order in which they were seen.
#[derive(Debug, Clone, Copy)]
pub struct Timeline<'a>(&'a [Event]);

impl<'a> Timeline<'a> {
    pub fn new(events: &'a [Event]) -> Timeline<'a> {
        Timeline(events)
    }

    /// The first UPDATE of `from` (anybody, if `None`) that announces the prefix, at `after` or later.
    pub fn first_announce(
        &self,
        prefix: IpNetwork,
        from: Option<IpAddr>,
        after: Moment,
    ) -> Option<&'a Event> {
        self.sent(from, after, Moment::MAX).find(|event| event.announces(prefix))
    }

    /// The first UPDATE that withdraws it.
    pub fn first_withdraw(
        &self,
        prefix: IpNetwork,
        from: Option<IpAddr>,
        after: Moment,
    ) -> Option<&'a Event> {
        self.sent(from, after, Moment::MAX).find(|event| event.withdraws(prefix))
    }

    /// The first thing that takes the prefix away: a withdrawal, a NOTIFICATION, or the end of a connection.
    pub fn first_loss(&self, prefix: IpNetwork, from: Option<IpAddr>, after: Moment) -> Option<&'a Event> {
        self.sent(from, after, Moment::MAX).find(|event| {
            event.withdraws(prefix) || matches!(event.kind, Kind::Notification(_) | Kind::Closed { .. })
        })
    }

    /// UPDATEs that announce or withdraw the prefix, in `[after, before)`.
    pub fn updates(&self, prefix: IpNetwork, from: Option<IpAddr>, after: Moment, before: Moment) -> usize {
        self.sent(from, after, before)
            .filter(|event| event.announces(prefix) || event.withdraws(prefix))
            .count()
    }

    /// All that `from` (anybody, if `None`) sent in `[after, before)`.
    pub fn sent(
        &self,
        from: Option<IpAddr>,
        after: Moment,
        before: Moment,
    ) -> impl Iterator<Item = &'a Event> {
        self.0.iter().filter(move |event| {
            event.at >= after && event.at < before && from.is_none_or(|from| event.from == from)
        })
    }
}
