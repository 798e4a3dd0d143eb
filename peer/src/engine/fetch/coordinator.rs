//! Holds a fetch together: starts the pullers, hears what they, the writer and the callers tell, settles every file.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::UserName;
use shared::peer::Code;
use shared::safe_text::safe_line;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::plan::{Plan, SourceNo};
use super::puller::{News, Pull};
use super::resolve::Resolved;
use super::sources::{Caller, Found};
use super::writer::{self, Job, Order, Outcome};
use super::{Destination, Ended, FetchEvent, FileNo, Request, Status};
use crate::engine::rate::Bucket;
use crate::engine::{Error, ErrorKind, blocking};
use crate::net::StreamError;
use crate::net::link::Link;

mod account;
mod ending;
mod placing;
mod standing;

pub(super) use account::Account;
use ending::{asked_again, told_of};
use placing::Placed;

/// For the writer to put away what it has after an interruption.
const WRITE_OUT: Duration = Duration::from_secs(2);

type Reporter<'a> = &'a mut (dyn FnMut(FetchEvent<'_>) + Send);

/// One fetch, resolved and about to begin.
pub(super) struct Coordinator<'a> {
    caller: &'a Caller,
    first: Link,
    request: &'a Request,
    resolved: Resolved,
}

/// What is known of a file while it is fetched.
#[derive(Debug, Default, Clone)]
struct Progress {
    started: bool,
    fetched: u64,
    resumed: u64,
    /// Bytes by source.
    by: Vec<(SourceNo, u64)>,
}

/// A source and what becomes of it.
#[derive(Debug)]
struct Source {
    user: UserName,
    link: Link,
    /// Counts its links: what pullers of an earlier one still tell doesn't matter.
    link_no: u32,
    /// It is being called again.
    coming: bool,
    /// When it went, if nothing right came from it since: one that comes back only to go again isn't back.
    gone_since: Option<Instant>,
    banned: bool,
}

/// Why nothing more is heard.
enum Ending {
    Settled,
    Interrupted,
    WriterFailed,
}

/// An error that may be told of several files.
#[derive(Debug, Clone)]
struct Trouble {
    kind: ErrorKind,
    message: String,
}

/// A fetch that is under way.
struct Running<'a> {
    caller: &'a Caller,
    request: &'a Request,
    /// A source.
    streams: usize,
    in_order: bool,
    shared: Arc<Pull>,
    progress: Vec<Progress>,
    sources: Vec<Source>,
    pullers: JoinSet<(SourceNo, u32, Result<(), StreamError>)>,
    calls: JoinSet<(SourceNo, Result<Link, Error>)>,
    /// Ask again and again those who don't have all of a file yet.
    watches: JoinSet<Result<(), StreamError>>,
    /// Others who may have it are still being asked for: until then nothing is given up.
    seeking: bool,
    /// What files are given up for when nobody has them any more.
    trouble: Option<Trouble>,
    /// Why a source doesn't have a file after all.
    refusals: HashMap<FileNo, Trouble>,
    account: Account,
}

impl<'a> Coordinator<'a> {
    pub(super) const fn new(caller: &'a Caller, first: Link, request: &'a Request, resolved: Resolved) -> Self {
        Self { caller, first, request, resolved }
    }

    /// Runs to the end.
    pub(super) async fn run(self, report: Reporter<'_>, cancel: &CancellationToken) -> Ended {
        let request = self.request;
        let destination = match &request.destination {
            Destination::FileOrFolder(path) if !self.resolved.is_one_file => Destination::Folder(path.clone()),
            destination => destination.clone(),
        };
        let (account, early) = self.pull(report, cancel).await;
        account.conclude(request, destination, early)
    }

    /// Tells as well what ended it early, if something did.
    async fn pull(self, report: Reporter<'_>, cancel: &CancellationToken) -> (Account, Option<Error>) {
        let Self { caller, first, request, resolved } = self;
        let in_order = request.destination == Destination::Stdout;
        let Placed { orders, mut account, hindrance } = placing::place(request, resolved, report, cancel).await;
        if let Some(error) = hindrance {
            account.break_off_all(&orders, &error, report);
            return (account, Some(error));
        }
        let bytes = orders.iter().fold(0, |sum: u64, order| sum.saturating_add(order.layout.size()));
        report(FetchEvent::Resolved { files: orders.len(), bytes });
        if orders.is_empty() {
            return (account, None);
        }
        let partial: Vec<FileNo> =
            (0..).zip(&orders).filter(|(_, order)| order.stat.partial).map(|(no, _)| no).collect();
        let asked = Found::ask(first.clone(), (0..orders.len()).collect(), &orders, &partial).await;
        let first = match asked {
            Ok(first) => first,
            Err(why) => {
                let error = Error::stream(&request.from, why);
                account.break_off_all(&orders, &error, report);
                return (account, Some(error));
            }
        };
        let streams = if in_order { 1 } else { request.streams.max(1) };
        let plan = Plan::new(orders.iter().map(|order| order.layout), streams, in_order);
        let orders = Arc::new(orders);
        let courtesy = caller.courtesy().clone();
        let (writer, mut outcomes, threads) = match writer::start(orders.clone(), courtesy.clone()) {
            Ok(started) => started,
            Err(why) => {
                let error = why.into();
                account.break_off_all(&orders, &error, report);
                return (account, Some(error));
            }
        };
        let (news, heard) = mpsc::unbounded_channel();
        let limit = request.limit.map(|limit| tokio::sync::Mutex::new(Bucket::new(limit, Instant::now())));
        let shared = Arc::new(Pull {
            plan: Mutex::new(plan),
            work: Notify::new(),
            orders: orders.clone(),
            writer,
            news,
            limit,
            courtesy,
        });
        let mut running = Running {
            caller,
            request,
            streams,
            in_order,
            progress: vec![Progress::default(); orders.len()],
            shared,
            sources: Vec::new(),
            pullers: JoinSet::new(),
            calls: JoinSet::new(),
            watches: JoinSet::new(),
            seeking: !in_order,
            trouble: None,
            refusals: HashMap::new(),
            account,
        };
        running.join(&first);
        let (found, others) = mpsc::unbounded_channel();
        let mut asking = JoinSet::new();
        if !in_order {
            let policy = request.sources.clone();
            asking.spawn(caller.clone().call_others(request.from.clone(), policy, orders, found));
        }
        let ending = running.attend(&mut outcomes, heard, others, report, cancel).await;
        asking.shutdown().await;
        let mut rest = running.end().await;
        // The last handle to the writer is gone; its threads finish what they were given. Unless it hangs at a pipe that
        // nobody reads: whoever interrupts doesn't wait for that.
        let joined = blocking(move || threads.join());
        let early = match ending {
            Ending::Settled => joined.await.err(),
            Ending::WriterFailed => {
                Some(joined.await.err().unwrap_or_else(|| Error::Internal("the writer ended too early".to_owned())))
            }
            Ending::Interrupted => {
                let _ = tokio::time::timeout(WRITE_OUT, joined).await;
                Some(Error::Interrupted)
            }
        };
        while let Ok(outcome) = outcomes.try_recv() {
            rest.take(outcome, report);
        }
        (rest.break_off(early.as_ref(), report), early)
    }
}

impl Running<'_> {
    /// Hears everything until all files are settled.
    async fn attend(
        &mut self,
        outcomes: &mut mpsc::UnboundedReceiver<Outcome>,
        mut news: mpsc::UnboundedReceiver<News>,
        mut others: mpsc::UnboundedReceiver<Found>,
        report: Reporter<'_>,
        cancel: &CancellationToken,
    ) -> Ending {
        while !self.shared.plan().is_done() {
            // Behind a stream that broke off, nothing else makes sense.
            if self.in_order && self.account.first_error().is_some() {
                return Ending::Settled;
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ending::Interrupted,
                Some(news) = news.recv() => self.hear(news, report).await,
                outcome = outcomes.recv() => match outcome {
                    Some(outcome) => self.take(outcome, report).await,
                    None => return Ending::WriterFailed,
                },
                found = others.recv(), if self.seeking => match found {
                    Some(found) => {
                        report(FetchEvent::Joined { user: found.link.user() });
                        self.join(&found);
                    }
                    None => self.stop_seeking(report).await,
                },
                Some(ended) = self.pullers.join_next() => match ended {
                    Ok((source, link_no, Err(error))) => self.lose(source, link_no, error, report).await,
                    Ok((_, _, Ok(()))) => {}
                    Err(failure) => tracing::error!("a puller failed: {failure}"),
                },
                Some(watched) = self.watches.join_next() => {
                    if let Ok(Err(error)) = watched {
                        // Whoever pulls over that link says so as well.
                        tracing::debug!("what a source has isn't known any more: {error}");
                    }
                }
                Some(Ok((source, link))) = self.calls.join_next() => match link {
                    Ok(link) => self.welcome_back(source, &link, report).await,
                    Err(error) => self.give_up(source, &error, report).await,
                },
            }
        }
        self.shared.work.notify_waiters();
        Ending::Settled
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
                self.refusals.insert(file, Trouble::of(&error));
                self.fail_if_stranded(file, report).await;
            }
            News::Lied { source, about } => {
                let why = format!("sent something about {} that can't be true", self.name(about));
                self.ban(source, &why, report).await;
            }
        }
    }

    async fn take(&mut self, outcome: Outcome, report: Reporter<'_>) {
        match outcome {
            Outcome::Hashed { file, bytes } => {
                if let Some(Order { stat, .. }) = self.shared.orders.get(file) {
                    report(FetchEvent::Checking { file: Some(file), name: &stat.name, size: stat.size, bytes });
                }
            }
            Outcome::Opened { file, present, bytes, part } => {
                self.shared.plan().opened(file, &present);
                self.shared.work.notify_waiters();
                if let Some(part) = part
                    && let Some(Order { stat, spot: Some(spot), .. }) = self.shared.orders.get(file)
                {
                    report(FetchEvent::Opened { file, stat, name: &spot.name(), part: &part });
                }
                if let Some(progress) = self.progress.get_mut(file) {
                    progress.resumed = bytes;
                }
                self.start(file, bytes, report);
            }
            Outcome::Verified { file, bytes, source } => {
                if let Some(state) = self.source_mut(source) {
                    state.gone_since = None;
                }
                if let Some(progress) = self.progress.get_mut(file) {
                    progress.add(bytes, source);
                }
                report(FetchEvent::Verified { file, bytes });
            }
            Outcome::Wrong { file, group, source } => {
                let why = format!("sent data for {} (group {group}) that doesn't match its hash", self.name(file));
                {
                    let mut plan = self.shared.plan();
                    plan.wrong(file, group);
                    plan.ban_source(source);
                }
                self.ban(source, &why, report).await;
            }
            Outcome::Finished { file, .. } if self.shared.plan().is_settled(file) => {}
            Outcome::Finished { file, path, renamed } => {
                self.settle(file, Status::finished(path, renamed), report);
            }
            Outcome::Failed { file, error } => self.fail(file, error, report).await,
        }
    }

    async fn fail(&mut self, file: FileNo, error: Error, report: Reporter<'_>) {
        if self.shared.plan().is_settled(file) {
            return;
        }
        self.shared.writer.send(Job::Abandon { file }).await;
        self.settle(file, Status::Failed(error), report);
    }

    fn start(&mut self, file: FileNo, resumed: u64, report: Reporter<'_>) {
        let (Some(progress), Some(order)) = (self.progress.get_mut(file), self.shared.orders.get(file)) else { return };
        if !std::mem::replace(&mut progress.started, true) {
            report(FetchEvent::Started { file, name: &order.stat.name, size: order.layout.size(), resumed });
        }
    }

    fn settle(&mut self, file: FileNo, status: Status, report: Reporter<'_>) {
        self.shared.plan().settle(file);
        self.shared.work.notify_waiters();
        let progress = self.progress.get_mut(file).map(std::mem::take).unwrap_or_default();
        let order = self.shared.orders.get(file);
        let told = told_of(order, &progress, &self.sources, status);
        self.account.settle(Some(file), told, || asked_again(order), report);
    }

    fn unavailable(&self, file: FileNo, code: Code, message: String) -> Error {
        let (user, name) = (self.request.from.clone(), self.name(file));
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

impl Progress {
    fn add(&mut self, bytes: u64, source: SourceNo) {
        self.fetched += bytes;
        match self.by.iter_mut().find(|(by, _)| *by == source) {
            Some((_, sum)) => *sum += bytes,
            None => self.by.push((source, bytes)),
        }
    }
}

impl Trouble {
    fn of(error: &Error) -> Self {
        Self { kind: error.kind(), message: error.to_string() }
    }

    fn into_error(self) -> Error {
        Error::Told { kind: self.kind, message: self.message }
    }
}
