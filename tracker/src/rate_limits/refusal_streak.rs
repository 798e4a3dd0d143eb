//! The number of requests refused in a row on one connection, and its consequences.

use std::time::Duration;

use shared::tracker::TrackerErrorCode;

/// Refusals without consequences.
const FREE_REFUSALS: u32 = 100;
/// Refusals at which the connection ends.
const MAX_REFUSALS: u32 = 1000;
/// The weight of refusals that tell the client when to come back: a client that repeats those ignores the advice.
const RETRY_HINT_WEIGHT: u32 = 10;
/// The pause after each further refusal.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// The refusals on one connection since the last granted request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefusalStreak(u32);

impl RefusalStreak {
    /// Records an answer: `None` for a granted request, else the refusal's code.
    pub const fn record(&mut self, refused: Option<TrackerErrorCode>) {
        self.0 = match refused {
            // `not_found` answers the question, and so ends the streak.
            None | Some(TrackerErrorCode::NotFound) => 0,
            Some(TrackerErrorCode::Busy | TrackerErrorCode::RateLimited) => self.0.saturating_add(RETRY_HINT_WEIGHT),
            Some(_) => self.0.saturating_add(1),
        };
    }

    /// Returns the time to wait before the next request is answered.
    pub fn pause(self) -> Option<Duration> {
        (self.0 > FREE_REFUSALS).then_some(REFUSAL_PAUSE)
    }

    /// True if the connection must end.
    pub const fn is_over_limit(self) -> bool {
        self.0 > MAX_REFUSALS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_there_is_nothing_is_no_refusal() {
        let mut refusals = RefusalStreak::default();
        for _ in 0..10_000 {
            refusals.record(Some(TrackerErrorCode::NotFound));
            assert_eq!(refusals, RefusalStreak::default());
        }
    }

    #[test]
    fn whoever_doesn_t_listen_is_slowed_down_and_then_let_go() {
        for (code, quick, last) in [(TrackerErrorCode::BadRequest, 100, 1000), (TrackerErrorCode::RateLimited, 10, 100)]
        {
            let mut refusals = RefusalStreak::default();
            for n in 1..=last {
                refusals.record(Some(code));
                assert_eq!(refusals.pause().is_some(), n > quick, "{n}");
                assert!(!refusals.is_over_limit());
            }
            let mut after = refusals;
            after.record(Some(code));
            assert!(after.is_over_limit());
            refusals.record(None);
            assert_eq!(refusals, RefusalStreak::default());
        }
    }
}
