//! Lookup of peers: their presence, addresses and keys, checked against the pinned keys.

use std::net::SocketAddr;
use std::time::Duration;

use localization::tr;
use serde::de::DeserializeOwned;
use shared::peer::PeerErrorCode;
use shared::tracker::{
    ListPeersReply, ListPeersRequest, ListedPeer, TrackerErrorCode, TrackerRequest, WhoisReply, WhoisRequest,
};
use shared::{Fingerprint, UserName};

use super::local_user::is_unreachable;
use super::{Error, LocalUser, Notice, now_s, run_blocking};
use crate::net::addresses::{dial_candidates, dial_order, without_scope};
use crate::net::endpoint::Endpoint;
use crate::net::link::{self, DialTarget, Link};
use crate::net::tracker::{TrackerConnection, silence_message};
use crate::net::{LinkError, TrackerError};
use crate::profile::{KeyComparison, KnownUser};
use crate::sys;
use crate::util::TranslatedText;

/// Time for the tracker to answer if addresses are on record, which are likely to be right.
const TRACKER_TIMEOUT_WITH_RECORD: Duration = Duration::from_secs(2);
/// Time for the tracker to answer if nothing is on record.
const TRACKER_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that can send requests to the tracker: a connection, or a node that keeps one.
pub trait TrackerClient: Send {
    /// Sends a request and waits for its reply.
    fn call<T: DeserializeOwned + Send>(
        &mut self,
        request: &TrackerRequest,
    ) -> impl Future<Output = Result<T, TrackerError>> + Send;

    /// Returns our end of the tracker's connection: it tells whose loopback and interface the tracker's addresses mean.
    fn local_address(&self) -> Option<SocketAddr>;
}

impl TrackerClient for TrackerConnection {
    fn call<T: DeserializeOwned + Send>(
        &mut self,
        request: &TrackerRequest,
    ) -> impl Future<Output = Result<T, TrackerError>> + Send {
        Self::call(self, request)
    }

    fn local_address(&self) -> Option<SocketAddr> {
        Some(Self::local(self))
    }
}

/// Returns where `user` can be reached and with which key: the tracker's answer, checked against the record. If the
/// tracker doesn't answer, the record alone. Fails with [`Error::Offline`], [`Error::OfflineWithoutKey`],
/// [`Error::UnknownUser`] or [`Error::Unreachable`] if there is no address; [`Error::PeerKeyChanged`] if the key
/// differs from the pinned one; [`Error::Tracker`].
pub async fn find_target(me: &LocalUser, user: &UserName) -> Result<DialTarget, Error> {
    let asked = async { find_target_via(me, &mut me.connect_tracker().await?, user).await };
    or_recorded_target(me, user, asked).await
}

/// Finds a target as [`find_target`] does, over an existing connection. Fails with the errors of [`find_target`].
pub async fn find_target_or_recorded(
    me: &LocalUser,
    link: &mut impl TrackerClient,
    user: &UserName,
) -> Result<DialTarget, Error> {
    or_recorded_target(me, user, find_target_via(me, link, user)).await
}

/// Returns the tracker's answer, or the record if there is no answer in time.
async fn or_recorded_target(
    me: &LocalUser,
    user: &UserName,
    asked: impl Future<Output = Result<DialTarget, Error>>,
) -> Result<DialTarget, Error> {
    let is_recorded = recorded_user(me, user).await?.is_some_and(|friend| !friend.addresses.is_empty());
    // With an address on record there is something to try: a newer one isn't worth a long wait.
    let timeout = if is_recorded { TRACKER_TIMEOUT_WITH_RECORD } else { TRACKER_TIMEOUT };
    let found = match tokio::time::timeout(timeout, asked).await {
        Ok(found) => found,
        Err(_) => Err(tracker_timeout_error(me, timeout)),
    };
    match found {
        Err(error) if is_unreachable(&error) => recorded_target(me, user, error).await,
        found => found,
    }
}

fn tracker_timeout_error(me: &LocalUser, timeout: Duration) -> Error {
    let why = TranslatedText::new(|| silence_message(timeout));
    TrackerError::Unreachable { address: me.tracker.to_string(), why }.into()
}

/// Returns the tracker's answer alone, over an existing connection. Fails with the errors of [`find_target`].
pub async fn find_target_via(
    me: &LocalUser,
    link: &mut impl TrackerClient,
    user: &UserName,
) -> Result<DialTarget, Error> {
    // Without the list of files, which may be large.
    let only = ListPeersRequest { user: Some(user.clone()), with_files: Some(false), ..ListPeersRequest::default() };
    let peers: ListPeersReply = link.call(&TrackerRequest::ListPeers(only)).await?;
    let Some(entry) = peers.peers.into_iter().find(|entry| entry.user == *user) else {
        return Err(known_user_absence_error(me, link, user).await);
    };
    let (me, local) = (me.clone(), link.local_address());
    run_blocking(move || target_from_entry(&me, &entry, local)).await
}

/// Returns the target for a tracker's entry, with its key checked against the record; `local` is our end of the
/// tracker's connection. Blocking. Fails with [`Error::Unreachable`] without a key or an address,
/// [`Error::PeerKeyChanged`].
pub fn target_from_entry(me: &LocalUser, entry: &ListedPeer, local: Option<SocketAddr>) -> Result<DialTarget, Error> {
    let (target, named) = listed_target(entry, local)?;
    // Before the addresses are recorded: those of a wrong key must not replace the right ones.
    check_key(me, &entry.user, target.fingerprint)?;
    match me.profile.remember_addresses(&entry.user, &named) {
        // They can be reached all the same.
        Err(why) if why.is_unwritable() => tracing::info!("where {} is goes on no record: {why}", entry.user),
        remembered => remembered?,
    }
    Ok(target)
}

/// As [`target_from_entry`], of somebody whom the user did not name: at the first meeting nothing goes on record.
/// Whoever dials them does that when they answered ([`check_key`]). Fails as [`target_from_entry`].
pub fn candidate_from_entry(
    me: &LocalUser,
    entry: &ListedPeer,
    local: Option<SocketAddr>,
) -> Result<DialTarget, Error> {
    if me.profile.known_user(&entry.user)?.is_some() {
        return target_from_entry(me, entry, local);
    }
    listed_target(entry, local).map(|(target, _)| target)
}

/// Returns where somebody can be dialled, and the addresses as the tracker named them.
fn listed_target(entry: &ListedPeer, local: Option<SocketAddr>) -> Result<(DialTarget, Vec<SocketAddr>), Error> {
    let fingerprint = entry.fingerprint.ok_or_else(|| Error::Unreachable(entry.user.clone()))?;
    let is_near = local.is_some_and(|local| local.ip().to_canonical().is_loopback());
    let named: Vec<SocketAddr> = dial_candidates(entry.ip, entry.port, &entry.addresses)
        .into_iter()
        // The loopback of the tracker's machine, unless that is this machine.
        .filter(|address| is_near || !address.ip().is_loopback())
        .collect();
    if named.is_empty() {
        return Err(Error::Unreachable(entry.user.clone()));
    }
    let addresses = dial_order(&named, &sys::local_addresses(), local);
    // Only the address that the tracker itself saw is evidence: one that was merely named may be another machine's.
    let seen = entry.port.map(|port| SocketAddr::new(entry.ip, port));
    // `dial_order` adds our interface as a scope, which the tracker doesn't know.
    let observed = addresses.iter().copied().find(|address| Some(without_scope(*address)) == seen);
    Ok((DialTarget { user: entry.user.clone(), fingerprint, addresses, observed }, named))
}

/// Checks a user's key against the pinned one, or pins it at the first meeting. Blocking. Fails with
/// [`Error::PeerKeyChanged`], or [`Error::KeyOwnedByOther`] if the new key is another user's.
pub fn check_key(me: &LocalUser, user: &UserName, fingerprint: Fingerprint) -> Result<(), Error> {
    match me.profile.compare_or_pin_key(user, fingerprint, now_s())? {
        KeyComparison::Known => Ok(()),
        KeyComparison::First => {
            (me.notify)(Notice::NewFriend { user: user.clone(), fingerprint });
            Ok(())
        }
        KeyComparison::Changed { recorded } => Err(key_change_error(me, user, recorded, fingerprint)?),
    }
}

/// Returns the error for a key from the tracker that differs from the pinned one. Blocking.
pub fn key_change_error(
    me: &LocalUser,
    user: &UserName,
    expected: Fingerprint,
    presented: Fingerprint,
) -> Result<Error, Error> {
    let owner = me.profile.owner_of_key(&presented, user)?;
    // The account's own key isn't among those of known users.
    let owner = owner.or_else(|| (presented == me.identity.fingerprint()).then(|| me.user.clone()));
    Ok(match owner {
        Some(owner) => Error::KeyOwnedByOther { user: user.clone(), owner, key: presented },
        None => Error::PeerKeyChanged { user: user.clone(), expected, presented },
    })
}

/// Checks that `key` may be pinned for `user`: neither we nor the tracker know it as another user's. Fails with
/// [`Error::KeyOwnedByOther`], or [`Error::Profile`]. A tracker that can't be asked is no error.
pub async fn check_key_replacement(me: &LocalUser, user: &UserName, key: Fingerprint) -> Result<(), Error> {
    let another = |owner| Error::KeyOwnedByOther { user: user.clone(), owner, key };
    if key == me.identity.fingerprint() {
        return Err(another(me.user.clone()));
    }
    let (profile, whose) = (me.profile.clone(), user.clone());
    if let Some(owner) = run_blocking(move || Ok(profile.owner_of_key(&key, &whose)?)).await? {
        return Err(another(owner));
    }
    let bound = match me.connect_tracker().await {
        Ok(mut link) => key_owner(&mut link, key).await,
        Err(error) => Err(error),
    };
    match bound {
        Ok(Some(owner)) if owner != *user => Err(another(owner)),
        Ok(_) => Ok(()),
        // A key must be replaceable without a tracker: the user has to compare it by other means anyway.
        Err(error) => {
            tracing::info!("the tracker can't be asked whose key it is: {error}");
            Ok(())
        }
    }
}

/// Dials `target`. If somebody else answers, a separate connection to the tracker decides which error it is. Fails with
/// [`Error::Link`], and [`Error::PeerKeyChanged`] or [`Error::UnknownPeerKey`] if another key answers.
pub async fn dial(
    me: &LocalUser,
    endpoint: &Endpoint,
    target: &DialTarget,
    capabilities: &[&str],
) -> Result<Link, Error> {
    let failure = match link::dial(endpoint, target, &me.user, capabilities).await {
        Ok(link) => return Ok(link),
        Err(failure) => failure,
    };
    if !needs_tracker_lookup(&failure) {
        return Err(Error::link(&target.user, failure));
    }
    match me.connect_tracker().await {
        Ok(mut tracker) => Err(classify_dial_failure(me, &mut tracker, target, failure).await?),
        Err(error) => {
            tracing::info!("the tracker can't be asked whose key it is: {error}");
            Err(Error::link(&target.user, failure))
        }
    }
}

/// Dials `target` as [`dial`] does, and asks over `tracker` if somebody else answers. Fails with the errors of
/// [`dial`].
pub async fn dial_via(
    me: &LocalUser,
    endpoint: &Endpoint,
    tracker: &mut impl TrackerClient,
    target: &DialTarget,
    capabilities: &[&str],
) -> Result<Link, Error> {
    match link::dial(endpoint, target, &me.user, capabilities).await {
        Ok(link) => Ok(link),
        Err(failure) if needs_tracker_lookup(&failure) => {
            Err(classify_dial_failure(me, tracker, target, failure).await?)
        }
        Err(failure) => Err(Error::link(&target.user, failure)),
    }
}

/// True if only the tracker can tell the cause of the failure.
const fn needs_tracker_lookup(failure: &LinkError) -> bool {
    matches!(failure, LinkError::OtherKey { .. } | LinkError::Refused { code: PeerErrorCode::Unauthorised, .. })
}

/// Returns the error for another key at the target's address, or for a target that doesn't know us.
///
/// A key that we or the tracker know belongs to another user, at an outdated address. A key that the tracker now binds
/// to the target has changed. Any other key stays unknown. If it is we who are unknown to the tracker, the error says
/// that, and not what the target tells strangers.
async fn classify_dial_failure(
    me: &LocalUser,
    tracker: &mut impl TrackerClient,
    target: &DialTarget,
    failure: LinkError,
) -> Result<Error, Error> {
    let LinkError::OtherKey { address, presented, expected } = failure else {
        return match tokio::time::timeout(TRACKER_TIMEOUT, key_owner(tracker, me.identity.fingerprint())).await {
            Ok(Err(Error::Tracker(TrackerError::Refused { refusal, .. })))
                if refusal.code == TrackerErrorCode::NotLoggedIn =>
            {
                Ok(Error::signed_out(me.user.clone(), refusal))
            }
            Ok(Ok(None)) => {
                let why = tr!("no account belongs to its key any more").into();
                Ok(Error::SignedOut { user: me.user.clone(), why })
            }
            _ => Ok(Error::link(&target.user, failure)),
        };
    };
    let (profile, user) = (me.profile.clone(), target.user.clone());
    // Our own records first: they need no network, and the tracker may be gone.
    let known = run_blocking(move || Ok(profile.owner_of_key(&presented, &user)?)).await?;
    let owner = match known {
        Some(owner) => Some(owner),
        None => match tokio::time::timeout(TRACKER_TIMEOUT, key_owner(tracker, presented)).await {
            Ok(Ok(owner)) => owner,
            Err(_) => {
                tracing::info!("the tracker doesn't say whose key it is");
                None
            }
            Ok(Err(error)) => {
                tracing::info!("the tracker can't be asked whose key it is: {error}");
                None
            }
        },
    };
    match owner {
        Some(owner) if owner == target.user => {
            let (me, user) = (me.clone(), owner);
            run_blocking(move || key_change_error(&me, &user, expected, presented)).await
        }
        Some(owner) => {
            // Told as no answer of the target: whoever has its old address now says nothing about it.
            let addresses = tr!("{user} ({owner} has {address} now)", user = target.user, owner, address);
            let source = LinkError::NoAnswer { addresses, within: link::HANDSHAKE_TIMEOUT };
            Ok(Error::Link { user: target.user.clone(), source })
        }
        None => Ok(Error::link(&target.user, failure)),
    }
}

/// Returns the user to whom the tracker binds this key.
async fn key_owner(tracker: &mut impl TrackerClient, key: Fingerprint) -> Result<Option<UserName>, Error> {
    match tracker.call::<WhoisReply>(&TrackerRequest::Whois(WhoisRequest::Fingerprint(key))).await {
        Ok(reply) => Ok(Some(reply.user)),
        Err(error) if error.code() == Some(TrackerErrorCode::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the recorded target of a user, for the case that the tracker can't be asked. Fails with `error` if no
/// address is on record.
async fn recorded_target(me: &LocalUser, user: &UserName, error: Error) -> Result<DialTarget, Error> {
    match recorded_user(me, user).await? {
        Some(friend) if !friend.addresses.is_empty() => {
            (me.notify)(Notice::WithoutTracker { why: TranslatedText::of(&error) });
            Ok(target_from_record(friend))
        }
        _ => Err(error),
    }
}

/// Returns where a known user was reached before.
pub fn target_from_record(friend: KnownUser) -> DialTarget {
    let addresses = dial_order(&friend.addresses, &sys::local_addresses(), None);
    // `observed` is only for an address that the tracker sees now: this one is out of date.
    DialTarget { user: friend.user, fingerprint: friend.fingerprint, addresses, observed: None }
}

/// Returns why the tracker doesn't list a user.
pub async fn absence_error(link: &mut impl TrackerClient, user: &UserName) -> Error {
    match whois(link, user).await {
        Err(error) if error.code() == Some(TrackerErrorCode::NotFound) => Error::UnknownUser(user.clone()),
        // The asking session has ended: that says nothing about the user.
        Err(error) if error.code() == Some(TrackerErrorCode::NotLoggedIn) => error.into(),
        _ => Error::Offline(user.clone()),
    }
}

/// Returns why the tracker doesn't list a user, checked against the record: the key may have changed meanwhile.
async fn known_user_absence_error(me: &LocalUser, link: &mut impl TrackerClient, user: &UserName) -> Error {
    match (whois(link, user).await, recorded_user(me, user).await) {
        (_, Err(error)) => error,
        (Ok(WhoisReply { fingerprint: None, .. }), _) => Error::OfflineWithoutKey(user.clone()),
        (Ok(WhoisReply { fingerprint: Some(fingerprint), .. }), Ok(Some(friend)))
            if friend.fingerprint != fingerprint =>
        {
            let (me, user) = (me.clone(), user.clone());
            run_blocking(move || key_change_error(&me, &user, friend.fingerprint, fingerprint))
                .await
                .unwrap_or_else(|error| error)
        }
        (Err(error), _) if error.code() == Some(TrackerErrorCode::NotFound) => Error::UnknownUser(user.clone()),
        (Err(error), _) if error.code() == Some(TrackerErrorCode::NotLoggedIn) => error.into(),
        _ => Error::Offline(user.clone()),
    }
}

async fn whois(link: &mut impl TrackerClient, user: &UserName) -> Result<WhoisReply, TrackerError> {
    link.call(&TrackerRequest::Whois(WhoisRequest::User(user.clone()))).await
}

async fn recorded_user(me: &LocalUser, user: &UserName) -> Result<Option<KnownUser>, Error> {
    let (profile, user) = (me.profile.clone(), user.clone());
    run_blocking(move || Ok(profile.known_user(&user)?)).await
}
