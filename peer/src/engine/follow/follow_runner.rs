//! The task of one follow: compares, waits for news of its source, and compares again.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | comparisons | a pause of [`MIN_PAUSE`], or twice the time that the last listing took | changes are put together |
//! | attempts to reach a user | at intervals up to [`MAX_RETRY`]; at once when they come online | |
//! | comparisons without news | every [`LOOK_INTERVAL`], or [`HINT_INTERVAL`] for a peer that tells of no changes | |

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use localization::tr;
use rand::Rng;
use shared::account_name::shell_operand;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::follow_round::{FollowRecords, FollowRound, RoundOutcome};
use super::source_links::{ChangeSubscription, SourceLinks, SourceListing};
use crate::engine::event_bus::EventBus;
use crate::engine::follow_news::{FollowChange, FollowNews, FollowTotals, folder_text};
use crate::engine::node_event::NodeEvent;
use crate::engine::{Error, ErrorKind, LocalUser, now_ms, run_blocking};
use crate::net::link::Link;
use crate::profile::{Follow, FollowState, FollowStatus};
use crate::util::{Backoff, TranslatedText};

const MIN_PAUSE: Duration = Duration::from_millis(400);
const LISTING_PAUSE_FACTOR: u32 = 2;
const MIN_RETRY: Duration = Duration::from_secs(2);
const MAX_RETRY: Duration = Duration::from_secs(120);
/// The pause before a user is called again whose link or subscription ended.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// What changes without news, such as a disk that comes back, is found by a look now and then.
const LOOK_INTERVAL: Duration = Duration::from_secs(600);
/// The tracker's word that somebody's files changed is only a hint.
const HINT_INTERVAL: Duration = Duration::from_secs(60);

/// The task of one follow.
pub(super) struct FollowRunner {
    pub(super) me: LocalUser,
    pub(super) number: i64,
    pub(super) events: EventBus,
    pub(super) links: Arc<SourceLinks>,
    /// Permits for comparisons.
    pub(super) slots: Arc<Semaphore>,
    /// Permits for fetches from the source, one for a batch.
    pub(super) fetch_turns: Arc<Semaphore>,
    pub(super) signals: FollowSignals,
    pub(super) cancel: CancellationToken,
}

/// The signals to one follow. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct FollowSignals {
    /// Look again: the user said something, or the source is back.
    pub(super) look: Arc<Notify>,
    /// The tracker's catalogue says that the source's files changed.
    pub(super) hint: Arc<Notify>,
}

/// What is kept between comparisons.
#[derive(Default)]
struct RunnerMemory {
    /// The pause after a comparison, by the time that the listing took.
    listing_pause: Duration,
    subscription: Option<ChangeSubscription>,
    totals: FollowTotals,
    told: HashSet<(shared::FileName, TranslatedText)>,
    /// The state that was told last.
    told_state: Option<(FollowState, usize, TranslatedText)>,
}

impl FollowRunner {
    /// Runs until the follow is paused or over, or the node stops.
    pub(super) async fn run(self) {
        let mut memory = RunnerMemory::default();
        let mut backoff = Backoff::new(MIN_RETRY, MAX_RETRY);
        while !self.cancel.is_cancelled() {
            let (profile, number) = (self.me.profile.clone(), self.number);
            let follow = match run_blocking(move || Ok(profile.follow(number)?)).await {
                Ok(Some(follow)) if !follow.is_paused && follow.status.state != FollowState::KeyChanged => follow,
                Ok(_) => return,
                Err(error) => {
                    tracing::error!("a follow could not be read: {error}");
                    tokio::select! {
                        () = self.cancel.cancelled() => return,
                        () = tokio::time::sleep(backoff.next_delay()) => continue,
                    }
                }
            };
            // A fetch under way observes the cancellation itself, and puts away what it has.
            let pause = match Box::pin(self.compare(&follow, &mut memory)).await {
                Ok(outcome) => {
                    let is_well = outcome.failed == 0 && !outcome.is_unsettled;
                    self.set_outcome(&follow, outcome, &mut memory).await;
                    if is_well {
                        backoff.reset();
                        if memory.subscription.is_some() { LOOK_INTERVAL } else { HINT_INTERVAL }
                    } else {
                        backoff.next_jittered(rand::rng().random())
                    }
                }
                Err(Error::Interrupted) => return,
                Err(error) => {
                    // The subscription belongs to the link that failed; a fault of this side leaves it as it is.
                    if !is_local(&error) && error.kind() != ErrorKind::NotShared {
                        memory.subscription = None;
                    }
                    self.set_error(&follow, &error, &mut memory).await;
                    if error.kind() == ErrorKind::IdentityChanged {
                        return;
                    }
                    backoff.next_jittered(rand::rng().random())
                }
            };
            // Counted from here: news after a quiet time are looked at without delay.
            let earliest = Instant::now() + MIN_PAUSE.max(memory.listing_pause);
            if self.wait(&follow, pause, &mut memory).await {
                backoff.reset();
            }
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep_until(earliest.into()) => {}
            }
        }
    }

    /// Lists the source and makes the copy like it.
    async fn compare(&self, follow: &Follow, memory: &mut RunnerMemory) -> Result<RoundOutcome, Error> {
        let user = &follow.of.user;
        let (profile, of) = (self.me.profile.clone(), user.clone());
        if run_blocking(move || Ok(profile.is_blocked(&of)?)).await? {
            let who = shell_operand(user);
            return Err(Error::Usage(tr!("you block {user}: `peer unblock {who}` lets it go on", user, who)));
        }
        let link = self.until_cancelled(self.links.link_to(user)).await?;
        self.check_key(follow, link.fingerprint()).await?;
        if memory.subscription.is_none() {
            memory.subscription = self.until_cancelled(ChangeSubscription::open(&link)).await?;
        }
        // Only now: whoever can't be reached keeps no slot from the others.
        let slot = self.until_cancelled(async { take_permit(&self.slots).await }).await?;
        let begun = Instant::now();
        let (profile, number) = (self.me.profile.clone(), self.number);
        let records = run_blocking(move || Ok(profile.follow_records(number)?)).await?;
        let listing = self.until_cancelled(self.list(follow, &link, &records)).await?;
        // A folder that takes long to list costs its user as much.
        memory.listing_pause = (begun.elapsed() * LISTING_PAUSE_FACTOR).min(MAX_RETRY);
        let (profile, number, status) = (self.me.profile.clone(), self.number, follow.status.clone());
        let (events, of) = (self.events.clone(), follow.clone());
        // Taken out for the closure, as the round borrows the rest of `memory`.
        let mut told_state = memory.told_state.take();
        let mut progress = |left: usize| {
            let status = FollowStatus {
                state: FollowState::Fetching,
                count: left,
                why: TranslatedText::default(),
                in_step_at: status.in_step_at,
            };
            // Only for `peer follows`, which shows an older number otherwise.
            if let Err(error) = profile.set_follow_status(number, &status) {
                tracing::debug!("the state of a follow could not be stored: {error}");
            }
            if told_state.as_ref().is_none_or(|(state, ..)| *state != FollowState::Fetching) {
                told_state = Some((FollowState::Fetching, left, TranslatedText::default()));
                tell_state(&events, &of, &status, FollowTotals::default());
            }
        };
        let round = FollowRound {
            me: &self.me,
            follow,
            events: &self.events,
            cancel: &self.cancel,
            slot: Some(slot),
            fetch_turns: &self.fetch_turns,
            progress: &mut progress,
            totals: &mut memory.totals,
            told: &mut memory.told,
            outcome: RoundOutcome::default(),
        };
        let compared = round.run(listing, records).await;
        memory.told_state = told_state;
        compared
    }

    /// Lists the folder, and asks about files that aren't listed any more. A folder that is not shared, and never was since
    /// the follow began, is looked for in other spellings.
    async fn list(&self, follow: &Follow, link: &Link, records: &FollowRecords) -> Result<SourceListing, Error> {
        let mut listing = SourceListing::fetch(link, follow.of.folder.as_ref()).await?;
        if follow.of.deletes {
            listing.ask_removed(link, records.keys()).await?;
        }
        let is_known = listing.is_shared || !records.is_empty();
        let Some(folder) = follow.of.folder.as_ref().filter(|_| !is_known) else { return Ok(listing) };
        let Some(found) = SourceListing::find_lookalike(link, folder).await? else {
            let name = folder_text(Some(folder));
            return Err(Error::NotShared { user: follow.of.user.clone(), name });
        };
        let (profile, number, renamed) = (self.me.profile.clone(), self.number, found.clone());
        run_blocking(move || Ok(profile.set_follow_folder(number, &renamed)?)).await?;
        SourceListing::fetch(link, Some(&found)).await
    }

    /// Checks that the source has the key with which the follow began.
    async fn check_key(&self, follow: &Follow, key: shared::Fingerprint) -> Result<(), Error> {
        match follow.of.fingerprint {
            Some(expected) if expected == key => Ok(()),
            Some(expected) => Err(Error::PeerKeyChanged { user: follow.of.user.clone(), expected, presented: key }),
            None => {
                // The follow was begun before the user was ever met.
                let (profile, number) = (self.me.profile.clone(), self.number);
                run_blocking(move || Ok(profile.set_follow_key(number, &key)?)).await
            }
        }
    }

    /// Waits for news, for at most this time. Returns true if there are some.
    async fn wait(&self, follow: &Follow, pause: Duration, memory: &mut RunnerMemory) -> bool {
        let has_subscription = memory.subscription.is_some();
        let change = async {
            match &mut memory.subscription {
                Some(subscription) => subscription.next(&follow.of.user).await,
                None => std::future::pending().await,
            }
        };
        let lost = tokio::select! {
            () = self.cancel.cancelled() => return false,
            () = tokio::time::sleep(pause) => return false,
            () = self.signals.look.notified() => return true,
            // A subscription tells more.
            () = self.signals.hint.notified(), if !has_subscription => return true,
            changed = change => changed.is_err(),
        };
        if lost {
            memory.subscription = None;
            tokio::select! {
                () = self.cancel.cancelled() => {}
                () = tokio::time::sleep(RECONNECT_PAUSE) => {}
            }
        }
        !lost
    }

    async fn set_outcome(&self, follow: &Follow, outcome: RoundOutcome, memory: &mut RunnerMemory) {
        let RoundOutcome { failed, why, asked, is_unsettled } = outcome;
        let (state, count, why) = match (asked, failed) {
            (1.., _) => (FollowState::NeedsConfirmation, asked, TranslatedText::default()),
            (0, 1..) => (FollowState::Incomplete, failed, why),
            // More is about to come, which is soon told.
            (0, 0) if is_unsettled => return,
            (0, 0) => (FollowState::InStep, 0, TranslatedText::default()),
        };
        let in_step_at = if state == FollowState::InStep { Some(now_ms()) } else { follow.status.in_step_at };
        self.set_status(follow, FollowStatus { state, count, why, in_step_at }, memory).await;
    }

    async fn set_error(&self, follow: &Follow, error: &Error, memory: &mut RunnerMemory) {
        tracing::debug!("the follow {} can't go on now: {error}", self.number);
        let state = match error.kind() {
            ErrorKind::IdentityChanged => FollowState::KeyChanged,
            _ if is_local(error) => FollowState::Held,
            _ => FollowState::Waiting,
        };
        let (why, in_step_at) = (TranslatedText::of(error), follow.status.in_step_at);
        let status = FollowStatus { state, count: 0, why, in_step_at };
        self.set_status(follow, status, memory).await;
    }

    async fn set_status(&self, follow: &Follow, status: FollowStatus, memory: &mut RunnerMemory) {
        let (profile, number, stored) = (self.me.profile.clone(), self.number, status.clone());
        if let Err(error) = run_blocking(move || Ok(profile.set_follow_status(number, &stored)?)).await {
            // This is only what `peer follows` shows: the copy itself goes by its records.
            tracing::error!("the state of a follow could not be stored: {error}");
        }
        let totals = std::mem::take(&mut memory.totals);
        let told = (status.state, status.count, status.why.clone());
        if memory.told_state.as_ref() != Some(&told) || totals != FollowTotals::default() {
            memory.told_state = Some(told);
            tell_state(&self.events, follow, &status, totals);
        }
    }

    fn until_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> impl Future<Output = Result<T, Error>> {
        // Boxed because of its size, which the future below would have twice.
        let (work, cancel) = (Box::pin(work), &self.cancel);
        async move {
            tokio::select! {
                () = cancel.cancelled() => Err(Error::Interrupted),
                done = work => done,
            }
        }
    }
}

/// Waits for a permit of a semaphore that is never closed.
pub(super) async fn take_permit(of: &Semaphore) -> Result<SemaphorePermit<'_>, Error> {
    of.acquire().await.map_err(|why| Error::Internal(why.to_string()))
}

/// True for an error of this side, about which the source can do nothing.
fn is_local(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Disk | ErrorKind::Exists | ErrorKind::Usage | ErrorKind::NotLoggedIn)
}

fn tell_state(events: &EventBus, follow: &Follow, status: &FollowStatus, totals: FollowTotals) {
    let FollowStatus { state, count, why, .. } = status.clone();
    let (number, user, folder) = (follow.number, follow.of.user.clone(), follow.of.folder.clone());
    let change = FollowChange::State { state, count, why, totals };
    events.send(NodeEvent::Follow(FollowNews { number, user, folder, change }));
}
