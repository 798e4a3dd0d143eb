//! Local user: a profile with an account, its identity and its tracker.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use certs::Identity;
use shared::UserName;
use tokio_util::sync::CancellationToken;

use super::door_pass::PersonPass;
use super::event_bus::EventBus;
use super::follow_news::FollowWaker;
use super::node_pool::NodePool;
use super::sends::AutoAcceptOutcome;
use super::tracker_key::{self, TrackerKeyPolicy};
use super::wishes::WishFetchOutcome;
use super::{Error, NoticeHandler};
use crate::net::tracker::{TrackerAddress, TrackerConnection};
use crate::net::{AvoidedAddresses, TrackerError};
use crate::profile::{IncomingSend, Profile, ProfileError, TrackerKeyTrust, Wish, WishMatch};

/// The user of this profile. Cheap to clone.
#[derive(Clone)]
pub struct LocalUser {
    /// The profile of the user.
    pub profile: Profile,
    /// The profile's identity.
    pub identity: Arc<Identity>,
    /// The account's name.
    pub user: UserName,
    /// The address of the account's tracker, or the one given in its place.
    pub tracker: TrackerAddress,
    /// True if further trackers of the same key may be looked for on the local network.
    pub finds_trackers: bool,
    /// The expected fingerprint of the tracker, or how an unknown one is treated.
    pub key_policy: TrackerKeyPolicy,
    /// Receives the notices of all operations.
    pub notify: NoticeHandler,
    /// What the user's node has done by others.
    pub handlers: NodeHandlers,
    /// The threads on which a node of this process runs; `None` for one of its own.
    pub node_pool: Option<NodePool>,
    /// The pass that each connection to the tracker shows, behind a door.
    pub door_pass: Option<PersonPass>,
}

/// Fetches a send of another user if a rule of the local user accepts it; blocks.
pub type SendAcceptHandler = fn(&LocalUser, &IncomingSend, &EventBus, &CancellationToken) -> AutoAcceptOutcome;

/// Fetches a file for a wish of the local user; blocks.
pub type WishFetchHandler = fn(&LocalUser, &Wish, &WishMatch, &EventBus, &CancellationToken) -> WishFetchOutcome;

/// Keeps the copies of all followed folders in step until it is cancelled; blocks.
pub type FollowsHandler = fn(&LocalUser, &EventBus, &FollowWaker, &CancellationToken) -> Result<(), Error>;

/// The work that a node has done by parts of the program of which it knows nothing, such as fetching.
#[derive(Clone, Copy)]
pub struct NodeHandlers {
    /// Fetches what is sent.
    pub accept_send: SendAcceptHandler,
    /// Fetches what the user wished for.
    pub fetch_wish: WishFetchHandler,
    /// Keeps copies of followed folders in step.
    pub run_follows: FollowsHandler,
}

impl NodeHandlers {
    /// Handlers that do nothing, for a user without a node that fetches.
    pub const NONE: Self = Self {
        accept_send: |_, _, _, _| AutoAcceptOutcome::NoRule,
        fetch_wish: |_, _, _, _, _| WishFetchOutcome::Held("".into()),
        run_follows: |_, _, _, _| Ok(()),
    };
}

impl LocalUser {
    /// Loads the account of `profile`; `tracker`, if given, replaces the recorded one. Fails with
    /// [`Error::NotLoggedIn`] without an account, [`Error::Usage`] if its tracker's address is wrong, or
    /// [`Error::Profile`].
    pub fn load(
        profile: Profile,
        tracker: Option<TrackerAddress>,
        key_policy: TrackerKeyPolicy,
        notify: NoticeHandler,
        handlers: NodeHandlers,
    ) -> Result<Self, Error> {
        let account = profile.account()?.ok_or(Error::NotLoggedIn)?;
        // Two copies of one key would sign different messages of a room under one number.
        if let Some(file) = profile.moved_with()? {
            return Err(ProfileError::MovedAway { file }.into());
        }
        let tracker = match tracker {
            Some(tracker) => tracker,
            None => account.tracker.parse().map_err(Error::Usage)?,
        };
        let identity = Arc::new(profile.identity()?);
        Ok(Self {
            profile,
            identity,
            user: account.user,
            tracker,
            finds_trackers: false,
            key_policy,
            notify,
            handlers,
            node_pool: None,
            door_pass: None,
        })
    }

    /// Returns the user of a test or a simulation: nothing listens at the tracker's address, and nobody is notified.
    #[doc(hidden)]
    pub fn without_tracker(profile: Profile, identity: Arc<Identity>, user: UserName) -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        Self {
            profile,
            identity,
            user,
            tracker: nowhere.into(),
            finds_trackers: false,
            key_policy: TrackerKeyPolicy::AcceptNew,
            notify: Arc::new(|_| {}),
            handlers: NodeHandlers::NONE,
            node_pool: None,
            door_pass: None,
        }
    }

    /// Checks that the tracker binds this profile's key to the profile's account. Fails with
    /// [`Error::KeyOfAnotherAccount`] if the key is bound to another one.
    pub fn check_key_owner(&self, owner: &UserName) -> Result<(), Error> {
        if *owner == self.user {
            return Ok(());
        }
        let (path, owner, user) = (self.profile.key_path(), owner.clone(), self.user.clone());
        Err(Error::KeyOfAnotherAccount { path, owner, user })
    }

    /// Connects to the tracker, whose key must match the record. Fails with [`Error::Tracker`] if it can't be reached
    /// or shows another key, [`Error::TrackerKeyMismatch`] or [`Error::TrackerKeyConflict`] if the given key differs.
    pub async fn connect_tracker(&self) -> Result<TrackerConnection, Error> {
        self.connect_tracker_avoiding(&AvoidedAddresses::default()).await
    }

    /// Does the same as [`LocalUser::connect_tracker`], with those addresses last. Fails as it.
    pub(super) async fn connect_tracker_avoiding(
        &self,
        avoided: &AvoidedAddresses,
    ) -> Result<TrackerConnection, Error> {
        let Self { profile, identity, tracker, notify, key_policy, .. } = self;
        let connected = tracker_key::connect_avoiding(profile, identity, tracker, *key_policy, notify, avoided);
        let mut link = connected.await?;
        if let Some(pass) = &self.door_pass {
            pass.show(&mut link).await?;
        }
        Ok(link)
    }

    /// Returns whether the key of the connected tracker is confirmed by now.
    pub(super) fn is_tracker_confirmed(&self, link: &TrackerConnection) -> Result<bool, ProfileError> {
        Ok(self.profile.tracker_key_trust(&link.fingerprint())? == Some(TrackerKeyTrust::Confirmed))
    }
}

impl std::fmt::Debug for LocalUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the identity, which must not get into a log.
        f.debug_struct("LocalUser").field("user", &self.user).field("tracker", &self.tracker).finish_non_exhaustive()
    }
}

/// True if the tracker can't be reached, as opposed to having refused.
pub(super) fn is_unreachable(error: &Error) -> bool {
    matches!(error, Error::Tracker(TrackerError::Unreachable { .. }))
}
