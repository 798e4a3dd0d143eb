//! Finding people: who is online, and where and with which key one of them can be reached.

use std::net::SocketAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use shared::peer::Code;
use shared::tracker::{ErrorCode, ListPeers, PeerEntry, Peers, Request, Whois, WhoisReply};
use shared::{Fingerprint, UserName};

use super::me::is_unreachable;
use super::{Error, Me, Notice, blocking, now_s};
use crate::net::addresses::{dialled, without_scope};
use crate::net::endpoint::Endpoint;
use crate::net::link::{self, Link, Target};
use crate::net::tracker::{TrackerLink, candidates, silent_words};
use crate::net::{LinkError, TrackerError};
use crate::profile::{Friend, Meeting};
use crate::sys;

/// For the tracker to say where somebody is whose addresses are on record: those are likely enough to be right.
const PATIENCE_WITH_RECORD: Duration = Duration::from_secs(2);
/// For the tracker to say where somebody is of whom nothing else is known.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whoever can put a question to the tracker: a connection, or a node that keeps one.
pub trait AskTracker: Send {
    /// Sends a request and waits for its reply.
    fn call<T: DeserializeOwned + Send>(
        &mut self,
        request: &Request,
    ) -> impl Future<Output = Result<T, TrackerError>> + Send;

    /// This end of the connection to the tracker: it tells which loopback and which interface the tracker means.
    fn local(&self) -> Option<SocketAddr>;
}

impl AskTracker for TrackerLink {
    fn call<T: DeserializeOwned + Send>(
        &mut self,
        request: &Request,
    ) -> impl Future<Output = Result<T, TrackerError>> + Send {
        Self::call(self, request)
    }

    fn local(&self) -> Option<SocketAddr> {
        Some(Self::local(self))
    }
}

/// Where `user` can be reached, and the key that must be there: the tracker's word, checked against the record.
///
/// Without the tracker, or with one that says nothing, the record alone.
///
/// # Errors
/// [`Error::Offline`], [`Error::Keyless`], [`Error::UnknownUser`], [`Error::PeerChanged`], [`Error::Tracker`].
pub async fn find(me: &Me, user: &UserName) -> Result<Target, Error> {
    let asked = async { find_through(me, &mut me.connect_tracker().await?, user).await };
    or_recorded(me, user, asked).await
}

/// As [`find`], over a connection that is there.
///
/// # Errors
/// As [`find`].
pub async fn find_or_recorded(me: &Me, link: &mut impl AskTracker, user: &UserName) -> Result<Target, Error> {
    or_recorded(me, user, find_through(me, link, user)).await
}

/// The tracker's word, or the record where that doesn't come or not in time.
async fn or_recorded(
    me: &Me,
    user: &UserName,
    asked: impl Future<Output = Result<Target, Error>>,
) -> Result<Target, Error> {
    let is_recorded = recorded(me, user).await?.is_some_and(|friend| !friend.addresses.is_empty());
    let patience = if is_recorded { PATIENCE_WITH_RECORD } else { PATIENCE };
    let found = match tokio::time::timeout(patience, asked).await {
        Ok(found) => found,
        Err(_) => Err(silent(me, patience)),
    };
    match found {
        Err(error) if is_unreachable(&error) => from_record(me, user, error).await,
        found => found,
    }
}

fn silent(me: &Me, patience: Duration) -> Error {
    TrackerError::Unreachable { address: me.tracker.to_string(), why: silent_words(patience) }.into()
}

/// The tracker's word alone, over a connection that is there.
///
/// # Errors
/// As [`find`].
pub async fn find_through(me: &Me, link: &mut impl AskTracker, user: &UserName) -> Result<Target, Error> {
    let only = ListPeers { user: Some(user.clone()), with_files: Some(false), ..ListPeers::default() };
    let peers: Peers = link.call(&Request::ListPeers(only)).await?;
    let Some(entry) = peers.peers.into_iter().find(|entry| entry.user == *user) else {
        return Err(absent_friend(me, link, user).await);
    };
    let (me, local) = (me.clone(), link.local());
    blocking(move || target_of(&me, &entry, local)).await
}

/// Where the user of `entry` can be reached, its key checked against the record; `local` is this end of the connection to
/// the tracker. Blocking: it looks at the profile.
///
/// # Errors
/// [`Error::Unreachable`], [`Error::PeerChanged`].
pub fn target_of(me: &Me, entry: &PeerEntry, local: Option<SocketAddr>) -> Result<Target, Error> {
    let fingerprint = entry.fingerprint.ok_or_else(|| Error::Unreachable(entry.user.clone()))?;
    let is_near = local.is_some_and(|local| local.ip().to_canonical().is_loopback());
    let named: Vec<SocketAddr> = candidates(entry.ip, entry.port, &entry.addresses)
        .into_iter()
        // Somebody on the tracker's own machine: that loopback is not ours.
        .filter(|address| is_near || !address.ip().is_loopback())
        .collect();
    if named.is_empty() {
        return Err(Error::Unreachable(entry.user.clone()));
    }
    check_key(me, &entry.user, fingerprint)?;
    match me.profile.remember_addresses(&entry.user, &named) {
        // They can be reached all the same.
        Err(why) if why.is_unwritable() => tracing::info!("where {} is goes on no record: {why}", entry.user),
        remembered => remembered?,
    }
    let addresses = dialled(&named, &sys::local_addresses(), local);
    let seen = entry.port.map(|port| SocketAddr::new(entry.ip, port));
    let observed = addresses.iter().copied().find(|address| Some(without_scope(*address)) == seen);
    Ok(Target { user: entry.user.clone(), fingerprint, addresses, observed })
}

/// Checks a user's key against the record; at the first meeting it goes on record. Blocking: it looks at the profile.
///
/// # Errors
/// [`Error::PeerChanged`], or [`Error::KeyOfAnother`] when the new key is on record as somebody else's.
pub fn check_key(me: &Me, user: &UserName, fingerprint: Fingerprint) -> Result<(), Error> {
    match me.profile.meet(user, fingerprint, now_s())? {
        Meeting::Known => Ok(()),
        Meeting::First => {
            (me.notify)(Notice::NewFriend { user: user.clone(), fingerprint });
            Ok(())
        }
        Meeting::Changed { recorded } => Err(changed_key(me, user, recorded, fingerprint)?),
    }
}

/// What it means that the tracker has another key for `user` than the record. Blocking: it looks at the profile.
///
/// # Errors
/// What is wrong with the profile.
pub fn changed_key(me: &Me, user: &UserName, expected: Fingerprint, presented: Fingerprint) -> Result<Error, Error> {
    let owner = me.profile.owner_of_key(&presented, user)?;
    let owner = owner.or_else(|| (presented == me.identity.fingerprint()).then(|| me.user.clone()));
    Ok(match owner {
        Some(owner) => Error::KeyOfAnother { user: user.clone(), owner, key: presented },
        None => Error::PeerChanged { user: user.clone(), expected, presented },
    })
}

/// Checks that `key` may go on record as that of `user`: it must not be somebody else's, as far as we or the tracker know.
///
/// # Errors
/// [`Error::KeyOfAnother`], or what is wrong with the profile. A tracker that can't be asked is no error.
pub async fn check_replacement(me: &Me, user: &UserName, key: Fingerprint) -> Result<(), Error> {
    let another = |owner| Error::KeyOfAnother { user: user.clone(), owner, key };
    if key == me.identity.fingerprint() {
        return Err(another(me.user.clone()));
    }
    let (profile, whose) = (me.profile.clone(), user.clone());
    if let Some(owner) = blocking(move || Ok(profile.owner_of_key(&key, &whose)?)).await? {
        return Err(another(owner));
    }
    let bound = match me.connect_tracker().await {
        Ok(mut link) => bound_to(&mut link, key).await,
        Err(error) => Err(error),
    };
    match bound {
        Ok(Some(owner)) if owner != *user => Err(another(owner)),
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::info!("the tracker can't be asked whose key it is: {error}");
            Ok(())
        }
    }
}

/// A link to `target`. Whoever else answers where the tracker saw them is judged by a connection of its own to the tracker.
///
/// # Errors
/// [`Error::Link`], and [`Error::PeerChanged`] or [`Error::UnknownKey`] when somebody else answers.
pub async fn dial(me: &Me, endpoint: &Endpoint, target: &Target, capabilities: &[&str]) -> Result<Link, Error> {
    let failure = match link::dial(endpoint, target, &me.user, capabilities).await {
        Ok(link) => return Ok(link),
        Err(failure) => failure,
    };
    if !needs_judgement(&failure) {
        return Err(Error::link(&target.user, failure));
    }
    match me.connect_tracker().await {
        Ok(mut tracker) => Err(judged(me, &mut tracker, target, failure).await?),
        Err(error) => {
            tracing::info!("the tracker can't be asked whose key it is: {error}");
            Err(Error::link(&target.user, failure))
        }
    }
}

/// The same where the tracker can be asked over `tracker`.
///
/// # Errors
/// As [`dial`].
pub async fn dial_through(
    me: &Me,
    endpoint: &Endpoint,
    tracker: &mut impl AskTracker,
    target: &Target,
    capabilities: &[&str],
) -> Result<Link, Error> {
    match link::dial(endpoint, target, &me.user, capabilities).await {
        Ok(link) => Ok(link),
        Err(failure) if needs_judgement(&failure) => Err(judged(me, tracker, target, failure).await?),
        Err(failure) => Err(Error::link(&target.user, failure)),
    }
}

/// Whether only the tracker can tell what it means.
const fn needs_judgement(failure: &LinkError) -> bool {
    matches!(failure, LinkError::OtherKey { .. } | LinkError::Refused { code: Code::Unauthorised, .. })
}

/// What it means that somebody else answers where the tracker saw the one that was dialled, or that the one doesn't know
/// us. Somebody we or the tracker know is there by a wrong address; a key to which the tracker binds the dialled one now
/// has changed; of any other nobody can tell. Whoever isn't known to the tracker any more is told that, and not what
/// strangers are told.
async fn judged(me: &Me, tracker: &mut impl AskTracker, target: &Target, failure: LinkError) -> Result<Error, Error> {
    let LinkError::OtherKey { address, presented, expected } = failure else {
        return match tokio::time::timeout(PATIENCE, bound_to(tracker, me.identity.fingerprint())).await {
            Ok(Err(Error::Tracker(TrackerError::Refused { refusal, .. })))
                if refusal.code == ErrorCode::NotLoggedIn =>
            {
                Ok(Error::signed_out(me.user.clone(), refusal))
            }
            Ok(Ok(None)) => {
                let why = "no account belongs to its key any more".into();
                Ok(Error::SignedOut { user: me.user.clone(), why })
            }
            _ => Ok(Error::link(&target.user, failure)),
        };
    };
    let (profile, user) = (me.profile.clone(), target.user.clone());
    let known = blocking(move || Ok(profile.owner_of_key(&presented, &user)?)).await?;
    let owner = match known {
        Some(owner) => Some(owner),
        None => match tokio::time::timeout(PATIENCE, bound_to(tracker, presented)).await {
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
            blocking(move || changed_key(&me, &user, expected, presented)).await
        }
        Some(owner) => {
            let addresses = format!("{} ({owner} has {address} now)", target.user);
            let source = LinkError::NoAnswer { addresses, within: link::PATIENCE };
            Ok(Error::Link { user: target.user.clone(), source })
        }
        None => Ok(Error::link(&target.user, failure)),
    }
}

/// The user to whom the tracker binds this key now, if there is one.
async fn bound_to(tracker: &mut impl AskTracker, key: Fingerprint) -> Result<Option<UserName>, Error> {
    match tracker.call::<WhoisReply>(&Request::Whois(Whois::Fingerprint(key))).await {
        Ok(reply) => Ok(Some(reply.user)),
        Err(error) if error.code() == Some(ErrorCode::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Where a friend was last, when the tracker can't be asked.
///
/// # Errors
/// `error` when nothing is on record.
async fn from_record(me: &Me, user: &UserName, error: Error) -> Result<Target, Error> {
    match recorded(me, user).await? {
        Some(friend) if !friend.addresses.is_empty() => {
            (me.notify)(Notice::WithoutTracker { why: error.to_string() });
            let addresses = dialled(&friend.addresses, &sys::local_addresses(), None);
            // The tracker saw them there once; whoever is there now is not for it to say.
            Ok(Target { user: friend.user, fingerprint: friend.fingerprint, addresses, observed: None })
        }
        _ => Err(error),
    }
}

/// Why a user isn't listed.
pub async fn absent(link: &mut impl AskTracker, user: &UserName) -> Error {
    match whois(link, user).await {
        Err(error) if error.code() == Some(ErrorCode::NotFound) => Error::UnknownUser(user.clone()),
        // Who asks isn't who they were: that is no word on the other one.
        Err(error) if error.code() == Some(ErrorCode::NotLoggedIn) => error.into(),
        _ => Error::Offline(user.clone()),
    }
}

/// The same, held against the record: the key may have changed while they were away.
async fn absent_friend(me: &Me, link: &mut impl AskTracker, user: &UserName) -> Error {
    match (whois(link, user).await, recorded(me, user).await) {
        (_, Err(error)) => error,
        (Ok(WhoisReply { fingerprint: None, .. }), _) => Error::Keyless(user.clone()),
        (Ok(WhoisReply { fingerprint: Some(fingerprint), .. }), Ok(Some(friend)))
            if friend.fingerprint != fingerprint =>
        {
            let (me, user) = (me.clone(), user.clone());
            blocking(move || changed_key(&me, &user, friend.fingerprint, fingerprint))
                .await
                .unwrap_or_else(|error| error)
        }
        (Err(error), _) if error.code() == Some(ErrorCode::NotFound) => Error::UnknownUser(user.clone()),
        (Err(error), _) if error.code() == Some(ErrorCode::NotLoggedIn) => error.into(),
        _ => Error::Offline(user.clone()),
    }
}

async fn whois(link: &mut impl AskTracker, user: &UserName) -> Result<WhoisReply, TrackerError> {
    link.call(&Request::Whois(Whois::User(user.clone()))).await
}

async fn recorded(me: &Me, user: &UserName) -> Result<Option<Friend>, Error> {
    let (profile, user) = (me.profile.clone(), user.clone());
    blocking(move || Ok(profile.friend(&user)?)).await
}
