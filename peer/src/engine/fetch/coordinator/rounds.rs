//! The whole of a fetch. Files that changed while they were fetched are fetched as they are then: in a further round, once
//! the others are done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::UserName;
use shared::peer::FileStat;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::copies::Copies;
use super::placing::{self, Placed};
use super::{Account, Changed, Coordinator, Ending, Progress, Reporter, Running, Trouble, WRITE_OUT};
use crate::engine::fetch::destination::DiskPlacement;
use crate::engine::fetch::partial::{part_of_version, remove_version};
use crate::engine::fetch::plan::Plan;
use crate::engine::fetch::puller::Pull;
use crate::engine::fetch::resolve::{self, Resolved, Wanted};
use crate::engine::fetch::sources::{Caller, Found};
use crate::engine::fetch::tree::Dated;
use crate::engine::fetch::writer::{self, EarlierRounds, Order, Sink};
use crate::engine::fetch::{Asked, Destination, Ended, FetchEvent, FileNo, Request, STALE_PATIENCE};
use crate::engine::rate::Bucket;
use crate::engine::{Error, blocking};
use crate::net::link::Link;

/// A file that changed so often while it was fetched is given up.
const MOST_CHANGES: u32 = 2;
/// And one that is asked for so often, whatever its source says of it.
const ROUNDS: u32 = 5;

/// What is the same in all rounds.
struct Rounds<'a> {
    caller: &'a Caller,
    request: &'a Request,
    /// To the one whose names they are, or why there is none.
    first: Result<Link, Trouble>,
    in_order: bool,
    account: Account,
    liars: Vec<UserName>,
    /// How often files had other content than before, by their number in what is reported.
    changes: HashMap<FileNo, u32>,
}

impl<'a> Coordinator<'a> {
    pub(in crate::engine::fetch) const fn new(
        caller: &'a Caller,
        first: Result<Link, Error>,
        request: &'a Request,
        resolved: Resolved,
    ) -> Self {
        Self { caller, first, request, resolved }
    }

    /// Runs to the end.
    pub(in crate::engine::fetch) async fn run(self, report: Reporter<'_>, cancel: &CancellationToken) -> Ended {
        let Self { caller, first, request, resolved } = self;
        let destination = match &request.destination {
            Destination::FileOrFolder(path) if !resolved.is_one_file => Destination::Folder(path.clone()),
            destination => destination.clone(),
        };
        let first = first.map_err(|error| Trouble::of(&error));
        let in_order = request.destination.is_stream();
        let (account, liars, changes) = (Account::default(), Vec::new(), HashMap::new());
        let mut rounds = Rounds { caller, request, first, in_order, account, liars, changes };
        let early = rounds.run(resolved, report, cancel).await.err();
        rounds.account.conclude(request, destination, early)
    }
}

impl Rounds<'_> {
    /// Fails with what ended it early, if something did; every file is settled then as well.
    async fn run(
        &mut self,
        mut resolved: Resolved,
        report: Reporter<'_>,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        if self.in_order {
            resolved.wanted = self.fresh(resolved.wanted, report, cancel).await;
        }
        let account = std::mem::take(&mut self.account);
        let mut times = std::mem::take(&mut resolved.folder_times);
        times.extend(self.request.folder_times.iter().cloned());
        let placed = placing::place(self.request, resolved, account, report, cancel).await;
        let Placed { orders, later, mut disk, account, hindrance } = placed;
        self.account = account;
        self.account.remember_times(times.clone());
        if let Some(error) = hindrance {
            return self.break_off(&orders, later, error, report);
        }
        let dated: Vec<Dated> =
            disk.iter_mut().flat_map(|disk| times.iter().map(|time| disk.dated(time.clone()))).collect();
        self.all(orders, later, disk, report, cancel).await?;
        blocking(move || {
            dated.into_iter().for_each(Dated::set);
            Ok(())
        })
        .await
    }

    /// One round after the other, until nothing changed meanwhile.
    async fn all(
        &mut self,
        mut orders: Vec<Order>,
        mut later: Vec<Wanted>,
        mut disk: Option<Box<DiskPlacement>>,
        report: Reporter<'_>,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let more = later.iter().map(|file| file.stat.size);
        let bytes = orders.iter().map(|order| order.layout.size()).chain(more).fold(0, u64::saturating_add);
        report(FetchEvent::Resolved { files: orders.len() + later.len(), bytes });
        for round in 1.. {
            let mut changed = Vec::new();
            if !orders.is_empty()
                && let Err(error) = self.round(orders, &mut changed, report, cancel).await
            {
                let orders: Vec<Order> = changed.into_iter().map(|changed| changed.order).collect();
                return self.break_off(&orders, later, error, report);
            }
            if round == ROUNDS {
                for Changed { order, trouble } in changed.drain(..) {
                    self.account.fail_order(&order, trouble.into_error(), report);
                }
            }
            if changed.is_empty() && later.is_empty() {
                return Ok(());
            }
            orders = self.ask_about(changed, report, cancel).await;
            let fresh = self.fresh(std::mem::take(&mut later), report, cancel).await;
            if let Some(at) = disk.take().filter(|_| !fresh.is_empty()) {
                let mut placed = Placed { account: std::mem::take(&mut self.account), ..Placed::default() };
                let settled = placed.settle_on_disk(at, fresh, Vec::new(), report, cancel).await;
                self.account = placed.account;
                orders.extend(placed.orders);
                if let Err(error) = settled {
                    return self.break_off(&orders, Vec::new(), error, report);
                }
            }
            if cancel.is_cancelled() {
                return self.break_off(&orders, Vec::new(), Error::Interrupted, report);
            }
        }
        Ok(())
    }

    /// One round; tells which files changed meanwhile.
    async fn round(
        &mut self,
        orders: Vec<Order>,
        changed: &mut Vec<Changed>,
        report: Reporter<'_>,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let first = match self.first_source(&orders).await {
            Ok(first) => first,
            Err(error) => return self.break_off(&orders, Vec::new(), error, report),
        };
        let (caller, request, in_order) = (self.caller, self.request, self.in_order);
        let streams = if in_order { 1 } else { request.streams.max(1) };
        let mut plan = Plan::new(orders.iter().map(|order| order.layout), streams, in_order);
        plan.limit_open_files(writer::files_at_once());
        let copies = Copies::among(&orders);
        copies.waiting().for_each(|file| plan.hold(file));
        let orders = Arc::new(orders);
        let courtesy = caller.courtesy().clone();
        let (writer, mut outcomes, threads) =
            match writer::start(orders.clone(), courtesy.clone(), Sink::of(&request.destination)) {
                Ok(started) => started,
                Err(why) => return self.break_off(&orders, Vec::new(), why.into(), report),
            };
        let (news, heard) = mpsc::unbounded_channel();
        let limit = request.limit.map(|limit| tokio::sync::Mutex::new(Bucket::new(limit, Instant::now())));
        let shared = Arc::new(Pull {
            from: request.from.clone(),
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
            copies,
            copying: JoinSet::new(),
            released: Vec::new(),
            wanted: watch::Sender::new(1),
            sought: 0,
            taken: Arc::default(),
            liars: std::mem::take(&mut self.liars),
            trouble: None,
            refusals: HashMap::new(),
            changed: Vec::new(),
            disk_full: None,
            account: std::mem::take(&mut self.account),
        };
        running.liars.iter().for_each(|user| running.taken.add(user.clone()));
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
        let ending = running.attend(&mut outcomes, heard, sought, report, cancel).await;
        asking.shutdown().await;
        changed.append(&mut running.changed);
        self.liars = std::mem::take(&mut running.liars);
        let mut rest = running.end().await;
        // The last handle to the writer is gone; its threads finish what they were given. Unless it hangs at a pipe that
        // nobody reads: whoever interrupts doesn't wait for that.
        let joined = blocking(move || threads.join());
        let early = match ending {
            Ending::Settled => joined.await.err(),
            Ending::Changed(error) | Ending::DiskFull(error) => Some(joined.await.err().unwrap_or(error)),
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
        self.account = rest.break_off(early.as_ref(), report);
        early.map_or(Ok(()), Err)
    }

    /// What the one has whose names they are, or why they aren't there.
    async fn first_source(&self, orders: &[Order]) -> Result<Result<Found, Trouble>, Error> {
        let link = match &self.first {
            Ok(link) => link.clone(),
            Err(trouble) => return Ok(Err(trouble.clone())),
        };
        let partial: Vec<FileNo> =
            (0..).zip(orders).filter(|(_, order)| order.stat.partial).map(|(no, _)| no).collect();
        let asked = Found::ask(link, (0..orders.len()).collect(), orders, &partial).await;
        asked.map(Ok).map_err(|why| Error::stream(&self.request.from, why))
    }

    /// Asks again about files that changed, by their names.
    async fn ask_about(
        &mut self,
        changed: Vec<Changed>,
        report: Reporter<'_>,
        cancel: &CancellationToken,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        let mut patience = STALE_PATIENCE;
        for Changed { order, .. } in changed {
            match self.ask_again(&order.stat, &mut patience, report, cancel).await {
                Ok(Wanted { stat, layout, .. }) => {
                    let is_new = stat.hash != order.stat.hash;
                    let resumed = order.earlier.resumed.filter(|_| !is_new);
                    if let Some(spot) = order.spot.clone().filter(|_| is_new) {
                        let of = order.stat.hash;
                        let removed = blocking(move || {
                            remove_version(&spot, &of);
                            Ok(())
                        });
                        // Nothing depends on it.
                        let _ = removed.await;
                    }
                    if is_new {
                        let times = self.changes.entry(order.told_as).or_default();
                        *times += 1;
                        if *times >= MOST_CHANGES {
                            let (user, name) = (self.request.from.clone(), stat.name.as_str().to_owned());
                            let error = Error::KeepsChanging { user, name, times: *times };
                            self.account.fail_order(&order, error, report);
                            continue;
                        }
                        report(FetchEvent::Changed { name: &stat.name });
                    }
                    let earlier = EarlierRounds { resumed, ..order.earlier };
                    orders.push(Order { stat, layout, earlier, ..order });
                }
                Err(error) => {
                    let error = no_longer_shared(&order, error).await;
                    self.account.fail_order(&order, error, report);
                }
            }
        }
        orders
    }

    /// The files as they are once their source has hashed them again; those that it hasn't are failed.
    async fn fresh(&mut self, wanted: Vec<Wanted>, report: Reporter<'_>, cancel: &CancellationToken) -> Vec<Wanted> {
        let mut fresh = Vec::with_capacity(wanted.len());
        let mut patience = STALE_PATIENCE;
        for file in wanted {
            if !file.stat.stale {
                fresh.push(file);
                continue;
            }
            match self.ask_again(&file.stat, &mut patience, report, cancel).await {
                Ok(Wanted { stat, layout, .. }) => fresh.push(Wanted { stat, layout, ..file }),
                Err(error) => self.fail(&file.stat, Some(asked_for(&file)), error, report),
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
        cancel: &CancellationToken,
    ) -> Result<Wanted, Error> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::Interrupted),
            asked = self.ask_by_name(stat, patience, report) => asked,
        }
    }

    async fn ask_by_name(
        &mut self,
        stat: &FileStat,
        patience: &mut Duration,
        report: Reporter<'_>,
    ) -> Result<Wanted, Error> {
        let user = &self.request.from;
        if self.liars.contains(user) {
            return Err(Error::Integrity(format!("{user} told a lie before")));
        }
        let link = match &self.first {
            Ok(link) if !link.is_closed() => link.clone(),
            _ => self.caller.call_again(user, std::mem::take(patience).max(Duration::from_secs(1))).await?,
        };
        self.first = Ok(link.clone());
        let asked = resolve::stat(&link, &stat.name, *patience, report).await;
        *patience = if matches!(asked, Err(Error::Stale { .. })) { Duration::ZERO } else { STALE_PATIENCE };
        let missing = || Error::NotShared { user: user.clone(), name: stat.name.as_str().to_owned() };
        resolve::wanted(user, asked?.ok_or_else(missing)?, None)
    }

    fn fail(&mut self, stat: &FileStat, again: Option<Asked>, error: Error, report: Reporter<'_>) {
        let (name, size) = (stat.name.as_str().to_owned(), stat.size);
        match error {
            Error::Interrupted => self.account.break_off(name, size, again, &error, report),
            error => self.account.fail(name, size, again, error, report),
        }
    }

    /// Settles what was not begun by what ended everything.
    fn break_off(
        &mut self,
        orders: &[Order],
        later: Vec<Wanted>,
        error: Error,
        report: Reporter<'_>,
    ) -> Result<(), Error> {
        self.account.break_off_all(orders, &error, report);
        for file in later {
            self.account.break_off(
                file.stat.name.as_str().to_owned(),
                file.stat.size,
                Some(asked_for(&file)),
                &error,
                report,
            );
        }
        Err(error)
    }
}

/// What is told of a file that isn't shared any more: what is kept of it, beside that.
async fn no_longer_shared(order: &Order, error: Error) -> Error {
    let Error::NotShared { user, name } = error else { return error };
    let bytes = order.earlier.fetched.saturating_add(order.earlier.resumed.unwrap_or(0));
    let (spot, hash) = (order.spot.clone().filter(|_| bytes > 0), order.stat.hash);
    let part = blocking(move || Ok(spot.and_then(|spot| part_of_version(&spot, &hash)))).await;
    Error::NoLongerShared { user, name, kept: part.ok().flatten().map(|part| (part, bytes)) }
}

/// How to ask for exactly that file, to go where it was to go.
fn asked_for(file: &Wanted) -> Asked {
    Asked { text: file.stat.name.as_str().to_owned(), local: Some(file.local.clone()) }
}
