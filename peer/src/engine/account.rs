//! Making, entering and leaving an account. Its password goes to a tracker whose key is confirmed
//! ([`super::tracker_key`]), and to nobody else.

use std::time::Duration;

use shared::tracker::{
    CountReply, Credentials, Empty, ErrorCode, FilesMode, LoginReply, Password, Presence, Proof, RegisterFiles,
    Request, Whois, WhoisReply,
};
use shared::{Fingerprint, UserName};

use super::tracker_key::{self, KeyPolicy};
use super::{Error, Me, Notice, Notify};
use crate::engine::contacts::AskTracker;
use crate::net::TrackerError;
use crate::net::tracker::{TrackerAddress, TrackerLink};
use crate::profile::{Account, IdentityToBind, Profile};

/// Makes an account bound to this profile's key.
///
/// # Errors
/// [`Error::Tracker`] when the name is taken or the tracker can't be reached.
pub async fn register(
    profile: &Profile,
    tracker: &TrackerAddress,
    notify: &Notify,
    user: UserName,
    password: Password,
) -> Result<Fingerprint, Error> {
    let identity = profile.identity()?;
    let mut link = tracker_key::connect(profile, &identity, tracker, KeyPolicy::Ask, notify).await?;
    let request = Request::Register(Credentials { user: user.clone(), password });
    let Empty {} = link.call(&request).await?;
    profile.set_account(&Account { user, tracker: tracker.to_string() })?;
    Ok(identity.fingerprint())
}

/// Enters an account that exists, binding it to this profile's key when it isn't bound; `rebind` takes another key's
/// place. A key that has to be made for that becomes the profile's when the account is bound to it, and not before.
///
/// # Errors
/// [`Error::Tracker`]: wrong password, or bound to another key.
pub async fn login(
    profile: &Profile,
    tracker: &TrackerAddress,
    notify: &Notify,
    user: UserName,
    password: Password,
    rebind: bool,
) -> Result<Fingerprint, Error> {
    let to_bind = if rebind { profile.identity_to_bind()? } else { IdentityToBind::Kept(profile.identity()?) };
    let fingerprint = to_bind.identity().fingerprint();
    let mut link = match tracker_key::connect(profile, to_bind.identity(), tracker, KeyPolicy::Ask, notify).await {
        Ok(link) => link,
        Err(error) => {
            to_bind.discard()?;
            return Err(error);
        }
    };
    let credentials = Credentials { user: user.clone(), password };
    let request = Request::Login { credentials, presence: Presence::default(), rebind };
    match link.call::<LoginReply>(&request).await {
        Err(error) if error.code() == Some(ErrorCode::KeyMismatch) => {
            to_bind.discard()?;
            return Err(elsewhere(profile, &mut link, user, error).await);
        }
        Err(error @ TrackerError::Refused { .. }) => {
            to_bind.discard()?;
            return Err(error.into());
        }
        // The account may be bound all the same: the next attempt shows the same key.
        reply => drop(reply?),
    }
    if let Some(aside) = to_bind.commit()? {
        notify(Notice::KeyPutAside { path: aside.to_string_lossy().into_owned() });
    }
    // Nobody can be reached yet: a node says that, when it runs.
    let Empty {} = link.call(&Request::Logout { user: user.clone(), proof: Proof::default() }).await?;
    profile.set_account(&Account { user, tracker: tracker.to_string() })?;
    Ok(fingerprint)
}

/// Why an account can't be entered with this profile's key: the account has another one, or the key another account.
async fn elsewhere(profile: &Profile, link: &mut TrackerLink, user: UserName, error: TrackerError) -> Error {
    let is_of_profile = profile.account().is_ok_and(|account| account.is_some_and(|account| account.user == user));
    match link.call::<LoginReply>(&Request::Resume(Presence::default())).await {
        Ok(LoginReply { user: owner, .. }) if owner != user && is_of_profile => {
            Error::KeyOfAnotherAccount { path: profile.key_path(), owner, user }
        }
        Ok(reply) if reply.user != user => Error::ProfileOf { owner: reply.user },
        Ok(_) => error.into(),
        Err(_) => Error::AccountElsewhere { user },
    }
}

/// One password in the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordChange {
    /// The one there is.
    pub present: Password,
    /// The one there is to be.
    pub new: Password,
}

/// Changes the account's password. All its sessions end but the one that this tracker's connection has.
///
/// # Errors
/// [`Error::Tracker`]: the present password is wrong, or the tracker can't be asked.
pub async fn passwd(tracker: &mut impl AskTracker, user: UserName, change: PasswordChange) -> Result<(), Error> {
    let credentials = Credentials { user, password: change.present };
    let Empty {} = tracker.call(&Request::Passwd { credentials, new_password: change.new }).await?;
    Ok(())
}

/// Proves that a password is the account's, and changes nothing: it goes along with a list of no files, on a connection
/// that can speak for nobody without it.
///
/// # Errors
/// [`Error::Tracker`]: it is wrong, or the tracker can't be asked.
pub async fn check_password(me: &Me, password: Password) -> Result<(), Error> {
    let proof = Proof { token: None, password: Some(password) };
    let (user, files, mode) = (me.user.clone(), Vec::new(), FilesMode::Add);
    let request = Request::RegisterFiles(RegisterFiles { user, files, mode, proof });
    match me.connect_tracker().await?.call::<CountReply>(&request).await {
        Ok(CountReply { .. }) => Ok(()),
        // Whoever isn't online has no list: that is looked at when the password was right.
        Err(TrackerError::Refused { refusal, .. }) if refusal.code == ErrorCode::NotLoggedIn => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Asks the tracker, for at most `patience`, whether this profile's key still is the account's; `None` where it is, or
/// nobody says otherwise.
pub async fn loss(me: &Me, patience: Duration) -> Option<Error> {
    let ask = async {
        let whois = Request::Whois(Whois::Fingerprint(me.identity.fingerprint()));
        me.connect_tracker().await?.call::<WhoisReply>(&whois).await.map_err(Error::from)
    };
    match tokio::time::timeout(patience, ask).await {
        Ok(Err(Error::Tracker(TrackerError::Refused { refusal, .. }))) if refusal.code == ErrorCode::NotLoggedIn => {
            Some(Error::signed_out(me.user.clone(), refusal))
        }
        Ok(Ok(_) | Err(_)) | Err(_) => None,
    }
}

/// Forgets the account on this machine; the identity and the shares stay. A running node goes on until it is stopped.
///
/// # Errors
/// What is wrong with the profile.
pub fn logout(profile: &Profile) -> Result<(), Error> {
    Ok(profile.clear_account()?)
}
