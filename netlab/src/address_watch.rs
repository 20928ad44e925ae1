//! When addresses appear on and vanish from the interfaces of a namespace, as the kernel tells it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::Socket;

use crate::moment::Moment;
use crate::sys::packet;

const POLL: Duration = Duration::from_millis(20);
/// Changes kept; a lab makes a few hundred.
const MAX_CHANGES: usize = 100_000;

// linux/rtnetlink.h and linux/if_addr.h.
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const NLMSG_HEADER: usize = 16;
const IFADDR_HEADER: usize = 8;

/// One address bound or unbound. An address may be told bound more than once: its flags changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// When it was read here: the kernel puts no time on it, so this is at the event or a little after.
    pub at: Moment,
    pub address: IpAddr,
    pub bound: bool,
    /// The interface's index.
    pub interface: u32,
}

/// A watch on a thread of its own. Dropping it stops it.
#[derive(Debug)]
pub struct AddressWatch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    changes: Mutex<Vec<Change>>,
    grown: Condvar,
    stop: AtomicBool,
}

impl AddressWatch {
    /// Watches the calling thread's network namespace from this call on.
    pub fn start() -> io::Result<AddressWatch> {
        let socket = packet::address_events()?;
        socket.set_read_timeout(Some(POLL))?;
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("address-watch".to_owned())
            .spawn(move || watch(&for_thread, &socket))?;
        Ok(AddressWatch { shared, thread: Some(thread) })
    }

    pub fn changes(&self) -> Vec<Change> {
        self.shared.lock().clone()
    }

    /// Waits for the first change at `after` or later of this address in this direction.
    pub fn wait(&self, address: IpAddr, bound: bool, after: Moment, timeout: Duration) -> Option<Change> {
        let until = Moment::now() + timeout;
        let mut changes = self.shared.lock();
        loop {
            let wanted =
                |change: &&Change| change.address == address && change.bound == bound && change.at >= after;
            if let Some(found) = changes.iter().find(wanted) {
                return Some(*found);
            }
            let left = until.after(Moment::now())?;
            changes = self.shared.grown.wait_timeout(changes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes what was already told, ends the thread, and hands all changes over.
    pub fn stop(mut self) -> Vec<Change> {
        self.end();
        std::mem::take(&mut *self.shared.lock())
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for AddressWatch {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watch(shared: &Shared, socket: &Socket) {
    let mut buffer = vec![0u8; 64 << 10];
    loop {
        let stopping = shared.stop.load(Ordering::Acquire);
        match packet::receive(socket, &mut buffer) {
            Ok(received) => {
                let at = Moment::now();
                let mut changes = shared.lock();
                let room = MAX_CHANGES.saturating_sub(changes.len());
                changes.extend(parse(at, &buffer[..received.len]).into_iter().take(room));
                drop(changes);
                shared.grown.notify_all();
            }
            Err(_) if stopping => return,
            // A timeout, or an overrun (ENOBUFS): the next event is told again.
            Err(_) => {}
        }
    }
}

/// All address changes in a batch of netlink messages; anything else is stepped over.
fn parse(at: Moment, mut bytes: &[u8]) -> Vec<Change> {
    let mut changes = Vec::new();
    while bytes.len() >= NLMSG_HEADER {
        let length = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        let Some(body) = bytes.get(NLMSG_HEADER..length) else { break };
        if matches!(kind, RTM_NEWADDR | RTM_DELADDR)
            && let Some((interface, address)) = address(body)
        {
            changes.push(Change { at, address, bound: kind == RTM_NEWADDR, interface });
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    changes
}

fn address(body: &[u8]) -> Option<(u32, IpAddr)> {
    let (header, mut attributes) = body.split_at_checked(IFADDR_HEADER)?;
    let interface = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    let mut found = None;
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]);
        let value = attributes.get(4..length)?;
        let read = match *value {
            [a, b, c, d] => Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
            _ => <[u8; 16]>::try_from(value).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
        };
        // On a point-to-point link IFA_ADDRESS is the other end: IFA_LOCAL, where given, is the truth.
        if kind == IFA_LOCAL || (kind == IFA_ADDRESS && found.is_none()) {
            found = read;
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((interface, found?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 16..120), length in 0u32..140) {
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            bytes[4..6].copy_from_slice(&RTM_NEWADDR.to_ne_bytes());
            let _ = parse(Moment(1), &bytes);
        }
    }
}
