//! Looking for others who have the files: at the beginning, whenever a source is lost, and again and again meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::UserName;
use shared::peer::Code;
use shared::tracker::{HashText, ListPeers, PeerEntry, Peers, Request as TrackerRequest};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::puller::Pull;
use super::sources::{Caller, Found};
use super::writer::Order;
use super::{FileNo, Sources};
use crate::engine::contacts::{self, AskTracker};
use crate::engine::{Error, Me};
use crate::net::link;
use crate::net::tracker::TrackerLink;

/// Files that the tracker is asked about by their hashes in one go, the largest ones; whoever has one of them is asked for
/// everything.
const ASKED_ABOUT: usize = 256;
/// Less than this in all is fetched before anybody else could be called.
const WORTH_ASKING: u64 = 4 << 20;
/// Between two looks for others.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// What came of looking.
#[derive(Debug)]
pub(super) enum Sought {
    /// Somebody who has some of the files.
    Found(Found),
    /// Somebody can't be asked; told once.
    Missed {
        /// Who.
        user: UserName,
        /// Whether the user named them.
        named: bool,
        /// Why not.
        error: Error,
    },
    /// All were asked who could be, for as often as it was wanted.
    Over(u64),
}

/// Who needs not be looked for: sources, oneself, liars.
#[derive(Debug, Default)]
pub(super) struct Taken(Mutex<HashSet<UserName>>);

/// Looks for others.
#[derive(Debug)]
pub(super) struct Seeker {
    pub(super) caller: Caller,
    pub(super) pull: Arc<Pull>,
    pub(super) policy: Sources,
    pub(super) taken: Arc<Taken>,
    /// Counts how often it was wanted.
    pub(super) wanted: watch::Receiver<u64>,
    pub(super) told: mpsc::UnboundedSender<Sought>,
}

type Candidate = (link::Target, HashSet<FileNo>);

impl Taken {
    pub(super) fn add(&self, user: UserName) {
        self.users().insert(user);
    }

    pub(super) fn remove(&self, user: &UserName) {
        self.users().remove(user);
    }

    fn has(&self, user: &UserName) -> bool {
        self.users().contains(user)
    }

    fn users(&self) -> MutexGuard<'_, HashSet<UserName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seeker {
    /// Looks until nobody listens any more.
    pub(super) async fn run(mut self) {
        let mut missed = HashSet::new();
        loop {
            let wanted = *self.wanted.borrow_and_update();
            let due = self.due(wanted);
            if !due.is_empty() {
                self.look(&due, &mut missed).await;
            }
            if self.told.send(Sought::Over(wanted)).is_err() {
                return;
            }
            if let Ok(Err(_)) = tokio::time::timeout(LOOK_AGAIN, self.wanted.changed()).await {
                return;
            }
        }
    }

    /// The files for which it is worth while, the largest first.
    fn due(&self, wanted: u64) -> Vec<FileNo> {
        // Those who were named are asked once in any case: that one of them isn't there is to be told.
        let is_first = wanted == 1 && !self.named().is_empty();
        let mut due: Vec<FileNo> = {
            let plan = self.pull.plan();
            (0..self.pull.orders.len()).filter(|no| is_first || !plan.is_settled(*no)).collect()
        };
        let orders = due.iter().filter_map(|no| self.pull.orders.get(*no));
        let bytes = orders.clone().map(|order| order.layout.size()).fold(0, u64::saturating_add);
        // Beside a source that is gone, or has only part of it, little is worth while as well.
        let urgent = wanted > 1 || orders.clone().any(|order| order.stat.partial);
        if bytes < WORTH_ASKING && !urgent && self.named().is_empty() {
            return Vec::new();
        }
        due.sort_by_key(|no| std::cmp::Reverse(self.pull.orders.get(*no).map(|order| order.layout.size())));
        due
    }

    fn named(&self) -> &[UserName] {
        match &self.policy {
            Sources::Everybody => &[],
            Sources::Also(users) | Sources::Only(users) => users,
        }
    }

    /// Calls everybody side by side and sends each as it answers.
    async fn look(&self, due: &[FileNo], missed: &mut HashSet<UserName>) {
        let mut calls: JoinSet<(UserName, bool, Result<Found, Error>)> = JoinSet::new();
        for user in self.named().iter().filter(|user| !self.taken.has(user)).cloned() {
            let (caller, pull, due) = (self.caller.clone(), self.pull.clone(), due.to_vec());
            calls.spawn(async move {
                let called = caller.call_named(&user, &due, &pull.orders).await;
                (user, true, called)
            });
        }
        if !matches!(self.policy, Sources::Only(_)) {
            match self.others(due).await {
                Ok(others) => {
                    for (user, candidate) in others {
                        let (caller, pull) = (self.caller.clone(), self.pull.clone());
                        calls.spawn(async move {
                            let called = match candidate {
                                Ok((target, has)) => caller.dial_other(&target, has, &pull.orders).await,
                                Err(error) => Err(error),
                            };
                            (user, false, called)
                        });
                    }
                }
                Err(error) => tracing::info!("nobody else is asked: {error}"),
            }
        }
        while let Some(called) = calls.join_next().await {
            let Ok((user, named, called)) = called else { continue };
            let sought = match called {
                Ok(found) if found.has.is_empty() => {
                    found.link.close(Code::Done);
                    if !named || !missed.insert(user.clone()) {
                        continue;
                    }
                    let name = due
                        .iter()
                        .find_map(|no| self.pull.orders.get(*no))
                        .map(|order| order.stat.name.as_str().to_owned());
                    let error = Error::NotShared { user: user.clone(), name: name.unwrap_or_default() };
                    Sought::Missed { user, named, error }
                }
                Ok(found) => {
                    self.taken.add(user);
                    Sought::Found(found)
                }
                Err(error) if missed.insert(user.clone()) => Sought::Missed { user, named, error },
                Err(_) => continue,
            };
            // Nobody listens when the fetch is over.
            let _ = self.told.send(sought);
        }
    }

    /// Whoever the tracker knows to have some of these files, and is not named nor known already.
    async fn others(&self, due: &[FileNo]) -> Result<Vec<(UserName, Result<Candidate, Error>)>, Error> {
        let me: &Me = self.caller.me();
        let mut tracker = me.connect_tracker().await?;
        let mut entries: HashMap<UserName, PeerEntry> = HashMap::new();
        for order in due.iter().take(ASKED_ABOUT).filter_map(|no| self.pull.orders.get(*no)) {
            let same =
                ListPeers { hash: Some(order.stat.hash.into()), with_files: Some(false), ..ListPeers::default() };
            entries.extend(list(&mut tracker, same).await?.into_iter().map(|entry| (entry.user.clone(), entry)));
        }
        let mut others = Vec::new();
        let new = |entry: &PeerEntry| {
            entry.user != me.user && !self.taken.has(&entry.user) && !self.named().contains(&entry.user)
        };
        for entry in entries.into_values().filter(new) {
            let has = catalogue(&mut tracker, &entry.user, due, &self.pull.orders).await?;
            let target = contacts::target_of(me, &entry, AskTracker::local(&tracker));
            others.push((entry.user, target.map(|target| (target, has))));
        }
        Ok(others)
    }
}

/// Which of these files `user` has in the tracker's catalogue.
async fn catalogue(
    tracker: &mut TrackerLink,
    user: &UserName,
    due: &[FileNo],
    orders: &[Order],
) -> Result<HashSet<FileNo>, Error> {
    let all = ListPeers { user: Some(user.clone()), ..ListPeers::default() };
    let hashes: HashSet<HashText> =
        list(tracker, all).await?.into_iter().flat_map(|entry| entry.files).map(|file| file.hash).collect();
    let has = |no: &FileNo| orders.get(*no).is_some_and(|order| hashes.contains(&HashText::from(order.stat.hash)));
    Ok(due.iter().copied().filter(has).collect())
}

async fn list(tracker: &mut TrackerLink, which: ListPeers) -> Result<Vec<PeerEntry>, Error> {
    let peers: Peers = tracker.call(&TrackerRequest::ListPeers(which)).await?;
    Ok(peers.peers)
}
