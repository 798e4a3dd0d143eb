//! The inbox of reports from the system about watched folders: each path once, until they are taken.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | paths that wait | `MAX_PATHS` | all are forgotten, and anything may have changed |

use std::collections::BTreeMap;
use std::path::PathBuf;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
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
    /// Adds an event of the system.
    pub(super) fn add(&self, event: notify::Result<notify::Event>) {
        let mut reports = self.reports.lock();
        match event {
            // An error of the watch itself: what it would have reported is unknown.
            Err(why) => {
                tracing::warn!("watching shared folders: {why}");
                reports.overflow();
            }
            Ok(event) if event.need_rescan() => reports.overflow(),
            Ok(event) => {
                let Some(report) = report_of(event.kind) else { return };
                for path in event.paths {
                    let known = reports.paths.entry(path).or_insert(report);
                    *known = report.max(*known);
                }
                if reports.paths.len() > MAX_PATHS {
                    reports.overflow();
                }
            }
        }
        // Released first, as whoever is woken takes the lock at once.
        drop(reports);
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

/// Returns the meaning of an event; `None` for one that changes nothing, such as the opening of a file that is served.
const fn report_of(kind: EventKind) -> Option<PathReport> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => Some(PathReport::Content),
        EventKind::Access(_) => None,
        // A kind that says little counts as the worst one.
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => {
            Some(PathReport::Place)
        }
    }
}

#[cfg(test)]
mod tests {
    use notify::Event;
    use notify::event::{CreateKind, DataChange, Flag};

    use super::*;

    #[test]
    fn paths_are_there_once_and_reading_is_no_change() {
        let inbox = WatchInbox::default();
        let event = |kind, path: &str| Ok(Event::new(kind).add_path(path.into()));
        inbox.add(event(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/read"));
        inbox.add(event(EventKind::Create(CreateKind::File), "/a"));
        for _ in 0..5 {
            inbox.add(event(EventKind::Modify(ModifyKind::Data(DataChange::Any)), "/a"));
            inbox.add(event(EventKind::Access(AccessKind::Close(AccessMode::Write)), "/b"));
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
        for number in 0..=MAX_PATHS {
            inbox.add(Ok(Event::new(EventKind::Create(CreateKind::File)).add_path(format!("/{number}").into())));
        }
        let taken = inbox.take();
        assert!(taken.has_overflowed && taken.paths.is_empty());
        inbox.add(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        assert!(inbox.take().has_overflowed);
    }
}
