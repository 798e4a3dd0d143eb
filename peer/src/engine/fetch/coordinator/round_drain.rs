//! End of a round: stops its tasks and settles the remaining files, so that every known file gets a report.

use std::sync::Arc;

use super::local_copies::LOCAL_SOURCE;
use super::{FailureReason, FetchEventHandler, FetchReportBuilder, FetchRound, FileProgress, SourceState};
use crate::engine::Error;
use crate::engine::fetch::plan::SourceNo;
use crate::engine::fetch::writer::{EarlierRounds, FileDisposition, FileJob, WriterEvent};
use crate::engine::fetch::{FileNo, FileOutcome, FileReport, RequestedName, SourceReport};

/// A round whose tasks have ended, while the writer finishes its work.
pub(super) struct DrainingRound {
    report_builder: FetchReportBuilder,
    jobs: Arc<Vec<FileJob>>,
    progress: Vec<FileProgress>,
    sources: Vec<SourceState>,
    settled: Vec<bool>,
}

impl FetchRound<'_> {
    /// Stops all tasks. With them goes the last handle to the writer, so that its threads end.
    pub(super) async fn stop_tasks(self) -> DrainingRound {
        let Self {
            context: shared,
            downloaders: mut pullers,
            redials: mut calls,
            availability_watches: mut watches,
            copy_tasks: mut copying,
            report_builder: account,
            progress,
            sources,
            ..
        } = self;
        // Awaited and not only aborted: tasks hold handles to the
        // writer, and all must be gone before it is joined.
        copying.shutdown().await;
        calls.shutdown().await;
        watches.shutdown().await;
        pullers.shutdown().await;
        let jobs = shared.jobs.clone();
        let settled = (0..jobs.len()).map(|file| shared.plan().is_settled(file)).collect();
        DrainingRound { report_builder: account, jobs, progress, sources, settled }
    }
}

impl DrainingRound {
    /// Handles an event that the writer sent while it ended.
    pub(super) fn handle_writer_event(&mut self, event: WriterEvent, report: FetchEventHandler<'_>) {
        match event {
            WriterEvent::GroupVerified { source: LOCAL_SOURCE, .. } => {}
            WriterEvent::GroupVerified { file, bytes, source } => {
                if let Some(progress) = self.progress.get_mut(file) {
                    progress.add(bytes, source);
                }
            }
            WriterEvent::FileFinished { file, disposition: end } => self.settle(file, end.into(), report),
            // Reported once, as the error of the fetch.
            WriterEvent::FileFailed { file, error } if error.is_disk_full() => {
                self.settle(file, FileOutcome::Aborted(error), report);
            }
            WriterEvent::FileFailed { file, error } => self.settle(file, FileOutcome::Failed(error), report),
            WriterEvent::FileOpened { file, bytes, .. } => {
                if let Some(progress) = self.progress.get_mut(file) {
                    progress.resumed = bytes;
                }
            }
            WriterEvent::GroupCorrupt { .. }
            | WriterEvent::BytesRehashed { .. }
            | WriterEvent::ZerosVerified { .. }
            | WriterEvent::AwaitingReader { .. } => {}
        }
    }

    /// Aborts all unsettled files with the error that ended the fetch, or
    /// with that of the failed file before them in a stream.
    pub(super) fn abort_unsettled(
        mut self,
        early: Option<&Error>,
        report: FetchEventHandler<'_>,
    ) -> FetchReportBuilder {
        let Some(why) = early.or(self.report_builder.first_error()).map(FailureReason::of) else {
            return self.report_builder;
        };
        for file in 0..self.jobs.len() {
            self.settle(file, FileOutcome::Aborted(why.clone().into_error()), report);
        }
        self.report_builder
    }

    fn settle(&mut self, file: FileNo, outcome: FileOutcome, report: FetchEventHandler<'_>) {
        if self.settled.get_mut(file).is_none_or(|settled| std::mem::replace(settled, true)) {
            return;
        }
        let progress = self.progress.get_mut(file).map(std::mem::take).unwrap_or_default();
        let job = self.jobs.get(file);
        record_placed(&mut self.report_builder, job, &outcome);
        let told = file_report(job, &progress, &self.sources, outcome);
        self.report_builder.settle(job.map(|order| order.reported_no), told, || retry_name_of_job(job), report);
    }
}

impl FetchReportBuilder {
    /// Aborts the files of jobs that were not begun when the whole fetch ended.
    pub(super) fn abort_jobs(&mut self, jobs: &[FileJob], error: &Error, report: FetchEventHandler<'_>) {
        for job in jobs {
            self.settle_job(job, FileOutcome::Aborted(FailureReason::of(error).into_error()), report);
        }
    }

    /// Fails the file of a job that isn't part of a running round; aborts it after an interruption.
    pub(super) fn fail_job(&mut self, job: &FileJob, error: Error, report: FetchEventHandler<'_>) {
        let outcome = match error {
            Error::Interrupted => FileOutcome::Aborted(error),
            error => FileOutcome::Failed(error),
        };
        self.settle_job(job, outcome, report);
    }

    fn settle_job(&mut self, job: &FileJob, outcome: FileOutcome, report: FetchEventHandler<'_>) {
        let told = file_report(Some(job), &FileProgress::default(), &[], outcome);
        self.settle(Some(job.reported_no), told, || retry_name_of_job(Some(job)), report);
    }
}

impl From<FileDisposition> for FileOutcome {
    fn from(end: FileDisposition) -> Self {
        match end {
            FileDisposition::Placed(path) => Self::Done(path),
            FileDisposition::Renamed(path) => Self::Renamed(path),
            FileDisposition::Discarded(path) => Self::Skipped(path),
            FileDisposition::Streamed => Self::Streamed,
        }
    }
}

/// Records a placed file whose path the file system may confuse with that of a file still to come.
pub(super) fn record_placed(report_builder: &mut FetchReportBuilder, job: Option<&FileJob>, outcome: &FileOutcome) {
    if let FileOutcome::Done(path) | FileOutcome::Renamed(path) | FileOutcome::Skipped(path) = outcome
        && let Some(FileJob { target: Some(spot), layout, .. }) = job
        && spot.collides()
    {
        report_builder.add_placed(path.clone(), layout.size());
    }
}

/// Builds the request entry for exactly this file and target; `None` for a stream, which has no target.
pub(super) fn retry_name_of_job(job: Option<&FileJob>) -> Option<RequestedName> {
    let job = job?;
    Some(RequestedName { text: job.stat.name.as_str().to_owned(), local: job.target.as_ref()?.local() })
}

/// Sums up the bytes and sources of a file over this round and earlier ones.
pub(super) fn merge_earlier_rounds(
    job: Option<&FileJob>,
    progress: &FileProgress,
    sources: &[SourceState],
) -> EarlierRounds {
    let source = |(no, bytes): &(SourceNo, u64)| {
        let source = usize::try_from(*no).ok().and_then(|index| sources.get(index))?;
        Some(SourceReport { user: source.user.clone(), bytes: *bytes, banned: source.is_banned })
    };
    let earlier = job.map(|order| order.earlier_rounds.clone()).unwrap_or_default();
    let mut told = earlier.sources;
    for now in progress.by_source.iter().filter_map(source) {
        match told.iter_mut().find(|told| told.user == now.user) {
            Some(told) => *told = SourceReport { bytes: told.bytes.saturating_add(now.bytes), ..now },
            None => told.push(now),
        }
    }
    // Every report names the banned sources, also those that sent nothing of this file.
    let silent = |source: &&SourceState| source.is_banned && !told.iter().any(|told| told.user == source.user);
    let banned = sources.iter().filter(silent);
    let banned: Vec<_> =
        banned.map(|source| SourceReport { user: source.user.clone(), bytes: 0, banned: true }).collect();
    told.extend(banned);
    // Bytes present at the start of a later round came in an earlier one: the first round's count stays.
    let resumed = earlier.resumed.or(progress.is_started.then_some(progress.resumed));
    EarlierRounds { fetched: earlier.fetched.saturating_add(progress.fetched), resumed, sources: told }
}

/// Builds the report of a settled file.
pub(super) fn file_report(
    job: Option<&FileJob>,
    progress: &FileProgress,
    sources: &[SourceState],
    outcome: FileOutcome,
) -> FileReport {
    let EarlierRounds { fetched, resumed, sources } = merge_earlier_rounds(job, progress, sources);
    FileReport {
        name: job.map(|order| order.stat.name.as_str().to_owned()).unwrap_or_default(),
        size: job.map_or(0, |order| order.layout.size()),
        outcome,
        bytes_fetched: fetched,
        bytes_resumed: resumed.unwrap_or(progress.resumed),
        sources,
    }
}
