//! Finding people: who is online, and where and with which key one of them can be reached.

use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use shared::tracker::{ErrorCode, ListPeers, PeerEntry, Peers, Request, Whois, WhoisReply};
use shared::{Fingerprint, UserName};

use super::me::is_unreachable;
use super::{Error, Me, Notice, blocking, now_s};
use crate::net::TrackerError;
use crate::net::link::Target;
use crate::net::tracker::{TrackerLink, candidates};
use crate::profile::{Friend, Meeting};

/// Whoever can put a question to the tracker: a connection, or a node that keeps one.
pub trait AskTracker: Send {
    /// Sends a request and waits for its reply.
    fn call<T: DeserializeOwned + Send>(
        &mut self,
        request: &Request,
    ) -> impl Future<Output = Result<T, TrackerError>> + Send;

    /// Whether the tracker is on this machine, so that its loopback is ours.
    fn is_near(&self) -> bool;
}

impl AskTracker for TrackerLink {
    fn call<T: DeserializeOwned + Send>(
        &mut self,
        request: &Request,
    ) -> impl Future<Output = Result<T, TrackerError>> + Send {
        Self::call(self, request)
    }

    fn is_near(&self) -> bool {
        self.local_ip().is_loopback()
    }
}

/// Where `user` can be reached, and the key that must be there: the tracker's word, checked against the record.
///
/// Without the tracker, the record alone.
///
/// # Errors
/// [`Error::Offline`], [`Error::UnknownUser`], [`Error::PeerChanged`], [`Error::Tracker`].
pub async fn find(me: &Me, user: &UserName) -> Result<Target, Error> {
    match me.connect_tracker().await {
        Ok(mut link) => find_through(me, &mut link, user).await,
        Err(error) if is_unreachable(&error) => from_record(me, user, error).await,
        Err(error) => Err(error),
    }
}

/// The same over a connection that is there.
///
/// # Errors
/// As [`find`].
pub async fn find_through(me: &Me, link: &mut impl AskTracker, user: &UserName) -> Result<Target, Error> {
    let only = ListPeers { user: Some(user.clone()), with_files: Some(false), ..ListPeers::default() };
    let peers: Peers = link.call(&Request::ListPeers(only)).await?;
    let Some(entry) = peers.peers.into_iter().find(|entry| entry.user == *user) else {
        return Err(absent_friend(me, link, user).await);
    };
    let (me, near) = (me.clone(), link.is_near());
    blocking(move || target_of(&me, &entry, near)).await
}

/// Where the user of `entry` can be reached, its key checked against the record. Blocking: it looks at the profile.
///
/// # Errors
/// [`Error::Unreachable`], [`Error::PeerChanged`].
pub fn target_of(me: &Me, entry: &PeerEntry, near_tracker: bool) -> Result<Target, Error> {
    let fingerprint = entry.fingerprint.ok_or_else(|| Error::Unreachable(entry.user.clone()))?;
    let addresses: Vec<SocketAddr> = candidates(entry.ip, entry.port, &entry.addresses)
        .into_iter()
        // Somebody on the tracker's own machine: that loopback is not ours.
        .filter(|address| near_tracker || !address.ip().is_loopback())
        .collect();
    if addresses.is_empty() {
        return Err(Error::Unreachable(entry.user.clone()));
    }
    check_key(me, &entry.user, fingerprint)?;
    me.profile.remember_addresses(&entry.user, &addresses)?;
    Ok(Target { user: entry.user.clone(), fingerprint, addresses })
}

/// Checks a user's key against the record; at the first meeting it goes on record. Blocking: it looks at the profile.
///
/// # Errors
/// [`Error::PeerChanged`].
pub fn check_key(me: &Me, user: &UserName, fingerprint: Fingerprint) -> Result<(), Error> {
    match me.profile.meet(user, fingerprint, now_s())? {
        Meeting::Known => Ok(()),
        Meeting::First => {
            (me.notify)(Notice::NewFriend { user: user.clone(), fingerprint });
            Ok(())
        }
        Meeting::Changed { recorded } => {
            Err(Error::PeerChanged { user: user.clone(), expected: recorded, presented: fingerprint })
        }
    }
}

/// Where a friend was last, when the tracker can't be asked.
///
/// # Errors
/// `error` when nothing is on record.
pub async fn from_record(me: &Me, user: &UserName, error: Error) -> Result<Target, Error> {
    match recorded(me, user).await? {
        Some(friend) if !friend.addresses.is_empty() => {
            (me.notify)(Notice::WithoutTracker { why: error.to_string() });
            Ok(Target { user: friend.user, fingerprint: friend.fingerprint, addresses: friend.addresses })
        }
        _ => Err(error),
    }
}

/// Why a user isn't listed.
pub async fn absent(link: &mut impl AskTracker, user: &UserName) -> Error {
    match whois(link, user).await {
        Err(error) if error.code() == Some(ErrorCode::NotFound) => Error::UnknownUser(user.clone()),
        _ => Error::Offline(user.clone()),
    }
}

/// The same, held against the record: the key may have changed while they were away.
async fn absent_friend(me: &Me, link: &mut impl AskTracker, user: &UserName) -> Error {
    match (whois(link, user).await, recorded(me, user).await) {
        (_, Err(error)) => error,
        (Ok(WhoisReply { fingerprint, .. }), Ok(Some(friend))) if friend.fingerprint != fingerprint => {
            Error::PeerChanged { user: user.clone(), expected: friend.fingerprint, presented: fingerprint }
        }
        (Err(error), _) if error.code() == Some(ErrorCode::NotFound) => Error::UnknownUser(user.clone()),
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
