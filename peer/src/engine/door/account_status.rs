//! What the tracker says of an account that doesn't live behind the door: whether the password is right, and whether a key is
//! bound. Nothing of the account is changed.

use certs::Identity;
use shared::UserName;
use shared::tracker::{
    AnnouncedPresence, Credentials, EmptyReply, ListPeersReply, ListPeersRequest, LoginReply, Password, SpeakerProof,
    TrackerErrorCode, TrackerRequest,
};

use super::DoorTracker;
use crate::engine::door_pass::PersonPass;
use crate::engine::tracker_account::verify_password;
use crate::engine::{Error, LocalUser};
use crate::net::TrackerError;
use crate::net::tracker::{KeyDemand, TrackerConnection};

/// The place of an account's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccountStatus {
    /// A key on another machine is bound.
    Bound,
    /// No key is bound: only clients of the exercise used it.
    Unbound,
}

/// The standing of the key in an account's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResidentKey {
    /// The account is bound to it.
    Current,
    /// The account was bound to it, and moved to another machine.
    Moved,
    /// The tracker knows no account of this key: it was removed, or released by the administrator.
    Unknown,
}

/// Asks for an account's status. Fails with the tracker's refusal of the password.
pub(super) async fn account_status(
    tracker: &DoorTracker,
    user: &UserName,
    password: Password,
    pass: &PersonPass,
) -> Result<AccountStatus, Error> {
    let without_key: Option<&Identity> = None;
    let mut link = TrackerConnection::connect(&tracker.address, without_key, KeyDemand::Confirmed(tracker.key)).await?;
    pass.show(&mut link).await?;
    let list = ListPeersRequest { user: Some(user.clone()), with_files: Some(false), ..ListPeersRequest::default() };
    let listed: ListPeersReply = link.call(&TrackerRequest::ListPeers(list)).await?;
    // A login would replace the presence of a client of the exercise, and its files with it: only the password is checked.
    if let Some(present) = listed.peers.into_iter().find(|peer| peer.user == *user) {
        verify_password(&mut link, user.clone(), password).await?;
        return Ok(present.fingerprint.map_or(AccountStatus::Unbound, |_| AccountStatus::Bound));
    }
    // Without a certificate a login binds nothing, and is refused if a key is bound.
    let credentials = Credentials { user: user.clone(), password };
    let login = TrackerRequest::Login { credentials, presence: AnnouncedPresence::default(), rebind: false };
    match link.call::<LoginReply>(&login).await {
        Ok(_) => {
            // The login was only a question: no presence is left of it.
            let logout = TrackerRequest::Logout { user: user.clone(), proof: SpeakerProof::default() };
            let EmptyReply {} = link.call(&logout).await?;
            Ok(AccountStatus::Unbound)
        }
        Err(error) if error.code() == Some(TrackerErrorCode::KeyMismatch) => Ok(AccountStatus::Bound),
        Err(error) => Err(error.into()),
    }
}

/// Checks the password of an account in the door's folder, and whether the key there is still the account's. Fails with the
/// tracker's refusal of the password.
pub(super) async fn resident_key(me: &LocalUser, password: Password, pass: &PersonPass) -> Result<ResidentKey, Error> {
    let caller = LocalUser { door_pass: Some(pass.clone()), ..me.clone() };
    let mut link = caller.connect_tracker().await?;
    verify_password(&mut link, me.user.clone(), password).await?;
    match link.call::<LoginReply>(&TrackerRequest::Resume(AnnouncedPresence::default())).await {
        Ok(reply) => me.check_key_owner(&reply.user).map(|()| ResidentKey::Current),
        Err(TrackerError::Refused { refusal, .. }) if refusal.code == TrackerErrorCode::NotLoggedIn => {
            Ok(if refusal.moved_for_s.is_some() { ResidentKey::Moved } else { ResidentKey::Unknown })
        }
        Err(error) => Err(error.into()),
    }
}
