//! Finding sources and calling them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::peer::Code;
use shared::tracker::{HashText, ListPeers, PeerEntry, Peers, Request as TrackerRequest};
use shared::{GroupSet, UserName};
use tokio::time::Instant;

use super::courtesy::Courtesy;
use super::parts::{self, Held};
use super::writer::Order;
use super::{FileNo, Sources};
use crate::engine::contacts::{self, AskTracker};
use crate::engine::{Error, Me};
use crate::net::endpoint::Endpoint;
use crate::net::link::{self, Link};
use crate::net::tracker::TrackerLink;
use crate::net::{LinkError, StreamError};

/// The largest files are asked about by hash; whoever has one of them is asked for everything.
const ASKED_ABOUT: usize = 16;
/// Files smaller than this in all are fetched before anybody else could be called.
const WORTH_ASKING: u64 = 4 << 20;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Makes links, and ends them all. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    me: Me,
    endpoint: Endpoint,
    links: Arc<Mutex<Vec<Link>>>,
    courtesy: Arc<Courtesy>,
}

/// Somebody who has some of the files.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) link: Link,
    pub(super) has: HashSet<FileNo>,
    /// Those of which it has only some groups.
    pub(super) partly: Vec<(FileNo, GroupSet)>,
}

impl Found {
    /// Asks who has these files, of whom some may be fetching them themselves, what they have of `unsure`.
    pub(super) async fn ask(
        link: Link,
        mut has: HashSet<FileNo>,
        orders: &[Order],
        unsure: &[FileNo],
    ) -> Result<Self, StreamError> {
        let mut partly = Vec::new();
        for (file, held) in parts::ask(&link, orders, unsure).await? {
            match held {
                Held::All => {}
                Held::Some(groups) => partly.push((file, groups)),
                Held::Nothing => drop(has.remove(&file)),
            }
        }
        Ok(Self { link, has, partly })
    }
}

impl Caller {
    /// Opens a socket to call from, with windows that fit a limit of so many bytes a second.
    pub(super) fn new(me: &Me, limit: Option<u64>) -> Result<Self, Error> {
        let endpoint = Endpoint::dialling(&me.identity, limit).map_err(|why| Error::link(&me.user, why))?;
        let courtesy = Arc::new(Courtesy::new(Instant::now().into_std()));
        Ok(Self { me: me.clone(), endpoint, links: Arc::default(), courtesy })
    }

    /// What is due to people who talk.
    pub(super) const fn courtesy(&self) -> &Arc<Courtesy> {
        &self.courtesy
    }

    /// People began to talk, or stopped: all links make room, or use it again.
    pub(super) fn make_room(&self, room: bool) {
        let links = self.links();
        self.courtesy.set(room);
        self.endpoint.make_room(room);
        links.iter().for_each(|link| link.make_room(room));
    }

    /// Finds `user` and makes a link.
    pub(super) async fn call(&self, user: &UserName) -> Result<Link, Error> {
        let target = contacts::find(&self.me, user).await?;
        self.dial(&target).await
    }

    /// Calls `user` until they answer or `patience` has run out.
    pub(super) async fn call_again(&self, user: &UserName, patience: Duration) -> Result<Link, Error> {
        let until = Instant::now() + patience;
        let mut wait = FIRST_WAIT;
        loop {
            tokio::time::sleep(wait.min(until.saturating_duration_since(Instant::now()))).await;
            match self.call(user).await {
                Ok(link) => return Ok(link),
                Err(error @ (Error::PeerChanged { .. } | Error::Profile(_))) => return Err(error),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(error) => tracing::debug!("{user} is still gone: {error}"),
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Everybody but `known` who has some of the files, each with a link; calls them side by side and sends each as it
    /// answers.
    pub(super) async fn call_others(
        self,
        known: Vec<UserName>,
        policy: Sources,
        orders: Arc<Vec<Order>>,
        found: tokio::sync::mpsc::UnboundedSender<Found>,
    ) {
        match self.others(&known, &policy, &orders).await {
            Ok(others) => {
                let mut calls = tokio::task::JoinSet::new();
                for (target, has) in others {
                    let (caller, found, orders) = (self.clone(), found.clone(), orders.clone());
                    calls.spawn(async move {
                        match caller.dial_other(&target, has, &orders).await {
                            // Nobody listens when the fetch is over.
                            Ok(one) => drop(found.send(one)),
                            Err(error) => tracing::info!("{} has the same but doesn't answer: {error}", target.user),
                        }
                    });
                }
                while calls.join_next().await.is_some() {}
            }
            Err(error) => tracing::info!("nobody else is asked: {error}"),
        }
    }

    /// Ends all links.
    pub(super) async fn hang_up(self, code: Code) {
        for link in self.links().drain(..) {
            link.close(code);
        }
        self.endpoint.drain().await;
    }

    async fn dial(&self, target: &link::Target) -> Result<Link, Error> {
        let dialled = link::dial(&self.endpoint, target, &self.me.user, &[]).await;
        let link = dialled.map_err(|why| Error::link(&target.user, why))?;
        let mut links = self.links();
        // It may have been begun before people began to talk.
        link.make_room(self.courtesy.is_due());
        links.retain(|link| !link.is_closed());
        links.push(link.clone());
        Ok(link)
    }

    async fn dial_other(&self, target: &link::Target, has: HashSet<FileNo>, orders: &[Order]) -> Result<Found, Error> {
        let link = self.dial(target).await?;
        // The catalogue doesn't tell whether they have all of it; nobody offers part of what is one group.
        let several = |file: &FileNo| orders.get(*file).is_some_and(|order| order.layout.groups() > 1);
        let unsure: Vec<FileNo> = has.iter().copied().filter(several).collect();
        Found::ask(link, has, orders, &unsure).await.map_err(|why| Error::stream(&target.user, why))
    }

    fn links(&self) -> MutexGuard<'_, Vec<Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn others(
        &self,
        known: &[UserName],
        policy: &Sources,
        orders: &[Order],
    ) -> Result<Vec<(link::Target, HashSet<FileNo>)>, Error> {
        let total = orders.iter().map(|order| order.layout.size()).fold(0, u64::saturating_add);
        let named = match policy {
            Sources::Everybody => &[],
            Sources::Also(users) | Sources::Only(users) => users.as_slice(),
        };
        let enough_here = total < WORTH_ASKING && !orders.iter().any(|order| order.stat.partial);
        if named.is_empty() && (matches!(policy, Sources::Only(_)) || enough_here) {
            return Ok(Vec::new());
        }
        let mut tracker = self.me.connect_tracker().await?;
        let mut entries: HashMap<UserName, PeerEntry> = HashMap::new();
        for user in named {
            let only = ListPeers { user: Some(user.clone()), with_files: Some(false), ..ListPeers::default() };
            add(&mut entries, list(&mut tracker, only).await?);
        }
        if !matches!(policy, Sources::Only(_)) {
            let mut largest: Vec<&Order> = orders.iter().collect();
            largest.sort_by_key(|order| std::cmp::Reverse(order.layout.size()));
            for order in largest.into_iter().take(ASKED_ABOUT) {
                let same =
                    ListPeers { hash: Some(order.stat.hash.into()), with_files: Some(false), ..ListPeers::default() };
                add(&mut entries, list(&mut tracker, same).await?);
            }
        }
        let mut others = Vec::new();
        for entry in entries.into_values().filter(|entry| !known.contains(&entry.user) && entry.user != self.me.user) {
            let has = catalogue(&mut tracker, &entry.user, orders).await?;
            match contacts::target_of(&self.me, &entry, tracker.is_near()) {
                Ok(target) if !has.is_empty() => others.push((target, has)),
                Ok(_) => {}
                Err(error) => tracing::info!("{} is not asked: {error}", entry.user),
            }
        }
        Ok(others)
    }
}

/// Which of the files `user` has in the tracker's catalogue.
async fn catalogue(tracker: &mut TrackerLink, user: &UserName, orders: &[Order]) -> Result<HashSet<FileNo>, Error> {
    let all = ListPeers { user: Some(user.clone()), ..ListPeers::default() };
    let hashes: HashSet<HashText> =
        list(tracker, all).await?.into_iter().flat_map(|entry| entry.files).map(|file| file.hash).collect();
    let has = |(_, order): &(FileNo, &Order)| hashes.contains(&HashText::from(order.stat.hash));
    Ok(orders.iter().enumerate().filter(has).map(|(no, _)| no).collect())
}

async fn list(tracker: &mut TrackerLink, which: ListPeers) -> Result<Vec<PeerEntry>, Error> {
    let peers: Peers = tracker.call(&TrackerRequest::ListPeers(which)).await?;
    Ok(peers.peers)
}

fn add(entries: &mut HashMap<UserName, PeerEntry>, more: Vec<PeerEntry>) {
    entries.extend(more.into_iter().map(|entry| (entry.user.clone(), entry)));
}

/// Whether calling again may help.
pub(super) const fn may_come_back(error: &LinkError) -> bool {
    matches!(error, LinkError::NoAnswer { .. } | LinkError::Lost(_) | LinkError::Refused { .. })
}
