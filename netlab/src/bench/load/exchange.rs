//! A closed loop of small requests: on connections that stay, or each on a new one, plain or TLS.

use std::io;
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::{Broken, Load, PATIENCE};
use crate::bench::frame::{Ask, FRAME};
use crate::bench::link::{Link, Target};

/// So many slots, each with one request under way.
#[derive(Debug)]
pub struct Exchanges {
    target: Target,
    ask: Ask,
    epoll: Epoll,
    slots: Vec<Slot>,
    done: u64,
    broken: Broken,
    looked: Instant,
}

#[derive(Debug)]
struct Slot {
    /// `None` when the last dial failed; the next look tries again.
    link: Option<Link>,
    number: u64,
    sent: usize,
    received: usize,
    since: Instant,
}

impl Exchanges {
    /// `ask` is `Keep` or `Close`. Connections are made as it runs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(target: &Target, ask: Ask, slots: usize) -> io::Result<Self> {
        let now = Instant::now();
        let empty = |_| Slot { link: None, number: 0, sent: 0, received: 0, since: now };
        Ok(Self {
            target: target.clone(),
            ask,
            epoll: super::epoll()?,
            slots: (0..slots).map(empty).collect(),
            done: 0,
            broken: Broken::default(),
            looked: now,
        })
    }

    /// A new connection with its first request.
    fn dial(&mut self, token: usize, now: Instant) {
        let slot = &mut self.slots[token];
        if let Some(link) = slot.link.take() {
            link.close();
        }
        let fresh = Link::dial(&self.target).and_then(|link| {
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
            self.epoll.add(&link, EpollEvent::new(flags, token as u64))?;
            Ok(link)
        });
        match fresh {
            Err(error) => self.broken.add(|| format!("connect: {error}")),
            Ok(link) => {
                slot.link = Some(link);
                self.ask(token, now);
            }
        }
    }

    /// The next request of a connection.
    fn ask(&mut self, token: usize, now: Instant) {
        let slot = &mut self.slots[token];
        slot.number = slot.number.wrapping_add(1);
        (slot.sent, slot.received, slot.since) = (0, 0, now);
        if let Err(error) = slot.send(self.ask) {
            self.broken.add(|| format!("send: {error}"));
            slot.link = None;
            return;
        }
        if slot.sent < FRAME
            && let Some(link) = &slot.link
        {
            // A connect that is not through at once: rare on a loopback.
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
            let _ = self.epoll.modify(link, &mut EpollEvent::new(flags, token as u64));
        }
    }

    fn ready(&mut self, token: usize, flags: EpollFlags, now: Instant) {
        let ask = self.ask;
        let slot = &mut self.slots[token];
        if slot.link.is_none() {
            return;
        }
        if slot.sent < FRAME && flags.contains(EpollFlags::EPOLLOUT) {
            if let Err(error) = slot.send(ask) {
                self.broken.add(|| format!("send: {error}"));
                return self.dial(token, now);
            }
            if let Some(link) = &slot.link
                && slot.sent == FRAME
            {
                let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
                let _ = self.epoll.modify(link, &mut EpollEvent::new(flags, token as u64));
            }
        }
        match slot.receive(ask, flags.contains(EpollFlags::EPOLLRDHUP)) {
            Ok(Answer::Partial) => {}
            Ok(Answer::Whole) if ask == Ask::Keep => {
                self.done += 1;
                self.ask(token, now);
            }
            Ok(Answer::Whole) => {}
            Ok(Answer::Ended) => {
                self.done += 1;
                self.dial(token, now);
            }
            Err(error) => {
                self.broken.add(|| format!("after {} octets of the answer: {error}", slot.received));
                self.dial(token, now);
            }
        }
    }

    /// Looks for connections that wait for too long, and for slots without one.
    fn look(&mut self, now: Instant) {
        for token in 0..self.slots.len() {
            let slot = &self.slots[token];
            if slot.link.is_none() {
                self.dial(token, now);
            } else if now.saturating_duration_since(slot.since) > PATIENCE {
                let received = slot.received;
                self.broken.add(|| format!("no whole answer within {PATIENCE:?}: {received} octets"));
                self.dial(token, now);
            }
        }
    }
}

impl Load for Exchanges {
    fn run(&mut self, until: Instant) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 128];
        self.look(Instant::now());
        while let Some(count) = super::wait(&self.epoll, &mut events, until)? {
            let now = Instant::now();
            for event in &events[..count] {
                self.ready(event.data() as usize, event.events(), now);
            }
            if now.saturating_duration_since(self.looked) > PATIENCE / 10 {
                self.looked = now;
                self.look(now);
            }
        }
        Ok(())
    }

    fn work(&self) -> f64 {
        self.done as f64
    }

    fn broken(&self) -> &Broken {
        &self.broken
    }
}

enum Answer {
    Partial,
    Whole,
    Ended,
}

impl Slot {
    fn send(&mut self, ask: Ask) -> io::Result<()> {
        if let Some(link) = &mut self.link {
            self.sent += link.send(&ask.frame(self.number)[self.sent..])?;
        }
        Ok(())
    }

    /// `ended`: the kernel has seen the end, so that one more read shows it.
    fn receive(&mut self, ask: Ask, ended: bool) -> io::Result<Answer> {
        let Some(link) = &mut self.link else { return Ok(Answer::Partial) };
        let expected = ask.frame(self.number);
        let mut buffer = [0; 2 * FRAME];
        loop {
            match link.receive(&mut buffer)? {
                None => return Ok(Answer::Partial),
                Some(0) if ask == Ask::Close && self.received == FRAME => return Ok(Answer::Ended),
                Some(0) => return Err(io::Error::other("the connection ended")),
                Some(count) => {
                    if expected.get(self.received..self.received + count) != Some(&buffer[..count]) {
                        return Err(io::Error::other("the answer is not the request"));
                    }
                    self.received += count;
                    if self.received == FRAME && ask == Ask::Close && link.has_said_goodbye() {
                        return Ok(Answer::Ended);
                    }
                    if self.received == FRAME && !ended {
                        return Ok(Answer::Whole);
                    }
                }
            }
        }
    }
}
