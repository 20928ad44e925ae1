//! The held connection of one backend: when it is opened, and how long it stays closed after it ended.
//!
//! A server may close idle connections, or serve one connection at a time. The first costs us a
//! reopening, which a back-off bounds; the second would make the server deaf to everybody else, so a
//! held connection is given up, for longer each time, when probes go unanswered beside it.

use std::time::{Duration, Instant};

/// One that lived so long did not end because the server dislikes idle connections.
const LIVED_LONG: Duration = Duration::from_secs(10);
/// One that lived so long did not make the server deaf.
const LIVED_HARMLESS: Duration = Duration::from_secs(60);
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Short at first: one probe may go unanswered because the machine was busy. A server that is deaf each
/// time costs one unanswered probe each time, soon once an hour.
const FIRST_DEAF_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DEAF_DELAY: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not wanted by the configuration.
    Off,
    Closed,
    Opening,
    Open {
        since: Instant,
    },
}

/// The state of one held connection.
#[derive(Debug, Clone)]
pub(super) struct Held {
    state: State,
    /// Not opened before this.
    not_before: Instant,
    /// Ends in a row that came early.
    short_lives: u32,
    /// Times it was given up because probes went unanswered beside it.
    deaf: u32,
}

impl Held {
    pub(super) fn new(wanted: bool, now: Instant) -> Self {
        let state = if wanted { State::Closed } else { State::Off };
        Self { state, not_before: now, short_lives: 0, deaf: 0 }
    }

    /// Takes a changed configuration. Says whether an open or opening connection is to be closed.
    #[must_use]
    pub(super) fn handle_wanted(&mut self, wanted: bool) -> bool {
        match (wanted, self.state) {
            (true, State::Off) => self.state = State::Closed,
            (false, state) => {
                self.state = State::Off;
                return matches!(state, State::Opening | State::Open { .. });
            }
            (true, _) => {}
        }
        false
    }

    /// When it may be opened; None if it is open, about to be, or not wanted.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        (self.state == State::Closed).then_some(self.not_before)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Whether a connection exists or is being made.
    pub(super) fn is_engaged(&self) -> bool {
        matches!(self.state, State::Opening | State::Open { .. })
    }

    pub(super) fn handle_opening(&mut self) {
        self.state = State::Opening;
    }

    pub(super) fn handle_opened(&mut self, now: Instant) {
        if self.state == State::Opening {
            self.state = State::Open { since: now };
        }
    }

    /// It ended, or could not be opened. The first end after a long life reopens at once: if the backend
    /// is dying, the new connection ends too and starts one more probe, without waiting for a timer.
    pub(super) fn handle_ended(&mut self, now: Instant) {
        let (State::Opening | State::Open { .. }) = self.state else { return };
        let lived = self.lived(now);
        if lived >= LIVED_LONG {
            self.short_lives = 0;
        }
        if lived >= LIVED_HARMLESS {
            self.deaf = 0;
        }
        self.not_before = match self.short_lives {
            0 => now,
            lives => now + doubled(FIRST_DELAY, lives - 1, LONGEST_DELAY),
        };
        self.short_lives = self.short_lives.saturating_add(1);
        self.state = State::Closed;
    }

    /// The backend is proven down: its connections ended because it died, not because it dislikes
    /// idle ones. Once it is up again it is held again at once.
    pub(super) fn handle_backend_died(&mut self, now: Instant) {
        if self.state == State::Closed {
            self.short_lives = 0;
            self.deaf = 0;
            self.not_before = now;
        }
    }

    /// A probe went unanswered while it was open: give it up. The caller closes it.
    pub(super) fn handle_deaf(&mut self, now: Instant) {
        if self.lived(now) >= LIVED_HARMLESS {
            self.deaf = 0;
        }
        self.not_before = now + doubled(FIRST_DEAF_DELAY, self.deaf, LONGEST_DEAF_DELAY);
        self.deaf = self.deaf.saturating_add(1);
        self.state = State::Closed;
    }

    /// It must make room for probes. The caller closes it.
    pub(super) fn handle_evicted(&mut self, until: Instant) {
        self.not_before = until;
        self.state = State::Closed;
    }

    /// The word in status documents.
    pub(super) fn word(&self) -> &'static str {
        match self.state {
            State::Off => "off",
            State::Closed | State::Opening => "closed",
            State::Open { .. } => "open",
        }
    }

    fn lived(&self, now: Instant) -> Duration {
        match self.state {
            State::Open { since } => now.saturating_duration_since(since),
            _ => Duration::ZERO,
        }
    }
}

/// `first` doubled so many times, but not over `longest`.
fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens, lets it live, ends it, and says how long it has to stay closed.
    fn delay_after(held: &mut Held, now: &mut Instant, lived: u64) -> u64 {
        held.handle_opening();
        held.handle_opened(*now);
        *now += Duration::from_secs(lived);
        held.handle_ended(*now);
        let opens_at = held.opens_at().expect("closed");
        let delay = opens_at.saturating_duration_since(*now).as_secs();
        *now = opens_at.max(*now);
        delay
    }

    #[test]
    fn short_lives_back_off_and_a_long_one_forgives() {
        let mut now = Instant::now();
        let mut held = Held::new(true, now);
        let delays: Vec<u64> = (0..9).map(|_| delay_after(&mut held, &mut now, 2)).collect();
        assert_eq!(delays, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay_after(&mut held, &mut now, 10), 0);
        assert_eq!(delay_after(&mut held, &mut now, 2), 1);
    }

    #[test]
    fn deafness_is_given_up_for_longer_each_time() {
        let now = Instant::now();
        let mut held = Held::new(true, now);
        for seconds in [1, 2, 4] {
            held.handle_opening();
            held.handle_opened(now);
            held.handle_deaf(now);
            assert_eq!(held.opens_at(), Some(now + Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn what_is_not_wanted_is_not_opened() {
        let now = Instant::now();
        let mut held = Held::new(false, now);
        assert_eq!((held.opens_at(), held.word()), (None, "off"));
        assert!(!held.handle_wanted(true));
        assert!(held.opens_at().is_some());
        held.handle_opening();
        assert_eq!((held.opens_at(), held.word()), (None, "closed"));
        held.handle_opened(now);
        assert_eq!((held.opens_at(), held.word()), (None, "open"));
        assert!(held.handle_wanted(false), "the open connection must be closed");
        held.handle_ended(now);
        assert_eq!(held.opens_at(), None);
    }

    #[test]
    fn a_backend_that_died_is_held_again_as_soon_as_it_is_back() {
        let start = Instant::now();
        let mut held = Held::new(true, start);
        for round in 0..10 {
            let now = start + Duration::from_secs(round);
            assert!(held.opens_at().is_some_and(|at| at <= now), "round {round} waits");
            held.handle_opening();
            held.handle_opened(now);
            held.handle_ended(now + Duration::from_millis(500));
            held.handle_backend_died(now + Duration::from_millis(501));
        }
    }
}
