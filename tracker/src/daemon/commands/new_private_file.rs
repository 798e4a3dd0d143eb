//! A new file that only its owner may read, which gets its name when it is complete.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::CommandError;

/// A file that has no name yet. It never replaces another one.
#[derive(Debug)]
pub(super) struct NewPrivateFile {
    path: PathBuf,
    draft: NamedTempFile,
}

impl NewPrivateFile {
    /// Begins a file at `path`, where none may be. A folder that can't be written is noticed here.
    pub(super) fn begin(path: &Path) -> Result<Self, CommandError> {
        // Looked up early to spare the work; `persist_noclobber` decides.
        if path.symlink_metadata().is_ok() {
            return Err(CommandError::Exists(path.to_owned()));
        }
        let draft = tempfile::Builder::new()
            .prefix(".backup-")
            .suffix(".tmp")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(parent_of(path));
        let draft = draft.map_err(|why| CommandError::File { path: path.to_owned(), why })?;
        Ok(Self { path: path.to_owned(), draft })
    }

    /// Appends to it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), CommandError> {
        self.draft.write_all(bytes).map_err(|why| CommandError::File { path: self.path.clone(), why })
    }

    /// Syncs it, and gives it its name.
    pub(super) fn finish(self) -> Result<(), CommandError> {
        let Self { path, draft } = self;
        let failed = |why| CommandError::File { path: path.clone(), why };
        draft.as_file().sync_all().map_err(failed)?;
        draft.persist_noclobber(&path).map_err(|why| match why.error.kind() {
            io::ErrorKind::AlreadyExists => CommandError::Exists(path.clone()),
            _ => failed(why.error),
        })?;
        // The folder is synced as well: without that a crash can lose the new name.
        File::open(parent_of(&path)).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        // A bare name has an empty parent, which can't be opened.
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
