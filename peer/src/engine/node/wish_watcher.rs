//! Wish watcher: asks the tracker for what the user wishes for whenever files of others may have changed, tells of it once,
//! and has it fetched.
//!
//! The tracker tells who changed their files, not which. So each wish that waits is one search, and searches have a pace.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | looks for all wishes | 4 at once, then one in 15 s | changes meanwhile are looked at together |
//! | files taken from one search | 5,000, and 5 that match of one user, 500 in all | the rest isn't looked at |
//! | wished files that are fetched at once | 2 | the others wait |
//! | files of one wish that are told to be fetched | 20 | tried, and not told |
//! | attempts to fetch a user's files that failed | one in 5 minutes | others' files are tried |

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use localization::tr;
use shared::safe_text::safe_path;
use shared::tracker::FindRequest;
use shared::{ContentHash, UserName};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::optional_deadline::wait_until;
use super::tracker_session::TrackerHandle;
use crate::engine::event_bus::EventBus;
use crate::engine::node_event::NodeEvent;
use crate::engine::size_format::format_size;
use crate::engine::wishes::{WishDecision, WishFetchOutcome, WishHoldReason, WishQuery, decide, hold_reason};
use crate::engine::{Error, LocalUser, run_blocking, tracker_search};
use crate::profile::{Wish, WishMatch, WishState};
use crate::util::TranslatedText;
use crate::util::rate_limit::TokenBucket;

/// Looks without a wait.
const LOOK_BURST: u64 = 4;
/// Time that each look costs.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// The wait for further changes of the same moment.
const SETTLE_TIME: Duration = Duration::from_millis(300);
/// The wait after a search that failed.
const SEARCH_RETRY: Duration = Duration::from_secs(60);
/// The wait until the files of a user are tried again of which one could not be fetched.
const FETCH_RETRY: Duration = Duration::from_secs(300);
/// Files taken from one search.
const MAX_FOUND: usize = 5000;
/// Matches of one search, of all users and of one: who shares thousands of such files hides nobody else's.
const MAX_MATCHES: usize = 500;
const MAX_MATCHES_OF_USER: usize = 5;
/// Files of which one wish tells, while the node runs, that they are being fetched.
const MAX_ANNOUNCED: usize = 20;
/// Wished files that are fetched at once.
const MAX_RUNNING: usize = 2;
/// Time for fetches to put away what they have when the node ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// The task that looks for what the user wishes for.
pub(super) struct WishWatcher {
    me: LocalUser,
    tracker: TrackerHandle,
    /// Tells that files or wishes may have changed.
    changed: Arc<Notify>,
    events: EventBus,
    stop: CancellationToken,
    /// The time of the next look.
    due: Option<Instant>,
    /// The time at which files that could not be fetched are looked for again.
    retry_at: Option<Instant>,
    pace: TokenBucket,
    running: JoinSet<(Wish, WishMatch, WishFetchOutcome)>,
    /// The wishes whose files are being fetched, with what stops the fetch.
    busy: HashMap<i64, CancellationToken>,
    /// The users whose files could not be fetched for a wish, with the time of the next attempt: others come first then.
    failed: HashMap<(i64, UserName), Instant>,
    /// Files of which it was told that they are being fetched, however often that is tried.
    announced: HashSet<(i64, UserName, ContentHash)>,
}

impl WishWatcher {
    /// Creates the task.
    pub(super) fn new(me: LocalUser, tracker: TrackerHandle, events: EventBus, stop: CancellationToken) -> Self {
        let changed = tracker.files_changed().clone();
        // In milliseconds, which the bucket takes for bytes.
        let pace = TokenBucket::with_burst(1000, LOOK_BURST * millis(LOOK_INTERVAL), std::time::Instant::now());
        let (due, running, busy) = (Some(Instant::now()), JoinSet::new(), HashMap::new());
        let (failed, announced) = (HashMap::new(), HashSet::new());
        Self { me, tracker, changed, events, stop, due, retry_at: None, pace, running, busy, failed, announced }
    }

    /// Runs until the node stops.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.changed.notified() => {
                    self.schedule(SETTLE_TIME);
                    if let Err(error) = self.stop_unwanted().await {
                        tracing::info!("wishes can't be read now: {error}");
                    }
                }
                () = wait_until(self.retry_at) => {
                    self.retry_at = None;
                    self.schedule(Duration::ZERO);
                }
                () = wait_until(self.due) => {
                    self.due = None;
                    if let Err(error) = self.look().await {
                        tracing::info!("wishes can't be looked for now: {error}");
                        self.schedule(SEARCH_RETRY);
                    }
                }
                Some(ended) = self.running.join_next() => match ended {
                    Ok((wish, file, outcome)) => self.handle_outcome(&wish, file, outcome).await,
                    Err(failure) => tracing::error!("the fetch of a wished file failed: {failure}"),
                },
            }
        }
        // Their tokens are children of the node's, so that they end by themselves.
        let ended = async { while self.running.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await;
        Ok(())
    }

    /// Has the wishes looked for after this time, or earlier if that was scheduled.
    fn schedule(&mut self, wait: Duration) {
        let at = Instant::now() + wait;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Looks for each wish that waits.
    async fn look(&mut self) -> Result<(), Error> {
        // The session tells when the tracker is back.
        if !self.tracker.is_present() {
            return Ok(());
        }
        // Before the pace is charged: a user without wishes spends nothing of it.
        let wishes = self.waiting_wishes().await?;
        if wishes.is_empty() {
            return Ok(());
        }
        let cost = usize::try_from(millis(LOOK_INTERVAL)).unwrap_or(usize::MAX);
        if !self.pace.try_consume(cost, std::time::Instant::now()) {
            self.schedule(LOOK_INTERVAL);
            return Ok(());
        }
        let mut failure = None;
        for wish in wishes {
            match self.search(&wish).await {
                Ok(matches) => self.act(&wish, matches).await?,
                // One that the tracker refuses doesn't hold up the others.
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Stops the fetches for wishes that were paused or ended meanwhile.
    async fn stop_unwanted(&self) -> Result<(), Error> {
        if self.busy.is_empty() {
            return Ok(());
        }
        let profile = self.me.profile.clone();
        let wishes = run_blocking(move || Ok(profile.wishes()?)).await?;
        let is_waiting =
            |number: i64| wishes.iter().any(|wish| wish.number == number && wish.state == WishState::Waiting);
        self.busy.iter().filter(|(number, _)| !is_waiting(**number)).for_each(|(_, stop)| stop.cancel());
        Ok(())
    }

    async fn waiting_wishes(&self) -> Result<Vec<Wish>, Error> {
        let profile = self.me.profile.clone();
        let mut wishes = run_blocking(move || Ok(profile.wishes()?)).await?;
        wishes.retain(|wish| wish.state == WishState::Waiting && !self.busy.contains_key(&wish.number));
        Ok(wishes)
    }

    /// Returns the files that match a wish and were not told of before.
    async fn search(&self, wish: &Wish) -> Result<Vec<WishMatch>, Error> {
        let Ok(query) = WishQuery::parse(&wish.query) else { return Ok(Vec::new()) };
        let request = FindRequest { criterion: query.criterion().clone(), limit: None, cursor: None };
        let (profile, number) = (self.me.profile.clone(), wish.number);
        let told = run_blocking(move || Ok(profile.told_wish_matches(number)?)).await?;
        let mut matches: Vec<WishMatch> = Vec::new();
        tracker_search::search_files(&mut self.tracker.clone(), request, MAX_FOUND, |file| {
            let is_meant = file.user != self.me.user && wish.user.as_ref().is_none_or(|user| *user == file.user);
            // A client of another kind registers what it likes; only a content hash can be fetched.
            if let Ok(hash) = file.hash.as_str().parse()
                && is_meant
                && query.matches(&file)
            {
                let file = WishMatch { by: file.user, name: file.name, size: file.size, hash };
                if !told.contains(&file.told()) && has_room(wish, &matches, &file) {
                    matches.push(file);
                }
            }
            Ok(())
        })
        .await?;
        // Only of those that match: a search goes through thousands of files.
        let profile = self.me.profile.clone();
        run_blocking(move || {
            let mut allowed = Vec::new();
            for file in matches {
                if !profile.is_blocked(&file.by)? {
                    allowed.push(file);
                }
            }
            Ok(allowed)
        })
        .await
    }

    /// Tells of the files that match, or has one of them fetched.
    async fn act(&mut self, wish: &Wish, mut matches: Vec<WishMatch>) -> Result<(), Error> {
        let now = Instant::now();
        self.failed.retain(|_, next| *next > now);
        matches.retain(|file| !self.failed.contains_key(&(wish.number, file.by.clone())));
        let WishDecision { chosen, others, held } = decide(wish, matches);
        for (file, reason) in held {
            self.tell_held(wish, file, TranslatedText::new(|| hold_words(wish, reason))).await?;
        }
        let Some(file) = chosen else { return Ok(()) };
        if wish.folder.is_none() {
            let (profile, number, found) = (self.me.profile.clone(), wish.number, file.clone());
            // Fulfilled first: another process may have ended it meanwhile.
            if run_blocking(move || Ok(profile.fulfil_wish(number, &found)?)).await? {
                self.send_found(wish, file, others, None);
            }
            return Ok(());
        }
        if self.running.len() >= MAX_RUNNING {
            self.schedule(LOOK_INTERVAL);
            return Ok(());
        }
        let is_known = |known: &&(i64, UserName, ContentHash)| known.0 == wish.number;
        if self.announced.iter().filter(is_known).count() < MAX_ANNOUNCED
            && self.announced.insert((wish.number, file.by.clone(), file.hash))
        {
            self.send_found(wish, file.clone(), 0, None);
        }
        self.start_fetch(wish.clone(), file);
        Ok(())
    }

    /// Tells once of a file that isn't fetched.
    async fn tell_held(&self, wish: &Wish, file: WishMatch, why: TranslatedText) -> Result<(), Error> {
        let (profile, number, told) = (self.me.profile.clone(), wish.number, file.clone());
        if run_blocking(move || Ok(profile.add_wish_match(number, &told)?)).await? {
            self.send_found(wish, file, 0, Some(why));
        }
        Ok(())
    }

    fn send_found(&self, wish: &Wish, file: WishMatch, others: usize, why: Option<TranslatedText>) {
        let (number, query, is_fetched) = (wish.number, wish.query.clone(), wish.folder.is_some() && why.is_none());
        self.events.send(NodeEvent::WishFound { wish: number, query, file, others, is_fetched, why });
    }

    fn start_fetch(&mut self, wish: Wish, file: WishMatch) {
        let (me, events, cancel) = (self.me.clone(), self.events.clone(), self.stop.child_token());
        self.busy.insert(wish.number, cancel.clone());
        self.running.spawn(async move {
            let (wished, wanted) = (wish.clone(), file.clone());
            let fetched = run_blocking(move || Ok((me.handlers.fetch_wish)(&me, &wished, &wanted, &events, &cancel)));
            (wish, file, fetched.await.unwrap_or_else(WishFetchOutcome::Failed))
        });
    }

    /// Has the files of this user left out for a while. Others may share what can be fetched, and are looked for at once.
    fn retry_later(&mut self, wish: &Wish, file: &WishMatch) {
        let again = Instant::now() + FETCH_RETRY;
        self.failed.insert((wish.number, file.by.clone()), again);
        self.schedule(SETTLE_TIME);
        self.retry_at = Some(self.retry_at.map_or(again, |at| at.min(again)));
    }

    async fn handle_outcome(&mut self, wish: &Wish, file: WishMatch, outcome: WishFetchOutcome) {
        let is_stopped = self.busy.remove(&wish.number).is_some_and(|stop| stop.is_cancelled());
        let recorded = match outcome {
            // By the user, who may have resumed it meanwhile: while it was busy, a look left it out.
            WishFetchOutcome::Failed(_) if is_stopped => {
                self.schedule(SETTLE_TIME);
                Ok(())
            }
            WishFetchOutcome::Done(folder) => {
                let profile = self.me.profile.clone();
                let (number, fetched) = (wish.number, file.clone());
                let recorded = run_blocking(move || Ok(profile.fulfil_wish(number, &fetched)?)).await.map(|_| ());
                let (wish, query) = (wish.number, wish.query.clone());
                let folder = safe_path(folder);
                self.events.send(NodeEvent::WishFetched { wish, query, file, folder });
                recorded
            }
            WishFetchOutcome::Failed(error) => {
                tracing::info!("a wished file can't be fetched now: {error}");
                self.retry_later(wish, &file);
                Ok(())
            }
            WishFetchOutcome::Held(why) => {
                self.retry_later(wish, &file);
                self.tell_held(wish, file, why).await
            }
        };
        if let Err(error) = recorded {
            // At worst it is found once more, and the fetch sees that the file is there.
            tracing::error!("what became of a wish could not be recorded: {error}");
        }
    }
}

/// Returns whether a match is taken beside those that there are. Files that aren't fetched take no room of others.
fn has_room(wish: &Wish, matches: &[WishMatch], file: &WishMatch) -> bool {
    let is_held = |file: &WishMatch| hold_reason(wish, file).is_some();
    let same = matches.iter().filter(|known| known.by == file.by && is_held(known) == is_held(file)).count();
    matches.len() < MAX_MATCHES && same < MAX_MATCHES_OF_USER
}

fn hold_words(wish: &Wish, reason: WishHoldReason) -> String {
    match reason {
        WishHoldReason::TooLarge => tr!("the wish takes files of at most {max}", max = format_size(wish.max_bytes)),
        WishHoldReason::HiddenName => tr!("its name begins with a dot"),
    }
}

const fn millis(time: Duration) -> u64 {
    time.as_secs() * 1000
}
