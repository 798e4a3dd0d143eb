//! Local copies: of several files with the same content in one fetch, one
//! comes over the network and the others are copied from it.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use super::{FetchSession, SessionAction};
use crate::engine::Error;
use crate::engine::fetch::FileNo;
use crate::engine::fetch::plan::SourceNo;
use crate::engine::fetch::writer::FileJob;

/// Stands for the copied file wherever a source is named.
pub(in crate::engine::fetch) const LOCAL_SOURCE: SourceNo = SourceNo::MAX;
/// Files below this size aren't copied: the network is as quick as the disk.
const MIN_COPY_BYTES: u64 = 64 * 1024;

/// Files that wait for another one with the same content, keyed by that file.
#[derive(Debug, Default)]
pub(super) struct PendingCopies(HashMap<FileNo, VecDeque<FileNo>>);

/// The result of a local copy.
#[derive(Debug)]
pub(in crate::engine::fetch) enum CopyOutcome {
    /// All groups were sent to the writer.
    Sent,
    /// No group was sent: the file can still come over the network.
    NotBegun(Error),
    Failed(Error),
}

impl PendingCopies {
    /// Finds the files with the content of an earlier one.
    pub(super) fn find(jobs: &[FileJob]) -> Self {
        let (mut first, mut copies) = (HashMap::new(), HashMap::<FileNo, VecDeque<FileNo>>::new());
        for (file, job) in jobs.iter().enumerate() {
            // A stream keeps no file to copy from.
            if job.target.is_none() || job.layout.size() < MIN_COPY_BYTES {
                continue;
            }
            let leader = *first.entry(job.stat.hash).or_insert(file);
            if leader != file {
                copies.entry(leader).or_default().push_back(file);
            }
        }
        Self(copies)
    }

    /// Returns all waiting files.
    pub(super) fn waiting(&self) -> impl Iterator<Item = FileNo> + '_ {
        self.0.values().flatten().copied()
    }

    /// Removes and returns the files that wait for `file`.
    fn remove_waiting(&mut self, file: FileNo) -> VecDeque<FileNo> {
        self.0.remove(&file).unwrap_or_default()
    }
}

impl FetchSession<'_> {
    /// Copies a settled file to those that wait for it; without a `path`, the next of them is fetched instead and the
    /// others wait for that one.
    pub(super) fn start_copies(&mut self, file: FileNo, path: Option<&Path>) {
        let mut waiting = self.round.pending_copies.remove_waiting(file);
        if let Some(path) = path {
            for copy in waiting {
                // A file of one group isn't opened by the writer in advance, so no event starts it.
                if self.is_single_group(copy) {
                    self.report_started(copy, 0);
                }
                self.actions.push_back(SessionAction::CopyLocally { of: file, copy, path: path.to_owned() });
            }
        } else if let Some(next) = waiting.pop_front() {
            if !waiting.is_empty() {
                self.round.pending_copies.0.insert(next, waiting);
            }
            self.release(next);
        }
    }

    /// Handles the end of a copy: fetches the file instead if no group was sent.
    pub(super) fn handle_copy_outcome(&mut self, file: FileNo, outcome: CopyOutcome) {
        match outcome {
            CopyOutcome::Sent => {}
            CopyOutcome::NotBegun(why) => {
                tracing::info!("{} is fetched, not copied: {why}", self.shown_name(file));
                self.release(file);
            }
            CopyOutcome::Failed(error) => self.fail(file, error),
        }
    }

    fn release(&mut self, file: FileNo) {
        self.round.plan.lock().release(file);
        self.round.plan.announce_work();
        self.round.released_files.push(file);
    }
}

#[cfg(test)]
mod tests {
    use shared::peer::FileStat;
    use shared::{ContentHash, GroupLayout};

    use super::*;
    use crate::engine::fetch::file_target::FileTarget;
    use crate::engine::fetch::writer::EarlierRounds;

    #[test]
    fn each_content_is_fetched_once() {
        let home = tempfile::tempdir().unwrap();
        let job = |name: &str, content: &str, size: u64| {
            let layout = GroupLayout::of(size).unwrap();
            let stat = FileStat::new(name.parse().unwrap(), ContentHash::of(content.as_bytes()), &layout);
            let target = Some(FileTarget::alone(home.path(), name, "bob".parse().unwrap()));
            FileJob { stat, layout, target, reported_no: 0, earlier_rounds: EarlierRounds::default() }
        };
        let large = 3 << 20;
        let jobs = [
            job("a", "one", large),
            job("b", "two", large),
            job("c", "one", large),
            job("d", "one", large),
            job("e", "small", 5),
            job("f", "small", 5),
        ];
        let mut copies = PendingCopies::find(&jobs);
        let mut waiting: Vec<FileNo> = copies.waiting().collect();
        waiting.sort_unstable();
        assert_eq!(waiting, [2, 3]);
        assert_eq!(copies.remove_waiting(0), [2, 3]);
        assert!(copies.remove_waiting(0).is_empty() && copies.remove_waiting(1).is_empty());
        let streamed: Vec<FileJob> = jobs.into_iter().map(|job| FileJob { target: None, ..job }).collect();
        assert_eq!(PendingCopies::find(&streamed).waiting().count(), 0);
    }
}
