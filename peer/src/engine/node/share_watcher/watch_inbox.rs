//! The inbox of reports from the system about watched folders: each path once, until they are taken.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | paths that wait | `MAX_PATHS` | all are forgotten, and anything may have changed |

use std::collections::BTreeMap;
use std::path::PathBuf;

use parking_lot::Mutex;
use tokio::sync::Notify;

const MAX_PATHS: usize = 65_536;

/// What is reported of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathReport {
    /// The file was written, or its metadata changed.
    Content,
    /// The path came, went or was renamed: whatever was watched at or below it may be something else.
    Place,
}

/// Reports that were taken.
#[derive(Debug, Default)]
pub(super) struct TakenReports {
    pub(super) paths: BTreeMap<PathBuf, PathReport>,
    /// True if reports were lost.
    pub(super) has_overflowed: bool,
}

/// The inbox, filled by the system's thread and emptied by the watcher's task.
#[derive(Debug, Default)]
pub(super) struct WatchInbox {
    reports: Mutex<TakenReports>,
    filled: Notify,
}

impl WatchInbox {
    /// Adds a report of the system.
    pub(super) fn add(&self, path: PathBuf, report: PathReport) {
        let mut reports = self.reports.lock();
        let known = reports.paths.entry(path).or_insert(report);
        *known = report.max(*known);
        if reports.paths.len() > MAX_PATHS {
            reports.overflow();
        }
        // Released first, as whoever is woken takes the lock at once.
        drop(reports);
        self.filled.notify_one();
    }

    /// Notes that reports were lost.
    pub(super) fn lose_reports(&self) {
        self.reports.lock().overflow();
        self.filled.notify_one();
    }

    /// Waits until there is a report.
    pub(super) async fn wait(&self) {
        self.filled.notified().await;
    }

    /// Takes all reports.
    pub(super) fn take(&self) -> TakenReports {
        std::mem::take(&mut self.reports.lock())
    }
}

impl TakenReports {
    fn overflow(&mut self) {
        self.paths.clear();
        self.has_overflowed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_there_once_with_the_worst_that_was_reported() {
        let inbox = WatchInbox::default();
        inbox.add("/a".into(), PathReport::Place);
        for _ in 0..5 {
            inbox.add("/a".into(), PathReport::Content);
            inbox.add("/b".into(), PathReport::Content);
        }
        let taken = inbox.take();
        assert!(!taken.has_overflowed);
        let wanted = [("/a".into(), PathReport::Place), ("/b".into(), PathReport::Content)];
        assert_eq!(taken.paths.into_iter().collect::<Vec<(PathBuf, _)>>(), wanted);
        assert!(inbox.take().paths.is_empty());
    }

    #[test]
    fn a_full_queue_is_an_overflow_and_no_memory() {
        let inbox = WatchInbox::default();
        (0..=MAX_PATHS).for_each(|number| inbox.add(format!("/{number}").into(), PathReport::Place));
        let taken = inbox.take();
        assert!(taken.has_overflowed && taken.paths.is_empty());
        inbox.lose_reports();
        assert!(inbox.take().has_overflowed);
    }
}
