//! What an administrator does to accounts, while everybody else goes on.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use shared::tracker::Password;
use shared::{Fingerprint, UserName};

use super::Service;
use crate::accounts::{Account, StoreError};
use crate::passwords::PasswordError;
use crate::registry::Told;

/// Whose places in the hashing queue the administrator takes.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hash.
    #[error(transparent)]
    Password(#[from] PasswordError),
}

impl Service {
    /// All accounts by name, what they are bound to, and whether they are present.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn all_accounts(&self) -> Result<Vec<(UserName, Option<Fingerprint>, bool)>, AccountError> {
        let all = self.accounts.run(|store| store.all()).await?;
        Ok(self.with_registry(|registry, _| {
            let with_presence = |(user, binding)| {
                let online = registry.is_present(&user);
                (user, binding, online)
            };
            all.into_iter().map(with_presence).collect()
        }))
    }

    /// Whether the registry and the account store answer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn answers(&self) -> Result<(), StoreError> {
        self.expire();
        // A name nobody looks for costs as much as any other: one step in the index.
        let Ok(nobody) = "healthz".parse::<UserName>() else { return Ok(()) };
        self.accounts.run(move |store| store.find(&nobody)).await.map(drop)
    }

    /// Makes an account, whether registration is open or not.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn add_account(&self, user: &UserName, password: &Password) -> Result<(), AccountError> {
        let password_hash = self.passwords.hash(password, HERE).await?;
        let account = Account { user: user.clone(), password_hash, binding: None };
        Ok(self.accounts.run(move |store| store.create(&account)).await?)
    }

    /// Removes an account; its sessions and connections are over.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn remove_account(&self, user: &UserName) -> Result<(), AccountError> {
        let name = user.clone();
        self.accounts.run(move |store| store.remove(&name)).await?;
        self.with_registry(|registry, _| registry.unbind(user));
        Ok(())
    }

    /// Gives an account another password; its sessions and connections are over.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn reset_password(&self, user: &UserName, password: &Password) -> Result<(), AccountError> {
        let (name, hash) = (user.clone(), self.passwords.hash(password, HERE).await?);
        self.accounts.run(move |store| store.reset_password(&name, &hash)).await?;
        self.with_registry(|registry, _| registry.expel(user));
        Ok(())
    }

    /// Forgets what an account is bound to; its sessions and connections are over.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn unbind_account(&self, user: &UserName) -> Result<(), AccountError> {
        let name = user.clone();
        self.accounts.run(move |store| store.unbind(&name)).await?;
        self.with_registry(|registry, _| registry.unbind(user));
        Ok(())
    }

    /// All accounts' hashes.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn account_hashes(&self) -> Result<Vec<(UserName, String)>, AccountError> {
        Ok(self.accounts.run(|store| store.hashes()).await?)
    }

    /// Copies the accounts to a new file that only its owner can read.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn back_up(&self, path: PathBuf) -> Result<(), AccountError> {
        Ok(self.accounts.run(move |store| store.copy_to(&path)).await?)
    }

    /// Some of those who are present, by name from behind `after` on; nobody when there are no more.
    pub fn told_after(&self, after: Option<&UserName>) -> Vec<Told> {
        self.with_registry(|registry, _| registry.told_after(after))
    }

    /// Since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}
