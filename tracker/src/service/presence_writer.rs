//! Presence across restarts: the registry's changes are stored, and restored at the start.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use shared::{Fingerprint, UserName};
use tracing::{info, warn};

use super::TrackerService;
use crate::registry::PresenceRegistry;
use crate::store::PresenceStore;

/// Users whose state is taken under one hold of the registry's lock.
const CHANGES_PER_LOCK: usize = 512;

/// Restores the presences whose leases have not run out and whose accounts are still bound as they were.
pub(super) async fn restore_all(
    registry: &mut PresenceRegistry,
    memory: &PresenceStore,
    accounts: &HashMap<UserName, Option<Fingerprint>>,
) {
    let now = Instant::now();
    let (mut known, mut revived) = (0, 0);
    let loaded = memory.load(SystemTime::now(), |one| {
        let user = one.entry.user.clone();
        known += 1;
        if accounts.get(&user) == Some(&one.entry.fingerprint) && registry.restore_presence(one, now) {
            revived += 1;
        } else {
            // Its entry in the store is outdated and must be removed.
            registry.mark_dirty(&user, true);
        }
    });
    if let Err(why) = loaded.await {
        warn!(%why, "who was present is forgotten");
    }
    if known > 0 {
        info!(revived, known, "present as before the restart");
    }
}

impl TrackerService {
    /// Stores the changes made until now. Later changes wait for the next call, so that a user who changes all the time
    /// can't keep this one from ending.
    pub async fn store_presence(&self) {
        // Before changes are taken: batches must be stored in the order in which they were made.
        let turn = self.presence_store.begin().await;
        // Counted once: users who change again later are left for the next call.
        let mut left = self.with_registry(|registry, _| registry.dirty_count());
        let mut changes = Vec::new();
        // The lock is released between the pieces, so that requests are answered meanwhile.
        while left > 0 {
            let some = self.with_registry(|registry, now| registry.take_changes(left.min(CHANGES_PER_LOCK), now));
            left = left.saturating_sub(CHANGES_PER_LOCK);
            changes.extend(some);
        }
        if changes.is_empty() {
            return;
        }
        let stored = self.presence_store.store(turn, changes, SystemTime::now()).await;
        let failed = stored.err().map(|(why, changes)| {
            // Their order in the queue is lost: they are marked behind the changes that came meanwhile.
            self.with_registry(|registry, _| registry.mark_unstored(changes));
            why
        });
        let was_failing = self.is_presence_failing.swap(failed.is_some(), Ordering::Relaxed);
        match (was_failing, failed) {
            (false, Some(why)) => warn!(%why, "trying again each second"),
            (true, None) => info!("who is present can be stored again"),
            _ => {}
        }
    }

    /// Begins the stop: connections that end from now on say nothing about their users.
    pub fn begin_stop(&self) {
        self.with_registry(|registry, _| registry.begin_stop());
    }
}
