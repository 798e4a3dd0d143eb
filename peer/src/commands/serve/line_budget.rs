//! Bounds of what others make `peer serve` write. Pure.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | lines about the coming and going of people with whom the user doesn't talk | 6 in 10 minutes | one line that says so; counted, and told with the next one that is shown |
//! | messages of people who are not accepted | the first row of 10 in 10 minutes | the same |
//! | lines that such people want to talk | the same | the same |
//! | messages of guests of links who are not answered | the same | the same |
//! | a message of somebody who is accepted | 12 rows and 1 KiB, empty rows in a row put together | the command that shows the rest |
//! | what one person writes | the table in [`crate::engine::chat::chat_receiver`] | |

use std::time::{Duration, Instant};

use crate::ui::ExcerptLimits;

/// For how long lines are counted together.
const WINDOW: Duration = Duration::from_secs(600);
/// Lines about the coming and going of people with whom the user doesn't talk.
const PRESENCE_LINES: u32 = 6;
/// Lines of one kind about people who are not accepted.
const STRANGER_LINES: u32 = 10;

/// What is shown of a message.
pub(super) const MESSAGE_LIMITS: ExcerptLimits = ExcerptLimits { rows: 12, bytes: 1024 };
/// What is shown of one of somebody who is not accepted.
pub(super) const STRANGER_MESSAGE_LIMITS: ExcerptLimits = ExcerptLimits { rows: 1, bytes: 200 };

/// The lines that people cause with whom the user doesn't talk.
#[derive(Debug)]
pub(super) struct LineBudgets {
    pub(super) presence: LineBudget,
    pub(super) messages: LineBudget,
    pub(super) requests: LineBudget,
    pub(super) guests: LineBudget,
}

/// Lines of one kind.
#[derive(Debug)]
pub(super) struct LineBudget {
    limit: u32,
    began: Option<Instant>,
    shown: u32,
    hidden: u64,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineDecision {
    /// It is shown.
    Show {
        /// How many before it were not, and are not told of yet.
        hidden: u64,
    },
    /// It is the first that is not: that is told.
    Announce,
    /// It is not shown, and nothing is told.
    Hide,
}

impl Default for LineBudgets {
    fn default() -> Self {
        let strangers = || LineBudget::new(STRANGER_LINES);
        Self {
            presence: LineBudget::new(PRESENCE_LINES),
            messages: strangers(),
            requests: strangers(),
            guests: strangers(),
        }
    }
}

impl LineBudget {
    const fn new(limit: u32) -> Self {
        Self { limit, began: None, shown: 0, hidden: 0 }
    }

    /// Counts a line, and decides on it.
    pub(super) fn record(&mut self, now: Instant) -> LineDecision {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            (self.began, self.shown) = (Some(now), 0);
        }
        if self.shown < self.limit {
            self.shown += 1;
            return LineDecision::Show { hidden: std::mem::take(&mut self.hidden) };
        }
        self.hidden += 1;
        if self.hidden == 1 { LineDecision::Announce } else { LineDecision::Hide }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_count() {
        let (mut budget, began) = (LineBudget::new(3), Instant::now());
        let decisions: Vec<LineDecision> = (0..7211).map(|_| budget.record(began)).collect();
        assert_eq!(decisions[..3], [LineDecision::Show { hidden: 0 }; 3]);
        assert_eq!(decisions[3], LineDecision::Announce);
        assert!(decisions[4..].iter().all(|decision| *decision == LineDecision::Hide));
        assert_eq!(budget.record(began + WINDOW), LineDecision::Show { hidden: 7208 });
        assert_eq!(budget.record(began + WINDOW), LineDecision::Show { hidden: 0 });
    }

    #[test]
    fn a_day_of_it_is_a_thousand_lines() {
        let (mut budget, began) = (LineBudget::new(PRESENCE_LINES), Instant::now());
        let lines = (0..24 * 3600).filter(|s| budget.record(began + Duration::from_secs(*s)) != LineDecision::Hide);
        assert_eq!(lines.count(), 144 * 7);
    }
}
