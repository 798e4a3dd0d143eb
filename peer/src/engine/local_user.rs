//! Who acts: a profile with an account, its identity and its tracker.

use std::sync::Arc;

use certs::Identity;
use shared::UserName;

use super::tracker_key::{self, TrackerKeyPolicy};
use super::{Error, NoticeHandler};
use crate::net::TrackerError;
use crate::net::tracker::{TrackerAddress, TrackerConnection};
use crate::profile::{Profile, ProfileError, TrackerKeyTrust};

/// The acting user. Cheap to clone.
#[derive(Clone)]
pub struct LocalUser {
    /// The profile.
    pub profile: Profile,
    /// The identity.
    pub identity: Arc<Identity>,
    /// The account.
    pub user: UserName,
    /// The tracker.
    pub tracker: TrackerAddress,
    /// What was said of its key.
    pub key_policy: TrackerKeyPolicy,
    /// Where notices go.
    pub notify: NoticeHandler,
}

impl LocalUser {
    /// The account of `profile`; `tracker` in place of the recorded one if given.
    ///
    /// # Errors
    /// [`Error::NotLoggedIn`], or what is wrong with the profile.
    pub fn load(
        profile: Profile,
        tracker: Option<TrackerAddress>,
        key_policy: TrackerKeyPolicy,
        notify: NoticeHandler,
    ) -> Result<Self, Error> {
        let account = profile.account()?.ok_or(Error::NotLoggedIn)?;
        let tracker = match tracker {
            Some(tracker) => tracker,
            None => account.tracker.parse().map_err(Error::Usage)?,
        };
        let identity = Arc::new(profile.identity()?);
        Ok(Self { profile, identity, user: account.user, tracker, key_policy, notify })
    }

    /// Demands that the account that the tracker knows this profile's key by is the profile's.
    ///
    /// # Errors
    /// [`Error::KeyOfAnotherAccount`].
    pub fn check_key_owner(&self, owner: &UserName) -> Result<(), Error> {
        if *owner == self.user {
            return Ok(());
        }
        let (path, owner, user) = (self.profile.key_path(), owner.clone(), self.user.clone());
        Err(Error::KeyOfAnotherAccount { path, owner, user })
    }

    /// A connection to the tracker, whose key must be the one on record.
    ///
    /// # Errors
    /// [`Error::Tracker`], [`Error::TrackerKeyMismatch`], [`Error::TrackerKeyConflict`].
    pub async fn connect_tracker(&self) -> Result<TrackerConnection, Error> {
        tracker_key::connect(&self.profile, &self.identity, &self.tracker, self.key_policy, &self.notify).await
    }

    /// Whether the key of the tracker at the other end was confirmed since that connection began.
    pub(super) fn is_tracker_confirmed(&self, link: &TrackerConnection) -> Result<bool, ProfileError> {
        Ok(self.profile.tracker_key_trust(&link.fingerprint())? == Some(TrackerKeyTrust::Confirmed))
    }
}

impl std::fmt::Debug for LocalUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Me").field("user", &self.user).field("tracker", &self.tracker).finish_non_exhaustive()
    }
}

/// Whether the tracker can't be asked at all, as opposed to having said no.
pub(super) fn is_unreachable(error: &Error) -> bool {
    matches!(error, Error::Tracker(TrackerError::Unreachable { .. }))
}
