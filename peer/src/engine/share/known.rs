//! Finding the hash of a file that was computed before: under its path, or under another name that it has or had.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::path::Path;

use super::hashing::has_same_ends;
use super::is_gone;
use crate::profile::{FileHash, Profile, ProfileError, Share};
use crate::sys::{FileId, VersionChange, file_id, hard_link, is_same_file, open_regular};

/// The files of one run that have several names, by device and inode.
pub(super) type HardLinks = HashMap<(u64, u64), FileHash>;

/// A hash that is on record for the file at `path`, as long as nothing says that its content changed since.
///
/// Size and modification time can be set back, the time of the last change of anything can't: where that is another, a mode
/// or a link may be all that changed, and only reading the file tells.
pub(super) fn known_hash(
    profile: &Profile,
    path: &Path,
    metadata: &Metadata,
) -> Result<Option<FileHash>, ProfileError> {
    let id = file_id(metadata);
    if let Some(known) = profile.hashed_before(path, id)? {
        let is_same = known.id.is_unwritten_at(&id) || known.id.ctime_ns == 0 && has_ends_at(path, &known);
        return Ok(is_same.then_some(known));
    }
    for share in profile.shares_like(id)? {
        if let Some(known) = profile.hashed_before(&share.path, id)?
            && is_same(path, metadata, &share, &known)
        {
            // What only the ends tell is no proof for the next time.
            let id = if known.id.is_unwritten_at(&id) { known.id } else { FileId { ctime_ns: 0, ..known.id } };
            return Ok(Some(FileHash { id, ..known }));
        }
    }
    Ok(None)
}

/// The hash that was computed in this run for another name of the same file.
pub(super) fn linked_hash(links: &HardLinks, link: Option<(u64, u64)>, id: &FileId) -> Option<FileHash> {
    let known = links.get(&link?)?;
    (known.id.change_to(id) != VersionChange::Content).then(|| known.clone())
}

/// Whether `path` is another name of the file that was recorded as `share`, or the one that it was moved to.
fn is_same(path: &Path, metadata: &Metadata, share: &Share, known: &FileHash) -> bool {
    match fs::symlink_metadata(&share.path) {
        Ok(there) => {
            hard_link(metadata).is_some()
                && is_same_file(metadata, &there)
                && known.id.is_unwritten_at(&file_id(metadata))
        }
        Err(why) if is_gone(&why) => {
            // A new name alone gives some file systems a new time, and elsewhere another file may have the same number.
            known.id.is_unwritten_at(&file_id(metadata)) || has_ends_at(path, known)
        }
        Err(_) => false,
    }
}

/// Returns whether the file at `path` has the ends of `known`: a doubt where no times tell more.
fn has_ends_at(path: &Path, known: &FileHash) -> bool {
    open_regular(path).is_ok_and(|file| has_same_ends(&file, known))
}
