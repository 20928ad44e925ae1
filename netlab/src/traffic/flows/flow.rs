//! One flow: dials, asks and hears its echo until its time is over, then closes and waits for the other side to close.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::super::{HEADER, header};
use super::{End, Plan};
use crate::moment::Moment;

/// For the handshake, for each echo, and for the answer to our FIN.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A flow that has not ended.
#[derive(Debug)]
pub(super) struct Flow {
    stream: TcpStream,
    index: u32,
    state: State,
    lasts: Duration,
    every: Duration,
    /// When it will have lasted its time; known once it is open.
    over: Moment,
    /// When the state has lasted too long, or long enough.
    deadline: Moment,
    /// Requests so far, and when the last one was sent.
    asked: u64,
    asked_at: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Dialling,
    /// Until the next request.
    Idle,
    /// So many octets of the echo have come.
    Asking {
        heard: usize,
    },
    /// Our FIN is sent.
    Closing,
}

/// What came of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    Nothing,
    Opened,
    Ended(End),
}

impl Flow {
    /// Sends the SYN.
    pub fn dial(plan: &Plan, index: usize, now: Moment) -> Result<Self, End> {
        let dial = || {
            let socket = Socket::new(Domain::for_address(plan.target), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
            match socket.connect(&plan.target.into()) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
                _ => Ok(TcpStream::from(socket)),
            }
        };
        Ok(Self {
            stream: dial().map_err(|error| end_by(&error))?,
            index: index as u32,
            state: State::Dialling,
            lasts: plan.length(index),
            every: plan.every,
            over: Moment::MAX,
            deadline: now + PATIENCE,
            asked: 0,
            asked_at: now,
        })
    }

    /// How many requests were echoed.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// When [`Flow::handle_deadline`] is due.
    pub fn deadline(&self) -> Moment {
        self.deadline
    }

    /// The socket can be read or written, or has failed.
    pub fn handle_ready(&mut self, now: Moment) -> Happened {
        let done = match self.state {
            State::Dialling => self.connected(now),
            _ => self.hear(now).map(|()| Happened::Nothing),
        };
        done.unwrap_or_else(Happened::Ended)
    }

    /// The deadline has passed.
    pub fn handle_deadline(&mut self, now: Moment) -> Happened {
        let done = match self.state {
            State::Dialling => Err(End::Broken("its SYN was not answered")),
            State::Asking { .. } => Err(End::Broken("it was not echoed")),
            State::Closing => Err(End::Broken("its FIN was not answered")),
            // However late it is: a flow that was never echoed has shown nothing.
            State::Idle if now >= self.over && self.asked > 0 => {
                // A failure is told by what can then be read.
                let _ = self.stream.shutdown(Shutdown::Write);
                self.enter(State::Closing, now + PATIENCE);
                Ok(())
            }
            State::Idle => self.ask(now),
        };
        done.map_or_else(Happened::Ended, |()| Happened::Nothing)
    }

    fn connected(&mut self, now: Moment) -> Result<Happened, End> {
        if let Some(error) = self.stream.take_error().map_err(|error| end_by(&error))? {
            return Err(end_by(&error));
        }
        if self.stream.peer_addr().is_err() {
            return Ok(Happened::Nothing);
        }
        self.over = now + self.lasts;
        self.enter(State::Idle, now);
        Ok(Happened::Opened)
    }

    fn ask(&mut self, now: Moment) -> Result<(), End> {
        match self.stream.write(&self.request()) {
            Ok(HEADER) => {
                self.asked_at = now;
                self.enter(State::Asking { heard: 0 }, now + PATIENCE);
                Ok(())
            }
            // Each was echoed before the next: there is room, unless something is very wrong.
            Ok(_) => Err(End::Broken("its request was not taken")),
            Err(error) => Err(end_by(&error)),
        }
    }

    fn request(&self) -> [u8; HEADER] {
        header(self.index, self.asked)
    }

    /// Reads everything that is there.
    fn hear(&mut self, now: Moment) -> Result<(), End> {
        let mut buffer = [0; 2 * HEADER];
        loop {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) if self.state == State::Closing => return Err(End::Completed),
                Ok(0) => return Err(End::Broken("the other side closed it early")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(end_by(&error)),
            };
            let request = self.request();
            let heard = match self.state {
                State::Asking { heard } if request[heard..].starts_with(&buffer[..count]) => heard + count,
                _ => return Err(End::Broken("it was echoed wrongly")),
            };
            if heard < HEADER {
                self.state = State::Asking { heard };
            } else {
                self.asked += 1;
                self.enter(State::Idle, (self.asked_at + self.every).min(self.over).max(now));
            }
        }
    }

    fn enter(&mut self, state: State, deadline: Moment) {
        self.state = state;
        self.deadline = deadline;
    }
}

impl AsFd for Flow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

pub(super) fn end_by(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => End::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            End::Reset
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            End::Broken("the target was unreachable")
        }
        io::ErrorKind::AddrNotAvailable => End::Broken("no port was free"),
        io::ErrorKind::TimedOut => End::Broken("the kernel gave it up"),
        _ => End::Broken("the kernel refused it"),
    }
}
