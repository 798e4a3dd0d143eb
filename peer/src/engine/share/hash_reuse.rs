//! Reuse of recorded hashes: under the file's path, or under another name that it has or had.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::path::Path;

use super::hashing::has_same_ends;
use super::is_gone;
use crate::profile::{HashedFile, Profile, ProfileError, Share};
use crate::sys::{FileVersion, VersionChange, file_version, hard_link, is_same_file, open_regular};

/// Hashes of files with several names, computed in this run, by device and inode.
pub(super) type HardLinkHashes = HashMap<(u64, u64), HashedFile>;

/// Returns the recorded hash of the file at `path`, unless something shows that its content changed since.
pub(super) fn recorded_hash(
    profile: &Profile,
    path: &Path,
    metadata: &Metadata,
) -> Result<Option<HashedFile>, ProfileError> {
    let id = file_version(metadata);
    if let Some(known) = profile.hashed_file_at(path, id)? {
        // No change time is on record where only the ends told: they are compared each time.
        let is_same = known.version.is_unwritten_at(&id) || known.version.ctime_ns == 0 && has_ends_at(path, &known);
        return Ok(is_same.then_some(known));
    }
    // Another hard link or a moved file keeps inode, size and modification time.
    for share in profile.shares_with_version(id)? {
        if let Some(known) = profile.hashed_file_at(&share.path, id)?
            && is_same_content(path, metadata, &share, &known)
        {
            // What only the ends tell is no proof for the next time.
            let id = if known.version.is_unwritten_at(&id) {
                known.version
            } else {
                FileVersion { ctime_ns: 0, ..known.version }
            };
            return Ok(Some(HashedFile { version: id, ..known }));
        }
    }
    Ok(None)
}

/// Returns the hash computed in this run for another name of the same file.
pub(super) fn linked_hash(links: &HardLinkHashes, link: Option<(u64, u64)>, id: &FileVersion) -> Option<HashedFile> {
    let known = links.get(&link?)?;
    (known.version.change_to(id) != VersionChange::Content).then(|| known.clone())
}

/// True if `path` is another name of the file recorded as `share`, or the path that it was moved to.
fn is_same_content(path: &Path, metadata: &Metadata, share: &Share, known: &HashedFile) -> bool {
    match fs::symlink_metadata(&share.path) {
        Ok(there) => {
            hard_link(metadata).is_some()
                && is_same_file(metadata, &there)
                && known.version.is_unwritten_at(&file_version(metadata))
        }
        Err(why) if is_gone(&why) => {
            // A new name alone gives some file systems a new time, and elsewhere another file may have the same number.
            known.version.is_unwritten_at(&file_version(metadata)) || has_ends_at(path, known)
        }
        Err(_) => false,
    }
}

/// Returns whether the file at `path` has the ends of `known`: a doubt where no times tell more.
fn has_ends_at(path: &Path, known: &HashedFile) -> bool {
    open_regular(path).is_ok_and(|file| has_same_ends(&file, known))
}
