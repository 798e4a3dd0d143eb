//! Questions that are asked again until they are answered, less and less often. Pure.

use std::time::{Duration, Instant};

/// Between the first question and the second.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);

/// When a question was last asked, and how long to wait until it is asked again.
#[derive(Debug)]
pub(super) struct PollBackoff {
    max_interval: Duration,
    last: Option<(Instant, Duration)>,
}

impl PollBackoff {
    /// Nothing was asked yet; later at least every `longest`.
    pub(super) const fn new(max_interval: Duration) -> Self {
        Self { max_interval, last: None }
    }

    /// Whether to ask now; whoever hears so does.
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
