//! Polls with a growing interval. Pure.

use std::time::{Duration, Instant};

/// Time between the first poll and the second.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);

/// The time of the last poll and the interval after it. The interval doubles with each poll.
#[derive(Debug)]
pub(super) struct PollBackoff {
    max_interval: Duration,
    last: Option<(Instant, Duration)>,
}

impl PollBackoff {
    /// Creates a backoff whose first poll is due at once.
    pub(super) const fn new(max_interval: Duration) -> Self {
        Self { max_interval, last: None }
    }

    /// Returns true and starts the next interval, if a poll is due.
    pub(super) fn try_poll(&mut self, now: Instant) -> bool {
        let pause = match self.last {
            Some((asked, pause)) if now.saturating_duration_since(asked) < pause => return false,
            Some((_, pause)) => (pause * 2).min(self.max_interval),
            None => FIRST_INTERVAL,
        };
        self.last = Some((now, pause));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let begin = Instant::now();
        let mut asking = PollBackoff::new(Duration::from_secs(5));
        let asked: Vec<u64> = (0..20).filter(|second| asking.try_poll(begin + Duration::from_secs(*second))).collect();
        assert_eq!(asked, [0, 1, 3, 7, 12, 17]);
    }
}
