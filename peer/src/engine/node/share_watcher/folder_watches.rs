//! The system's watches of shared folders. Each folder is watched by itself, and before it is listed: a watch of a whole
//! tree would miss what comes into a new folder before its own watch, and would take in what is never shared.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | watched folders | the system's (`fs.inotify.max_user_watches`) | the place gives back those that it has, for other programs, and is walked at intervals |

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::FolderWatcher;
use super::change_schedule::PlaceId;
use super::watch_inbox::WatchInbox;
use crate::engine::PollReason;

/// What is asked of the system for a folder that is watched according to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatchEffort {
    /// Nothing.
    Known,
    /// The watch, which may have become that of another folder, is set once more.
    Renewed,
}

/// The watches of all places.
pub(super) struct FolderWatches {
    /// `None` if the system has none for this process. Held while the system is asked, so that the table says what it
    /// was told. Locked before the table.
    watcher: Mutex<Option<FolderWatcher>>,
    table: Mutex<WatchTable>,
}

#[derive(Default)]
struct WatchTable {
    folders: BTreeMap<PathBuf, BTreeSet<PlaceId>>,
    /// Places that are not watched, because the limit was reached.
    limited: HashSet<PlaceId>,
    has_no_watcher: bool,
}

impl FolderWatches {
    /// Creates the watches; their reports go to `inbox`.
    pub(super) fn new(inbox: Arc<WatchInbox>) -> Self {
        let watcher = FolderWatcher::start(inbox);
        let watcher = watcher.inspect_err(|why| tracing::info!("no folder can be watched: {why}")).ok();
        let table = WatchTable { has_no_watcher: watcher.is_none(), ..WatchTable::default() };
        Self { watcher: Mutex::new(watcher), table: Mutex::new(table) }
    }

    /// Watches a folder for a place. Returns true if the place didn't watch it until now. Blocks.
    pub(super) fn watch(&self, place: PlaceId, folder: &Path, effort: WatchEffort) -> bool {
        let watcher = self.watcher.lock();
        let Some(watcher) = watcher.as_ref() else { return false };
        let is_new;
        {
            let mut table = self.table();
            if table.limited.contains(&place) {
                return false;
            }
            // Before the system is asked: what is reported meanwhile must find it, to make it forgotten.
            let is_known = table.folders.contains_key(folder);
            is_new = table.folders.entry(folder.to_owned()).or_default().insert(place);
            if is_known && effort == WatchEffort::Known {
                return is_new;
            }
        }
        let Err(why) = watcher.watch(folder) else { return is_new };
        self.table().folders.remove(folder);
        if is_limit(&why) {
            self.table().limited.insert(place);
            self.release(watcher, place);
        }
        // Gone again, or not readable: the walk finds that out, too.
        false
    }

    /// Returns the reason why a place isn't watched; `None` if it is.
    pub(super) fn poll_reason(&self, place: PlaceId) -> Option<PollReason> {
        let table = self.table();
        let limited = || table.limited.contains(&place).then_some(PollReason::WatchLimit);
        if table.has_no_watcher { Some(PollReason::InstanceLimit) } else { limited() }
    }

    /// Forgets what was watched at and below a path: it may be another folder now, or none. The system ends the watch of a
    /// folder that is removed by itself, and the watcher that of one that is renamed.
    pub(super) fn forget(&self, path: &Path) {
        let mut table = self.table();
        for folder in table.folders_below(path) {
            table.folders.remove(&folder);
        }
    }

    /// Forgets all watches: reports of new or renamed folders may be among those that were lost.
    pub(super) fn forget_all(&self) {
        self.table().folders.clear();
    }

    /// Ends the watches of a place that is shared no more. Blocks.
    pub(super) fn remove_place(&self, place: PlaceId) {
        if let Some(watcher) = self.watcher.lock().as_ref() {
            self.release(watcher, place);
        }
        self.table().limited.remove(&place);
    }

    /// Ends the watches of a place.
    fn release(&self, watcher: &FolderWatcher, place: PlaceId) {
        let folders = self.table().remove_place(place);
        folders.iter().for_each(|folder| watcher.unwatch(folder));
    }

    fn table(&self) -> MutexGuard<'_, WatchTable> {
        self.table.lock()
    }
}

impl WatchTable {
    /// Returns the watched folders at and below a path; those below sort right behind it.
    fn folders_below(&self, path: &Path) -> Vec<PathBuf> {
        // Paths compare by components: nothing sorts between a folder and what is below it.
        let folders = self.folders.range(path.to_owned()..).map(|(folder, _)| folder);
        folders.take_while(|folder| folder.starts_with(path)).cloned().collect()
    }

    /// Removes a place; returns the folders that no place watches any more.
    fn remove_place(&mut self, place: PlaceId) -> Vec<PathBuf> {
        let left = |places: &mut BTreeSet<PlaceId>| places.remove(&place) && places.is_empty();
        let unwatched = self.folders.iter_mut().filter_map(|(folder, places)| left(places).then(|| folder.clone()));
        let unwatched: Vec<PathBuf> = unwatched.collect();
        for folder in &unwatched {
            self.folders.remove(folder);
        }
        unwatched
    }
}

/// True if the system has no further watches for this user.
fn is_limit(why: &io::Error) -> bool {
    // inotify_add_watch(2): ENOSPC at `fs.inotify.max_user_watches`, ENOMEM without kernel memory.
    matches!(why.kind(), io::ErrorKind::StorageFull | io::ErrorKind::OutOfMemory)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn folders_are_watched_once_and_released_with_their_last_place() {
        let home = tempfile::tempdir().unwrap();
        let watches = FolderWatches::new(Arc::default());
        let (one, two) = (PlaceId(1), PlaceId(2));
        let watch = |place, folder: &Path| watches.watch(place, folder, WatchEffort::Known);
        let below = home.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        assert!(watch(one, home.path()) && watch(one, &below) && watch(two, &below));
        assert!(!watch(one, &below) && !watch(two, &below));
        assert!(!watches.watch(one, &below, WatchEffort::Renewed));
        assert!(!watch(one, &home.path().join("missing")));
        watches.remove_place(one);
        assert_eq!(watches.table().folders.keys().collect::<Vec<_>>(), [&below]);
        assert!(watch(one, &below));
        watches.forget(&home.path().join("a"));
        assert!(watches.table().folders.is_empty());
        assert!(watch(two, &below), "it may be another folder");
        watches.remove_place(two);
        assert!(watches.table().folders.is_empty() && watches.poll_reason(one).is_none());
    }
    #[test]
    fn a_renewed_watch_is_that_of_the_folder_which_is_there_now() {
        let home = tempfile::tempdir().unwrap();
        let inbox = Arc::<WatchInbox>::default();
        let watches = FolderWatches::new(inbox.clone());
        let (place, folder) = (PlaceId(1), home.path().join("folder"));
        std::fs::create_dir(&folder).unwrap();
        assert!(watches.watch(place, &folder, WatchEffort::Known));
        // Nothing makes the table forget it: the reports are not read.
        std::fs::rename(&folder, home.path().join("away")).unwrap();
        std::fs::create_dir(&folder).unwrap();
        assert!(!watches.watch(place, &folder, WatchEffort::Renewed));
        inbox.take();
        let file = folder.join("file");
        std::fs::File::create(&file).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let reported = async {
            loop {
                inbox.wait().await;
                if inbox.take().paths.contains_key(&file) {
                    break;
                }
            }
        };
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), reported).await.unwrap() });
    }
}
