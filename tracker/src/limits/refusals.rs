//! How many requests of one connection were refused in a row, and what that means for it.

use std::time::Duration;

use shared::tracker::ErrorCode;

/// So many have no consequence.
const QUICKLY: u32 = 100;
/// So many are too many.
const AT_MOST: u32 = 1000;
/// How often these count that say when to come back.
const WAIT_WAS_TOLD: u32 = 10;
/// Between each refusal and the next request, after too many.
const PAUSE: Duration = Duration::from_millis(100);

/// The refusals of one connection since something was granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals(u32);

impl Refusals {
    /// A request was answered: granted, or refused with this.
    pub const fn note(&mut self, refused: Option<ErrorCode>) {
        self.0 = match refused {
            // That there is no such thing is what was asked.
            None | Some(ErrorCode::NotFound) => 0,
            Some(ErrorCode::Busy | ErrorCode::RateLimited) => self.0.saturating_add(WAIT_WAS_TOLD),
            Some(_) => self.0.saturating_add(1),
        };
    }

    /// How long the connection is to wait before its next request is looked at.
    pub fn pause(self) -> Option<Duration> {
        (self.0 > QUICKLY).then_some(PAUSE)
    }

    /// Whether it is to end.
    pub const fn is_too_often(self) -> bool {
        self.0 > AT_MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_there_is_nothing_is_no_refusal() {
        let mut refusals = Refusals::default();
        for _ in 0..10_000 {
            refusals.note(Some(ErrorCode::NotFound));
            assert_eq!(refusals, Refusals::default());
        }
    }

    #[test]
    fn whoever_doesn_t_listen_is_slowed_down_and_then_let_go() {
        for (code, quick, last) in [(ErrorCode::BadRequest, 100, 1000), (ErrorCode::RateLimited, 10, 100)] {
            let mut refusals = Refusals::default();
            for n in 1..=last {
                refusals.note(Some(code));
                assert_eq!(refusals.pause().is_some(), n > quick, "{n}");
                assert!(!refusals.is_too_often());
            }
            let mut after = refusals;
            after.note(Some(code));
            assert!(after.is_too_often());
            refusals.note(None);
            assert_eq!(refusals, Refusals::default());
        }
    }
}
