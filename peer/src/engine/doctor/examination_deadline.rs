//! The end of an examination, from which every probe has its time.

use std::time::Duration;

use tokio::time::Instant;

/// Time for everything.
const TIME_LIMIT: Duration = Duration::from_millis(4800);

/// The moment when the report has to be there.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExaminationDeadline(Instant);

impl ExaminationDeadline {
    /// Begins an examination.
    pub(super) fn begin() -> Self {
        Self(Instant::now() + TIME_LIMIT)
    }

    /// Returns the time for a probe that begins now: at most `limit`, and less if the examination ends before.
    pub(super) fn within(self, limit: Duration) -> Duration {
        limit.min(self.0.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn probes_one_after_the_other_end_in_time() {
        let (begun, deadline) = (Instant::now(), ExaminationDeadline::begin());
        for seconds in [1, 2, 3, 4] {
            tokio::time::sleep(deadline.within(Duration::from_secs(seconds))).await;
        }
        assert_eq!(begun.elapsed().as_millis(), 4800);
    }
}
