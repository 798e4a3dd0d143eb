//! Throttle for the progress of a fetch's files: which updates are sent, and how often. No I/O.
//!
//! A file that was reported as running is always reported again when it ends. A file that begins and ends between two
//! updates is reported once; of thousands of such files only some are, because nobody reads a line for each.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shared::{FileName, UserName};

use super::fetch::{FetchEvent, FileNo, FileOutcome, FileReport};
use super::node_event::{FileTransfer, TransferDirection, TransferState};

/// Files reported as running at the same time; the others are reported when they end.
const MAX_FOLLOWED: usize = 32;
/// Files reported without delay.
const BURST_FILES: f64 = 200.0;
/// Files reported in a second after that.
const FILES_PER_SECOND: f64 = 20.0;

/// The progress of the files of one fetch.
#[derive(Debug)]
pub struct ProgressThrottle {
    active: HashMap<FileNo, TransferProgress>,
    finished: Vec<FileTransfer>,
    followed: usize,
    allowance: f64,
    refilled_at: Instant,
}

#[derive(Debug)]
struct TransferProgress {
    owner: UserName,
    name: FileName,
    size: u64,
    bytes: u64,
    /// The bytes in the last report; `None` before the first.
    reported_bytes: Option<u64>,
}

impl ProgressThrottle {
    /// Prepares for a fetch that begins.
    pub fn new(now: Instant) -> Self {
        let (active, finished) = (HashMap::new(), Vec::new());
        Self { active, finished, followed: 0, allowance: BURST_FILES, refilled_at: now }
    }

    /// Updates the progress from an event of the fetch; returns true if there may be something to report.
    pub fn handle_event(&mut self, event: &FetchEvent<'_>, now: Instant) -> bool {
        match event {
            FetchEvent::Started { file, owner, name, size, resumed } => {
                let (owner, name) = ((*owner).clone(), (*name).clone());
                let running = TransferProgress { owner, name, size: *size, bytes: *resumed, reported_bytes: None };
                self.active.insert(*file, running);
                true
            }
            FetchEvent::Verified { file, bytes } => match self.active.get_mut(file) {
                Some(running) => {
                    running.bytes = running.bytes.saturating_add(*bytes).min(running.size);
                    // A file that was not reported as running has nothing to update until it ends.
                    running.reported_bytes.is_some()
                }
                None => false,
            },
            FetchEvent::Paused { file, .. } => {
                // For listeners it is over; if the fetch takes the file up again, it is reported anew.
                if let Some(running) = self.active.remove(file).filter(|running| running.reported_bytes.is_some()) {
                    self.followed -= 1;
                    self.finished.push(transfer(&running, TransferState::Failed));
                }
                true
            }
            FetchEvent::Finished { file: Some(file), report } => self.file_finished(*file, report, now),
            _ => false,
        }
    }

    /// Returns the updates to report now.
    pub fn due_updates(&mut self, now: Instant) -> Vec<FileTransfer> {
        let mut due = std::mem::take(&mut self.finished);
        let mut fresh: Vec<FileNo> = Vec::new();
        for (no, running) in &mut self.active {
            match running.reported_bytes {
                // A file without progress since its last report needs no update.
                Some(told) if told != running.bytes => {
                    running.reported_bytes = Some(running.bytes);
                    due.push(transfer(running, TransferState::Running));
                }
                Some(_) => {}
                None => fresh.push(*no),
            }
        }
        // In the order of their numbers: a map has none.
        fresh.sort_unstable();
        for no in fresh {
            if self.followed >= MAX_FOLLOWED || !self.take_allowance(now) {
                break;
            }
            if let Some(running) = self.active.get_mut(&no) {
                running.reported_bytes = Some(running.bytes);
                due.push(transfer(running, TransferState::Running));
                self.followed += 1;
            }
        }
        due
    }

    /// Returns the last updates: files reported as running have failed.
    pub fn final_updates(mut self) -> Vec<FileTransfer> {
        let told = self.active.values().filter(|running| running.reported_bytes.is_some());
        self.finished.extend(told.map(|running| transfer(running, TransferState::Failed)));
        self.finished
    }

    fn file_finished(&mut self, file: FileNo, report: &FileReport, now: Instant) -> bool {
        let Some(mut running) = self.active.remove(&file) else { return false };
        let is_told = running.reported_bytes.is_some();
        self.followed -= usize::from(is_told);
        if !is_told && !self.take_allowance(now) {
            return false;
        }
        let state = match report.outcome {
            FileOutcome::Failed(_) | FileOutcome::Aborted(_) => TransferState::Failed,
            FileOutcome::Done(_) | FileOutcome::Renamed(_) | FileOutcome::Skipped(_) | FileOutcome::Streamed => {
                TransferState::Done
            }
        };
        // The last bytes were perhaps not told, because they came too soon after others.
        if state == TransferState::Done {
            running.bytes = running.size;
        }
        self.finished.push(transfer(&running, state));
        true
    }

    /// Returns whether one more file may be reported.
    fn take_allowance(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.refilled_at).min(Duration::from_secs(60));
        self.refilled_at = now;
        self.allowance = since.as_secs_f64().mul_add(FILES_PER_SECOND, self.allowance).min(BURST_FILES);
        let allowed = self.allowance >= 1.0;
        if allowed {
            self.allowance -= 1.0;
        }
        allowed
    }
}

fn transfer(running: &TransferProgress, state: TransferState) -> FileTransfer {
    FileTransfer {
        peer: running.owner.clone(),
        name: running.name.clone(),
        direction: TransferDirection::Down,
        bytes: running.bytes,
        size: running.size,
        state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Error;

    fn start(transfers: &mut ProgressThrottle, file: FileNo, size: u64, now: Instant) {
        let (owner, name) = ("bob".parse().unwrap(), format!("file {file}").parse().unwrap());
        transfers.handle_event(&FetchEvent::Started { file, owner: &owner, name: &name, size, resumed: 0 }, now);
    }

    fn finish(transfers: &mut ProgressThrottle, file: FileNo, status: FileOutcome, now: Instant) {
        let (name, sources) = (format!("file {file}"), Vec::new());
        let (restricted, outcome, origin) = (false, status, None);
        let report =
            FileReport { name, size: 10, restricted, outcome, bytes_fetched: 10, bytes_resumed: 0, sources, origin };
        transfers.handle_event(&FetchEvent::Finished { file: Some(file), report: &report }, now);
    }

    fn told(transfers: Vec<FileTransfer>) -> Vec<(u64, TransferState)> {
        transfers.into_iter().map(|transfer| (transfer.bytes, transfer.state)).collect()
    }

    #[test]
    fn a_file_is_told_of_when_it_begins_moves_and_ends() {
        let now = Instant::now();
        let mut transfers = ProgressThrottle::new(now);
        start(&mut transfers, 0, 10, now);
        assert_eq!(told(transfers.due_updates(now)), [(0, TransferState::Running)]);
        assert_eq!(told(transfers.due_updates(now)), [], "nothing is new");
        transfers.handle_event(&FetchEvent::Verified { file: 0, bytes: 4 }, now);
        transfers.handle_event(&FetchEvent::Verified { file: 0, bytes: 3 }, now);
        assert_eq!(told(transfers.due_updates(now)), [(7, TransferState::Running)]);
        transfers.handle_event(&FetchEvent::Verified { file: 0, bytes: 3 }, now);
        finish(&mut transfers, 0, FileOutcome::Streamed, now);
        assert_eq!(
            told(transfers.due_updates(now)),
            [(10, TransferState::Done)],
            "the end is all that is left to tell"
        );
        finish(&mut transfers, 1, FileOutcome::Streamed, now);
        assert_eq!(told(transfers.final_updates()), [], "it never began");
    }

    #[test]
    fn what_is_broken_off_has_an_end_as_well() {
        let now = Instant::now();
        let mut transfers = ProgressThrottle::new(now);
        for file in 0..3 {
            start(&mut transfers, file, 10, now);
        }
        assert_eq!(transfers.due_updates(now).len(), 3);
        finish(&mut transfers, 0, FileOutcome::Failed(Error::Interrupted), now);
        start(&mut transfers, 3, 10, now);
        assert_eq!(
            told(transfers.final_updates()),
            [(0, TransferState::Failed); 3],
            "not the one that nobody heard of"
        );
    }

    #[test]
    fn of_a_hundred_thousand_small_files_only_some_are_told_of() {
        let begun = Instant::now();
        let mut transfers = ProgressThrottle::new(begun);
        let mut lines: HashMap<FileName, Vec<TransferState>> = HashMap::new();
        let mut hear = |transfers: Vec<FileTransfer>| {
            transfers.into_iter().for_each(|told| lines.entry(told.name).or_default().push(told.state));
        };
        let mut now = begun;
        for file in 0..100_000 {
            start(&mut transfers, file, 10, now);
            if file >= 500 {
                finish(&mut transfers, file - 500, FileOutcome::Streamed, now);
            }
            if file % 400 == 0 {
                now += Duration::from_millis(100);
                hear(transfers.due_updates(now));
            }
        }
        hear(transfers.final_updates());
        let all: usize = lines.values().map(Vec::len).sum();
        assert!((400..2000).contains(&all), "{all} lines");
        for (name, states) in lines {
            assert_ne!(states.last(), Some(&TransferState::Running), "{name:?} never ends");
        }
    }
}
