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

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use localization::tr;
use shared::UserName;
use shared::names::name_encoding;
use shared::peer::PeerErrorCode;

use super::downloader::DownloadEvent;
use super::name_resolution::ResolvedFile;
use super::plan::{SharedPlan, SourceNo};
use super::report_builder::{FailureReason, FetchReportBuilder};
use super::sources::SourceFiles;
use super::stall_detector::TrafficReading;
use super::writer::{EarlierRounds, FileJob, WriterEvent};
use super::{FetchEvent, FetchRequest, FileNo, FileOutcome, SourcePolicy};
use crate::engine::Error;
use crate::net::StreamError;

mod file_lifecycle;
mod local_copies;
mod source_lifecycle;
#[cfg(test)]
mod tests;

use file_lifecycle::FileProgress;
pub(super) use file_lifecycle::LOCAL_SOURCE;
pub(super) use local_copies::CopyOutcome;
use local_copies::LocalCopies;
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
    /// A downloader of this link failed, or the watch of what the source has.
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
    TrafficRead(Vec<TrafficReading>),
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
#[derive(Default)]
struct RoundState {
    jobs: Arc<Vec<FileJob>>,
    plan: Arc<SharedPlan>,
    progress: Vec<FileProgress>,
    sources: Vec<SourceState>,
    /// Files with the same content as another file of this round.
    copies: LocalCopies,
    /// Files that are not to be copied any more and must be checked for a source.
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

    /// Begins a round of these files; `plan` is for the same. Its first sources are the owners of the names, as far as they
    /// can be reached, and others who are known to have some; `unreachable` is the reason why an owner can't be.
    pub(super) fn begin_round(
        &mut self,
        jobs: Arc<Vec<FileJob>>,
        plan: Arc<SharedPlan>,
        sources: Vec<(UserName, SourceFiles)>,
        unreachable: Option<FailureReason>,
        now: Instant,
    ) {
        self.rounds += 1;
        let copies = LocalCopies::find(&jobs);
        {
            let mut plan = plan.lock();
            copies.waiting().for_each(|file| plan.hold(file));
        }
        let progress = vec![FileProgress::default(); jobs.len()];
        // Two requested searches instead of one: without an owner, even small files are worth a search.
        let searches_requested = if unreachable.is_some() { 2 } else { 1 };
        self.round = RoundState { jobs, plan, progress, copies, searches_requested, ..RoundState::default() };
        // What is left of the round before is about sources that are gone.
        self.actions.clear();
        // A ban outlasts the round, while the search begins anew with each.
        let banned = self.banned_users.iter().cloned();
        self.actions.extend(banned.map(|user| SessionAction::ExcludeUser { user }));
        self.actions.push_back(SessionAction::Search { requested: searches_requested });
        self.round.last_failure = unreachable;
        for (user, files) in sources {
            self.add_source(user, files, now);
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
        // This first: a failure after the last file has nothing left to end.
        if self.round.plan.lock().is_done() {
            return Some(RoundEnd::AllSettled);
        }
        // In a stream nothing may follow what is missing.
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
        if is_new && self.request.expected.is_some() {
            let name = name_encoding::display_name(stat.name.as_str());
            let why =
                tr!("{name} changed at {user}'s side: what was announced is there no more", name, user = job.owner);
            self.report.fail_job(&job, Error::Integrity(why));
            return None;
        }
        if is_new {
            let times = self.change_counts.entry(job.reported_no).or_default();
            *times += 1;
            if *times >= MAX_CHANGES {
                let (user, name, times) = (job.owner.clone(), stat.name.as_str().to_owned(), *times);
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
}

impl RoundState {
    fn source(&self, source: SourceNo) -> Option<&SourceState> {
        usize::try_from(source).ok().and_then(|index| self.sources.get(index))
    }

    fn source_mut(&mut self, source: SourceNo) -> Option<&mut SourceState> {
        usize::try_from(source).ok().and_then(|index| self.sources.get_mut(index))
    }
}
