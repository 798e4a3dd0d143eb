//! Local copies: of several files with the same content in one fetch, one
//! comes over the network and the others are copied from it.
//!
//! A copy passes the writer like every file: its groups are verified,
//! it has a partial file, and it is placed by itself.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::GroupLayout;
use shared::safe_text::safe_path;

use super::{FetchEventHandler, FetchRound};
use crate::engine::fetch::FileNo;
use crate::engine::fetch::downloader::DownloadContext;
use crate::engine::fetch::plan::SourceNo;
use crate::engine::fetch::writer::{FileJob, WriterCommand};
use crate::engine::share::{KeySearch, hash_file, ignore_progress};
use crate::engine::{Error, run_blocking};
use crate::profile::HashedFile;

/// Stands for the copied file wherever a source is named.
pub(super) const LOCAL_SOURCE: SourceNo = SourceNo::MAX;
/// Files below this size aren't copied: the network is as quick as the disk.
const MIN_COPY_BYTES: u64 = 64 * 1024;

/// Files that wait for another one with the same content, keyed by that file.
#[derive(Debug, Default)]
pub(super) struct PendingCopies(HashMap<FileNo, VecDeque<FileNo>>);

/// The result of a local copy.
#[derive(Debug)]
pub(super) enum CopyOutcome {
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

impl FetchRound<'_> {
    /// Copies a settled file to those that wait for it; without a `path`, the next of them is fetched instead and the
    /// others wait for that one.
    pub(super) fn start_copies(&mut self, file: FileNo, path: Option<&Path>, report: FetchEventHandler<'_>) {
        let mut waiting = self.pending_copies.remove_waiting(file);
        if let Some(path) = path {
            for copy in waiting {
                // A file of one group isn't opened by the writer in advance, so no event starts it.
                if self.context.jobs.get(copy).is_some_and(|job| job.layout.group_count() == 1) {
                    self.report_started(copy, 0, report);
                }
                let (context, from) = (self.context.clone(), path.to_owned());
                self.copy_tasks.spawn(async move { (copy, copy_groups(context, file, copy, from).await) });
            }
        } else if let Some(next) = waiting.pop_front() {
            if !waiting.is_empty() {
                self.pending_copies.0.insert(next, waiting);
            }
            self.release(next);
        }
    }

    /// Handles the end of a copy: fetches the file instead if no group was sent.
    pub(super) async fn handle_copy_outcome(
        &mut self,
        file: FileNo,
        copied: CopyOutcome,
        report: FetchEventHandler<'_>,
    ) {
        match copied {
            CopyOutcome::Sent => {}
            CopyOutcome::NotBegun(why) => {
                tracing::info!("{} is fetched, not copied: {why}", self.shown_name(file));
                self.release(file);
            }
            CopyOutcome::Failed(error) => self.fail(file, error, report).await,
        }
    }

    fn release(&mut self, file: FileNo) {
        self.context.plan().release(file);
        self.context.work_available.notify_waiters();
        self.released_files.push(file);
    }

    /// Fails the released files that have no source left.
    pub(super) async fn check_released(&mut self, report: FetchEventHandler<'_>) {
        while let Some(file) = self.released_files.pop() {
            self.fail_if_stranded(file, report).await;
        }
    }
}

/// Sends the groups of the file at `from`, the placed file `of`, to the writer as those of `copy`.
async fn copy_groups(context: Arc<DownloadContext>, of: FileNo, copy: FileNo, from: PathBuf) -> CopyOutcome {
    let (jobs, path) = (context.jobs.clone(), from.clone());
    let opened = run_blocking(move || open_placed(jobs.get(of), &path)).await;
    let (file, layout, known) = match opened {
        Ok((file, known)) => match GroupLayout::of(known.version.size) {
            Some(layout) => (Arc::new(file), layout, known),
            None => return CopyOutcome::NotBegun(Error::Internal("a file that is too large".to_owned())),
        },
        Err(error) => return CopyOutcome::NotBegun(error),
    };
    let HashedFile { manifest, zeros, .. } = known;
    if layout.group_count() > 1 {
        let zeros = zeros.clone();
        context.writer.send(WriterCommand::Open { file: copy, manifest, zeros, source: LOCAL_SOURCE }).await;
    }
    // The writer makes the zero groups itself from the claims in `Open`.
    for group in (0..layout.group_count()).filter(|group| !zeros.contains(*group)) {
        let (file, from) = (file.clone(), from.clone());
        let len = usize::try_from(layout.group_len(group)).unwrap_or(usize::MAX);
        let mut bytes = context.writer.buffer(len);
        let read = run_blocking(move || {
            bytes.resize(len, 0);
            file.read_exact_at(&mut bytes, layout.offset(group)).map_err(Error::disk(&from))?;
            Ok(bytes)
        });
        match read.await {
            Ok(bytes) => context.writer.send_group(copy, group, bytes, LOCAL_SOURCE).await,
            Err(error) => return CopyOutcome::Failed(error),
        }
    }
    CopyOutcome::Sent
}

/// Opens a placed file and hashes it: only the fetched content may be copied.
fn open_placed(job: Option<&FileJob>, path: &Path) -> Result<(File, HashedFile), Error> {
    let gone = || Error::Internal(format!("{} is not where it was put", safe_path(path)));
    let job = job.ok_or_else(gone)?;
    // By folder handle, not by path: a link that somebody put on the way since is not followed.
    let folder = job.target.as_ref().ok_or_else(gone)?.folder.open_existing()?.ok_or_else(gone)?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(gone)?;
    let file = folder.open_existing(name).map_err(Error::disk(path))?;
    let known = hash_file(&file, &mut KeySearch::new(None), &mut ignore_progress)
        .map_err(|why| Error::Internal(why.to_string()))?;
    if known.hash == job.stat.hash { Ok((file, known)) } else { Err(gone()) }
}

#[cfg(test)]
mod tests {
    use shared::ContentHash;
    use shared::peer::FileStat;

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
