//! The rounds of a fetch: files that changed at the source are fetched again, in their new version, in a further round
//! after all others are done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::UserName;
use shared::peer::FileStat;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::local_copies::PendingCopies;
use super::target_planning::{self, PlannedJobs};
use super::{
    ChangedFile, FailureReason, FetchCoordinator, FetchEventHandler, FetchReportBuilder, FetchRound, FileProgress,
    RoundEnd, WRITER_SHUTDOWN_TIMEOUT,
};
use crate::engine::fetch::destination_tree::FolderTimestamp;
use crate::engine::fetch::downloader::DownloadContext;
use crate::engine::fetch::file_target::TargetPlanner;
use crate::engine::fetch::name_resolution::{self, ResolvedFile, ResolvedRequest};
use crate::engine::fetch::partial_file::{find_version, remove_version};
use crate::engine::fetch::plan::FetchPlan;
use crate::engine::fetch::source_dialer::{ConnectedSource, SourceDialer};
use crate::engine::fetch::writer::{self, EarlierRounds, FileJob, StreamSink};
use crate::engine::fetch::{
    FetchDestination, FetchEvent, FetchReport, FetchRequest, FileNo, REHASH_TIMEOUT, RequestedName,
};
use crate::engine::{Error, run_blocking};
use crate::net::link::Link;
use crate::util::rate_limit::TokenBucket;

/// A file whose content changed this often during a fetch fails.
const MAX_CHANGES: u32 = 2;
/// Rounds after which a file fails whatever the owner says: a source may refuse without ever showing new content.
const MAX_ROUNDS: u32 = 5;

/// The state that outlives a round.
struct RefetchLoop<'a> {
    dialer: &'a SourceDialer,
    request: &'a FetchRequest,
    /// The latest link to the owner of the names; `Err`: the reason why the owner can't be reached.
    owner_link: Result<Link, FailureReason>,
    in_order: bool,
    report_builder: FetchReportBuilder,
    banned_users: Vec<UserName>,
    /// Number of content changes by reported file number.
    change_counts: HashMap<FileNo, u32>,
}

impl<'a> FetchCoordinator<'a> {
    pub(in crate::engine::fetch) const fn new(
        dialer: &'a SourceDialer,
        owner_link: Result<Link, Error>,
        request: &'a FetchRequest,
        resolved: ResolvedRequest,
    ) -> Self {
        Self { dialer, owner_link, request, resolved }
    }

    /// Runs all rounds and builds the report.
    pub(in crate::engine::fetch) async fn run(
        self,
        report: FetchEventHandler<'_>,
        cancel: &CancellationToken,
    ) -> FetchReport {
        let Self { dialer: caller, owner_link: first, request, resolved } = self;
        let destination = match &request.destination {
            // Only now is it known whether the names led to a single file.
            FetchDestination::FileOrFolder(path) if !resolved.is_one_file => FetchDestination::Folder(path.clone()),
            destination => destination.clone(),
        };
        let first = first.map_err(|error| FailureReason::of(&error));
        let in_order = request.destination.is_stream();
        let (report_builder, liars, changes) = (FetchReportBuilder::default(), Vec::new(), HashMap::new());
        let mut rounds = RefetchLoop {
            dialer: caller,
            request,
            owner_link: first,
            in_order,
            report_builder,
            banned_users: liars,
            change_counts: changes,
        };
        let early = rounds.run(resolved, report, cancel).await.err();
        rounds.report_builder.build(request, destination, early)
    }
}

impl RefetchLoop<'_> {
    /// Plans the targets, runs the rounds and sets folder times. Fails with the error that ended the fetch early; every
    /// file is settled then as well.
    async fn run(
        &mut self,
        mut resolved: ResolvedRequest,
        report: FetchEventHandler<'_>,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        if self.in_order {
            // A stream can't put a file aside for later: its order is fixed when the first byte is written.
            resolved.files = self.restat_stale(resolved.files, report, cancel).await;
        }
        let report_builder = std::mem::take(&mut self.report_builder);
        let mut times = std::mem::take(&mut resolved.folder_times);
        times.extend(self.request.folder_times.iter().cloned());
        let placed = target_planning::plan_targets(self.request, resolved, report_builder, report, cancel).await;
        let PlannedJobs {
            jobs: orders,
            stale_files: later,
            planner: mut disk,
            report_builder: account,
            error: hindrance,
        } = placed;
        self.report_builder = account;
        // Recorded even if the fetch ends early: a later attempt sets them then.
        self.report_builder.set_folder_times(times.clone());
        if let Some(error) = hindrance {
            return self.abort(&orders, later, error, report);
        }
        // Built now, because the rounds consume the planner; applied last,
        // because each placed file changes its folder's time.
        let dated: Vec<FolderTimestamp> =
            disk.iter_mut().flat_map(|disk| times.iter().map(|time| disk.folder_timestamp(time.clone()))).collect();
        self.run_rounds(orders, later, disk, report, cancel).await?;
        run_blocking(move || {
            dated.into_iter().for_each(FolderTimestamp::apply);
            Ok(())
        })
        .await
    }

    /// Runs rounds until none leaves changed files.
    async fn run_rounds(
        &mut self,
        mut jobs: Vec<FileJob>,
        mut later: Vec<ResolvedFile>,
        mut disk: Option<Box<TargetPlanner>>,
        report: FetchEventHandler<'_>,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        // Stale files count by their old size; the new one isn't known before the owner has hashed them.
        let more = later.iter().map(|file| file.stat.size);
        let bytes = jobs.iter().map(|job| job.layout.size()).chain(more).fold(0, u64::saturating_add);
        report(FetchEvent::Resolved { files: jobs.len() + later.len(), bytes });
        for round in 1.. {
            let mut changed = Vec::new();
            if !jobs.is_empty()
                && let Err(error) = self.run_round(jobs, &mut changed, report, cancel).await
            {
                let jobs: Vec<FileJob> = changed.into_iter().map(|changed| changed.job).collect();
                return self.abort(&jobs, later, error, report);
            }
            // Drained without a new question: each fails with the refusal of its last round.
            if round == MAX_ROUNDS {
                for ChangedFile { job: order, reason: trouble } in changed.drain(..) {
                    self.report_builder.fail_job(&order, trouble.into_error(), report);
                }
            }
            if changed.is_empty() && later.is_empty() {
                return Ok(());
            }
            jobs = self.restat_changed(changed, report, cancel).await;
            let fresh = self.restat_stale(std::mem::take(&mut later), report, cancel).await;
            if let Some(at) = disk.take().filter(|_| !fresh.is_empty()) {
                let mut placed =
                    PlannedJobs { report_builder: std::mem::take(&mut self.report_builder), ..PlannedJobs::default() };
                let settled = placed.plan_on_disk(at, fresh, Vec::new(), report, cancel).await;
                self.report_builder = placed.report_builder;
                jobs.extend(placed.jobs);
                if let Err(error) = settled {
                    return self.abort(&jobs, Vec::new(), error, report);
                }
            }
            if cancel.is_cancelled() {
                return self.abort(&jobs, Vec::new(), Error::Interrupted, report);
            }
        }
        Ok(())
    }

    /// Runs one round and appends the files that changed meanwhile to `changed`.
    async fn run_round(
        &mut self,
        jobs: Vec<FileJob>,
        changed: &mut Vec<ChangedFile>,
        report: FetchEventHandler<'_>,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let first = match self.query_owner(&jobs).await {
            Ok(first) => first,
            Err(error) => return self.abort(&jobs, Vec::new(), error, report),
        };
        let (dialer, request, in_order) = (self.dialer, self.request, self.in_order);
        // In order, more streams per source would only fill memory with groups that wait for their turn.
        let streams = if in_order { 1 } else { request.streams.max(1) };
        let mut plan = FetchPlan::new(jobs.iter().map(|job| job.layout), streams, in_order);
        // Open partial files and the files queued in the writer share one limit on descriptors.
        plan.limit_open_files(writer::max_waiting_files());
        let copies = PendingCopies::find(&jobs);
        copies.waiting().for_each(|file| plan.hold(file));
        let jobs = Arc::new(jobs);
        let chat_priority = dialer.chat_priority().clone();
        let (writer, mut outcomes, threads) =
            match writer::start_writer(jobs.clone(), chat_priority.clone(), StreamSink::of(&request.destination)) {
                Ok(started) => started,
                Err(why) => return self.abort(&jobs, Vec::new(), why.into(), report),
            };
        let (news, heard) = mpsc::unbounded_channel();
        let limit = request.limit.map(|limit| tokio::sync::Mutex::new(TokenBucket::new(limit, Instant::now())));
        let shared = Arc::new(DownloadContext {
            owner: request.from.clone(),
            plan: Mutex::new(plan),
            work_available: Notify::new(),
            jobs: jobs.clone(),
            writer,
            events: news,
            rate_limit: limit,
            chat_priority,
        });
        let mut running = FetchRound {
            dialer,
            request,
            streams_per_source: streams,
            in_order,
            progress: vec![FileProgress::default(); jobs.len()],
            context: shared,
            sources: Vec::new(),
            downloaders: JoinSet::new(),
            redials: JoinSet::new(),
            availability_watches: JoinSet::new(),
            pending_copies: copies,
            copy_tasks: JoinSet::new(),
            released_files: Vec::new(),
            searches_requested: watch::Sender::new(1),
            searches_completed: 0,
            excluded_users: Arc::default(),
            banned_users: std::mem::take(&mut self.banned_users),
            last_failure: None,
            refusals: HashMap::new(),
            changed_files: Vec::new(),
            disk_full: None,
            report_builder: std::mem::take(&mut self.report_builder),
        };
        // A ban lasts for all rounds, although each starts with fresh sources.
        running.banned_users.iter().for_each(|user| running.excluded_users.add(user.clone()));
        match first {
            Ok(first) => running.add_source(&first),
            Err(trouble) => {
                running.last_failure = Some(trouble);
                // Two requested searches instead of one: without the
                // owner, even small files are worth a search.
                running.searches_requested.send_modify(|times| *times += 1);
            }
        }
        let mut asking = JoinSet::new();
        let (told, sought) = mpsc::unbounded_channel();
        asking.spawn(running.source_finder(told).run());
        let ending = running.run_until_settled(&mut outcomes, heard, sought, report, cancel).await;
        // Before the writer is joined: the finder holds a handle to it, too.
        asking.shutdown().await;
        changed.append(&mut running.changed_files);
        self.banned_users = std::mem::take(&mut running.banned_users);
        let mut rest = running.stop_tasks().await;
        // The last handle to the writer is gone; its threads finish the work they have. An interruption
        // doesn't wait for them, since one may hang at a pipe that nobody reads.
        let joined = run_blocking(move || threads.join());
        let early = match ending {
            RoundEnd::AllSettled => joined.await.err(),
            RoundEnd::IdentityChanged(error) | RoundEnd::DiskFull(error) => Some(joined.await.err().unwrap_or(error)),
            RoundEnd::WriterFailed => {
                Some(joined.await.err().unwrap_or_else(|| Error::Internal("the writer ended too early".to_owned())))
            }
            RoundEnd::Interrupted => {
                let _ = tokio::time::timeout(WRITER_SHUTDOWN_TIMEOUT, joined).await;
                Some(Error::Interrupted)
            }
        };
        // Events sent while the threads ended: files that were placed then must not be reported as aborted.
        while let Ok(outcome) = outcomes.try_recv() {
            rest.handle_writer_event(outcome, report);
        }
        self.report_builder = rest.abort_unsettled(early.as_ref(), report);
        early.map_or(Ok(()), Err)
    }

    /// Returns the owner as a source of these files, with its groups of partial ones. The inner `Err` is the reason why
    /// the owner can't be reached.
    async fn query_owner(&self, jobs: &[FileJob]) -> Result<Result<ConnectedSource, FailureReason>, Error> {
        let link = match &self.owner_link {
            Ok(link) => link.clone(),
            Err(trouble) => return Ok(Err(trouble.clone())),
        };
        let partial: Vec<FileNo> = (0..).zip(jobs).filter(|(_, job)| job.stat.partial).map(|(no, _)| no).collect();
        let asked = ConnectedSource::query(link, (0..jobs.len()).collect(), jobs, &partial).await;
        asked.map(Ok).map_err(|why| Error::stream(&self.request.from, why))
    }

    /// Resolves changed files again by name; returns the jobs of the next round.
    async fn restat_changed(
        &mut self,
        changed: Vec<ChangedFile>,
        report: FetchEventHandler<'_>,
        cancel: &CancellationToken,
    ) -> Vec<FileJob> {
        let mut jobs = Vec::new();
        let mut timeout = REHASH_TIMEOUT;
        for ChangedFile { job: order, .. } in changed {
            match self.restat(&order.stat, &mut timeout, report, cancel).await {
                Ok(ResolvedFile { stat, layout, .. }) => {
                    let is_new = stat.hash != order.stat.hash;
                    // Bytes kept from before the fetch belong to the old version, which is removed.
                    let resumed = order.earlier_rounds.resumed.filter(|_| !is_new);
                    if let Some(target) = order.target.clone().filter(|_| is_new) {
                        let of = order.stat.hash;
                        let removed = run_blocking(move || {
                            remove_version(&target, &of);
                            Ok(())
                        });
                        // Fails only if the task panics; an old partial file
                        // that stays costs disk space, not correctness.
                        let _ = removed.await;
                    }
                    // Unchanged content is no change: the source may have
                    // refused while it was hashing the file again.
                    if is_new {
                        let times = self.change_counts.entry(order.reported_no).or_default();
                        *times += 1;
                        if *times >= MAX_CHANGES {
                            let (user, name) = (self.request.from.clone(), stat.name.as_str().to_owned());
                            let error = Error::KeepsChanging { user, name, times: *times };
                            self.report_builder.fail_job(&order, error, report);
                            continue;
                        }
                        report(FetchEvent::ContentChanged { name: &stat.name });
                    }
                    let earlier = EarlierRounds { resumed, ..order.earlier_rounds };
                    jobs.push(FileJob { stat, layout, earlier_rounds: earlier, ..order });
                }
                Err(error) => {
                    let error = no_longer_shared_error(&order, error).await;
                    self.report_builder.fail_job(&order, error, report);
                }
            }
        }
        jobs
    }

    /// Returns the files as the owner describes them after hashing them again; fails those that it has no more.
    async fn restat_stale(
        &mut self,
        files: Vec<ResolvedFile>,
        report: FetchEventHandler<'_>,
        cancel: &CancellationToken,
    ) -> Vec<ResolvedFile> {
        let mut fresh = Vec::with_capacity(files.len());
        let mut timeout = REHASH_TIMEOUT;
        for file in files {
            if !file.stat.stale {
                fresh.push(file);
                continue;
            }
            match self.restat(&file.stat, &mut timeout, report, cancel).await {
                Ok(ResolvedFile { stat, layout, .. }) => fresh.push(ResolvedFile { stat, layout, ..file }),
                Err(error) => self.fail(&file.stat, Some(retry_name_of_file(&file)), error, report),
            }
        }
        fresh
    }

    /// Resolves a file again by name. `timeout` is shared by a run of files: it is used up by one that stays stale and
    /// restored by one that answers.
    async fn restat(
        &mut self,
        stat: &FileStat,
        timeout: &mut Duration,
        report: FetchEventHandler<'_>,
        cancel: &CancellationToken,
    ) -> Result<ResolvedFile, Error> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::Interrupted),
            asked = self.restat_by_name(stat, timeout, report) => asked,
        }
    }

    async fn restat_by_name(
        &mut self,
        stat: &FileStat,
        timeout: &mut Duration,
        report: FetchEventHandler<'_>,
    ) -> Result<ResolvedFile, Error> {
        let user = &self.request.from;
        if self.banned_users.contains(user) {
            return Err(Error::Integrity(format!("{user} told a lie before")));
        }
        let link = match &self.owner_link {
            Ok(link) if !link.is_closed() => link.clone(),
            // A lost owner costs the timeout once; each further file
            // gets one second and not the whole wait again.
            _ => self.dialer.reconnect(user, std::mem::take(timeout).max(Duration::from_secs(1))).await?,
        };
        self.owner_link = Ok(link.clone());
        let asked = name_resolution::stat_file(&link, &stat.name, *timeout, report).await;
        // One file that stays stale used up the wait; the next ones are asked once and not waited for.
        *timeout = if matches!(asked, Err(Error::Stale { .. })) { Duration::ZERO } else { REHASH_TIMEOUT };
        let missing = || Error::NotShared { user: user.clone(), name: stat.name.as_str().to_owned() };
        name_resolution::resolved_file(user, asked?.ok_or_else(missing)?, None)
    }

    fn fail(&mut self, stat: &FileStat, again: Option<RequestedName>, error: Error, report: FetchEventHandler<'_>) {
        let (name, size) = (stat.name.as_str().to_owned(), stat.size);
        match error {
            Error::Interrupted => self.report_builder.abort(name, size, again, &error, report),
            error => self.report_builder.fail(name, size, again, error, report),
        }
    }

    /// Settles the files that were not begun with the error that ended the fetch, and returns that error.
    fn abort(
        &mut self,
        jobs: &[FileJob],
        later: Vec<ResolvedFile>,
        error: Error,
        report: FetchEventHandler<'_>,
    ) -> Result<(), Error> {
        self.report_builder.abort_jobs(jobs, &error, report);
        for file in later {
            self.report_builder.abort(
                file.stat.name.as_str().to_owned(),
                file.stat.size,
                Some(retry_name_of_file(&file)),
                &error,
                report,
            );
        }
        Err(error)
    }
}

/// Adds to the error of a file that isn't shared any more the path and size of the partial file that stays.
async fn no_longer_shared_error(job: &FileJob, error: Error) -> Error {
    let Error::NotShared { user, name } = error else { return error };
    let bytes = job.earlier_rounds.fetched.saturating_add(job.earlier_rounds.resumed.unwrap_or(0));
    let (target, hash) = (job.target.clone().filter(|_| bytes > 0), job.stat.hash);
    let part = run_blocking(move || Ok(target.and_then(|spot| find_version(&spot, &hash)))).await;
    Error::NoLongerShared { user, name, kept: part.ok().flatten().map(|part| (part, bytes)) }
}

/// Builds the request entry for exactly this file and target.
fn retry_name_of_file(file: &ResolvedFile) -> RequestedName {
    RequestedName { text: file.stat.name.as_str().to_owned(), local: Some(file.local.clone()) }
}
