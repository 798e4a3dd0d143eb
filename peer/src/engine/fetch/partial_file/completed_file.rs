//! A file that has all its groups: its time, its mode and its final name.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use shared::ContentHash;

use crate::engine::Error;
use crate::engine::fetch::FileOutcome;
use crate::engine::fetch::destination::FileTarget;
use crate::sys::{FolderHandle, make_executable};

/// A file that has all groups, but not its name yet.
#[derive(Debug)]
pub(in crate::engine::fetch) struct CompletedFile {
    pub(super) target: FileTarget,
    pub(super) folder: Arc<FolderHandle>,
    pub(super) part: File,
    pub(super) part_name: String,
    pub(super) state: Option<(File, String)>,
    pub(super) size: u64,
    pub(super) hash: ContentHash,
    /// Modification time at the source; `None` if the system can't represent it.
    pub(super) modified: Option<SystemTime>,
    pub(super) executable: bool,
}

impl CompletedFile {
    /// Sets the length, which trailing holes may not have set, and the time and mode of the source.
    pub(in crate::engine::fetch) fn apply_metadata(&self) -> Result<(), Error> {
        let disk = |why| Error::disk(&self.target.path())(why);
        if self.part.metadata().map_err(disk)?.len() != self.size {
            self.part.set_len(self.size).map_err(disk)?;
        }
        // A file system that doesn't keep times or modes is no reason to fail.
        if let Some(modified) = self.modified {
            let _ = self.part.set_modified(modified);
        }
        if self.executable {
            let _ = make_executable(&self.part);
        }
        Ok(())
    }

    /// Returns the open file, to be synced before it gets its name.
    pub(in crate::engine::fetch) const fn file(&self) -> &File {
        &self.part
    }

    /// Returns its folder, to be synced when the file has its name.
    pub(in crate::engine::fetch) const fn folder(&self) -> &Arc<FolderHandle> {
        &self.folder
    }

    /// Returns its path before it has its name, for display.
    pub(super) fn partial_path(&self) -> PathBuf {
        self.target.folder.path_of(&self.part_name)
    }

    /// Returns the path of its folder, for display.
    pub(in crate::engine::fetch) fn folder_path(&self) -> PathBuf {
        self.target.folder.path()
    }

    /// Returns the path of its first candidate name, for display.
    pub(in crate::engine::fetch) fn path(&self) -> PathBuf {
        self.target.path()
    }

    /// Gives the file its final name, or removes it if what has the name must stay.
    pub(in crate::engine::fetch) fn move_into_place(&self) -> Result<FileOutcome, Error> {
        // The state goes first: if the process dies here, a part without a state is found again by a later
        // attempt, but nothing looks for a state without a part.
        if let Some((_, state)) = &self.state {
            // Errors are ignored: the state is a hint, and whatever lies in its place must not block the file.
            let _ = self.folder.remove(state);
        }
        let outcome = self.target.move_into_place(&self.folder, &self.part_name, (self.size, &self.hash))?;
        if matches!(outcome, FileOutcome::Skipped(_)) {
            // A part that stays costs disk space only: the content is there under its name.
            let _ = self.folder.remove(&self.part_name);
        }
        Ok(outcome)
    }
}
