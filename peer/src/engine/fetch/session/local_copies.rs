//! Local copies: of the files with the same content only one comes over the network, and the others are copied from it.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | copies at a time | [`MAX_COPIES`] | the others wait in order |
//! | memory for the groups of copies | the quota of the writer, as for groups from the network | the copies wait |

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use super::{FetchSession, SessionAction};
use crate::engine::Error;
use crate::engine::fetch::FileNo;
use crate::engine::fetch::writer::FileJob;

/// Files below this size aren't copied: the network is as quick as the disk.
const MIN_COPY_BYTES: u64 = 64 * 1024;
/// Copies at a time: each holds descriptors here and in the writer, and a folder may have one content under any number
/// of names.
const MAX_COPIES: usize = 2;

/// The files of a round that are copied from others.
#[derive(Debug, Default)]
pub(super) struct LocalCopies {
    /// Files that wait for another one with the same content, keyed by that file.
    pending: HashMap<FileNo, VecDeque<FileNo>>,
    /// Placed files whose copies are due.
    due: VecDeque<PlacedOriginal>,
    /// Number of copies under way.
    running: usize,
}

/// A placed file, and those that are still to be copied from it.
#[derive(Debug)]
struct PlacedOriginal {
    file: FileNo,
    path: PathBuf,
    copies: VecDeque<FileNo>,
}

/// The result of a local copy.
#[derive(Debug)]
pub(in crate::engine::fetch) enum CopyOutcome {
    /// All groups were sent to the writer.
    Sent,
    /// No group was sent: the file can still come over the network.
    NotBegun(Error),
    Failed(Error),
}

impl LocalCopies {
    /// Finds the files with the content of an earlier one.
    pub(super) fn find(jobs: &[FileJob]) -> Self {
        let (mut first, mut pending) = (HashMap::new(), HashMap::<FileNo, VecDeque<FileNo>>::new());
        for (file, job) in jobs.iter().enumerate() {
            // A stream keeps no file to copy from.
            if job.target.is_none() || job.layout.size() < MIN_COPY_BYTES {
                continue;
            }
            let leader = *first.entry(job.stat.hash).or_insert(file);
            if leader != file {
                pending.entry(leader).or_default().push_back(file);
            }
        }
        Self { pending, ..Self::default() }
    }

    /// Returns all files that wait for another one.
    pub(super) fn waiting(&self) -> impl Iterator<Item = FileNo> + '_ {
        self.pending.values().flatten().copied()
    }

    /// Removes and returns the files that wait for `file`.
    fn remove_waiting(&mut self, file: FileNo) -> VecDeque<FileNo> {
        self.pending.remove(&file).unwrap_or_default()
    }

    /// Begins the next copy that is due, unless enough are under way: the file to copy from, its path, and the copy.
    fn begin_next(&mut self) -> Option<(FileNo, PathBuf, FileNo)> {
        while self.running < MAX_COPIES {
            let PlacedOriginal { file, path, copies } = self.due.front_mut()?;
            if let Some(copy) = copies.pop_front() {
                self.running += 1;
                return Some((*file, path.clone(), copy));
            }
            self.due.pop_front();
        }
        None
    }
}

impl FetchSession<'_> {
    /// Copies a settled file to those that wait for it; without a `path`, the next of them is fetched instead and the
    /// others wait for that one.
    pub(super) fn start_copies(&mut self, file: FileNo, path: Option<&Path>) {
        let mut copies = self.round.copies.remove_waiting(file);
        if copies.is_empty() {
            return;
        }
        if let Some(path) = path {
            self.round.copies.due.push_back(PlacedOriginal { file, path: path.to_owned(), copies });
            self.start_due_copies();
        } else if let Some(next) = copies.pop_front() {
            if !copies.is_empty() {
                self.round.copies.pending.insert(next, copies);
            }
            self.release(next);
        }
    }

    /// Handles the end of a copy: fetches the file instead if no group was sent.
    pub(super) fn handle_copy_outcome(&mut self, file: FileNo, outcome: CopyOutcome) {
        self.round.copies.running = self.round.copies.running.saturating_sub(1);
        match outcome {
            CopyOutcome::Sent => {}
            CopyOutcome::NotBegun(why) => {
                tracing::info!("{} is fetched, not copied: {why}", self.shown_name(file));
                self.release(file);
            }
            CopyOutcome::Failed(error) => self.fail(file, error),
        }
        self.start_due_copies();
    }

    fn start_due_copies(&mut self) {
        while let Some((of, path, copy)) = self.round.copies.begin_next() {
            // A file of one group isn't opened by the writer in advance, so no event starts it.
            if self.is_single_group(copy) {
                self.report_started(copy, 0);
            }
            self.actions.push_back(SessionAction::CopyLocally { of, copy, path });
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
    use crate::engine::fetch::destination::FileTarget;
    use crate::engine::fetch::writer::EarlierRounds;

    #[test]
    fn each_content_is_fetched_once() {
        let home = tempfile::tempdir().unwrap();
        let job = |name: &str, content: &str, size: u64| {
            let layout = GroupLayout::of(size).unwrap();
            let stat = FileStat::new(name.parse().unwrap(), ContentHash::of(content.as_bytes()), &layout);
            let target = Some(FileTarget::alone(home.path(), name, "bob".parse().unwrap()));
            FileJob {
                owner: "bob".parse().unwrap(),
                stat,
                layout,
                target,
                reported_no: 0,
                earlier_rounds: EarlierRounds::default(),
            }
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
        let mut copies = LocalCopies::find(&jobs);
        let mut waiting: Vec<FileNo> = copies.waiting().collect();
        waiting.sort_unstable();
        assert_eq!(waiting, [2, 3]);
        assert_eq!(copies.remove_waiting(0), [2, 3]);
        assert!(copies.remove_waiting(0).is_empty() && copies.remove_waiting(1).is_empty());
        let streamed: Vec<FileJob> = jobs.into_iter().map(|job| FileJob { target: None, ..job }).collect();
        assert_eq!(LocalCopies::find(&streamed).waiting().count(), 0);
    }
}
