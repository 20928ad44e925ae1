//! One thread of a process, stopped from outside as if it hung, while the others go on.

use std::fs;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::moment::Moment;

/// A thread that stands still until this is dropped or its process ends.
///
/// It is traced (ptrace(2)), by a thread of netlab's own: only the thread that traces may let go, and a traced
/// thread that dies stays in its process until the tracer has taken note of it.
#[derive(Debug)]
pub struct Hang {
    /// Dropped to let the thread go.
    release: Option<SyncSender<()>>,
    tracer: Option<JoinHandle<()>>,
}

/// Stops the thread of a process that has this name; the answer is the moment right before it stood still. Not the
/// process's first thread, whose end is for whoever started the process to take note of.
///
/// # Errors
/// `NotFound` when there is no such thread; the kernel's.
pub fn hang(pid: u32, name: &str) -> io::Result<(Hang, Moment)> {
    let tid = find(pid, name)?;
    let (release, released) = sync_channel(0);
    let (tell, stopped) = sync_channel(1);
    let tracer = thread::Builder::new().name("tracer".to_owned()).spawn(move || {
        let stop = stop(tid);
        let is_stopped = stop.is_ok();
        let _ = tell.send(stop);
        if is_stopped {
            hold(tid, &released);
        }
    })?;
    let hang = Hang { release: Some(release), tracer: Some(tracer) };
    let at = stopped.recv().map_err(io::Error::other)??;
    Ok((hang, at))
}

impl Drop for Hang {
    fn drop(&mut self) {
        self.release.take();
        if let Some(tracer) = self.tracer.take() {
            let _ = tracer.join();
        }
    }
}

fn find(pid: u32, name: &str) -> io::Result<Pid> {
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path();
        let tid = path.file_name().and_then(|tid| tid.to_str()?.parse::<u32>().ok());
        // A thread may end between the listing and the look.
        if let (Some(tid), Ok(comm)) = (tid, fs::read_to_string(path.join("comm")))
            && comm.trim_end() == name
            && tid != pid
        {
            return Ok(Pid::from_raw(tid as i32));
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("process {pid} has no thread {name}")))
}

fn stop(tid: Pid) -> io::Result<Moment> {
    // Without PTRACE_O_EXITKILL: should netlab end, the thread goes on.
    ptrace::seize(tid, Options::empty())?;
    let at = Moment::now();
    ptrace::interrupt(tid)?;
    match waitpid(tid, Some(WaitPidFlag::__WALL))? {
        WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..) => Ok(at),
        other => Err(io::Error::other(format!("thread {tid} did not stop: {other:?}"))),
    }
}

/// Keeps the thread stopped until it is released or dead.
fn hold(tid: Pid, released: &Receiver<()>) {
    let look = Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG);
    while !matches!(waitpid(tid, look), Err(_) | Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))) {
        if released.recv_timeout(Duration::from_millis(1)) != Err(RecvTimeoutError::Timeout) {
            // Should it have died meanwhile, what is left of it is taken note of here.
            if ptrace::detach(tid, None).is_err() {
                let _ = waitpid(tid, Some(WaitPidFlag::__WALL));
            }
            return;
        }
    }
}
