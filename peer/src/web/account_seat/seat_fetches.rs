//! The fetches of a seat: those that run, and the last that ended.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use localization::tr;
use parking_lot::Mutex;
use serde_json::Value;
use shared::ContentHash;
use tokio::sync::mpsc;

use super::fetch_budgets::FetchBudgets;
use crate::engine::background_fetches::{BackgroundEvent, BackgroundFetches, FetchProgress, FetchState, ProgressLock};
use crate::engine::chat::ConversationName;
use crate::engine::{Error, LocalUser};
use crate::web::hidden_folder::HiddenFolder;

/// Ended fetches that are listed.
const MAX_ENDED: usize = 100;

/// The fetches of a seat.
#[derive(Debug)]
pub(in crate::web) struct SeatFetches {
    folder: PathBuf,
    /// Bytes of all files in the folder; `None` for what the disk has.
    quota: Option<u64>,
    hidden: HiddenFolder,
    /// Those of fetches within the quota.
    budgets: Mutex<FetchBudgets>,
    running: Mutex<BackgroundFetches>,
    listed: Mutex<VecDeque<ProgressLock>>,
}

impl SeatFetches {
    /// Returns none yet, which will go into `folder`, and the receiver of their events.
    pub(super) fn new(
        me: LocalUser,
        folder: PathBuf,
        quota: u64,
        hidden: HiddenFolder,
    ) -> (Self, mpsc::UnboundedReceiver<BackgroundEvent>) {
        let (fetches, told) = BackgroundFetches::new(me, folder.clone());
        let (quota, budgets) = (Some(quota).filter(|quota| *quota < u64::MAX), Mutex::default());
        (Self { folder, quota, hidden, budgets, running: Mutex::new(fetches), listed: Mutex::default() }, told)
    }

    /// Returns the folder into which they go.
    pub(in crate::web) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the bytes that all files in the folder may have; `None` for what the disk has.
    pub(super) const fn quota(&self) -> Option<u64> {
        self.quota
    }

    /// Reserves the bytes of a fetch, once they are known; returns false if it turned out to be larger than it may be.
    pub(super) fn reserve_size(&self, number: u64) -> bool {
        // First: one that begins has its budget, and is listed, when this is free.
        let mut budgets = self.budgets.lock();
        // A file that grows at the source has more bytes than the fetch had at first.
        let bytes = self.progress(number).map_or(0, |progress| {
            let progress = progress.lock();
            progress.size.max(progress.bytes)
        });
        budgets.reserve(number, bytes)
    }

    /// Starts a fetch; returns its number.
    pub(super) fn start(&self, from: &ConversationName, name: &str) -> Result<u64, Error> {
        let progress = self.running.lock().start(from, name)?;
        Ok(self.list_started(progress))
    }

    /// Starts a fetch within the quota, of which the folder has `used` bytes; returns its number.
    pub(super) fn start_within(
        &self,
        quota: u64,
        used: u64,
        from: &ConversationName,
        name: &str,
    ) -> Result<u64, Error> {
        let mut budgets = self.budgets.lock();
        let to_come = |(number, reserved): (u64, u64)| reserved.saturating_sub(self.fetched_bytes(number));
        let taken = budgets.reserved().map(to_come).fold(used, u64::saturating_add);
        match quota.saturating_sub(taken) {
            0 => Err(Error::Usage(tr!(
                "the fetched files that are here fill your share of this machine's disk: they are removed a day after you \
                 saved them"
            ))),
            left => {
                let number = self.start(from, name)?;
                budgets.insert(number, left);
                Ok(number)
            }
        }
    }

    fn list_started(&self, progress: ProgressLock) -> u64 {
        let number = progress.lock().number;
        let mut listed = self.listed.lock();
        listed.push_back(progress);
        let is_running = |one: &ProgressLock| one.lock().state == FetchState::Running;
        if listed.len() > MAX_ENDED
            // One that runs stays: a page stops only what is listed.
            && let Some(oldest) = listed.iter().position(|one| !is_running(one))
        {
            listed.remove(oldest);
        }
        number
    }

    /// True if a fetch runs.
    pub(super) fn is_running(&self) -> bool {
        self.listed.lock().iter().any(|one| one.lock().state == FetchState::Running)
    }

    /// Stops a fetch; returns false if it doesn't run.
    pub(in crate::web) fn stop(&self, number: u64) -> bool {
        self.running.lock().stop_number(number)
    }

    /// Returns the fetches, the oldest first.
    pub(in crate::web) fn list(&self) -> Vec<Value> {
        self.listed.lock().iter().map(|one| self.object(&one.lock())).collect()
    }

    /// Returns the place of a fetched file on this disk, and its content.
    pub(in crate::web) fn fetched_file(&self, number: u64, name: &str) -> Option<(PathBuf, ContentHash)> {
        let progress = self.progress(number)?;
        let progress = progress.lock();
        let file = progress.files.iter().find(|file| file.name == name && file.state == FetchState::Done)?;
        Some((file.path.clone()?, file.hash?))
    }

    /// Returns the progress of a fetch at this moment.
    pub(super) fn snapshot(&self, number: u64) -> Option<FetchProgress> {
        Some(self.progress(number)?.lock().clone())
    }

    /// Returns the object of a fetch for the browser.
    pub(super) fn object(&self, progress: &FetchProgress) -> Value {
        let mut object = serde_json::to_value(progress).unwrap_or_default();
        if self.hidden.is_any() {
            // The browser gets its files by tickets.
            let files = object.get_mut("files").and_then(Value::as_array_mut).into_iter().flatten();
            files.filter_map(Value::as_object_mut).for_each(|file| drop(file.remove("path")));
            self.hidden.strip_value(&mut object);
        }
        object
    }

    /// True if the places of fetched files are no business of the browser's.
    pub(super) const fn hides_places(&self) -> bool {
        self.hidden.is_any()
    }

    /// Marks a fetch whose files were all reported.
    pub(super) fn mark_reported(&self, number: u64) {
        self.running.lock().mark_reported(number);
    }

    /// Records the end of a fetch's thread; one that said nothing before has failed.
    pub(super) fn record_end(&self, number: u64) -> bool {
        self.running.lock().remove(number);
        self.budgets.lock().remove(number, self.fetched_bytes(number));
        let Some(progress) = self.progress(number) else { return false };
        let mut progress = progress.lock();
        let is_silent = progress.state == FetchState::Running;
        if is_silent {
            progress.state = FetchState::Failed;
        }
        is_silent
    }

    /// Stops all; partial files are kept.
    pub(super) fn cancel(&self) {
        self.running.lock().cancel();
    }

    fn fetched_bytes(&self, number: u64) -> u64 {
        self.progress(number).map_or(0, |progress| progress.lock().bytes)
    }

    fn progress(&self, number: u64) -> Option<ProgressLock> {
        self.listed.lock().iter().find(|one| one.lock().number == number).cloned()
    }
}
