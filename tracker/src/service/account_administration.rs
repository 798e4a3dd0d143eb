//! The administrator's actions on accounts; clients are served meanwhile.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::limits::MAX_ROOMS_PER_REPLY;
use shared::tracker::Password;
use shared::tracker::room_reply::ListedRoom;
use shared::{Fingerprint, RoomName, UserName};
use tokio::time::timeout;
use tracing::warn;

use super::TrackerService;
use super::replication::ReplicationLink;
use crate::passwords::{HashSalt, PasswordError, Requester};
use crate::registry::PeerSnapshot;
use crate::store::{Account, AccountStoreError, StoreCopyError};

/// The longest time that a healthy account store takes to answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// A reason why an administrator's action failed.
#[derive(Debug, thiserror::Error)]
pub enum AccountAdminError {
    /// The account store refused or failed.
    #[error(transparent)]
    Store(#[from] AccountStoreError),
    /// The password can't be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
}

impl TrackerService {
    /// Returns all accounts by name, with their bindings and whether they are present. Fails with
    /// [`AccountAdminError::Store`] when the store can't be read.
    pub async fn all_accounts(&self) -> Result<Vec<(UserName, Option<Fingerprint>, bool)>, AccountAdminError> {
        let all = self.accounts.bindings(Requester::Administrator).await?;
        Ok(self.with_registry(|registry, _| {
            let with_presence = |(user, binding)| {
                let online = registry.is_present(&user);
                (user, binding, online)
            };
            all.into_iter().map(with_presence).collect()
        }))
    }

    /// Checks that the registry and the account store answer, and that the last writes succeeded. Fails with a sentence
    /// that says what is wrong.
    pub async fn health(&self) -> Result<(), String> {
        // Takes the registry's lock: while that is stuck there is no healthy answer.
        self.expire();
        // Any name does: a lookup is one step in the index.
        let Ok(nobody) = "healthz".parse::<UserName>() else { return Ok(()) };
        match timeout(STORE_TIMEOUT, self.accounts.find(Requester::Administrator, &nobody)).await {
            Ok(Ok(_)) => {}
            Ok(Err(why)) => return Err(why.to_string()),
            Err(_) => return Err(format!("the account store did not answer within {} s", STORE_TIMEOUT.as_secs())),
        }
        if let Some(why) = self.accounts.last_write_error() {
            return Err(format!("accounts can't be changed: {why}"));
        }
        if self.ensure_lease().is_err() {
            return Err("this tracker can't renew its lease in the database: others may take it for dead".to_owned());
        }
        if self.replication.as_ref().is_some_and(ReplicationLink::is_behind) {
            return Err("the changes of the other trackers don't arrive here: the log says why".to_owned());
        }
        if self.is_presence_failing.load(Ordering::Relaxed) {
            return Err("who is present can't be stored: the log says why".to_owned());
        }
        Ok(())
    }

    /// True if the registry and the account store's thread respond, even with an error.
    pub async fn is_alive(&self) -> bool {
        self.expire();
        self.accounts.is_alive().await
    }

    /// Tries a write after one failed, so that [`Self::health`] recovers without a client's request.
    pub async fn probe_accounts(&self) {
        if self.accounts.last_write_error().is_some() {
            // The store records the outcome itself.
            let _ = self.accounts.probe(Requester::Administrator).await;
        }
    }

    /// Makes an account, even while registration is closed. Fails with [`AccountAdminError`] when the name is taken, or
    /// the store or the hash fails.
    pub async fn add_account(&self, user: &UserName, password: &Password) -> Result<(), AccountAdminError> {
        let password_hash = self.passwords.hash(password, HashSalt::random(), Requester::Administrator).await?;
        let account = Account { user: user.clone(), password_hash, binding: None };
        // What the administrator makes never lapses.
        Ok(self.accounts.create(Requester::Administrator, account, None).await?)
    }

    /// Removes an account, and ends its sessions, connections and memberships of rooms. Fails with
    /// [`AccountAdminError::Store`] when there is no such account or the store fails.
    pub async fn remove_account(&self, user: &UserName) -> Result<(), AccountAdminError> {
        // Stored first: sessions must not end for a change that fails.
        let requester = Requester::Administrator;
        self.commit_room_changes(requester, self.accounts.remove(requester, user)).await?;
        self.apply_stored(|registry| registry.unbind(user)).await;
        Ok(())
    }

    /// Replaces an account's password, and ends its sessions and connections. Fails with [`AccountAdminError`] when
    /// there is no such account, or the store or the hash fails.
    pub async fn reset_password(&self, user: &UserName, password: &Password) -> Result<(), AccountAdminError> {
        let hash = self.passwords.hash(password, HashSalt::random(), Requester::Administrator).await?;
        self.accounts.reset_password(Requester::Administrator, user, hash).await?;
        self.apply_stored(|registry| registry.revoke_sessions(user)).await;
        Ok(())
    }

    /// Removes an account's binding, and ends its sessions, connections and memberships of rooms. Fails with
    /// [`AccountAdminError::Store`] when there is no such account or the store fails.
    pub async fn unbind_account(&self, user: &UserName) -> Result<(), AccountAdminError> {
        let requester = Requester::Administrator;
        self.commit_room_changes(requester, self.accounts.unbind(requester, user)).await?;
        self.apply_stored(|registry| registry.unbind(user)).await;
        Ok(())
    }

    /// Returns all rooms by name. Fails with [`AccountAdminError::Store`] when the store can't be read.
    pub async fn all_rooms(&self) -> Result<Vec<ListedRoom>, AccountAdminError> {
        let (mut rooms, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.accounts.list_rooms(Requester::Administrator, None, cursor, MAX_ROOMS_PER_REPLY).await?;
            rooms.extend(page.rooms);
            cursor = page.next;
            if cursor.is_none() {
                return Ok(rooms);
            }
        }
    }

    /// Ends a room: its members are told, and its name is free. Fails with [`AccountAdminError::Store`] when there is
    /// no such room or the store fails.
    pub async fn delete_room(&self, name: RoomName) -> Result<(), AccountAdminError> {
        let requester = Requester::Administrator;
        self.commit_room_changes(requester, self.accounts.delete_room(requester, name)).await?;
        Ok(())
    }

    /// Returns the password hashes of all accounts. Fails with [`AccountAdminError::Store`] when the store can't be
    /// read.
    pub async fn password_hashes(&self) -> Result<Vec<(UserName, String)>, AccountAdminError> {
        Ok(self.accounts.password_hashes(Requester::Administrator).await?)
    }

    /// Returns the next present users by name after `after`; empty at the end.
    pub fn peers_after(&self, after: Option<&UserName>) -> Vec<PeerSnapshot> {
        self.with_registry(|registry, _| registry.peers_after(after))
    }

    /// Returns where the accounts are, and the reason why they can't be used at the moment.
    pub fn store_condition(&self) -> (String, Option<String>) {
        (self.accounts.describe(), self.accounts.outage())
    }

    /// Copies accounts and rooms to a new SQLite file if they are not in the data folder; false if they are. Blocks the
    /// thread. Fails with [`StoreCopyError`].
    pub fn copy_accounts(&self, path: &Path) -> Result<bool, StoreCopyError> {
        self.accounts.copy_elsewhere(path)
    }

    /// Waits a while for the changes that were begun. To be called when nothing is served any more.
    pub async fn finish_changes(&self) {
        if timeout(STORE_TIMEOUT, self.accounts.finish()).await.is_err() {
            warn!("changes that were begun are left to the database");
        }
    }

    /// Returns the time since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}
