//! The opening of a partial file and its state: under a name that the file system accepts, and locked.

use std::fs::{File, TryLockError};
use std::io;

use localization::tr;
use shared::ContentHash;

use crate::engine::Error;
use crate::engine::fetch::destination::FileTarget;
use crate::engine::partial_state::PARTIAL_SUFFIX;
use crate::sys::{FolderHandle, is_locking_unsupported, is_name_refused};

/// An open partial file.
pub(super) struct OpenedPartial {
    pub(super) part: File,
    /// The target, in the spelling that the file system accepts.
    pub(super) spot: FileTarget,
    /// The name of the partial file and its state, without suffix.
    pub(super) stem: String,
}

/// Opens or creates the partial file, under a name that the file system accepts. `may_be_there`: an earlier attempt may
/// have left groups worth looking for.
pub(super) fn open_respelled(
    folder: &FolderHandle,
    target: &FileTarget,
    hash: &ContentHash,
    may_be_there: bool,
) -> Result<OpenedPartial, Error> {
    let mut target = target.clone();
    loop {
        let mut stems = target.partial_stems(hash);
        let is_there =
            |stem: &String| folder.entry_kind(&format!("{stem}{PARTIAL_SUFFIX}")).is_ok_and(|entry| entry.is_some());
        // Two stems: an earlier fetch may have needed the tag where this one doesn't.
        let found = if may_be_there && stems.len() > 1 { stems.iter().position(is_there) } else { None };
        let stem = stems.swap_remove(found.unwrap_or(stems.len() - 1));
        match open_locked(folder, &target, &format!("{stem}{PARTIAL_SUFFIX}")) {
            Err(_) if folder.is_removed() => return Err(target.folder.removed_error()),
            Err(Error::Disk { source, .. }) if is_name_refused(&source) && target.respelled().is_some() => {
                target = target.respelled().unwrap_or(target);
            }
            opened => return Ok(OpenedPartial { part: opened?, spot: target, stem }),
        }
    }
}

/// Opens or creates the partial file `name`, locked against other processes.
fn open_locked(folder: &FolderHandle, target: &FileTarget, name: &str) -> Result<File, Error> {
    let path = target.path();
    loop {
        let part = folder.open_or_create(name).map_err(Error::disk(&path))?;
        match part.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::DestinationInUse(target.path())),
            // Some network file systems don't lock: two processes at one file only do the work twice there.
            Err(TryLockError::Error(why)) if is_locking_unsupported(&why) => {}
            Err(TryLockError::Error(why)) => return Err(Error::disk(&path)(why)),
        }
        // Another user who can write to the file could change it after its groups were verified.
        if !folder.is_sole_owner(&part).map_err(Error::disk(&path))? {
            let why = io::Error::other(tr!("somebody else can write to it: remove it, or fetch to another folder"));
            return Err(Error::Disk { path: target.folder.path_of(name), source: why });
        }
        // The previous holder of the lock may have renamed the opened file into place: then the name is tried again.
        if folder.is_named(name, &part).map_err(Error::disk(&path))? {
            return Ok(part);
        }
    }
}

/// Opens or creates the state file `name`. Anything else of that name is removed, because a write through a link could
/// destroy another file of the user. `None` if that fails; a part without a state only costs more hashing.
pub(super) fn open_state(folder: &FolderHandle, name: &str) -> Option<File> {
    let there = folder.open_or_create(name).ok().filter(|file| folder.is_sole_owner(file).unwrap_or(false));
    let made = there.map_or_else(|| folder.remove(name).and_then(|()| folder.create(name)), Ok);
    made.inspect_err(|why| tracing::info!("going on without {name}: {why}")).ok()
}
