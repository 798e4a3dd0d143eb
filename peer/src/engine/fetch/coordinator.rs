//! Coordinator of a fetch: starts the downloaders, handles the events of downloaders, writer, source finder and
//! redials, and settles every file.
//!
//! A fetch is a sequence of rounds (`refetch_loop`). In each, [`FetchRound`] is the only owner of progress and source
//! states. Tasks send it events through channels, and share the plan and the writer through [`DownloadContext`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::names::name_encoding;
use shared::peer::PeerErrorCode;
use shared::{UntrustedText, UserName};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::downloader::{DownloadContext, DownloadEvent};
use super::name_resolution::ResolvedRequest;
use super::plan::SourceNo;
use super::slowdown::SlowdownDetector;
use super::source_dialer::SourceDialer;
use super::source_finder::{ExcludedUsers, SearchEvent};
use super::stall_detector::{PulseReading, StallDetector};
use super::writer::{FileJob, WriterCommand, WriterEvent};
use super::{FetchEvent, FetchRequest, FileNo, FileOutcome};
use crate::engine::{Error, ErrorKind};
use crate::net::StreamError;
use crate::net::link::Link;

mod local_copies;
mod refetch_loop;
mod report_builder;
mod round_drain;
mod source_lifecycle;
mod target_planning;

use local_copies::{CopyOutcome, LOCAL_SOURCE, PendingCopies};
pub(super) use report_builder::FetchReportBuilder;
use round_drain::{file_report, merge_earlier_rounds, record_placed, retry_name_of_job};

/// Between two looks at how fast the sources are.
const LOOK: Duration = Duration::from_secs(1);
/// Sources that give more answers between two looks send small files: their rate says nothing about the path.
const FEW_ANSWERS: u64 = 3;
/// For the writer to put away what it has after an interruption.
const WRITER_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

type FetchEventHandler<'a> = &'a mut (dyn FnMut(FetchEvent<'_>) + Send);

/// A fetch whose names are resolved, before its first round.
pub(super) struct FetchCoordinator<'a> {
    dialer: &'a SourceDialer,
    /// The link to the owner of the names; `Err`: the reason why the owner can't be reached.
    owner_link: Result<Link, Error>,
    request: &'a FetchRequest,
    resolved: ResolvedRequest,
}

/// The progress of one file in one round.
#[derive(Debug, Default, Clone)]
struct FileProgress {
    is_started: bool,
    fetched: u64,
    resumed: u64,
    /// Verified bytes by source.
    by_source: Vec<(SourceNo, u64)>,
}

/// The state of one source in a round.
#[derive(Debug)]
struct SourceState {
    user: UserName,
    link: Link,
    /// Number of links so far. Results of downloaders of an earlier link are ignored.
    link_generation: u32,
    /// A redial is under way.
    is_reconnecting: bool,
    /// The traffic of its link, and the reading of the last look.
    pulse: Arc<StallDetector>,
    reading: PulseReading,
    slowdown: SlowdownDetector,
    /// It is there and sent nothing, which was told.
    silent: bool,
    /// When it went, if nothing right came from it since: one that comes back only to go again isn't back.
    lost_since: Option<Instant>,
    is_banned: bool,
}

/// The reason why a round ends.
enum RoundEnd {
    AllSettled,
    Interrupted,
    WriterFailed,
    /// A user named as a source shows another key than the known one.
    IdentityChanged(Error),
    /// The disk has no room for the remaining files.
    DiskFull(Error),
}

/// A cloneable error: one cause can fail several files.
#[derive(Debug, Clone)]
struct FailureReason {
    kind: ErrorKind,
    message: String,
    /// The owner has other content under the name, or none.
    is_content_changed: bool,
}

/// A file whose content changed at the source, and the refusal that showed it.
#[derive(Debug)]
struct ChangedFile {
    job: FileJob,
    reason: FailureReason,
}

/// One round of a fetch under way.
struct FetchRound<'a> {
    dialer: &'a SourceDialer,
    request: &'a FetchRequest,
    /// Parallel streams per source; 1 for a stream destination.
    streams_per_source: usize,
    in_order: bool,
    context: Arc<DownloadContext>,
    progress: Vec<FileProgress>,
    sources: Vec<SourceState>,
    downloaders: JoinSet<(SourceNo, u32, Result<(), StreamError>)>,
    redials: JoinSet<(SourceNo, Result<Link, Error>)>,
    /// Tasks that poll sources which don't have all of a file yet.
    availability_watches: JoinSet<Result<(), StreamError>>,
    /// Files with the same content as another file of this round, which wait for it.
    pending_copies: PendingCopies,
    copy_tasks: JoinSet<(FileNo, CopyOutcome)>,
    /// Files that no longer wait for a copy and must be checked for a source.
    released_files: Vec<FileNo>,
    /// Searches for other sources, requested and completed. Files fail only when both are equal.
    searches_requested: watch::Sender<u64>,
    searches_completed: u64,
    /// Users whom the source finder skips.
    excluded_users: Arc<ExcludedUsers>,
    /// Users who sent something provably false, in this round or an earlier one.
    banned_users: Vec<UserName>,
    /// The error of files that lose their last source without a refusal of their own.
    last_failure: Option<FailureReason>,
    /// The refusal of a source to send a file that it announced.
    refusals: HashMap<FileNo, FailureReason>,
    /// Files to resolve again by name, in the next round.
    changed_files: Vec<ChangedFile>,
    /// The first error of a full disk; it ends the round.
    disk_full: Option<Error>,
    report_builder: FetchReportBuilder,
}

impl FetchRound<'_> {
    /// Handles events until all files are settled or the round ends early.
    async fn run_until_settled(
        &mut self,
        outcomes: &mut mpsc::UnboundedReceiver<WriterEvent>,
        mut news: mpsc::UnboundedReceiver<DownloadEvent>,
        mut others: mpsc::UnboundedReceiver<SearchEvent>,
        report: FetchEventHandler<'_>,
        cancel: &CancellationToken,
    ) -> RoundEnd {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.context.plan().is_done() {
            // Bytes behind a gap in a stream are useless: the first failure ends it.
            if self.in_order && self.report_builder.first_error().is_some() {
                return RoundEnd::AllSettled;
            }
            if let Some(error) = self.disk_full.take() {
                return RoundEnd::DiskFull(error);
            }
            // Biased: an interruption goes first. Download events precede writer events, so that a file is
            // reported as started before its first verified bytes.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return RoundEnd::Interrupted,
                _ = looks.tick() => self.look_at_rates(report),
                Some(event) = news.recv() => self.handle_download_event(event, report).await,
                outcome = outcomes.recv() => match outcome {
                    Some(event) => self.handle_writer_event(event, report).await,
                    None => return RoundEnd::WriterFailed,
                },
                Some(search_event) = others.recv() => {
                    if let Some(ending) = self.handle_search_event(search_event, report).await {
                        return ending;
                    }
                }
                Some(ended) = self.downloaders.join_next() => match ended {
                    Ok((source, link_no, Err(error))) => self.handle_lost_link(source, link_no, error, report).await,
                    Ok((_, _, Ok(()))) => {}
                    Err(failure) => tracing::error!("a puller failed: {failure}"),
                },
                Some(watched) = self.availability_watches.join_next() => {
                    if let Ok(Err(error)) = watched {
                        // The downloaders of the same link fail too, and
                        // their error is the one that is handled.
                        tracing::debug!("what a source has isn't known any more: {error}");
                    }
                }
                Some(Ok((source, link))) = self.redials.join_next() => match link {
                    Ok(link) => self.restore_source(source, &link, report).await,
                    Err(error) => self.abandon_source(source, &error, report).await,
                },
                Some(Ok((file, copied))) = self.copy_tasks.join_next() => self.handle_copy_outcome(file, copied, report).await,
            }
            // Settling a file can release copies, also ones without a source: they are failed here, where
            // nothing else borrows the round.
            self.check_released(report).await;
        }
        // Wakes idle downloaders, which find the plan done and end.
        self.context.work_available.notify_waiters();
        self.await_named_sources(others, report, cancel).await;
        RoundEnd::AllSettled
    }

    async fn handle_download_event(&mut self, event: DownloadEvent, report: FetchEventHandler<'_>) {
        match event {
            DownloadEvent::FileRequested { file } => {
                // A file of several groups counts as started when its partial
                // is open: only then its resumed bytes are known.
                if self.context.jobs.get(file).is_some_and(|job| job.layout.group_count() == 1) {
                    self.report_started(file, 0, report);
                }
            }
            DownloadEvent::FileUnavailable { source, file, code, message } => {
                let changed = matches!(code, PeerErrorCode::Stale | PeerErrorCode::NotFound);
                let trouble = FailureReason {
                    is_content_changed: changed,
                    ..FailureReason::of(&self.unavailable_error(source, file, code, message))
                };
                // A change is the most useful reason: it leads to a new round instead of a failure.
                if !self.refusals.get(&file).is_some_and(|earlier| earlier.is_content_changed) {
                    self.refusals.insert(file, trouble);
                }
                self.fail_if_stranded(file, report).await;
            }
            DownloadEvent::SourceMisbehaved { source, file: about } => {
                let why = format!("sent something about {} that can't be true", self.shown_name(about));
                self.ban_source(source, &why, report).await;
            }
        }
    }

    async fn handle_writer_event(&mut self, event: WriterEvent, report: FetchEventHandler<'_>) {
        match event {
            WriterEvent::BytesRehashed { file, bytes } => {
                if let Some(FileJob { stat, .. }) = self.context.jobs.get(file) {
                    report(FetchEvent::Checking {
                        file: Some(self.reported_no(file)),
                        name: &stat.name,
                        size: stat.size,
                        bytes,
                    });
                }
            }
            WriterEvent::FileOpened { file, present, bytes, partial_path: part } => {
                self.context.plan().file_opened(file, &present);
                self.context.work_available.notify_waiters();
                if let Some(part) = part
                    && let Some(FileJob { stat, target: Some(spot), reported_no: told_as, .. }) =
                        self.context.jobs.get(file)
                {
                    report(FetchEvent::Opened { file: *told_as, stat, name: &spot.name(), partial_path: &part });
                }
                if let Some(progress) = self.progress.get_mut(file) {
                    progress.resumed = bytes;
                }
                self.report_started(file, bytes, report);
            }
            // A copy costs no network bytes, so it counts for the display but not in the report.
            WriterEvent::GroupVerified { file, bytes, source: LOCAL_SOURCE } => {
                report(FetchEvent::Verified { file: self.reported_no(file), bytes });
            }
            WriterEvent::GroupVerified { file, bytes, source } => {
                if let Some(state) = self.source_mut(source) {
                    state.lost_since = None;
                    if std::mem::take(&mut state.silent) {
                        report(FetchEvent::SourceReturned { user: &state.user });
                    }
                }
                if let Some(progress) = self.progress.get_mut(file) {
                    progress.add(bytes, source);
                }
                report(FetchEvent::Verified { file: self.reported_no(file), bytes });
            }
            WriterEvent::AwaitingReader { path } => report(FetchEvent::AwaitingReader { path: &path }),
            WriterEvent::ZerosVerified { file, bytes } => {
                report(FetchEvent::Verified { file: self.reported_no(file), bytes });
            }
            // A local file that changes under the copy is an error of this file, not a lie of a source.
            WriterEvent::GroupCorrupt { file, source: LOCAL_SOURCE, .. } => {
                let error = Error::Integrity(format!("{} changed here while it was copied", self.shown_name(file)));
                self.fail(file, error, report).await;
            }
            WriterEvent::GroupCorrupt { file, group, source } => {
                let why =
                    format!("sent data for {} (group {group}) that doesn't match its hash", self.shown_name(file));
                {
                    // One lock for both: between them, a downloader could
                    // ask the same source for the group again.
                    let mut plan = self.context.plan();
                    plan.group_corrupt(file, group);
                    plan.ban_source(source);
                }
                self.ban_source(source, &why, report).await;
            }
            // A file that was settled otherwise meanwhile, such as a failed one, is not reported twice.
            WriterEvent::FileFinished { file, .. } if self.context.plan().is_settled(file) => {}
            WriterEvent::FileFinished { file, disposition: end } => self.settle(file, end.into(), report),
            WriterEvent::FileFailed { file, error } => self.fail(file, error, report).await,
        }
    }

    async fn fail(&mut self, file: FileNo, error: Error, report: FetchEventHandler<'_>) {
        if self.context.plan().is_settled(file) {
            return;
        }
        // Every other file would fail alike: the round ends once, with one error, instead of once per file.
        if error.is_disk_full() {
            self.disk_full.get_or_insert(error);
            return;
        }
        self.context.writer.send(WriterCommand::Abandon { file }).await;
        self.settle(file, FileOutcome::Failed(error), report);
    }

    /// Puts a file that changed at the source aside for the next round.
    async fn defer_changed_file(&mut self, file: FileNo, trouble: FailureReason, report: FetchEventHandler<'_>) {
        let Some(mut job) = self.context.jobs.get(file).cloned() else { return };
        self.context.writer.send(WriterCommand::Abandon { file }).await;
        let progress = self.close_file(file);
        let FileProgress { fetched, resumed, .. } = progress;
        // The numbering of sources ends with the round, so their bytes are kept by user name.
        job.earlier_rounds = merge_earlier_rounds(Some(&job), &progress, &self.sources);
        self.start_copies(file, None, report);
        report(FetchEvent::Paused { file: job.reported_no, bytes: fetched.saturating_add(resumed) });
        self.changed_files.push(ChangedFile { job, reason: trouble });
    }

    /// Settles a file in the plan and takes its progress.
    fn close_file(&mut self, file: FileNo) -> FileProgress {
        self.context.plan().settle(file);
        self.context.work_available.notify_waiters();
        self.progress.get_mut(file).map(std::mem::take).unwrap_or_default()
    }

    fn reported_no(&self, file: FileNo) -> FileNo {
        self.context.jobs.get(file).map_or(file, |job| job.reported_no)
    }

    fn report_started(&mut self, file: FileNo, resumed: u64, report: FetchEventHandler<'_>) {
        let (Some(progress), Some(order)) = (self.progress.get_mut(file), self.context.jobs.get(file)) else { return };
        if !std::mem::replace(&mut progress.is_started, true) {
            let (file, name) = (order.reported_no, &order.stat.name);
            report(FetchEvent::Started { file, name, size: order.layout.size(), resumed });
        }
    }

    fn settle(&mut self, file: FileNo, outcome: FileOutcome, report: FetchEventHandler<'_>) {
        let progress = self.close_file(file);
        let path = match &outcome {
            FileOutcome::Done(path) | FileOutcome::Renamed(path) => Some(path.clone()),
            _ => None,
        };
        self.start_copies(file, path.as_deref(), report);
        let job = self.context.jobs.get(file);
        record_placed(&mut self.report_builder, job, &outcome);
        let told = file_report(job, &progress, &self.sources, outcome);
        self.report_builder.settle(Some(self.reported_no(file)), told, || retry_name_of_job(job), report);
    }

    fn unavailable_error(&self, source: SourceNo, file: FileNo, code: PeerErrorCode, why: UntrustedText) -> Error {
        let source = usize::try_from(source).ok().and_then(|index| self.sources.get(index));
        let user = source.map_or_else(|| self.request.from.clone(), |source| source.user.clone());
        let (name, message) = (self.shown_name(file), why);
        match code {
            PeerErrorCode::NotFound => Error::NotShared { user: self.request.from.clone(), name },
            PeerErrorCode::Stale => Error::Stale { user, name, why: message },
            PeerErrorCode::Internal => Error::Unreadable { user, name, why: message },
            code => Error::stream(&user, StreamError::Refused { code, message }),
        }
    }

    fn shown_name(&self, file: FileNo) -> String {
        self.context
            .jobs
            .get(file)
            .map(|job| name_encoding::display_name(job.stat.name.as_str()).into_owned())
            .unwrap_or_default()
    }
}

impl FileProgress {
    fn add(&mut self, bytes: u64, source: SourceNo) {
        self.fetched += bytes;
        match self.by_source.iter_mut().find(|(by, _)| *by == source) {
            Some((_, sum)) => *sum += bytes,
            None => self.by_source.push((source, bytes)),
        }
    }
}

impl FailureReason {
    fn of(error: &Error) -> Self {
        Self { kind: error.kind(), message: error.to_string(), is_content_changed: false }
    }

    fn into_error(self) -> Error {
        Error::Relayed { kind: self.kind, message: self.message }
    }
}
