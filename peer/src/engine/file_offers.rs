//! File offers: shares whose audience is one person or a room, who are told of them in a message.
//!
//! The share is all that is stored of an offer: the message that announces it holds its name, size and hash, and the outbox
//! knows whether it was delivered.

use std::path::PathBuf;

use localization::tr;
use shared::names::matching_key;
use shared::names::name_encoding::display_name;
use shared::peer::{FileOffer, MessageId};
use shared::{FileName, UserName};

use super::share::{HashProgressCallback, for_each_share, hash_path};
use super::{Error, LocalUser};
use crate::profile::{Audience, ConversationName, HashedShare, Profile, Share, StoredMessage};
use crate::util::shell_words::shell_quote;

/// Returns a warning if the recipient of an offer is blocked, and so can't fetch it. Blocking.
pub fn blocked_warning(profile: &Profile, to: &UserName) -> Result<Option<String>, Error> {
    let is_blocked = profile.is_blocked(to)?;
    Ok(is_blocked.then(|| tr!("you block {to}, who can't fetch what you offer: run `peer unblock {to}`", to)))
}

/// Hashes files and stores them as offers to `to`, whose audience is `audience`. Blocking.
///
/// # Errors
/// [`Error::Usage`] if a path is no readable file, or its name is taken by another offer; [`Error::Interrupted`] if
/// `progress` breaks it off. Then no offer was added.
pub fn add_offers(
    profile: &Profile,
    to: &ConversationName,
    audience: &Audience,
    paths: &[PathBuf],
    name: Option<&FileName>,
    progress: &mut HashProgressCallback<'_>,
) -> Result<Vec<FileOffer>, Error> {
    if name.is_some() && paths.len() > 1 {
        return Err(Error::Usage(tr!("--as names one file")));
    }
    let mut hashed = Vec::with_capacity(paths.len());
    for path in paths {
        if path.is_dir() {
            let word = shell_quote(&[&path.to_string_lossy()]);
            return Err(Error::Usage(match to {
                ConversationName::Person(_) => tr!(
                    "folders can't be offered yet: offer its files, or share it with everyone (`peer share {word}`)",
                    word
                ),
                ConversationName::Room(room) => tr!(
                    "folders can't be offered yet: offer its files, or share it with the room (`peer share {word} --room \
                     {room}`)",
                    word,
                    room
                ),
            }));
        }
        if !path.exists() {
            return Err(Error::Usage(tr!("{path}: no such file", path = path.to_string_lossy())));
        }
        // `hash_path` reports a break like any other error: remember which it was.
        let mut is_broken_off = false;
        let mut follow = |bytes| {
            let flow = progress(bytes);
            is_broken_off = flow.is_break();
            flow
        };
        let hashed_path = hash_path(profile, audience, path, name, &mut follow);
        if is_broken_off {
            return Err(Error::Interrupted);
        }
        let one = hashed_path
            .map_err(|why| Error::Usage(tr!("{path} can't be offered: {why}", path = path.to_string_lossy(), why)))?;
        // The same file may be offered again: that renews its hash.
        let elsewhere = |share: &Share| share.name == one.share.name && share.path != one.share.path;
        let taken = profile.share(audience, &one.share.name)?.is_some_and(|offered| elsewhere(&offered));
        if taken || hashed.iter().any(|other: &HashedShare| elsewhere(&other.share)) {
            return Err(Error::Usage(tr!(
                "{to} is offered another file as {name}: withdraw that one first, or use --as NAME",
                to,
                name = one.share.name.display()
            )));
        }
        hashed.push(one);
    }
    // A break after the last bytes counts as well: whoever asked for it was told that nothing is offered.
    if progress(0).is_break() {
        return Err(Error::Interrupted);
    }
    // After the loop, so that an error above leaves no part of the offers behind.
    profile.put_shares(&hashed)?;
    Ok(hashed.into_iter().map(|one| offer_from_share(&one.share)).collect())
}

/// Returns all offers with their recipients, ordered by both. Blocking.
pub fn all_offers(profile: &Profile) -> Result<Vec<(UserName, Share)>, Error> {
    let mut offers = Vec::new();
    for audience in profile.audiences()? {
        if let Audience::Person(to) = &audience {
            for_each_share(profile, &audience, "", |share| offers.push((to.clone(), share)))?;
        }
    }
    Ok(offers)
}

/// Returns an offer as it is announced to its recipient.
///
/// # Errors
/// [`Error::Usage`] if there is no such offer.
pub fn find_offer(me: &LocalUser, to: &UserName, name: &FileName) -> Result<FileOffer, Error> {
    let found = me.profile.share(&Audience::Person(to.clone()), name)?;
    found.as_ref().map(offer_from_share).ok_or_else(|| no_such_offer(to, name))
}

/// Returns the exact name of an offer, or of the only one whose name looks the same.
///
/// # Errors
/// [`Error::Usage`] if there is no such offer, or several look the same.
pub fn resolve_offer_name(profile: &Profile, to: &UserName, name: &FileName) -> Result<FileName, Error> {
    let audience = Audience::Person(to.clone());
    if profile.share(&audience, name)?.is_some() {
        return Ok(name.clone());
    }
    // What was typed may look the same and have other bytes, such as those of another normal form.
    let key = matching_key(name.as_str());
    let mut alike = Vec::new();
    for_each_share(profile, &audience, "", |share| {
        if matching_key(share.name.as_str()) == key {
            alike.push(share.name);
        }
    })?;
    match alike.as_slice() {
        [only] => Ok(only.clone()),
        _ => Err(no_such_offer(to, name)),
    }
}

/// Withdraws an offer.
///
/// # Errors
/// [`Error::Usage`] if there is no such offer.
pub fn withdraw(profile: &Profile, to: &UserName, name: &FileName) -> Result<(), Error> {
    let removed = profile.remove_shares(&Audience::Person(to.clone()), [name])?;
    if removed > 0 { Ok(()) } else { Err(no_such_offer(to, name)) }
}

/// Returns the ids of the messages about an offer that wait in the outbox.
pub fn undelivered_messages(profile: &Profile, to: &UserName, name: &FileName) -> Result<Vec<MessageId>, Error> {
    let waiting = profile.queued_for(to, 0, usize::MAX)?;
    let about = |stored: &StoredMessage| stored.message.offer.as_ref().is_some_and(|offer| offer.name == *name);
    Ok(waiting.into_iter().filter(about).map(|stored| stored.message.id).collect())
}

fn offer_from_share(share: &Share) -> FileOffer {
    FileOffer { name: share.name.clone(), size: share.version.size, hash: share.hash }
}

fn no_such_offer(to: &UserName, name: &FileName) -> Error {
    Error::Usage(tr!(
        "you didn't offer {name} to {to}: `peer offer` shows what is offered to whom",
        name = display_name(name.as_str()),
        to
    ))
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    #[test]
    fn a_break_after_the_last_bytes_offers_nothing() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(&home.path().join("me")).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        let (to, audience) = (ConversationName::Person(bob.clone()), Audience::Person(bob));
        let path = home.path().join("plan");
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), b"plan").unwrap();
        let offer = |progress: &mut HashProgressCallback<'_>| {
            add_offers(&profile, &to, &audience, std::slice::from_ref(&path), None, progress)
        };
        let mut hashed = 0;
        let broken_off = offer(&mut |bytes| {
            let was_hashed = hashed == 4;
            hashed += bytes;
            if was_hashed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(broken_off, Err(Error::Interrupted)), "{broken_off:?}");
        assert_eq!(all_offers(&profile).unwrap(), []);
        assert_eq!(offer(&mut |_| ControlFlow::Continue(())).unwrap().len(), 1);
    }
}
