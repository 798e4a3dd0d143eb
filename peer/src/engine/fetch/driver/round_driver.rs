//! Driver of one round: owns its tasks, links and the writer, and feeds the session with what they tell.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::UserName;
use shared::peer::PeerErrorCode;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::local_copy::copy_groups;
use crate::engine::fetch::downloader::{DownloadContext, DownloadEvent, download};
use crate::engine::fetch::parallel_links::{ParallelLinks, SCALING_INTERVAL};
use crate::engine::fetch::plan::{FetchPlan, SharedPlan, SourceNo};
use crate::engine::fetch::report_builder::FailureReason;
use crate::engine::fetch::session::{ChangedFile, CopyOutcome, FetchSession, RoundEnd, SessionAction, SessionEvent};
use crate::engine::fetch::sources::{
    ConnectedSource, ExcludedUsers, SearchEvent, SourceDialer, SourceFiles, SourceFinder, watch_availability,
};
use crate::engine::fetch::stall_detector::StallDetector;
use crate::engine::fetch::writer::{self, FileJob, StreamSink, WriterCommand, WriterEvent, WriterThreads};
use crate::engine::fetch::{FetchRequest, FileNo};
use crate::engine::{Error, run_blocking};
use crate::net::StreamError;
use crate::net::link::Link;
use crate::util::rate_limit::TokenBucket;

/// The pause between two looks at how fast the sources are.
const TRAFFIC_INTERVAL: Duration = Duration::from_secs(1);
/// The longest wait for named sources after all files are settled.
const NAMED_SOURCE_TIMEOUT: Duration = Duration::from_secs(3);
/// For the writer to put away what it has after an interruption.
const WRITER_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// The tasks and channels of one round.
pub(super) struct RoundDriver<'a, 'session> {
    session: &'a mut FetchSession<'session>,
    dialer: &'a SourceDialer,
    request: &'a FetchRequest,
    context: Arc<DownloadContext>,
    /// Parallel streams per source; 1 for a stream destination.
    streams_per_source: usize,
    /// The links of the sources, by their number.
    links: Vec<SourceLink>,
    parallel_links: ParallelLinks,
    /// Links that the session has not taken or refused yet.
    new_links: HashMap<UserName, Link>,
    /// Tasks over the links of the sources: downloaders, and polls of those that don't have all of a file yet. With any
    /// that fails the source is lost: idle downloaders don't notice that nobody knows any more what it has.
    source_tasks: JoinSet<(SourceNo, u32, Result<(), StreamError>)>,
    redials: JoinSet<(SourceNo, Result<Link, Error>)>,
    copies: JoinSet<(FileNo, CopyOutcome)>,
    searches: JoinSet<()>,
    searches_requested: watch::Sender<u64>,
    excluded_users: Arc<ExcludedUsers>,
    download_events: mpsc::UnboundedReceiver<DownloadEvent>,
    writer_events: mpsc::UnboundedReceiver<WriterEvent>,
    search_events: mpsc::UnboundedReceiver<SearchEvent>,
    writer_threads: WriterThreads,
}

/// The newest link of a source.
struct SourceLink {
    link: Link,
    /// One detector for all streams of a link: they share its queues, so silence is judged per link.
    stall_detector: Arc<StallDetector>,
}

/// The reason why the driver stops feeding the session.
enum DriveEnd {
    Round(RoundEnd),
    Interrupted,
    WriterFailed,
}

impl DriveEnd {
    /// Returns the end by a task that panicked: whatever it was to tell would be waited for without end.
    fn failed(task: &JoinError) -> Self {
        Self::Round(RoundEnd::Failed(Error::Internal(task.to_string())))
    }
}

impl<'a, 'session> RoundDriver<'a, 'session> {
    /// Starts the writer, the search for sources and the downloaders of the first sources; `unreachable` is the reason why
    /// an owner of names isn't among them. Fails if the writer's threads can't be started.
    pub(super) fn start(
        dialer: &'a SourceDialer,
        request: &'a FetchRequest,
        session: &'a mut FetchSession<'session>,
        jobs: Arc<Vec<FileJob>>,
        sources: Vec<ConnectedSource>,
        unreachable: Option<FailureReason>,
    ) -> Result<Self, Error> {
        let in_order = request.destination.is_stream();
        // In order, more streams per source would only fill memory with groups that wait for their turn.
        let streams_per_source = if in_order { 1 } else { request.streams.max(1) };
        let mut plan = FetchPlan::new(jobs.iter().map(|job| job.layout), streams_per_source, in_order);
        // Open partial files and the files queued in the writer share one limit on descriptors. It leaves some to spare
        // for the few local copies that the session lets go on at a time.
        plan.limit_open_files(writer::max_waiting_files());
        let plan = Arc::new(SharedPlan::new(plan));
        let chat_priority = dialer.chat_priority().clone();
        let sink = StreamSink::of(&request.destination);
        let (writer, writer_events, writer_threads) = writer::start_writer(jobs.clone(), chat_priority.clone(), sink)?;
        let (events, download_events) = mpsc::unbounded_channel();
        let rate_limit = request.limit.map(|limit| tokio::sync::Mutex::new(TokenBucket::new(limit, Instant::now())));
        let context = Arc::new(DownloadContext {
            plan: plan.clone(),
            jobs: jobs.clone(),
            writer,
            events,
            rate_limit,
            chat_priority,
        });
        let mut new_links = HashMap::new();
        let mut take = |source: ConnectedSource| (source.link.user().clone(), take_link(&mut new_links, source));
        let sources = sources.into_iter().map(&mut take).collect();
        session.begin_round(jobs, plan, sources, unreachable, Instant::now());
        let excluded_users = Arc::<ExcludedUsers>::default();
        let searches_requested = watch::Sender::new(1);
        let (events, search_events) = mpsc::unbounded_channel();
        let mut driver = Self {
            session,
            dialer,
            request,
            context: context.clone(),
            streams_per_source,
            links: Vec::new(),
            parallel_links: ParallelLinks::new(dialer.local_user(), request, streams_per_source),
            new_links,
            source_tasks: JoinSet::new(),
            redials: JoinSet::new(),
            copies: JoinSet::new(),
            searches: JoinSet::new(),
            searches_requested,
            excluded_users: excluded_users.clone(),
            download_events,
            writer_events,
            search_events,
            writer_threads,
        };
        let finder = SourceFinder {
            dialer: dialer.clone(),
            context,
            policy: request.sources.clone(),
            room: request.from.room().cloned(),
            excluded_users,
            searches_requested: driver.searches_requested.subscribe(),
            events,
        };
        driver.searches.spawn(finder.run());
        Ok(driver)
    }

    /// Runs the round to its end; returns the files that changed meanwhile, and the error that ended the fetch.
    pub(super) async fn run(mut self, cancel: &CancellationToken) -> (Result<(), Error>, Vec<ChangedFile>) {
        let end = self.drive(cancel).await;
        if matches!(end, DriveEnd::Round(RoundEnd::AllSettled)) {
            // Wakes idle downloaders, which find the plan done and end.
            self.context.plan.announce_work();
            self.await_named_sources(cancel).await;
        }
        self.stop(end).await
    }

    /// Feeds the session until the round ends.
    async fn drive(&mut self, cancel: &CancellationToken) -> DriveEnd {
        let mut looks = tokio::time::interval(TRAFFIC_INTERVAL);
        // Missed looks aren't made up for: readings an instant apart would pass for a standstill.
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut scaling = tokio::time::interval(SCALING_INTERVAL);
        scaling.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                // An action may wait for the writer, which may hang at a pipe that nobody reads. One that is lost in the
                // middle is void with the end of the round.
                () = cancel.cancelled() => return DriveEnd::Interrupted,
                () = self.perform_actions() => {}
            }
            if let Some(end) = self.session.round_end() {
                return DriveEnd::Round(end);
            }
            // Biased: an interruption goes first. Download events precede writer events, so that a file is
            // reported as started before its first verified bytes.
            let event = tokio::select! {
                biased;
                () = cancel.cancelled() => return DriveEnd::Interrupted,
                _ = looks.tick() => self.traffic(),
                _ = scaling.tick(), if self.parallel_links.is_enabled() => {
                    self.parallel_links.look(self.context.chat_priority.is_active(), Instant::now());
                    continue;
                }
                Some(ended) = self.parallel_links.handle_next(&self.context) => match ended {
                    Ok(()) => continue,
                    Err(failure) => return DriveEnd::failed(&failure),
                },
                Some(event) = self.download_events.recv() => SessionEvent::Download(event),
                event = self.writer_events.recv() => match event {
                    Some(event) => SessionEvent::Writer(event),
                    None => return DriveEnd::WriterFailed,
                },
                Some(event) = self.search_events.recv() => self.search_event(event),
                Some(ended) = self.source_tasks.join_next() => match ended {
                    Ok((source, generation, Err(error))) => self.lost_link(source, generation, error),
                    Ok((_, _, Ok(()))) => continue,
                    Err(failure) => return DriveEnd::failed(&failure),
                },
                // It ends with its channels, which are open: only a panic comes here, after which no search would end.
                Some(Err(failure)) = self.searches.join_next() => return DriveEnd::failed(&failure),
                Some(ended) = self.redials.join_next() => match ended {
                    Ok((source, Ok(link))) => {
                        self.new_links.insert(link.user().clone(), link);
                        SessionEvent::Redialled { source }
                    }
                    Ok((source, Err(error))) => SessionEvent::RedialFailed { source, error },
                    Err(failure) => return DriveEnd::failed(&failure),
                },
                Some(ended) = self.copies.join_next() => match ended {
                    Ok((file, outcome)) => SessionEvent::CopyEnded { file, outcome },
                    Err(failure) => return DriveEnd::failed(&failure),
                },
            };
            self.session.handle(event, Instant::now());
        }
    }

    /// Does what the session asks for.
    async fn perform_actions(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                SessionAction::AbandonFile { file } => self.context.writer.send(WriterCommand::Abandon { file }).await,
                SessionAction::StartSource { source, user, generation } => {
                    self.start_source(source, &user, generation);
                }
                SessionAction::RefuseSource { user } => {
                    if let Some(link) = self.new_links.remove(&user) {
                        link.close(PeerErrorCode::Cancelled);
                    }
                }
                SessionAction::CloseLink { source, code } => {
                    self.parallel_links.end_source(source);
                    if let Some(source) = self.source_link(source) {
                        source.link.close(code);
                    }
                }
                SessionAction::Redial { source, user, timeout } => {
                    let dialer = self.dialer.clone();
                    self.redials.spawn(async move { (source, dialer.reconnect(&user, timeout).await) });
                }
                SessionAction::Search { requested } => {
                    // The first search begins by itself: a request for it must not cause a second one.
                    self.searches_requested.send_if_modified(|known| std::mem::replace(known, requested) != requested);
                }
                SessionAction::ExcludeUser { user } => self.excluded_users.add(user),
                SessionAction::ReadmitUser { user } => self.excluded_users.remove(&user),
                SessionAction::CopyLocally { of, copy, path } => {
                    let context = self.context.clone();
                    self.copies.spawn(async move { (copy, copy_groups(context, of, copy, path).await) });
                }
            }
        }
    }

    fn start_source(&mut self, source: SourceNo, user: &UserName, generation: u32) {
        let (Some(link), Ok(index)) = (self.new_links.remove(user), usize::try_from(source)) else { return };
        let stall_detector = Arc::new(StallDetector::default());
        let newest = SourceLink { link: link.clone(), stall_detector: stall_detector.clone() };
        match self.links.get_mut(index) {
            Some(known) => *known = newest,
            // The session numbers sources in the order in which it starts them.
            None => self.links.push(newest),
        }
        self.parallel_links.start_source(source, link.clone(), stall_detector.clone());
        for _ in 0..self.streams_per_source {
            let (context, link, detector) = (self.context.clone(), link.clone(), stall_detector.clone());
            self.source_tasks
                .spawn(async move { (source, generation, download(context, link, detector, source).await) });
        }
        let partial_files = self.context.plan.lock().partial_files(source);
        if !partial_files.is_empty() {
            let (context, timeout) = (self.context.clone(), self.request.source_timeout);
            self.source_tasks.spawn(async move {
                (source, generation, watch_availability(context, link, source, partial_files, timeout).await)
            });
        }
    }

    fn source_link(&self, source: SourceNo) -> Option<&SourceLink> {
        usize::try_from(source).ok().and_then(|index| self.links.get(index))
    }

    fn traffic(&self) -> SessionEvent {
        SessionEvent::TrafficRead(self.links.iter().map(|source| source.stall_detector.read()).collect())
    }

    fn lost_link(&self, source: SourceNo, generation: u32, error: StreamError) -> SessionEvent {
        let is_link_open = self.source_link(source).is_some_and(|source| !source.link.is_closed());
        SessionEvent::LinkLost { source, generation, error, is_link_open }
    }

    fn search_event(&mut self, event: SearchEvent) -> SessionEvent {
        match event {
            SearchEvent::Found(source) => {
                let user = source.link.user().clone();
                SessionEvent::SourceFound { user, files: take_link(&mut self.new_links, source) }
            }
            SearchEvent::Unavailable { user, is_named, error } => {
                SessionEvent::SourceUnavailable { user, is_named, error }
            }
            SearchEvent::Completed(requests) => SessionEvent::SearchCompleted(requests),
        }
    }

    /// Waits a little for the outcome of the named users, so that an unreachable one is reported even if other sources
    /// had everything quickly.
    async fn await_named_sources(&mut self, cancel: &CancellationToken) {
        let outcomes = async {
            while self.session.awaits_named_sources() {
                match self.search_events.recv().await {
                    // Nothing is left to ask it for.
                    Some(SearchEvent::Found(_) | SearchEvent::Unavailable { is_named: false, .. }) => {}
                    Some(event) => {
                        let event = self.search_event(event);
                        self.session.handle(event, Instant::now());
                    }
                    None => return,
                }
            }
        };
        tokio::select! {
            () = outcomes => {}
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(NAMED_SOURCE_TIMEOUT) => {}
        }
    }

    /// Ends all tasks and the writer, and settles what is left.
    async fn stop(self, end: DriveEnd) -> (Result<(), Error>, Vec<ChangedFile>) {
        let Self {
            session,
            context,
            mut source_tasks,
            parallel_links,
            mut redials,
            mut copies,
            mut searches,
            mut writer_events,
            writer_threads,
            ..
        } = self;
        // Awaited and not only aborted: tasks hold handles to the writer, and all must be gone before it is joined.
        searches.shutdown().await;
        copies.shutdown().await;
        redials.shutdown().await;
        source_tasks.shutdown().await;
        let is_broken_off = matches!(end, DriveEnd::Interrupted);
        parallel_links.shut_down(if is_broken_off { PeerErrorCode::Cancelled } else { PeerErrorCode::Done }).await;
        session.begin_drain();
        drop(context);
        // The last handle to the writer is gone; its threads finish the work they have. An interruption
        // doesn't wait for them, since one may hang at a pipe that nobody reads.
        let joined = run_blocking(move || writer_threads.join());
        let early = match end {
            DriveEnd::Round(RoundEnd::AllSettled | RoundEnd::BrokenStream) => joined.await.err(),
            DriveEnd::Round(RoundEnd::Failed(error)) => Some(joined.await.err().unwrap_or(error)),
            DriveEnd::WriterFailed => {
                Some(joined.await.err().unwrap_or_else(|| Error::Internal("the writer ended too early".to_owned())))
            }
            DriveEnd::Interrupted => {
                let _ = tokio::time::timeout(WRITER_SHUTDOWN_TIMEOUT, joined).await;
                Some(Error::Interrupted)
            }
        };
        // Events sent while the threads ended: files that were placed then must not be reported as aborted.
        while let Ok(event) = writer_events.try_recv() {
            session.handle(SessionEvent::Writer(event), Instant::now());
        }
        let changed = session.end_round(early.as_ref());
        (early.map_or(Ok(()), Err), changed)
    }
}

/// Keeps the link of a source until the session has taken or refused it; returns the files that the source has.
fn take_link(new_links: &mut HashMap<UserName, Link>, source: ConnectedSource) -> SourceFiles {
    let ConnectedSource { link, has } = source;
    new_links.insert(link.user().clone(), link);
    has
}
