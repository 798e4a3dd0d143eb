//! The lapse of accounts that were made and never used.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use shared::UserName;
use tracing::{info, warn};

use super::TrackerService;
use crate::fair_semaphore::Requester;
use crate::store::AccountStoreError;

/// Accounts removed by one [`TrackerService::remove_lapsed_accounts`]: subscribers hear of each that had a key.
const MAX_REMOVED: usize = 64;

impl TrackerService {
    /// Records the first login of an account, so that it never lapses. A record that fails is tried again at the next
    /// login.
    pub(super) async fn record_use(&self, requester: Requester, user: &UserName) {
        let is_unused = || self.unused_accounts.lock().contains(user);
        // Nearly every login is not the first one, and spares the store a write.
        if !is_unused() {
            return;
        }
        match self.accounts.mark_used(requester, user).await {
            Ok(()) => drop(self.unused_accounts.lock().remove(user)),
            Err(why) => warn!(%user, %why, "the account's first login is not recorded yet"),
        }
    }

    /// Notes an account that nobody logged in to yet.
    pub(super) fn note_unused(&self, user: UserName) {
        self.unused_accounts.lock().insert(user);
    }

    /// Removes some of the accounts that lapsed until `now`. To be called now and then.
    pub async fn remove_lapsed_accounts(&self, now: SystemTime) {
        let lapsed = match self.accounts.lapsed(Requester::Administrator, now, MAX_REMOVED).await {
            Ok(lapsed) => lapsed,
            Err(why) => return warn!(%why, "lapsed accounts are not removed"),
        };
        let is_last = lapsed.len() < MAX_REMOVED;
        for user in lapsed {
            // Its login may not have been recorded: a user who is present uses the account.
            if self.with_registry(|registry, _| registry.is_present(&user)) {
                self.record_use(Requester::Administrator, &user).await;
                continue;
            }
            let removing = self.accounts.remove_lapsed(Requester::Administrator, &user, now);
            match self.commit_room_changes(Requester::Administrator, removing).await {
                Ok(_) => {
                    self.has_free_claims.store(true, Ordering::Relaxed);
                    self.unused_accounts.lock().remove(&user);
                    self.apply_stored(|registry| registry.unbind(&user)).await;
                    info!(%user, "removed: the account was never used");
                }
                // It was used at this moment.
                Err(AccountStoreError::NoAccount) => {}
                Err(why) => return warn!(%user, %why, "a lapsed account is not removed"),
            }
        }
        // It takes long for many accounts, so it is done once for all that were removed.
        if is_last && self.has_free_claims.swap(false, Ordering::Relaxed) {
            let claimed = self.accounts.claim_free_names(Requester::Administrator).await;
            if let Err(why) = claimed {
                self.has_free_claims.store(true, Ordering::Relaxed);
                warn!(%why, "names of lapsed accounts are not claimed by others yet");
            }
        }
    }
}
