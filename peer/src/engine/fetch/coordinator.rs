//! Holds a fetch together: starts the pullers, hears what they, the writer and the callers tell, settles every file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::UserName;
use shared::peer::Code;
use shared::safe_text::safe_line;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::destination::Placement;
use super::plan::SourceNo;
use super::puller::{News, Pull};
use super::resolve::Resolved;
use super::seeker::{Sought, Taken};
use super::sources::Caller;
use super::writer::{Job, Order, Outcome};
use super::{Ended, FetchEvent, FileNo, Report, Request, SourceReport, Status, Summary};
use crate::engine::{Error, ErrorKind};
use crate::net::StreamError;
use crate::net::link::Link;

mod placing;
mod rounds;
mod standing;

/// For the writer to put away what it has after an interruption.
const WRITE_OUT: Duration = Duration::from_secs(2);

type Reporter<'a> = &'a mut (dyn FnMut(FetchEvent<'_>) + Send);

/// One fetch, resolved and about to begin.
pub(super) struct Coordinator<'a> {
    caller: &'a Caller,
    /// To the one whose names they are, or why there is none.
    first: Result<Link, Error>,
    request: &'a Request,
    placement: Placement,
    resolved: Resolved,
}

/// Sums up while files are settled.
#[derive(Debug, Default)]
struct Account {
    summary: Summary,
    first_error: Option<Error>,
    /// Files that have a number in what is reported.
    numbered: FileNo,
    /// Who told a lie.
    banned: Vec<UserName>,
}

/// A file that is no longer what was asked for, and why that was noticed.
#[derive(Debug)]
struct Changed {
    order: Order,
    trouble: Trouble,
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
    /// Somebody who was named isn't who they were.
    Changed(Error),
}

/// An error that may be told of several files.
#[derive(Debug, Clone)]
struct Trouble {
    kind: ErrorKind,
    message: String,
    /// A source has another file by now, or none.
    changed: bool,
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
    /// How often others who may have it were to be looked for, and were: until then nothing is given up.
    wanted: watch::Sender<u64>,
    sought: u64,
    /// Who needs not be looked for.
    taken: Arc<Taken>,
    /// What files are given up for when nobody has them any more.
    trouble: Option<Trouble>,
    /// Why a source doesn't have a file after all.
    refusals: HashMap<FileNo, Trouble>,
    /// Files that are to be asked about again, by their names.
    changed: Vec<Changed>,
    account: Account,
}

impl Running<'_> {
    /// Hears everything until all files are settled.
    async fn attend(
        &mut self,
        mut outcomes: mpsc::UnboundedReceiver<Outcome>,
        mut news: mpsc::UnboundedReceiver<News>,
        mut others: mpsc::UnboundedReceiver<Sought>,
        report: Reporter<'_>,
        cancel: &CancellationToken,
    ) -> Ending {
        while !self.shared.plan().is_done() {
            if let Some(error) = self.account.first_error.as_ref().filter(|_| self.in_order) {
                // Behind a stream that broke off, nothing else makes sense. Where nobody reads any more, that is no news.
                if !error.is_closed_pipe() {
                    self.fail_rest(report).await;
                }
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
                Some(sought) = others.recv() => {
                    if let Some(ending) = self.meet(sought, report).await {
                        return ending;
                    }
                }
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

    async fn end(self) -> (Account, Vec<Changed>) {
        let Self { shared, mut pullers, mut calls, mut watches, account, changed, .. } = self;
        calls.shutdown().await;
        watches.shutdown().await;
        pullers.shutdown().await;
        drop(shared);
        (account, changed)
    }

    async fn hear(&mut self, news: News, report: Reporter<'_>) {
        match news {
            News::Asking { file } => {
                if self.shared.orders.get(file).is_some_and(|order| order.layout.groups() == 1) {
                    self.start(file, 0, report);
                }
            }
            News::Unavailable { file, code, message } => {
                let changed = matches!(code, Code::Stale | Code::NotFound);
                let trouble = Trouble { changed, ..Trouble::of(&self.unavailable(file, code, message)) };
                if !self.refusals.get(&file).is_some_and(|earlier| earlier.changed) {
                    self.refusals.insert(file, trouble);
                }
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
            Outcome::Opened { file, present, bytes, part } => {
                self.shared.plan().opened(file, &present);
                self.shared.work.notify_waiters();
                if let Some(part) = part
                    && let Some(Order { stat, spot: Some(spot), told_as, .. }) = self.shared.orders.get(file)
                {
                    report(FetchEvent::Opened { file: *told_as, stat, name: &spot.name, part: &part });
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
                    progress.fetched += bytes;
                    match progress.by.iter_mut().find(|(by, _)| *by == source) {
                        Some((_, sum)) => *sum += bytes,
                        None => progress.by.push((source, bytes)),
                    }
                }
                report(FetchEvent::Verified { file: self.told_as(file), bytes });
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
                let status = match path {
                    Some(path) if renamed => Status::Renamed(path),
                    Some(path) => Status::Done(path),
                    None => Status::Streamed,
                };
                self.account.summary.done += 1;
                self.settle(file, status, report);
            }
            Outcome::Failed { file, error } => self.fail(file, error, report).await,
        }
    }

    async fn fail_rest(&mut self, report: Reporter<'_>) {
        for file in 0..self.shared.orders.len() {
            let why =
                Trouble::of(&Error::Usage("not begun: what comes before it on standard output failed".to_owned()));
            self.fail(file, why.into_error(), report).await;
        }
    }

    async fn fail(&mut self, file: FileNo, error: Error, report: Reporter<'_>) {
        if self.shared.plan().is_settled(file) {
            return;
        }
        self.shared.writer.send(Job::Abandon { file }).await;
        self.account.summary.failed += 1;
        let told = self.settle(file, Status::Failed(error), report);
        if let Status::Failed(error) = told {
            self.account.first_error.get_or_insert(error);
        }
    }

    /// A file that changed at its source waits for the next round.
    async fn set_aside(&mut self, file: FileNo, trouble: Trouble, report: Reporter<'_>) {
        let Some(order) = self.shared.orders.get(file).cloned() else { return };
        self.shared.writer.send(Job::Abandon { file }).await;
        let Progress { fetched, resumed, .. } = self.close(file);
        let name = &order.stat.name;
        report(FetchEvent::Changed { file: order.told_as, name, bytes: fetched.saturating_add(resumed) });
        self.changed.push(Changed { order, trouble });
    }

    /// Nothing more is done for a file; tells how far it was.
    fn close(&mut self, file: FileNo) -> Progress {
        self.shared.plan().settle(file);
        self.shared.work.notify_waiters();
        let progress = self.progress.get_mut(file).map(std::mem::take).unwrap_or_default();
        self.account.summary.bytes_fetched += progress.fetched;
        self.account.summary.bytes_resumed += progress.resumed;
        progress
    }

    fn start(&mut self, file: FileNo, resumed: u64, report: Reporter<'_>) {
        let (Some(progress), Some(order)) = (self.progress.get_mut(file), self.shared.orders.get(file)) else { return };
        if !std::mem::replace(&mut progress.started, true) {
            report(FetchEvent::Started {
                file: order.told_as,
                name: &order.stat.name,
                size: order.layout.size(),
                resumed,
            });
        }
    }

    fn settle(&mut self, file: FileNo, status: Status, report: Reporter<'_>) -> Status {
        let progress = self.close(file);
        let source = |(no, bytes): &(SourceNo, u64)| {
            let source = usize::try_from(*no).ok().and_then(|index| self.sources.get(index))?;
            Some(SourceReport { user: source.user.clone(), bytes: *bytes, banned: source.banned })
        };
        let mut sources: Vec<SourceReport> = progress.by.iter().filter_map(source).collect();
        let silent = |source: &&Source| source.banned && !sources.iter().any(|told| told.user == source.user);
        let banned = self.sources.iter().filter(silent);
        let banned: Vec<_> =
            banned.map(|source| SourceReport { user: source.user.clone(), bytes: 0, banned: true }).collect();
        sources.extend(banned);
        let order = self.shared.orders.get(file);
        let told = Report {
            name: order.map(|order| order.stat.name.to_string()).unwrap_or_default(),
            size: order.map_or(0, |order| order.layout.size()),
            status,
            bytes_fetched: progress.fetched,
            bytes_resumed: progress.resumed,
            sources,
        };
        report(FetchEvent::Finished { file: Some(self.told_as(file)), report: &told });
        told.status
    }

    fn told_as(&self, file: FileNo) -> FileNo {
        self.shared.orders.get(file).map_or(file, |order| order.told_as)
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

impl Trouble {
    fn of(error: &Error) -> Self {
        Self { kind: error.kind(), message: error.to_string(), changed: false }
    }

    fn into_error(self) -> Error {
        Error::Told { kind: self.kind, message: self.message }
    }
}

impl Account {
    /// One that failed alone is the error, and so is a closed pipe; of several, how many.
    fn conclude(self) -> Ended {
        let Self { summary, first_error, .. } = self;
        let total = summary.done + summary.skipped + summary.failed;
        let error = first_error.map(|error| match total {
            1 => error,
            _ if error.is_closed_pipe() => error,
            _ => Error::Partial { failed: summary.failed, total },
        });
        Ended { summary, error }
    }

    fn next_number(&mut self) -> FileNo {
        self.numbered += 1;
        self.numbered - 1
    }

    /// A file that failed before anything was asked for.
    fn fail(&mut self, report: Reporter<'_>, name: String, size: u64, error: Error) {
        self.summary.failed += 1;
        let told = Report { status: Status::Failed(error), ..Report::unfetched(name, size) };
        report(FetchEvent::Finished { file: None, report: &told });
        if let Status::Failed(error) = told.status {
            self.first_error.get_or_insert(error);
        }
    }
}

impl Report {
    const fn unfetched(name: String, size: u64) -> Self {
        Self { name, size, status: Status::Streamed, bytes_fetched: 0, bytes_resumed: 0, sources: Vec::new() }
    }
}
