//! Search for other sources: at the beginning, after each loss of a source, and at intervals.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use shared::peer::PeerErrorCode;
use shared::tracker::{HashText, ListPeersReply, ListPeersRequest, ListedPeer, TrackerRequest, UserFilesReply};
use shared::{RoomName, UserName};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::candidate_dials::{DialPauses, DialPlaces, DialPriority, in_dial_order};
use super::source_dialer::{ConnectedSource, SourceDialer, dialled_in_vain};
use crate::engine::fetch::downloader::DownloadContext;
use crate::engine::fetch::writer::FileJob;
use crate::engine::fetch::{FileNo, SourcePolicy};
use crate::engine::peer_lookup::{self, TrackerClient};
use crate::engine::room_contacts::{RoomContact, find_room_contacts};
use crate::engine::{Error, LocalUser};
use crate::net::tracker::TrackerConnection;
use crate::net::{TrackerError, link};

/// Files whose hashes the tracker is asked about in one search, the
/// largest first. A user who has one of them is asked about all.
const MAX_HASH_QUERIES: usize = 256;
/// A fetch of fewer bytes is done before another source could be connected.
const MIN_SEARCH_BYTES: u64 = 4 << 20;
/// The pause between two searches without a request.
const SEARCH_INTERVAL: Duration = Duration::from_secs(15);

/// An event of a search.
#[derive(Debug)]
pub(in crate::engine::fetch) enum SearchEvent {
    /// A user who has some of the files is connected.
    Found(ConnectedSource),
    /// A user can't be asked; reported once per user.
    Unavailable {
        /// The unavailable user.
        user: UserName,
        /// True if the request names this user as a source.
        is_named: bool,
        /// The reason.
        error: Error,
    },
    /// A search is completed. Carries the number of requests that it answers.
    Completed(u64),
}

/// Users that a search skips: current and banned sources.
#[derive(Debug, Default)]
pub(in crate::engine::fetch) struct ExcludedUsers(Mutex<HashSet<UserName>>);

/// The task that searches for other sources.
#[derive(Debug)]
pub(in crate::engine::fetch) struct SourceFinder {
    pub(in crate::engine::fetch) dialer: SourceDialer,
    pub(in crate::engine::fetch) context: Arc<DownloadContext>,
    pub(in crate::engine::fetch) policy: SourcePolicy,
    /// The room whose files are fetched: its members are asked instead of the tracker.
    pub(in crate::engine::fetch) room: Option<RoomName>,
    pub(in crate::engine::fetch) excluded_users: Arc<ExcludedUsers>,
    /// Number of searches requested by the session.
    pub(in crate::engine::fetch) searches_requested: watch::Receiver<u64>,
    pub(in crate::engine::fetch) events: mpsc::UnboundedSender<SearchEvent>,
}

/// Dials under way: the user, true for one that the request names, and the outcome.
type SourceCalls = JoinSet<(UserName, bool, Result<ConnectedSource, Error>)>;

/// A listed user, and where they can be dialled for these files.
type SourceCandidate = (UserName, Result<(link::DialTarget, HashSet<FileNo>), Error>);

impl ExcludedUsers {
    pub(in crate::engine::fetch) fn add(&self, user: UserName) {
        self.users().insert(user);
    }

    pub(in crate::engine::fetch) fn remove(&self, user: &UserName) {
        self.users().remove(user);
    }

    fn contains(&self, user: &UserName) -> bool {
        self.users().contains(user)
    }

    fn users(&self) -> MutexGuard<'_, HashSet<UserName>> {
        self.0.lock()
    }
}

impl SourceFinder {
    /// Searches until the round driver is gone.
    pub(in crate::engine::fetch) async fn run(mut self) {
        let (mut missed, mut pauses, mut answered) = (HashSet::new(), DialPauses::default(), 0);
        loop {
            // Read before the search: a loss during it raises the count, and is answered only by the next search.
            let wanted = *self.searches_requested.borrow_and_update();
            let due = self.files_worth_searching(wanted);
            if !due.is_empty() {
                // Files may fail after a requested search: everybody is dialled who may be back.
                let is_requested = std::mem::replace(&mut answered, wanted) != wanted;
                let paused = if is_requested { HashSet::new() } else { pauses.paused_users(Instant::now()) };
                self.search(&due, &paused, &mut missed, &mut pauses).await;
            }
            // Also where nothing was searched: files without a source wait for this before they fail.
            if self.events.send(SearchEvent::Completed(wanted)).is_err() {
                return;
            }
            // A time-out only means that the next regular search is due.
            if let Ok(Err(_)) = tokio::time::timeout(SEARCH_INTERVAL, self.searches_requested.changed()).await {
                return;
            }
        }
    }

    /// Returns the files that are worth a search, the largest first.
    fn files_worth_searching(&self, wanted: u64) -> Vec<FileNo> {
        // Named users are asked once in any case, even if all files are settled: an unreachable one is reported.
        let is_first = wanted == 1 && !self.named_users().is_empty();
        let mut due: Vec<FileNo> = {
            let plan = self.context.plan.lock();
            (0..self.context.jobs.len()).filter(|no| is_first || !plan.is_settled(*no)).collect()
        };
        let jobs = due.iter().filter_map(|no| self.context.jobs.get(*no));
        let bytes = jobs.clone().map(|job| job.layout.size()).fold(0, u64::saturating_add);
        // After the loss of a source, or with a partial one, few bytes are worth a search as well.
        let urgent = wanted > 1 || jobs.clone().any(|job| job.stat.partial);
        if bytes < MIN_SEARCH_BYTES && !urgent && self.named_users().is_empty() {
            return Vec::new();
        }
        due.sort_by_key(|no| std::cmp::Reverse(self.context.jobs.get(*no).map(|job| job.layout.size())));
        due
    }

    fn named_users(&self) -> &[UserName] {
        match &self.policy {
            SourcePolicy::Everybody => &[],
            SourcePolicy::Also(users) | SourcePolicy::Only(users) => users,
        }
    }

    /// Dials all candidates but the paused ones concurrently, and sends each as it answers.
    async fn search(
        &self,
        due: &[FileNo],
        paused: &HashSet<UserName>,
        missed: &mut HashSet<UserName>,
        pauses: &mut DialPauses,
    ) {
        let mut calls = SourceCalls::new();
        for user in self.named_users().iter().filter(|user| !self.excluded_users.contains(user)).cloned() {
            let (dialer, context, due) = (self.dialer.clone(), self.context.clone(), due.to_vec());
            calls.spawn(async move {
                let called = dialer.connect_named(&user, &due, &context.jobs).await;
                (user, true, called)
            });
        }
        if let (Some(room), false) = (&self.room, matches!(self.policy, SourcePolicy::Only(_))) {
            if let Err(error) = self.call_members(room, due, paused, &mut calls).await {
                tracing::info!("nobody else is asked: {error}");
            }
        } else if !matches!(self.policy, SourcePolicy::Only(_)) {
            match self.find_candidates(due, paused).await {
                Ok(others) => {
                    let places = Arc::new(DialPlaces::new());
                    for (user, candidate) in in_dial_order(others) {
                        let (dialer, context) = (self.dialer.clone(), self.context.clone());
                        let places = places.clone();
                        calls.spawn(async move {
                            let called = match candidate {
                                Ok((target, has)) => {
                                    places.dial(dialer.connect_candidate(&target, has, &context.jobs)).await
                                }
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
            match &called {
                Ok(_) => pauses.end(&user),
                Err(_) => pauses.begin(user.clone(), Instant::now()),
            }
            let sought = match called {
                Ok(found) if found.has.files.is_empty() => {
                    found.link.close(PeerErrorCode::Done);
                    // A catalogue entry that is out of date is no news for the user; a named user without the files is.
                    if !named || !missed.insert(user.clone()) {
                        continue;
                    }
                    let name = due
                        .iter()
                        .find_map(|no| self.context.jobs.get(*no))
                        .map(|job| job.stat.name.as_str().to_owned());
                    let error = Error::NotShared { user: user.clone(), name: name.unwrap_or_default() };
                    SearchEvent::Unavailable { user, is_named: named, error }
                }
                Ok(found) => {
                    // Not only by the session: a user must not be found twice before it has heard of the first time.
                    self.excluded_users.add(user);
                    SearchEvent::Found(found)
                }
                Err(error) if missed.insert(user.clone()) => SearchEvent::Unavailable { user, is_named: named, error },
                Err(_) => continue,
            };
            // Fails only when the round driver is gone.
            let _ = self.events.send(sought);
        }
    }

    /// Calls the members of a room who are online and not sources yet, and asks each which of these files it has.
    async fn call_members(
        &self,
        room: &RoomName,
        due: &[FileNo],
        paused: &HashSet<UserName>,
        calls: &mut SourceCalls,
    ) -> Result<(), Error> {
        let contacts = find_room_contacts(self.dialer.local_user(), room).await?;
        let is_new = |member: &RoomContact| self.is_candidate(&member.user, paused);
        let candidates = contacts.members.into_iter().filter(is_new).map(|member| {
            (DialPriority { is_known: member.is_known, seen_at: member.seen_at }, (member.user, member.target))
        });
        let places = Arc::new(DialPlaces::new());
        for (user, target) in in_dial_order(candidates.collect()) {
            let (dialer, context, places) = (self.dialer.clone(), self.context.clone(), places.clone());
            let due = due.to_vec();
            calls.spawn(async move {
                let called = async {
                    let link = places.dial(dialer.connect_member(&target?)).await?;
                    let asked = ConnectedSource::query_member(link.clone(), &due, HashSet::new(), &context.jobs).await;
                    asked.map_err(|why| dialled_in_vain(&link, why))
                };
                let called = called.await;
                (user, false, called)
            });
        }
        Ok(())
    }

    /// True if a listed user may be dialled: named ones are dialled in any case.
    fn is_candidate(&self, user: &UserName, paused: &HashSet<UserName>) -> bool {
        !self.excluded_users.contains(user) && !self.named_users().contains(user) && !paused.contains(user)
    }

    /// Returns the users who have some of these files according to the tracker, except named, excluded and paused ones.
    async fn find_candidates(
        &self,
        due: &[FileNo],
        paused: &HashSet<UserName>,
    ) -> Result<Vec<(DialPriority, SourceCandidate)>, Error> {
        let me: &LocalUser = self.dialer.local_user();
        // What isn't for everybody isn't the tracker's business either.
        let is_public = |no: &&FileNo| self.context.jobs.get(**no).is_some_and(|job| !job.stat.restricted);
        let public: Vec<FileNo> = due.iter().filter(is_public).copied().collect();
        if public.is_empty() {
            return Ok(Vec::new());
        }
        let mut tracker = me.connect_tracker().await?;
        let mut entries: HashMap<UserName, (ListedPeer, HashSet<FileNo>)> = HashMap::new();
        // One small query per hash, then one full list per user found: most hashes have no other source.
        let asked = public.iter().take(MAX_HASH_QUERIES).filter_map(|no| Some((*no, self.context.jobs.get(*no)?)));
        for (no, job) in asked {
            let same = ListPeersRequest {
                hash: Some(job.stat.hash.into()),
                with_files: Some(false),
                ..ListPeersRequest::default()
            };
            for entry in list_peers(&mut tracker, same).await? {
                entries.entry(entry.user.clone()).or_insert_with(|| (entry, HashSet::new())).1.insert(no);
            }
        }
        let mut others = Vec::new();
        let new = |entry: &ListedPeer| entry.user != me.user && self.is_candidate(&entry.user, paused);
        for (entry, found) in entries.into_values().filter(|(entry, _)| new(entry)) {
            let has = match catalogued_files(&mut tracker, &entry.user, due, &self.context.jobs).await {
                // A list that is too long to be read counts against its user alone.
                Err(Error::Tracker(TrackerError::NotATracker { .. })) => {
                    tracker = me.connect_tracker().await?;
                    found
                }
                listed => listed?,
            };
            let target = peer_lookup::candidate_from_entry(me, &entry, TrackerClient::local_address(&tracker));
            // After the target: at the first meeting that records nothing.
            let is_known = me.profile.known_user(&entry.user)?.is_some();
            let priority = DialPriority { is_known, seen_at: entry.ip };
            others.push((priority, (entry.user, target.map(|target| (target, has)))));
        }
        Ok(others)
    }
}

/// Returns the files among these that `user` has in the tracker's catalogue.
async fn catalogued_files(
    tracker: &mut TrackerConnection,
    user: &UserName,
    due: &[FileNo],
    jobs: &[FileJob],
) -> Result<HashSet<FileNo>, Error> {
    // One request for all files; by hash it would take one for each.
    let all = ListPeersRequest { user: Some(user.clone()), ..ListPeersRequest::default() };
    let listed: UserFilesReply = tracker.call(&TrackerRequest::ListPeers(all)).await?;
    let hashes: HashSet<HashText> = listed.into_files().into_iter().map(|file| file.hash).collect();
    let has = |no: &FileNo| jobs.get(*no).is_some_and(|job| hashes.contains(&HashText::from(job.stat.hash)));
    Ok(due.iter().copied().filter(has).collect())
}

async fn list_peers(tracker: &mut TrackerConnection, which: ListPeersRequest) -> Result<Vec<ListedPeer>, Error> {
    let peers: ListPeersReply = tracker.call(&TrackerRequest::ListPeers(which)).await?;
    Ok(peers.peers)
}
