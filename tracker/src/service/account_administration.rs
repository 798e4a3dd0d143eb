//! What an administrator does to accounts, while everybody else goes on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::tracker::Password;
use shared::{Fingerprint, UserName};
use tokio::time::timeout;

use super::TrackerService;
use crate::accounts::{Account, AccountStoreError};
use crate::passwords::{PasswordError, Requester};
use crate::registry::PeerSnapshot;

/// How long the account store may take to answer while all is well.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum AccountAdminError {
    /// The store.
    #[error(transparent)]
    Store(#[from] AccountStoreError),
    /// The hash.
    #[error(transparent)]
    Password(#[from] PasswordError),
}

impl TrackerService {
    /// All accounts by name, what they are bound to, and whether they are present.
    ///
    /// # Errors
    /// [`AccountAdminError`].
    pub async fn all_accounts(&self) -> Result<Vec<(UserName, Option<Fingerprint>, bool)>, AccountAdminError> {
        let all = self.accounts.read(Requester::Administrator, |store| store.bindings()).await?;
        Ok(self.with_registry(|registry, _| {
            let with_presence = |(user, binding)| {
                let online = registry.is_present(&user);
                (user, binding, online)
            };
            all.into_iter().map(with_presence).collect()
        }))
    }

    /// Whether all is well: the registry and the account store answer, and what was to be stored last was stored.
    ///
    /// # Errors
    /// What is not well, in words.
    pub async fn health(&self) -> Result<(), String> {
        self.expire();
        // A name nobody looks for costs as much as any other: one step in the index.
        let Ok(nobody) = "healthz".parse::<UserName>() else { return Ok(()) };
        let found =
            timeout(STORE_TIMEOUT, self.accounts.read(Requester::Administrator, move |store| store.find(&nobody)));
        match found.await {
            Ok(Ok(_)) => {}
            Ok(Err(why)) => return Err(why.to_string()),
            Err(_) => return Err(format!("the account store did not answer within {} s", STORE_TIMEOUT.as_secs())),
        }
        if let Some(why) = self.accounts.last_write_error() {
            return Err(format!("accounts can't be changed: {why}"));
        }
        if self.is_presence_failing.load(Ordering::Relaxed) {
            return Err("who is present can't be stored: the log says why".to_owned());
        }
        Ok(())
    }

    /// Whether the registry and the account store's thread come to what they are asked, however that ends.
    pub async fn is_alive(&self) -> bool {
        self.expire();
        self.accounts.is_alive().await
    }

    /// After a change of accounts that could not be stored: tries whether one can be now.
    pub async fn probe_accounts(&self) {
        if self.accounts.last_write_error().is_some() {
            // What comes of it is remembered where it is tried.
            let _ = self.accounts.commit(Requester::Administrator, |store| store.probe()).await;
        }
    }

    /// Makes an account, whether registration is open or not.
    ///
    /// # Errors
    /// [`AccountAdminError`].
    pub async fn add_account(&self, user: &UserName, password: &Password) -> Result<(), AccountAdminError> {
        let password_hash = self.passwords.hash(password, Requester::Administrator).await?;
        let account = Account { user: user.clone(), password_hash, binding: None };
        Ok(self.accounts.commit(Requester::Administrator, move |store| store.create(&account)).await?)
    }

    /// Removes an account; its sessions and connections are over.
    ///
    /// # Errors
    /// [`AccountAdminError`].
    pub async fn remove_account(&self, user: &UserName) -> Result<(), AccountAdminError> {
        let name = user.clone();
        self.accounts.commit(Requester::Administrator, move |store| store.remove(&name)).await?;
        self.with_registry(|registry, _| registry.unbind(user));
        Ok(())
    }

    /// Gives an account another password; its sessions and connections are over.
    ///
    /// # Errors
    /// [`AccountAdminError`].
    pub async fn reset_password(&self, user: &UserName, password: &Password) -> Result<(), AccountAdminError> {
        let (name, hash) = (user.clone(), self.passwords.hash(password, Requester::Administrator).await?);
        self.accounts.commit(Requester::Administrator, move |store| store.reset_password(&name, &hash)).await?;
        self.with_registry(|registry, _| registry.revoke_sessions(user));
        Ok(())
    }

    /// Forgets what an account is bound to; its sessions and connections are over.
    ///
    /// # Errors
    /// [`AccountAdminError`].
    pub async fn unbind_account(&self, user: &UserName) -> Result<(), AccountAdminError> {
        let name = user.clone();
        self.accounts.commit(Requester::Administrator, move |store| store.unbind(&name)).await?;
        self.with_registry(|registry, _| registry.unbind(user));
        Ok(())
    }

    /// All accounts' hashes.
    ///
    /// # Errors
    /// [`AccountAdminError`].
    pub async fn password_hashes(&self) -> Result<Vec<(UserName, String)>, AccountAdminError> {
        Ok(self.accounts.read(Requester::Administrator, |store| store.password_hashes()).await?)
    }

    /// Some of those who are present, by name from behind `after` on; nobody when there are no more.
    pub fn peers_after(&self, after: Option<&UserName>) -> Vec<PeerSnapshot> {
        self.with_registry(|registry, _| registry.peers_after(after))
    }

    /// Since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}
