//! Offers: files that one person may get, and nobody else learns of.

use std::path::PathBuf;

use shared::names::matching_key;
use shared::names::stand_in::shown;
use shared::peer::{MessageId, Offer};
use shared::{FileName, UserName};

use super::share::{Progress, hash_path};
use super::{Error, Me, words};
use crate::profile::{Profile, Share, StoredMessage};

/// Warns of an offer that can't be fetched, blocking: its receiver is blocked.
pub fn warning(profile: &Profile, to: &UserName) -> Result<Option<String>, Error> {
    let is_blocked = profile.is_blocked(to)?;
    Ok(is_blocked.then(|| format!("you block {to}, who can't fetch what you offer: run `peer unblock {to}`")))
}

/// Puts files among what `to` may get, blocking: it hashes them. Gives back what they are offered as.
///
/// # Errors
/// [`Error::Usage`] when something is no file, can't be read, or would take another offer's name, [`Error::Interrupted`]
/// when `progress` breaks it off; then nothing is offered that was not before.
pub fn put(
    profile: &Profile,
    to: &UserName,
    paths: &[PathBuf],
    name: Option<&FileName>,
    progress: &mut Progress<'_>,
) -> Result<Vec<Offer>, Error> {
    if name.is_some() && paths.len() > 1 {
        return Err(Error::Usage("--as names one file".to_owned()));
    }
    let mut hashed = Vec::with_capacity(paths.len());
    for path in paths {
        if path.is_dir() {
            let word = words(&[&path.to_string_lossy()]);
            return Err(Error::Usage(format!(
                "folders can't be offered yet: offer its files, or share it with everyone (`peer share {word}`)"
            )));
        }
        if !path.exists() {
            return Err(Error::Usage(format!("{}: no such file", path.to_string_lossy())));
        }
        let mut is_broken_off = false;
        let mut follow = |bytes| {
            let flow = progress(bytes);
            is_broken_off = flow.is_break();
            flow
        };
        let hashed_path = hash_path(profile, path, name, &mut follow);
        if is_broken_off {
            return Err(Error::Interrupted);
        }
        let one =
            hashed_path.map_err(|why| Error::Usage(format!("{} can't be offered: {why}", path.to_string_lossy())))?;
        let elsewhere = |share: &Share| share.name == one.share.name && share.path != one.share.path;
        let taken = profile.offer(to, &one.share.name)?.is_some_and(|offered| elsewhere(&offered));
        if taken || hashed.iter().any(|other: &crate::profile::HashedShare| elsewhere(&other.share)) {
            return Err(Error::Usage(format!(
                "{to} is offered another file as {}: withdraw that one first, or use --as NAME",
                one.share.name.shown()
            )));
        }
        hashed.push(one);
    }
    for one in &hashed {
        profile.put_offer(to, one)?;
    }
    Ok(hashed.into_iter().map(|one| offer_of(&one.share)).collect())
}

/// An offer as its receiver is told of it.
///
/// # Errors
/// [`Error::Usage`] when there is no such offer.
pub fn find(me: &Me, to: &UserName, name: &FileName) -> Result<Offer, Error> {
    let found = me.profile.offer(to, name)?;
    found.as_ref().map(offer_of).ok_or_else(|| no_such_offer(to, name))
}

/// The name of the offer that is meant: that one, or one that looks the same.
///
/// # Errors
/// [`Error::Usage`] when there is no such offer, or more than one that looks so.
pub fn name_meant(profile: &Profile, to: &UserName, name: &FileName) -> Result<FileName, Error> {
    if profile.offer(to, name)?.is_some() {
        return Ok(name.clone());
    }
    let key = matching_key(name.as_str());
    let offers = profile.offers()?.into_iter().filter(|(user, _)| user == to).map(|(_, share)| share.name);
    let alike: Vec<FileName> = offers.filter(|offered| matching_key(offered.as_str()) == key).collect();
    match alike.as_slice() {
        [only] => Ok(only.clone()),
        _ => Err(no_such_offer(to, name)),
    }
}

/// Takes an offer back.
///
/// # Errors
/// [`Error::Usage`] when there is no such offer.
pub fn withdraw(profile: &Profile, to: &UserName, name: &FileName) -> Result<(), Error> {
    if profile.remove_offer(to, name)? { Ok(()) } else { Err(no_such_offer(to, name)) }
}

/// The messages about an offer that wait and were not delivered yet.
///
/// # Errors
/// What is wrong with the profile.
pub fn untold(profile: &Profile, to: &UserName, name: &FileName) -> Result<Vec<MessageId>, Error> {
    let waiting = profile.outbox_of(to, 0, usize::MAX)?;
    let about = |stored: &StoredMessage| stored.message.offer.as_ref().is_some_and(|offer| offer.name == *name);
    Ok(waiting.into_iter().filter(about).map(|stored| stored.message.id).collect())
}

fn offer_of(share: &Share) -> Offer {
    Offer { name: share.name.clone(), size: share.id.size, hash: share.hash }
}

fn no_such_offer(to: &UserName, name: &FileName) -> Error {
    Error::Usage(format!(
        "you didn't offer {} to {to}: `peer offer` shows what is offered to whom",
        shown(name.as_str())
    ))
}
