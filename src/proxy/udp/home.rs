//! Where a flow lives: its backend, its place there, and the connected socket that it has to itself.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use crate::catalog::backend::{Backend, Verdict};
use crate::catalog::live::{Live, Place};
use crate::catalog::service::Service;
use crate::supervise::local::LocalTask;
use crate::sys::stream as kernel;

/// A flow's home. Dropping it closes the socket and gives the place back.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) tenancy: Tenancy,
    pub(super) up: u64,
    pub(super) down: u64,
    /// The backend has answered here.
    pub(super) is_proven: bool,
    /// What the backend is told before the next datagram.
    pub(super) preface: Option<Vec<u8>>,
    socket: Rc<AsyncFd<OwnedFd>>,
    _place: Place,
    _replies: LocalTask,
}

impl Home {
    pub(super) fn new(
        backend: &Backend,
        index: usize,
        place: Place,
        socket: Rc<AsyncFd<OwnedFd>>,
        replies: LocalTask,
        preface: Option<Vec<u8>>,
    ) -> Self {
        backend.live.carried.connections.fetch_add(1, Ordering::Relaxed);
        let tenancy = Tenancy::new(backend, index);
        Self { tenancy, up: 0, down: 0, is_proven: false, preface, socket, _place: place, _replies: replies }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let carried = &self.tenancy.live.carried;
        carried.up.fetch_add(self.up, Ordering::Relaxed);
        carried.down.fetch_add(self.down, Ordering::Relaxed);
    }
}

/// Which backend it is, over views that come and go.
#[derive(Debug)]
pub(super) struct Tenancy {
    live: Arc<Live>,
    index: usize,
    /// It was down when it was chosen: too few were not (panic threshold).
    chosen_down: bool,
}

impl Tenancy {
    fn new(backend: &Backend, index: usize) -> Self {
        let chosen_down = backend.known.verdict == Verdict::Down;
        Self { live: Arc::clone(&backend.live), index, chosen_down }
    }

    /// Its number among all backends of the process.
    pub(super) fn serial(&self) -> u32 {
        self.live.serial()
    }

    /// Where the flow lives among the backends of the snapshot in which it was last looked at.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Whether the flow stays, as things are now. One that drains, or is ejected, keeps what it has; whoever was sent
    /// away goes by itself.
    pub(super) fn lasts(&mut self, service: &Service) -> bool {
        let is_it = |backend: &Backend| Arc::ptr_eq(&backend.live, &self.live);
        // Almost always where it was.
        if !service.backends.get(self.index).is_some_and(is_it) {
            match service.backends.iter().position(is_it) {
                Some(index) => self.index = index,
                None => return false,
            }
        }
        let is_down = service.backends[self.index].known.verdict == Verdict::Down;
        self.chosen_down &= is_down;
        !is_down || self.chosen_down
    }
}

/// A socket that speaks with one backend only, so that it hears what ICMP says about it. Nothing is sent yet.
///
/// # Errors
/// The kernel's: no descriptor, no port, no route.
pub(super) fn connect(to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Whether nobody but ourselves is to blame. Without a port to send from, connect(2) says EAGAIN for datagrams.
pub(super) fn is_starved(error: &io::Error) -> bool {
    kernel::is_starved(error) || error.kind() == io::ErrorKind::WouldBlock
}

/// Whether ICMP, or the lack of a route, says that the backend is not there.
pub(super) fn is_away(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::backend::Known;

    fn backend(id: &str, verdict: Verdict) -> Backend {
        Backend {
            id: id.into(),
            address: ([192, 0, 2, 1], 53).into(),
            pop: None,
            via_ingress: false,
            region: "".into(),
            country: None,
            far: 0,
            weight: 2,
            soft_limit: 100,
            hard_limit: 0,
            drain: false,
            known: Known { verdict, ..Known::default() },
            live: Arc::default(),
        }
    }

    fn service(backends: Vec<Backend>) -> Service {
        Service { name: "dns".into(), forwarding: Default::default(), backends }
    }

    #[test]
    fn a_flow_leaves_when_its_backend_is_removed_or_goes_down() {
        let (a, b) = (backend("a", Verdict::Up), backend("b", Verdict::Up));
        let mut tenancy = Tenancy::new(&b, 1);
        let with = |verdict| {
            let known = Known { verdict, ..Known::default() };
            Backend { known, ..b.clone() }
        };
        assert!(tenancy.lasts(&service(vec![a.clone(), b.clone()])));
        // It moves to the front, and drains.
        let drains = Backend { drain: true, ..b.clone() };
        assert!(tenancy.lasts(&service(vec![drains, a.clone()])));
        assert!(tenancy.lasts(&service(vec![a.clone(), with(Verdict::Unproven)])));
        assert!(!tenancy.lasts(&service(vec![a.clone(), with(Verdict::Down)])));
        assert!(tenancy.lasts(&service(vec![a.clone(), b])));
        assert!(!tenancy.lasts(&service(vec![a])));
        // Another of the same id has other counts: it is not the same backend.
        assert!(!tenancy.lasts(&service(vec![backend("b", Verdict::Up)])));
    }

    #[test]
    fn one_that_was_chosen_though_it_was_down_is_kept_until_it_goes_down_again() {
        let mut it = backend("a", Verdict::Down);
        let mut tenancy = Tenancy::new(&it, 0);
        assert!(tenancy.lasts(&service(vec![it.clone()])));
        it.known.verdict = Verdict::Up;
        assert!(tenancy.lasts(&service(vec![it.clone()])));
        it.known.verdict = Verdict::Down;
        assert!(!tenancy.lasts(&service(vec![it])));
    }
}
