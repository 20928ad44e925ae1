//! Keeps the anycast addresses: bound before the first announcement, gone only after the withdrawal.
//!
//! On a thread of its own, because a message to the kernel waits for whoever else changes interfaces, for seconds at
//! worst, and the decision must not.
#![expect(clippy::disallowed_methods, reason = "driver: owns the netlink socket of the addresses")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::AnnounceError;
use crate::observe::status::AddressStatus;
use crate::supervise::task::Task;
use crate::sys::address::{Addresses, Found, Owner};

/// How often bound addresses are looked at, and missing ones tried again.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often leftover addresses are looked at besides.
const LEFTOVER_EVERY: Duration = Duration::from_secs(1);
/// How long an address waits for its prefix's withdrawal to be written to every neighbor. A neighbor that takes
/// nothing for this long is as good as gone.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(3);
/// Netlink answers in microseconds, or when somebody else lets go of the kernel's lock.
const NETLINK_PATIENCE: Duration = Duration::from_secs(1);

/// An address on the device of this name.
pub type Place = (IpAddr, String);
/// What became of every address that is needed.
pub type Bound = BTreeMap<Place, AddressStatus>;

/// The addresses that the decision needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needed {
    pub places: BTreeSet<Place>,
    /// Others may go once this revision of the wanted set is written to every neighbor.
    pub revision: u64,
}

/// The ends of its channels.
pub struct Ends {
    pub needed: watch::Receiver<Arc<Needed>>,
    pub bound: watch::Sender<Arc<Bound>>,
    /// Up to which revision the wanted set is written to every established neighbor.
    pub delivered: watch::Receiver<u64>,
}

/// Binds and releases.
pub struct AddressKeeper {
    ends: Ends,
    addresses: Addresses,
    status: Bound,
    /// Addresses to take away once this revision is delivered, or at the deadline.
    leftover: Vec<(u64, Instant, Place)>,
    _messages: Task<()>,
}

impl AddressKeeper {
    /// Opens its socket; it must be made in the runtime that it runs in.
    ///
    /// # Errors
    /// [`AnnounceError::Netlink`].
    pub fn new(ends: Ends) -> Result<Self, AnnounceError> {
        let (addresses, messages) = Addresses::open().map_err(AnnounceError::Netlink)?;
        let messages = Task::spawn("netlink", messages);
        Ok(Self { ends, addresses, status: Bound::new(), leftover: Vec::new(), _messages: messages })
    }

    /// Keeps the addresses until `stop`, which comes after the withdrawal; then takes away those that are ours.
    ///
    /// # Errors
    /// [`AnnounceError::Gone`] when nobody says any more what is needed.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), AnnounceError> {
        let kept = self.keep(&stop).await;
        match timeout(NETLINK_PATIENCE, self.addresses.release_all()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!("an anycast address could not be taken away: {error}"),
            Err(_) => warn!("anycast addresses could not be taken away in time"),
        }
        kept
    }

    async fn keep(&mut self, stop: &CancellationToken) -> Result<(), AnnounceError> {
        let mut look = interval(LOOK_EVERY);
        let mut leftover = interval(LEFTOVER_EVERY);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = self.ends.needed.changed() => {
                    // After the decision's end its addresses stay for the stop to take away.
                    if changed.is_err() {
                        stop.cancelled().await;
                        return Ok(());
                    }
                    self.follow().await;
                }
                changed = self.ends.delivered.changed(), if !self.leftover.is_empty() => {
                    changed.map_err(|_| AnnounceError::Gone("deliveries"))?;
                    self.release_leftover().await;
                }
                _ = leftover.tick(), if !self.leftover.is_empty() => self.release_leftover().await,
                _ = look.tick() => self.bind().await,
            }
        }
    }

    async fn follow(&mut self) {
        let needed = self.ends.needed.borrow_and_update().clone();
        let deadline = Instant::now() + DELIVERY_PATIENCE;
        let gone: Vec<_> =
            self.status.keys().filter(|place| !needed.places.contains(place)).cloned().collect();
        for place in gone {
            self.status.remove(&place);
            self.leftover.push((needed.revision, deadline, place));
        }
        self.leftover.retain(|(_, _, place)| !needed.places.contains(place));
        self.bind().await;
        self.release_leftover().await;
    }

    /// Takes addresses away whose prefixes are gone from the configuration and from every neighbor.
    async fn release_leftover(&mut self) {
        let delivered = *self.ends.delivered.borrow_and_update();
        let now = Instant::now();
        for (revision, deadline, place) in std::mem::take(&mut self.leftover) {
            if delivered < revision && now < deadline {
                self.leftover.push((revision, deadline, place));
                continue;
            }
            let (address, device) = &place;
            let released = timeout(NETLINK_PATIENCE, self.addresses.release(*address, device)).await;
            match released {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    warn!(%address, device, "an anycast address could not be taken away: {error}");
                }
                Err(_) => warn!(%address, device, "an anycast address could not be taken away in time"),
            }
        }
    }

    /// Binds every needed address that is not bound yet, and looks after the others: one look at the
    /// kernel's table for all of them.
    async fn bind(&mut self) {
        let needed = self.ends.needed.borrow().clone();
        if needed.places.is_empty() {
            self.publish();
            return;
        }
        let found = match timeout(NETLINK_PATIENCE, self.addresses.look()).await {
            Ok(Ok(found)) => found,
            failed => {
                // Not knowing is no reason to withdraw what was bound a moment ago.
                let why = failed.map_or_else(
                    |_| "no answer in time".to_owned(),
                    |e| e.err().map_or_else(String::new, |e| e.to_string()),
                );
                warn!("the kernel's addresses cannot be read at the moment: {why}");
                return;
            }
        };
        for place in &needed.places {
            self.bind_one(place, &found).await;
        }
        self.publish();
    }

    async fn bind_one(&mut self, place: &Place, found: &Found) {
        let (address, device) = place;
        let bound = timeout(NETLINK_PATIENCE, self.addresses.bind(*address, device, found)).await;
        let bound = match bound {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("the kernel did not answer in time".to_owned()),
        };
        let state = match &bound {
            Ok(Owner::Ours) => "ours",
            Ok(Owner::Operator) => "operator",
            Err(_) => "missing",
        };
        let status = AddressStatus {
            address: address.to_string(),
            device: device.clone(),
            state: state.to_owned(),
            error: bound.as_ref().err().cloned(),
        };
        if self.status.get(place).is_none_or(|old| old.state != status.state) {
            match &bound {
                Ok(_) => info!(%address, device, owner = state, "anycast address is bound"),
                Err(error) => error!(%address, device, "anycast address is not bound: {error}"),
            }
        }
        self.status.insert(place.clone(), status);
    }

    fn publish(&self) {
        self.ends.bound.send_if_modified(|old| {
            let changed = **old != self.status;
            if changed {
                *old = Arc::new(self.status.clone());
            }
            changed
        });
    }
}
