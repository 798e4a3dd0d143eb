//! Who acts: a profile with an account, its identity and its tracker.

use std::sync::Arc;

use certs::Identity;
use shared::UserName;

use super::tracker_key::{self, KeyPolicy};
use super::{Error, Notify};
use crate::net::TrackerError;
use crate::net::tracker::{TrackerAddress, TrackerLink};
use crate::profile::{KeyStanding, Profile, ProfileError};

/// The acting user. Cheap to clone.
#[derive(Clone)]
pub struct Me {
    /// The profile.
    pub profile: Profile,
    /// The identity.
    pub identity: Arc<Identity>,
    /// The account.
    pub user: UserName,
    /// The tracker.
    pub tracker: TrackerAddress,
    /// What was said of its key.
    pub key_policy: KeyPolicy,
    /// Where notices go.
    pub notify: Notify,
}

impl Me {
    /// The account of `profile`; `tracker` in place of the recorded one if given.
    ///
    /// # Errors
    /// [`Error::NotLoggedIn`], or what is wrong with the profile.
    pub fn load(
        profile: Profile,
        tracker: Option<TrackerAddress>,
        key_policy: KeyPolicy,
        notify: Notify,
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
    pub fn demand_own(&self, owner: &UserName) -> Result<(), Error> {
        if *owner == self.user {
            return Ok(());
        }
        let (path, owner, user) = (self.profile.key_path(), owner.clone(), self.user.clone());
        Err(Error::KeyOfAnotherAccount { path, owner, user })
    }

    /// A connection to the tracker, whose key must be the one on record.
    ///
    /// # Errors
    /// [`Error::Tracker`], [`Error::OtherTrackerKey`], [`Error::KeyAgainstRecord`].
    pub async fn connect_tracker(&self) -> Result<TrackerLink, Error> {
        tracker_key::connect(&self.profile, &self.identity, &self.tracker, self.key_policy, &self.notify).await
    }

    /// Whether the key of the tracker at the other end was confirmed since that connection began.
    pub(super) fn is_tracker_confirmed(&self, link: &TrackerLink) -> Result<bool, ProfileError> {
        Ok(self.profile.tracker_key_standing(&link.fingerprint())? == Some(KeyStanding::Confirmed))
    }
}

impl std::fmt::Debug for Me {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Me").field("user", &self.user).field("tracker", &self.tracker).finish_non_exhaustive()
    }
}

/// Whether the tracker can't be asked at all, as opposed to having said no.
pub(super) fn is_unreachable(error: &Error) -> bool {
    matches!(error, Error::Tracker(TrackerError::Unreachable { .. }))
}
