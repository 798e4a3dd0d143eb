//! Holds a fetch together: starts the pullers, hears what they and the writer tell, settles every file.

use std::sync::{Arc, Mutex};

use shared::content::Layout;
use shared::peer::Code;
use shared::safe_text::safe_line;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::destination::{Placement, Vacancy};
use super::partial::held_bytes;
use super::plan::{Plan, SourceNo};
use super::puller::{News, Pull, pull};
use super::resolve::{Resolved, Wanted};
use super::writer::{self, Job, Order, Outcome};
use super::{FetchEvent, FileNo, Report, Status, Summary};
use crate::engine::{Error, blocking};
use crate::net::link::Link;
use crate::net::{LinkError, StreamError};

type Reporter<'a> = &'a mut (dyn FnMut(FetchEvent<'_>) + Send);

/// One fetch from one source.
pub(super) struct Coordinator<'a> {
    link: &'a Link,
    placement: Placement,
    resolved: Resolved,
    streams: usize,
}

/// What is known of a file while it is fetched.
#[derive(Debug, Default, Clone, Copy)]
struct Progress {
    started: bool,
    fetched: u64,
    resumed: u64,
}

/// A fetch that is under way.
struct Running<'a> {
    link: &'a Link,
    shared: Arc<Pull>,
    progress: Vec<Progress>,
    pullers: JoinSet<(SourceNo, Result<(), StreamError>)>,
    summary: Summary,
    first_error: Option<Error>,
}

impl<'a> Coordinator<'a> {
    pub(super) const fn new(link: &'a Link, placement: Placement, resolved: Resolved, streams: usize) -> Self {
        Self { link, placement, resolved, streams }
    }

    /// Runs to the end.
    pub(super) async fn run(mut self, report: Reporter<'_>, cancel: &CancellationToken) -> Result<Summary, Error> {
        let mut summary = Summary::default();
        let mut first_error = None;
        for (name, error) in std::mem::take(&mut self.resolved.missing) {
            fail(&mut summary, &mut first_error, report, None, Report::unfetched(name, 0), error);
        }
        let orders = self.place_all(&mut summary, &mut first_error, report).await?;
        let bytes = orders.iter().map(|order| order.layout.size()).sum();
        report(FetchEvent::Resolved { files: orders.len(), bytes });
        if orders.is_empty() {
            return conclude(summary, first_error);
        }
        let in_order = matches!(self.placement, Placement::Stdout);
        let layouts: Vec<Layout> = orders.iter().map(|order| order.layout).collect();
        let streams = if in_order { 1 } else { self.streams.max(1) };
        let plan = Plan::new(layouts, streams, in_order);
        let orders = Arc::new(orders);
        let (writer, outcomes, thread) = writer::start(orders.clone())?;
        let (news, heard) = mpsc::unbounded_channel();
        let shared = Arc::new(Pull { plan: Mutex::new(plan), work: Notify::new(), orders, writer, news });
        let progress = vec![Progress::default(); shared.orders.len()];
        let mut running = Running { link: self.link, shared, progress, pullers: JoinSet::new(), summary, first_error };
        let source = running.shared.plan().add_source();
        for _ in 0..streams {
            let (shared, link) = (running.shared.clone(), self.link.clone());
            running.pullers.spawn(async move { (source, pull(shared, link, source).await) });
        }
        let interrupted = running.attend(outcomes, heard, report, cancel).await;
        let Running { shared, mut pullers, summary, first_error, .. } = running;
        pullers.shutdown().await;
        // The last handle to the writer goes with this; its thread finishes what it was given.
        drop(shared);
        blocking(move || thread.join().map_err(|_| Error::Internal("the writer's thread failed".to_owned()))).await?;
        if interrupted { Err(Error::Interrupted) } else { conclude(summary, first_error) }
    }

    /// Decides for each file where it goes; those that are there already or can't go anywhere are settled here.
    async fn place_all(
        &mut self,
        summary: &mut Summary,
        first_error: &mut Option<Error>,
        report: Reporter<'_>,
    ) -> Result<Vec<Order>, Error> {
        let wanted = std::mem::take(&mut self.resolved.wanted);
        let placement = std::mem::replace(&mut self.placement, Placement::Stdout);
        let Placement::Disk(mut disk) = placement else {
            let order = |Wanted { stat, layout, .. }| Order { stat, layout, spot: None };
            return Ok(wanted.into_iter().map(order).collect());
        };
        let (placed, disk) = blocking(move || {
            let placed: Vec<_> = wanted.into_iter().map(|wanted| (disk.look(&wanted), wanted)).collect();
            Ok((placed, disk))
        })
        .await?;
        let mut orders = Vec::with_capacity(placed.len());
        for (vacancy, Wanted { stat, layout, .. }) in placed {
            match vacancy {
                Ok(Vacancy::Free(spot)) => orders.push(Order { stat, layout, spot: Some(spot) }),
                Ok(Vacancy::Skip(path)) => {
                    summary.skipped += 1;
                    let unfetched = Report::unfetched(stat.name.to_string(), stat.size);
                    report(FetchEvent::Finished {
                        file: None,
                        report: &Report { status: Status::Skipped(path), ..unfetched },
                    });
                }
                Err(error) => {
                    let unfetched = Report::unfetched(stat.name.to_string(), stat.size);
                    fail(summary, first_error, report, None, unfetched, error);
                }
            }
        }
        check_space(&orders, disk.free_bytes(), disk.path())?;
        self.placement = Placement::Disk(disk);
        Ok(orders)
    }
}

impl Running<'_> {
    /// Hears everything until all files are settled; true when it was interrupted.
    async fn attend(
        &mut self,
        mut outcomes: mpsc::UnboundedReceiver<Outcome>,
        mut news: mpsc::UnboundedReceiver<News>,
        report: Reporter<'_>,
        cancel: &CancellationToken,
    ) -> bool {
        while !self.shared.plan().is_done() {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return true,
                Some(news) = news.recv() => self.hear(news, report).await,
                Some(outcome) = outcomes.recv() => self.take(outcome, report).await,
                Some(ended) = self.pullers.join_next() => match ended {
                    Ok((_, Ok(()))) => {}
                    Ok((source, Err(error))) => self.lose(source, error, report).await,
                    Err(failure) => self.lose(0, StreamError::Link(LinkError::Local(failure.to_string())), report).await,
                },
            }
        }
        self.shared.work.notify_waiters();
        false
    }

    async fn hear(&mut self, news: News, report: Reporter<'_>) {
        match news {
            News::Asking { file } => {
                if self.shared.orders.get(file).is_some_and(|order| order.layout.groups() == 1) {
                    self.start(file, 0, report);
                }
            }
            News::Unavailable { file, code, message } => {
                let error = self.unavailable(file, code, message);
                self.fail(file, error, report).await;
            }
            News::Lied { about } => {
                let name = self.name(about);
                let error = format!("{} sent something about {name} that can't be true", self.link.user());
                self.fail_stranded(|| Error::Integrity(error.clone()), report).await;
            }
        }
    }

    async fn take(&mut self, outcome: Outcome, report: Reporter<'_>) {
        match outcome {
            Outcome::Opened { file, present, bytes } => {
                self.shared.plan().opened(file, &present);
                self.shared.work.notify_waiters();
                if let Some(progress) = self.progress.get_mut(file) {
                    progress.resumed = bytes;
                }
                self.start(file, bytes, report);
            }
            Outcome::Verified { file, bytes } => {
                self.shared.plan().verified(file);
                if let Some(progress) = self.progress.get_mut(file) {
                    progress.fetched += bytes;
                }
                report(FetchEvent::Verified { file, bytes });
            }
            Outcome::Wrong { file, group, source } => {
                let name = self.name(file);
                let user = self.link.user();
                let error = format!("{user} sent data for {name} (group {group}) that doesn't match its hash");
                self.shared.plan().give_back(&super::plan::Work::Run { file, start: group, end: group + 1 });
                self.shared.plan().drop_source(source);
                self.fail_stranded(|| Error::Integrity(error.clone()), report).await;
            }
            Outcome::Finished { file, path, renamed } => {
                let status = match path {
                    Some(path) if renamed => Status::Renamed(path),
                    Some(path) => Status::Done(path),
                    None => Status::Streamed,
                };
                self.summary.done += 1;
                self.settle(file, status, report);
            }
            Outcome::Failed { file, error } => self.fail(file, error, report).await,
        }
    }

    /// A puller's stream ended badly.
    async fn lose(&mut self, source: SourceNo, error: StreamError, report: Reporter<'_>) {
        let user = self.link.user().clone();
        self.shared.plan().drop_source(source);
        let mut first = Some(error);
        self.fail_stranded(
            || match first.take() {
                Some(error) => Error::stream(&user, error),
                None => Error::link(&user, LinkError::Lost("it failed before".to_owned())),
            },
            report,
        )
        .await;
    }

    async fn fail_stranded(&mut self, mut error: impl FnMut() -> Error, report: Reporter<'_>) {
        let stranded = self.shared.plan().stranded();
        for file in stranded {
            self.fail(file, error(), report).await;
        }
    }

    async fn fail(&mut self, file: FileNo, error: Error, report: Reporter<'_>) {
        if self.shared.plan().is_settled(file) {
            return;
        }
        self.shared.writer.send(Job::Abandon { file }).await;
        self.summary.failed += 1;
        let told = self.settle(file, Status::Failed(error), report);
        if let Status::Failed(error) = told {
            self.first_error.get_or_insert(error);
        }
    }

    fn start(&mut self, file: FileNo, resumed: u64, report: Reporter<'_>) {
        let (Some(progress), Some(order)) = (self.progress.get_mut(file), self.shared.orders.get(file)) else { return };
        if !std::mem::replace(&mut progress.started, true) {
            report(FetchEvent::Started { file, name: &order.stat.name, size: order.layout.size(), resumed });
        }
    }

    fn settle(&mut self, file: FileNo, status: Status, report: Reporter<'_>) -> Status {
        self.shared.plan().settle(file);
        self.shared.work.notify_waiters();
        let progress = self.progress.get(file).copied().unwrap_or_default();
        self.summary.bytes_fetched += progress.fetched;
        self.summary.bytes_resumed += progress.resumed;
        let size = self.shared.orders.get(file).map_or(0, |order| order.layout.size());
        let name = self.shared.orders.get(file).map(|order| order.stat.name.to_string()).unwrap_or_default();
        let told = Report { name, size, status, bytes_fetched: progress.fetched, bytes_resumed: progress.resumed };
        report(FetchEvent::Finished { file: Some(file), report: &told });
        told.status
    }

    fn unavailable(&self, file: FileNo, code: Code, message: String) -> Error {
        let (user, name) = (self.link.user().clone(), self.name(file));
        match code {
            Code::NotFound => Error::NotShared { user, name },
            Code::Stale => Error::Stale { user, name },
            code => Error::stream(&user, StreamError::Answered { code, message }),
        }
    }

    fn name(&self, file: FileNo) -> String {
        self.shared.orders.get(file).map(|order| safe_line(order.stat.name.as_str()).into_owned()).unwrap_or_default()
    }
}

impl Report {
    const fn unfetched(name: String, size: u64) -> Self {
        Self { name, size, status: Status::Streamed, bytes_fetched: 0, bytes_resumed: 0 }
    }
}

fn fail(
    summary: &mut Summary,
    first_error: &mut Option<Error>,
    report: Reporter<'_>,
    file: Option<FileNo>,
    unfetched: Report,
    error: Error,
) {
    summary.failed += 1;
    let told = Report { status: Status::Failed(error), ..unfetched };
    report(FetchEvent::Finished { file, report: &told });
    if let Status::Failed(error) = told.status {
        first_error.get_or_insert(error);
    }
}

/// One that failed alone is the error; of several, how many.
fn conclude(summary: Summary, first_error: Option<Error>) -> Result<Summary, Error> {
    let total = summary.done + summary.skipped + summary.failed;
    match first_error {
        None => Ok(summary),
        Some(error) if total == 1 => Err(error),
        Some(_) => Err(Error::Partial { failed: summary.failed, total }),
    }
}

/// Refuses before the first byte what the disk can't hold.
fn check_space(orders: &[Order], free: Option<u64>, path: &std::path::Path) -> Result<(), Error> {
    let missing = |order: &Order| {
        let held = order.spot.as_ref().map_or(0, |spot| held_bytes(spot, &order.stat.hash));
        order.layout.size().saturating_sub(held)
    };
    let needed: u64 = orders.iter().map(missing).sum();
    match free {
        Some(free) if free < needed => {
            let why = format!(
                "{needed} bytes are needed and {free} are free: free some space and run the same command again"
            );
            Err(Error::Disk {
                path: path.to_owned(),
                source: std::io::Error::new(std::io::ErrorKind::StorageFull, why),
            })
        }
        _ => Ok(()),
    }
}
