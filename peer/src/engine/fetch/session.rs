//! Session of a fetch: the state machine that owns the files, the sources, the refusals and the report of a fetch.
//!
//! Pure, in the manner of quinn-proto: no task, socket or clock. The driver tells what happened with the time it
//! happened at, and does what the session asks for.
//!
//! ```text
//! driver ──SessionEvent──► handle(event, now) ──► files, sources, plan, report
//!    ▲                                                        │
//!    └──────SessionAction────── poll_action() ◄───────────────┘          round_end(): the round is over, and why
//! ```
//!
//! A fetch is a sequence of rounds. A file whose content changed at the source is put aside (`changed_files`), described
//! again by its owner after the round, and fetched in the next one, at most [`MAX_ROUNDS`] times. A round ends when each
//! of its files is settled or put aside; `begin_drain` ends it early. From then on the session only counts what the
//! writer still finishes, and `end_round` settles the rest: every known file gets exactly one report.
//!
//! The plan decides who is asked for which groups. The downloaders take work from it directly, so that no group waits
//! for the session; the session hears of what they and the writer made of it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::names::name_encoding;
use shared::peer::PeerErrorCode;
use shared::{GroupSet, UntrustedText, UserName};

use super::downloader::DownloadEvent;
use super::name_resolution::ResolvedFile;
use super::plan::{SharedPlan, SourceNo};
use super::report_builder::{FailureReason, FetchReportBuilder};
use super::stall_detector::PulseReading;
use super::writer::{EarlierRounds, FileDisposition, FileJob, WriterEvent};
use super::{FetchEvent, FetchRequest, FileNo, FileOutcome, SourcePolicy, SourceReport};
use crate::engine::Error;
use crate::net::StreamError;

mod pending_copies;
mod source_lifecycle;
#[cfg(test)]
mod tests;

use pending_copies::PendingCopies;
pub(super) use pending_copies::{CopyOutcome, LOCAL_SOURCE};
use source_lifecycle::SourceState;

/// A file whose content changed this often during a fetch fails.
const MAX_CHANGES: u32 = 2;
/// Rounds after which a file fails whatever the owner says: a source may refuse without ever showing new content.
const MAX_ROUNDS: u32 = 5;

/// A change that the session must know of.
#[derive(Debug)]
pub(super) enum SessionEvent {
    Download(DownloadEvent),
    Writer(WriterEvent),
    /// A user is connected who has some of the files.
    SourceFound {
        user: UserName,
        files: SourceFiles,
    },
    /// A user who was looked for can't be asked.
    SourceUnavailable {
        user: UserName,
        /// True if the request names this user as a source.
        is_named: bool,
        error: Error,
    },
    /// A search is completed; the number of requests that it answers.
    SearchCompleted(u64),
    /// A downloader of this link failed.
    LinkLost {
        source: SourceNo,
        generation: u32,
        error: StreamError,
        /// The link itself is still open: the source is there and sends nothing.
        is_link_open: bool,
    },
    Redialled {
        source: SourceNo,
    },
    RedialFailed {
        source: SourceNo,
        error: Error,
    },
    CopyEnded {
        file: FileNo,
        outcome: CopyOutcome,
    },
    /// The traffic of each source's link, about once a second.
    TrafficRead(Vec<PulseReading>),
}

/// The files that a source has.
#[derive(Debug, Default)]
pub(super) struct SourceFiles {
    pub(super) files: HashSet<FileNo>,
    /// The files that it has in part.
    pub(super) partial_files: Vec<(FileNo, GroupSet)>,
}

/// An order for the driver.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SessionAction {
    /// Tell the writer to give the file up.
    AbandonFile {
        file: FileNo,
    },
    /// Start the downloaders of a source over its newest link; `generation` comes back in [`SessionEvent::LinkLost`].
    StartSource {
        source: SourceNo,
        user: UserName,
        generation: u32,
    },
    /// Close the newest link of a user who is not taken as a source.
    RefuseSource {
        user: UserName,
    },
    CloseLink {
        source: SourceNo,
        code: PeerErrorCode,
    },
    /// Dial the source until it answers or `timeout` has passed.
    Redial {
        source: SourceNo,
        user: UserName,
        timeout: Duration,
    },
    /// Search for other sources: the number of searches requested so far.
    Search {
        requested: u64,
    },
    /// Searches skip this user from now on.
    ExcludeUser {
        user: UserName,
    },
    /// Searches may find this user again.
    ReadmitUser {
        user: UserName,
    },
    /// Copy the placed file `of` at `path` instead of fetching `copy`.
    CopyLocally {
        of: FileNo,
        copy: FileNo,
        path: PathBuf,
    },
}

/// The reason why a round ends.
#[derive(Debug)]
pub(super) enum RoundEnd {
    /// All files are settled or put aside.
    AllSettled,
    /// A file of a stream failed: bytes behind the gap are useless.
    BrokenStream,
    /// The disk is full, or a user named as a source shows another key than the known one.
    Failed(Error),
}

/// A file whose content changed at the source, and the refusal that showed it.
#[derive(Debug)]
pub(super) struct ChangedFile {
    pub(super) job: FileJob,
    reason: FailureReason,
}

/// The state machine of a fetch.
pub(super) struct FetchSession<'a> {
    pub(super) report: FetchReportBuilder<'a>,
    request: &'a FetchRequest,
    /// The destination is a stream: files and groups come in order.
    in_order: bool,
    /// Users who sent something provably false. A ban lasts for all rounds, although each starts with fresh sources.
    banned_users: Vec<UserName>,
    /// Number of content changes by reported file number.
    change_counts: HashMap<FileNo, u32>,
    rounds: u32,
    round: RoundState,
    actions: VecDeque<SessionAction>,
}

/// The state of the files and sources of one round.
struct RoundState {
    jobs: Arc<Vec<FileJob>>,
    plan: Arc<SharedPlan>,
    progress: Vec<FileProgress>,
    sources: Vec<SourceState>,
    /// Files with the same content as another file of this round, which wait for it.
    pending_copies: PendingCopies,
    /// Files that no longer wait for a copy and must be checked for a source.
    released_files: Vec<FileNo>,
    /// Searches for other sources, requested and completed. Files fail only when both are equal.
    searches_requested: u64,
    searches_completed: u64,
    /// The error of files that lose their last source without a refusal of their own.
    last_failure: Option<FailureReason>,
    /// The refusal of a source to send a file that it announced.
    refusals: HashMap<FileNo, FailureReason>,
    /// Files to resolve again by name, for the next round.
    changed_files: Vec<ChangedFile>,
    /// The first error that no other file would survive; it ends the round.
    failure: Option<Error>,
    /// The tasks are gone; the writer finishes what it has.
    is_draining: bool,
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

impl<'a> FetchSession<'a> {
    pub(super) fn new(request: &'a FetchRequest, report: FetchReportBuilder<'a>) -> Self {
        Self {
            report,
            request,
            in_order: request.destination.is_stream(),
            banned_users: Vec::new(),
            change_counts: HashMap::new(),
            rounds: 0,
            round: RoundState::default(),
            actions: VecDeque::new(),
        }
    }

    /// Begins a round of these files; `plan` is for the same. The owner of the names is its first source, if reachable.
    pub(super) fn begin_round(
        &mut self,
        jobs: Arc<Vec<FileJob>>,
        plan: Arc<SharedPlan>,
        owner: Result<SourceFiles, FailureReason>,
        now: Instant,
    ) {
        self.rounds += 1;
        let pending_copies = PendingCopies::find(&jobs);
        {
            let mut plan = plan.lock();
            pending_copies.waiting().for_each(|file| plan.hold(file));
        }
        let progress = vec![FileProgress::default(); jobs.len()];
        // Two requested searches instead of one: without the owner, even small files are worth a search.
        let searches_requested = if owner.is_err() { 2 } else { 1 };
        self.round = RoundState { jobs, plan, progress, pending_copies, searches_requested, ..RoundState::default() };
        self.actions.clear();
        let banned = self.banned_users.iter().cloned();
        self.actions.extend(banned.map(|user| SessionAction::ExcludeUser { user }));
        self.actions.push_back(SessionAction::Search { requested: searches_requested });
        match owner {
            Ok(files) => self.add_source(self.request.from.clone(), files, now),
            Err(reason) => self.round.last_failure = Some(reason),
        }
    }

    /// Takes a change into account.
    pub(super) fn handle(&mut self, event: SessionEvent, now: Instant) {
        match event {
            SessionEvent::Writer(event) if self.round.is_draining => self.drain_writer_event(event),
            _ if self.round.is_draining => {}
            SessionEvent::Download(event) => self.handle_download_event(event),
            SessionEvent::Writer(event) => self.handle_writer_event(event),
            SessionEvent::SourceFound { user, files } => self.handle_found_source(user, files, now),
            SessionEvent::SourceUnavailable { user, is_named, error } => {
                self.handle_unavailable_source(&user, is_named, error);
            }
            SessionEvent::SearchCompleted(requests) => {
                self.round.searches_completed = requests;
                self.fail_stranded();
            }
            SessionEvent::LinkLost { source, generation, error, is_link_open } => {
                self.handle_lost_link(source, generation, error, is_link_open, now);
            }
            SessionEvent::Redialled { source } => self.restore_source(source, now),
            SessionEvent::RedialFailed { source, error } => self.abandon_source(source, &error),
            SessionEvent::CopyEnded { file, outcome } => self.handle_copy_outcome(file, outcome),
            SessionEvent::TrafficRead(readings) => self.look_at_rates(&readings, now),
        }
        // Settling a file can release copies, also ones without a source: they are failed here, where nothing else
        // borrows the round.
        while let Some(file) = self.round.released_files.pop() {
            self.fail_if_stranded(file);
        }
    }

    /// Returns the next order for the driver.
    pub(super) fn poll_action(&mut self) -> Option<SessionAction> {
        self.actions.pop_front()
    }

    /// Returns the end of the round as soon as there is nothing left to wait for.
    pub(super) fn round_end(&mut self) -> Option<RoundEnd> {
        if self.round.plan.lock().is_done() {
            return Some(RoundEnd::AllSettled);
        }
        if self.in_order && self.report.first_error().is_some() {
            return Some(RoundEnd::BrokenStream);
        }
        self.round.failure.take().map(RoundEnd::Failed)
    }

    /// True while a user named as a source wasn't tried yet: an unreachable one is told of even if others had all.
    pub(super) fn awaits_named_sources(&self) -> bool {
        !matches!(self.request.sources, SourcePolicy::Everybody) && self.round.searches_completed == 0
    }

    pub(super) fn is_banned(&self, user: &UserName) -> bool {
        self.banned_users.contains(user)
    }

    /// Stops all activity: from now on only writer events count.
    pub(super) fn begin_drain(&mut self) {
        self.round.is_draining = true;
        self.actions.clear();
    }

    /// Ends the round: settles what is left with the error that ended it early, or with that of the failed file before
    /// it in a stream. Returns the files that changed meanwhile; after the last round they fail.
    pub(super) fn end_round(&mut self, early: Option<&Error>) -> Vec<ChangedFile> {
        if let Some(reason) = early.or(self.report.first_error()).map(FailureReason::of) {
            for file in 0..self.round.jobs.len() {
                if !self.is_settled(file) {
                    self.settle(file, FileOutcome::Aborted(reason.clone().into_error()));
                }
            }
        }
        let mut changed = std::mem::take(&mut self.round.changed_files);
        if self.rounds >= MAX_ROUNDS && early.is_none() {
            // Without a new question: each fails with the refusal of its last round.
            for ChangedFile { job, reason } in changed.drain(..) {
                self.report.fail_job(&job, reason.into_error());
            }
        }
        changed
    }

    /// Takes the owner's new description of a changed file; returns the job of the next round, or fails the file.
    pub(super) fn refetch(&mut self, job: FileJob, described: ResolvedFile) -> Option<FileJob> {
        let ResolvedFile { stat, layout, .. } = described;
        // Unchanged content is no change: the source may have refused while it was hashing the file again.
        let is_new = stat.hash != job.stat.hash;
        if is_new {
            let times = self.change_counts.entry(job.reported_no).or_default();
            *times += 1;
            if *times >= MAX_CHANGES {
                let (user, name, times) = (self.request.from.clone(), stat.name.as_str().to_owned(), *times);
                self.report.fail_job(&job, Error::KeepsChanging { user, name, times });
                return None;
            }
            self.report.tell(FetchEvent::ContentChanged { name: &stat.name });
        }
        // Bytes kept from before the fetch belong to the old version.
        let resumed = job.earlier_rounds.resumed.filter(|_| !is_new);
        let earlier_rounds = EarlierRounds { resumed, ..job.earlier_rounds };
        Some(FileJob { stat, layout, earlier_rounds, ..job })
    }

    fn handle_download_event(&mut self, event: DownloadEvent) {
        match event {
            DownloadEvent::FileRequested { file } => {
                // A file of several groups counts as started when its partial
                // is open: only then its resumed bytes are known.
                if self.is_single_group(file) {
                    self.report_started(file, 0);
                }
            }
            DownloadEvent::FileUnavailable { source, file, code, message } => {
                let is_content_changed = matches!(code, PeerErrorCode::Stale | PeerErrorCode::NotFound);
                let error = self.unavailable_error(source, file, code, message);
                let mut reason = FailureReason::of(&error);
                reason.is_content_changed = is_content_changed;
                // A change is the most useful reason: it leads to a new round instead of a failure.
                if !self.round.refusals.get(&file).is_some_and(|earlier| earlier.is_content_changed) {
                    self.round.refusals.insert(file, reason);
                }
                self.fail_if_stranded(file);
            }
            DownloadEvent::SourceMisbehaved { source, file } => {
                let why = format!("sent something about {} that can't be true", self.shown_name(file));
                self.ban_source(source, &why);
            }
        }
    }

    fn handle_writer_event(&mut self, event: WriterEvent) {
        match event {
            WriterEvent::BytesRehashed { file, bytes } => {
                if let Some(FileJob { stat, reported_no, .. }) = self.round.jobs.get(file) {
                    let (name, size) = (&stat.name, stat.size);
                    self.report.tell(FetchEvent::Checking { file: Some(*reported_no), name, size, bytes });
                }
            }
            WriterEvent::FileOpened { file, present, bytes, partial_path } => {
                self.round.plan.lock().file_opened(file, &present);
                self.round.plan.announce_work();
                if let Some(partial_path) = &partial_path
                    && let Some(FileJob { stat, target: Some(target), reported_no, .. }) = self.round.jobs.get(file)
                {
                    let name = &target.name();
                    self.report.tell(FetchEvent::Opened { file: *reported_no, stat, name, partial_path });
                }
                if let Some(progress) = self.round.progress.get_mut(file) {
                    progress.resumed = bytes;
                }
                self.report_started(file, bytes);
            }
            WriterEvent::GroupVerified { file, bytes, source } => {
                // A copy costs no network bytes, so it counts for the display but not in the report.
                if source != LOCAL_SOURCE {
                    self.note_delivery(source);
                    self.round.add_progress(file, bytes, source);
                }
                self.report_verified(file, bytes);
            }
            WriterEvent::ZerosVerified { file, bytes } => self.report_verified(file, bytes),
            WriterEvent::AwaitingReader { path } => self.report.tell(FetchEvent::AwaitingReader { path: &path }),
            // A local file that changes under the copy is an error of this file, not a lie of a source.
            WriterEvent::GroupCorrupt { file, source: LOCAL_SOURCE, .. } => {
                let error = Error::Integrity(format!("{} changed here while it was copied", self.shown_name(file)));
                self.fail(file, error);
            }
            WriterEvent::GroupCorrupt { file, group, source } => {
                let name = self.shown_name(file);
                {
                    // One lock for both: between them, a downloader could
                    // ask the same source for the group again.
                    let mut plan = self.round.plan.lock();
                    plan.group_corrupt(file, group);
                    plan.ban_source(source);
                }
                self.ban_source(source, &format!("sent data for {name} (group {group}) that doesn't match its hash"));
            }
            // A file that was settled otherwise meanwhile, such as a failed one, is not reported twice.
            WriterEvent::FileFinished { file, .. } if self.is_settled(file) => {}
            WriterEvent::FileFinished { file, disposition } => self.settle(file, disposition.into()),
            WriterEvent::FileFailed { file, error } => self.fail(file, error),
        }
    }

    /// Takes an event that the writer sent while it ended: files that were placed then are not aborted.
    fn drain_writer_event(&mut self, event: WriterEvent) {
        match event {
            WriterEvent::GroupVerified { source: LOCAL_SOURCE, .. } => {}
            WriterEvent::GroupVerified { file, bytes, source } => self.round.add_progress(file, bytes, source),
            WriterEvent::FileOpened { file, bytes, .. } => {
                if let Some(progress) = self.round.progress.get_mut(file) {
                    progress.resumed = bytes;
                }
            }
            WriterEvent::FileFinished { file, .. } | WriterEvent::FileFailed { file, .. } if self.is_settled(file) => {}
            WriterEvent::FileFinished { file, disposition } => self.settle(file, disposition.into()),
            // Reported once, as the error of the fetch.
            WriterEvent::FileFailed { file, error } if error.is_disk_full() => {
                self.settle(file, FileOutcome::Aborted(error));
            }
            WriterEvent::FileFailed { file, error } => self.settle(file, FileOutcome::Failed(error)),
            WriterEvent::GroupCorrupt { .. }
            | WriterEvent::BytesRehashed { .. }
            | WriterEvent::ZerosVerified { .. }
            | WriterEvent::AwaitingReader { .. } => {}
        }
    }

    fn fail(&mut self, file: FileNo, error: Error) {
        if self.is_settled(file) {
            return;
        }
        // Every other file would fail alike: the round ends once, with one error, instead of once per file.
        if error.is_disk_full() {
            self.round.failure.get_or_insert(error);
            return;
        }
        self.actions.push_back(SessionAction::AbandonFile { file });
        self.settle(file, FileOutcome::Failed(error));
    }

    /// Puts a file that changed at the source aside for the next round.
    fn put_aside(&mut self, file: FileNo, reason: FailureReason) {
        let Some(mut job) = self.round.jobs.get(file).cloned() else { return };
        self.actions.push_back(SessionAction::AbandonFile { file });
        // The numbering of sources ends with the round, so their bytes are kept by user name.
        job.earlier_rounds = self.rounds_so_far(file);
        let FileProgress { fetched, resumed, .. } = self.close_file(file);
        self.start_copies(file, None);
        self.report.tell(FetchEvent::Paused { file: job.reported_no, bytes: fetched.saturating_add(resumed) });
        self.round.changed_files.push(ChangedFile { job, reason });
    }

    fn settle(&mut self, file: FileNo, outcome: FileOutcome) {
        let so_far = self.rounds_so_far(file);
        let progress = self.close_file(file);
        if !self.round.is_draining {
            let path = match &outcome {
                FileOutcome::Done(path) | FileOutcome::Renamed(path) => Some(path.clone()),
                _ => None,
            };
            self.start_copies(file, path.as_deref());
        }
        if let Some(job) = self.round.jobs.get(file) {
            let resumed = so_far.resumed.or(Some(progress.resumed));
            self.report.settle_job(job, EarlierRounds { resumed, ..so_far }, outcome);
        }
    }

    /// Settles a file in the plan and takes its progress.
    fn close_file(&mut self, file: FileNo) -> FileProgress {
        self.round.plan.lock().settle(file);
        self.round.plan.announce_work();
        self.round.progress.get_mut(file).map(std::mem::take).unwrap_or_default()
    }

    fn is_settled(&self, file: FileNo) -> bool {
        self.round.plan.lock().is_settled(file)
    }

    fn is_single_group(&self, file: FileNo) -> bool {
        self.round.jobs.get(file).is_some_and(|job| job.layout.group_count() == 1)
    }

    fn report_started(&mut self, file: FileNo, resumed: u64) {
        let (Some(progress), Some(job)) = (self.round.progress.get_mut(file), self.round.jobs.get(file)) else {
            return;
        };
        if !std::mem::replace(&mut progress.is_started, true) {
            let (file, name, size) = (job.reported_no, &job.stat.name, job.layout.size());
            self.report.tell(FetchEvent::Started { file, name, size, resumed });
        }
    }

    fn report_verified(&mut self, file: FileNo, bytes: u64) {
        let file = self.round.jobs.get(file).map_or(file, |job| job.reported_no);
        self.report.tell(FetchEvent::Verified { file, bytes });
    }

    /// Sums up the bytes and sources of a file over this round and earlier ones.
    fn rounds_so_far(&self, file: FileNo) -> EarlierRounds {
        let Some(progress) = self.round.progress.get(file) else { return EarlierRounds::default() };
        let earlier = self.round.jobs.get(file).map(|job| job.earlier_rounds.clone()).unwrap_or_default();
        let mut sources = earlier.sources;
        for (no, bytes) in &progress.by_source {
            let Some(SourceState { user, is_banned, .. }) = self.round.source(*no) else { continue };
            let (user, banned) = (user.clone(), *is_banned);
            match sources.iter_mut().find(|known| known.user == user) {
                Some(known) => *known = SourceReport { user, bytes: known.bytes.saturating_add(*bytes), banned },
                None => sources.push(SourceReport { user, bytes: *bytes, banned }),
            }
        }
        // Every report names the banned sources, also those that sent nothing of this file.
        for SourceState { user, is_banned, .. } in &self.round.sources {
            if *is_banned && !sources.iter().any(|known| known.user == *user) {
                sources.push(SourceReport { user: user.clone(), bytes: 0, banned: true });
            }
        }
        // Bytes present at the start of a later round came in an earlier one: the first round's count stays.
        let resumed = earlier.resumed.or(progress.is_started.then_some(progress.resumed));
        EarlierRounds { fetched: earlier.fetched.saturating_add(progress.fetched), resumed, sources }
    }

    fn unavailable_error(&self, source: SourceNo, file: FileNo, code: PeerErrorCode, why: UntrustedText) -> Error {
        let owner = &self.request.from;
        let user = self.round.source(source).map_or(owner, |source| &source.user).clone();
        let name = self.shown_name(file);
        match code {
            PeerErrorCode::NotFound => Error::NotShared { user: owner.clone(), name },
            PeerErrorCode::Stale => Error::Stale { user, name, why },
            PeerErrorCode::Internal => Error::Unreadable { user, name, why },
            code => Error::stream(&user, StreamError::Refused { code, message: why }),
        }
    }

    fn shown_name(&self, file: FileNo) -> String {
        let job = self.round.jobs.get(file);
        job.map(|job| name_encoding::display_name(job.stat.name.as_str()).into_owned()).unwrap_or_default()
    }
}

impl RoundState {
    fn source(&self, source: SourceNo) -> Option<&SourceState> {
        usize::try_from(source).ok().and_then(|index| self.sources.get(index))
    }

    fn source_mut(&mut self, source: SourceNo) -> Option<&mut SourceState> {
        usize::try_from(source).ok().and_then(|index| self.sources.get_mut(index))
    }

    fn add_progress(&mut self, file: FileNo, bytes: u64, source: SourceNo) {
        let Some(progress) = self.progress.get_mut(file) else { return };
        progress.fetched += bytes;
        match progress.by_source.iter_mut().find(|(by, _)| *by == source) {
            Some((_, sum)) => *sum += bytes,
            None => progress.by_source.push((source, bytes)),
        }
    }
}

impl Default for RoundState {
    fn default() -> Self {
        Self {
            jobs: Arc::default(),
            plan: Arc::new(SharedPlan::empty()),
            progress: Vec::new(),
            sources: Vec::new(),
            pending_copies: PendingCopies::default(),
            released_files: Vec::new(),
            searches_requested: 0,
            searches_completed: 0,
            last_failure: None,
            refusals: HashMap::new(),
            changed_files: Vec::new(),
            failure: None,
            is_draining: false,
        }
    }
}

impl From<FileDisposition> for FileOutcome {
    fn from(disposition: FileDisposition) -> Self {
        match disposition {
            FileDisposition::Placed(path) => Self::Done(path),
            FileDisposition::Renamed(path) => Self::Renamed(path),
            FileDisposition::Discarded(path) => Self::Skipped(path),
            FileDisposition::Streamed => Self::Streamed,
        }
    }
}
