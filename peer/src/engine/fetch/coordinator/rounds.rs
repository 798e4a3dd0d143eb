//! The whole of a fetch. Files that changed while they were fetched are fetched as they are then: in a further round, once
//! the others are done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::peer::FileStat;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Account, Changed, Coordinator, Ending, Progress, Reporter, Running, Trouble, WRITE_OUT, placing};
use crate::engine::fetch::destination::Placement;
use crate::engine::fetch::partial::remove_version;
use crate::engine::fetch::plan::Plan;
use crate::engine::fetch::puller::Pull;
use crate::engine::fetch::resolve::{self, Resolved, Wanted};
use crate::engine::fetch::sources::{Caller, Found};
use crate::engine::fetch::writer::{self, Order};
use crate::engine::fetch::{Ended, FetchEvent, FileNo, Request, STALE_PATIENCE};
use crate::engine::rate::Bucket;
use crate::engine::{Error, blocking};
use crate::net::link::Link;

/// A file that changes more often than this is given up.
const ROUNDS: u32 = 5;

/// What is the same in all rounds.
struct Rounds<'a> {
    caller: &'a Caller,
    request: &'a Request,
    /// To the one whose names they are, or why there is none.
    first: Result<Link, Trouble>,
    in_order: bool,
    account: Account,
}

impl<'a> Coordinator<'a> {
    pub(in crate::engine::fetch) const fn new(
        caller: &'a Caller,
        first: Result<Link, Error>,
        request: &'a Request,
        placement: Placement,
        resolved: Resolved,
    ) -> Self {
        Self { caller, first, request, placement, resolved }
    }

    /// Runs to the end.
    pub(in crate::engine::fetch) async fn run(
        self,
        report: Reporter<'_>,
        cancel: &CancellationToken,
    ) -> Result<Ended, Error> {
        let Self { caller, first, request, placement, resolved } = self;
        let in_order = matches!(placement, Placement::Stdout);
        let first = first.map_err(|error| Trouble::of(&error));
        let mut rounds = Rounds { caller, request, first, in_order, account: Account::default() };
        let (mut orders, mut later, mut placement) = tokio::select! {
            () = cancel.cancelled() => return Err(Error::Interrupted),
            begun = rounds.begin(placement, resolved, report) => begun?,
        };
        let more = later.iter().map(|file| file.stat.size);
        let bytes = orders.iter().map(|order| order.layout.size()).chain(more).fold(0, u64::saturating_add);
        report(FetchEvent::Resolved { files: orders.len() + later.len(), bytes });
        for _ in 1..ROUNDS {
            let changed = rounds.round(orders, report, cancel).await?;
            if changed.is_empty() && later.is_empty() {
                return Ok(rounds.account.conclude());
            }
            (orders, placement) = tokio::select! {
                () = cancel.cancelled() => return Err(Error::Interrupted),
                again = rounds.again(changed, std::mem::take(&mut later), placement, report) => again?,
            };
        }
        for Changed { order, trouble } in rounds.round(orders, report, cancel).await? {
            rounds.fail(&order.stat, trouble, report);
        }
        Ok(rounds.account.conclude())
    }
}

impl Rounds<'_> {
    /// Finds the files' places. Those that are being hashed again at their source are left for later, unless all must
    /// come in order.
    async fn begin(
        &mut self,
        placement: Placement,
        resolved: Resolved,
        report: Reporter<'_>,
    ) -> Result<(Vec<Order>, Vec<Wanted>, Placement), Error> {
        let Resolved { wanted, folders, missing } = resolved;
        for (name, error) in missing {
            self.account.fail(report, name, 0, error);
        }
        placing::report_alike(&wanted, report);
        let (now, later) = if self.in_order {
            (self.fresh(wanted, report).await, Vec::new())
        } else {
            wanted.into_iter().partition(|file| !file.stat.stale)
        };
        let (mut orders, placement) = placing::place(placement, now, folders, &mut self.account, report).await?;
        if self.in_order && self.account.first_error.is_some() {
            // Whoever reads it couldn't tell what is left out.
            for Order { stat, .. } in orders.drain(..) {
                let why = "not begun: standard output gets all that was named or nothing";
                self.account.fail(report, stat.name.to_string(), stat.size, Error::Usage(why.to_owned()));
            }
        }
        Ok((orders, later, placement))
    }

    /// One round; tells which files changed meanwhile.
    async fn round(
        &mut self,
        orders: Vec<Order>,
        report: Reporter<'_>,
        cancel: &CancellationToken,
    ) -> Result<Vec<Changed>, Error> {
        if orders.is_empty() {
            return Ok(Vec::new());
        }
        let (caller, request, in_order) = (self.caller, self.request, self.in_order);
        let account = std::mem::take(&mut self.account);
        let partial: Vec<FileNo> =
            (0..).zip(&orders).filter(|(_, order)| order.stat.partial).map(|(no, _)| no).collect();
        let first = match self.first.clone() {
            Ok(link) => Ok(Found::ask(link, (0..orders.len()).collect(), &orders, &partial)
                .await
                .map_err(|why| Error::stream(&request.from, why))?),
            Err(trouble) => Err(trouble),
        };
        let streams = if in_order { 1 } else { request.streams.max(1) };
        let plan = Plan::new(orders.iter().map(|order| order.layout), streams, in_order);
        let orders = Arc::new(orders);
        let courtesy = caller.courtesy().clone();
        let (writer, outcomes, threads) = writer::start(orders.clone(), courtesy.clone())?;
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
            // What must come in order comes from one at a time: others are looked for when that one is lost.
            wanted: watch::Sender::new(u64::from(!in_order || request.sources.are_named())),
            sought: 0,
            taken: Arc::default(),
            trouble: None,
            refusals: HashMap::new(),
            changed: Vec::new(),
            account,
        };
        running.account.banned.iter().for_each(|user| running.taken.add(user.clone()));
        match first {
            Ok(first) => running.join(&first),
            Err(trouble) => {
                running.trouble = Some(trouble);
                running.wanted.send_modify(|times| *times += 1);
            }
        }
        let mut asking = JoinSet::new();
        let (told, sought) = mpsc::unbounded_channel();
        asking.spawn(running.seeker(told).run());
        let ending = running.attend(outcomes, heard, sought, report, cancel).await;
        asking.shutdown().await;
        let (account, changed) = running.end().await;
        self.account = account;
        // The last handle to the writer is gone; its threads finish what they were given. Unless it hangs at a pipe that
        // nobody reads: whoever interrupts doesn't wait for that.
        let joined = blocking(move || threads.join());
        match ending {
            Ending::Settled => joined.await.map(|()| changed),
            Ending::Changed(error) => joined.await.and(Err(error)),
            Ending::WriterFailed => joined.await.and(Err(Error::Internal("the writer ended too early".to_owned()))),
            Ending::Interrupted => {
                let _ = tokio::time::timeout(WRITE_OUT, joined).await;
                Err(Error::Interrupted)
            }
        }
    }

    /// Asks again about files that changed, by their names, and finds places for those that had none yet.
    async fn again(
        &mut self,
        changed: Vec<Changed>,
        later: Vec<Wanted>,
        placement: Placement,
        report: Reporter<'_>,
    ) -> Result<(Vec<Order>, Placement), Error> {
        let mut orders = Vec::new();
        let mut patience = STALE_PATIENCE;
        for Changed { order, .. } in changed {
            match self.ask_again(&order.stat, &mut patience, report).await {
                Ok(Wanted { stat, layout, .. }) => {
                    if let Some(spot) = order.spot.clone().filter(|_| stat.hash != order.stat.hash) {
                        let of = order.stat.hash;
                        let remove = move || {
                            remove_version(&spot, &of);
                            Ok(())
                        };
                        blocking(remove).await?;
                    }
                    orders.push(Order { stat, layout, ..order });
                }
                Err(error) => self.fail(&order.stat, Trouble::of(&error), report),
            }
        }
        let later = self.fresh(later, report).await;
        let (more, placement) = placing::place(placement, later, Vec::new(), &mut self.account, report).await?;
        orders.extend(more);
        Ok((orders, placement))
    }

    /// The files as they are once their source has hashed them again; those that it hasn't are failed.
    async fn fresh(&mut self, wanted: Vec<Wanted>, report: Reporter<'_>) -> Vec<Wanted> {
        let mut fresh = Vec::with_capacity(wanted.len());
        let mut patience = STALE_PATIENCE;
        for file in wanted {
            if !file.stat.stale {
                fresh.push(file);
                continue;
            }
            match self.ask_again(&file.stat, &mut patience, report).await {
                Ok(Wanted { stat, layout, .. }) => fresh.push(Wanted { stat, layout, ..file }),
                Err(error) => self.fail(&file.stat, Trouble::of(&error), report),
            }
        }
        fresh
    }

    /// What a file is by now. `patience` is for all that are asked about, from one that succeeds to the next.
    async fn ask_again(
        &mut self,
        stat: &FileStat,
        patience: &mut Duration,
        report: Reporter<'_>,
    ) -> Result<Wanted, Error> {
        let user = &self.request.from;
        if self.account.banned.contains(user) {
            return Err(Error::Integrity(format!("{user} told a lie before")));
        }
        let link = match &self.first {
            Ok(link) if !link.is_closed() => link.clone(),
            _ => self.caller.call_again(user, std::mem::take(patience).max(Duration::from_secs(1))).await?,
        };
        self.first = Ok(link.clone());
        let asked = resolve::stat(&link, &stat.name, *patience, report).await;
        *patience = if matches!(asked, Err(Error::Stale { .. })) { Duration::ZERO } else { STALE_PATIENCE };
        let missing = || Error::NotShared { user: user.clone(), name: stat.name.to_string() };
        resolve::wanted(user, asked?.ok_or_else(missing)?, None)
    }

    fn fail(&mut self, stat: &FileStat, trouble: Trouble, report: Reporter<'_>) {
        self.account.fail(report, stat.name.to_string(), stat.size, trouble.into_error());
    }
}
