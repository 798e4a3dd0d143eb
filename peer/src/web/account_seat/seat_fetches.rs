//! The fetches of a seat: those that run, and the last that ended.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde_json::Value;
use shared::ContentHash;
use tokio::sync::mpsc;

use crate::engine::background_fetches::{BackgroundEvent, BackgroundFetches, FetchState, ProgressLock};
use crate::engine::chat::ConversationName;
use crate::engine::{Error, LocalUser};

/// Ended fetches that are listed.
const MAX_ENDED: usize = 100;

/// The fetches of a seat.
#[derive(Debug)]
pub(in crate::web) struct SeatFetches {
    folder: PathBuf,
    /// Bytes of all files in the folder; `None` for what the disk has.
    quota: Option<u64>,
    /// The bytes that each fetch may have, by its number.
    budgets: Mutex<HashMap<u64, u64>>,
    running: Mutex<BackgroundFetches>,
    listed: Mutex<VecDeque<ProgressLock>>,
}

impl SeatFetches {
    /// Returns none yet, which will go into `folder`, and the receiver of their events.
    pub(super) fn new(me: LocalUser, folder: PathBuf, quota: u64) -> (Self, mpsc::UnboundedReceiver<BackgroundEvent>) {
        let (fetches, told) = BackgroundFetches::new(me, folder.clone());
        let (quota, budgets) = (Some(quota).filter(|quota| *quota < u64::MAX), Mutex::default());
        (Self { folder, quota, budgets, running: Mutex::new(fetches), listed: Mutex::default() }, told)
    }

    /// Returns the folder into which they go.
    pub(in crate::web) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the bytes that all files in the folder may have; `None` for what the disk has.
    pub(super) const fn quota(&self) -> Option<u64> {
        self.quota
    }

    /// Returns the bytes that are still to come for fetches that run.
    pub(super) fn bytes_to_come(&self) -> u64 {
        let listed = self.listed.lock();
        let running = listed.iter().map(|one| one.lock()).filter(|one| one.state == FetchState::Running);
        running.map(|one| one.size.saturating_sub(one.bytes)).fold(0, u64::saturating_add)
    }

    /// True if a fetch turned out to be larger than it may be.
    pub(super) fn is_over_budget(&self, number: u64) -> bool {
        let budget = self.budgets.lock().get(&number).copied();
        budget.is_some_and(|budget| self.progress(number).is_some_and(|progress| progress.lock().size > budget))
    }

    /// Starts a fetch of at most so many bytes; returns its number.
    pub(super) fn start(&self, from: &ConversationName, name: &str, budget: u64) -> Result<u64, Error> {
        let progress = self.running.lock().start(from, name)?;
        let number = progress.lock().number;
        if self.quota.is_some() {
            // Its size isn't known before the source answers: the budget is compared with it then.
            self.budgets.lock().insert(number, budget);
        }
        let mut listed = self.listed.lock();
        listed.push_back(progress);
        let is_running = |one: &ProgressLock| one.lock().state == FetchState::Running;
        if listed.len() > MAX_ENDED
            // One that runs stays: a page stops only what is listed.
            && let Some(oldest) = listed.iter().position(|one| !is_running(one))
        {
            listed.remove(oldest);
        }
        Ok(number)
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
        self.listed.lock().iter().filter_map(|one| serde_json::to_value(&*one.lock()).ok()).collect()
    }

    /// Returns the place of a fetched file on this disk, and its content.
    pub(in crate::web) fn fetched_file(&self, number: u64, name: &str) -> Option<(PathBuf, ContentHash)> {
        let progress = self.progress(number)?;
        let progress = progress.lock();
        let file = progress.files.iter().find(|file| file.name == name && file.state == FetchState::Done)?;
        Some((file.path.clone()?, file.hash?))
    }

    /// Returns the object of a fetch.
    pub(super) fn object(&self, number: u64) -> Option<Value> {
        serde_json::to_value(&*self.progress(number)?.lock()).ok()
    }

    /// Marks a fetch whose files were all reported.
    pub(super) fn mark_reported(&self, number: u64) {
        self.running.lock().mark_reported(number);
    }

    /// Records the end of a fetch's thread; one that said nothing before has failed.
    pub(super) fn record_end(&self, number: u64) -> bool {
        self.running.lock().remove(number);
        self.budgets.lock().remove(&number);
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

    fn progress(&self, number: u64) -> Option<ProgressLock> {
        self.listed.lock().iter().find(|one| one.lock().number == number).cloned()
    }
}
