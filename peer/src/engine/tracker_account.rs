//! Making, entering and leaving an account. Its password goes to a tracker whose key is confirmed
//! ([`super::tracker_key`]), and to nobody else.

use std::time::Duration;

use shared::tracker::{
    AnnouncedPresence, Credentials, EmptyReply, FilesMode, LoginReply, Password, RegisterFilesReply,
    RegisterFilesRequest, SpeakerProof, TrackerErrorCode, TrackerRequest, WhoisReply, WhoisRequest,
};
use shared::{Fingerprint, UserName};

use super::tracker_key::{self, TrackerKeyPolicy};
use super::{Error, LocalUser, Notice, NoticeHandler};
use crate::engine::peer_lookup::TrackerClient;
use crate::net::TrackerError;
use crate::net::tracker::{TrackerAddress, TrackerConnection};
use crate::profile::{BindingIdentity, Profile, ProfileAccount};

/// Makes an account bound to this profile's key.
///
/// # Errors
/// [`Error::Tracker`] when the name is taken or the tracker can't be reached.
pub async fn register(
    profile: &Profile,
    tracker: &TrackerAddress,
    notify: &NoticeHandler,
    user: UserName,
    password: Password,
) -> Result<Fingerprint, Error> {
    let identity = profile.identity()?;
    let mut link = tracker_key::connect(profile, &identity, tracker, TrackerKeyPolicy::Ask, notify).await?;
    let request = TrackerRequest::Register(Credentials { user: user.clone(), password });
    let EmptyReply {} = link.call(&request).await?;
    profile.set_account(&ProfileAccount { user, tracker: tracker.to_string() })?;
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
    notify: &NoticeHandler,
    user: UserName,
    password: Password,
    rebind: bool,
) -> Result<Fingerprint, Error> {
    let to_bind = if rebind { profile.binding_identity()? } else { BindingIdentity::Existing(profile.identity()?) };
    let fingerprint = to_bind.identity().fingerprint();
    let mut link = match tracker_key::connect(profile, to_bind.identity(), tracker, TrackerKeyPolicy::Ask, notify).await
    {
        Ok(link) => link,
        Err(error) => {
            to_bind.discard()?;
            return Err(error);
        }
    };
    let credentials = Credentials { user: user.clone(), password };
    let request = TrackerRequest::Login { credentials, presence: AnnouncedPresence::default(), rebind };
    match link.call::<LoginReply>(&request).await {
        Err(error) if error.code() == Some(TrackerErrorCode::KeyMismatch) => {
            to_bind.discard()?;
            return Err(login_conflict(profile, &mut link, user, error).await);
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
    let EmptyReply {} =
        link.call(&TrackerRequest::Logout { user: user.clone(), proof: SpeakerProof::default() }).await?;
    profile.set_account(&ProfileAccount { user, tracker: tracker.to_string() })?;
    Ok(fingerprint)
}

/// Why an account can't be entered with this profile's key: the account has another one, or the key another account.
async fn login_conflict(profile: &Profile, link: &mut TrackerConnection, user: UserName, error: TrackerError) -> Error {
    let is_of_profile = profile.account().is_ok_and(|account| account.is_some_and(|account| account.user == user));
    match link.call::<LoginReply>(&TrackerRequest::Resume(AnnouncedPresence::default())).await {
        Ok(LoginReply { user: owner, .. }) if owner != user && is_of_profile => {
            Error::KeyOfAnotherAccount { path: profile.key_path(), owner, user }
        }
        Ok(reply) if reply.user != user => Error::ProfileOfAnotherAccount { owner: reply.user },
        Ok(_) => error.into(),
        Err(_) => Error::AccountElsewhere { user },
    }
}

/// One password in the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordChange {
    /// The one there is.
    pub current: Password,
    /// The one there is to be.
    pub new: Password,
}

/// Changes the account's password. All its sessions end but the one that this tracker's connection has.
///
/// # Errors
/// [`Error::Tracker`]: the present password is wrong, or the tracker can't be asked.
pub async fn change_password(
    tracker: &mut impl TrackerClient,
    user: UserName,
    change: PasswordChange,
) -> Result<(), Error> {
    let credentials = Credentials { user, password: change.current };
    let EmptyReply {} = tracker.call(&TrackerRequest::Passwd { credentials, new_password: change.new }).await?;
    Ok(())
}

/// Proves that a password is the account's, and changes nothing: it goes along with a list of no files, on a connection
/// that can speak for nobody without it.
///
/// # Errors
/// [`Error::Tracker`]: it is wrong, or the tracker can't be asked.
pub async fn check_password(me: &LocalUser, password: Password) -> Result<(), Error> {
    let proof = SpeakerProof { token: None, password: Some(password) };
    let (user, files, mode) = (me.user.clone(), Vec::new(), FilesMode::Add);
    let request = TrackerRequest::RegisterFiles(RegisterFilesRequest { user, files, mode, proof });
    match me.connect_tracker().await?.call::<RegisterFilesReply>(&request).await {
        Ok(RegisterFilesReply { .. }) => Ok(()),
        // Whoever isn't online has no list: that is looked at when the password was right.
        Err(TrackerError::Refused { refusal, .. }) if refusal.code == TrackerErrorCode::NotLoggedIn => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Asks the tracker, for at most `patience`, whether this profile's key still is the account's; `None` where it is, or
/// nobody says otherwise.
pub async fn detect_key_loss(me: &LocalUser, timeout: Duration) -> Option<Error> {
    let ask = async {
        let whois = TrackerRequest::Whois(WhoisRequest::Fingerprint(me.identity.fingerprint()));
        me.connect_tracker().await?.call::<WhoisReply>(&whois).await.map_err(Error::from)
    };
    match tokio::time::timeout(timeout, ask).await {
        Ok(Err(Error::Tracker(TrackerError::Refused { refusal, .. })))
            if refusal.code == TrackerErrorCode::NotLoggedIn =>
        {
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
