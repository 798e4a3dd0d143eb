//! Fetches that nobody watches: they have a thread and a runtime of their own, report their progress as events, and stop
//! before the disk is full.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | free space that is left | 1 GiB | the fetch stops; what is there is kept |
//! | reports of progress | 10 in a second | merged |

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use localization::tr;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::event_bus::EventBus;
use super::fetch::FetchEvent;
use super::node_event::{FileTransfer, NodeEvent};
use super::progress_throttle::ProgressThrottle;
use super::sends::accept_policy::MIN_FREE_BYTES;
use super::size_format::format_size;
use crate::sys::FolderHandle;

/// Time between two reports of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes between two looks at the disk's free space.
const SPACE_CHECK_BYTES: u64 = 16 << 20;

/// Does the work of a fetch, which reports its events, on a runtime of its own. Blocking: hashing and disk writes must not
/// delay the node.
pub(super) fn on_own_runtime<T>(
    events: &EventBus,
    work: impl AsyncFnOnce(&mut (dyn FnMut(FetchEvent<'_>) + Send)) -> T,
) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut reporter = TransferReporter::new(events);
    let outcome = runtime.block_on(work(&mut |event| reporter.handle_event(&event)));
    reporter.finish();
    Ok(outcome)
}

/// Reports the progress of a fetch as events of the node, at intervals.
pub(super) struct TransferReporter<'a> {
    events: &'a EventBus,
    throttle: ProgressThrottle,
    reported_at: Instant,
}

impl<'a> TransferReporter<'a> {
    /// Prepares for a fetch that begins.
    pub(super) fn new(events: &'a EventBus) -> Self {
        let now = Instant::now();
        Self { events, throttle: ProgressThrottle::new(now), reported_at: now }
    }

    /// Takes an event of the fetch, and reports what is due.
    pub(super) fn handle_event(&mut self, event: &FetchEvent<'_>) {
        let now = Instant::now();
        self.throttle.handle_event(event, now);
        // Whatever the event: a file that began within the first interval is reported by one of its next.
        if now.duration_since(self.reported_at) >= PROGRESS_INTERVAL {
            self.reported_at = now;
            send_transfers(self.events, self.throttle.due_updates(now));
        }
    }

    /// Reports the rest after the fetch.
    pub(super) fn finish(self) {
        send_transfers(self.events, self.throttle.final_updates());
    }
}

fn send_transfers(events: &EventBus, transfers: Vec<FileTransfer>) {
    transfers.into_iter().for_each(|transfer| events.send(NodeEvent::Transfer(transfer)));
}

/// Stops a fetch before the disk of its destination is full.
#[derive(Debug)]
pub(super) struct DiskWatch {
    folder: PathBuf,
    cancel: CancellationToken,
    unchecked: u64,
    is_full: bool,
}

impl DiskWatch {
    /// Returns the watch of a fetch that `cancel` stops as well.
    pub(super) fn new(folder: PathBuf, cancel: &CancellationToken) -> Self {
        // A child: a full disk stops this fetch, and not what else the token stands for.
        Self { folder, cancel: cancel.child_token(), unchecked: 0, is_full: false }
    }

    /// Returns the token that stops the fetch.
    pub(super) fn cancel_token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Counts the bytes that arrived, and looks at the disk now and then.
    pub(super) fn handle_event(&mut self, event: &FetchEvent<'_>) {
        let FetchEvent::Verified { bytes, .. } = event else { return };
        self.unchecked += bytes;
        if self.unchecked >= SPACE_CHECK_BYTES {
            self.unchecked = 0;
            // Where the free space isn't known, the disk's own error ends the fetch.
            self.is_full = free_bytes(&self.folder).is_some_and(|free| free < MIN_FREE_BYTES);
            if self.is_full {
                self.cancel.cancel();
            }
        }
    }

    /// Returns whether it stopped the fetch.
    pub(super) const fn is_full(&self) -> bool {
        self.is_full
    }
}

/// Returns the free bytes of a folder's disk, if they are known.
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    FolderHandle::open(folder).and_then(|folder| folder.free_space()).ok()?.bytes
}

/// Returns the reason that a disk is nearly full, in words.
pub(super) fn disk_words(free: u64) -> String {
    tr!("{free} are free, and {kept} stay free", free = format_size(free), kept = format_size(MIN_FREE_BYTES))
}
