//! Search for further trackers with the key of this one, on the local network.
//!
//! Only if the user named no tracker, and allows to listen. What is found is used like an address that was given: whoever
//! doesn't have the key is refused there. It is recorded with the account, for the next start.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | searches | one at a time, 20 to 40 minutes apart; 60 s while no tracker answers | wait |
//! | places | as many as an address may have | those that were not found go first |

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use shared::Fingerprint;
use tokio::task::JoinSet;

use super::TrackerSession;
use crate::engine::{LocalUser, tracker_discovery, tracker_key};
use crate::profile::ProfileAccount;

/// Longest time before the first search: others start their nodes at the same moment, as when power comes back.
const FIRST_DELAY: Duration = Duration::from_secs(60);
/// Longest time between two searches.
const INTERVAL: Duration = Duration::from_secs(2400);
/// Time between two searches while no tracker answers.
const URGENT_INTERVAL: Duration = Duration::from_secs(60);

/// The searches of a session.
#[derive(Debug)]
pub(super) struct PlaceSearch {
    is_allowed: bool,
    key: Option<Fingerprint>,
    running: JoinSet<Vec<SocketAddr>>,
    next_at: Instant,
    last: Option<Instant>,
}

impl PlaceSearch {
    pub(super) fn new(me: &LocalUser, now: Instant) -> Self {
        let key = tracker_key::recorded_key(&me.profile, &me.tracker).ok().flatten();
        let next_at = now + FIRST_DELAY.mul_f64(rand::rng().random());
        Self { is_allowed: me.finds_trackers, key, running: JoinSet::new(), next_at, last: None }
    }

    /// Sets the key to look for.
    pub(super) const fn set_key(&mut self, key: Fingerprint) {
        self.key = Some(key);
    }

    /// Returns the time of the next search; `None` if there is none.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.is_allowed && self.key.is_some() && self.running.is_empty()).then_some(self.next_at)
    }

    /// Makes the next search due soon: no tracker answers.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.next_at = self.next_at.min(self.last.map_or(now, |last| last + URGENT_INTERVAL));
    }

    /// Begins a search.
    pub(super) fn start(&mut self, now: Instant) {
        // Jittered, so that the nodes of a network don't ask together.
        self.next_at = now + INTERVAL.mul_f64(rand::rng().random_range(0.5..1.0));
        self.last = Some(now);
        if let Some(key) = self.key {
            self.running.spawn(tracker_discovery::find_places(key));
        }
    }

    /// Waits for what a search has found; `None` at once if there is none. Cancel-safe.
    pub(super) async fn next_result(&mut self) -> Option<Vec<SocketAddr>> {
        // A search that panicked has found nothing.
        Some(self.running.join_next().await?.unwrap_or_default())
    }
}

impl TrackerSession {
    /// Adds the places at which trackers with this one's key were found.
    pub(super) fn adopt_places(&mut self, found: &[SocketAddr]) -> bool {
        let Some(wider) = self.me.tracker.with_places(found) else { return false };
        tracing::info!("the tracker is found at {wider}, too");
        let before = std::mem::replace(&mut self.me.tracker, wider).to_string();
        let profile = &self.me.profile;
        let recorded = profile.account().and_then(|account| match account {
            // The user may have logged in elsewhere since.
            Some(account) if account.tracker == before => {
                profile.set_account(&ProfileAccount { tracker: self.me.tracker.to_string(), ..account })
            }
            _ => Ok(()),
        });
        if let Err(why) = recorded {
            tracing::info!("what was found is not recorded: {why}");
        }
        true
    }
}
