//! The system's watches of single folders, where it isn't Linux.

use std::io;
use std::path::Path;
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Config, ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;

use super::watch_inbox::{PathReport, WatchInbox};

/// The watches of this process, and the thread that hands their reports on; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct NotifyWatcher(Mutex<RecommendedWatcher>);

impl NotifyWatcher {
    /// Starts the thread, which reports to `inbox`. Fails with the system's error.
    pub(super) fn start(inbox: Arc<WatchInbox>) -> io::Result<Self> {
        let hand_on = move |event| match event {
            // An error of the watch itself: what it would have reported is unknown.
            Err(why) => {
                tracing::warn!("watching shared folders: {why}");
                inbox.lose_reports();
            }
            Ok(event) if notify::Event::need_rescan(&event) => inbox.lose_reports(),
            Ok(notify::Event { kind, paths, .. }) => {
                for report in report_of(kind) {
                    paths.iter().for_each(|path| inbox.add(path.clone(), report));
                }
            }
        };
        RecommendedWatcher::new(hand_on, Config::default()).map(Mutex::new).map(Self).map_err(system_error)
    }

    /// Watches a folder. Fails with the system's error.
    pub(super) fn watch(&self, folder: &Path) -> io::Result<()> {
        self.0.lock().watch(folder, RecursiveMode::NonRecursive).map_err(system_error)
    }

    /// Ends the watch of a folder, if there is one.
    pub(super) fn unwatch(&self, folder: &Path) {
        // An error means that the watch has ended by itself.
        let _ = self.0.lock().unwatch(folder);
    }
}

fn system_error(why: notify::Error) -> io::Error {
    match why.kind {
        ErrorKind::MaxFilesWatch => io::ErrorKind::StorageFull.into(),
        ErrorKind::Io(why) => why,
        _ => io::Error::other(why),
    }
}

/// Returns the meaning of an event; `None` for one that changes nothing.
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
