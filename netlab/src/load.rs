//! Cores kept busy, to see what the router does when it has none for itself.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::binary;

/// Busy processes; they end when it is dropped, and also when netlab is killed.
#[derive(Debug)]
pub struct Spin {
    children: Vec<Child>,
}

/// Starts `n` processes that each keep one core busy.
///
/// # Errors
/// When netlab's own binary cannot be found or started.
pub fn spin(n: usize) -> io::Result<Spin> {
    let program = binary::netlab()?;
    let mut spin = Spin { children: Vec::new() };
    for _ in 0..n {
        let mut command = Command::new(&program);
        command.arg("internal-spin").stdin(Stdio::piped()).stdout(Stdio::null());
        spin.children.push(command.spawn()?);
    }
    Ok(spin)
}

impl Spin {
    /// The processes.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }
}

impl Drop for Spin {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The busy process itself: until its standard input ends, because whoever started it did.
pub fn run_child() {
    let busy = thread::Builder::new().name("busy".to_owned()).spawn(|| {
        let mut n = 0u64;
        loop {
            n = std::hint::black_box(n.wrapping_add(1));
        }
    });
    if busy.is_err() {
        return;
    }
    // However the reading ends, there is nobody left to be busy for.
    let _ = io::stdin().read(&mut [0]);
}
