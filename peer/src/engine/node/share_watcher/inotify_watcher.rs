//! The kernel's watches of single folders, by inotify(7).
//!
//! Only what changes something is asked for. The crate that other systems use (`notify` 8) also asks for files that are
//! opened: its thread would wake for each file that is served, at a twelfth of a sharer's processor time.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::watch_inbox::{PathReport, WatchInbox};

/// Events of the content or metadata of what is in a folder.
const CONTENT: WatchFlags = WatchFlags::MODIFY.union(WatchFlags::CLOSE_WRITE).union(WatchFlags::ATTRIB);
/// Events of its entries, and of the folder itself.
const PLACE: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);
/// Bytes that are read at once: some dozen events.
const BUFFER_BYTES: usize = 4096;

/// The watches of this process, and the thread that hands their reports on; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct InotifyWatcher {
    queue: Arc<OwnedFd>,
    watched: Arc<Mutex<WatchedFolders>>,
    stop: Arc<OwnedFd>,
}

/// The numbers of the watches, and their folders.
#[derive(Debug, Default)]
struct WatchedFolders {
    by_number: HashMap<i32, PathBuf>,
    by_folder: HashMap<PathBuf, i32>,
}

impl InotifyWatcher {
    /// Starts the thread, which reports to `inbox`. Fails with the system's error: it has few queues for a user.
    pub(super) fn start(inbox: Arc<WatchInbox>) -> io::Result<Self> {
        let queue = Arc::new(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?);
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let watched = Arc::<Mutex<WatchedFolders>>::default();
        let (events, ends, folders) = (queue.clone(), stop.clone(), watched.clone());
        thread::Builder::new().name("watches".to_owned()).spawn(move || {
            if let Err(why) = report_events(&events, &ends, &folders, &inbox) {
                tracing::warn!("watching shared folders: {why}");
                inbox.lose_reports();
            }
        })?;
        Ok(Self { queue, watched, stop })
    }

    /// Watches a folder, whatever is there now. Fails with the system's error.
    pub(super) fn watch(&self, folder: &Path) -> io::Result<()> {
        // Held while the kernel is asked: the first event must find its folder.
        let mut watched = self.watched.lock();
        let number = inotify::add_watch(&self.queue, folder, CONTENT | PLACE | WatchFlags::ONLYDIR)?;
        watched.by_number.insert(number, folder.to_owned());
        if let Some(earlier) = watched.by_folder.insert(folder.to_owned(), number).filter(|earlier| *earlier != number)
        {
            // Of a folder that was here before and was moved with the one above it, of which no event tells.
            watched.end(&self.queue, earlier);
        }
        Ok(())
    }

    /// Ends the watch of a folder, if there is one.
    pub(super) fn unwatch(&self, folder: &Path) {
        let mut watched = self.watched.lock();
        if let Some(number) = watched.by_folder.get(folder).copied() {
            watched.end(&self.queue, number);
        }
    }
}

impl Drop for InotifyWatcher {
    fn drop(&mut self) {
        // Fails only where the count is full, and the thread is on its way.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
    }
}

impl WatchedFolders {
    fn end(&mut self, queue: &OwnedFd, number: i32) {
        self.forget(number);
        // Fails for a folder that is gone: its watch ended with it.
        let _ = inotify::remove_watch(queue, number);
    }

    fn forget(&mut self, number: i32) {
        if let Some(folder) = self.by_number.remove(&number)
            && self.by_folder.get(&folder) == Some(&number)
        {
            self.by_folder.remove(&folder);
        }
    }
}

/// Hands on events until `stop` is written to. Fails with the system's error.
fn report_events(
    queue: &OwnedFd,
    stop: &OwnedFd,
    watched: &Mutex<WatchedFolders>,
    inbox: &WatchInbox,
) -> Result<(), Errno> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut reader = Reader::new(queue, &mut buffer);
    loop {
        match reader.next() {
            Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => inbox.lose_reports(),
            Ok(event) => {
                let folder = {
                    let mut watched = watched.lock();
                    let folder = watched.by_number.get(&event.wd()).cloned();
                    if event.events().contains(ReadFlags::IGNORED) {
                        watched.forget(event.wd());
                    } else if event.events().contains(ReadFlags::MOVE_SELF) {
                        // It is elsewhere now, perhaps not shared. Ended before that is reported: whoever finds a folder
                        // there again watches it anew.
                        watched.end(queue, event.wd());
                    }
                    folder
                };
                if let (Some(folder), Some(report)) = (folder, report_of(event.events())) {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    inbox.add(name.map_or_else(|| folder.clone(), |name| folder.join(name)), report);
                }
            }
            Err(Errno::AGAIN) => {
                let mut both = [PollFd::new(queue, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
                match poll(&mut both, None) {
                    Ok(_) if !both[1].revents().is_empty() => return Ok(()),
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(why) => return Err(why),
                }
            }
            Err(Errno::INTR) => {}
            Err(why) => return Err(why),
        }
    }
}

/// Returns the meaning of an event; `None` for the end of a watch.
fn report_of(events: ReadFlags) -> Option<PathReport> {
    let is_any = |flags: WatchFlags| events.bits() & flags.bits() != 0;
    if is_any(PLACE) {
        Some(PathReport::Place)
    } else if is_any(CONTENT) {
        Some(PathReport::Content)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;
    use std::time::Duration;

    use super::*;

    /// Waits until a path is reported; returns all that was reported until then.
    async fn until(inbox: &WatchInbox, path: &Path) -> Vec<(PathBuf, PathReport)> {
        let mut reports = Vec::new();
        let reported = async {
            while !reports.iter().any(|(reported, _)| reported == path) {
                inbox.wait().await;
                reports.extend(inbox.take().paths);
            }
        };
        tokio::time::timeout(Duration::from_secs(30), reported).await.unwrap();
        reports
    }

    #[tokio::test]
    async fn changes_are_reported_and_reading_is_none() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("folder");
        let [read, written, last] = ["read", "written", "last"].map(|name| folder.join(name));
        fs::create_dir(&folder).unwrap();
        [&read, &written].into_iter().for_each(|path| drop(File::create(path).unwrap()));
        let inbox = Arc::<WatchInbox>::default();
        let watcher = InotifyWatcher::start(inbox.clone()).unwrap();
        watcher.watch(&folder).unwrap();
        File::open(&read).unwrap().read_to_end(&mut Vec::new()).unwrap();
        File::options().append(true).open(&written).unwrap().set_len(5).unwrap();
        File::create(&last).unwrap();
        let reports = until(&inbox, &last).await;
        assert!(reports.contains(&(written, PathReport::Content)) && reports.contains(&(last, PathReport::Place)));
        assert!(!reports.iter().any(|(path, _)| *path == read), "{reports:?}");
    }

    #[tokio::test]
    async fn a_folder_that_moves_is_watched_no_more() {
        let home = tempfile::tempdir().unwrap();
        let (folder, away) = (home.path().join("folder"), home.path().join("away"));
        fs::create_dir(&folder).unwrap();
        let inbox = Arc::<WatchInbox>::default();
        let watcher = InotifyWatcher::start(inbox.clone()).unwrap();
        watcher.watch(&folder).unwrap();
        assert!(watcher.watch(&home.path().join("missing")).is_err());
        fs::rename(&folder, &away).unwrap();
        until(&inbox, &folder).await;
        fs::create_dir(&folder).unwrap();
        watcher.watch(&folder).unwrap();
        File::create(away.join("elsewhere")).unwrap();
        File::create(folder.join("here")).unwrap();
        let reports = until(&inbox, &folder.join("here")).await;
        assert!(!reports.iter().any(|(path, _)| path.ends_with("elsewhere")), "{reports:?}");
        watcher.unwatch(&folder);
        assert!(watcher.watched.lock().by_number.is_empty() && watcher.watched.lock().by_folder.is_empty());
    }
}
