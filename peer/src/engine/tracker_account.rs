//! Registration, login, password change and logout. The password is sent only to a tracker whose key is confirmed
//! ([`super::tracker_key`]).

use std::time::Duration;

use certs::Identity;
use serde::de::DeserializeOwned;
use shared::tracker::{
    AnnouncedPresence, Credentials, EmptyReply, FilesMode, IdempotencyKey, LoginReply, Password, RegisterFilesReply,
    RegisterFilesRequest, SpeakerProof, TrackerErrorCode, TrackerRequest, WhoisReply, WhoisRequest,
};
use shared::{Fingerprint, UserName};
use tokio::time::sleep;

use super::door_pass::PersonPass;
use super::tracker_key::{self, TrackerKeyPolicy};
use super::{Error, LocalUser, Notice, NoticeHandler};
use crate::engine::peer_lookup::TrackerClient;
use crate::net::TrackerError;
use crate::net::tracker::{TrackerAddress, TrackerConnection};
use crate::profile::{BindingIdentity, Profile, ProfileAccount};

/// Attempts at a change whose outcome the tracker doesn't know, or can't tell any more.
const MAX_ATTEMPTS: u32 = 3;
/// The longest time to wait for the next attempt.
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// Registers an account and binds it to this profile's key; a door shows its pass for the person. Fails with [`Error::Tracker`] if the name is taken or the
/// tracker can't be reached.
pub async fn register(
    profile: &Profile,
    tracker: &TrackerAddress,
    notify: &NoticeHandler,
    user: UserName,
    password: Password,
    pass: Option<&PersonPass>,
) -> Result<Fingerprint, Error> {
    let identity = profile.identity()?;
    let credentials = Credentials { user: user.clone(), password };
    // One key for all attempts: after a lost reply the name would otherwise be refused as taken.
    let request = TrackerRequest::Register { credentials, key: Some(new_idempotency_key()) };
    let mut attempts = 0;
    loop {
        attempts += 1;
        // The command has confirmed the key already, so that the record decides.
        let mut link = connect(profile, &identity, tracker, notify, pass).await?;
        match link.call(&request).await {
            Ok(EmptyReply {}) => break,
            Err(error) => match pause_before_repetition(&error).filter(|_| attempts < MAX_ATTEMPTS) {
                Some(pause) => sleep(pause).await,
                None => return Err(error.into()),
            },
        }
    }
    profile.set_account(&ProfileAccount { user, tracker: tracker.to_string() })?;
    Ok(identity.fingerprint())
}

/// Logs in to an account and binds it to this profile's key if it isn't bound; `rebind` replaces a binding to another
/// key. A key created for this becomes the profile's only after the account is bound to it. Fails with
/// [`Error::Tracker`] for a wrong password; [`Error::AccountElsewhere`], [`Error::ProfileOfAnotherAccount`] or
/// [`Error::KeyOfAnotherAccount`] if the account or the key is bound otherwise.
pub async fn login(
    profile: &Profile,
    tracker: &TrackerAddress,
    notify: &NoticeHandler,
    user: UserName,
    password: Password,
    rebind: bool,
    pass: Option<&PersonPass>,
) -> Result<Fingerprint, Error> {
    let to_bind = if rebind { profile.binding_identity()? } else { BindingIdentity::Existing(profile.identity()?) };
    let fingerprint = to_bind.identity().fingerprint();
    let mut link = match connect(profile, to_bind.identity(), tracker, notify, pass).await {
        Ok(link) => link,
        Err(error) => {
            // Nothing was sent: no account can have the new key yet.
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
        // After a lost reply the account may be bound already: keep the new key, which the next attempt shows again.
        reply => drop(reply?),
    }
    if let Some(aside) = to_bind.commit()? {
        notify(Notice::KeyPutAside { path: aside.to_string_lossy().into_owned() });
    }
    // End the presence that a login begins: no node runs yet that could be reached.
    let EmptyReply {} =
        link.call(&TrackerRequest::Logout { user: user.clone(), proof: SpeakerProof::default() }).await?;
    profile.set_account(&ProfileAccount { user, tracker: tracker.to_string() })?;
    Ok(fingerprint)
}

/// Connects, and shows a door's pass if there is one.
async fn connect(
    profile: &Profile,
    identity: &Identity,
    tracker: &TrackerAddress,
    notify: &NoticeHandler,
    pass: Option<&PersonPass>,
) -> Result<TrackerConnection, Error> {
    let mut link = tracker_key::connect(profile, identity, tracker, TrackerKeyPolicy::Ask, notify).await?;
    if let Some(pass) = pass {
        pass.show(&mut link).await?;
    }
    Ok(link)
}

/// Returns why the login was refused: the account has another key, or the key another account.
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

/// The two passwords of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordChange {
    /// The present password.
    pub current: Password,
    /// The new password.
    pub new: Password,
}

/// Changes the account's password. All its sessions end, except the one of this connection. Fails with
/// [`Error::Tracker`] if the present password is wrong, or the tracker can't be reached.
pub async fn change_password(
    tracker: &mut impl TrackerClient,
    user: UserName,
    change: PasswordChange,
) -> Result<(), Error> {
    let credentials = Credentials { user, password: change.current };
    let key = Some(new_idempotency_key());
    let request = TrackerRequest::Passwd { credentials, new_password: change.new, key };
    let EmptyReply {} = call_repeatedly(tracker, &request).await?;
    Ok(())
}

/// Returns the number for one change and its repetitions.
pub fn new_idempotency_key() -> IdempotencyKey {
    IdempotencyKey::from_bytes(rand::random())
}

/// Sends a request that has a key, and again while the tracker is too busy to say what became of it.
pub async fn call_repeatedly<T: DeserializeOwned + Send>(
    tracker: &mut impl TrackerClient,
    request: &TrackerRequest,
) -> Result<T, TrackerError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let error = match tracker.call(request).await {
            // After any other failure this connection can't be used again.
            Err(error @ TrackerError::Refused { .. }) if attempts < MAX_ATTEMPTS => error,
            done => return done,
        };
        match pause_before_repetition(&error) {
            Some(pause) => sleep(pause).await,
            None => return Err(error),
        }
    }
}

/// Returns the time after which a request with a key is repeated; `None` after a refusal that a repetition gets again.
fn pause_before_repetition(error: &TrackerError) -> Option<Duration> {
    match error {
        TrackerError::Refused { retry_after, .. } if error.code() == Some(TrackerErrorCode::Busy) => {
            // Whatever the tracker asks for: somebody waits for the command.
            Some(retry_after.unwrap_or(MAX_PAUSE).min(MAX_PAUSE))
        }
        TrackerError::Unreachable { .. } => Some(Duration::ZERO),
        _ => None,
    }
}

/// Verifies a password without changing anything: sends it with an empty list of files, over a connection that has no
/// session. Fails with [`Error::Tracker`] if the password is wrong, or the tracker can't be reached.
pub async fn check_password(me: &LocalUser, password: Password) -> Result<(), Error> {
    Ok(verify_password(&mut me.connect_tracker().await?, me.user.clone(), password).await?)
}

/// Does the same as [`check_password`] for any account over a connection that has no session. Fails with the tracker's
/// refusal.
pub async fn verify_password(
    link: &mut TrackerConnection,
    user: UserName,
    password: Password,
) -> Result<(), TrackerError> {
    let proof = SpeakerProof { token: None, password: Some(password) };
    // An addition of nothing changes no list.
    let (files, mode) = (Vec::new(), FilesMode::Add);
    let request = TrackerRequest::RegisterFiles(RegisterFilesRequest { user, files, mode, proof });
    match link.call::<RegisterFilesReply>(&request).await {
        Ok(RegisterFilesReply { .. }) => Ok(()),
        // The tracker checks the password first, and only then that the user is online.
        Err(TrackerError::Refused { refusal, .. }) if refusal.code == TrackerErrorCode::NotLoggedIn => Ok(()),
        Err(error) => Err(error),
    }
}

/// Asks the tracker, for at most `timeout`, whether this profile's key is still the account's; `None` if it is, or if
/// there is no answer.
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

/// Removes the account from this machine; identity and shares stay. A running node goes on until it is stopped.
pub fn logout(profile: &Profile) -> Result<(), Error> {
    Ok(profile.clear_account()?)
}
