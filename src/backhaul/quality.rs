//! How good a path is: round trip, jitter and loss, as moving averages of probes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Questions whose answer is waited for. More than any interval and timeout need.
const MOST_OPEN: usize = 1024;

/// What is known of one path from its probes.
#[derive(Debug, Default)]
pub struct Quality {
    /// Questions that wait, the oldest first.
    open: VecDeque<(u64, Instant)>,
    next: u64,
    asked: u64,
    answered: u64,
    lost: u64,
    rtt: Option<Duration>,
    jitter: Duration,
    /// 0 to 1.
    loss: f64,
    last_rtt: Option<Duration>,
    heard: Option<Instant>,
    /// The first question of all, or the first that nobody answered since the last answer.
    silent_since: Option<Instant>,
    /// Answers in a row, and the question of the first of them: what was lost before it breaks no row.
    row: u32,
    row_from: u64,
}

/// The averages.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Averages {
    pub rtt: Option<Duration>,
    pub jitter: Duration,
    /// 0 to 1.
    pub loss: f64,
    pub answered: u64,
    pub lost: u64,
}

impl Quality {
    /// A question goes out; gives its number.
    pub fn handle_question(&mut self, now: Instant) -> u64 {
        self.next += 1;
        self.asked += 1;
        if self.open.len() == MOST_OPEN {
            self.open.pop_front();
        }
        self.open.push_back((self.next, now));
        self.silent_since.get_or_insert(now);
        self.next
    }

    /// An authentic answer came. None: nobody waits for it, it is late or came twice.
    pub fn handle_answer(&mut self, number: u64, now: Instant) -> Option<Duration> {
        let at = self.open.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let (_, sent) = self.open.remove(at)?;
        let rtt = now.saturating_duration_since(sent);
        // RFC 6298 §2 for the mean, RFC 3550 §6.4.1 for the jitter.
        self.rtt = Some(self.rtt.map_or(rtt, |mean| mean * 7 / 8 + rtt / 8));
        if let Some(last) = self.last_rtt {
            self.jitter = self.jitter * 15 / 16 + last.abs_diff(rtt) / 16;
        }
        self.last_rtt = Some(rtt);
        self.answered += 1;
        if self.row == 0 {
            self.row_from = number;
        }
        self.row += 1;
        self.loss *= 15.0 / 16.0;
        self.heard = Some(now);
        // Later questions may be open still: silence begins with the next.
        self.silent_since = None;
        Some(rtt)
    }

    /// Time has passed: answers that have not come within `timeout` will not be waited for.
    pub fn handle_time(&mut self, now: Instant, timeout: Duration) {
        while let Some((number, sent)) = self.open.front()
            && now.saturating_duration_since(*sent) >= timeout
        {
            if *number > self.row_from {
                self.row = 0;
            }
            self.open.pop_front();
            self.lost += 1;
            self.loss = self.loss * 15.0 / 16.0 + 1.0 / 16.0;
        }
    }

    /// How long nothing has come that was asked for.
    #[must_use]
    pub fn silence(&self, now: Instant) -> Duration {
        self.silent_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// When the last answer came.
    #[must_use]
    pub fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Answers since the last one that was lost.
    #[must_use]
    pub fn answers_in_a_row(&self) -> u32 {
        self.row
    }

    #[must_use]
    pub fn averages(&self) -> Averages {
        let Self { rtt, jitter, loss, answered, lost, .. } = *self;
        Averages { rtt, jitter, loss, answered, lost }
    }

    /// Another path begins: what was measured of the old one says nothing about it.
    pub fn forget(&mut self) {
        *self = Self {
            next: self.next,
            answered: self.answered,
            lost: self.lost,
            asked: self.asked,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn answers_make_averages_and_silence_is_counted_from_the_first_open_question() {
        let start = Instant::now();
        let mut quality = Quality::default();
        for n in 0..100 {
            let now = start + ms(n * 100);
            let number = quality.handle_question(now);
            assert_eq!(quality.handle_answer(number, now + ms(20)), Some(ms(20)));
            assert_eq!(quality.handle_answer(number, now + ms(21)), None, "twice");
        }
        let Averages { rtt, jitter, loss, answered, lost } = quality.averages();
        assert!(rtt.unwrap().abs_diff(ms(20)) < ms(1), "{rtt:?}");
        assert_eq!((jitter, answered, lost), (Duration::ZERO, 100, 0));
        assert!(loss < 0.001);
        let now = start + ms(10_000);
        assert_eq!(quality.silence(now), Duration::ZERO);
        quality.handle_question(now);
        quality.handle_question(now + ms(100));
        assert_eq!(quality.silence(now + ms(300)), ms(300));
        quality.handle_time(now + ms(1_050), ms(1_000));
        assert_eq!((quality.averages().lost, quality.answers_in_a_row()), (1, 0));
        assert!(quality.averages().loss > 0.06);
    }

    #[test]
    fn what_is_never_answered_is_lost_and_bounded() {
        let start = Instant::now();
        let mut quality = Quality::default();
        for n in 0..5_000 {
            quality.handle_question(start + ms(n));
        }
        assert!(quality.open.len() <= MOST_OPEN);
        quality.handle_time(start + ms(100_000), ms(1_000));
        assert!(quality.averages().loss > 0.99);
        assert_eq!(quality.handle_answer(9_999, start), None);
    }
}
