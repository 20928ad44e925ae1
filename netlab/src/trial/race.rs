//! Many clients at once for a few places: how many are served.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::{PATIENCE, patient};
use crate::namespace::Namespace;

/// Stacks of threads that only wait.
const STACK: usize = 128 << 10;
/// The place of a connection that has ended is free within this.
const FREED: Duration = Duration::from_secs(5);
/// From the end that a client sees until its place is free.
const SETTLED: Duration = Duration::from_millis(50);
const QUESTION: &[u8] = b"me?";

/// So many clients that come at the same moment to a service that sends back what it reads.
#[derive(Debug, Clone)]
pub struct Race {
    pub client: Namespace,
    pub to: SocketAddr,
    pub racers: usize,
    /// Connections that stand already.
    pub held: usize,
}

impl Race {
    /// Runs it once: how many were served while the others were there too. Everyone else was reset.
    ///
    /// # Errors
    /// When somebody was neither served nor reset, or those who stood already were not served.
    pub fn run(&self) -> io::Result<usize> {
        let until = Instant::now() + FREED;
        let mut standing = Vec::new();
        while standing.len() < self.held {
            match self.come(&Barrier::new(1)) {
                Ok(Some(stream)) => standing.push(stream),
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(2)),
                Ok(None) => return Err(io::Error::other("a free place was not given")),
                Err(error) => return Err(error),
            }
        }
        let start = Barrier::new(self.racers);
        let served = thread::scope(|scope| {
            let spawn = |_| {
                let run = || self.come(&start);
                thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run)
            };
            let racers = (0..self.racers).map(spawn).collect::<io::Result<Vec<_>>>()?;
            let come = racers.into_iter().map(|racer| {
                racer.join().map_err(|_| io::Error::other("a racer died")).and_then(|came| came)
            });
            // Nobody leaves before all have come.
            come.collect::<io::Result<Vec<_>>>()
        })?;
        let count = served.iter().flatten().count();
        for stream in served.into_iter().flatten().chain(standing) {
            leave(stream)?;
        }
        thread::sleep(SETTLED);
        Ok(count)
    }

    /// A connection on which a question was answered; None if it was reset.
    fn come(&self, start: &Barrier) -> io::Result<Option<TcpStream>> {
        let entered = self.client.run(|| {
            start.wait();
            TcpStream::connect_timeout(&self.to, PATIENCE)
        });
        let answered = entered.and_then(|stream| patient(stream?)).and_then(|mut stream| {
            stream.write_all(QUESTION)?;
            stream.read_exact(&mut [0; QUESTION.len()])?;
            Ok(stream)
        });
        match answered {
            Ok(stream) => Ok(Some(stream)),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) =>
            {
                Ok(None)
            }
            Err(error) => Err(super::told(&error, "a racer was neither served nor reset")),
        }
    }
}

/// Ends a connection, and waits for the other side's end of it.
fn leave(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.read_exact(&mut [0]).map_or_else(
        |error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Ok(()),
            _ => Err(super::told(&error, "who was served did not come to an orderly end")),
        },
        |()| Err(io::Error::other("more came than was asked for")),
    )
}
