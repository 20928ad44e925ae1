//! Bulk: downloads and uploads without end, whose beginnings are compared and whose rest is counted.

use std::io;
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::{Broken, Load};
use crate::bench::backend::{Counters, GULP, again, discard};
use crate::bench::frame::{Ask, Check, PATTERN, pattern};
use crate::bench::link::{Link, Target};

/// So many transfers in one direction.
pub struct Bulk {
    ask: Ask,
    /// Ciphertext cannot be told from overhead here: the backend counts what it sent.
    by_backend: bool,
    epoll: Epoll,
    transfers: Vec<Option<Transfer>>,
    received: u64,
    counters: Arc<Counters>,
    spoiled_before: u64,
    broken: Broken,
    buffer: Vec<u8>,
    waste: Vec<MaybeUninit<u8>>,
}

enum Transfer {
    /// The first octets, through the link and compared.
    Beginning {
        link: Link,
        check: Check,
    },
    Counting(TcpStream),
    Sending {
        stream: Link,
        at: usize,
    },
}

impl Bulk {
    /// `ask` is `Download` or `Upload`; uploads are plain.
    ///
    /// # Errors
    /// When a connection cannot be made.
    pub fn new(target: &Target, ask: Ask, transfers: usize, counters: &Arc<Counters>) -> io::Result<Self> {
        let mut bulk = Self {
            ask,
            by_backend: target.tls.is_some(),
            epoll: super::epoll()?,
            transfers: Vec::new(),
            received: 0,
            counters: Arc::clone(counters),
            spoiled_before: counters.spoiled.load(Ordering::Relaxed),
            broken: Broken::default(),
            buffer: vec![0; 64 << 10],
            waste: vec![MaybeUninit::uninit(); GULP],
        };
        for token in 0..transfers {
            let mut link = Link::dial(target)?;
            link.send(&ask.frame(token as u64))?;
            let (flags, transfer) = match ask {
                Ask::Upload => (EpollFlags::EPOLLOUT, Transfer::Sending { stream: link, at: 0 }),
                _ => (EpollFlags::EPOLLIN, Transfer::Beginning { link, check: Check::default() }),
            };
            bulk.epoll.add(transfer.descriptor(), EpollEvent::new(flags, token as u64))?;
            bulk.transfers.push(Some(transfer));
        }
        Ok(bulk)
    }

    fn ready(&mut self, token: usize) {
        let Some(transfer) = self.transfers.get_mut(token).and_then(Option::as_mut) else { return };
        let moved = match transfer {
            Transfer::Beginning { link, check } => {
                link.receive(&mut self.buffer).and_then(|read| match read {
                    Some(count) if check.takes(&self.buffer[..count]) => Ok(read),
                    None => Ok(None),
                    _ => Err(io::Error::other("what came is not what was sent")),
                })
            }
            Transfer::Counting(stream) => again(discard(stream, &mut self.waste)),
            Transfer::Sending { stream, at } => stream.send(&pattern()[*at..]).map(|sent| {
                *at = (*at + sent) % PATTERN;
                None
            }),
        };
        match moved {
            Ok(Some(0)) => self.fail(token, "the transfer ended"),
            Ok(Some(count)) => self.received += count as u64,
            Ok(None) => {}
            Err(error) => self.fail(token, &error.to_string()),
        }
        self.count_from_now(token);
    }

    /// Once the beginning is compared, octets are only counted.
    fn count_from_now(&mut self, token: usize) {
        let place = &mut self.transfers[token];
        if matches!(place, Some(Transfer::Beginning { check, .. }) if check.is_over())
            && let Some(Transfer::Beginning { link, .. }) = place.take()
        {
            *place = Some(Transfer::Counting(link.into_stream()));
        }
    }

    fn fail(&mut self, token: usize, why: &str) {
        self.transfers[token] = None;
        self.broken.add(|| format!("{:?}: {why}", self.ask));
    }
}

impl Load for Bulk {
    fn run(&mut self, until: Instant) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        while let Some(count) = super::wait(&self.epoll, &mut events, until)? {
            for event in &events[..count] {
                self.ready(event.data() as usize);
            }
        }
        // The backend ends an upload that does not begin with the pattern.
        let spoiled = self.counters.spoiled.load(Ordering::Relaxed);
        for _ in self.spoiled_before..spoiled {
            self.broken.add(|| "an upload did not begin with what was sent".to_owned());
        }
        self.spoiled_before = spoiled;
        Ok(())
    }

    fn work(&self) -> f64 {
        match self.ask {
            Ask::Upload => self.counters.received.load(Ordering::Relaxed) as f64,
            _ if self.by_backend => self.counters.sent.load(Ordering::Relaxed) as f64,
            _ => self.received as f64,
        }
    }

    fn broken(&self) -> &Broken {
        &self.broken
    }
}

impl Transfer {
    fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsFd;
        match self {
            Self::Beginning { link, .. } | Self::Sending { stream: link, .. } => link.as_fd(),
            Self::Counting(stream) => stream.as_fd(),
        }
    }
}
