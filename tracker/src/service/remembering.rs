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

/// Makes everybody present whose lease has not run out, if the account is still there and bound as it was.
pub(super) fn revive(registry: &mut Registry, memory: &Memory, accounts: &HashMap<UserName, Option<Fingerprint>>) {
    let all = memory.load(SystemTime::now()).unwrap_or_else(|why| {
        warn!(%why, "who was present is forgotten");
        Vec::new()
    });
    let now = Instant::now();
    let known = all.len();
    let mut revived = 0;
    for one in all {
        let user = one.entry.user.clone();
        if accounts.get(&user) == Some(&one.entry.fingerprint) && registry.revive(one, now) {
            revived += 1;
        } else {
            registry.mark(&user, true);
        }
    }
    if known > 0 {
        info!(revived, known, "present as before the restart");
    }
}

impl Service {
    /// Stores what changed since the last time.
    pub async fn remember(&self) {
        loop {
            let (changes, more) = self.with_registry(Registry::take_changes);
            if changes.is_empty() {
                return;
            }
            let (memory, metrics) = (self.memory.clone(), Arc::clone(&self.metrics));
            let stored = tokio::task::spawn_blocking(move || {
                let began = Instant::now();
                let stored = memory.store(&changes, SystemTime::now());
                metrics.stored(Store::Presence, began.elapsed());
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
            if !more || self.memory_fails.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// The tracker goes away: connections that end from now on say nothing about their users.
    pub fn begin_stop(&self) {
        self.with_registry(|registry, _| registry.begin_stop());
    }
}
