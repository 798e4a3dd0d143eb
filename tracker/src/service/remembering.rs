//! Presence that outlasts the process: taken from the registry and stored, and back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use shared::{Fingerprint, UserName};
use tracing::{info, warn};

use super::Service;
use crate::memory::Memory;
use crate::metrics::Store;
use crate::registry::Registry;

/// Users whose state is taken in one hold of the registry's lock.
const CHANGES_AT_ONCE: usize = 512;

/// Makes everybody present whose lease has not run out, if the account is still there and bound as it was.
pub(super) fn revive(registry: &mut Registry, memory: &Memory, accounts: &HashMap<UserName, Option<Fingerprint>>) {
    let now = Instant::now();
    let (mut known, mut revived) = (0, 0);
    let loaded = memory.load(SystemTime::now(), |one| {
        let user = one.entry.user.clone();
        known += 1;
        if accounts.get(&user) == Some(&one.entry.fingerprint) && registry.revive(one, now) {
            revived += 1;
        } else {
            registry.mark(&user, true);
        }
    });
    if let Err(why) = loaded {
        warn!(%why, "who was present is forgotten");
    }
    if known > 0 {
        info!(revived, known, "present as before the restart");
    }
}

impl Service {
    /// Stores what changed until now. What changes meanwhile has its turn the next time, so that nobody waits for
    /// those who change something all the time.
    pub async fn remember(&self) {
        // One after the other, even if the one before was given up.
        let turn = Arc::clone(&self.remembering).lock_owned().await;
        let mut left = self.with_registry(|registry, _| registry.marked_count());
        let mut changes = Vec::new();
        while left > 0 {
            let some = self.with_registry(|registry, now| registry.take_changes(left.min(CHANGES_AT_ONCE), now));
            left = left.saturating_sub(CHANGES_AT_ONCE);
            changes.extend(some);
        }
        if changes.is_empty() {
            return;
        }
        let (memory, metrics) = (self.memory.clone(), Arc::clone(&self.metrics));
        let stored = tokio::task::spawn_blocking(move || {
            let _held_until_done = turn;
            let began = Instant::now();
            let stored = memory.store(&changes, SystemTime::now());
            metrics.committed(Store::Presence, began.elapsed(), stored.is_ok());
            (stored, changes)
        });
        let failed = match stored.await {
            Ok((Ok(()), _)) => None,
            Ok((Err(why), changes)) => {
                self.with_registry(|registry, _| registry.mark_again(changes));
                Some(why.to_string())
            }
            Err(why) => Some(why.to_string()),
        };
        let was_failing = self.memory_fails.swap(failed.is_some(), Ordering::Relaxed);
        match (was_failing, failed) {
            (false, Some(why)) => warn!(%why, "trying again each second"),
            (true, None) => info!("who is present can be stored again"),
            _ => {}
        }
    }

    /// The tracker goes away: connections that end from now on say nothing about their users.
    pub fn begin_stop(&self) {
        self.with_registry(|registry, _| registry.begin_stop());
    }
}
