//! Progress reported in steps, for screen readers. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shared::{FileName, UserName};

use crate::engine::node_event::{FileTransfer, TransferDirection, TransferState};

/// Percent per step.
const STEP_PERCENT: u64 = 25;
/// Steps reached sooner after the last report are skipped.
const MIN_STEP_INTERVAL: Duration = Duration::from_millis(300);

/// The last step reported.
#[derive(Debug)]
pub(super) struct ProgressSteps {
    last_step: u64,
    last_reported: Instant,
}

impl ProgressSteps {
    /// Creates the state before the first step.
    pub(super) const fn new(now: Instant) -> Self {
        Self { last_step: 0, last_reported: now }
    }

    /// Returns the percentage of a step that is to be reported now. The end isn't a step: the file's own report
    /// follows.
    pub(super) fn next_step(&mut self, bytes: u64, size: u64, now: Instant) -> Option<u64> {
        // In 128 bits: a hundred times the bytes may overflow 64.
        let percent = u128::from(bytes) * 100 / u128::from(size).max(1);
        let step = u64::try_from(percent).unwrap_or(100) / STEP_PERCENT * STEP_PERCENT;
        if step <= self.last_step
            || step >= 100
            || now.saturating_duration_since(self.last_reported) < MIN_STEP_INTERVAL
        {
            return None;
        }
        (self.last_step, self.last_reported) = (step, now);
        Some(step)
    }
}

/// The last step reported of each running download. Several users may share a file of the same name.
#[derive(Debug, Default)]
pub(super) struct DownloadSteps(HashMap<(UserName, FileName), ProgressSteps>);

impl DownloadSteps {
    /// Returns the percentage of a download's step that is to be reported now.
    pub(super) fn next_step(&mut self, transfer: &FileTransfer, now: Instant) -> Option<u64> {
        if transfer.direction != TransferDirection::Down {
            return None;
        }
        let key = (transfer.peer.clone(), transfer.name.clone());
        if transfer.state != TransferState::Running {
            // A file may be fetched again, and begins at the first step.
            self.0.remove(&key);
            return None;
        }
        let steps = self.0.entry(key).or_insert_with(|| ProgressSteps::new(now));
        steps.next_step(transfer.bytes, transfer.size, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_name_have_their_own_steps() {
        let begun = Instant::now();
        let mut steps = DownloadSteps::default();
        let mut next = |peer: &str, bytes, after| {
            let (peer, name) = (peer.parse().unwrap(), "film.mkv".parse().unwrap());
            let (direction, state) = (TransferDirection::Down, TransferState::Running);
            let transfer = FileTransfer { peer, name, direction, bytes, size: 100, state };
            steps.next_step(&transfer, begun + MIN_STEP_INTERVAL * after)
        };
        assert_eq!((next("bob", 0, 0), next("carol", 0, 0)), (None, None));
        assert_eq!((next("bob", 60, 1), next("carol", 30, 1)), (Some(50), Some(25)));
        assert_eq!((next("bob", 61, 2), next("carol", 50, 2)), (None, Some(50)));
    }

    #[test]
    fn each_step_is_told_once() {
        let begun = Instant::now();
        let mut steps = ProgressSteps::new(begun);
        let mut told = Vec::new();
        for percent in 0..=100 {
            told.extend(steps.next_step(percent, 100, begun + Duration::from_millis(100 * percent)));
        }
        assert_eq!(told, [25, 50, 75]);
        let mut fast = ProgressSteps::new(begun);
        assert_eq!(fast.next_step(60, 100, begun), None);
        assert_eq!(fast.next_step(80, 100, begun + MIN_STEP_INTERVAL), Some(75));
        assert_eq!(fast.next_step(0, 0, begun + MIN_STEP_INTERVAL * 2), None);
    }
}
