//! One door of one worker: a listening socket, and the task that takes clients in.
#![expect(clippy::disallowed_methods, reason = "driver: owns a listening socket")]

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::connection;
use super::plan::Door;
use super::totals::Count;
use super::worker::Shared;
use crate::config::listen::SocketOptions;
use crate::supervise::local::{LocalTask, spawn_for_the_thread};
use crate::sys::stream as kernel;

/// Clients that are taken in before others have their turn.
const BURST: u32 = 64;
/// How long a door rests when the kernel has no descriptor or no memory for a client.
const REST: Duration = Duration::from_millis(20);
/// How long a client of `defer_accept` may stay silent in the kernel, in seconds.
const DEFERRED: i32 = 30;

/// An open door. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Opened {
    door: Rc<RefCell<Arc<Door>>>,
    listener: Rc<AsyncFd<OwnedFd>>,
    _accepting: LocalTask,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.door.borrow().standing.listening.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Opened {
    /// Takes what changed about the door; those who are inside keep what they came in by.
    pub(super) fn change(&mut self, door: &Arc<Door>) {
        let before = self.door.replace(Arc::clone(door));
        if before.socket != door.socket {
            let listener = self.listener.get_ref();
            if let Err(error) = set_options(&SockRef::from(listener), listener, &door.socket) {
                tracing::warn!(door = %door.key, "its socket stays as it was: {error}");
            }
        }
    }
}

/// Opens a door.
///
/// # Errors
/// The kernel's.
pub(super) fn open(shared: &Rc<Shared>, door: Arc<Door>) -> io::Result<Opened> {
    let listener = Rc::new(kernel::watch(listen(&door)?)?);
    door.standing.listening.fetch_add(1, Ordering::Relaxed);
    let door = Rc::new(RefCell::new(door));
    let accepting = accept(Rc::clone(shared), Rc::clone(&door), Rc::clone(&listener));
    Ok(Opened { door, listener, _accepting: LocalTask::spawn(accepting) })
}

fn listen(door: &Door) -> io::Result<OwnedFd> {
    let address = door.key.address;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // The anycast address may come after us and go before us.
    match address.ip() {
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) => {
            socket.set_freebind_v6(true)?;
            socket.set_only_v6(true)?;
        }
    }
    set_options(&SockRef::from(&socket), &socket, &door.socket)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(door.socket.backlog).unwrap_or(i32::MAX))?;
    if door.socket.fast_open > 0 {
        kernel::set_fast_open(socket.as_fd(), door.socket.fast_open)?;
    }
    Ok(socket.into())
}

/// Options that a listener's connections inherit.
fn set_options(socket: &SockRef<'_>, fd: &impl AsFd, options: &SocketOptions) -> io::Result<()> {
    socket.set_keepalive(!options.keepalive.is_zero())?;
    if !options.keepalive.is_zero() {
        let every = (options.keepalive / 4).max(Duration::from_secs(1));
        socket.set_tcp_keepalive(
            &TcpKeepalive::new().with_time(options.keepalive).with_interval(every).with_retries(3),
        )?;
    }
    kernel::send_at_once(fd.as_fd());
    kernel::set_user_timeout(fd.as_fd(), options.user_timeout)?;
    kernel::set_defer_accept(fd.as_fd(), if options.defer_accept { DEFERRED } else { 0 })
}

/// Takes clients in for ever; whatever the kernel answers, the door stays open.
async fn accept(shared: Rc<Shared>, door: Rc<RefCell<Arc<Door>>>, listener: Rc<AsyncFd<OwnedFd>>) {
    loop {
        let Ok(mut guard) = listener.readable().await else { return };
        for _ in 0..BURST {
            match kernel::accept(listener.get_ref().as_fd()) {
                Ok((socket, from)) => {
                    let door = Arc::clone(&door.borrow());
                    let limit = shared.plan.borrow().limits.connections;
                    let Some(place) = shared.totals.take(Count::Connections, limit) else {
                        connection::refuse(&socket);
                        continue;
                    };
                    // Who speaks for others is judged by those it speaks for.
                    let is_ours = from.ip() == door.key.address.ip() && shared.totals.desk.expects(from);
                    let speaks_for_others = is_ours || connection::speaks_for_others(&door, from.ip());
                    let source = if speaks_for_others { None } else { Some(from.ip()) };
                    let Ok(admitted) = connection::admit(&shared, &door, source) else {
                        connection::refuse(&socket);
                        continue;
                    };
                    let life = connection::live(Rc::clone(&shared), door, socket, from, (place, admitted));
                    spawn_for_the_thread(life);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        guard.clear_ready();
                        break;
                    }
                    // This one client is gone, or was never there (accept(2)).
                    _ if !kernel::is_starved(&error) => {}
                    _ => {
                        shared.totals.starved.fetch_add(1, Ordering::Relaxed);
                        sleep(REST).await;
                        break;
                    }
                },
            }
        }
        drop(guard);
        tokio::task::yield_now().await;
    }
}
