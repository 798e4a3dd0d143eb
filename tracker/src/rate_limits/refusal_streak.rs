//! How many requests of one connection were refused in a row, and what that means for it.

use std::time::Duration;

use shared::tracker::TrackerErrorCode;

/// So many have no consequence.
const FREE_REFUSALS: u32 = 100;
/// So many are too many.
const MAX_REFUSALS: u32 = 1000;
/// How often these count that say when to come back.
const RETRY_HINT_WEIGHT: u32 = 10;
/// Between each refusal and the next request, after too many.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// The refusals of one connection since something was granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefusalStreak(u32);

impl RefusalStreak {
    /// A request was answered: granted, or refused with this.
    pub const fn record(&mut self, refused: Option<TrackerErrorCode>) {
        self.0 = match refused {
            // That there is no such thing is what was asked.
            None | Some(TrackerErrorCode::NotFound) => 0,
            Some(TrackerErrorCode::Busy | TrackerErrorCode::RateLimited) => self.0.saturating_add(RETRY_HINT_WEIGHT),
            Some(_) => self.0.saturating_add(1),
        };
    }

    /// How long the connection is to wait before its next request is looked at.
    pub fn pause(self) -> Option<Duration> {
        (self.0 > FREE_REFUSALS).then_some(REFUSAL_PAUSE)
    }

    /// Whether it is to end.
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
