//! Refreshing of shares: how their files differ from the record, and the hashing of changed ones.

use std::path::Path;
use std::{fs, io};

use localization::in_english;
use shared::FileName;

use super::hashing::{HashError, HashProgressCallback, hash_file};
use super::{KeySearch, hashed_share};
use crate::engine::Error;
use crate::engine::private_data::PrivateData;
use crate::profile::{Audience, HashedShare, Profile, Share};
use crate::sys::{self, VersionChange, file_version, is_executable, open_regular, plain_message};

/// The state of a share compared with its file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareFreshness {
    /// Unchanged since it was hashed.
    Fresh,
    /// Only its mode, links or inode changed: its groups are compared with the manifest before they are sent.
    Touched,
    /// Its size or time changed, so its content may have, too.
    Changed {
        /// True if it is longer now: the hashed bytes may still be there.
        grown: bool,
    },
    /// Removed, or no regular file any more.
    Missing,
    /// Present, but the system denies access, with this message.
    Unreadable(String),
}

/// The result of hashing a share again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// Hashed; the record is up to date.
    Done,
    /// The file is gone. The share stays on record, and is offered again when the file is back.
    Gone,
    /// The file changed while it was read.
    Changing,
    /// The file can't be read, with this message.
    Unreadable(String),
    /// The file must never be served, for this reason; the record is removed.
    Private(String),
}

/// Compares a share with its file on disk.
pub fn freshness(share: &Share) -> ShareFreshness {
    let metadata = match fs::symlink_metadata(&share.path) {
        // `symlink_metadata`: a link that replaced the file is not followed, and the share counts as missing.
        Ok(metadata) if metadata.is_file() => metadata,
        Err(why) if !is_gone(&why) => return ShareFreshness::Unreadable(plain_message(&why)),
        _ => return ShareFreshness::Missing,
    };
    let now = file_version(&metadata);
    match share.version.change_to(&now) {
        VersionChange::Unchanged => ShareFreshness::Fresh,
        VersionChange::Attributes => ShareFreshness::Touched,
        VersionChange::Content => ShareFreshness::Changed { grown: now.size > share.version.size },
    }
}

/// True if only its owner may read the share's file now.
pub(in crate::engine) fn is_owner_only(share: &Share) -> bool {
    fs::symlink_metadata(&share.path).is_ok_and(|metadata| sys::is_owner_only(&metadata))
}

/// True if an error of opening a file means that the file is gone or something else took its place.
pub(in crate::engine) fn is_gone(why: &io::Error) -> bool {
    // `open_regular` follows no links: ELOOP means that a link took the place. An error without a code is its
    // own, for something that is no regular file.
    let is_link = why.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    is_link
        || why.raw_os_error().is_none()
        || matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Hashes a changed share again and updates its record. `progress` can interrupt it.
pub(in crate::engine) fn refresh(
    profile: &Profile,
    share: &Share,
    progress: &mut HashProgressCallback<'_>,
) -> Result<RefreshOutcome, Error> {
    match hash_shared(&PrivateData::of(profile), &share.audience, &share.name, &share.path, progress) {
        Ok(hashed) => {
            profile.put_shares(std::slice::from_ref(&hashed))?;
            Ok(RefreshOutcome::Done)
        }
        // On record, it would be listed, requested and refused for ever.
        Err(RefreshOutcome::Private(why)) => {
            profile.remove_shares(&share.audience, [&share.name])?;
            tracing::error!("{} is not shared any more: {why}", share.name.display());
            Ok(RefreshOutcome::Private(why))
        }
        Err(outcome) => Ok(outcome),
    }
}

/// Hashes a file that is shared, or will be, under this name. The reason of a failure is in English, for the log and for
/// those who ask for the file.
pub(super) fn hash_shared(
    private: &PrivateData,
    audience: &Audience,
    name: &FileName,
    path: &Path,
    progress: &mut HashProgressCallback<'_>,
) -> Result<HashedShare, RefreshOutcome> {
    let refused = |why: io::Error| {
        if is_gone(&why) {
            RefreshOutcome::Gone
        } else {
            RefreshOutcome::Unreadable(in_english(|| plain_message(&why)))
        }
    };
    let file = open_regular(path).map_err(refused)?;
    // The open file and not the path: what is checked is what is hashed.
    if let Some(reason) = private.reason_of_open(path, &file) {
        return Err(RefreshOutcome::Private(in_english(|| reason.text())));
    }
    let key = private.own_key();
    let hash = hash_file(&file, &mut KeySearch::new(key.as_deref()), progress).map_err(|why| match why {
        HashError::HoldsKey => RefreshOutcome::Private(in_english(|| why.to_string())),
        HashError::Unreadable(why) => refused(why),
        HashError::Changing => RefreshOutcome::Changing,
        why => RefreshOutcome::Unreadable(in_english(|| why.to_string())),
    })?;
    let executable = file.metadata().is_ok_and(|metadata| is_executable(&metadata));
    Ok(hashed_share(audience, name.clone(), path.to_owned(), executable, hash))
}
