//! The share refresher: hashes shares again that changed on the disk.
//!
//! A share that can't be hashed now, because it changes all the time or can't be read, is retried after a pause that
//! doubles each time, as long as it is on record and differs.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::FileName;
use tokio_util::sync::CancellationToken;

use super::tracker_session::TrackerHandle;
use crate::engine::event_bus::EventBus;
use crate::engine::node_event::NodeEvent;
use crate::engine::serve::{ProvedVersion, ProvedVersions, StaleReason, StaleShares};
use crate::engine::share::{self, RefreshOutcome, ShareFreshness, for_each_share, freshness};
use crate::engine::{Error, LocalUser, now_ns, run_blocking};
use crate::profile::{Profile, Share};
use crate::util::Backoff;

/// Pause between two rounds, so that a file that is being written to isn't hashed without end.
const PAUSE: Duration = Duration::from_millis(100);
/// Bounds of the pause before a share is retried.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(500);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(300);

/// The shares that could not be hashed, each with the time of its next attempt.
#[derive(Debug, Default)]
struct RefreshRetries(HashMap<FileName, RefreshRetry>);

#[derive(Debug, Clone, Copy)]
struct RefreshRetry {
    due: Instant,
    backoff: Backoff,
    reason: StaleReason,
}

/// Runs until `stop`. Looks first for offers that changed while no node ran, then waits for reports of changes.
pub(super) async fn run(
    me: LocalUser,
    stale_shares: Arc<StaleShares>,
    proved_versions: Arc<ProvedVersions>,
    tracker: TrackerHandle,
    events: EventBus,
    stop: CancellationToken,
) -> Result<(), Error> {
    let (profile, changed) = (me.profile.clone(), stale_shares.clone());
    let first_scan = run_blocking(move || {
        // The share watcher finds the others.
        for audience in profile.audiences()?.into_iter().filter(|audience| audience.person().is_some()) {
            for_each_share(&profile, &audience, "", |share| {
                if matches!(freshness(&share), ShareFreshness::Changed { .. }) {
                    changed.add(share.name, StaleReason::Metadata);
                }
            })?;
        }
        Ok(())
    });
    first_scan.await?;
    let mut retries = RefreshRetries::default();
    loop {
        let (names, is_retry) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            names = stale_shares.wait_for_due() => (names, false),
            () = retries.wait() => (retries.take_due(Instant::now()), true),
            versions = proved_versions.wait_for_proved() => {
                let profile = me.profile.clone();
                let recorded = run_blocking(move || {
                    let now = now_ns();
                    // A version that isn't settled could change again without a trace in its times.
                    let versions = versions.iter().filter(|version| version.id.is_settled_at(now));
                    let versions = versions.map(|ProvedVersion { audience, name, hash, id }| (audience, name, hash, *id));
                    Ok(profile.record_versions(versions)?)
                });
                if let Err(error) = recorded.await {
                    // It is proved again when the file is sent again.
                    tracing::error!("what was proved of files could not be recorded: {error}");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        for (name, reason) in names {
            // A retry is no news: the change was reported at the first attempt.
            let is_news = !is_retry && !retries.0.contains_key(&name);
            let (profile, begun) = (me.profile.clone(), Instant::now());
            let (share_name, events, is_stopped) = (name.clone(), events.clone(), stop.clone());
            let refreshed = run_blocking(move || {
                if is_news && !has_only_grown(&profile, &share_name, reason)? {
                    events.send(NodeEvent::Stale { name: share_name.clone() });
                }
                refresh_if_needed(&profile, &share_name, reason, &is_stopped)
            });
            // Also after a stop, which the hashing notices: what it has of the profile is put away before the end.
            let refreshed = refreshed.await;
            if stop.is_cancelled() {
                return Ok(());
            }
            match refreshed {
                Ok(outcome) => {
                    if let RefreshOutcome::Unreadable(why) = &outcome {
                        tracing::warn!("{} changed and can't be hashed again now: {why}", name.display());
                    }
                    retries.record_outcome(&name, &outcome, reason, Instant::now());
                    stale_shares.note_refreshed(&name, begun, outcome);
                }
                Err(error) => {
                    tracing::error!("a share could not be hashed again: {error}");
                    // Counted like a changing file, so that it is retried.
                    retries.record_outcome(&name, &RefreshOutcome::Changing, reason, Instant::now());
                }
            }
        }
        tracker.shares_changed();
        tokio::time::sleep(PAUSE).await;
    }
}

impl RefreshRetries {
    /// Schedules the next attempt if the outcome asks for one.
    fn record_outcome(&mut self, name: &FileName, outcome: &RefreshOutcome, reason: StaleReason, now: Instant) {
        let before = self.0.remove(name);
        if matches!(outcome, RefreshOutcome::Changing | RefreshOutcome::Unreadable(_)) {
            let mut backoff = before.map_or(Backoff::new(MIN_RETRY_DELAY, MAX_RETRY_DELAY), |before| before.backoff);
            self.0.insert(name.clone(), RefreshRetry { due: now + backoff.next_delay(), backoff, reason });
        }
    }

    /// Waits until a retry is due; forever when there is none.
    async fn wait(&self) {
        match self.0.values().map(|retry| retry.due).min() {
            Some(due) => tokio::time::sleep_until(due.into()).await,
            None => std::future::pending().await,
        }
    }

    /// Returns the shares that are due. They stay in the map, so that the next pause is longer.
    fn take_due(&self, now: Instant) -> HashMap<FileName, StaleReason> {
        let due = self.0.iter().filter(|(_, retry)| retry.due <= now);
        due.map(|(name, retry)| (name.clone(), retry.reason)).collect()
    }
}

/// True if nothing is known of the files of this name but that they became longer: for all that is known, the content
/// that was described is still there.
fn has_only_grown(profile: &Profile, name: &FileName, reason: StaleReason) -> Result<bool, Error> {
    let mut changes = profile.shares_named(name)?.into_iter().map(|share| freshness(&share));
    // It may have been hashed since it was found to differ: then nothing happens to it now.
    let is_silent = |state: ShareFreshness| {
        matches!(state, ShareFreshness::Changed { grown: true } | ShareFreshness::Fresh | ShareFreshness::Touched)
    };
    Ok(reason == StaleReason::Metadata && changes.all(is_silent))
}

/// Hashes the shares of this name again if they still differ: they may have been refreshed since they
/// were found stale, by this task or by `peer share`. `stop` interrupts the hashing.
fn refresh_if_needed(
    profile: &Profile,
    name: &FileName,
    reason: StaleReason,
    stop: &CancellationToken,
) -> Result<RefreshOutcome, Error> {
    let is_due = |share: &Share| match freshness(share) {
        ShareFreshness::Changed { .. } => true,
        ShareFreshness::Fresh | ShareFreshness::Touched => reason == StaleReason::Content,
        // It may be readable again by now, and then its content may be another.
        ShareFreshness::Missing | ShareFreshness::Unreadable(_) => true,
    };
    let mut until_stopped = |_| if stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let mut outcome = RefreshOutcome::Done;
    for now in profile.shares_named(name)? {
        if is_due(&now) {
            outcome = share::refresh(profile, &now, &mut until_stopped)?;
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_hashed_is_tried_again_ever_more_rarely() {
        let (mut retries, name, start) = (RefreshRetries::default(), "a".parse().unwrap(), Instant::now());
        let mut at = start;
        for _ in 0..20 {
            retries.record_outcome(&name, &RefreshOutcome::Changing, StaleReason::Metadata, at);
            assert!(retries.take_due(at).is_empty());
            at += MAX_RETRY_DELAY;
            assert_eq!(retries.take_due(at).len(), 1);
        }
        assert_eq!(retries.0[&name].due, at, "the longest pause");
        retries.record_outcome(&name, &RefreshOutcome::Done, StaleReason::Metadata, at);
        assert!(retries.take_due(at + MAX_RETRY_DELAY).is_empty());
    }
}
