//! Entering and making namespaces, and children that die with netlab.
#![allow(unsafe_code)] // Namespaces, mounts and signals have no safe wrapper here; each call says why it is sound.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Moves the calling thread into a fresh network namespace and answers a descriptor of it. The
/// namespace lives as long as a descriptor or a process in it does, so that nothing is left behind.
///
/// # Errors
/// The kernel's; it asks for root.
pub fn unshare_net() -> io::Result<OwnedFd> {
    // SAFETY: takes and returns plain integers; only this thread is moved.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Moves the calling thread into a network namespace.
///
/// # Errors
/// The kernel's.
pub fn enter(namespace: &OwnedFd) -> io::Result<()> {
    // SAFETY: takes and returns plain integers; the descriptor is open.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Makes a command start inside a namespace, in a mount namespace of its own in which `/run` is a
/// fresh directory, in a session of its own, and die with the thread that starts it: start
/// commands only from threads that live as long as netlab.
pub fn confine(command: &mut Command, namespace: &OwnedFd, own_run: bool) {
    let fd = namespace.as_raw_fd();
    // SAFETY: between fork and exec only async-signal-safe system calls are made.
    unsafe {
        command.pre_exec(move || {
            check(libc::setns(fd, libc::CLONE_NEWNET))?;
            check(libc::unshare(libc::CLONE_NEWNS))?;
            let none = std::ptr::null();
            let private = libc::MS_REC | libc::MS_PRIVATE;
            check(libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
            // What /sys/class/net shows belongs to the namespace; not every kernel lets us, and few programs look.
            libc::mount(c"sysfs".as_ptr(), c"/sys".as_ptr(), c"sysfs".as_ptr(), 0, none.cast());
            if own_run {
                check(libc::mount(
                    c"tmpfs".as_ptr(),
                    c"/run".as_ptr(),
                    c"tmpfs".as_ptr(),
                    0,
                    c"mode=0755".as_ptr().cast(),
                ))?;
            }
            check(libc::setsid().min(0))?;
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))
        });
    }
}

/// Lets every other thread of the machine come before the calling one, at once: strangers have machines of their own,
/// and in a lab they may take no processor's time from those whom they attack.
pub fn give_way() {
    let idle = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is that of one live value; 0 is the calling thread (sched_setscheduler(2), SCHED_IDLE).
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const idle) };
}

/// Sends a signal to one process.
///
/// # Errors
/// `NotFound` when it is gone.
pub fn signal(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: takes and returns plain integers; the caller names a child of its own.
    check(unsafe { libc::kill(pid as i32, signal) })
}

/// Sends a signal to a whole session that [`confine`] started.
pub fn signal_group(pid: u32, signal: i32) {
    // SAFETY: takes and returns plain integers; the group's id is that of a child of ours.
    unsafe { libc::kill(-(pid as i32), signal) };
}

/// Whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
