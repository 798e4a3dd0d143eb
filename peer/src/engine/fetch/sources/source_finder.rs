//! Search for other sources: at the beginning, after each loss of a source, and at intervals.

use std::collections::HashSet;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use shared::peer::PeerErrorCode;
use shared::{RoomName, UserName};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::candidate_dials::{DialPauses, DialPlaces, DialPriority, in_dial_order};
use super::source_dialer::{ConnectedSource, SourceDialer, dialled_in_vain};
use super::tracker_candidates::{CandidateSearch, SourceCandidate};
use crate::engine::Error;
use crate::engine::fetch::downloader::DownloadContext;
use crate::engine::fetch::{FileNo, SourcePolicy};
use crate::engine::room_contacts::{RoomContact, find_room_contacts};

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

/// The outcome of a dial and a question.
struct SourceCall {
    user: UserName,
    /// True if the request names this user as a source.
    is_named: bool,
    called: Result<ConnectedSource, Error>,
}

/// Takes the dials of a search, in their order.
type DialQueue = mpsc::UnboundedSender<Pin<Box<dyn Future<Output = SourceCall> + Send>>>;

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
        let (dials, mut found) = mpsc::unbounded_channel();
        let mut calls = JoinSet::new();
        for user in self.named_users().iter().filter(|user| !self.excluded_users.contains(user)).cloned() {
            let (dialer, context, due) = (self.dialer.clone(), self.context.clone(), due.to_vec());
            calls.spawn(async move {
                let called = dialer.connect_named(&user, &due, &context.jobs).await;
                SourceCall { user, is_named: true, called }
            });
        }
        let mut finding = pin!(self.find_others(due, paused, dials));
        let mut is_finding = true;
        loop {
            // At the same time: a long list of one user keeps nobody else waiting.
            tokio::select! {
                () = &mut finding, if is_finding => is_finding = false,
                Some(dial) = found.recv() => drop(calls.spawn(dial)),
                Some(call) = calls.join_next() => {
                    let Ok(call) = call else { continue };
                    match &call.called {
                        Ok(_) => pauses.end(&call.user),
                        Err(_) => pauses.begin(call.user.clone(), Instant::now()),
                    }
                    self.report(call, due, missed);
                }
                else => return,
            }
        }
    }

    /// Sends the outcome of a call, if it is news.
    fn report(
        &self,
        SourceCall { user, is_named, called }: SourceCall,
        due: &[FileNo],
        missed: &mut HashSet<UserName>,
    ) {
        let sought = match called {
            Ok(found) if found.has.files.is_empty() => {
                found.link.close(PeerErrorCode::Done);
                // A catalogue entry that is out of date is no news for the user; a named user without the files is.
                if !is_named || !missed.insert(user.clone()) {
                    return;
                }
                let first = due.iter().find_map(|no| self.context.jobs.get(*no));
                let name = first.map(|job| job.stat.name.as_str().to_owned()).unwrap_or_default();
                let error = Error::NotShared { user: user.clone(), name };
                SearchEvent::Unavailable { user, is_named, error }
            }
            Ok(found) => {
                // Not only by the session: a user must not be found twice before it has heard of the first time.
                self.excluded_users.add(user);
                SearchEvent::Found(found)
            }
            Err(error) if missed.insert(user.clone()) => SearchEvent::Unavailable { user, is_named, error },
            Err(_) => return,
        };
        // Fails only when the round driver is gone.
        let _ = self.events.send(sought);
    }

    /// Finds others who may have some of these files, and passes on the dial of each.
    async fn find_others(&self, due: &[FileNo], paused: &HashSet<UserName>, dials: DialQueue) {
        let found = match (&self.policy, &self.room) {
            (SourcePolicy::Only(_), _) => Ok(()),
            (_, Some(room)) => self.find_members(room, due, paused, &dials).await,
            (_, None) => self.find_candidates(due, paused, &dials).await,
        };
        if let Err(error) = found {
            tracing::info!("nobody else is asked: {error}");
        }
    }

    /// Finds the members of a room who are online and not sources yet. Each is asked which of these files it has.
    async fn find_members(
        &self,
        room: &RoomName,
        due: &[FileNo],
        paused: &HashSet<UserName>,
        dials: &DialQueue,
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
            let call = async move {
                let called = async {
                    let link = places.dial(dialer.connect_member(&target?)).await?;
                    let asked = ConnectedSource::query_member(link.clone(), &due, HashSet::new(), &context.jobs).await;
                    asked.map_err(|why| dialled_in_vain(&link, why))
                };
                let called = called.await;
                SourceCall { user, is_named: false, called }
            };
            // Fails only when the search is dropped.
            let _ = dials.send(Box::pin(call));
        }
        Ok(())
    }

    /// True if a listed user may be dialled: named ones are dialled in any case.
    fn is_candidate(&self, user: &UserName, paused: &HashSet<UserName>) -> bool {
        !self.excluded_users.contains(user) && !self.named_users().contains(user) && !paused.contains(user)
    }

    /// Finds the users who have some of these files according to the tracker, except named, excluded and paused ones.
    async fn find_candidates(
        &self,
        due: &[FileNo],
        paused: &HashSet<UserName>,
        dials: &DialQueue,
    ) -> Result<(), Error> {
        let places = Arc::new(DialPlaces::new());
        let search = CandidateSearch { me: self.dialer.local_user(), jobs: &self.context.jobs, due };
        let is_new = |user: &UserName| self.is_candidate(user, paused);
        let pass_on = |SourceCandidate { user, target, has }| {
            let (dialer, context, places) = (self.dialer.clone(), self.context.clone(), places.clone());
            let call = async move {
                let called = match target {
                    Ok(target) => places.dial(dialer.connect_candidate(&target, has, &context.jobs)).await,
                    Err(error) => Err(error),
                };
                SourceCall { user, is_named: false, called }
            };
            // Fails only when the search is dropped.
            let _ = dials.send(Box::pin(call));
        };
        search.run(is_new, pass_on).await
    }
}
