//! Holds a fetch together: starts the pullers, hears what they, the writer and the callers tell, settles every file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::names::stand_in;
use shared::peer::Code;
use shared::{UntrustedText, UserName};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::plan::SourceNo;
use super::puller::{News, Pull};
use super::pulse::{Pulse, PulseReading};
use super::resolve::Resolved;
use super::seeker::{Sought, Taken};
use super::slowdown::SlowdownDetector;
use super::sources::Caller;
use super::writer::{Job, Order, Outcome};
use super::{FetchEvent, FileNo, Request, Status};
use crate::engine::{Error, ErrorKind};
use crate::net::StreamError;
use crate::net::link::Link;

mod account;
mod copies;
mod ending;
mod placing;
mod rounds;
mod standing;

pub(super) use account::Account;
use copies::{Copied, Copies, LOCAL};
use ending::{asked_again, brought, remember, told_of};

/// Between two looks at how fast the sources are.
const LOOK: Duration = Duration::from_secs(1);
/// Sources that give more answers between two looks send small files: their rate says nothing about the path.
const FEW_ANSWERS: u64 = 3;
/// For the writer to put away what it has after an interruption.
const WRITE_OUT: Duration = Duration::from_secs(2);

type Reporter<'a> = &'a mut (dyn FnMut(FetchEvent<'_>) + Send);

/// One fetch, resolved and about to begin.
pub(super) struct Coordinator<'a> {
    caller: &'a Caller,
    /// To the one whose names they are, or why there is none.
    first: Result<Link, Error>,
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
    /// The traffic of its link, and the reading of the last look.
    pulse: Arc<Pulse>,
    reading: PulseReading,
    slowdown: SlowdownDetector,
    /// It is there and sent nothing, which was told.
    silent: bool,
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
    /// There is no room for what is left.
    DiskFull(Error),
}

/// An error that may be told of several files.
#[derive(Debug, Clone)]
struct Trouble {
    kind: ErrorKind,
    message: String,
    /// A source has another file by now, or none.
    changed: bool,
}

/// A file that is no longer what was asked for, and why that was noticed.
#[derive(Debug)]
struct Changed {
    order: Order,
    trouble: Trouble,
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
    /// Files that have the content of another one, and wait for it; those that are copied from it.
    copies: Copies,
    copying: JoinSet<(FileNo, Copied)>,
    /// Files that are fetched after all.
    released: Vec<FileNo>,
    /// How often others who may have it were to be looked for, and were: until then nothing is given up.
    wanted: watch::Sender<u64>,
    sought: u64,
    /// Who needs not be looked for.
    taken: Arc<Taken>,
    /// Who told a lie.
    liars: Vec<UserName>,
    /// What files are given up for when nobody has them any more.
    trouble: Option<Trouble>,
    /// Why a source doesn't have a file after all.
    refusals: HashMap<FileNo, Trouble>,
    /// Files that are to be asked about again, by their names.
    changed: Vec<Changed>,
    /// The error of the first file for which there was no room.
    disk_full: Option<Error>,
    account: Account,
}

impl Running<'_> {
    /// Hears everything until all files are settled.
    async fn attend(
        &mut self,
        outcomes: &mut mpsc::UnboundedReceiver<Outcome>,
        mut news: mpsc::UnboundedReceiver<News>,
        mut others: mpsc::UnboundedReceiver<Sought>,
        report: Reporter<'_>,
        cancel: &CancellationToken,
    ) -> Ending {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.shared.plan().is_done() {
            // Behind a stream that broke off, nothing else makes sense.
            if self.in_order && self.account.first_error().is_some() {
                return Ending::Settled;
            }
            if let Some(error) = self.disk_full.take() {
                return Ending::DiskFull(error);
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ending::Interrupted,
                _ = looks.tick() => self.look_at_rates(report),
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
                Some(Ok((file, copied))) = self.copying.join_next() => self.copied(file, copied, report).await,
            }
            self.check_released(report).await;
        }
        self.shared.work.notify_waiters();
        self.hear_of_named(others, report, cancel).await;
        Ending::Settled
    }

    async fn hear(&mut self, news: News, report: Reporter<'_>) {
        match news {
            News::Asking { file } => {
                if self.shared.orders.get(file).is_some_and(|order| order.layout.groups() == 1) {
                    self.start(file, 0, report);
                }
            }
            News::Unavailable { source, file, code, message } => {
                let changed = matches!(code, Code::Stale | Code::NotFound);
                let trouble = Trouble { changed, ..Trouble::of(&self.unavailable(source, file, code, message)) };
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
            Outcome::Hashed { file, bytes } => {
                if let Some(Order { stat, .. }) = self.shared.orders.get(file) {
                    report(FetchEvent::Checking {
                        file: Some(self.told_as(file)),
                        name: &stat.name,
                        size: stat.size,
                        bytes,
                    });
                }
            }
            Outcome::Opened { file, present, bytes, part } => {
                self.shared.plan().opened(file, &present);
                self.shared.work.notify_waiters();
                if let Some(part) = part
                    && let Some(Order { stat, spot: Some(spot), told_as, .. }) = self.shared.orders.get(file)
                {
                    report(FetchEvent::Opened { file: *told_as, stat, name: &spot.name(), part: &part });
                }
                if let Some(progress) = self.progress.get_mut(file) {
                    progress.resumed = bytes;
                }
                self.start(file, bytes, report);
            }
            Outcome::Verified { file, bytes, source: LOCAL } => {
                report(FetchEvent::Verified { file: self.told_as(file), bytes });
            }
            Outcome::Verified { file, bytes, source } => {
                if let Some(state) = self.source_mut(source) {
                    state.gone_since = None;
                    if std::mem::take(&mut state.silent) {
                        report(FetchEvent::Back { user: &state.user });
                    }
                }
                if let Some(progress) = self.progress.get_mut(file) {
                    progress.add(bytes, source);
                }
                report(FetchEvent::Verified { file: self.told_as(file), bytes });
            }
            Outcome::AwaitsReader { path } => report(FetchEvent::AwaitsReader { path: &path }),
            Outcome::Zeros { file, bytes } => report(FetchEvent::Verified { file: self.told_as(file), bytes }),
            Outcome::Wrong { file, source: LOCAL, .. } => {
                let error = Error::Integrity(format!("{} changed here while it was copied", self.name(file)));
                self.fail(file, error, report).await;
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
            Outcome::Finished { file, end } => self.settle(file, end.into(), report),
            Outcome::Failed { file, error } => self.fail(file, error, report).await,
        }
    }

    async fn fail(&mut self, file: FileNo, error: Error, report: Reporter<'_>) {
        if self.shared.plan().is_settled(file) {
            return;
        }
        if error.is_disk_full() {
            self.disk_full.get_or_insert(error);
            return;
        }
        self.shared.writer.send(Job::Abandon { file }).await;
        self.settle(file, Status::Failed(error), report);
    }

    /// A file that its source hasn't any more as it was waits for the next round.
    async fn set_aside(&mut self, file: FileNo, trouble: Trouble, report: Reporter<'_>) {
        let Some(mut order) = self.shared.orders.get(file).cloned() else { return };
        self.shared.writer.send(Job::Abandon { file }).await;
        let progress = self.close(file);
        let Progress { fetched, resumed, .. } = progress;
        order.earlier = brought(Some(&order), &progress, &self.sources);
        self.pass_on(file, None, report);
        report(FetchEvent::Paused { file: order.told_as, bytes: fetched.saturating_add(resumed) });
        self.changed.push(Changed { order, trouble });
    }

    /// Nothing more is done for a file; tells how far it was.
    fn close(&mut self, file: FileNo) -> Progress {
        self.shared.plan().settle(file);
        self.shared.work.notify_waiters();
        self.progress.get_mut(file).map(std::mem::take).unwrap_or_default()
    }

    fn told_as(&self, file: FileNo) -> FileNo {
        self.shared.orders.get(file).map_or(file, |order| order.told_as)
    }

    fn start(&mut self, file: FileNo, resumed: u64, report: Reporter<'_>) {
        let (Some(progress), Some(order)) = (self.progress.get_mut(file), self.shared.orders.get(file)) else { return };
        if !std::mem::replace(&mut progress.started, true) {
            let (file, name) = (order.told_as, &order.stat.name);
            report(FetchEvent::Started { file, name, size: order.layout.size(), resumed });
        }
    }

    fn settle(&mut self, file: FileNo, status: Status, report: Reporter<'_>) {
        let progress = self.close(file);
        let path = match &status {
            Status::Done(path) | Status::Renamed(path) => Some(path.clone()),
            _ => None,
        };
        self.pass_on(file, path.as_deref(), report);
        let order = self.shared.orders.get(file);
        remember(&mut self.account, order, &status);
        let told = told_of(order, &progress, &self.sources, status);
        self.account.settle(Some(self.told_as(file)), told, || asked_again(order), report);
    }

    fn unavailable(&self, source: SourceNo, file: FileNo, code: Code, why: UntrustedText) -> Error {
        let source = usize::try_from(source).ok().and_then(|index| self.sources.get(index));
        let user = source.map_or_else(|| self.request.from.clone(), |source| source.user.clone());
        let (name, message) = (self.name(file), why);
        match code {
            Code::NotFound => Error::NotShared { user: self.request.from.clone(), name },
            Code::Stale => Error::Stale { user, name, why: message },
            Code::Internal => Error::Unreadable { user, name, why: message },
            code => Error::stream(&user, StreamError::Answered { code, message }),
        }
    }

    fn name(&self, file: FileNo) -> String {
        self.shared
            .orders
            .get(file)
            .map(|order| stand_in::shown(order.stat.name.as_str()).into_owned())
            .unwrap_or_default()
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
        Self { kind: error.kind(), message: error.to_string(), changed: false }
    }

    fn into_error(self) -> Error {
        Error::Told { kind: self.kind, message: self.message }
    }
}
