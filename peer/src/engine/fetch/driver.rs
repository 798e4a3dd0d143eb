//! Driver of a fetch: does what the [session](super::session) asks for, with tasks, sockets and the writer, and tells it
//! what happened.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use localization::tr;
use shared::peer::FileStat;
use shared::{RoomId, UserName};
use tokio_util::sync::CancellationToken;

use super::destination::{FolderTimestamp, TargetPlanner};
use super::name_resolution::source_listing::{self, SourceShares};
use super::name_resolution::{ResolvedFile, ResolvedRequest, resolved_file};
use super::partial_file::{find_version, remove_version};
use super::report_builder::{FailureReason, FetchReportBuilder};
use super::session::{ChangedFile, FetchSession};
use super::sources::{ConnectedSource, SourceDialer};
use super::writer::FileJob;
use super::{
    FetchDestination, FetchEvent, FetchEventHandler, FetchReport, FetchRequest, FileNo, REHASH_TIMEOUT, RequestedName,
    SourcePolicy,
};
use crate::engine::{Error, run_blocking};
use crate::net::link::Link;

mod local_copy;
mod round_driver;
mod target_planning;

use round_driver::RoundDriver;
use target_planning::PlannedJobs;

/// The driver of one fetch.
pub(super) struct FetchDriver<'a> {
    dialer: &'a SourceDialer,
    request: &'a FetchRequest,
    cancel: &'a CancellationToken,
    session: FetchSession<'a>,
    /// The room whose files are fetched.
    room: Option<RoomId>,
    /// The latest links to the owners of the names, and to others who are known to have some of the files.
    links: HashMap<UserName, Link>,
    /// The reason why an owner can't be reached.
    unreachable: Option<FailureReason>,
}

/// The users who were connected to resolve the names.
#[derive(Debug, Default)]
pub(super) struct ResolvingPeers {
    /// The room whose members they are.
    pub(super) room: Option<RoomId>,
    pub(super) links: Vec<Link>,
    /// The reason why the owner of the names isn't among them.
    pub(super) unreachable: Option<Error>,
}

impl<'a> FetchDriver<'a> {
    pub(super) fn new(
        dialer: &'a SourceDialer,
        peers: ResolvingPeers,
        request: &'a FetchRequest,
        events: FetchEventHandler<'a>,
        cancel: &'a CancellationToken,
    ) -> Self {
        let session = FetchSession::new(request, FetchReportBuilder::new(events));
        let ResolvingPeers { room, links, unreachable } = peers;
        let links = links.into_iter().map(|link| (link.user().clone(), link)).collect();
        let unreachable = unreachable.map(|error| FailureReason::of(&error));
        Self { dialer, request, cancel, session, room, links, unreachable }
    }

    /// Fetches the files that the names led to, and builds the report.
    pub(super) async fn run(mut self, resolved: ResolvedRequest) -> FetchReport {
        let destination = match &self.request.destination {
            // Only now is it known whether the names led to a single file.
            FetchDestination::FileOrFolder(path) if !resolved.is_one_file => FetchDestination::Folder(path.clone()),
            destination => destination.clone(),
        };
        let early = self.fetch(resolved).await.err();
        self.session.report.build(self.request, destination, early)
    }

    /// Plans the targets, runs the rounds and sets folder times. Fails with the error that ended the fetch early; every
    /// file is settled then as well.
    async fn fetch(&mut self, mut resolved: ResolvedRequest) -> Result<(), Error> {
        if self.request.destination.is_stream() {
            // A stream can't put a file aside for later: its order is fixed when the first byte is written.
            resolved.files = self.restat_stale(resolved.files).await;
        }
        let mut times = std::mem::take(&mut resolved.folder_times);
        times.extend(self.request.folder_times.iter().cloned());
        let planned =
            target_planning::plan_targets(self.request, resolved, &mut self.session.report, self.cancel).await;
        let PlannedJobs { jobs, stale_files, mut planner, error, .. } = planned;
        // Recorded even if the fetch ends early: a later attempt sets them then.
        self.session.report.set_folder_times(times.clone());
        if let Some(error) = error {
            return self.abort(&jobs, stale_files, error);
        }
        // Built now, because the rounds consume the planner; applied last,
        // because each placed file changes its folder's time.
        let timestamps: Vec<FolderTimestamp> = planner
            .iter_mut()
            .flat_map(|planner| times.iter().map(|time| planner.folder_timestamp(time.clone())))
            .collect();
        self.run_rounds(jobs, stale_files, planner).await?;
        run_blocking(move || {
            timestamps.into_iter().for_each(FolderTimestamp::apply);
            Ok(())
        })
        .await
    }

    /// Runs rounds until none leaves changed files.
    async fn run_rounds(
        &mut self,
        mut jobs: Vec<FileJob>,
        mut stale_files: Vec<ResolvedFile>,
        mut planner: Option<Box<TargetPlanner>>,
    ) -> Result<(), Error> {
        // Stale files count by their old size; the new one isn't known before the owner has hashed them.
        let stale_sizes = stale_files.iter().map(|file| file.stat.size);
        let bytes = jobs.iter().map(|job| job.layout.size()).chain(stale_sizes).fold(0, u64::saturating_add);
        self.session.report.tell(FetchEvent::Resolved { files: jobs.len() + stale_files.len(), bytes });
        loop {
            let mut changed = Vec::new();
            if !jobs.is_empty() {
                let (ended, put_aside) = self.run_round(jobs).await;
                changed = put_aside;
                if let Err(error) = ended {
                    let jobs: Vec<FileJob> = changed.into_iter().map(|changed| changed.job).collect();
                    return self.abort(&jobs, stale_files, error);
                }
            }
            if changed.is_empty() && stale_files.is_empty() {
                return Ok(());
            }
            jobs = self.restat_changed(changed).await;
            let fresh = self.restat_stale(std::mem::take(&mut stale_files)).await;
            if let Some(planner) = planner.take().filter(|_| !fresh.is_empty()) {
                let mut planned = PlannedJobs::new(self.request);
                let outcome =
                    planned.plan_on_disk(planner, fresh, Vec::new(), &mut self.session.report, self.cancel).await;
                jobs.extend(planned.jobs);
                if let Err(error) = outcome {
                    return self.abort(&jobs, Vec::new(), error);
                }
            }
            if self.cancel.is_cancelled() {
                return self.abort(&jobs, Vec::new(), Error::Interrupted);
            }
        }
    }

    /// Runs one round; returns also the files that changed meanwhile.
    async fn run_round(&mut self, jobs: Vec<FileJob>) -> (Result<(), Error>, Vec<ChangedFile>) {
        let cancel = self.cancel;
        let queried = tokio::select! {
            biased;
            // Members of a room are asked one after the other, each for as long as it doesn't answer.
            () = cancel.cancelled() => Err(Error::Interrupted),
            queried = self.query_sources(&jobs) => queried,
        };
        let sources = match queried {
            Ok(sources) => sources,
            Err(error) => {
                self.session.report.abort_jobs(&jobs, &error);
                return (Err(error), Vec::new());
            }
        };
        let jobs = Arc::new(jobs);
        let unreachable = self.unreachable.clone();
        match RoundDriver::start(self.dialer, self.request, &mut self.session, jobs.clone(), sources, unreachable) {
            Ok(round) => round.run(self.cancel).await,
            Err(error) => {
                self.session.report.abort_jobs(&jobs, &error);
                (Err(error), Vec::new())
            }
        }
    }

    /// Returns the owners of these files as sources, with their groups of partial ones. In a room every member that was
    /// connected is asked for the files of the others as well. Fails with [`Error::Stream`] if no source answers.
    async fn query_sources(&mut self, jobs: &[FileJob]) -> Result<Vec<ConnectedSource>, Error> {
        // The largest first: only so many are asked about.
        let mut all: Vec<FileNo> = (0..jobs.len()).collect();
        all.sort_by_key(|no| std::cmp::Reverse(jobs.get(*no).map(|job| job.layout.size())));
        let (mut sources, mut failure) = (Vec::new(), None);
        let mut links: Vec<(UserName, Link)> = self.links.clone().into_iter().collect();
        // A map's order is random, and the sources are numbered in the order of this list.
        links.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (user, link) in links {
            let owned: HashSet<FileNo> =
                (0..).zip(jobs).filter(|(_, job)| job.owner == user).map(|(no, _)| no).collect();
            let is_left_out = match &self.request.sources {
                SourcePolicy::Only(users) => owned.is_empty() && !users.contains(&user),
                SourcePolicy::Everybody | SourcePolicy::Also(_) => false,
            };
            // The owner of a file counts even without a link: the round dials again.
            let is_gone = link.is_closed() && owned.is_empty();
            if is_left_out || is_gone || self.session.is_banned(&user) {
                continue;
            }
            let is_member = self.room.is_some();
            let asked = if is_member && !link.is_closed() {
                ConnectedSource::query_member(link, &all, owned, jobs).await
            } else {
                let is_partial = |no: &FileNo| jobs.get(*no).is_some_and(|job| job.stat.partial);
                let partial: Vec<FileNo> = owned.iter().copied().filter(is_partial).collect();
                ConnectedSource::query(link, owned, jobs, &partial).await
            };
            match asked {
                Ok(source) if is_member && source.has.files.is_empty() => {}
                Ok(source) => {
                    if is_member {
                        self.session.report.tell(FetchEvent::SourceConnected { user: &user });
                    }
                    sources.push(source);
                }
                Err(why) => failure = Some(Error::stream(&user, why)),
            }
        }
        match failure {
            Some(error) if sources.is_empty() => Err(error),
            _ => Ok(sources),
        }
    }

    /// Resolves changed files again by name; returns the jobs of the next round.
    async fn restat_changed(&mut self, changed: Vec<ChangedFile>) -> Vec<FileJob> {
        let mut jobs = Vec::new();
        let mut timeout = REHASH_TIMEOUT;
        for ChangedFile { job, .. } in changed {
            match self.restat(&job.owner, &job.stat, &mut timeout).await {
                Ok(described) => {
                    if let Some(target) = job.target.clone().filter(|_| described.stat.hash != job.stat.hash) {
                        let old = job.stat.hash;
                        let removed = run_blocking(move || {
                            remove_version(&target, &old);
                            Ok(())
                        });
                        // Fails only if the task panics; an old partial file
                        // that stays costs disk space, not correctness.
                        let _ = removed.await;
                    }
                    jobs.extend(self.session.refetch(job, described));
                }
                Err(error) => {
                    let error = no_longer_shared_error(&job, error).await;
                    self.session.report.fail_job(&job, error);
                }
            }
        }
        jobs
    }

    /// Returns the files as the owner describes them after hashing them again; fails those that it has no more.
    async fn restat_stale(&mut self, files: Vec<ResolvedFile>) -> Vec<ResolvedFile> {
        let mut fresh = Vec::with_capacity(files.len());
        // Shared by all files: an owner who is gone costs the wait once.
        let mut timeout = REHASH_TIMEOUT;
        for file in files {
            if !file.stat.stale {
                fresh.push(file);
                continue;
            }
            match self.restat(&file.owner, &file.stat, &mut timeout).await {
                Ok(ResolvedFile { stat, layout, .. }) => fresh.push(ResolvedFile { stat, layout, ..file }),
                Err(error) => {
                    let (name, size) = (file.stat.name.as_str().to_owned(), file.stat.size);
                    let (again, report) = (Some(retry_name_of_file(&file)), &mut self.session.report);
                    match error {
                        Error::Interrupted => report.abort(name, size, again, &error),
                        error => report.fail(name, size, again, error),
                    }
                }
            }
        }
        fresh
    }

    /// Resolves a file again by name. `timeout` is shared by a run of files: it is used up by one that stays stale and
    /// restored by one that answers.
    async fn restat(
        &mut self,
        owner: &UserName,
        stat: &FileStat,
        timeout: &mut Duration,
    ) -> Result<ResolvedFile, Error> {
        let cancel = self.cancel;
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::Interrupted),
            asked = self.restat_by_name(owner, stat, timeout) => asked,
        }
    }

    async fn restat_by_name(
        &mut self,
        user: &UserName,
        stat: &FileStat,
        timeout: &mut Duration,
    ) -> Result<ResolvedFile, Error> {
        if self.session.is_banned(user) {
            return Err(Error::Integrity(tr!("{user} told a lie before", user)));
        }
        let link = match self.links.get(user) {
            Some(link) if !link.is_closed() => link.clone(),
            // A lost owner costs the timeout once; each further file gets one second and not the whole wait again.
            _ => self.dialer.reconnect(user, std::mem::take(timeout).max(Duration::from_secs(1))).await?,
        };
        self.links.insert(user.clone(), link.clone());
        self.unreachable = None;
        let shares = SourceShares { link: &link, room: self.room };
        let asked = source_listing::stat_file(shares, &stat.name, *timeout, self.session.report.events()).await;
        // One file that stays stale used up the wait; the next ones are asked once and not waited for.
        *timeout = if matches!(asked, Err(Error::Stale { .. })) { Duration::ZERO } else { REHASH_TIMEOUT };
        let missing = || Error::NotShared { user: user.clone(), name: stat.name.as_str().to_owned() };
        resolved_file(user, asked?.ok_or_else(missing)?, None)
    }

    /// Settles the files that were not begun with the error that ended the fetch, and returns that error.
    fn abort(&mut self, jobs: &[FileJob], stale_files: Vec<ResolvedFile>, error: Error) -> Result<(), Error> {
        self.session.report.abort_jobs(jobs, &error);
        for file in stale_files {
            let (name, size) = (file.stat.name.as_str().to_owned(), file.stat.size);
            self.session.report.abort(name, size, Some(retry_name_of_file(&file)), &error);
        }
        Err(error)
    }
}

/// Adds to the error of a file that isn't shared any more the path and size of the partial file that stays.
async fn no_longer_shared_error(job: &FileJob, error: Error) -> Error {
    let Error::NotShared { user, name } = error else { return error };
    let bytes = job.earlier_rounds.fetched.saturating_add(job.earlier_rounds.resumed.unwrap_or(0));
    let (target, hash) = (job.target.clone().filter(|_| bytes > 0), job.stat.hash);
    let part = run_blocking(move || Ok(target.and_then(|target| find_version(&target, &hash)))).await;
    Error::NoLongerShared { user, name, kept: part.ok().flatten().map(|part| (part, bytes)) }
}

/// Builds the request entry for exactly this file and target.
fn retry_name_of_file(file: &ResolvedFile) -> RequestedName {
    RequestedName { text: file.stat.name.as_str().to_owned(), local: Some(file.local.clone()) }
}
