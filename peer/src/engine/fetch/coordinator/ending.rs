//! What is left when a fetch ends: nothing that was known of stays without a word.

use std::sync::Arc;

use super::copies::LOCAL;
use super::{Account, Progress, Reporter, Running, Source, Trouble};
use crate::engine::Error;
use crate::engine::fetch::plan::SourceNo;
use crate::engine::fetch::writer::{EarlierRounds, FileEnd, Order, Outcome};
use crate::engine::fetch::{Asked, FileNo, Report, SourceReport, Status};

/// A fetch that pulls no more.
pub(super) struct Rest {
    account: Account,
    orders: Arc<Vec<Order>>,
    progress: Vec<Progress>,
    sources: Vec<Source>,
    settled: Vec<bool>,
}

impl Running<'_> {
    /// Ends everything that pulls, and with the last handle to them the writer's threads.
    pub(super) async fn end(self) -> Rest {
        let Self { shared, mut pullers, mut calls, mut watches, mut copying, account, progress, sources, .. } = self;
        copying.shutdown().await;
        calls.shutdown().await;
        watches.shutdown().await;
        pullers.shutdown().await;
        let orders = shared.orders.clone();
        let settled = (0..orders.len()).map(|file| shared.plan().is_settled(file)).collect();
        Rest { account, orders, progress, sources, settled }
    }
}

impl Rest {
    /// What the writer still told while it ended.
    pub(super) fn take(&mut self, outcome: Outcome, report: Reporter<'_>) {
        match outcome {
            Outcome::Verified { source: LOCAL, .. } => {}
            Outcome::Verified { file, bytes, source } => {
                if let Some(progress) = self.progress.get_mut(file) {
                    progress.add(bytes, source);
                }
            }
            Outcome::Finished { file, end } => self.settle(file, end.into(), report),
            // Told once, for all of them.
            Outcome::Failed { file, error } if error.is_disk_full() => {
                self.settle(file, Status::BrokenOff(error), report);
            }
            Outcome::Failed { file, error } => self.settle(file, Status::Failed(error), report),
            Outcome::Opened { file, bytes, .. } => {
                if let Some(progress) = self.progress.get_mut(file) {
                    progress.resumed = bytes;
                }
            }
            Outcome::Wrong { .. } | Outcome::Hashed { .. } | Outcome::Zeros { .. } | Outcome::AwaitsReader { .. } => {}
        }
    }

    /// Settles what isn't yet: it goes the way of what ended everything, or of the one before it in a stream.
    pub(super) fn break_off(mut self, early: Option<&Error>, report: Reporter<'_>) -> Account {
        let Some(why) = early.or(self.account.first_error()).map(Trouble::of) else { return self.account };
        for file in 0..self.orders.len() {
            self.settle(file, Status::BrokenOff(why.clone().into_error()), report);
        }
        self.account
    }

    fn settle(&mut self, file: FileNo, status: Status, report: Reporter<'_>) {
        if self.settled.get_mut(file).is_none_or(|settled| std::mem::replace(settled, true)) {
            return;
        }
        let progress = self.progress.get_mut(file).map(std::mem::take).unwrap_or_default();
        let order = self.orders.get(file);
        remember(&mut self.account, order, &status);
        let told = told_of(order, &progress, &self.sources, status);
        self.account.settle(order.map(|order| order.told_as), told, || asked_again(order), report);
    }
}

impl Account {
    /// The whole fetch ended before anything of these was asked for.
    pub(super) fn break_off_all(&mut self, orders: &[Order], error: &Error, report: Reporter<'_>) {
        for order in orders {
            self.settle_order(order, Status::BrokenOff(Trouble::of(error).into_error()), report);
        }
    }

    /// A file that is not being fetched now isn't there.
    pub(super) fn fail_order(&mut self, order: &Order, error: Error, report: Reporter<'_>) {
        let status = match error {
            Error::Interrupted => Status::BrokenOff(error),
            error => Status::Failed(error),
        };
        self.settle_order(order, status, report);
    }

    fn settle_order(&mut self, order: &Order, status: Status, report: Reporter<'_>) {
        let told = told_of(Some(order), &Progress::default(), &[], status);
        self.settle(Some(order.told_as), told, || asked_again(Some(order)), report);
    }
}

impl From<FileEnd> for Status {
    fn from(end: FileEnd) -> Self {
        match end {
            FileEnd::Placed(path) => Self::Done(path),
            FileEnd::Renamed(path) => Self::Renamed(path),
            FileEnd::Left(path) => Self::Skipped(path),
            FileEnd::Streamed => Self::Streamed,
        }
    }
}

/// Remembers a file that is in place, where the file system may take it for another one that isn't yet.
pub(super) fn remember(account: &mut Account, order: Option<&Order>, status: &Status) {
    if let Status::Done(path) | Status::Renamed(path) | Status::Skipped(path) = status
        && let Some(Order { spot: Some(spot), layout, .. }) = order
        && spot.collides()
    {
        account.remember_arrival(path.clone(), layout.size());
    }
}

/// How to ask for exactly that file, to go where it was to go.
pub(super) fn asked_again(order: Option<&Order>) -> Option<Asked> {
    let order = order?;
    Some(Asked { text: order.stat.name.as_str().to_owned(), local: order.spot.as_ref()?.local() })
}

/// Sums up what came of a file in this round and earlier ones.
pub(super) fn brought(order: Option<&Order>, progress: &Progress, sources: &[Source]) -> EarlierRounds {
    let source = |(no, bytes): &(SourceNo, u64)| {
        let source = usize::try_from(*no).ok().and_then(|index| sources.get(index))?;
        Some(SourceReport { user: source.user.clone(), bytes: *bytes, banned: source.banned })
    };
    let earlier = order.map(|order| order.earlier.clone()).unwrap_or_default();
    let mut told = earlier.sources;
    for now in progress.by.iter().filter_map(source) {
        match told.iter_mut().find(|told| told.user == now.user) {
            Some(told) => *told = SourceReport { bytes: told.bytes.saturating_add(now.bytes), ..now },
            None => told.push(now),
        }
    }
    let silent = |source: &&Source| source.banned && !told.iter().any(|told| told.user == source.user);
    let banned = sources.iter().filter(silent);
    let banned: Vec<_> =
        banned.map(|source| SourceReport { user: source.user.clone(), bytes: 0, banned: true }).collect();
    told.extend(banned);
    // In a later round, what is there came in an earlier one.
    let resumed = earlier.resumed.or(progress.started.then_some(progress.resumed));
    EarlierRounds { fetched: earlier.fetched.saturating_add(progress.fetched), resumed, sources: told }
}

/// What is told of a file that is settled.
pub(super) fn told_of(order: Option<&Order>, progress: &Progress, sources: &[Source], status: Status) -> Report {
    let EarlierRounds { fetched, resumed, sources } = brought(order, progress, sources);
    Report {
        name: order.map(|order| order.stat.name.as_str().to_owned()).unwrap_or_default(),
        size: order.map_or(0, |order| order.layout.size()),
        status,
        bytes_fetched: fetched,
        bytes_resumed: resumed.unwrap_or(progress.resumed),
        sources,
    }
}
